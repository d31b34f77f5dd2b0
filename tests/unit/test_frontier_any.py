"""The frontier under any load: each row ends once, bounds hold, it ends, and no event costs more for size."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.backlog import Backlog
from scraper.config import HostLimits, PermitConfig, PolitenessConfig
from scraper.frontier import Frontier
from scraper.records import Request
from scraper.testing.clock import run_virtual
from scraper.windows import Bounds

HOST = st.sampled_from(["a", "b", "c", ""])
STEP = st.one_of(
    st.tuples(st.just("retry"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("redirect"), HOST, st.booleans()),
)
ROW = st.tuples(HOST, st.integers(0, 3), st.lists(STEP, max_size=3))  # host, seconds, what happens before it ends
Row = tuple[str, int, list[tuple[str, Any, bool]]]

COUNTED = {
    f"{name}.py"
    for name in ("circuit", "frontier", "gates", "groups", "hosts", "pace", "spilled", "turns", "windows")
}
"""What an event of the frontier runs through."""


def fixed(per_host: int) -> PolitenessConfig:
    """So many requests at once at any host from the beginning."""
    return PolitenessConfig(HostLimits(per_host=per_host), adaptive=False)


class Load:
    """Rows with a fate each, workers that carry it out, and checks on the way."""

    def __init__(self, frontier: Frontier, per_host: int, rows: list[Row]) -> None:
        self.frontier = frontier
        self.per_host = per_host
        self.rows = rows
        self.fates = [list(steps) for _, _, steps in rows]
        self.ended: list[int] = []
        self.first: list[Request] = []
        self.not_before: dict[int, float] = {}
        self.out: Counter[str] = Counter()
        self.peak = 0

    async def feed(self, chunk: int) -> None:
        """The list, ``chunk`` rows at a time."""
        requests = [
            Request(n, f"http://{host}/{n}" if host else "junk") for n, (host, _, _) in enumerate(self.rows)
        ]
        for n in range(0, len(requests), chunk):
            assert await self.frontier.admit(requests[n : n + chunk])
        self.frontier.close()

    async def work(self, patience: float | None) -> None:
        """Lease and carry out, giving up each wait for a lease after ``patience`` seconds, and trying again."""
        while True:
            lease = self.frontier.lease()
            try:
                async with asyncio.timeout(patience):
                    request = await lease.__aenter__()
            except TimeoutError:
                continue
            if request is None:
                return
            try:
                await self.carry_out(request)
            finally:
                await lease.__aexit__(None, None, None)

    async def carry_out(self, request: Request) -> None:
        """One attempt or hop of one row."""
        now = asyncio.get_running_loop().time()
        assert now >= self.not_before.pop(request.row, 0.0)
        if request.attempt == 1 and not request.hops:
            self.first.append(request)
        host = request.host
        self.out[host] += 1
        assert host == "" or self.out[host] <= self.per_host
        statistics = self.frontier.statistics()
        self.peak = max(self.peak, statistics.queued + statistics.deferred + statistics.out)
        await asyncio.sleep(self.rows[request.row][1])
        self.out[host] -= 1
        if not (fate := self.fates[request.row]):
            self.ended.append(request.row)
            return
        kind, how, front = fate.pop(0)
        if kind == "redirect":
            self.frontier.readmit(request.redirected(f"http://{how}/" if how else "junk", 0.0), front=front)
        else:
            self.not_before[request.row] = when = asyncio.get_running_loop().time() + how
            self.frontier.readmit(request.again(), not_before=when, front=front)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(ROW, max_size=60),
    workers=st.lists(st.sampled_from([None, None, 0.5, 1.0, 2.5]), min_size=1, max_size=6),
    per_host=st.integers(1, 3),
    window=st.integers(1, 6),
    total=st.integers(6, 30),
    look_ahead=st.sampled_from([1, 10, 1_000]),
    chunk=st.integers(1, 40),
)
def test_any_load_comes_to_its_end(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    workers: list[float | None],
    per_host: int,
    window: int,
    total: int,
    look_ahead: int,
    chunk: int,
) -> None:
    """Whatever rows do and however workers come and go: no row lost or doubled, none early, no bound broken."""

    async def main() -> None:
        async with Backlog(tmp_path_factory.getbasetemp() / "any.sqlite") as backlog:
            bounds = Bounds(window_per_host=window, window_total=total, look_ahead=look_ahead)
            frontier = Frontier(PermitConfig(len(workers)), fixed(per_host), backlog, bounds)
            load = Load(frontier, per_host, rows)
            async with asyncio.timeout(5_000), asyncio.TaskGroup() as group:
                for patience in workers:
                    group.create_task(load.work(patience))
                group.create_task(load.feed(chunk))
            assert sorted(load.ended) == list(range(len(rows)))
            assert load.peak <= total
            assert repr(frontier) == "<Frontier 0 hosts, 0 queued, 0 out, 0 deferred, 0 spilled>"
            if set(workers) == {None}:
                for host in "abc":
                    mine = [request.row for request in load.first if request.host == host]
                    assert mine == sorted(mine)

    run_virtual(main())


def lines_run(event: Callable[[], object]) -> int:
    """Lines of the frontier and its parts that ``event`` runs: a cost that is the same on every machine."""
    count = 0

    def trace(frame: FrameType, kind: str, argument: object) -> Any:
        nonlocal count
        if Path(frame.f_code.co_filename).name not in COUNTED:
            return None
        count += kind == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        event()
    finally:
        sys.settrace(before)
    return count


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that does not wait for anything."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def costs(folder: Path, hosts: int, idle: int) -> list[int]:
    """What the events of one row cost, among so many hosts and idle workers."""
    async with Backlog(folder / "b.sqlite") as backlog:
        frontier = Frontier(PermitConfig(hosts), fixed(1), backlog)
        await frontier.admit([Request(n, f"http://h{n}/") for n in range(hosts)])
        leases = [frontier.lease() for _ in range(hosts)]
        for lease in leases:
            await lease.__aenter__()
            frontier.readmit(Request(1, f"http://deferred{id(lease)}/"), not_before=1e6)
        waiting = [asyncio.create_task(frontier.lease().__aenter__()) for _ in range(idle)]
        await asyncio.sleep(0)
        requests = [Request(n, f"http://new{n}/") for n in range(3)]
        counted = [
            lines_run(lambda: frontier.readmit(requests[0])),
            lines_run(lambda: frontier.readmit(requests[1], not_before=2e6)),
            lines_run(lambda: frontier.hosts.hold("h1", 3e6)),
            lines_run(lambda: finish(leases[0].__aexit__(None, None, None))),
            lines_run(frontier.statistics),
        ]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return counted


@pytest.mark.parametrize("idle", [4, 100])
def test_no_event_costs_more_for_there_being_more(tmp_path: Path, idle: int) -> None:
    """The frontier's own work for an event is the same among 10 hosts and among 1,000, with few idle or many."""
    assert run_virtual(costs(tmp_path, 1_000, idle)) == run_virtual(costs(tmp_path, 10, 4))
