"""Turns between hosts: fair, bounded, nothing lost, and no event that looks at hosts it is not about."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scraper.policies.circuit import Circuit
from scraper.policies.gates import Gate
from scraper.policies.turns import NO_HOST, Taken, Turns
from scraper.records import Request

NOW = 0.0


def row(n: int) -> Request:
    """A row of the list."""
    return Request(n, f"http://h/{n}")


class Alone:
    """Each host has a gate of its own, which goes with it."""

    def __init__(self, per_host: int) -> None:
        self.per_host = per_host
        self.left = 0

    def enter(self, host: str) -> tuple[Gate, ...]:
        """A new gate."""
        return (Gate(self.per_host),)

    def leave(self, gates: tuple[Gate, ...]) -> None:
        """Nobody is left behind."""
        assert all(
            (gate.out, gate.taken, gate.waiting, gate.supply, gate.parked) == (0, 0, 0, 0, None) for gate in gates
        )
        self.left += 1


def working(_: str) -> Circuit | None:
    """No host fails."""
    return None


def turns_of(per_host: int) -> Turns:
    """Turns of hosts that share nothing."""
    return Turns(Alone(per_host), working)


def back(turns: Turns, host: str, now: float = NOW) -> None:
    """A request of ``host`` has ended."""
    turns.give_back(Taken(host, row(0), is_refused=False), now)


def take_all(turns: Turns, now: float = 0.0) -> list[tuple[str, int]]:
    """Take until there is no more: hosts and row numbers."""
    taken = []
    while (got := turns.take(now)) is not None:
        taken.append((got[0], got[1].row))
    return taken


def test_hosts_alternate() -> None:
    """A host with many rows in front of the list does not keep the others waiting."""
    turns = turns_of(9)
    for n in range(3):
        turns.add("a", row(n), 0.0)
    turns.add("b", row(10), 0.0)
    turns.add("c", row(20), 0.0)
    assert take_all(turns) == [("a", 0), ("b", 10), ("c", 20), ("a", 1), ("a", 2)]


def test_a_host_gets_its_permits_and_no_more() -> None:
    """As many as ``per_host`` are out, and each one given back lets one more go."""
    turns = turns_of(2)
    for n in range(5):
        turns.add("a", row(n), 0.0)
    assert take_all(turns) == [("a", 0), ("a", 1)]
    back(turns, "a")
    assert take_all(turns) == [("a", 2)]
    assert repr(turns) == "<Turns 1 hosts, 2 queued, 2 out, 0 deferred>"


def test_a_saturated_host_delays_nobody() -> None:
    """While one host's permits are all out, the others go on as if it were not there."""
    turns = turns_of(1)
    for n in range(100):
        turns.add("slow", row(n), 0.0)
    for n in range(100, 105):
        turns.add("fast", row(n), 0.0)
    assert take_all(turns) == [("slow", 0), ("fast", 100)]
    for n in range(101, 105):
        back(turns, "fast")
        assert take_all(turns) == [("fast", n)]


@pytest.mark.parametrize("host", ["never seen", "a"])
def test_more_given_back_than_taken_is_a_mistake(host: str) -> None:
    """A permit that was not taken cannot be given back."""
    turns = turns_of(2)
    turns.add("a", row(0), 0.0)
    with pytest.raises(ValueError, match="nothing of"):
        back(turns, host)


def test_front_is_before_the_queue() -> None:
    """A request added in front is the host's next."""
    turns = turns_of(9)
    turns.add("a", row(1), 0.0)
    turns.add("a", row(0), 0.0, front=True)
    assert take_all(turns) == [("a", 0), ("a", 1)]


def test_not_before_its_time() -> None:
    """A deferred request waits for its time, holds no permit meanwhile, and delays nobody."""
    turns = turns_of(1)
    turns.add("a", row(0), 0.0, not_before=5.0)
    turns.add("a", row(1), 0.0)
    assert take_all(turns) == [("a", 1)]
    back(turns, "a")
    assert (turns.next_time(), turns.deferred, turns.waiting("a")) == (5.0, 1, 1)
    assert take_all(turns, 4.999) == []
    assert take_all(turns, 5.0) == [("a", 0)]
    assert turns.next_time() is None


