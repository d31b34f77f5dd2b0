"""Pictures to a 256 px WebDataset: ours against img2dataset."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks import peers
from benchmarks.figures import Finding, judged, ratios, spread, steady, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import Done, Setting, Side, in_turn, is_whole, write_list

GOAL = 1.5
SIDE_PX = 256


def measure(setting: Setting) -> Finding:
    """1280x960 JPEGs, once in a short list and once in a long one."""
    rows = (100, 400) if setting.quick else (500, 2_000)
    # img2dataset's processes work on a shard each: four of them keep both busy.
    shard = rows[1] // 4
    setting.server.offer("photo", rows[1])
    program = peers.img2dataset()
    sides: dict[str, list[Side]] = {"scraper": [], "img2dataset": []}
    for count in rows:
        urls = write_list(setting.folder / f"photos-{count}.txt", _urls(setting, count))
        ours = partial(_ours, setting.folder, urls, shard)
        sides["scraper"].append(Side("scraper", count, ours, pictures_in))
        if program is not None:
            theirs = partial(_theirs, setting.folder, urls, shard, program)
            sides["img2dataset"].append(Side("img2dataset", count, theirs, pictures_in))
    done = in_turn(setting, [side for pair in zip(*filter(None, sides.values()), strict=True) for side in pair])
    return _finding(setting, rows, {name: [done[side] for side in both] for name, both in sides.items() if both})


def _urls(setting: Setting, count: int) -> list[str]:
    return [setting.server.picture("photo", number) for number in range(count)]


def _ours(folder: Path, urls: Path, shard: int, out: Path) -> Run:
    return run(peers.images_command(urls, out, shard), folder=folder)


def _theirs(folder: Path, urls: Path, shard: int, program: Path, out: Path) -> Run:
    command = peers.img2dataset_command(program, urls, out, shard)
    return run(command, folder=folder, environment=peers.IMG2DATASET_ENVIRONMENT)


def pictures_in(out: Path) -> int:
    """Pictures in the finished tars of a folder whose shorter side is as ordered."""
    found = 0
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith(".jpg"):
                    continue
                file = tar.extractfile(member)
                assert file is not None
                with Image.open(io.BytesIO(file.read())) as picture:
                    found += min(picture.size) == SIDE_PX
    return found


def _finding(setting: Setting, rows: tuple[int, int], done: dict[str, list[list[Done]]]) -> Finding:
    def row(what: str, figure: Callable[[str], str]) -> list[str]:
        return [what, *(figure(name) for name in done)]

    whole = {name: [rows[1] / each.run.seconds for each in long] for name, (_, long) in done.items()}
    long = {name: both[1] for name, both in done.items()}
    pairs = {
        name: steady(rows, [(a.run.seconds, b.run.seconds) for a, b in zip(*both, strict=True)])
        for name, both in done.items()
    }
    cpu = {name: [1e3 * each.run.cpu_s / rows[1] for each in all_] for name, all_ in long.items()}
    compared = ratios(whole["scraper"], whole["img2dataset"]) if "img2dataset" in whole else []
    is_valid = all(
        is_whole(runs, count) for count, runs in zip(rows, zip(*done.values(), strict=True), strict=True)
    )
    return Finding(
        f"images: {rows[1]:,} JPEGs of 1280x960 to a 256 px WebDataset",
        ["", *done],
        [
            row("images/s, start-up and end included", lambda name: spread(whole[name])),
            row("images/s, steady", lambda name: spread(pairs[name])),
            row("CPU ms per image", lambda name: spread(cpu[name])),
            row("peak memory of all processes, MB", lambda name: spread([d.run.pss_mb for d in long[name]], 0)),
            row("right pictures, of all", lambda name: _share(long[name], rows[1])),
        ],
        [
            f"ours / img2dataset, images per second: {spread(compared, 2)}",
            f"both: {peers.WORKERS} processes, {peers.CONCURRENCY} fetches at once, keep_ratio, JPEG quality 95, "
            f"sha256, EXIF, {rows[1] // 4} rows a shard; server: {setting.server.name}",
            f"steady: the {rows[1] - rows[0]:,} rows that a run of {rows[1]:,} has more than one of {rows[0]:,}, "
            "over the time it takes more",
        ],
        verdict(
            "images",
            f"{spread(compared, 2)} times img2dataset's images/s",
            f"at least {GOAL}",
            judged(compared, lambda it: it >= GOAL),
            is_valid=is_valid,
        ),
        is_valid,
    )


def _share(done: list[Done], rows: int) -> str:
    return f"{min(each.ok for each in done):,} of {rows:,}"
