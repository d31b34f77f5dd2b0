"""The rule that tells a dead network from dead hosts."""

from __future__ import annotations

import pytest

from scraper.config import HealthConfig
from scraper.errors import UsageError
from scraper.policies import health
from scraper.policies.health import Change, Health, NameHealth

CONFIG = HealthConfig(wait_s=60.0, failures=3, probe_s=1.0)


def gone(at: float = 10.0) -> Health:
    """A network that has gone at that time, after ``a`` had answered at 0."""
    found = Health(CONFIG)
    found.answered("a", 0.0)
    for _ in range(2):
        assert found.failed("a", "connect.timeout", at, is_first=True) is Change.NOTHING
    assert found.failed("a", "connect.timeout", at, is_first=True) is Change.GONE
    return found


def test_failures_in_a_row_at_hosts_that_answered_mean_that_it_is_gone() -> None:
    """So many, and no answer in between."""
    assert gone().outage.is_on


def test_an_answer_in_between_begins_the_count_anew() -> None:
    """Where anything comes through, the network is there."""
    found = Health(CONFIG)
    for now in range(20):
        assert found.answered("a", now) is Change.NOTHING
        for _ in range(2):
            assert found.failed("a", "connect.timeout", now, is_first=True) is Change.NOTHING
    assert not found.outage.is_on


def test_one_host_that_never_answered_proves_nothing() -> None:
    """A list of a dead host is no reason to wait."""
    found = Health(CONFIG)
    for n in range(100):
        assert found.failed(f"dead{n % 2}", "connect.timeout", 1.0, is_first=True) is Change.NOTHING
    assert not found.outage.is_on


def test_many_strangers_in_a_row_mean_that_it_is_gone() -> None:
    """In a list of a row a host nobody has answered before; so many more are needed, and an answer begins anew."""
    found = Health(CONFIG)
    for n in range(11):
        assert found.failed(f"h{n}", "connect.timeout", 1.0, is_first=True) is Change.NOTHING
    found.answered("a", 2.0)
    changes = [found.failed(f"h{n}", "connect.timeout", 3.0, is_first=True) for n in range(12)]
    assert changes == [Change.NOTHING] * 11 + [Change.GONE]


def test_refusals_of_strangers_prove_nothing() -> None:
    """Of dead links there may be hundreds on end: somebody's machine said no, so there is a network."""
    found = Health(CONFIG)
    assert {found.failed(f"h{n}", "connect.refused", 1.0, is_first=True) for n in range(500)} == {Change.NOTHING}
    changes = [found.failed(f"h{n}", "connect.timeout", 3.0, is_first=True) for n in range(12)]
    assert changes[-1] is Change.GONE
    assert found.failed("h500", "connect.refused", 4.0, is_first=True) is Change.BACK
    assert not found.outage.is_on


def test_refusals_of_those_who_have_answered_do() -> None:
    """A server that restarts refuses, and is worth waiting for."""
    found = Health(CONFIG)
    found.answered("a", 1.0)
    changes = [found.failed("a", "connect.refused", 2.0, is_first=True) for _ in range(3)]
    assert changes == [Change.NOTHING, Change.NOTHING, Change.GONE]


def test_further_attempts_prove_nothing() -> None:
    """The end of a run is made of rows that failed before, and is no reason to wait."""
    found = Health(CONFIG)
    found.answered("a", 0.0)
    for _ in range(100):
        assert found.failed("a", "connect.timeout", 1.0, is_first=False) is Change.NOTHING
    assert not found.outage.is_on


def test_any_answer_brings_it_back() -> None:
    """The host that answers need not be one of those that failed."""
    found = gone()
    assert found.answered("b", 20.0) is Change.BACK
    assert not found.outage.is_on


