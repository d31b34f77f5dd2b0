"""How fast a group of hosts is asked. In: how requests ended. Out: how many at once, how far apart.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681):

    answers as they should be    2 at once, and twice as many each round trip until the first cut, then one more
                                 each round trip; never more than ``per_host``
    429, 503, timeouts           half as many at once, if it went out after the last cut
    much slower answers          the same, if it went out a round trip after that
    429 or 503 at one at once    a pause between requests: 0.25 s, doubling to 60 s, a tenth less with each answer

Must never: ask for more than the limits allow; take our own slowness for the host's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from scraper.config import HostLimits
from scraper.errors import RETRIED_STATUSES
from scraper.policies.limits import spacing_s

FIRST_WINDOW = 2
ROUND_TRIP_S = 1.0
"""Cuts are at least so far apart, or the latency if that is longer: one burst of refusals is one refusal."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 60.0
_PAUSE_SHRINKS = 0.9
"""Where a host bears one request in so many seconds, one in seven is then refused; by halving, one in two."""

JUMP_TIMES, JUMP_S = 3.0, 0.5
"""Answers count as slower that take three times as long as in the long run, and half a second longer: our own
loop is late by tens of milliseconds at full load, and what it adds is no reason to spare the host."""

_JUMP_AFTER = 8
_NEAR, _FAR = 4, 100
"""Answers over which the last and the long-run latency are smoothed."""

THROTTLED = "429 or 503"
TIMEOUTS = "timeouts"
SLOWER = "slower answers"
_CUTS = {"http.429": THROTTLED, "http.503": THROTTLED, "timeout.stall": TIMEOUTS, "timeout.total": TIMEOUTS}


@functools.lru_cache(1024)
def is_good(class_: str) -> bool:
    """Whether an attempt that ended so shows a host that bears what it is asked for."""
    if not class_.startswith("http."):
        return class_.startswith(("ok", "redirect.", "body.empty", "body.too_large", "optout."))
    status = int(class_[5:])
    return status < 500 and status not in RETRIED_STATUSES


@dataclass(frozen=True, slots=True)
class PaceSnapshot:
    """What a report says of a group of hosts.

    Attributes:
        key: the group: a registrable domain, a pattern of the user's, an address; with a port if that is unusual.
        requests: requests that went out.
        answers: responses that came, whatever they said.
        throttled: those that said 429 or 503.
        refusals: rows that ended without being asked: robots.txt, a host that is given up.
        bytes: of bodies.
        first_start, last_start: when the first and the last request went out, by the loop's clock; 0 for none.
        window: requests at once that it bears.
        delay_s: least time between the beginnings of two requests at present.
        why: what holds it back at present, for people; empty for nothing.
    """

    key: str
    requests: int
    answers: int
    throttled: int
    refusals: int
    bytes: int
    first_start: float
    last_start: float
    window: int
    delay_s: float
    why: str


class Throttle:
    """A bound on bytes a second, shared by all who read. Whoever has read waits as long as ``spend`` says."""

    __slots__ = ("_bytes_per_s", "_free_at")

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = float("-inf")

    def spend(self, count: int, now: float) -> float:
        """Seconds to wait before reading on, ``count`` bytes having been read."""
        self._free_at = max(self._free_at, now) + count / self._bytes_per_s
        return self._free_at - now


