"""The output's disk, watched."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scraper.arena import Arena
from scraper.backlog import Backlog
from scraper.config import MIB, PermitConfig, PolitenessConfig, SpaceConfig
from scraper.engines import space
from scraper.engines.space import Flow, Room, in_flight, is_short, mean_size, room_at, watch_space
from scraper.errors import SinkFailed
from scraper.frontier import Frontier
from scraper.meter import Meter
from scraper.records import Request
from scraper.testing.clock import run_virtual
from scraper.testing.engine import at_once

CONFIG = SpaceConfig(min_free=64 * MIB, wait_s=10.0, every_s=1.0)


@pytest.mark.parametrize(
    ("room", "min_free", "in_flight", "short"),
    [
        (Room(100 * MIB, 10_000 * MIB), 64 * MIB, 0, False),
        (Room(63 * MIB, 10_000 * MIB), 64 * MIB, 0, True),
        (Room(100 * MIB, 10_000 * MIB), 64 * MIB, 50 * MIB, True),
        (Room(63 * MIB, 10_000 * MIB), None, 0, True),
        (Room(65 * MIB, 10_000 * MIB), None, 0, False),
        (Room(2 * MIB, 2 * MIB), None, 0, False),
        (Room(MIB // 20, 2 * MIB), None, 0, True),
        (Room(5_000 * MIB, 10_000 * MIB), 6_000 * MIB, 0, True),
        (Room(0, 10_000 * MIB), 0, 50 * MIB, False),
    ],
)
def test_what_counts_as_short(room: Room, min_free: int | None, in_flight: int, short: bool) -> None:
    """What was said, or 64 MiB, or a twentieth of a small disk, beside what is in flight; 0 is never short."""
    assert is_short(room, min_free, in_flight) is short


START = Flow(held=0, out=0, ended=0, written=0, to_come=None)


@pytest.mark.parametrize(
    ("last", "now", "coming"),
    [
        (START, START, 0),
        (START, Flow(0, 8, 0, 0, None), 80),
        (Flow(5, 8, 0, 0, None), Flow(5, 8, 0, 0, None), 85),
        (START, Flow(5, 8, 0, 0, None), 5 + 80 + 10),
        (Flow(5, 8, 4, 40, None), Flow(5, 8, 6, 60, None), 5 + 80 + 40),
        (Flow(100, 8, 4, 40, None), Flow(50, 8, 9, 90, None), 50 + 80),  # what was written had come in before
        (Flow(100, 8, 4, 40, None), Flow(50, 8, 5, 50, None), 50 + 80),  # less held by half: pictures made small
        (START, Flow(5, 8, 0, 0, 100), 5 + 80 + 10),
        (START, Flow(5, 8, 0, 0, 3), 30),
        (START, Flow(50, 8, 0, 0, 3), 50),
        (START, Flow(0, 0, 0, 0, 0), 0),
    ],
)
def test_what_is_in_flight(last: Flow, now: Flow, coming: int) -> None:
    """What is held, 10 for each fetch, twice what came in since the last look; at most the rest of the list."""
    assert in_flight(10.0, last, now) == coming


def test_the_mean_is_of_the_latest_rows() -> None:
    """Of all of them at first, then of some hundred: it soon follows a list that goes on with larger ones."""
    mean, flow = 1e9, START
    for rows, size in ((0, 0), (10, 10), (10, 20), (80, 15), (1000, 15)):
        now = Flow(0, 0, flow.ended + rows, flow.written + rows * size, None)
        mean, flow = mean_size(mean, flow, now), now
        if 0 < flow.ended <= 100:
            assert mean == pytest.approx(flow.written / flow.ended)
    assert mean == 15
    for _ in range(10):
        now = Flow(0, 0, flow.ended + 50, flow.written + 50 * 4000, None)
        mean, flow = mean_size(mean, flow, now), now
    assert 3990 < mean < 4000


def test_a_real_folder_has_room(tmp_path: Path) -> None:
    """The numbers are the file system's."""
    room = room_at(tmp_path)
    assert 0 < room.free <= room.total == shutil.disk_usage(tmp_path).total


