"""Small files as they come: ours against ``curl --parallel``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Finding, judged, ratios, spread, verdict
from benchmarks.measuring import Run, run
from benchmarks.serving import Server
from benchmarks.setting import Done, Setting, Side, in_turn, is_whole, write_list
from scraper.origin import pictures
from scraper.origin.process import OriginProcess

GOAL = 1.0


LATENCY_S = 0.05
"""What lies between a downloader and most servers; loopback has none."""


def measure(setting: Setting) -> Finding:
    """400x300 JPEGs of 36 KB, a file each."""
    return _measure(setting, "files", "files: {rows:,} files of 36 KB")


def measure_far(setting: Setting) -> Finding:
    """The same from the built-in origin, which answers after 50 ms."""
    with OriginProcess(latency_s=LATENCY_S) as origin:
        origin.warm("thumb")
        far = replace(setting, server=Server(origin.base, "the built-in origin, 50 ms away", None))
        return _measure(far, "far", "far: {rows:,} files of 36 KB, each answered after 50 ms")


def _measure(setting: Setting, name: str, title: str) -> Finding:
    rows = 2_000 if setting.quick else 10_000
    setting.server.offer("thumb", rows)
    urls = [setting.server.picture("thumb", number) for number in range(rows)]
    listed = write_list(setting.folder / "thumbs.txt", urls)
    sizes = _sizes(rows)
    sides = [Side("scraper", rows, partial(_ours, setting.folder, listed), partial(ours_in, sizes))]
    program = peers.curl()
    if program is not None:
        for peer, sync in (("curl -Z", False), ("curl -Z; sync", True)):
            go = partial(_theirs, setting.folder, urls, program, sync)
            sides.append(Side(peer, rows, go, partial(curls_in, sizes)))
    return _finding(setting, name, title.format(rows=rows), in_turn(setting, sides))


def _sizes(rows: int) -> list[int]:
    """Bytes of each picture. A number in its comment, as long for each, changes none of them."""
    album = pictures.Album(pictures.cache_folder())
    scenes = [
        len(album.develop(pictures.key_of("thumb", n, "jpg"))) for n in range(pictures.SIZES["thumb"].scenes)
    ]
    return [scenes[row % len(scenes)] for row in range(rows)]


def _ours(folder: Path, listed: Path, out: Path) -> Run:
    return run(peers.files_command(listed, out), folder=folder)


def _theirs(folder: Path, urls: Sequence[str], program: str, sync: bool, out: Path) -> Run:
    out.mkdir()
    config = folder / "curl.conf"
    config.write_text(peers.curl_config(urls, out))
    done = run(peers.curl_command(program, config), folder=folder)
    if not sync:
        return done
    since = time.monotonic()
    os.sync()
    return replace(done, seconds=done.seconds + time.monotonic() - since)


def ours_in(sizes: Sequence[int], out: Path) -> int:
    """Files of the right size in our output folder."""
    return sum(_size(out / f"{row // 10_000:05d}" / f"{row:09d}.jpg") == size for row, size in enumerate(sizes))


def curls_in(sizes: Sequence[int], out: Path) -> int:
    """Files of the right size in curl's."""
    return sum(_size(out / str(row)) == size for row, size in enumerate(sizes))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _finding(setting: Setting, benchmark: str, title: str, done: dict[Side, list[Done]]) -> Finding:
    rows = next(iter(done)).rows
    named = {side.name: all_ for side, all_ in done.items()}
    rate = {name: [rows / each.run.seconds for each in all_] for name, all_ in named.items()}
    compared = ratios(rate["scraper"], rate["curl -Z"]) if "curl -Z" in rate else []
    durable = ratios(rate["scraper"], rate["curl -Z; sync"]) if compared else []

    def row(what: str, values: dict[str, str]) -> list[str]:
        return [what, *values.values()]

    is_valid = is_whole(named.values(), rows)
    return Finding(
        title,
        ["", *named],
        [
            row("files/s", {name: spread(values, 0) for name, values in rate.items()}),
            row(
                "CPU ms per file",
                {name: spread([1e3 * each.run.cpu_s / rows for each in all_], 2) for name, all_ in named.items()},
            ),
            row(
                "peak memory of all processes, MB",
                {name: spread([each.run.pss_mb for each in all_], 0) for name, all_ in named.items()},
            ),
            row(
                "right files, of all",
                {name: f"{min(each.ok for each in all_):,} of {rows:,}" for name, all_ in named.items()},
            ),
        ],
        [
            f"ours / curl -Z, files per second: {spread(compared, 2)}; over curl and sync: {spread(durable, 2)}",
            f"{peers.CONCURRENCY} fetches at once; server: {setting.server.name}",
            "ours syncs every file and its folder before it counts it as done, and hashes it; curl does neither, "
            "hence the column in which the system's sync is part of curl's time",
        ],
        verdict(
            benchmark,
            f"{spread(compared, 2)} times curl -Z's files/s",
            f"at least {GOAL}",
            judged(compared, lambda it: it >= GOAL),
            is_valid=is_valid,
        ),
        is_valid,
    )
