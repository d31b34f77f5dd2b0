"""The frontier: who is next, who waits, what is read ahead, and how it ends."""

import asyncio
import contextlib
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
import uvloop

from scraper.backlog import Backlog
from scraper.config import HostLimits, PermitConfig, PolitenessConfig
from scraper.frontier import Frontier
from scraper.policies.suffixes import registrable
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


class Run:
    """Workers that take as long for a row as ``seconds`` says, and remember what they did."""

    def __init__(self, frontier: Frontier, seconds: Callable[[Request], float] = lambda _: 1.0) -> None:
        self.frontier = frontier
        self.seconds = seconds
        self.begun: list[tuple[float, Request]] = []
        self.read = 0
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    @property
    def order(self) -> list[int]:
        """Row numbers in the order in which they were begun."""
        return [request.row for _, request in self.begun]

    async def feed(self, requests: Iterable[Request], chunk: int = 16) -> None:
        """The list, some rows at a time, then its end."""
        batch: list[Request] = []
        for request in requests:
            batch.append(request)
            if len(batch) == chunk:
                self.read += len(batch)
                await self.frontier.admit(batch)
                batch = []
        self.read += len(batch)
        await self.frontier.admit(batch)
        self.frontier.close()

    async def work(self) -> None:
        """Lease after lease until there is none."""
        while True:
            async with self.frontier.lease() as request:
                if request is None:
                    return
                host = request.host
                self.begun.append((asyncio.get_running_loop().time(), request))
                self.now[host] += 1
                self.most[host] = max(self.most[host], self.now[host])
                await asyncio.sleep(self.seconds(request))
                self.now[host] -= 1

    async def all(self, requests: Iterable[Request], workers: int) -> None:
        """The whole list."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self.work())
            group.create_task(self.feed(requests))


def test_every_row_is_leased_once(tmp_path: Path) -> None:
    """All rows come out, each once, no host has more out than its permits, and then each worker gets None."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=8, per_host=2) as frontier:
            run = Run(frontier)
            await run.all((row(n, f"h{n % 7}") for n in range(300)), workers=8)
            assert sorted(run.order) == list(range(300))
            assert set(run.most.values()) == {2}
            assert repr(frontier) == "<Frontier 0 hosts, 0 queued, 0 out, 0 deferred, 0 spilled>"

    run_virtual(main())


@pytest.mark.parametrize("workers", [1, 5])
def test_an_empty_list_ends_at_once(tmp_path: Path, workers: int) -> None:
    """Closing an empty frontier sends everybody home."""

    async def main() -> None:
        async with open_frontier(tmp_path) as frontier:
            run = Run(frontier)
            await run.all([], workers)
            assert run.begun == []

    run_virtual(main())


def test_a_slow_host_delays_nobody(tmp_path: Path) -> None:
    """A host that takes an hour a row keeps its own permits, and the others' rows go on at their own pace."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=8, per_host=2) as frontier:
            run = Run(frontier, lambda request: 3600.0 if request.host == "slow" else 1.0)
            rows = [row(n, "slow") for n in range(50)] + [row(n, "fast") for n in range(50, 100)]
            await run.all(rows, workers=8)
            fast = [when for when, request in run.begun if request.host == "fast"]
            assert max(fast) < 30  # 50 rows, two at a time, a second each
            assert run.order.index(99) < run.order.index(4)

    run_virtual(main())


def test_a_list_sorted_by_host_starts_all_hosts(tmp_path: Path) -> None:
    """Thousands of rows of one host in front do not hide the hosts behind them, and do not fill the memory."""

    async def main() -> None:
        async with open_frontier(
            tmp_path, concurrency=32, per_host=2, window_per_host=32, window_total=200
        ) as frontier:
            run = Run(frontier)
            rows = [row(n, "huge") for n in range(5_000)] + [row(5_000 + n, f"h{n}") for n in range(100)]
            peak = 0

            async def watch() -> None:
                nonlocal peak
                while True:
                    now = frontier.statistics()
                    peak = max(peak, now.queued + now.out + now.deferred)
                    await asyncio.sleep(0.1)

            watching = asyncio.create_task(watch())
            await run.all(rows, workers=32)
            watching.cancel()
            small = [when for when, request in run.begun if request.host != "huge"]
            assert len(small) == 100
            assert max(small) < 10
            assert 32 < peak <= 200
            assert [n for n in run.order if n < 5_000] == list(range(5_000))  # in order, through the disk
            assert run.most["huge"] == 2

    run_virtual(main())


def test_the_list_is_not_read_on_while_all_are_busy(tmp_path: Path) -> None:
    """With every worker at work and enough queued for the next round, the list stays where it is."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=4, per_host=4) as frontier:
            run = Run(frontier, lambda _: 3600.0)
            going = asyncio.create_task(run.all((row(n) for n in range(1_000_000)), workers=4))
            await asyncio.sleep(100)
            assert len(run.begun) == 4
            assert run.read <= 4 + 3 * 4 + 16
            assert frontier.statistics().spilled == 0
            await asyncio.sleep(3600)
            assert len(run.begun) == 8
            going.cancel()

    run_virtual(main())


