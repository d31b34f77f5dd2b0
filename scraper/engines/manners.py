"""What a request must pass before it goes out, and what its end means for its host.

In: requests that are leased, answers to them. Out: why one is not asked; and word to ``frontier.hosts``.
Must never: ask where robots.txt is not known; let a host be asked before the time it gave.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from typing import Final

from scraper.answers import Answer, Ask, Failed, Fetched, NotModified
from scraper.config import PolitenessConfig
from scraper.engines.treatment import Treatment, left_of
from scraper.errors import FetchFailed, outcome_class
from scraper.frontier import Frontier
from scraper.records import Request
from scraper.robots import Robots
from scraper.units import show_seconds

CLOSED_HOSTS: Final = 10_000
"""Hosts remembered that asked to wait for too long, the latest."""

_REFUSALS = frozenset({"robots.disallowed", "host.unavailable"})


class NotYet(enum.Enum):
    """Why a request cannot be made just now.

    UNKNOWN: it is not known what robots.txt says of it; ``learn`` comes first.
    UNREACHED: the host did not take a connection a moment ago; the request goes back, to wait for it.
    """

    UNKNOWN = enum.auto()
    UNREACHED = enum.auto()


class Manners:
    """One run's.

    Args:
        config: the user's limits.
        frontier: hands out requests, and is told of their hosts.
        robots: what sites say; None to ask nobody.
        treatment: notes what happened for the ledger.
        holds: until when hosts wanted to be left alone when the last run ended, in seconds since the epoch.
    """

    def __init__(
        self,
        config: PolitenessConfig,
        frontier: Frontier,
        robots: Robots | None,
        treatment: Treatment,
        holds: Mapping[str, float],
    ) -> None:
        self._config = config
        self._frontier = frontier
        self._hosts = frontier.hosts
        self._robots = robots
        self._treatment = treatment
        self._closed: dict[str, float] = {}  # until when, by the loop's clock
        for host, seconds in left_of(holds).items():
            self._leave_alone(host, seconds)

    async def learn(self, request: Request, ask: Ask) -> FetchFailed | NotYet | None:
        """Learn what robots.txt says of the request, in its turn; no other request of the host goes out meanwhile.

        Returns:
            Why the request is not to be made. None if it may be, in this same turn.

        Raises:
            SinkFailed: the disk on which it is kept refuses.
        """
        assert self._robots is not None
        host, asked = request.host, True
        self._hosts.shut(host)
        try:
            asked = await self._robots.learn(request, ask)
            verdict = self._robots.verdict(request)
            if verdict is not None and verdict.crawl_delay_s:
                self._hosts.crawl_delay(host, verdict.crawl_delay_s)
        finally:
            self._hosts.reopen(host, asked=asked)
        error = verdict.error if verdict is not None else None
        if error is not None and error.class_ != "host.unavailable":
            return error
        barred = self._counted(host, self._barred(request))
        return NotYet.UNREACHED if asked and barred is None else barred

    def bar(self, request: Request) -> FetchFailed | NotYet | None:
        """Why the request is not to be made; None if it may be."""
        host = request.host
        if self._frontier.is_given_up(request):
            why = self._hosts.why_waiting(host)
            self.refused(host)
            self._treatment.note(host, why)
            return FetchFailed("host.unavailable", f"{host} is not asked any more just now; it {why}.")
        barred = self._barred(request)
        if isinstance(barred, FetchFailed) or barred is NotYet.UNREACHED:
            self._hosts.unasked(host)
        return self._counted(host, barred)

    def _counted(self, host: str, barred: FetchFailed | NotYet | None) -> FetchFailed | NotYet | None:
        """The same, counted as a refusal of the host's if it is one."""
        if isinstance(barred, FetchFailed) and barred.class_ in _REFUSALS:
            self.refused(host)
        return barred

    def answered(self, request: Request, answer: Fetched | Answer, began: float) -> None:
        """A request that went out at ``began`` was answered, or failed for its host's sake."""
        host = request.host
        if isinstance(answer, Failed):
            asked = answer.timings.first_byte_ms if answer.error.status else 0.0
            self._ended(request, answer.error.class_, began, asked)
        elif isinstance(answer, Fetched):
            response = answer.response
            self._ended(request, "ok", began, response.timings.first_byte_ms, response.wire_bytes)
        else:
            self._ended(
                request, "ok", began, answer.timings.first_byte_ms if isinstance(answer, NotModified) else 0.0
            )
        self._treatment.touch(host)

    def _ended(self, request: Request, class_: str, began: float, first_byte_ms: float, count: int = 0) -> None:
        latency_s = first_byte_ms / 1e3 if first_byte_ms else None
        self._hosts.ended(request.host, class_, row=request.row, began=began, latency_s=latency_s, count=count)

    def heed(self, request: Request, error: FetchFailed) -> FetchFailed:
        """Leave a host alone for as long as it asked for. The error to go on with: that may be too long.

        What a server says by Retry-After is said of the server, not of the one URL (RFC 9110 10.2.3).
        """
        seconds = error.retry_after_s
        if not seconds or not error.class_.startswith("http."):
            return error
        self._treatment.hold(request.host, seconds)
        self._leave_alone(request.host, seconds)
        if seconds <= self._config.max_retry_after_s:
            return error
        late = self._too_long(seconds)
        late.status = error.status
        return late

    def refused(self, host: str) -> None:
        """A row ended because ``host`` does not want it kept."""
        self._hosts.refused(host)
        self._treatment.touch(host)

    def _barred(self, request: Request) -> FetchFailed | NotYet | None:
        if (left_s := self._closed_s(request.host)) > 0:
            return self._too_long(left_s)
        if self._robots is None:
            return None
        verdict = self._robots.verdict(request)
        if verdict is None:
            return NotYet.UNKNOWN
        if verdict.allowed:
            return None
        error = verdict.error
        if error is not None and error.class_ != "robots.unreachable" and outcome_class(error.class_).retry:
            # The host could not be reached a moment ago, for another row: no reason to give up this one.
            now = asyncio.get_running_loop().time()
            self._hosts.wait(request.host, now + (error.retry_after_s or 0.0))
            return NotYet.UNREACHED
        return error or FetchFailed("robots.disallowed", "The site's robots.txt forbids this URL.")

    def _closed_s(self, host: str) -> float:
        """Seconds for which ``host``, which asked for too many, is not to be asked."""
        until = self._closed.get(host)
        if until is None:
            return 0.0
        left_s = until - asyncio.get_running_loop().time()
        if left_s <= 0:
            del self._closed[host]
        return left_s

    def _too_long(self, seconds: float) -> FetchFailed:
        longest = show_seconds(self._config.max_retry_after_s)
        return FetchFailed(
            "host.unavailable",
            f"The server asks to come back in {show_seconds(seconds)}, which is longer than --max-retry-after "
            f"{longest}.",
        )

    def _leave_alone(self, host: str, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        if seconds <= self._config.max_retry_after_s:
            self._hosts.hold(host, until)
            return
        if host not in self._closed and len(self._closed) >= CLOSED_HOSTS:
            del self._closed[next(iter(self._closed))]
        self._closed[host] = max(until, self._closed.get(host, 0.0))
