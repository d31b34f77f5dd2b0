"""The frontier, paused: nothing goes out, nothing is read, and it goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from scraper.backlog import Backlog
from scraper.config import HostLimits, PermitConfig, PolitenessConfig
from scraper.frontier import Frontier
from scraper.records import Request
from scraper.testing.clock import run_virtual


@contextlib.asynccontextmanager
async def _open(folder: Path) -> AsyncIterator[Frontier]:
    async with Backlog(folder / "backlog.sqlite") as backlog:
        yield Frontier(PermitConfig(4), PolitenessConfig(HostLimits(per_host=4), adaptive=False), backlog)


def _rows(count: int) -> list[Request]:
    return [Request(n, f"http://a/{n}") for n in range(count)]


async def _work(frontier: Frontier, begun: list[float]) -> None:
    while True:
        async with frontier.lease() as request:
            if request is None:
                return
            begun.append(asyncio.get_running_loop().time())
            await asyncio.sleep(1.0)


def test_a_pause_holds_everything_and_its_end_lets_it_go(tmp_path: Path) -> None:
    """What is out may end; nothing else goes out before the last reason is gone."""

    async def main() -> None:
        begun: list[float] = []
        async with _open(tmp_path) as frontier, asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(_work(frontier, begun))
            await frontier.admit(_rows(12))
            await asyncio.sleep(0.5)
            frontier.pause("network")
            frontier.pause("space")
            await asyncio.sleep(100.0)
            assert begun == [0.0] * 4
            frontier.resume("network")
            await asyncio.sleep(100.0)
            assert begun == [0.0] * 4
            frontier.resume("space")
            frontier.close()
        assert begun == [0.0] * 4 + [200.5] * 4 + [201.5] * 4

    run_virtual(main())


def test_a_pause_stops_the_reading_of_the_list(tmp_path: Path) -> None:
    """A full disk is not filled by rows that wait."""

    async def main() -> None:
        async with _open(tmp_path) as frontier:
            frontier.pause("space")
            admitting = asyncio.create_task(frontier.admit(_rows(5)))
            await asyncio.sleep(10.0)
            assert not admitting.done()
            assert frontier.statistics().queued == 0
            frontier.resume("space")
            assert await admitting is True
            assert frontier.statistics().queued == 5

    run_virtual(main())


def test_one_can_be_let_through_to_look(tmp_path: Path) -> None:
    """One for each call, and none while there is another reason to pause."""

    async def main() -> None:
        begun: list[float] = []
        async with _open(tmp_path) as frontier, asyncio.TaskGroup() as group:
            await frontier.admit(_rows(4))
            frontier.pause("network")
            for _ in range(4):
                group.create_task(_work(frontier, begun))
            await asyncio.sleep(5.0)
            frontier.let_one_through()
            await asyncio.sleep(5.0)
            assert begun == [5.0]
            frontier.pause("space")
            frontier.let_one_through()
            await asyncio.sleep(5.0)
            assert begun == [5.0]
            frontier.resume("space")
            frontier.let_one_through()
            await asyncio.sleep(5.0)
            assert begun == [5.0, 15.0]
            frontier.stop()

    run_virtual(main())


def test_a_stop_ends_a_pause(tmp_path: Path) -> None:
    """Whoever waits for a lease, or to let rows in, is sent home."""

    async def main() -> None:
        begun: list[float] = []
        async with _open(tmp_path) as frontier, asyncio.TaskGroup() as group:
            frontier.pause("network")
            group.create_task(_work(frontier, begun))
            admitting = group.create_task(frontier.admit(_rows(5)))
            await asyncio.sleep(1.0)
            frontier.stop()
            assert await admitting is False
        assert begun == []

    run_virtual(main())


def test_times_that_come_during_a_pause_do_not_spin_the_loop(tmp_path: Path) -> None:
    """A request whose time has come waits for the end of the pause without waking anybody."""

    async def main() -> None:
        begun: list[float] = []
        loop = asyncio.get_running_loop()
        async with _open(tmp_path) as frontier, asyncio.TaskGroup() as group:
            await frontier.admit(_rows(1))
            async with frontier.lease() as request:
                assert request is not None
                frontier.readmit(request.again(), not_before=loop.time() + 3.0)
            group.create_task(_work(frontier, begun))
            await asyncio.sleep(1.0)
            frontier.pause("network")
            await asyncio.sleep(1_000.0)  # a timer that is set again and again would make this never end
            assert begun == []
            frontier.resume("network")
            frontier.close()
        assert begun == [1_001.0]

    run_virtual(main())
