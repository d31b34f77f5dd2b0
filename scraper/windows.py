"""The rows of the list that are let in: in memory as far as the windows go, the others on disk, host by host.

In: rows of the list, rows that end. Out: rows into their hosts' turns, to the backlog, and back from there.

How much there is of the list at any time is bounded in rows and in characters, in memory and on disk. A group of
hosts has a window as well: 1,000 hosts of one domain wait for one another, and must not fill the memory meanwhile.

Must never: hold more than ``window_total`` rows in memory; change the order of a host's rows; lose one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scraper.backlog import Backlog
from scraper.config import MIB, PermitConfig, PolitenessConfig
from scraper.errors import InternalFault
from scraper.hosts import Hosts
from scraper.policies.spilled import Spilled, weight
from scraper.policies.turns import NO_HOST
from scraper.records import Request

SLOW_WINDOW = 4
"""Rows in memory of a host that is kept back or has a gap, or of which nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the list is read ahead.

    Attributes:
        window_per_host: rows of one host in memory beyond which the list's go to the backlog, and half of those of
            a group of hosts. None for 16 rounds of a host's requests, at least 32: a reload of half of that is
            well worth a trip to the disk.
        window_total: rows of the list in memory. None for 20,000 (about 20 MB), or as much as it takes to give
            every worker a host with a full window, twice over.
        window_size: their characters, at which no more are let in. 64 Mi are 20,000 rows of 3,000; a row may have
            a million.
        look_ahead: rows in the backlog at which the list is not read on, whoever waits. A million take some
            120 MB, and a list sorted by host still finds its other hosts.
        look_ahead_size: their characters, the same. 512 Mi are a million rows with captions.
    """

    window_per_host: int | None = None
    window_total: int | None = None
    window_size: int = 64 * MIB
    look_ahead: int = 1_000_000
    look_ahead_size: int = 512 * MIB


class Windows:
    """The rows that are let in.

    Args:
        bounds: how many of them.
        permits: how many workers there are to feed.
        politeness: how many requests a host may have.
        hosts: takes the rows in memory.
        backlog: takes the others.
        came: called when rows have come back, with the error if they could not.

    Attributes:
        rows: in memory: neither ended nor in the backlog, those being reloaded included.
        spilled: those in the backlog.
    """

    def __init__(
        self,
        bounds: Bounds,
        permits: PermitConfig,
        politeness: PolitenessConfig,
        hosts: Hosts,
        backlog: Backlog,
        came: Callable[[BaseException | None], None],
    ) -> None:
        per_host = politeness.limits.per_host
        window = bounds.window_per_host or max(32, 16 * per_host)
        full_hosts = -(-permits.concurrency // per_host)
        total = bounds.window_total or max(20_000, 2 * full_hosts * window)
        if window < 1 or total < window or bounds.look_ahead < 1:
            raise ValueError("a host's window and the look-ahead need a row, and the total a host's window")
        self._bounds = bounds
        self._window = window
        self._total = total
        self._hosts = hosts
        self._turns = hosts.turns
        self._backlog = backlog
        self._came = came
        self._size = 0  # characters of what is in memory
        self.rows = 0
        self.spilled = Spilled()

    def __repr__(self) -> str:
        return f"<Windows {self.rows} rows in memory, {self.spilled.rows} spilled>"

    def have_room(self) -> bool:
        """Whether the list may be read on: there is room for what comes, wherever it goes.

        A quarter of the memory is left to the backlog, so that a host's rows on disk never wait for the list.
        """
        bounds = self._bounds
        return (
            self.rows < self._total - self._total // 4
            and self._size < bounds.window_size - bounds.window_size // 4
            and self.spilled.rows < bounds.look_ahead
            and self.spilled.size < bounds.look_ahead_size
        )

    def place(self, request: Request, now: float) -> bool:
        """Let a row of the list in: to memory; or, if False, to the disk, where the caller is to ``push`` it.

        To the disk goes what has no room in its windows, and all that comes after it of the same host.
        """
        host = request.host
        if host not in self.spilled:
            mine = self._turns.waiting(host)
            if host == NO_HOST or (mine < self._window_of(host) and self._has_room(host)):
                self.enter(request)
                self._turns.add(host, request, now)
                return True
            if not mine:
                self.spilled.absent(host, self._hosts.group(host).key)
        self.spilled.go(host, weight(request))
        return False

    def _window_of(self, host: str) -> int:
        """How many rows of a host may be in memory: few of one that is slow, where there is not much room left.

        Else 160 hosts with a delay of ten seconds would fill the memory, and nobody behind them be asked.
        """
        is_slow = self.rows >= self._total // 4 and self._hosts.is_slow(host)
        return min(self._window, SLOW_WINDOW) if is_slow else self._window

    def _has_room(self, host: str) -> bool:
        """Whether a group's window is full matters only once there is much in memory."""
        return self.rows < self._total // 4 or self._hosts.group(host).waiting < 2 * self._window

    def push(self, beyond: Sequence[Request]) -> asyncio.Future[None]:
        """To disk. Nothing may be reloaded between ``place`` and this, or it might look for what is not there yet.

        Raises:
            SinkFailed: the backlog's disk refused.
        """
        return self._backlog.push([(request.host, request) for request in beyond])

    def enter(self, request: Request) -> None:
        """A row is in memory from now on."""
        self.rows += 1
        self._size += weight(request)

    def leave(self, request: Request) -> None:
        """A row that was in memory has ended, or is counted anew."""
        self.rows -= 1
        self._size -= weight(request)

    def emptied(self, host: str) -> None:
        """There is less of a host in memory, or of its group: is it time to reload?"""
        if not self.spilled.rows or host == NO_HOST:
            return
        if host in self.spilled and self._turns.waiting(host) <= self._window_of(host) // 2:
            self.spilled.want(host)
        group = self._hosts.group(host)
        if group.waiting <= self._window:
            self.spilled.want_absent(group.key)

    def reload(self) -> None:
        """Fetch rows back, as far as there is room, for the hosts that have waited longest for it."""
        while True:
            room, space = self._total - self.rows, self._bounds.window_size - self._size
            if room <= 0 or space <= 0 or (host := self.spilled.next()) is None:
                return  # each row that ends comes by here again
            each = max(1, self.spilled.size // self.spilled.rows)
            limit = max(1, min(room, self._window_of(host) - self._turns.waiting(host), space // each))
            self.rows += limit
            self._size += limit * each
            self._backlog.pull(host, limit).add_done_callback(partial(self._reloaded, host, limit, limit * each))

    def _reloaded(self, host: str, limit: int, size: int, coming: asyncio.Future[list[Request]]) -> None:
        self.rows -= limit
        self._size -= size
        if coming.cancelled():
            return
        failure = coming.exception()
        if failure is None and not (requests := coming.result()):
            failure = InternalFault(f"Rows of {host} were lost between memory and disk: {self!r}.")
        if failure is None:
            self._take_in(host, requests)
        self._came(failure)

    def _take_in(self, host: str, requests: Sequence[Request]) -> None:
        self.spilled.come(host, len(requests), sum(weight(request) for request in requests))
        now = asyncio.get_running_loop().time()
        for request in requests:
            self.enter(request)
            self._turns.add(host, request, now)
        self.emptied(host)
