"""The frontier and politeness: spacing, rates, addresses, failing hosts, and lists that are all one host."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from scraper.backlog import Backlog
from scraper.config import HostLimits, PermitConfig, PolitenessConfig
from scraper.errors import Postponed
from scraper.frontier import Frontier
from scraper.policies import groups
from scraper.policies.pace import PaceSnapshot
from scraper.records import Request
from scraper.testing.clock import run_virtual
from scraper.windows import Bounds


def row(n: int, host: str = "a.example") -> Request:
    """A row of the list, for a host."""
    return Request(n, f"http://{host}/{n}")


@contextlib.asynccontextmanager
async def open_frontier(
    folder: Path, politeness: PolitenessConfig, concurrency: int = 64, **bounds: int
) -> AsyncIterator[Frontier]:
    """A frontier with its backlog."""
    async with Backlog(folder / "backlog.sqlite") as backlog:
        yield Frontier(PermitConfig(concurrency), politeness, backlog, Bounds(**bounds))


def said_of(frontier: Frontier, host: str) -> PaceSnapshot:
    """What a report would say of a host's group just now."""
    return frontier.hosts.group(host).snapshot(asyncio.get_running_loop().time())


class Run:
    """Workers that do with each request what the engine does, for servers that answer as ``says`` says."""

    def __init__(
        self, frontier: Frontier, says: Callable[[Request], str] = lambda _: "ok", seconds: float = 0.1
    ) -> None:
        self.frontier = frontier
        self.says = says
        self.seconds = seconds
        self.begun: list[tuple[float, Request]] = []
        self.given_up: list[tuple[float, Request]] = []
        self.address: Callable[[Request], str] = lambda request: f"at {request.host}"
        self.out: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def starts(self, host: str) -> list[float]:
        """When requests to a host went out."""
        return [when for when, request in self.begun if request.host == host]

    async def work(self) -> None:
        """Lease after lease until there is none."""
        loop, hosts = asyncio.get_running_loop(), self.frontier.hosts
        while True:
            async with self.frontier.lease() as request:
                if request is None:
                    return
                host, now = request.host, loop.time()
                if self.frontier.is_given_up(request):
                    self.given_up.append((now, request))
                    hosts.refused(host)
                    continue
                self.begun.append((now, request))
                address = self.address(request)
                hosts.located(host, address)
                for key in (host, address):
                    self.out[key] += 1
                    self.most[key] = max(self.most[key], self.out[key])
                await asyncio.sleep(self.seconds)
                for key in (host, address):
                    self.out[key] -= 1
                hosts.ended(
                    host, self.says(request), row=request.row, began=now, latency_s=self.seconds, count=100
                )

    async def all(self, requests: list[Request], workers: int = 64, chunk: int = 500) -> None:
        """The whole list."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self.work())
            for at in range(0, len(requests), chunk):
                await self.frontier.admit(requests[at : at + chunk])
            self.frontier.close()


def gaps(times: list[float]) -> list[float]:
    """Between each and the next."""
    return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("limits", [HostLimits(delay_s=1.5), HostLimits(rate=1 / 1.5), HostLimits(3, 1.5, 1.0)])
def test_spacing_is_exact(tmp_path: Path, limits: HostLimits) -> None:
    """With a delay, or a rate, the hosts of a domain start one request each time it is over."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig(hosts={"*.slow.example": limits})) as frontier:
            run = Run(frontier)
            slow = [row(n, f"{'ab'[n % 2]}.slow.example") for n in range(10)]
            await run.all(slow + [row(n) for n in range(10, 50)])
            starts = [when for when, request in run.begun if "slow" in request.host]
            assert gaps(starts) == [1.5] * 9
            assert max(run.starts("a.example")) < 2

    run_virtual(main())


def test_who_is_not_asked_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Rows that robots.txt forbids take no time from the others of their host, and count for no requests."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_frontier(tmp_path, PolitenessConfig(HostLimits(delay_s=10.0))) as frontier:
            await frontier.admit([row(n) for n in range(50)])
            frontier.close()
            asked = []
            for number in range(50):
                async with frontier.lease() as request:
                    assert request == row(number)
                    if number % 10:
                        frontier.hosts.unasked("a.example")
                    else:
                        asked.append(loop.time())
                        frontier.hosts.ended("a.example", "ok", row=number, began=loop.time())
            assert asked == [0.0, 10.0, 20.0, 30.0, 40.0]
            assert said_of(frontier, "a.example").requests == 5

    run_virtual(main())


