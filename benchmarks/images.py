"""Pictures to a 256 px WebDataset: ours against img2dataset, for three sizes and a mix as the web has it."""

from __future__ import annotations

import contextlib
import io
import statistics
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks import mix, peers
from benchmarks.figures import Bars, Finding, judged, spread, steady, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import (
    LIMIT_S,
    Done,
    Setting,
    Side,
    compared,
    cpu_ms,
    growth,
    in_turn,
    is_whole,
    least,
    peak_mb,
    rate,
    write_list,
)

SIDE_PX = 256
OURS, THEIRS = "scraper", "img2dataset"
GOAL_STARTED = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """Pictures of one kind.

    Attributes:
        name: what the tables call them.
        size: the origin's name for them; empty for the mix.
        rows: of the list, and with ``--quick``.
        goal: how many times img2dataset's steady rate ours is to be; 0 for no goal.
    """

    name: str
    size: str
    rows: tuple[int, int]
    goal: float


WORKS = (
    Work("400x300", "thumb", (4_000, 400), 1.5),
    Work("1280x960", "photo", (2_000, 200), 3.0),
    Work("4000x3000", "large", (300, 32), 4.0),
    Work("web-like mix", "", (4_000, 200), 0.0),
)

Runs = Mapping[str, Sequence[Done]]


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one work, with hash and EXIF or without: the runs of each program by its name."""

    work: Work
    extras: bool
    rows: int
    runs: Runs

    def ratio(self, figure: Callable[[Done], float | None]) -> list[float]:
        """Ours over theirs, pair by pair."""
        return compared(self.runs[OURS], self.runs.get(THEIRS, ()), self.rows, figure)


def measure(setting: Setting) -> Finding:
    """Each work with hash and EXIF and without, by both in turn."""
    program = peers.img2dataset()
    found = []
    for work in WORKS:
        rows = work.rows[setting.quick]
        urls = urls_of(setting, work, rows)
        if urls is not None:
            found += _pair(setting.below(work.size or "mix"), work, urls, program)
    return _finding(setting, found, "" if program else "img2dataset could not be installed: ours alone")


def _pair(setting: Setting, work: Work, urls: Sequence[str], program: Path | None) -> list[Found]:
    """One work, with hash and EXIF and without."""
    rows = len(urls)
    listed = write_list(setting.folder / "urls.txt", urls)
    sides: dict[tuple[bool, str], Side] = {}
    for extras in (True, False):
        sides[extras, OURS] = Side(OURS, rows, partial(_ours, setting.folder, listed, rows, extras), pictures_in)
        if program is not None:
            go = partial(_theirs, setting.folder, listed, rows, extras, program)
            sides[extras, THEIRS] = Side(THEIRS, rows, go, pictures_in)
    done = in_turn(setting, list(sides.values()))
    return [
        Found(work, extras, rows, {name: done[side] for (said, name), side in sides.items() if said == extras})
        for extras in (True, False)
    ]


def urls_of(setting: Setting, work: Work, rows: int) -> Sequence[str] | None:
    """Where the pictures are; None for the mix where nginx is missing."""
    if not work.size:
        return setting.server.lay_out(mix.files(), rows)
    setting.server.offer(work.size, rows)
    return [setting.server.picture(work.size, number) for number in range(rows)]


def shard_of(rows: int) -> int:
    """Rows of a shard: one for each of img2dataset's processes, so that neither waits for the other's next."""
    return -(-rows // peers.WORKERS)


def _ours(folder: Path, urls: Path, rows: int, extras: bool, out: Path) -> Run:
    command = peers.images_command(urls, out, shard_of(rows), extras=extras)
    return run(command, folder=folder, stop_after_s=LIMIT_S, watch=growth(out, "*.tar*"))


def _theirs(folder: Path, urls: Path, rows: int, extras: bool, program: Path, out: Path) -> Run:
    command = peers.img2dataset_command(program, urls, out, shard_of(rows), extras=extras)
    told = peers.IMG2DATASET_ENVIRONMENT
    return run(command, folder=folder, environment=told, stop_after_s=LIMIT_S, watch=growth(out, "*.tar*"))


def pictures_in(out: Path) -> int:
    """Pictures in the finished tars of a folder whose shorter side is as ordered; a torn tar ends its count."""
    found = 0
    for path in sorted(out.glob("*.tar")):
        with contextlib.suppress(tarfile.ReadError), tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith(".jpg"):
                    continue
                file = tar.extractfile(member)
                assert file is not None
                with Image.open(io.BytesIO(file.read())) as picture:
                    found += min(picture.size) == SIDE_PX
    return found


def steady_rate(done: Done) -> float | None:
    """Pictures a second while the tars grew from a quarter to nine tenths."""
    return steady(done.run.watched, done.ok)


def _known(runs: Sequence[Done]) -> list[float]:
    return [value for value in map(steady_rate, runs) if value is not None]


def _finding(setting: Setting, found: Sequence[Found], lacking: str) -> Finding:
    lines = []
    for each in found:
        extras = "on" if each.extras else "off"
        for name, runs in each.runs.items():
            lines.append(
                [
                    f"{each.work.name}, {each.rows:,}",
                    extras,
                    name,
                    spread(_known(runs)),
                    spread([rate(one) for one in runs]),
                    spread([cpu_ms(one) for one in runs]),
                    spread([peak_mb(one) for one in runs], 0),
                    least(runs, each.rows),
                ]
            )
        ratios = [spread(each.ratio(figure), 2) for figure in (steady_rate, rate, cpu_ms, peak_mb)]
        lines.append(["", "", "ours / theirs", *ratios, ""])
    is_valid = all(is_whole([each.runs[OURS]], each.rows) for each in found)
    notes = [
        f"both: {peers.WORKERS} processes, {peers.CONCURRENCY} fetches at once, keep_ratio, JPEG quality 95, a "
        f"shard for each process; server: {setting.server.name}; img2dataset {peers.IMG2DATASET}",
        "steady: pictures a second while the tars in the output folder grew from 25 to 90 % of their end; with "
        "start-up: right pictures over the whole command; ratios are of pairs of runs",
        "hash and EXIF off: img2dataset takes neither; ours takes no EXIF, and sha256 in any case",
    ]
    if len({each.work for each in found}) < len(WORKS):
        notes.append("no web-like mix: it needs nginx, which is not installed (apt-get install nginx-light)")
    return Finding(
        "images: JPEGs of three sizes, and a web-like mix, to a 256 px WebDataset",
        [
            *["pictures", "hash, EXIF", "", "images/s, steady", "images/s, with start-up"],
            *["CPU ms per image", "peak memory, MB", "right pictures"],
        ],
        lines,
        [*notes, *filter(None, [lacking])],
        _verdicts([each for each in found if each.extras], is_valid=is_valid),
        is_valid,
        plots=[
            _bars("images-steady", "images, steady", found, _known),
            _bars("images-start", "images, with start-up", found, lambda runs: [rate(one) for one in runs]),
        ],
    )


def _verdicts(found: Sequence[Found], *, is_valid: bool) -> str:
    """A line for each goal; with hash and EXIF, as people use it."""
    lines = []
    for each in found:
        if each.work.goal:
            ratios, goal = each.ratio(steady_rate), each.work.goal
            words = f"{each.work.name}: {spread(ratios, 2)} times img2dataset's steady images/s"
            met = judged(ratios, partial(_at_least, goal))
            lines.append(verdict("images", words, f"at least {goal}", met, is_valid=is_valid))
    for words, figure, aim, test in (
        ("with start-up: {} times img2dataset's images/s", rate, f"at least {GOAL_STARTED}", _at_least_started),
        ("peak memory: {} of img2dataset's", peak_mb, "below 1", _less),
    ):
        ratios_of = [each.ratio(figure) for each in found]
        shown = ", ".join(spread(ratios, 2) for ratios in ratios_of)
        met = all(test(statistics.median(ratios)) for ratios in ratios_of) if all(ratios_of) else None
        lines.append(verdict("images", words.format(shown), aim, met, is_valid=is_valid))
    return "\n".join(lines)


def _at_least(goal: float, ratio: float) -> bool:
    return ratio >= goal


def _at_least_started(ratio: float) -> bool:
    return ratio >= GOAL_STARTED


def _less(ratio: float) -> bool:
    return ratio < 1


def _bars(
    name: str, title: str, found: Sequence[Found], figure: Callable[[Sequence[Done]], Sequence[float]]
) -> Bars:
    shown = [each for each in found if each.extras]
    series = {program: [figure(each.runs.get(program, ())) for each in shown] for program in (OURS, THEIRS)}
    return Bars(name, title, "images a second", [each.work.name for each in shown], series)
