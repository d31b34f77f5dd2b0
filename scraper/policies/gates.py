"""What the requests of several hosts must pass, one by one: a group of hosts. Who may pass now, who waits in line.

    enter ─▶ may pass: a place is taken ─▶ start ─▶ give_back
       └──▶ parked, first come first served ─▶ invited as soon as there is a place

Must never: have more out than the limit; let two start closer together than the gap; let one overtake another.
"""

from __future__ import annotations

from typing import Protocol

NEVER = float("inf")


class Parked(Protocol):
    """What can wait at a gate: at one at a time, so that its link to the next can be its own."""

    behind: Parked | None


class Gate:
    """Limits on all that pass it. Times are seconds of any monotonic clock.

    Attributes:
        limit: requests that may be out at once.
        gap_s: least time between two starts.
        parked: whoever has waited longest; None if nobody waits.
        taken: places taken, by those that are out and by those that will start soon.
        out: requests out.
        first_start, last_start: when the first and the last request started; 0 and never before there is one.
        start_before: when the one before the last did.
        sent_at: when the last one was sent, which is once it had its connection; kept where there is a gap.
        alarm_at: when somebody will look whether the parked may go on; never, while nobody will.
        waiting: requests of its hosts that wait for nothing but their turn.
        supply: how many of them could go soon.
    """

    __slots__ = (
        "_last",
        "alarm_at",
        "first_start",
        "gap_s",
        "last_start",
        "limit",
        "out",
        "parked",
        "sent_at",
        "start_before",
        "supply",
        "taken",
        "waiting",
    )

    def __init__(self, limit: int, gap_s: float = 0.0) -> None:
        self.limit = limit
        self.gap_s = gap_s
        self.taken = self.out = 0
        self.first_start = 0.0
        self.last_start = self.start_before = self.sent_at = -NEVER
        self.alarm_at = NEVER
        self.waiting = self.supply = 0
        # Linked through the parked themselves: an empty deque takes 760 bytes, as much as all the rest of a host.
        self.parked: Parked | None = None
        self._last: Parked | None = None

    @property
    def name(self) -> str:
        """Who shares it, for people."""
        return ""

    @property
    def opens_at(self) -> float:
        """When the gap after the last start is over."""
        return self.last_start + self.gap_s

    def has_place(self, now: float) -> bool:
        """Whether one more may have a place. Where there is a gap the next one's begins with a start to come."""
        return (
            self.taken < self.limit
            and self.last_start + self.gap_s <= now
            and (not self.gap_s or self.taken == self.out)
        )

    def may_start(self, now: float) -> bool:
        """Whether a place that was taken some time ago is still good: limits may have changed meanwhile."""
        return self.out < self.limit and self.last_start + self.gap_s <= now

    def start(self, now: float) -> None:
        """Whoever has a place goes out."""
        if not self.first_start:
            self.first_start = now
        self.out += 1
        self.start_before = self.last_start
        self.last_start = now

    def unstart(self) -> None:
        """Whoever started last has asked nobody: it is no start, and the gap is none for the next."""
        self.last_start = self.start_before

    def park(self, one: Parked) -> None:
        """Behind the others."""
        if self._last is None:
            self.parked = one
        else:
            self._last.behind = one
        self._last = one

    def park_in_front(self, one: Parked) -> None:
        """Before the others: it has had its turn."""
        one.behind = self.parked
        self.parked = one
        if self._last is None:
            self._last = one

    def unpark(self) -> Parked | None:
        """Whoever has waited longest; None if nobody waits."""
        one = self.parked
        if one is not None:
            self.parked, one.behind = one.behind, None
            if self.parked is None:
                self._last = None
        return one


class Gates(Protocol):
    """Knows which gates a host must pass."""

    def enter(self, host: str) -> tuple[Gate, ...]:
        """There is something of ``host`` from now on. Its own group's gate comes first."""

    def leave(self, gates: tuple[Gate, ...]) -> None:
        """There is no more of a host that had these gates."""
