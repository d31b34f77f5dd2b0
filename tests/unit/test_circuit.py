"""A host's circuit: when it opens, when somebody looks whether it works again, and when it is given up."""

from __future__ import annotations

import pytest

from scraper.policies import circuit as rule
from scraper.policies.circuit import Circuits, Verdict, is_failing


class Watch:
    """Circuits of which each change is noted."""

    def __init__(self, failures: int = 3, host_wait_s: float = 60.0) -> None:
        self.changes: list[str] = []
        self.circuits = Circuits(failures, host_wait_s, self.changes.append)

    def fail(self, times: int = 3, now: float = 0.0, row: int = -1) -> None:
        """Failures of host a."""
        for _ in range(times):
            self.circuits.ended("a", "connect.refused", row, now)

    def verdict(self, now: float) -> Verdict:
        """On host a."""
        circuit = self.circuits.get("a")
        return circuit.verdict(now) if circuit else Verdict.GO

    def probe(self, row: int) -> None:
        """One goes out."""
        circuit = self.circuits.get("a")
        assert circuit is not None
        circuit.probe = row


@pytest.mark.parametrize(
    ("class_", "failing"),
    [
        ("connect.refused", True),
        ("connect.timeout", True),
        ("connect.reset", True),
        ("tls.handshake", True),
        ("dns.temporary", True),
        ("timeout.stall", True),
        ("timeout.total", True),
        ("http.502", True),
        ("http.503", True),
        ("http.504", True),
        ("ok", False),
        ("http.404", False),
        ("http.429", False),
        ("http.500", False),
        ("tls.verify", False),
        ("dns.not_found", False),
        ("body.truncated", False),
        ("url.invalid", False),
    ],
)
def test_what_a_failing_host_looks_like(class_: str, failing: bool) -> None:
    """Not reached, or reached and not working: whatever it says of one URL is no failure of the host."""
    assert is_failing(class_) is failing


def test_so_many_failures_in_a_row_open_it() -> None:
    """Not one fewer, and not if there was an answer in between, whatever it said."""
    watch = Watch(failures=3)
    watch.fail(2)
    watch.circuits.ended("a", "http.404", 1, 0.0)
    watch.fail(2)
    assert watch.verdict(0.0) is Verdict.GO
    assert watch.changes == []
    watch.fail(1)
    assert watch.verdict(0.0) is Verdict.WAIT
    assert watch.changes == ["a"]
    assert watch.circuits.get("b") is None


@pytest.mark.parametrize("class_", ["url.invalid", "address.blocked", "dns.not_found", "robots.disallowed"])
def test_what_was_asked_of_nobody_says_nothing(class_: str) -> None:
    """A row that ends without the host being reached neither counts nor makes good."""
    watch = Watch(failures=3)
    watch.fail(2)
    watch.circuits.ended("a", class_, 1, 0.0)
    watch.fail(1)
    assert watch.verdict(0.0) is Verdict.WAIT


def test_probes_go_out_less_and_less_often() -> None:
    """One after 5 seconds, 10 after its failure the next, and so on to once a minute; given up or not."""
    watch = Watch(host_wait_s=100.0)
    watch.fail(3)
    now, waits = 0.0, []
    for row in range(6):
        began = now
        while watch.verdict(now) is not Verdict.GO:
            now += 0.5
        waits.append(now - began)
        watch.probe(row)
        assert watch.verdict(now) is not Verdict.GO
        watch.fail(1, now, row)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_its_rows_wait_and_then_are_refused() -> None:
    """From ``host_wait_s`` after it opened, but for the probes, whether one is out at that moment or not."""
    watch = Watch(host_wait_s=12.0)
    watch.fail(3, 100.0)
    circuit = watch.circuits.get("a")
    assert circuit is not None
    assert (watch.verdict(104.9), circuit.look_again_at()) == (Verdict.WAIT, 105.0)
    assert watch.verdict(105.0) is Verdict.GO
    watch.probe(7)
    assert (watch.verdict(111.9), circuit.look_again_at()) == (Verdict.WAIT, 112.0)
    assert watch.verdict(112.0) is Verdict.REFUSE
    watch.fail(1, 113.0, 7)
    assert watch.verdict(122.9) is Verdict.REFUSE
    assert watch.verdict(123.0) is Verdict.GO