def test_equal_times_keep_their_order() -> None:
    """Requests that wait for the same time come out in the order they went in."""
    turns = turns_of(9)
    for n in range(5):
        turns.add("a", row(n), 0.0, not_before=1.0)
    assert take_all(turns, 1.0) == [("a", n) for n in range(5)]


def test_a_held_host_waits_and_the_others_do_not() -> None:
    """A hold puts off all of a host, what is queued later too, and ends by itself."""
    turns = turns_of(9)
    turns.add("a", row(0), 0.0)
    turns.add("b", row(1), 0.0)
    turns.hold("a", 10.0, 0.0)
    turns.add("a", row(2), 0.0)
    assert take_all(turns, 9.0) == [("b", 1)]
    assert turns.next_time() == 10.0
    assert take_all(turns, 10.0) == [("a", 0), ("a", 2)]


def test_holds_only_get_longer() -> None:
    """A shorter hold does not shorten a longer one; a longer one lengthens it; one in the past is none."""
    turns = turns_of(9)
    turns.add("a", row(0), 0.0)
    turns.hold("a", 10.0, 0.0)
    turns.hold("a", 20.0, 0.0)
    turns.hold("a", 5.0, 0.0)
    turns.hold("a", -1.0, 0.0)
    assert take_all(turns, 19.0) == []
    assert take_all(turns, 20.0) == [("a", 0)]
    turns.hold("b", 20.0, 20.0)
    assert turns.hosts == 1


def test_a_hold_outlives_the_hosts_rows() -> None:
    """A host that is held is remembered until then, though nothing of it is left, and no longer."""
    turns = turns_of(9)
    turns.hold("a", 10.0, 0.0)
    turns.add("a", row(0), 5.0)
    assert take_all(turns, 6.0) == []
    assert take_all(turns, 10.0) == [("a", 0)]
    turns.hold("a", 20.0, 10.0)
    back(turns, "a")
    assert turns.hosts == 1
    assert take_all(turns, 20.0) == []
    assert turns.hosts == 0


def test_rows_without_a_host_need_no_permit() -> None:
    """URLs that have no host do not wait for one another."""
    turns = turns_of(1)
    for n in range(50):
        turns.add(NO_HOST, row(n), 0.0)
    assert turns.supply == 50
    assert take_all(turns) == [(NO_HOST, n) for n in range(50)]
    for _ in range(50):
        back(turns, NO_HOST)
    assert turns.hosts == 0


def test_supply_counts_each_host_up_to_its_share() -> None:
    """One host with a long queue is not mistaken for work for everybody; a held one is none."""
    turns = turns_of(2)
    for n in range(100):
        turns.add("a", row(n), 0.0)
    assert turns.supply == 8  # four rounds of two
    turns.add("b", row(100), 0.0)
    assert turns.supply == 9
    turns.hold("a", 1.0, 0.0)
    assert turns.supply == 1