def test_robots_txt_takes_the_place_of_who_waits_for_it(tmp_path: Path) -> None:
    """The request after a robots.txt is a delay later, although the row that wanted it is forbidden by it."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig(HostLimits(delay_s=10.0))) as frontier:
            await frontier.admit([row(0), row(1)])
            async with frontier.lease():
                frontier.hosts.shut("a.example")
                await asyncio.sleep(1.0)
                frontier.hosts.reopen("a.example", asked=True)
                frontier.hosts.unasked("a.example")
            async with frontier.lease():
                assert asyncio.get_running_loop().time() == 10.0

    run_virtual(main())


def test_a_crawl_delay_counts_from_the_moment_it_is_known(tmp_path: Path) -> None:
    """What robots.txt asks for holds for all that has not begun, and the report says why."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            frontier.hosts.shut("a.example")
            await frontier.admit([row(n) for n in range(4)])
            run = Run(frontier)
            working = asyncio.create_task(run.all([]))
            await asyncio.sleep(3.0)
            assert run.begun == []
            frontier.hosts.crawl_delay("a.example", 10.0)
            frontier.hosts.reopen("a.example", asked=True)
            await working
            assert run.starts("a.example") == [3.0, 13.0, 23.0, 33.0]
            found = said_of(frontier, "a.example")
            assert (found.key, found.requests, found.delay_s) == ("a.example", 4, 10.0)
            assert found.why == "robots.txt Crawl-delay"
            assert (found.first_start, found.last_start) == (3.0, 33.0)

    run_virtual(main())


def test_it_starts_modestly_and_grows_to_the_limit(tmp_path: Path) -> None:
    """Two at once at first, then more with each answer, never more than allowed."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig(HostLimits(per_host=6))) as frontier:
            run = Run(frontier)
            await run.all([row(n) for n in range(200)])
            assert [when for when, _ in run.begun].count(0.0) == 2
            assert run.most["a.example"] == 6

    run_virtual(main())


def test_a_host_that_says_too_many_is_left_in_peace_and_others_are_not_touched(tmp_path: Path) -> None:
    """429 to all that is more than one at a time: it is asked one at a time, and a neighbour at full speed."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            run = Run(frontier, lambda it: "http.429" if run.out[it.host] and "busy" in it.host else "ok")
            both = [row(n, "busy.example" if n % 2 else "calm.example") for n in range(400)]
            await run.all(both)
            busy = said_of(frontier, "busy.example")
            assert busy.throttled < 40
            assert run.most["calm.example"] == 8
            assert max(run.starts("calm.example")) < 6
            assert busy.requests == 200

    run_virtual(main())


def test_an_address_is_one_machine(tmp_path: Path) -> None:
    """However many hosts are at an address, no more than four hosts' worth of them is out, once they are known."""

    async def main() -> None:
        politeness = PolitenessConfig(HostLimits(per_host=2), adaptive=False)
        async with open_frontier(tmp_path, politeness) as frontier:
            run = Run(frontier, seconds=1.0)
            run.address = lambda request: "elsewhere" if request.host == "other.example" else "machine"
            hosts = [f"blog{n}.example" for n in range(30)] + ["other.example"]
            await run.all([row(n, hosts[n % 31]) for n in range(31 * 10)])
            late = Counter(when for when, it in run.begun if it.host != "other.example" and when > 1.5)
            assert max(late.values()) == 8
            assert max(run.starts("other.example")) < 6

    run_virtual(main())


def test_whom_the_user_allows_more_is_not_held_by_its_address(tmp_path: Path) -> None:
    """Limits that the user wrote down for a host are not undercut by a default for addresses."""

    async def main() -> None:
        politeness = PolitenessConfig(
            HostLimits(per_host=2), {"mine.example": HostLimits(per_host=40)}, adaptive=False
        )
        async with open_frontier(tmp_path, politeness) as frontier:
            run = Run(frontier)
            await run.all([row(n, "mine.example") for n in range(400)])
            assert run.most["mine.example"] == 40

    run_virtual(main())