def test_nothing_counts_while_it_is_gone_nor_what_began_then() -> None:
    """An attempt that overlaps with the time without a network is not the row's."""
    found = gone(at=10.0)
    assert not found.outage.counts(10.5)
    found.answered("a", 40.0)
    assert not found.outage.counts(39.0)
    assert found.outage.counts(40.5)


def test_it_is_not_waited_for_longer_than_said() -> None:
    """Then failures count again, and do not bring another wait before something has answered."""
    found = gone(at=10.0)
    assert found.look(69.0) is Change.NOTHING
    assert found.look(70.0) is Change.GIVEN_UP
    assert found.outage.counts(71.0)
    for _ in range(50):
        assert found.failed("a", "connect.timeout", 72.0, is_first=True) is Change.NOTHING
    found.answered("a", 80.0)
    changes = [found.failed("a", "connect.timeout", 81.0, is_first=True) for _ in range(3)]
    assert changes == [Change.NOTHING, Change.NOTHING, Change.GONE]


def test_no_wait_means_no_pause() -> None:
    """--network-wait 0 turns it off."""
    found = Health(HealthConfig(wait_s=0.0, failures=1))
    found.answered("a", 0.0)
    assert found.failed("a", "connect.timeout", 1.0, is_first=True) is Change.NOTHING
    with pytest.raises(UsageError):
        HealthConfig(wait_s=-1.0)


def test_names_in_vain_pause_as_well() -> None:
    """So many names without an answer to any: then nothing counts, until one is answered."""
    found = NameHealth(CONFIG)
    assert [found.heard(n, 1.0) for n in range(4)] == [Change.NOTHING] * 3 + [Change.GONE]
    assert found.heard(4, 2.0) is Change.NOTHING
    assert not found.outage.counts(2.0)
    assert found.heard(1, 3.0) is Change.BACK
    assert found.heard(1, 3.5) is Change.NOTHING
    assert not found.outage.counts(2.5)
    assert found.outage.counts(3.5)
    assert repr(found) == "<NameHealth: <Outage: off>>"


def test_name_servers_are_not_waited_for_for_ever() -> None:
    """After the wait failures count, and there is no other pause before an answer."""
    found = NameHealth(CONFIG)
    assert found.heard(3, 0.0) is Change.GONE
    assert [found.outage.look(now) for now in (59.0, 60.0, 61.0)] == [
        Change.NOTHING,
        Change.GIVEN_UP,
        Change.NOTHING,
    ]
    assert found.outage.counts(60.5)
    assert found.heard(5, 70.0) is Change.NOTHING
    assert found.heard(0, 80.0) is Change.NOTHING
    assert found.heard(3, 81.0) is Change.GONE
    assert NameHealth(HealthConfig(wait_s=0.0)).heard(100, 0.0) is Change.NOTHING


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broad crawl meets more hosts than are remembered; the latest are."""
    monkeypatch.setattr(health, "HOSTS_KNOWN", 10)
    found = Health(CONFIG)
    for n in range(100):
        found.answered(f"h{n}", 0.0)
    assert len(found._known) == 10
    assert [found.failed("h0", "connect.timeout", 1.0, is_first=True) for _ in range(3)] == [Change.NOTHING] * 3
    assert found.failed("h99", "connect.timeout", 1.0, is_first=True) is Change.NOTHING
    assert repr(found) == "<Health: <Outage: off>, 1 failures in a row>"


@pytest.mark.parametrize(
    ("class_", "shows"),
    [
        ("http.404", True),
        ("body.truncated", True),
        ("protocol.malformed", True),
        ("tls.verify", True),
        ("redirect.loop", True),
        ("connect.refused", False),
        ("timeout.stall", False),
        ("url.invalid", False),
        ("url.scheme", False),
        ("dns.not_found", False),
        ("address.blocked", False),
    ],
)
def test_which_failures_show_that_somebody_was_reached(class_: str, shows: bool) -> None:
    """A row that fails without being asked says nothing of the network."""
    assert health.shows_an_answer(class_) is shows