class AnyOrder(RuleBasedStateMachine):
    """Turns against a plain model, under any sequence of events."""

    @initialize(per_host=st.integers(1, 3))
    def start(self, per_host: int) -> None:
        """Begin with nothing."""
        self.turns = turns_of(per_host)
        self.per_host = per_host
        self.now = 0
        self.rows = 0
        self.queues: dict[str, deque[int]] = {host: deque() for host in "abc"}
        self.times: list[tuple[int, int, str, bool]] = []
        self.held = dict.fromkeys("abc", 0)
        self.out: list[str] = []

    @rule(host=st.sampled_from("abc"), wait=st.integers(0, 4), front=st.booleans())
    def add(self, host: str, wait: int, front: bool) -> None:
        """Queue or defer a row."""
        self.turns.add(host, row(self.rows), self.now, front=front, not_before=self.now + wait)
        if wait:
            self.times.append((self.now + wait, self.rows, host, front))
        else:
            self.enqueue(host, self.rows, front)
        self.rows += 1

    def enqueue(self, host: str, number: int, front: bool) -> None:
        """The model's queue."""
        if front:
            self.queues[host].appendleft(number)
        else:
            self.queues[host].append(number)

    @rule(host=st.sampled_from("abc"), wait=st.integers(0, 4))
    def hold(self, host: str, wait: int) -> None:
        """Put a host off."""
        self.turns.hold(host, self.now + wait, self.now)
        self.held[host] = max(self.held[host], self.now + wait)

    @rule(seconds=st.integers(0, 3))
    def take(self, seconds: int) -> None:
        """Take what the model says may go, or nothing if nothing may."""
        self.now += seconds
        for due in sorted(time for time in self.times if time[0] <= self.now):
            self.times.remove(due)
            self.enqueue(due[2], due[1], due[3])
        may = {
            host
            for host in "abc"
            if self.queues[host] and self.held[host] <= self.now and self.out.count(host) < self.per_host
        }
        got = self.turns.take(self.now)
        assert (got is not None) == bool(may)
        if got is not None:
            host, request, _ = got
            assert host in may
            assert request.row == self.queues[host].popleft()
            self.out.append(host)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        """Give any permit back that is out."""
        host = data.draw(st.sampled_from(self.out))
        self.out.remove(host)
        back(self.turns, host, self.now)

    @invariant()
    def it_adds_up(self) -> None:
        """Counts agree, and no host has more out than it may."""
        turns = self.turns
        assert turns.out == len(self.out)
        assert turns.queued == sum(map(len, self.queues.values()))
        assert turns.deferred == len(self.times)
        assert max(Counter(self.out).values(), default=0) <= self.per_host
        for host, queue in self.queues.items():
            assert turns.waiting(host) == len(queue) + sum(time[2] == host for time in self.times)
        used = {host for host in "abc" if turns.waiting(host) or host in self.out or self.held[host] > self.now}
        assert turns.hosts >= len(used)

    def teardown(self) -> None:
        """Whatever happened, all of it comes out, and then nothing is left."""
        if not hasattr(self, "turns"):
            return
        self.now += 10
        left = sum(map(len, self.queues.values())) + len(self.times)
        for host in self.out:
            back(self.turns, host, self.now)
        while (got := self.turns.take(self.now)) is not None:
            back(self.turns, got.host, self.now)
            left -= 1
        assert left == 0
        assert repr(self.turns) == "<Turns 0 hosts, 0 queued, 0 out, 0 deferred>"


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def lines_run(event: Callable[[], object]) -> int:
    """Lines of the rule that ``event`` runs: a cost that is the same on every machine."""
    count = 0

    def trace(frame: FrameType, kind: str, argument: object) -> Any:
        nonlocal count
        if Path(frame.f_code.co_filename).name not in ("gates.py", "turns.py"):
            return None  # the garbage collector may call back into others' code at any moment
        count += kind == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        event()
    finally:
        sys.settrace(before)
    return count


def costs(hosts: int) -> list[int]:
    """What each kind of event costs among so many hosts, all of which have rows, holds and times."""
    turns = turns_of(1)
    for n in range(hosts):
        turns.add(f"h{n}", row(n), 0.0)
        turns.add(f"h{n}", row(n), 0.0)
        turns.add(f"h{n}", row(n), 0.0, not_before=1e9 + n)
        turns.hold(f"held{n}", 1e9 + n, 0.0)
    return [
        lines_run(lambda: turns.take(1.0)),
        lines_run(lambda: back(turns, "h0", 1.0)),
        lines_run(lambda: turns.add("new", row(1), 1.0)),
        lines_run(lambda: turns.add("h5", row(1), 1.0, not_before=2.0)),
        lines_run(lambda: turns.hold("h7", 3.0, 1.0)),
        lines_run(lambda: turns.take(2.0)),
        lines_run(lambda: turns.take(3.0)),
        lines_run(turns.next_time),
        lines_run(lambda: turns.waiting("h5")),
        lines_run(lambda: turns.hosts),
    ]


def test_no_event_costs_more_for_there_being_more_hosts() -> None:
    """Each event runs exactly as many lines among 3,000 hosts as among 10."""
    assert costs(10) == costs(3_000)


def test_a_hosts_entry_is_small_and_goes_with_its_last_row() -> None:
    """A million hosts leave nothing behind: the table holds only hosts with something to do."""
    turns = turns_of(1)
    for n in range(1_000):
        turns.add(f"h{n}", row(n), 0.0)
        taken = turns.take(0.0)
        assert taken is not None
        back(turns, taken[0])
        assert turns.hosts == 0
