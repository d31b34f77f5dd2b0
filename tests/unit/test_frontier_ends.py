"""How the frontier ends: stopped, cancelled, failed, misused; never with a request or a permit lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scraper.backlog import Backlog
from scraper.config import HostLimits, PermitConfig, PolitenessConfig
from scraper.errors import InternalFault, SinkFailed
from scraper.frontier import Frontier
from scraper.records import Request
from scraper.testing.clock import run_virtual
from scraper.windows import Bounds


def row(n: int, host: str = "a") -> Request:
    """A row of the list, for a host."""
    return Request(n, f"http://{host}/{n}")


def fixed(per_host: int) -> PolitenessConfig:
    """So many requests at once at any host from the beginning."""
    return PolitenessConfig(HostLimits(per_host=per_host), adaptive=False)


@contextlib.asynccontextmanager
async def open_frontier(
    folder: Path, *, concurrency: int = 4, per_host: int = 2, **bounds: int
) -> AsyncIterator[Frontier]:
    """A frontier with its backlog."""
    async with Backlog(folder / "backlog.sqlite") as backlog:
        yield Frontier(PermitConfig(concurrency), fixed(per_host), backlog, Bounds(**bounds))


async def turn() -> None:
    """Let the others run."""
    for _ in range(5):
        await asyncio.sleep(0)


class Worker:
    """Takes lease after lease until there is none, and remembers the rows."""

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        self.order: list[int] = []

    async def work(self) -> None:
        """All there is."""
        while True:
            async with self.frontier.lease() as request:
                if request is None:
                    return
                self.order.append(request.row)


def test_stop_sends_everybody_home(tmp_path: Path) -> None:
    """After a stop idle workers get None, the feeder returns, and what is out may be given back or readmitted."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=2, per_host=1) as frontier:
            feeder = asyncio.create_task(frontier.admit([row(n) for n in range(100)]))
            async with frontier.lease() as request:
                assert request is not None
                idle = asyncio.create_task(Worker(frontier).work())
                await turn()
                assert frontier.statistics().idle == 1
                frontier.stop()
                await idle
                frontier.readmit(request.again())
            assert frontier.statistics().out == 0
            assert await feeder in (True, False)
            assert await frontier.admit([row(100)]) is False
            frontier.close()
            async with frontier.lease() as request:
                assert request is None

    run_virtual(main())


def test_stop_ends_a_feeder_that_waits(tmp_path: Path) -> None:
    """A feeder that waits because nobody is hungry learns of the stop."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=1, per_host=1) as frontier:
            feeder = asyncio.create_task(frontier.admit([row(n, f"h{n}") for n in range(100)]))
            await turn()
            assert not feeder.done()
            frontier.stop()
            assert await feeder is False

    run_virtual(main())


def test_a_cancelled_worker_gives_on_what_it_was_handed(tmp_path: Path) -> None:
    """A worker cancelled in the turn in which it was handed a request loses neither the request nor the permit."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=2, per_host=1) as frontier:
            first, second = Worker(frontier), Worker(frontier)
            tasks = [asyncio.create_task(run.work()) for run in (first, second)]
            await turn()
            await frontier.admit([row(0)])  # handed over, but nobody has run yet
            assert frontier.statistics().out == 1
            tasks[1].cancel()
            await turn()
            assert first.order == [0]
            frontier.close()
            await tasks[0]
            assert second.order == []
            assert frontier.statistics().out == 0

    run_virtual(main())


def test_a_cancelled_idle_worker_is_forgotten(tmp_path: Path) -> None:
    """A worker cancelled while it waits is handed nothing, in whichever order things happen."""

    async def main() -> None:
        async with open_frontier(tmp_path) as frontier:
            gone = asyncio.create_task(Worker(frontier).work())
            await turn()
            gone.cancel()
            await frontier.admit([row(0)])  # before the cancelled task has run
            await turn()
            assert frontier.statistics().idle == 0
            async with frontier.lease() as request:
                assert request == row(0)

    run_virtual(main())


def test_a_row_whose_worker_fails_gives_its_permit_back(tmp_path: Path) -> None:
    """Leaving a lease by an exception gives the permit back, once."""

    async def main() -> None:
        async with open_frontier(tmp_path, per_host=1) as frontier:
            await frontier.admit([row(0), row(1)])
            lease = frontier.lease()
            with pytest.raises(ZeroDivisionError):
                async with lease:
                    raise ZeroDivisionError
            await lease.__aexit__(None, None, None)  # a second time does nothing
            async with frontier.lease() as request:
                assert request == row(1)

    run_virtual(main())


def test_misuse_is_named(tmp_path: Path) -> None:
    """Rows after the end, readmitting nothing, and windows without room are mistakes that say so."""

    async def main() -> None:
        async with open_frontier(tmp_path) as frontier:
            with pytest.raises(RuntimeError, match="nothing is leased"):
                frontier.readmit(row(0))
            frontier.close()
            with pytest.raises(RuntimeError, match="closed"):
                await frontier.admit([row(0)])
        with pytest.raises(ValueError, match="window"):
            async with open_frontier(tmp_path, window_per_host=10, window_total=9):
                pass

    run_virtual(main())


class BadDisk(Backlog):
    """A backlog whose rows cannot be read back."""

    def pull(self, host: str, limit: int) -> asyncio.Future[list[Request]]:
        """Fail as a disk would."""
        return self._call(self._refuse)

    def _refuse(self) -> list[Request]:
        raise OSError(5, "Input/output error")


class Forgetful(Backlog):
    """A backlog that has lost its rows."""

    def pull(self, host: str, limit: int) -> asyncio.Future[list[Request]]:
        """Nothing."""
        return super().pull("another host", limit)


@pytest.mark.parametrize(("kind", "error"), [(BadDisk, SinkFailed), (Forgetful, InternalFault)])
def test_a_backlog_that_fails_ends_the_run(tmp_path: Path, kind: type[Backlog], error: type[Exception]) -> None:
    """Rows that cannot be had back are an error for the workers, idle or not, and for the feeder; no silence."""

    async def main() -> None:
        async with kind(tmp_path / "b.sqlite") as backlog:
            bounds = Bounds(window_per_host=4, window_total=16, look_ahead=50)
            frontier = Frontier(PermitConfig(4), fixed(1), backlog, bounds)
            ends = await asyncio.gather(
                Worker(frontier).work(),
                Worker(frontier).work(),
                frontier.admit([row(n) for n in range(100)]),
                return_exceptions=True,
            )
            assert [type(end) for end in ends] == [error] * 3

    run_virtual(main())


def test_a_backlog_that_cannot_be_written_fails_the_feeder(tmp_path: Path) -> None:
    """A disk that refuses the waiting rows is an error of ``admit``."""

    async def main() -> None:
        async with open_frontier(tmp_path / "x", per_host=1, window_per_host=1, window_total=9) as frontier:
            (tmp_path / "x").write_text("in the way of the folder")
            with pytest.raises(SinkFailed):
                await frontier.admit([row(n) for n in range(9)])

    run_virtual(main())
