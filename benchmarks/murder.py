"""Pictures with workers killed at random, twice a second, and five that crash whoever decodes them.

Every other row must be right all the same, in at most twice the time that the run takes when left alone.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from benchmarks import peers
from benchmarks.figures import Finding, ratios, spread, verdict
from benchmarks.images import pictures_in
from benchmarks.measuring import Run, run
from benchmarks.setting import Done, Setting, Side, in_turn, is_whole, write_list
from pipelines import images
from scraper import Item, Response, Transform
from scraper import run as scrape

ROOT = Path(__file__).resolve().parents[1]
GOAL = 2.0
EVERY_S = 0.5
POISON = 5
SHARD = 500


@dataclass(frozen=True)
class Poisoned:
    """A transform for which some rows are a crash in native code.

    Attributes:
        transform: what is done with the others.
        rows: those rows.
    """

    transform: Transform
    rows: frozenset[int]
    inline: ClassVar[bool] = False
    preload: ClassVar[tuple[str, ...]] = ("scraper.transforms.pixels",)

    def warm_up(self) -> None:
        """As the transform itself."""
        self.transform.warm_up()

    def __call__(self, response: Response) -> Sequence[Item]:
        """As the transform itself, or the end of the process."""
        if response.request.row in self.rows:
            ctypes.string_at(0)
        return self.transform(response)


def program(urls: str, out: str, poison: str) -> None:
    """What is measured; run by ``_command`` in a process of its own."""
    pipeline = images.build(
        image_size=256, resize_mode="keep_ratio", output_format="webdataset", number_sample_per_shard=SHARD
    )
    rows = frozenset(map(int, poison.split(","))) if poison else frozenset()
    poisoned = replace(pipeline, transform=Poisoned(pipeline.transform, rows))
    many = peers.CONCURRENCY
    fetching = {"concurrency": many, "per_host": many, "allow_net": peers.LOOPBACK}
    scrape(poisoned, inputs=urls, out=out, workers=peers.WORKERS, **fetching)


class Murderer(threading.Thread):
    """Kills a random worker of any run of ours, every ``EVERY_S``, until told to stop. Counts them."""

    def __init__(self) -> None:
        super().__init__(name="murderer", daemon=True)
        self.stop = threading.Event()
        self.kills = 0
        self._chance = random.Random(0)

    def run(self) -> None:
        """Until ``stop``."""
        while not self.stop.wait(EVERY_S):
            workers = _workers()
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(workers), signal.SIGKILL)
                    self.kills += 1


def _workers() -> list[int]:
    """Children of the fork servers of children of this process."""
    parents: dict[int, int] = {}
    servers: set[int] = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                stat = (path / "stat").read_text(errors="replace")
                parents[int(path.name)] = int(stat.rpartition(")")[2].split()[1])  # proc(5)
                if b"multiprocessing.forkserver" in (path / "cmdline").read_bytes():
                    servers.add(int(path.name))
    ours = {pid for pid in servers if parents.get(parents.get(pid, 0)) == os.getpid()}
    return sorted(pid for pid, parent in parents.items() if parent in ours)


def measure(setting: Setting) -> Finding:
    """1280x960 JPEGs, a good 5 ms of decoding and resizing each, once in peace and once under murder."""
    rows = 400 if setting.quick else 2_000
    setting.server.offer("photo", rows)
    listed = [setting.server.picture("photo", number) for number in range(rows)]
    urls = write_list(setting.folder / "photos.txt", listed)
    poison = frozenset(range(rows // (2 * POISON), rows, rows // POISON))
    kills: list[int] = []
    peace = Side("in peace", rows, partial(_in_peace, setting.folder, urls), pictures_in)
    murder = Side(
        "murdered", rows - len(poison), partial(_murdered, setting.folder, urls, poison, kills), pictures_in
    )
    done = in_turn(setting, [peace, murder])
    return _finding(setting, rows, done[peace], done[murder], kills)


def _in_peace(folder: Path, urls: Path, out: Path) -> Run:
    return run(_command(urls, out), folder=folder, environment={"PYTHONPATH": str(ROOT)})


def _murdered(folder: Path, urls: Path, poison: frozenset[int], kills: list[int], out: Path) -> Run:
    murderer = Murderer()
    murderer.start()
    try:
        return run(_command(urls, out, poison), folder=folder, environment={"PYTHONPATH": str(ROOT)})
    finally:
        murderer.stop.set()
        murderer.join()
        kills.append(murderer.kills)


def _command(urls: Path, out: Path, poison: frozenset[int] = frozenset()) -> list[str]:
    code = "import sys; from benchmarks import murder; murder.program(*sys.argv[1:])"
    return [sys.executable, "-c", code, str(urls), str(out), ",".join(map(str, sorted(poison)))]


def _finding(
    setting: Setting, rows: int, peace: Sequence[Done], murder: Sequence[Done], kills: Sequence[int]
) -> Finding:
    sides = {"in peace": peace, "murdered": murder}
    compared = ratios([each.run.seconds for each in murder], [each.run.seconds for each in peace])
    is_valid = is_whole([peace], rows) and is_whole([murder], rows - POISON)
    return Finding(
        f"murder: {rows:,} JPEGs of 1280x960, a random worker killed every {EVERY_S:g} s, {POISON} that crash",
        ["", *sides],
        [
            ["seconds", *(spread([each.run.seconds for each in side]) for side in sides.values())],
            ["right pictures", *(spread([each.ok for each in side], 0) for side in sides.values())],
            ["workers killed", "0", spread(kills, 0)],
        ],
        [
            f"murdered / in peace, seconds: {spread(compared, 2)}",
            f"`scraper images` to a 256 px WebDataset, {peers.WORKERS} workers; server: {setting.server.name}",
        ],
        verdict(
            "murder",
            f"{spread(compared, 2)} times the time in peace",
            f"at most {GOAL:g}, each time",
            max(compared) <= GOAL if compared else None,
            is_valid=is_valid,
        ),
        is_valid,
    )
