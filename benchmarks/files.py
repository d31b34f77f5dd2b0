"""Small files as they come: ours, as files and as tar shards, against everybody who downloads lists."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import downloaders, peers
from benchmarks.downloaders import Downloader, Missing
from benchmarks.figures import Bars, Finding, judged, spread, verdict
from benchmarks.serving import Server, developed
from benchmarks.setting import (
    Done,
    Setting,
    Side,
    compared,
    cpu_ms,
    in_turn,
    is_whole,
    least,
    peak_mb,
    rate,
    write_list,
)
from scraper.origin import pictures
from scraper.origin.process import OriginProcess

OURS, TAR = "scraper", "scraper, tar"

LATENCY_S = 0.05
"""What lies between a downloader and most servers; loopback has none."""


@dataclass(frozen=True, slots=True)
class Race:
    """A piece of work for several programs.

    Attributes:
        name: the benchmark's.
        title: of its table.
        theirs: those beside ours.
        goals: one of ours, another's name, and how many times as fast ours is to be.
    """

    name: str
    title: str
    theirs: Callable[[Path, Path], Sequence[Downloader | Missing]]
    goals: Sequence[tuple[str, str, float]]


NEAR = Race(
    "files",
    "files: {rows:,} files of 36 KB",
    downloaders.theirs,
    [(OURS, "curl -Z", 1.5), (OURS, "wget2", 1.5), (TAR, "curl -Z", 2.5), (TAR, "wget2", 2.5)],
)
FAR = Race(
    "far",
    "far: {rows:,} files of 36 KB, each answered after 50 ms",
    downloaders.curls,
    [(OURS, "curl -Z", 1.0)],
)


def measure(setting: Setting) -> Finding:
    """400x300 JPEGs of 36 KB, by everybody."""
    return _measure(setting, NEAR)


def measure_far(setting: Setting) -> Finding:
    """The same from the built-in origin, which answers after 50 ms, beside curl alone."""
    with OriginProcess(latency_s=LATENCY_S) as origin:
        origin.warm("thumb")
        far = replace(setting, server=Server(origin.base, "the built-in origin, 50 ms away", None))
        return _measure(far, FAR)


def _measure(setting: Setting, race: Race) -> Finding:
    rows = 1_000 if setting.quick else 10_000
    setting.server.offer("thumb", rows)
    urls = (setting.server.picture("thumb", number) for number in range(rows))
    listed = write_list(setting.folder / "thumbs.txt", urls)
    sizes = sizes_of(rows)
    everybody = [*downloaders.ours(listed, setting.folder), *race.theirs(listed, setting.folder)]
    sides = []
    for each in everybody:
        if isinstance(each, Downloader):
            count = partial(samples_in, sizes) if each.name == TAR else partial(files_in, sizes, each.place)
            sides.append(Side(each.name, rows, each.go, count))
    done = {side.name: runs for side, runs in in_turn(setting, sides).items()}
    return _finding(setting, race, everybody, rows, done)


def sizes_of(rows: int) -> list[int]:
    """Bytes of each picture. The number in its comment, as long for each, changes none of them."""
    scenes = [len(developed("thumb", number)) for number in range(min(rows, pictures.SIZES["thumb"].scenes))]
    return [scenes[row % len(scenes)] for row in range(rows)]


def files_in(sizes: Sequence[int], place: Callable[[int], str], out: Path) -> int:
    """Files of the right size in an output folder, where the rows' files are at ``place(row)``."""
    return sum(_size(out / place(row)) == size for row, size in enumerate(sizes))


def samples_in(sizes: Sequence[int], out: Path) -> int:
    """Members of the right size in the finished tars of our output folder."""
    found = 0
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                found += extension == "jpg" and member.size == sizes[int(key)]
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _finding(
    setting: Setting,
    race: Race,
    everybody: Sequence[Downloader | Missing],
    rows: int,
    done: Mapping[str, Sequence[Done]],
) -> Finding:
    title = race.title.format(rows=rows)
    is_valid = is_whole([done[OURS], done[TAR]], rows)

    def ratio(one: str, other: str) -> list[float]:
        return compared(done[one], done.get(other, ()), rows, rate)

    def judge(one: str, other: str, goal: float) -> str:
        found = ratio(one, other)
        met = judged(found, lambda it: it >= goal)
        words = f"{one}: {spread(found, 2)} times {other}'s files/s"
        return verdict(race.name, words, f"at least {goal}", met, is_valid=is_valid)

    def line(each: Downloader | Missing) -> list[str]:
        if isinstance(each, Missing):
            return [each.name, each.why, *["-"] * 6]
        runs = done[each.name]
        rivals = (
            ["-", "-"] if each.name in (OURS, TAR) else [spread(ratio(us, each.name), 2) for us in (OURS, TAR)]
        )
        return [
            each.name,
            each.version,
            spread([rate(run) for run in runs], 0),
            *rivals,
            spread([cpu_ms(run) for run in runs], 2),
            spread([peak_mb(run) for run in runs], 0),
            least(runs, rows),
        ]

    whole = {name: [rate(run) for run in runs] for name, runs in done.items() if is_whole([runs], rows)}
    return Finding(
        title,
        [
            "",
            "version",
            "files/s",
            "ours / it",
            "our tar / it",
            "CPU ms per file",
            "peak memory, MB",
            "right files",
        ],
        [line(each) for each in everybody],
        [
            f"{peers.CONCURRENCY} fetches at once (aiohttp gather: its own bound of 100); server: "
            f"{setting.server.name}",
            "files/s: right files over the whole command, from start to exit; ratios are of pairs of runs",
            "ours syncs every file and its folder before it counts it as done, and hashes it; nobody else does "
            "either, hence the line in which the system's sync is part of curl's time",
        ],
        "\n".join(judge(*goal) for goal in race.goals),
        is_valid,
        plots=[Bars(race.name, title, "files a second", list(whole), {"": list(whole.values())})],
    )
