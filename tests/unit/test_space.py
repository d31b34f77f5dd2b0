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
from scraper.config import MIB, PermitConfig, SpaceConfig
from scraper.engines import space
from scraper.engines.space import Room, is_short, room_at, watch_space
from scraper.errors import SinkFailed
from scraper.frontier import Frontier
from scraper.meter import Meter
from scraper.records import Request
from scraper.testing.clock import run_virtual

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


def test_a_real_folder_has_room(tmp_path: Path) -> None:
    """The numbers are the file system's."""
    room = room_at(tmp_path)
    assert 0 < room.free <= room.total == shutil.disk_usage(tmp_path).total


@asynccontextmanager
async def _watching(
    folder: Path, rooms: Iterator[Room], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[asyncio.Task[None], Frontier, Meter]]:
    monkeypatch.setattr(space, "room_at", lambda _: next(rooms))
    async with Backlog(folder / "backlog.sqlite") as backlog:
        frontier = Frontier(PermitConfig(), backlog)
        meter = Meter(paused=frontier.paused)
        task = asyncio.create_task(watch_space(folder, CONFIG, Arena(MIB), frontier))
        yield task, frontier, meter
        task.cancel()
        await asyncio.wait([task])


def _rooms(*free: int) -> Iterator[Room]:
    for each in free:
        yield Room(each * MIB, 10_000 * MIB)
    while True:
        yield Room(free[-1] * MIB, 10_000 * MIB)


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
            frontier._place(Request(0, "http://a/"), [])
            await asyncio.sleep(1.0)
            assert leased == []
            await waiting
            assert leased == [3.0]
            assert meter.paused == {}
            assert not task.done()

    run_virtual(main())


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
            frontier = Frontier(PermitConfig(), backlog)
            task = asyncio.create_task(watch_space(folder, CONFIG, Arena(MIB), frontier))
            await asyncio.sleep(0.5)
            folder.rmdir()
            await asyncio.wait([task])
            with pytest.raises(SinkFailed, match="was removed while the run went on"):
                task.result()
            assert asyncio.get_running_loop().time() == 1.0

    run_virtual(main())