def _rooms(*free: int) -> Iterator[Room]:
    for each in free:
        yield Room(each * MIB, 10_000 * MIB)
    while True:
        yield Room(free[-1] * MIB, 10_000 * MIB)


@asynccontextmanager
async def _watching(
    folder: Path, rooms: Iterator[Room], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[asyncio.Task[None], Frontier, Meter]]:
    monkeypatch.setattr(space, "room_at", lambda _: next(rooms))
    async with Backlog(folder / "backlog.sqlite") as backlog:
        frontier = Frontier(PermitConfig(), PolitenessConfig(), backlog)
        meter = Meter(paused=frontier.paused)
        task = asyncio.create_task(watch_space(folder, CONFIG, Arena(MIB), frontier, meter))
        yield task, frontier, meter
        task.cancel()
        await asyncio.wait([task])


def test_the_run_pauses_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While space is short nothing is handed out; when it is back, what waited is."""

    async def main() -> None:
        rooms = _rooms(500, 10, 10, 500)
        async with _watching(tmp_path, rooms, monkeypatch) as (task, frontier, meter):
            await asyncio.sleep(1.5)
            assert meter.paused == {"space": "disk nearly full"}
            leased: list[float] = []

            async def lease() -> None:
                async with frontier.lease() as request:
                    assert request is not None
                    leased.append(asyncio.get_running_loop().time())

            waiting = asyncio.create_task(lease())
            frontier._windows.place(Request(0, "http://a/"), 0.0)
            await asyncio.sleep(1.0)
            assert leased == []
            await waiting
            assert leased == [3.0]
            assert meter.paused == {}
            assert not task.done()

    run_virtual(main())


def test_a_little_room_is_not_enough_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenth more than it takes has to be free; until then it is one pause, said once."""

    async def main() -> list[float]:
        rooms = _rooms(500, 63, 65, 60, 70, 64, 71, 69, 500)  # 64 is the reserve
        async with _watching(tmp_path, rooms, monkeypatch) as (_, _, meter):
            paused = []
            await asyncio.sleep(0.5)
            for second in range(9):
                if meter.paused:
                    paused.append(second)
                await asyncio.sleep(1.0)
            return paused

    assert run_virtual(main()) == [1, 2, 3, 4, 5]
    assert len(caplog.records) == 2


