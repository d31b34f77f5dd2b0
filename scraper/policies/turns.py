"""Whose turn it is: requests of many hosts in, the next one that may be asked now out.

    add ──▶ host's queue ──▶ line of hosts ──▶ gates ──▶ take … give_back
      └──▶ times (not before t) ──┘   ▲  parked ─┘
                                      └─invited─┘

A host stands in the line, once, while it has something queued and is neither parked at a gate nor kept back: held
until a time, shut, or failing. ``take`` serves the host in front and sends it to the back, so hosts alternate
whatever the order of the list. A host that has its place at one gate keeps it while it waits at the next; as all
pass their gates in the same order, its own group's and then its address's, no two wait for each other.

Must never: look at a host that the event is not about; let one pass a gate against its limits; lose a request.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

from scraper.policies.circuit import Circuit, Verdict
from scraper.policies.gates import NEVER, Gate, Gates, Parked
from scraper.records import Request

NO_HOST = ""
"""The host of a URL that has none. It passes no gates: such a row ends without anybody being asked."""

_ROUNDS = 4
"""Rounds of a group's requests that count towards the supply: enough for the groups that keep all workers busy to
keep the list unread as well."""


class Taken(NamedTuple):
    """A request that is out.

    Attributes:
        host: whose it is.
        request: what to ask.
        is_refused: it is not to be asked, since its host is given up. It has passed no gate.
    """

    host: str
    request: Request
    is_refused: bool


class _Host:
    """What is known of a host while there is anything to know; 1 KB or so with its queue."""

    __slots__ = (
        "alarm_at",
        "behind",
        "deferred",
        "gates",
        "held_until",
        "in_line",
        "is_parked",
        "is_shut",
        "name",
        "out",
        "places",
        "queue",
        "refused",
        "waiting",
    )

    def __init__(self, name: str, gates: tuple[Gate, ...]) -> None:
        self.name = name
        self.gates = gates
        self.queue: deque[Request] = deque()
        self.out = 0  # those that passed the gates
        self.refused = 0  # those out that did not
        self.deferred = 0  # requests of ours among the times
        self.held_until = -NEVER
        self.alarm_at = NEVER  # when we are no longer kept back; never, while we are not
        self.is_shut = False
        self.in_line = False
        self.is_parked = False
        self.behind: Parked | None = None
        self.places = 0  # gates, from the first, at which we have a place and have not started
        self.waiting = 0  # what we have added to the same of our group

    @property
    def is_kept_back(self) -> bool:
        return self.is_shut or self.alarm_at < NEVER


_Time = tuple[float, int, _Host | Gate, Request | None, bool]
"""When, tie-breaker, whose, the request to queue then or None for an alarm, whether in front."""


class Turns:
    """Fair turns between hosts, O(1) an event, O(log n) for what waits for a time.

    Args:
        gates: which gates a host passes.
        circuit: of a host that fails, None of the others.
    """

    def __init__(self, gates: Gates, circuit: Callable[[str], Circuit | None]) -> None:
        self._gates = gates
        self._circuit = circuit
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
        """Requests that could go out soon: of each group, of what is not kept back, as many as it may send."""

    def __repr__(self) -> str:
        return f"<Turns {self.hosts} hosts, {self.queued} queued, {self.out} out, {self.deferred} deferred>"

    @property
    def hosts(self) -> int:
        """Hosts of which anything is queued, out, deferred or held."""
        return len(self._hosts)

    def waiting(self, host: str) -> int:
        """Requests of ``host`` that are queued or deferred."""
        return len(entry.queue) + entry.deferred if (entry := self._hosts.get(host)) else 0

    def held_until(self, host: str) -> float:
        """Until when ``host`` is to be left alone; in the past if it is not."""
        return entry.held_until if (entry := self._hosts.get(host)) else -NEVER

    def gates_of(self, host: str) -> tuple[Gate, ...]:
        """The gates of a host of which there is anything; none of another."""
        return entry.gates if (entry := self._hosts.get(host)) else ()

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

    def take(self, now: float) -> Taken | None:
        """The next request, which is out from now on; None if nothing may go yet."""
        if self._times and self._times[0][0] <= now:
            self._strike(now)
        while self._line:
            entry = self._line.popleft()
            entry.in_line = False
            if entry.is_kept_back:
                continue  # since it lined up; each time costs one such look, once
            circuit = self._circuit(entry.name)
            verdict = circuit.verdict(now) if circuit else Verdict.GO
            if verdict is Verdict.REFUSE:
                self._drop_places(entry, now)
                return self._go(entry, is_refused=True)
            if circuit is not None and verdict is Verdict.WAIT:
                self._keep_back(entry, circuit.look_again_at(), now)
            elif self._pass(entry, now):
                self._start(entry, now)
                taken = self._go(entry, is_refused=False)
                if circuit is not None and circuit.is_open:
                    circuit.probe = taken.request.row
                return taken
        return None

    def give_back(self, taken: Taken, now: float) -> None:
        """A request that was taken is no longer out.

        Raises:
            ValueError: nothing of its host is out.
        """
        entry = self._hosts.get(taken.host)
        if entry is None or not (entry.refused if taken.is_refused else entry.out):
            raise ValueError(f"nothing of {taken.host!r} is out")
        self.out -= 1
        if taken.is_refused:
            entry.refused -= 1
        else:
            entry.out -= 1
            for gate in entry.gates:
                gate.out -= 1
                gate.taken -= 1
                if gate.parked is not None:
                    self._invite(gate, now)
        self._forget(entry)

    # What keeps a host back, and lets it go on.

    def hold(self, host: str, until: float, now: float) -> None:
        """Let nothing more of ``host`` go before ``until``. Holds only ever get longer."""
        if until > now:
            entry = self._entry(host)
            entry.held_until = max(entry.held_until, until)
            self._keep_back(entry, until, now)

    def shut(self, host: str, now: float) -> None:
        """Let nothing more of ``host`` go until it is reopened."""
        entry = self._entry(host)
        entry.is_shut = True
        self._drop_places(entry, now)
        self._settle(entry)

    def reopen(self, host: str) -> None:
        """The contrary of ``shut``."""
        if (entry := self._hosts.get(host)) is not None:
            entry.is_shut = False
            self._settle(entry)

    def reconsider(self, host: str) -> None:
        """The circuit of ``host`` has changed: keep it back no longer on its account."""
        entry = self._hosts.get(host)
        if entry is not None and entry.alarm_at < NEVER:
            entry.alarm_at = NEVER
            if entry.held_until > -NEVER:
                self._alarm(entry, entry.held_until)
            self._settle(entry)

    # What happens to gates.

    def changed(self, gate: Gate, now: float) -> None:
        """The limit or the gap of a gate is another."""
        self._supply(gate)
        self._invite(gate, now)

    def join(self, host: str, gate: Gate) -> None:
        """``host``, of which there is something, passes ``gate`` as well from now on; what is out has passed."""
        entry = self._hosts[host]
        entry.gates = (*entry.gates, gate)
        gate.out += entry.out
        gate.taken += entry.out

    def next_time(self) -> float | None:
        """When ``take`` may give more than it does now, without any other event; None if never."""
        return self._times[0][0] if self._times else None

    def next_name(self) -> str:
        """Whose time that is: a host, or what shares a gate; empty if there is none."""
        return self._times[0][2].name if self._times else ""

    def _entry(self, host: str) -> _Host:
        entry = self._hosts.get(host)
        if entry is None:
            entry = self._hosts[host] = _Host(host, () if host == NO_HOST else self._gates.enter(host))
        return entry

    def _push(self, when: float, entry: _Host | Gate, request: Request | None, front: bool) -> None:
        self._ticket += 1  # equal times come out in the order they went in
        heapq.heappush(self._times, (when, self._ticket, entry, request, front))

    def _alarm(self, whose: _Host | Gate, when: float) -> None:
        """One alarm of each counts, the one that it knows of; others in the heap have been forgotten."""
        whose.alarm_at = when
        self._push(when, whose, None, False)

    def _queue(self, entry: _Host, request: Request, front: bool) -> None:
        if front:
            entry.queue.appendleft(request)
        else:
            entry.queue.append(request)
        self.queued += 1
        self._settle(entry)

    def _keep_back(self, entry: _Host, until: float, now: float) -> None:
        if entry.alarm_at == NEVER:
            self._alarm(entry, until)
            self._drop_places(entry, now)
            self._settle(entry)

    def _strike(self, now: float) -> None:
        """Let come what has come."""
        while self._times and self._times[0][0] <= now:
            when, _, whose, request, front = heapq.heappop(self._times)
            if isinstance(whose, Gate):
                if when == whose.alarm_at:
                    whose.alarm_at = NEVER
                    self._invite(whose, now)
            elif request is not None:
                whose.deferred -= 1
                self.deferred -= 1
                self._queue(whose, request, front)
            elif when == whose.alarm_at:
                whose.alarm_at = NEVER
                if whose.held_until > now:
                    self._alarm(whose, whose.held_until)  # was held for longer meanwhile
                else:
                    whose.held_until = -NEVER
                    self._settle(whose)

    # The gates' side.

    def _pass(self, entry: _Host, now: float) -> bool:
        """Take a place at each gate; where there is none, park there."""
        if entry.places:
            for gate in entry.gates[: entry.places]:
                if not gate.may_start(now):
                    self._drop_places(entry, now)
                    entry.is_parked = True
                    gate.park_in_front(entry)
                    self._wake(gate, now)
                    return False
        while entry.places < len(entry.gates):
            gate = entry.gates[entry.places]
            if gate.parked is not None or not gate.has_place(now):
                entry.is_parked = True
                gate.park(entry)
                self._wake(gate, now)
                return False
            gate.taken += 1
            entry.places += 1
        return True

    def _drop_places(self, entry: _Host, now: float) -> None:
        places, entry.places = entry.places, 0
        for gate in entry.gates[:places]:
            gate.taken -= 1
            self._invite(gate, now)

    def _invite(self, gate: Gate, now: float) -> None:
        """Let as many of the parked go on as the gate has places for."""
        while gate.parked is not None and gate.has_place(now):
            entry = cast("_Host", gate.unpark())
            entry.is_parked = False
            if not entry.is_kept_back:
                if entry.gates[entry.places] is gate:  # else it was kept back meanwhile, and begins anew
                    gate.taken += 1
                    entry.places += 1
                entry.in_line = True
                self._line.append(entry)
        self._wake(gate, now)

    def _wake(self, gate: Gate, now: float) -> None:
        """Be back when nothing but the gap is in the way of who is parked."""
        when = gate.opens_at
        if gate.parked is not None and gate.taken < gate.limit and now < when < gate.alarm_at:
            self._alarm(gate, when)

    # One request goes.

    def _start(self, entry: _Host, now: float) -> None:
        for gate in entry.gates:
            gate.start(now)
            if gate.parked is not None:
                self._wake(gate, now)
        entry.places = 0

    def _go(self, entry: _Host, *, is_refused: bool) -> Taken:
        if is_refused:
            entry.refused += 1
        else:
            entry.out += 1
        self.out += 1
        self.queued -= 1
        request = entry.queue.popleft()
        self._count(entry, -1)
        if entry.queue:
            entry.in_line = True
            self._line.append(entry)
        return Taken(entry.name, request, is_refused)

    # The line, the supply and the table, kept in step with one host that changed.

    def _settle(self, entry: _Host) -> None:
        waiting = 0 if entry.is_kept_back else len(entry.queue)
        if waiting and not entry.in_line and not entry.is_parked:
            entry.in_line = True
            self._line.append(entry)
        if waiting != entry.waiting:
            self._count(entry, waiting - entry.waiting)
        self._forget(entry)

    def _count(self, entry: _Host, more: int) -> None:
        """So many more requests of a host wait for nothing but their turn."""
        entry.waiting += more
        if not entry.gates:
            self.supply += more
            return
        group = entry.gates[0]
        group.waiting += more
        self._supply(group)

    def _supply(self, group: Gate) -> None:
        """With a gap, no more than one of a group's requests can go soon."""
        supply = min(group.waiting, 1 if group.gap_s else _ROUNDS * group.limit)
        if supply != group.supply:
            self.supply += supply - group.supply
            group.supply = supply

    def _forget(self, entry: _Host) -> None:
        """If there is nothing of it any more."""
        if not (entry.queue or entry.out or entry.refused or entry.deferred or entry.is_kept_back):
            del self._hosts[entry.name]
            if entry.gates:
                self._gates.leave(entry.gates)