def test_a_dead_host_is_given_up_and_found_again(tmp_path: Path) -> None:
    """Its rows wait for a minute, with a probe now and then, then end without being asked; others go on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_frontier(tmp_path, PolitenessConfig(host_failures=3, host_wait_s=60)) as frontier:
            run = Run(
                frontier, lambda it: "connect.refused" if it.host == "dead.example" and loop.time() < 130 else "ok"
            )
            await frontier.admit([row(n, "dead.example") for n in range(20)] + [row(n) for n in range(100, 200)])
            working = asyncio.create_task(run.all([]))
            await asyncio.sleep(61.0)
            assert max(run.starts("a.example")) < 5
            opened = run.starts("dead.example")[2] + 0.1
            probes = [round(when - opened, 3) for when in run.starts("dead.example") if when > 1]
            assert probes == [5.0, 15.1, 35.2]
            assert {round(when - opened, 6) for when, _ in run.given_up} == {60.0}
            assert len(run.given_up) + len(run.starts("dead.example")) == 20
            await working

    run_virtual(main())


def test_a_given_up_host_is_probed_while_rows_come(tmp_path: Path) -> None:
    """Rows of a host that is given up are refused, but one now and then is asked; an answer ends that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_frontier(tmp_path, PolitenessConfig(host_failures=3, host_wait_s=0)) as frontier:
            run = Run(frontier, lambda _: "connect.refused" if loop.time() < 20 else "ok")
            workers = [asyncio.create_task(run.work()) for _ in range(4)]
            for second in range(60):
                await frontier.admit([row(2 * second), row(2 * second + 1)])
                await asyncio.sleep(1.0)
            frontier.close()
            await asyncio.gather(*workers)
            asked = run.starts("a.example")
            refused = [when for when, _ in run.given_up]
            assert len(asked) + len(refused) == 120
            assert [when for when in asked if 2 < when < 36] == [
                7.0,
                18.0,
            ]  # 5 s, then 10 s after the last failure
            assert min(when for when in asked if when > 18.5) == pytest.approx(39.0, abs=1.1)
            assert max(refused) < 40
            assert len([when for when in asked if when > 40]) >= 38

    run_virtual(main())


def test_a_probe_that_is_cancelled_makes_way_for_another(tmp_path: Path) -> None:
    """A worker that goes away with the probe in hand does not leave the host without one."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig(host_failures=1, host_wait_s=600)) as frontier:
            await frontier.admit([row(n) for n in range(4)])
            async with frontier.lease() as request:
                assert request is not None
                frontier.hosts.ended("a.example", "ok", row=request.row, began=0.0, latency_s=0.1)
                frontier.hosts.ended("a.example", "connect.refused", row=request.row, began=0.0)
            async with frontier.lease() as request:
                assert asyncio.get_running_loop().time() == 5.0
                assert request is not None
                frontier.readmit(request)
            async with frontier.lease() as request:
                assert asyncio.get_running_loop().time() == 5.0
                assert not frontier.is_given_up(request or row(0))

    run_virtual(main())


def test_retry_after_is_of_one_host_and_named(tmp_path: Path) -> None:
    """A hold is of the host that asked for it, not of its siblings, and the report gives it as the reason."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            frontier.hosts.hold("www.site.example", 30.0)
            run = Run(frontier)
            working = asyncio.create_task(run.all([row(0, "www.site.example"), row(1, "img.site.example")]))
            await asyncio.sleep(10.0)
            assert said_of(frontier, "www.site.example").why == "Retry-After"
            await working
            assert [(when, it.row) for when, it in run.begun] == [(0.0, 1), (30.0, 0)]

    run_virtual(main())


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["one.example", "{}.one.example"], ids=["one host", "a thousand hosts of a domain"]
)
def test_a_list_that_begins_with_one_host_starts_all_at_once(tmp_path: Path, first: str) -> None:
    """100,000 rows of one host, or domain, and then 1,000 hosts: all have started in the first seconds.

    What is held of the list meanwhile has its bound in rows, in memory and on disk, and nothing is lost.
    """

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            run = Run(frontier, seconds=0.5)
            rows = [row(n, first.format(n % 1_000)) for n in range(100_000)]
            rows += [row(100_000 + n, f"h{n}.example") for n in range(1_000)]
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    now = frontier.statistics()
                    most = max(most, now.queued + now.out + now.deferred)
                    await asyncio.sleep(0.1)

            watching = asyncio.create_task(watch())
            working = asyncio.create_task(run.all(rows))
            await asyncio.sleep(15.0)
            small = {it.host for _, it in run.begun if "one" not in it.host}
            assert len(small) == 1_000
            assert most <= 20_000
            assert frontier.statistics().spilled > 70_000
            frontier.stop()
            await working
            watching.cancel()

    run_virtual(main())