def test_without_patience_it_is_given_up_at_once() -> None:
    """``host_wait_s`` 0: rows are refused from the moment it opens."""
    watch = Watch(host_wait_s=0.0)
    watch.fail(3, 100.0)
    assert watch.verdict(100.0) is Verdict.REFUSE
    assert watch.verdict(105.0) is Verdict.GO


def test_an_answer_closes_it() -> None:
    """Whoever brings it, the probe or one that was out before; then failures count from one again."""
    watch = Watch(failures=3)
    watch.fail(3)
    watch.circuits.ended("a", "http.500", 5, 1.0)
    assert watch.verdict(1.0) is Verdict.GO
    assert watch.changes == ["a", "a"]
    watch.fail(2, 2.0)
    assert watch.verdict(2.0) is Verdict.GO


def test_those_that_were_out_before_do_not_put_the_probe_off() -> None:
    """Failures of requests that went out before it opened change nothing."""
    watch = Watch()
    watch.fail(3)
    watch.fail(5, 4.0)
    assert watch.verdict(5.0) is Verdict.GO


def test_a_probe_for_which_nobody_was_asked_is_none() -> None:
    """A probe's row that ended in another way, or was taken back, makes way for the next row."""
    watch = Watch()
    watch.fail(3)
    watch.probe(7)
    watch.circuits.left("a", 8)
    watch.circuits.left("b", 7)
    assert watch.verdict(6.0) is Verdict.WAIT
    watch.circuits.left("a", 7)
    assert watch.verdict(6.0) is Verdict.GO
    assert watch.changes == ["a", "a"]


def test_only_failing_hosts_are_remembered_and_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that works has no circuit, and of more failing hosts than are remembered the oldest is forgotten."""
    monkeypatch.setattr(rule, "HOSTS_FAILING", 2)
    circuits = Circuits(1, 60.0, lambda _: None)
    circuits.ended("fine", "ok", 0, 0.0)
    for host in ("a", "b", "a", "c"):
        circuits.ended(host, "connect.refused", 0, 0.0)
    assert [host for host in ("fine", "a", "b", "c") if circuits.get(host)] == ["a", "c"]
    assert repr(circuits) == "<Circuits 2 hosts>"


def test_a_host_that_only_throttles_is_given_up_after_its_time() -> None:
    """It is slowed down and not counted out; but not for ever. A probe a minute still goes."""
    changed: list[str] = []
    circuits = Circuits(3, 60.0, changed.append, throttled_s=600.0)
    for at in range(0, 600, 10):
        circuits.ended("a", "http.429", at, float(at))
    circuit = circuits.get("a")
    assert circuit is not None
    assert circuit.verdict(599.0) is Verdict.GO
    circuits.ended("a", "http.429", 600, 600.0)
    assert changed == ["a"]
    assert circuit.verdict(601.0) is Verdict.REFUSE
    assert circuit.verdict(660.0) is Verdict.GO
    circuit.probe = 7
    circuits.ended("a", "http.429", 7, 661.0)
    assert circuit.verdict(720.0) is Verdict.REFUSE
    assert circuit.verdict(721.0) is Verdict.GO
    circuit.probe = 8
    circuits.ended("a", "ok", 8, 722.0)
    assert circuits.get("a") is None


@pytest.mark.parametrize("between", ["ok", "http.404", "http.500"])
def test_any_other_answer_begins_the_throttled_time_anew(between: str) -> None:
    """A host that gives something now and then is not given up for being slow."""
    circuits = Circuits(3, 60.0, lambda _: None, throttled_s=600.0)
    for at in range(0, 6_000, 100):
        circuits.ended("a", "http.429" if at % 500 else between, at, float(at))
        found = circuits.get("a")
        assert found is None or found.verdict(float(at)) is Verdict.GO


def test_a_throttling_answer_closes_the_circuit_of_a_host_that_failed() -> None:
    """It is there again, and says so."""
    circuits = Circuits(2, 60.0, lambda _: None, throttled_s=600.0)
    for row in (0, 1):
        circuits.ended("a", "connect.refused", row, 0.0)
    found = circuits.get("a")
    assert found is not None
    assert found.is_open
    circuits.ended("a", "http.429", 2, 1.0)
    found = circuits.get("a")
    assert found is not None
    assert found.verdict(2.0) is Verdict.GO