class Pace:
    """The pace of one group. Times are seconds of any monotonic clock.

    Args:
        limits: what the group may be asked for at most.
        adaptive: False for as much as the limits allow, whatever comes of it.

    Attributes:
        window: requests at once; only whole ones count.
        gap_s: least time between the beginnings of two requests.
        held_until: until when a server asked to wait (Retry-After).
        requests, answers, throttled, refusals, bytes: see ``PaceSnapshot``.
    """

    __slots__ = (
        "_adaptive",
        "_bad_at",
        "_crawl_delay_s",
        "_cut_at",
        "_cut_by",
        "_far_s",
        "_limits",
        "_near_s",
        "_pause_s",
        "_timed",
        "answers",
        "bytes",
        "gap_s",
        "held_until",
        "refusals",
        "requests",
        "throttled",
        "window",
    )

    def __init__(self, limits: HostLimits, *, adaptive: bool) -> None:
        self._limits = limits
        self._adaptive = adaptive
        self._bad_at = self._cut_at = float("-inf")
        self._cut_by = ""
        self._near_s = self._far_s = 0.0
        self._timed = 0
        self._pause_s = 0.0
        self.window: float = min(FIRST_WINDOW, limits.per_host) if adaptive else limits.per_host
        self._crawl_delay_s = 0.0
        self.gap_s = spacing_s(limits)
        self.held_until = float("-inf")
        self.requests = self.answers = self.throttled = self.refusals = self.bytes = 0

    def crawl_delay(self, seconds: float) -> None:
        """A robots.txt asks for so much time between two requests. The longest is heeded."""
        self._crawl_delay_s = max(self._crawl_delay_s, seconds)
        self._pause(self._pause_s)

    def ended(
        self, class_: str, latency_s: float | None, count: int, now: float, *, began: float, out: int
    ) -> None:
        """A request ended.

        Args:
            class_: how.
            began: when it went out.
            latency_s: to the first byte of its answer; None if none came.
            count: bytes of its body.
            now: when.
            out: requests of the group that were out, this one included. A window of which less than a half is used
                does not grow: nothing shows that the host bears it (RFC 7661).
        """
        self.requests += 1
        self.bytes += count
        cut_by = _CUTS.get(class_, "")
        if cut_by == THROTTLED:
            self.throttled += 1
        if latency_s is not None:
            self.answers += 1
            # A refusal is quick, whatever the state of what it protects.
            if not cut_by and self._is_slower(latency_s):
                cut_by = SLOWER
        if not self._adaptive:
            return
        round_trip_s = max(ROUND_TRIP_S, self._near_s)
        if cut_by:
            self._bad_at = now
            # What went out before the last cut says nothing of what came of it; slowness lasts for a while.
            if began >= self._cut_at + (round_trip_s if cut_by == SLOWER else 0.0):
                self._cut(cut_by, now)
        elif is_good(class_) and now - self._bad_at >= round_trip_s:
            self._grow(out)

    def why(self, now: float) -> str:
        """What holds it back, for people; empty for nothing."""
        if now < self.held_until:
            return "Retry-After"
        if gap := self.gap_s:
            reasons = {
                THROTTLED: self._pause_s,
                "robots.txt Crawl-delay": self._crawl_delay_s,
                "--delay": self._limits.delay_s,
            }
            return next((reason for reason, seconds in reasons.items() if seconds == gap), "--rate")
        if self.window < self._limits.per_host and self._cut_by:
            return self._cut_by
        return "--bandwidth" if self._limits.bandwidth else ""

    def _is_slower(self, latency_s: float) -> bool:
        """Note how long an answer took. True if answers take much longer than they used to.

        Each is taken for twice what counts as slower at most, so that it takes three in a row to make a jump: one
        page that is slow to make says nothing of the host.
        """
        bound = max(JUMP_TIMES * self._far_s, self._far_s + JUMP_S)
        may_judge = self._timed >= _JUMP_AFTER
        if may_judge:
            latency_s = min(latency_s, 2 * bound)
        self._timed += 1
        self._near_s += (latency_s - self._near_s) / min(self._timed, _NEAR)
        self._far_s += (latency_s - self._far_s) / min(self._timed, _FAR)
        return may_judge and self._near_s > bound

    def _cut(self, by: str, now: float) -> None:
        if self.window < 2 and by == THROTTLED:
            self._pause(min(max(FIRST_PAUSE_S, 2 * self._pause_s), LAST_PAUSE_S))
        self.window = max(1.0, self.window / 2)
        self._cut_at = now
        self._cut_by = by

    def _grow(self, out: int) -> None:
        if self._pause_s:
            shrunk = self._pause_s * _PAUSE_SHRINKS
            self._pause(shrunk if shrunk >= FIRST_PAUSE_S else 0.0)
        elif 2 * out >= int(self.window):
            step = 1 / self.window if self._cut_by else 1.0
            self.window = min(self.window + step, float(self._limits.per_host))

    def _pause(self, seconds: float) -> None:
        self._pause_s = seconds
        self.gap_s = max(spacing_s(self._limits), self._crawl_delay_s, seconds)
