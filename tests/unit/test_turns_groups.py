"""Turns of hosts that share gates: how many, how far apart, who is next, and that nobody is forgotten."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scraper.policies.circuit import Circuit, Circuits
from scraper.policies.gates import Gate
from scraper.policies.turns import Taken, Turns
from scraper.records import Request


class Shared:
    """Hosts whose gates are given."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self.gates = gates

    def enter(self, host: str) -> tuple[Gate, ...]:
        """The gate of the host's group."""
        return (self.gates[host],)

    def leave(self, gates: tuple[Gate, ...]) -> None:
        """Nothing is kept of who is there."""


def working(_: str) -> Circuit | None:
    """No host fails."""
    return None


def turns_of(**gates: Gate) -> Turns:
    """Turns of hosts, each named with its gate."""
    return Turns(Shared(gates), working)


def add(turns: Turns, host: str, *rows: int, now: float = 0.0) -> None:
    """Queue rows."""
    for number in rows:
        turns.add(host, Request(number, f"http://{host}/"), now)


def take(turns: Turns, now: float = 0.0) -> list[Taken]:
    """All that may go."""
    return list(iter(lambda: turns.take(now), None))


def rows(taken: list[Taken]) -> list[int]:
    """Their numbers."""
    return [each.request.row for each in taken]


def test_hosts_of_a_group_share_its_limit() -> None:
    """Three hosts of one group have as many out together as one has, and take turns."""
    group = Gate(2)
    turns = turns_of(a=group, b=group, c=group)
    add(turns, "a", 0, 1)
    add(turns, "b", 10, 11)
    add(turns, "c", 20)
    out = take(turns)
    assert rows(out) == [0, 10]
    order = []
    while out:
        turns.give_back(out.pop(0), 0.0)
        new = take(turns)
        order += rows(new)
        out += new
    assert order == [20, 1, 11]
    assert group.taken == group.out == group.waiting == group.supply == 0


def test_starts_are_a_gap_apart() -> None:
    """With a gap one request goes each time it is over, to the instant, however many hosts."""
    group = Gate(8, gap_s=1.5)
    turns = turns_of(a=group, b=group)
    add(turns, "a", 0, 1)
    add(turns, "b", 2, 3)
    now, starts = 0.0, []
    while (found := turns.next_time()) is not None or turns.queued:
        now = now if found is None else found
        out = take(turns, now)
        starts += [(now, each.request.row) for each in out]
        if not out:
            assert found is not None
        for each in out:
            turns.give_back(each, now)
        if not turns.queued:
            break
    assert starts == [(0.0, 0), (1.5, 2), (3.0, 1), (4.5, 3)]


def test_hosts_go_in_turn_with_a_gap_between() -> None:
    """Each time the gap is over whoever has waited longest goes."""
    group = Gate(8, gap_s=1.0)
    turns = turns_of(**dict.fromkeys("abcd", group))
    for number, host in enumerate("abcd"):
        add(turns, host, number)
    assert [rows(take(turns, float(now))) for now in range(4)] == [[0], [1], [2], [3]]


def test_a_gap_is_kept_when_the_host_comes_back_later() -> None:
    """The gap is one between starts, and outlasts the rows: time that has passed in between counts."""
    group = Gate(8, gap_s=2.0)
    turns = turns_of(a=group)
    add(turns, "a", 0)
    turns.give_back(take(turns, 0.0)[0], 0.5)
    add(turns, "a", 1, now=1.0)
    assert take(turns, 1.0) == []
    assert turns.next_time() == 2.0
    turns.give_back(take(turns, 2.0)[0], 2.0)
    add(turns, "a", 2, now=9.0)
    assert rows(take(turns, 9.0)) == [2]


def test_a_longer_gap_and_a_lower_limit_hold_at_once() -> None:
    """Whoever has a place already when limits get tighter waits for the new ones."""
    group = Gate(2)
    turns = turns_of(a=group, b=group, c=group)
    for number, host in enumerate("abc"):
        add(turns, host, number)
    out = take(turns)
    turns.give_back(out.pop(), 0.0)  # c is invited
    group.limit = 1
    turns.changed(group, 0.0)
    assert take(turns) == []
    turns.give_back(out.pop(), 0.0)
    group.gap_s = 5.0
    turns.changed(group, 0.0)
    assert take(turns, 4.9) == []
    assert rows(take(turns, 5.0)) == [2]
    add(turns, "a", 3, 4, 5, now=5.0)
    assert take(turns, 5.0) == []
    group.gap_s, group.limit = 0.0, 9
    turns.changed(group, 5.0)
    assert rows(take(turns, 5.0)) == [3, 4, 5]


