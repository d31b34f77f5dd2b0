"""What the weather does to a run: who is told to pause, and what counts meanwhile. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from scraper.config import HealthConfig
from scraper.engines.permits import Permits
from scraper.engines.weather import NETWORK, RESOLVER, Weather
from scraper.errors import FetchFailed
from scraper.frontier import Frontier
from scraper.records import Request
from scraper.resolver import Answer, LookupFailed, Resolver
from scraper.testing.clock import run_virtual

CONFIG = HealthConfig(wait_s=60.0, failures=3, probe_s=1.0)
VAIN = FetchFailed("dns.temporary", "Nobody answers.")


class Gate:
    """What the weather asks of a frontier.

    Attributes:
        paused: reasons and their words.
        let_through: when one request was let through, by the loop's clock.
    """

    def __init__(self) -> None:
        self.paused: dict[str, str] = {}
        self.let_through: list[float] = []

    def pause(self, why: str, words: str = "") -> None:
        """As a frontier's."""
        self.paused[why] = words

    def resume(self, why: str) -> None:
        """As a frontier's."""
        self.paused.pop(why, None)

    def let_one_through(self) -> None:
        """As a frontier's."""
        self.let_through.append(asyncio.get_running_loop().time())


class NameServers:
    """A look-up that answers for the names in ``known``, and once ``are_back`` for all.

    Attributes:
        asked: the names, and when.
        are_silent: keep whoever asks waiting instead of failing at once.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.asked: list[tuple[str, float]] = []
        self.are_back = self.are_silent = False

    async def __call__(self, host: str, family: int) -> Answer:
        """Look it up."""
        self.asked.append((host, asyncio.get_running_loop().time()))
        if self.are_silent:
            await asyncio.get_running_loop().create_future()
        if self.are_back or host in self.known:
            return Answer(("192.0.2.1",), 300.0)
        raise LookupFailed(None, "nobody answers")


class Run:
    """The weather of a run, with what is round it."""

    def __init__(self, config: HealthConfig = CONFIG) -> None:
        self.gate, self.servers = Gate(), NameServers()
        self.weather = Weather(config, cast("Frontier", self.gate), Permits(8))
        self.names = self.weather.names = Resolver(self.servers)

    async def ask(self, host: str, *, again: bool = False) -> bool:
        """A row's attempt whose look-up may fail. Returns whether the failure, if any, counts."""
        request = Request(0, f"http://{host}/")
        if again:
            request = request.again()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self.names.addresses(host)
        except LookupFailed:
            self.weather.failed(VAIN, request, loop.time())
            return self.weather.counts(VAIN, began)
        self.weather.answered(request, loop.time())
        return True


def virtually(script: Callable[[Run], Awaitable[None]], config: HealthConfig = CONFIG) -> None:
    """Run a script beside the weather's own watch."""

    async def main() -> None:
        run = Run(config)
        watching = asyncio.get_running_loop().create_task(run.weather.watch())
        try:
            await script(run)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    run_virtual(main())


def test_dead_name_servers_pause_the_run() -> None:
    """Answers of hosts whose names are known are no sign that new names can be looked up."""

    async def script(run: Run) -> None:
        run.servers.known = {"known"}
        assert await run.ask("known")
        await asyncio.sleep(1.0)
        counted = []
        for host in ("a", "b", "c", "d"):
            counted.append(await run.ask(host))
            assert await run.ask("known")
        assert counted == [True, True, False, False]
        assert run.gate.paused == {RESOLVER: "no name server answers"}

    virtually(script)


