"""A run at one moment, in the numbers that displays show. In: the run's Meter, now and before. Out: a Snapshot.

Must never: take longer for more rows or hosts.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scraper.channel import ChannelStatistics
from scraper.errors import State, outcome_class
from scraper.meter import HostMeter, Meter

WINDOW_S = 15.0
"""What "now" is, for rates: long enough that a commit a second does not make them jump."""

HOSTS_LOOKED_AT = 500
HOSTS_SHOWN = 3
CLASSES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run at one moment, in the numbers that displays show.

    Attributes:
        elapsed_s: since the display began.
        done: rows ended, in earlier runs too.
        total: rows of the list; an estimate where ``is_estimate``; None where nothing is known.
        is_estimate: see ``total``.
        rows_per_s: lately.
        bytes_per_s: lately, as they came over the network.
        eta_s: until the end at that rate; None where that cannot be known.
        in_flight: fetches under way.
        transforming: items in the worker processes.
        retries: attempts beyond the first.
        ok: rows ended in this run.
        skipped, failed: as ``ok``.
        failures: the most frequent failed classes with their rows.
        channels: how full the queues are.
        paused: why nothing new is asked; empty while it goes on.
        waiting: why nothing is under way though there is something to do; empty where that is not so.
        slow_hosts: of hosts with something in flight those that take longest: name, fetches in flight, and mean
            seconds of a fetch.
    """

    elapsed_s: float
    done: int
    total: int | None
    is_estimate: bool
    rows_per_s: float
    bytes_per_s: float
    eta_s: float | None
    in_flight: int
    transforming: int
    retries: int
    ok: int
    skipped: int
    failed: int
    failures: Sequence[tuple[str, int]]
    channels: Sequence[ChannelStatistics]
    paused: Sequence[str]
    waiting: str
    slow_hosts: Sequence[tuple[str, int, float]]


class Watcher:
    """Takes snapshots of a meter, and remembers enough of the past to know rates.

    Args:
        meter: what to look at.
        clock: monotonic seconds.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._began = clock()
        self._past = deque([(self._began, self._ended, meter.fetched_bytes)])

    @property
    def _ended(self) -> int:
        # Of this run only: rows that earlier runs finished are passed over at no cost, and say nothing of pace.
        return sum(self._meter.by_class.values())

    def look(self) -> Snapshot:
        """The run now."""
        meter, now = self._meter, self._clock()
        self._past.append((now, self._ended, meter.fetched_bytes))
        while len(self._past) > 2 and self._past[1][0] < now - WINDOW_S:
            self._past.popleft()
        since, rows_then, bytes_then = self._past[0]
        seconds = max(1e-9, now - since)
        rows_per_s = (self._ended - rows_then) / seconds
        total, is_estimate = _total(meter)
        left = None if total is None else max(0, total - meter.rows_done)
        failures = [
            (name, rows) for name, rows in meter.by_class.items() if outcome_class(name).state is State.FAILED
        ]
        waiting = "" if meter.paused or meter.in_flight else meter.waiting()
        goes_on = rows_per_s > 0 and not meter.paused and not waiting
        return Snapshot(
            elapsed_s=now - self._began,
            done=meter.rows_done,
            total=total,
            is_estimate=is_estimate,
            rows_per_s=rows_per_s,
            bytes_per_s=(meter.fetched_bytes - bytes_then) / seconds,
            eta_s=left / rows_per_s if left is not None and goes_on else None,
            in_flight=meter.in_flight,
            transforming=meter.transforming,
            retries=meter.retries,
            ok=meter.count(State.OK),
            skipped=meter.count(State.SKIPPED),
            failed=meter.count(State.FAILED),
            failures=heapq.nlargest(CLASSES_SHOWN, failures, key=lambda one: one[1]),
            channels=tuple(meter.channels()),
            paused=tuple(meter.paused.values()),
            waiting=waiting,
            slow_hosts=_slow_hosts(meter.hosts, now),
        )


def _total(meter: Meter) -> tuple[int | None, bool]:
    if meter.rows_total is not None:
        return meter.rows_total, False
    if meter.fraction:
        return max(meter.rows_read, round(meter.rows_read / meter.fraction)), True
    return None, False


def _slow_hosts(hosts: dict[str, HostMeter], now: float) -> list[tuple[str, int, float]]:
    """Of the hosts that came first, since those that are still there after long are the ones in question."""
    some = itertools.islice(hosts.items(), HOSTS_LOOKED_AT)
    busy = [(name, host.in_flight, host.mean_s(now)) for name, host in some if host.in_flight]
    return heapq.nlargest(HOSTS_SHOWN, busy, key=lambda one: one[2])
