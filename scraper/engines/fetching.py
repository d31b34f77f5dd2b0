"""What becomes of a request that is leased: it is asked, or not, and how that ends. For engines on an event loop.

    robots.txt is not known    it is asked for in this request's turn; the request goes back to the frontier
    it is not to be asked      the row ends, or waits
    it is asked                a response, or back to the frontier with another hop or attempt, or the row ends

In: requests. Out: responses for the workers, ends for the sink.
Must never: decide what is polite (``engines.manners``) or what is the network's fault (``engines.weather``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from scraper.answers import Answer, Failed, Fetched, NotModified, Redirected
from scraper.arena import Slot
from scraper.config import RetryConfig
from scraper.engines import endings
from scraper.engines.manners import Manners, NotYet
from scraper.engines.movement import Movement
from scraper.engines.weather import Weather
from scraper.errors import Postponed
from scraper.fetch import Fetcher
from scraper.frontier import Frontier
from scraper.meter import HostMeter, Meter
from scraper.policies import retry
from scraper.records import NO_TIMINGS, Request, Result

HOSTS_METERED = 1_000
"""Hosts that progress tells apart, the latest; a broad crawl has more, and nobody reads more."""

_UNASKED = frozenset({"robots.disallowed", "host.unavailable"})
"""Ends of rows that were not asked, whatever was asked for them."""

_REFUSALS = frozenset({"optout.header"})
"""Ends of rows that were asked by which a host says that it does not want them kept."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A row on its way to the sink, with the slot that accounts for its bytes, where it has any."""

    result: Result
    slot: Slot | None = None


class Fetching:
    """One run's.

    Args:
        config: how often to ask.
        frontier: where requests come from, and go back to.
        fetcher: makes hops.
        weather: tells the network's failures from the rows'.
        manners: says what may be asked.
        movement: is shown what is under way.
        meter: where fetches are counted.
    """

    def __init__(
        self,
        config: RetryConfig,
        frontier: Frontier,
        fetcher: Fetcher,
        weather: Weather,
        manners: Manners,
        movement: Movement,
        meter: Meter,
    ) -> None:
        self._config = config
        self._frontier = frontier
        self._fetcher = fetcher
        self._weather = weather
        self._manners = manners
        self._movement = movement
        self._meter = meter

    async def ask(self, request: Request) -> Fetched | Ended | None:
        """What becomes of a request: None when it went back to the frontier.

        Raises:
            SinkFailed: the disk on which robots.txt is kept refuses.
            RunStopped: this machine has had nothing left to connect with for a minute.
        """
        since = asyncio.get_running_loop().time()
        barred, was_asked = self._manners.bar(request), False
        if barred is NotYet.UNKNOWN:
            barred, was_asked = await self._manners.learn(request, self._ask_robots), True
        if isinstance(barred, NotYet):
            self._frontier.readmit(request, front=True)
            return None
        if barred is not None:
            failed = Failed(barred, NO_TIMINGS, request.asked)
            was_asked = was_asked and barred.class_ not in _UNASKED
            return await self._failed(request, failed, since, was_asked=was_asked)
        throttles = self._frontier.hosts.throttles(request.host)
        answer = await self._hop(partial(self._fetcher.fetch, throttles=throttles), request)
        match answer:
            case Fetched():
                self._meter.fetched_bytes += answer.response.wire_bytes
                return answer
            case Failed(Postponed()):
                self._frontier.readmit(request, front=True)
                return None
            case Failed():
                return await self._failed(request, answer, since)
            case NotModified():
                return Ended(endings.of_not_modified(request, answer))
            case Redirected(next_hop):
                self._frontier.readmit(next_hop, front=True)
                return None

    async def _ask_robots(self, request: Request) -> Fetched | Answer:
        answer = await self._hop(self._fetcher.fetch_robots, request)
        if isinstance(answer, Failed):
            self._manners.heed(request, answer.error)
        return answer

    async def _hop(self, hop: Callable[..., Awaitable[Fetched | Answer]], request: Request) -> Fetched | Answer:
        """Make a hop, and tell everybody how it went."""
        loop = asyncio.get_running_loop()
        host = self._host_meter(request.host)
        since = loop.time()
        host.in_flight += 1
        host.begun += since
        try:
            ask = partial(hop, send=partial(self._frontier.hosts.send, request.host))
            answer = await self._movement.fetch(ask, request)
        finally:
            host.in_flight -= 1
            host.begun -= since
            host.done += 1
            host.seconds += loop.time() - since
        if address := self._fetcher.address():
            self._frontier.hosts.located(request.host, address)
        if not isinstance(answer, Failed):
            self._weather.answered(request, loop.time())
        elif isinstance(answer.error, Postponed):
            return answer
        else:
            self._weather.failed(answer.error, request, loop.time())
            if not self._weather.counts(answer.error, since):
                return answer
        self._manners.answered(request, answer, since)
        return answer

    async def _failed(
        self, request: Request, failed: Failed, since: float, *, was_asked: bool = True
    ) -> Ended | None:
        """What becomes of a request whose attempt, begun at ``since``, has failed."""
        error = self._manners.heed(request, failed.error)
        if retry.is_our_haste(error, request.excused, self._config):
            wait = retry.backoff_s(error, request.attempt + request.excused, self._config, random.random())
            self._later(request.uncounted(), wait)
            return None
        unavailable = error.class_ == "host.unavailable"
        again = None if unavailable else retry.decide(error, request.attempt, self._config, random.random())
        counts = self._weather.counts(error, since)
        if counts and again is None:
            counts = not await self._weather.is_silent(error, self._fetcher.reaches)
        if not counts:
            self._later(request.uncounted(), self._weather.pause_s())
            return None
        if again is not None:
            self._meter.retries += 1
            self._later(request.again(), again)
            return None
        if error.class_ in _REFUSALS:
            self._manners.refused(request.host)
        return Ended(endings.of_failure(request, error, failed.timings, failed.url, was_asked=was_asked))

    def _later(self, request: Request, wait_s: float) -> None:
        self._frontier.readmit(request, not_before=asyncio.get_running_loop().time() + wait_s)

    def _host_meter(self, host: str) -> HostMeter:
        """The host's counts; the oldest host makes room for a new one."""
        hosts = self._meter.hosts
        found = hosts.get(host)
        if found is None:
            if len(hosts) >= HOSTS_METERED:
                del hosts[next(iter(hosts))]
            found = hosts[host] = HostMeter()
        return found