def test_an_answer_ends_the_pause() -> None:
    """Name servers are asked once a second, without a row; what began before they were back does not count."""

    async def script(run: Run) -> None:
        for host in "abc":
            await run.ask(host)
        assert list(run.gate.paused) == [RESOLVER]
        del run.servers.asked[:]
        await asyncio.sleep(10.5)
        assert list(run.gate.paused) == [RESOLVER]
        assert [when for _, when in run.servers.asked] == [float(n) for n in range(1, 11)]
        assert {host for host, _ in run.servers.asked} == set("abc")
        assert run.gate.let_through == [float(n) for n in range(11)]
        began = asyncio.get_running_loop().time()
        run.servers.are_back = True
        await asyncio.sleep(1.0)
        assert run.gate.paused == {}
        assert not run.weather.counts(VAIN, began)
        await asyncio.sleep(5.0)
        assert run.weather.counts(VAIN, asyncio.get_running_loop().time())
        assert len(run.gate.let_through) == 12

    virtually(script)


def test_the_answer_may_be_to_a_row() -> None:
    """One request goes out each second: where those that failed were dead and the servers are not, it shows."""

    async def script(run: Run) -> None:
        for host in "abc":
            await run.ask(host)
        await asyncio.sleep(2.5)
        run.servers.known = {"alive"}
        await run.ask("alive")
        await asyncio.sleep(1.0)
        assert run.gate.paused == {}

    virtually(script)


def test_silent_name_servers_are_asked_every_second_too() -> None:
    """A look-up that hangs is not waited for: the next name is asked for."""

    async def script(run: Run) -> None:
        for host in "abc":
            await run.ask(host)
        run.servers.are_silent = True
        del run.servers.asked[:]
        await asyncio.sleep(5.5)
        assert [host for host, _ in run.servers.asked] == ["b", "c", "a", "b", "c"]
        run.servers.are_silent, run.servers.are_back = False, True
        await asyncio.sleep(2.0)
        assert run.gate.paused == {}

    virtually(script)


def test_name_servers_are_waited_for_as_long_as_said() -> None:
    """Then failures count, and nothing pauses again before an answer, the network's rule not either."""

    async def script(run: Run) -> None:
        for host in "abc":
            await run.ask(host)
        await asyncio.sleep(59.0)
        assert list(run.gate.paused) == [RESOLVER]
        await asyncio.sleep(3.0)
        assert run.gate.paused == {}
        for n in range(50):
            assert await run.ask(f"h{n}")
        assert run.gate.paused == {}
        run.servers.known = {"alive"}
        await run.ask("alive")
        for n in range(3):
            await run.ask(f"i{n}")
        assert list(run.gate.paused) == [RESOLVER]

    virtually(script)


def test_dead_names_among_living_ones_pause_nothing() -> None:
    """Of old links many names cannot be looked up, and those of rows that are asked again are among them."""

    async def script(run: Run) -> None:
        run.servers.known = {f"alive{n}" for n in range(20)}
        for n in range(20):
            assert await run.ask(f"dead{n}")
            assert await run.ask(f"mute{n}")
            assert await run.ask(f"alive{n}")
        await asyncio.sleep(2.0)
        for n in range(20):
            assert await run.ask(f"dead{n}", again=True)
        assert run.gate.paused == {}

    virtually(script)


def test_no_wait_means_no_pause_for_names() -> None:
    """--network-wait 0 turns it off."""

    async def script(run: Run) -> None:
        for n in range(50):
            assert await run.ask(f"h{n}")
        assert run.gate.paused == {}

    virtually(script, HealthConfig(wait_s=0.0, failures=3))


def test_a_network_that_is_gone_is_paused_for_once() -> None:
    """Where nothing answers at all, that is the reason, and look-ups that fail meanwhile add no other."""

    async def script(run: Run) -> None:
        run.servers.known = {"known"}
        await run.ask("known")
        loop = asyncio.get_running_loop()
        lost = FetchFailed("connect.timeout", "No connection.")
        for _ in range(3):
            run.weather.failed(lost, Request(0, "http://known/"), loop.time())
        for host in "abcd":
            assert not await run.ask(host)
        assert list(run.gate.paused) == [NETWORK]

    virtually(script)