def test_looking_ahead_has_a_bound(tmp_path: Path) -> None:
    """However many workers starve, no more than ``look_ahead`` rows are put on disk."""

    async def main() -> None:
        async with open_frontier(
            tmp_path, concurrency=4, per_host=1, window_per_host=8, window_total=64, look_ahead=100
        ) as frontier:
            run = Run(frontier)
            going = asyncio.create_task(run.all((row(n) for n in range(1_000)), workers=4))
            await asyncio.sleep(10.5)
            now = frontier.statistics()
            assert now.spilled == 100
            assert now.idle == 3
            assert now.queued + now.out <= 8 + 1
            await going
            assert run.order == list(range(1_000))

    run_virtual(main())


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [5, 6, 40])
@pytest.mark.parametrize("per_host", [1, 4])
def test_small_windows_work(tmp_path: Path, window: int, total: int, per_host: int) -> None:
    """However small the windows, every row comes out, in its host's order."""

    async def main() -> None:
        async with open_frontier(
            tmp_path, concurrency=6, per_host=per_host, window_per_host=window, window_total=total
        ) as frontier:
            run = Run(frontier)
            await run.all((row(n, f"h{n // 10 % 4}") for n in range(200)), workers=6)
            for host in range(4):
                mine = [n for n in run.order if n // 10 % 4 == host]
                assert mine == sorted(mine)
            assert len(run.order) == 200

    run_virtual(main())


def test_a_retry_waits_without_a_permit(tmp_path: Path) -> None:
    """A row that is to be asked again later leaves its permit to others and comes back at its time, not before."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=1, per_host=1) as frontier:
            await frontier.admit([row(0), row(1)])
            frontier.close()
            async with frontier.lease() as request:
                assert request == row(0)
                frontier.readmit(request.again(), not_before=60.0)
            assert repr(frontier) == "<Frontier 1 hosts, 1 queued, 0 out, 1 deferred, 0 spilled>"
            async with frontier.lease() as request:
                assert request == row(1)
            async with frontier.lease() as request:
                assert request == row(0).again()
                assert asyncio.get_running_loop().time() == 60.0
            async with frontier.lease() as request:
                assert request is None

    run_virtual(main())


def test_an_earlier_time_overtakes_a_later_one(tmp_path: Path) -> None:
    """The timer follows the earliest time, whatever the order in which the times became known."""

    async def main() -> None:
        async with open_frontier(tmp_path) as frontier:
            run = Run(frontier, lambda _: 0.0)
            await frontier.admit([row(n, f"h{n}") for n in range(4)])
            frontier.close()
            async with contextlib.AsyncExitStack() as leases:
                out = [await leases.enter_async_context(frontier.lease()) for _ in range(4)]
                worker = asyncio.create_task(run.work())
                for wait, request in zip((30, 10, 40, 20), out, strict=True):
                    await turn()
                    assert request is not None
                    frontier.readmit(request, not_before=wait)
            await worker
            assert [when for when, _ in run.begun] == [10, 20, 30, 40]

    run_virtual(main())


def test_times_come_on_uvloop_too(tmp_path: Path) -> None:
    """On a loop that rounds times to milliseconds, times that have just come or are about to come do come."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=1, per_host=1) as frontier:
            await frontier.admit([row(0)])
            frontier.close()
            for n in range(20):
                async with frontier.lease() as request:
                    assert request is not None
                    frontier.readmit(request, not_before=asyncio.get_running_loop().time() + n / 10_000)
            async with frontier.lease() as request:
                assert request == row(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_redirect_goes_in_front_of_its_new_host(tmp_path: Path) -> None:
    """The next hop of a row belongs to the host it leads to, and may go before what is queued there."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=1, per_host=1) as frontier:
            await frontier.admit([row(0, "a"), row(1, "b"), row(2, "b")])
            frontier.close()
            async with frontier.lease() as request:
                assert request == row(0, "a")
                frontier.readmit(request.redirected("http://b/x", 0.5), front=True)
            seen = []
            for _ in range(3):
                async with frontier.lease() as request:
                    assert request is not None
                    seen.append((request.row, request.host))
            assert seen == [(0, "b"), (1, "b"), (2, "b")]

    run_virtual(main())


def test_a_held_host_waits(tmp_path: Path) -> None:
    """A hold puts all of a host off until its time, and nobody else."""

    async def main() -> None:
        async with open_frontier(tmp_path) as frontier:
            frontier.hosts.hold("a", 60.0)
            run = Run(frontier, lambda _: 0.0)
            await run.all([row(0, "a"), row(1, "b"), row(2, "a")], workers=4)
            assert sorted((when, request.row) for when, request in run.begun) == [(0, 1), (60, 0), (60, 2)]

    run_virtual(main())


def test_rows_without_a_host_go_through(tmp_path: Path) -> None:
    """URLs that cannot be parsed need no permit, and each is handed out to fail by itself."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=8, per_host=1, window_per_host=2) as frontier:
            run = Run(frontier)
            await run.all([Request(n, "no url at all") for n in range(500)], workers=8)
            assert sorted(run.order) == list(range(500))
            assert run.most[""] == 8

    run_virtual(main())


def test_a_host_costs_little_memory(tmp_path: Path) -> None:
    """A host and its row take at most 2 KB, queue, pace and request included."""

    async def main() -> None:
        async with open_frontier(tmp_path, concurrency=2_000, per_host=8) as frontier:
            names = [f"host-number-{n}.example" for n in range(2_000)]
            await frontier.admit([row(0, "the-list-of-suffixes-is-read-now.example")])
            # Caches of a fixed size that are not the frontier's.
            assert all(row(n, name).host == registrable(name) for n, name in enumerate(names))
            tracemalloc.start()
            await frontier.admit([row(n, name) for n, name in enumerate(names)])
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert frontier.statistics().hosts == 2_001
            assert held / 2_000 <= 2_048

    run_virtual(main())