def test_nobody_overtakes_who_is_parked() -> None:
    """A place that comes free in between goes to whoever has waited for it, though a newcomer comes first."""
    group = Gate(8, gap_s=10.0)
    turns = turns_of(a=group, b=group, c=group)
    add(turns, "a", 0)
    add(turns, "b", 1)
    out = take(turns)
    group.unstart()  # a has asked nobody after all
    add(turns, "c", 2)
    assert take(turns, 1.0) == []
    turns.give_back(out[0], 1.0)
    assert rows(take(turns, 1.0)) == [1]


def test_a_shorter_gap_is_not_waited_out_at_its_old_length() -> None:
    """The alarm of a gap that has become shorter is brought forward."""
    group = Gate(8, gap_s=60.0)
    turns = turns_of(a=group)
    add(turns, "a", 0, 1)
    turns.give_back(take(turns)[0], 0.0)
    assert turns.next_time() == 60.0
    group.gap_s = 10.0
    turns.changed(group, 1.0)
    assert turns.next_time() == 10.0
    assert rows(take(turns, 10.0)) == [1]


def test_an_address_has_a_limit_over_those_of_its_hosts() -> None:
    """What is out at an address, of all hosts known to be there, is bounded; hosts elsewhere go on."""
    machine = Gate(3)
    turns = turns_of(a=Gate(2), b=Gate(2), c=Gate(2), elsewhere=Gate(2))
    for number, host in enumerate(("a", "b", "c", "elsewhere")):
        add(turns, host, *range(10 * number, 10 * number + 4))
    out = [turns.take(0.0) for _ in range(3)]
    for each in out:
        assert each is not None
        turns.join(each.host, machine)
    assert machine.out == 3
    assert rows(take(turns)) == [30, 31]
    assert out[0] is not None
    turns.give_back(out[0], 0.0)
    assert rows(take(turns)) == [1]
    assert machine.out == 3


def test_nobody_starves_between_two_gates() -> None:
    """A host that needs a place at both gets it, though each comes free only while the other is taken."""
    domain, machine = Gate(1), Gate(1)
    turns = turns_of(both=domain, sibling=domain, neighbour=Gate(1))
    for host in ("both", "neighbour"):
        add(turns, host, 0)
    for taken in take(turns):
        turns.join(taken.host, machine)
        add(turns, taken.host, 1)  # so that it stays known to be there
        turns.give_back(taken, 0.0)
    add(turns, "sibling", *range(100, 200))
    add(turns, "neighbour", *range(200, 300))
    out: deque[Taken] = deque()
    went: list[str] = []
    for step in range(20):  # the two others' requests end by turns, never at one time
        for each in take(turns, float(step)):
            out.append(each)
            went.append(each.host)
        turns.give_back(out.popleft(), float(step))
    assert "both" in went


def test_a_shut_host_waits_without_a_place() -> None:
    """Nothing of a shut host goes, its places go to others, and reopened it goes on."""
    group = Gate(1)
    turns = turns_of(a=group, b=group)
    add(turns, "a", 0, 1)
    add(turns, "b", 2)
    out = take(turns)
    turns.give_back(out[0], 0.0)  # b is invited
    turns.shut("b", 0.0)
    out = take(turns)
    assert rows(out) == [1]
    turns.give_back(out[0], 0.0)
    assert take(turns) == []
    turns.reopen("b")
    assert rows(take(turns)) == [2]


def test_a_held_host_at_a_gate_does_not_block_it() -> None:
    """One that is held while it is parked is passed over, and goes on when its hold is over."""
    group = Gate(1)
    turns = turns_of(a=group, b=group, c=group)
    for number, host in enumerate("abc"):
        add(turns, host, number)
    out = take(turns)
    turns.hold("b", 10.0, 0.0)
    turns.give_back(out[0], 0.0)
    out = take(turns)
    assert rows(out) == [2]
    turns.give_back(out[0], 0.0)
    assert take(turns, 9.0) == []
    assert rows(take(turns, 10.0)) == [1]