def test_every_host_of_a_crowded_domain_gets_its_turn(tmp_path: Path) -> None:
    """More hosts of one domain than it may have in memory go to disk, and all come back, in order."""

    async def main() -> None:
        bounds = {"window_per_host": 4, "window_total": 40}
        async with open_frontier(tmp_path, PolitenessConfig(), 8, **bounds) as frontier:
            run = Run(frontier)
            rows = [row(n, f"h{n % 100}.one.example") for n in range(500)] + [row(n) for n in range(500, 510)]
            await run.all(rows, workers=8, chunk=7)
            assert sorted(it.row for _, it in run.begun) == list(range(510))
            for host in {it.host for it in rows}:
                times = [when for _, when in sorted((it.row, when) for when, it in run.begun if it.host == host)]
                assert times == sorted(times)
            assert max(run.starts("a.example")) < 3
            assert repr(frontier) == "<Frontier 0 hosts, 0 queued, 0 out, 0 deferred, 0 spilled>"

    run_virtual(main())


@pytest.mark.parametrize(
    ("window", "in_memory", "on_disk"), [(32, range(8, 11), range(1)), (1, range(11), range(15, 21))]
)
def test_looking_ahead_is_bounded_in_characters(
    tmp_path: Path, window: int, in_memory: range, on_disk: range
) -> None:
    """Rows with long captions are fewer in memory and fewer on disk; and all of them come out."""

    async def main() -> None:
        bounds = {"window_per_host": window, "window_size": 100_000, "look_ahead_size": 200_000}
        async with open_frontier(tmp_path, PolitenessConfig(HostLimits(per_host=1)), 4, **bounds) as frontier:
            run = Run(frontier, seconds=1.0)
            rows = [
                Request(n, f"http://{'ab'[n % 2]}.example/", "x" * 10_000, {"n": n, "l": [n]}) for n in range(100)
            ]
            working = asyncio.create_task(run.all(rows, workers=40, chunk=5))
            most = [0, 0]
            for _ in range(200):
                now = frontier.statistics()
                most = [max(most[0], now.queued + now.out), max(most[1], now.spilled)]
                await asyncio.sleep(0.1)
            await working
            assert most[0] in in_memory
            assert most[1] in on_disk
            assert sorted(it.row for _, it in run.begun) == list(range(100))

    run_virtual(main())


