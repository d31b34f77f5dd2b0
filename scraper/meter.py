"""What is happening now, as plain numbers that stages bump and progress reads. No locks: one thread, the loop's.

The ledger is the truth about rows; this is the view of the moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scraper.channel import ChannelStatistics
from scraper.errors import State, outcome_class


@dataclass(slots=True)
class HostMeter:
    """One host.

    Attributes:
        in_flight: fetches under way.
        done: fetches that ended, well or not.
        seconds: summed over the fetches that ended.
        begun: when they began, by a monotonic clock, summed over the fetches under way.
    """

    in_flight: int = 0
    done: int = 0
    seconds: float = 0.0
    begun: float = 0.0

    def mean_s(self, now: float) -> float:
        """Seconds a fetch takes: those that ended, or those under way so far if that is more."""
        ended = self.seconds / self.done if self.done else 0.0
        return max(ended, now - self.begun / self.in_flight if self.in_flight else 0.0)


@dataclass(slots=True)
class Meter:
    """Counts since the run began.

    Attributes:
        rows_read: rows the source has given so far, those an earlier run had finished included.
        rows_before: rows of these that an earlier run had finished.
        rows_total: all rows of the list, once known.
        fraction: how much of the list has been read, for an ETA before ``rows_total`` is known.
        by_class: rows ended in this run, by outcome class.
        fetched_bytes: bytes of bodies, on the wire.
        written_bytes: bytes of items.
        in_flight: fetches under way.
        transforming: items in the worker processes.
        retries: attempts beyond the first.
        asked: fetches begun, the hops of redirects and retries included.
        paused: why nothing new is asked at present, by reason, in words for people; empty while it goes on.
        waiting: asks why nothing is under way though there is something to do, in words for people.
        hosts: the hosts asked last, at most a thousand.
        channels: asks the channels for their statistics.
    """

    rows_read: int = 0
    rows_before: int = 0
    rows_total: int | None = None
    fraction: float | None = None
    by_class: Counter[str] = field(default_factory=Counter)
    fetched_bytes: int = 0
    written_bytes: int = 0
    in_flight: int = 0
    transforming: int = 0
    retries: int = 0
    asked: int = 0
    paused: dict[str, str] = field(default_factory=dict)
    waiting: Callable[[], str] = str
    hosts: dict[str, HostMeter] = field(default_factory=dict)
    channels: Callable[[], Sequence[ChannelStatistics]] = tuple

    @property
    def rows_done(self) -> int:
        """Rows ended, in this run and before."""
        return self.rows_before + sum(self.by_class.values())

    def count(self, state: State) -> int:
        """Rows ended in this run in the given state."""
        return sum(n for name, n in self.by_class.items() if outcome_class(name).state is state)