def test_a_hold_at_the_second_gate_gives_up_the_place_at_the_first() -> None:
    """Invited at its address after its hold, a host has to pass its own group's gate anew."""
    domain, machine = Gate(1), Gate(1)
    turns = turns_of(both=domain, sibling=domain, neighbour=Gate(1))
    add(turns, "both", 0)
    add(turns, "neighbour", 1)
    first = take(turns)
    for taken in first:
        turns.join(taken.host, machine)
    add(turns, "both", 2)
    turns.give_back(first[0], 0.0)
    assert take(turns) == []  # it waits at the machine's, with a place at the domain's
    assert (domain.taken, domain.out) == (1, 0)
    turns.hold("both", 5.0, 0.0)
    add(turns, "sibling", 3, 4)
    (sibling,) = take(turns)
    assert take(turns, 5.0) == []
    turns.give_back(first[1], 6.0)
    assert take(turns, 6.0) == []
    assert (domain.taken, domain.out, machine.taken, machine.out) == (1, 1, 0, 0)
    turns.give_back(sibling, 7.0)
    (sibling,) = take(turns, 7.0)  # who was parked before
    turns.give_back(sibling, 8.0)
    assert rows(take(turns, 8.0)) == [2]


def test_a_circuit_does_not_end_a_hold() -> None:
    """Whatever becomes of a host's circuit, what it asked for by Retry-After it gets."""
    turns = turns_of(a=Gate(1))
    add(turns, "a", 0)
    turns.hold("a", 100.0, 0.0)
    turns.reconsider("a")
    assert take(turns, 99.0) == []
    assert rows(take(turns, 100.0)) == [0]


def test_supply_counts_a_group_as_one() -> None:
    """A hundred hosts that wait for one another are not work for everybody, and one with a gap is next to none."""
    group, slow = Gate(2), Gate(8, gap_s=1.0)
    turns = turns_of(**{f"h{n}": group for n in range(100)}, slow=slow)
    for n in range(100):
        add(turns, f"h{n}", n)
    assert turns.supply == 8
    add(turns, "slow", *range(50))
    assert turns.supply == 9
    group.limit = 1
    turns.changed(group, 0.0)
    assert turns.supply == 5


