"""Whose turn it is: requests of many hosts in, the next one that may be asked now out.

    add ──▶ host's queue ──▶ line of hosts ──▶ take … give_back
      └──▶ times (not before t) ──┘              one permit out per take

A host stands in the line, once, while it has something queued, a free permit, and is not held. ``take`` serves the
host in front and sends it to the back, so hosts alternate whatever the order of the list.

Must never: look at a host that the event is not about; have more than ``per_host`` of a host out; lose a request.
"""

from __future__ import annotations

import heapq
from collections import deque

from scraper.records import Request

NO_HOST = ""
"""The host of a URL that has none. It needs no permit: such a row ends without anybody being asked."""


class _Host:
    """What is known of a host while there is anything to know; 1 KB or so with its queue."""

    __slots__ = ("deferred", "held_until", "in_line", "is_held", "name", "out", "permits", "queue", "supply")

    def __init__(self, name: str, permits: int | None) -> None:
        self.name = name
        self.permits = permits  # None: no bound
        self.queue: deque[Request] = deque()
        self.out = 0
        self.deferred = 0  # requests of ours among the times
        self.is_held = False  # true exactly while an alarm of ours is among the times
        self.held_until = 0.0
        self.in_line = False
        self.supply = 0


_Time = tuple[float, int, _Host, Request | None, bool]
"""When, tie-breaker, host, the request to queue then or None for the end of a hold, whether in front."""


class Turns:
    """Fair turns between hosts, O(1) an event, O(log n) for what waits for a time.

    Args:
        per_host: most requests of one host that may be out at once.
        supply_per_host: how many queued requests of a host count towards ``supply``.
    """

    def __init__(self, per_host: int, supply_per_host: int) -> None:
        if per_host < 1 or supply_per_host < 1:
            raise ValueError("a host needs at least one permit, and to count for at least one request")
        self._per_host = per_host
        self._supply_per_host = supply_per_host
        self._hosts: dict[str, _Host] = {}
        self._line: deque[_Host] = deque()
        self._times: list[_Time] = []
        self._ticket = 0
        self.queued = 0
        """Requests that wait for nothing but their host's turn."""
        self.out = 0
        """Requests taken and not given back."""
        self.deferred = 0
        """Requests that wait for a time."""
        self.supply = 0
        """Requests that could go out soon: of each host that is not held, as many as ``supply_per_host``."""

    def __repr__(self) -> str:
        return f"<Turns {self.hosts} hosts, {self.queued} queued, {self.out} out, {self.deferred} deferred>"

    @property
    def hosts(self) -> int:
        """Hosts of which anything is queued, out, deferred or held."""
        return len(self._hosts)

    def waiting(self, host: str) -> int:
        """Requests of ``host`` that are queued or deferred."""
        entry = self._hosts.get(host)
        return len(entry.queue) + entry.deferred if entry else 0

    def add(
        self, host: str, request: Request, now: float, *, front: bool = False, not_before: float = 0.0
    ) -> None:
        """Queue ``request`` under ``host``: at the back, or in front, once ``not_before`` has come."""
        entry = self._entry(host)
        if not_before > now:
            entry.deferred += 1
            self.deferred += 1
            self._push(not_before, entry, request, front)
        else:
            self._queue(entry, request, front)

    def take(self, now: float) -> tuple[str, Request] | None:
        """The next request and its host, one permit of which is now out; None if nothing may go yet."""
        self._strike(now)
        while self._line:
            entry = self._line.popleft()
            entry.in_line = False
            if entry.is_held:
                continue  # since it lined up; each hold costs one such look, once
            request = entry.queue.popleft()
            entry.out += 1
            self.queued -= 1
            self.out += 1
            self._settle(entry)
            return entry.name, request
        return None

    def give_back(self, host: str) -> None:
        """Give back the permit of a request that was taken.

        Raises:
            ValueError: nothing of ``host`` is out.
        """
        entry = self._hosts.get(host)
        if entry is None or entry.out == 0:
            raise ValueError(f"no permit of {host!r} is out")
        entry.out -= 1
        self.out -= 1
        self._settle(entry)

    def hold(self, host: str, until: float, now: float) -> None:
        """Let nothing more of ``host`` go before ``until``. Holds only ever get longer."""
        if until <= now:
            return
        entry = self._entry(host)
        entry.held_until = max(entry.held_until, until)
        if not entry.is_held:
            entry.is_held = True
            self._push(until, entry, None, False)
            self._settle(entry)

    def next_time(self) -> float | None:
        """When ``take`` may give more than it does now, without any other event; None if never."""
        return self._times[0][0] if self._times else None

    def _entry(self, host: str) -> _Host:
        entry = self._hosts.get(host)
        if entry is None:
            entry = self._hosts[host] = _Host(host, None if host == NO_HOST else self._per_host)
        return entry

    def _push(self, when: float, entry: _Host, request: Request | None, front: bool) -> None:
        self._ticket += 1  # equal times come out in the order they went in
        heapq.heappush(self._times, (when, self._ticket, entry, request, front))

    def _queue(self, entry: _Host, request: Request, front: bool) -> None:
        if front:
            entry.queue.appendleft(request)
        else:
            entry.queue.append(request)
        self.queued += 1
        self._settle(entry)

    def _strike(self, now: float) -> None:
        """Let come what has come."""
        while self._times and self._times[0][0] <= now:
            _, _, entry, request, front = heapq.heappop(self._times)
            if request is not None:
                entry.deferred -= 1
                self.deferred -= 1
                self._queue(entry, request, front)
            elif entry.held_until > now:
                self._push(entry.held_until, entry, None, False)  # was held for longer meanwhile
            else:
                entry.is_held = False
                self._settle(entry)

    def _settle(self, entry: _Host) -> None:
        """Bring the line, the supply and the table in step with one host that changed."""
        waiting = len(entry.queue)
        has_permit = entry.permits is None or entry.out < entry.permits
        if waiting and has_permit and not entry.is_held and not entry.in_line:
            entry.in_line = True
            self._line.append(entry)
        supply = 0 if entry.is_held else waiting
        if entry.permits is not None and supply > self._supply_per_host:
            supply = self._supply_per_host
        self.supply += supply - entry.supply
        entry.supply = supply
        if not (waiting or entry.out or entry.deferred or entry.is_held):
            del self._hosts[entry.name]