def test_what_was_learned_outlives_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that was learned is not learned anew with the next row; counts of what is forgotten are told."""
    monkeypatch.setattr(groups, "REMEMBERED", 2)

    async def main() -> None:
        forgotten: list[PaceSnapshot] = []
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            frontier.hosts.on_forgotten = forgotten.append
            run = Run(frontier)
            workers = [asyncio.create_task(run.work()) for _ in range(8)]
            await frontier.admit([row(n) for n in range(50)])
            await asyncio.sleep(10.0)
            assert frontier.statistics().hosts == 0
            await frontier.admit([row(n) for n in range(50, 100)])
            await asyncio.sleep(0.0)
            assert run.out["a.example"] == 8
            await asyncio.sleep(10.0)
            assert forgotten == []
            await frontier.admit([row(100, "b.example"), row(101, "c.example")])
            await asyncio.sleep(1.0)
            assert [(each.key, each.requests, each.answers, each.bytes) for each in forgotten] == [
                ("a.example", 100, 100, 10_000)
            ]
            assert [said_of(frontier, host).requests for host in ("b.example", "c.example")] == [1, 1]
            frontier.stop()
            await asyncio.gather(*workers)

    run_virtual(main())


def test_readers_share_a_bandwidth(tmp_path: Path) -> None:
    """All readers of a domain ask one throttle, those at an address another as well; most ask none."""

    async def main() -> None:
        politeness = PolitenessConfig(HostLimits(bandwidth=1_000), {"free.example": HostLimits()})
        async with open_frontier(tmp_path, politeness) as frontier:
            await frontier.admit([row(0, "a.one.example"), row(1, "b.one.example"), row(2, "free.example")])
            async with frontier.lease(), frontier.lease(), frontier.lease():
                hosts = frontier.hosts
                (throttle,) = hosts.throttles("a.one.example")
                hosts.located("a.one.example", "192.0.2.1")
                hosts.located("b.one.example", "192.0.2.1")
                hosts.located("b.one.example", "192.0.2.2")
                assert hosts.throttles("a.one.example") == hosts.throttles("b.one.example")
                assert hosts.throttles("a.one.example")[0] is throttle
                assert [each.spend(8_000, 0.0) for each in hosts.throttles("a.one.example")] == [8.0, 2.0]
                assert hosts.throttles("free.example") == ()

    run_virtual(main())


def test_what_has_no_host_is_nobodys_business(tmp_path: Path) -> None:
    """URLs without a host pass, and what is told of them is of no host's account."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            await frontier.admit([Request(n, "no url") for n in range(100)])
            frontier.close()
            for _ in range(100):
                async with frontier.lease() as request:
                    assert request is not None
                    frontier.hosts.located(request.host, "192.0.2.1")
                    frontier.hosts.ended(request.host, "url.invalid", row=request.row, began=0.0)
            assert repr(frontier.hosts).startswith("<Hosts <Groups 0 used, 0 idle, 0 addresses>")

    run_virtual(main())


def test_what_has_its_connection_keeps_the_gap_all_the_same(tmp_path: Path) -> None:
    """Requests that started a gap apart and are ready at once are sent a gap apart, those of robots.txt too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_frontier(tmp_path, PolitenessConfig(HostLimits(delay_s=10.0))) as frontier:
            await frontier.admit([row(0)])
            async with frontier.lease():
                assert frontier.hosts.send("a.example") == 0.0
                await asyncio.sleep(4.0)
                with pytest.raises(Postponed) as raised:  # who waits for long does so without a connection
                    frontier.hosts.send("a.example")
                assert raised.value.retry_after_s == 6.0
                await asyncio.sleep(2.0)
                assert frontier.hosts.send("a.example") == 4.0
                assert frontier.hosts.send("www.a.example") == 4.0
                assert frontier.hosts.send("b.example") == 0.0
                await asyncio.sleep(4.0)
                assert frontier.hosts.send("a.example") == 0.0
                assert loop.time() == 10.0

    run_virtual(main())


def test_nothing_is_sent_to_a_host_that_is_left_alone(tmp_path: Path) -> None:
    """What was still making its connection when the host asked for that goes back, and no other host's does."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig()) as frontier:
            await frontier.admit([row(0)])
            async with frontier.lease():
                frontier.hosts.hold("a.example", asyncio.get_running_loop().time() + 5.0)
                with pytest.raises(Postponed):
                    frontier.hosts.send("a.example")
                assert frontier.hosts.send("b.example") == 0.0
                await asyncio.sleep(5.0)
                assert frontier.hosts.send("a.example") == 0.0

    run_virtual(main())


def test_a_stranger_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    """Of a host that never answered the rows end at once; the time to wait is for those that did."""

    async def main() -> None:
        async with open_frontier(tmp_path, PolitenessConfig(host_failures=1, host_wait_s=600)) as frontier:
            await frontier.admit([row(n) for n in range(3)])
            async with frontier.lease() as request:
                assert request is not None
                frontier.hosts.ended("a.example", "connect.refused", row=request.row, began=0.0)
            async with frontier.lease() as request:
                assert request is not None
                assert frontier.is_given_up(request)
                assert frontier.hosts.why_waiting("a.example") == "fails: connect.refused"
            assert asyncio.get_running_loop().time() == 0.0

    run_virtual(main())