def test_what_is_left_of_the_list_may_go_on_once_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five small rows do not wait for the room that hundreds at once would take."""

    async def main() -> None:
        async with _watching(tmp_path, _rooms(500, 10, 80), monkeypatch) as (_, _, meter):
            await asyncio.sleep(0.5)
            meter.by_class["ok"], meter.written_bytes = 100, 100 * MIB  # in one second: 200 more may follow
            await asyncio.sleep(2.0)
            assert meter.paused
            meter.rows_total = 105
            await asyncio.sleep(1.0)
            assert not meter.paused

    run_virtual(main())


class _Disk:
    """A run on a disk of 1,500 MB, in virtual time: fetches, and a writer that writes what they bring."""

    def __init__(self, folder: Path, free: int, size: int, *, per_host: int, takes_s: float) -> None:
        self.folder = folder
        self.free = self.least = free
        self.size = size
        self.permits = PermitConfig()
        self.politeness = at_once(per_host)
        self.takes_s = takes_s
        self.arena = Arena(256 * MIB)
        self.meter = Meter()
        self.paused = 0

    def room_at(self, _: Path) -> Room:
        """What is free at the moment."""
        self.paused += bool(self.meter.paused)
        return Room(self.free, 1500 * MIB)

    async def run(self, rows: int) -> None:
        """To the end of a list of so many rows, each found where it should be."""
        async with Backlog(self.folder / "backlog.sqlite") as backlog:
            frontier = Frontier(self.permits, self.politeness, backlog)
            self.meter.paused = frontier.paused
            watching = asyncio.create_task(
                watch_space(self.folder, SpaceConfig(), self.arena, frontier, self.meter)
            )
            async with asyncio.TaskGroup() as group:
                for _ in range(self.permits.concurrency):
                    group.create_task(self.fetch(frontier))
                await frontier.admit([Request(n, "http://a/") for n in range(rows)])
                self.meter.rows_total = rows
                frontier.close()
            assert not watching.done()
            watching.cancel()

    async def fetch(self, frontier: Frontier) -> None:
        """One after the other; half of the time is for the body."""
        while True:
            async with frontier.lease() as request:
                if request is None:
                    return
                await asyncio.sleep(self.takes_s / 2)
                slot = await self.arena.reserve(min(self.size, MIB))
                await asyncio.sleep(self.takes_s / 2)
                await slot.grow(self.size)
            await asyncio.sleep(self.takes_s)
            slot.release()
            self.free -= self.size
            self.least = min(self.free, self.least)
            self.meter.by_class["ok"] += 1
            self.meter.written_bytes += self.size


@pytest.mark.parametrize(
    ("size", "per_host", "takes_s", "free"),
    [
        (500_000, 8, 0.01, 1000 * MIB),  # 400 MB/s
        (500_000, 8, 0.005, 1000 * MIB),  # 800 MB/s
        (500_000, 8, 0.01, 250 * MIB),  # it would be full in less than a second
        (4_000_000, 8, 0.08, 1000 * MIB),
        (4_000_000, 64, 0.5, 1000 * MIB),
        (4_000_000, 64, 2.0, 1000 * MIB),
        (80_000, 64, 0.05, 110 * MIB),
    ],
)
def test_a_fast_run_pauses_before_the_disk_is_full_and_ends_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, per_host: int, takes_s: float, free: int
) -> None:
    """However much is under way when the disk is nearly full, it fits; nothing is lost by the pause."""
    rows = free // size * 5 // 4
    disk = _Disk(tmp_path, free, size, per_host=per_host, takes_s=takes_s)
    monkeypatch.setattr(space, "room_at", disk.room_at)

    async def main() -> None:
        running = asyncio.create_task(disk.run(rows))
        await asyncio.sleep(100.0)
        assert disk.meter.paused
        assert not running.done()
        assert disk.least > 32 * MIB
        disk.free += 2000 * MIB
        await running

    run_virtual(main())
    assert disk.meter.by_class == {"ok": rows}


def test_a_fast_run_with_plenty_of_room_is_never_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 GB free, 4 GB to be written at 1 GB a second, 64 at once."""
    disk = _Disk(tmp_path, 5_000_000_000, 4_000_000, per_host=64, takes_s=0.25)
    monkeypatch.setattr(space, "room_at", disk.room_at)
    run_virtual(disk.run(1000))
    assert disk.paused == 0
    assert disk.meter.rows_done == 1000


def test_a_list_that_fits_on_a_small_disk_is_never_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """90 MB on a disk of 100 where 64 are left free but for its size: what is left of the list is known."""
    disk = _Disk(tmp_path, 100 * MIB, 500_000, per_host=8, takes_s=0.01)
    monkeypatch.setattr(space, "room_at", lambda _: Room(disk.room_at(tmp_path).free, 100 * MIB))
    run_virtual(disk.run(180))
    assert disk.paused == 0
    assert disk.meter.rows_done == 180


def test_space_that_does_not_come_back_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause has an end: one sentence that says how much is left and what to do."""

    async def main() -> float:
        async with _watching(tmp_path, _rooms(10), monkeypatch) as (task, _, _):
            await asyncio.wait([task])
            with pytest.raises(SinkFailed, match=r"Only 10\.5 MB are left .* --min-free"):
                task.result()
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 10.0


def test_a_folder_that_is_removed_is_noticed_at_once(tmp_path: Path) -> None:
    """Not at the end of the run, when hours of work have gone nowhere."""

    async def main() -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        async with Backlog(tmp_path / "backlog.sqlite") as backlog:
            frontier = Frontier(PermitConfig(), PolitenessConfig(), backlog)
            task = asyncio.create_task(watch_space(folder, CONFIG, Arena(MIB), frontier, Meter()))
            await asyncio.sleep(0.5)
            folder.rmdir()
            await asyncio.wait([task])
            with pytest.raises(SinkFailed, match="was removed while the run went on"):
                task.result()
            assert asyncio.get_running_loop().time() == 1.0

    run_virtual(main())
