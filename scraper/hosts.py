"""What the hosts of a run may be asked for, and how they bear it: the frontier's side that the fetching talks to.

In: how requests ended, where they were dialled, what servers and robots.txt ask for. Out: the turns of the hosts,
which follow from it; and what a report says of each. Rules: ``scraper.policies`` (groups, pace, circuit, turns).

Must never: let a host be asked for more than its limits; wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from scraper.config import PolitenessConfig
from scraper.errors import Postponed
from scraper.policies.circuit import Circuits
from scraper.policies.groups import Group, Groups
from scraper.policies.pace import Pace, PaceSnapshot, Throttle
from scraper.policies.turns import NO_HOST, Turns

LONGEST_S = 5.0
"""Longest time that a request waits with its connection: servers close one that is idle for longer, and it keeps a
worker. Only a robots.txt that lies elsewhere comes to that, whose host has turns of its own."""


class Hosts:
    """The hosts of one run. A host is ``Request.host`` throughout; times are the loop's.

    Args:
        politeness: the user's limits.
        moved: called when requests may go that could not before.

    Attributes:
        turns: whose turn it is.
        circuits: the hosts that fail.
        on_forgotten: told what was counted of a group that is forgotten, 20,000 others being idle as well. What it
            does not note is in no report.
    """

    def __init__(self, politeness: PolitenessConfig, moved: Callable[[], None]) -> None:
        self._now = asyncio.get_running_loop().time
        self._groups = Groups(politeness, lambda group: self.on_forgotten(group.snapshot(self._now())))
        self._moved = moved
        throttled_s = max(politeness.host_wait_s, politeness.max_retry_after_s)
        self.circuits = Circuits(
            politeness.host_failures, politeness.host_wait_s, self._reconsider, throttled_s=throttled_s
        )
        self.turns = Turns(self._groups, self.circuits.get)
        self.on_forgotten: Callable[[PaceSnapshot], None] = lambda _: None

    def __repr__(self) -> str:
        return f"<Hosts {self._groups!r}, {self.circuits!r}>"

    def group(self, host: str) -> Group:
        """The group of the host's domain."""
        gates = self.turns.gates_of(host)
        return cast("Group", gates[0]) if gates else self._groups.of(host)

    # What the fetching tells.

    def ended(
        self, host: str, class_: str, *, row: int, began: float, latency_s: float | None = None, count: int = 0
    ) -> None:
        """A request to ``host`` ended. Tell it before the lease is left, and not of what is the network's fault.

        Args:
            host: who was asked.
            class_: the outcome class; ``ok`` for any success.
            row: the row that was asked for.
            began: when it was asked.
            latency_s: from the request to the first byte of its answer; None if none came.
            count: bytes that came.
        """
        if host == NO_HOST:
            return
        now = self._now()
        group = self.group(host)
        assert group.pace is not None
        self.circuits.ended(host, class_, row, now, is_known=group.pace.answers > 0)
        group.pace.ended(class_, latency_s, count, now, began=began, out=group.out)
        self._follow(group, now)

    def unasked(self, host: str) -> None:
        """A request that was leased just now, and not for being given up, is not made: it counts for no start.

        Tell it before anything else is waited for, but for the robots.txt of ``host``, which has taken its place.
        """
        for gate in self.turns.gates_of(host):
            gate.unstart()

    def refused(self, host: str) -> None:
        """A row ended without ``host`` being asked, by robots.txt or for the host being given up."""
        if (pace := self._pace(host)) is not None:
            pace.refusals += 1

    def located(self, host: str, address: str) -> None:
        """``host``, of which a request is leased, is dialled at ``address``. The first one counts."""
        gates = cast("tuple[Group, ...]", self.turns.gates_of(host))
        if len(gates) == 1 and gates[0].is_bound:
            self.turns.join(host, self._groups.at(address))

    def crawl_delay(self, host: str, seconds: float) -> None:
        """The robots.txt of ``host`` asks for so much time between two requests. Its group heeds the longest."""
        group = self.group(host)
        assert group.pace is not None
        group.pace.crawl_delay(seconds)
        self._follow(group, self._now())

    def hold(self, host: str, until: float) -> None:
        """Let no request of ``host`` go out before ``until``: it asked for that (Retry-After)."""
        if (pace := self._pace(host)) is not None:
            pace.held_until = max(pace.held_until, until)
        self.wait(host, until)

    def wait(self, host: str, until: float) -> None:
        """Let no request of ``host`` go out before ``until``: it is not worth it."""
        self.turns.hold(host, until, self._now())
        self._moved()

    def shut(self, host: str) -> None:
        """Let no request of ``host`` go out before ``reopen``: its robots.txt is being asked for."""
        self.turns.shut(host, self._now())

    def reopen(self, host: str, *, asked: bool) -> None:
        """Let requests of ``host`` go out again. ``asked``: in the place of whoever waited for its robots.txt."""
        for gate in self.turns.gates_of(host) if asked else ():
            gate.start_before = gate.last_start
        self.turns.reopen(host)
        self._moved()

    def is_slow(self, host: str) -> bool:
        """Whether nothing, or one request at a time, goes to ``host`` just now, as far as is known."""
        group, circuit = self.group(host), self.circuits.get(host)
        is_held = self.turns.held_until(host) > self._now() or (circuit is not None and circuit.is_open)
        return is_held or group.gap_s > 0 or not (group.pace and group.pace.answers)

    def why_waiting(self, name: str) -> str:
        """Why nothing goes out to a host or a group of that name, for people; empty where that is not known."""
        circuit = self.circuits.get(name)
        if circuit is not None and circuit.is_open:
            return f"fails: {circuit.last}"
        return self._groups.of(name).snapshot(self._now()).why if name else ""

    def send(self, host: str) -> float:
        """A request to ``host`` has its connection: seconds that it is to wait all the same; 0 to go now.

        How long a connection takes to be made differs; so requests that started with the right gap may be ready to
        be sent without one.

        Raises:
            Postponed: the host has asked to be left alone meanwhile, or it would be long.
        """
        now = self._now()
        if (left_s := self.turns.held_until(host) - now) > 0:
            raise Postponed("host.unavailable", f"{host} asked to be left alone.", retry_after_s=left_s)
        gates = self.turns.gates_of(host) or (self.group(host),)  # of robots.txt elsewhere nothing is leased
        wait_s = max(gate.sent_at + gate.gap_s - now if gate.gap_s else 0.0 for gate in gates)
        if wait_s > LONGEST_S:
            raise Postponed("host.unavailable", f"It is not the turn of {host}.", retry_after_s=wait_s)
        if wait_s <= 0:
            for gate in gates:
                if gate.gap_s:
                    gate.sent_at = now
        return max(0.0, wait_s)

    def throttles(self, host: str) -> tuple[Throttle, ...]:
        """What whoever reads from ``host``, of which a request is leased, must ask how long to wait."""
        groups = cast("tuple[Group, ...]", self.turns.gates_of(host))
        return tuple(group.throttle for group in groups if group.throttle is not None)

    def _pace(self, host: str) -> Pace | None:
        return self.group(host).pace if host != NO_HOST else None

    def _reconsider(self, host: str) -> None:
        self.turns.reconsider(host)

    def _follow(self, group: Group, now: float) -> None:
        if group.follow():
            self.turns.changed(group, now)