class AnyGates(RuleBasedStateMachine):
    """Turns of hosts that share gates, against the plain rules, under any sequence of events."""

    @initialize(
        groups=st.lists(st.integers(0, 2), min_size=6, max_size=6),
        machines=st.lists(st.integers(0, 2), min_size=6, max_size=6),
        limits=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 0, 1, 3])), min_size=6, max_size=6),
        failures=st.integers(1, 3),
        host_wait=st.sampled_from([0, 7, 30]),
    )
    def start(
        self,
        groups: list[int],
        machines: list[int],
        limits: list[tuple[int, int]],
        failures: int,
        host_wait: int,
    ) -> None:
        """Begin with nothing."""
        gates = [Gate(limit, gap) for limit, gap in limits]
        self.hosts = "abcdef"
        self.group = {host: gates[n] for host, n in zip(self.hosts, groups, strict=True)}
        self.machine = {host: gates[3 + n] for host, n in zip(self.hosts, machines, strict=True)}
        self.circuits = Circuits(failures, host_wait, self.reconsider)
        self.turns = Turns(Shared(self.group), self.circuits.get)
        self.located: set[str] = set()
        self.now = 0
        self.rows = 0
        self.queued: Counter[str] = Counter()
        self.held = dict.fromkeys(self.hosts, 0)
        self.is_shut: set[str] = set()
        self.out: list[Taken] = []
        self.last: dict[Gate, float] = {}
        self.probes: dict[Circuit, Taken] = {}

    def reconsider(self, host: str) -> None:
        """A circuit has changed."""
        self.turns.reconsider(host)

    def gates(self, host: str) -> list[Gate]:
        """Those the host must pass."""
        return [self.group[host], *([self.machine[host]] if host in self.located else [])]

    def went(self, gate: Gate) -> int:
        """How many of a gate's are out."""
        return sum(gate in self.gates(each.host) for each in self.out if not each.is_refused)

    @rule(host=st.sampled_from("abcdef"), count=st.integers(1, 3))
    def add(self, host: str, count: int) -> None:
        """Queue rows."""
        for _ in range(count):
            self.turns.add(host, Request(self.rows, f"http://{host}/"), self.now)
            self.rows += 1
            self.queued[host] += 1

    @rule(host=st.sampled_from("abcdef"), seconds=st.integers(1, 5))
    def hold(self, host: str, seconds: int) -> None:
        """Put a host off."""
        self.turns.hold(host, self.now + seconds, self.now)
        self.held[host] = max(self.held[host], self.now + seconds)

    @rule(host=st.sampled_from("abcdef"))
    def shut_or_reopen(self, host: str) -> None:
        """One or the other."""
        if host in self.is_shut:
            self.turns.reopen(host)
            self.is_shut.remove(host)
        else:
            self.turns.shut(host, self.now)
            self.is_shut.add(host)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def locate(self, data: Any) -> None:
        """A host's address becomes known."""
        host = data.draw(st.sampled_from(self.out)).host
        if host not in self.located:
            self.located.add(host)
            self.turns.join(host, self.machine[host])

    @rule(host=st.sampled_from("abcdef"), limit=st.integers(1, 3), gap=st.sampled_from([0, 0, 1, 4]))
    def change(self, host: str, limit: int, gap: int) -> None:
        """Other limits for a group."""
        gate = self.group[host]
        gate.limit, gate.gap_s = limit, gap
        self.turns.changed(gate, self.now)

    @rule(seconds=st.integers(0, 3))
    def take(self, seconds: int) -> None:
        """Take one; see that it may go, a failing host's alone; and that somebody goes if anybody may."""
        self.now += seconds
        may_go = {host for host in self.hosts if self.may_go(host)}
        got = self.turns.take(self.now)
        if got is None:
            for host in may_go:  # all of them wait for one that has a place and waits for its second
                assert any(gate.taken > gate.out for gate in self.gates(host)), host
            return
        host = got.host
        assert self.held[host] <= self.now
        assert host not in self.is_shut
        if not got.is_refused:
            for gate in self.gates(host):
                assert self.went(gate) < gate.limit
                assert self.last.get(gate, -1e9) + gate.gap_s <= self.now
                self.last[gate] = self.now
            circuit = self.circuits.get(host)
            if circuit is not None and circuit.is_open:
                assert circuit not in self.probes
                self.probes[circuit] = got
        self.queued[host] -= 1
        self.out.append(got)

    def may_go(self, host: str) -> bool:
        """By limits alone."""
        circuit = self.circuits.get(host)
        return (
            self.queued[host] > 0
            and self.held[host] <= self.now
            and host not in self.is_shut
            and not (circuit and circuit.is_open)
            and all(
                self.went(gate) < gate.limit and self.last.get(gate, -1e9) + gate.gap_s <= self.now
                for gate in self.gates(host)
            )
        )

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ends=st.sampled_from(["ok", "connect.refused", "nobody was asked"]))
    def give_back(self, data: Any, ends: str) -> None:
        """One that is out ends, well or not."""
        taken = data.draw(st.sampled_from(self.out))
        row = taken.request.row
        if ends != "nobody was asked" and not taken.is_refused:
            self.circuits.ended(taken.host, ends, row, self.now)
        self.end(taken)

    def end(self, taken: Taken) -> None:
        """It is no longer out."""
        self.out.remove(taken)
        self.probes = {circuit: probe for circuit, probe in self.probes.items() if probe is not taken}
        self.circuits.left(taken.host, taken.request.row)
        self.turns.give_back(taken, self.now)
        if not self.turns.gates_of(taken.host):
            self.located.discard(taken.host)

    @invariant()
    def it_adds_up(self) -> None:
        """Counts agree, of rows and of places."""
        if not hasattr(self, "turns"):
            return
        assert self.turns.queued == self.queued.total()
        assert self.turns.out == len(self.out)
        for gate in {gate for host in self.hosts for gate in self.gates(host)}:
            assert gate.out == self.went(gate) <= gate.taken
        for host in self.hosts:
            if not self.turns.gates_of(host):
                self.located.discard(host)

    def teardown(self) -> None:
        """Whatever happened, all of it comes out in the end, and nothing is left."""
        if not hasattr(self, "turns"):
            return
        for host in self.is_shut:
            self.turns.reopen(host)
        self.is_shut.clear()
        left = self.queued.total()
        for taken in list(self.out):
            self.end(taken)
        for _ in range(20 * (left + 10)):
            while (got := self.turns.take(self.now)) is not None:
                left -= 1
                self.circuits.ended(got.host, "ok", got.request.row, self.now)
                self.out.append(got)
                self.end(got)
            if (then := self.turns.next_time()) is not None:
                self.now = max(self.now, int(then))
        assert left == 0
        assert repr(self.turns) == "<Turns 0 hosts, 0 queued, 0 out, 0 deferred>"
        assert self.turns.supply == 0


AnyGates.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAnyGates = pytest.mark.slow(AnyGates.TestCase)
