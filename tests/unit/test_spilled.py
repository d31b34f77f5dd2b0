"""Which hosts have rows on disk, and whose come back next."""

from __future__ import annotations

from scraper.policies.spilled import Spilled


def test_hosts_come_back_in_the_order_in_which_they_were_wanted() -> None:
    """Each is named once, however often it is wanted while its rows are on their way; then it may be so again."""
    spilled = Spilled()
    for host in ("a", "b", "a"):
        spilled.go(host)
    for host in ("b", "a", "b"):
        spilled.want(host)
    assert [spilled.next(), spilled.next(), spilled.next()] == ["b", "a", None]
    spilled.want("a")
    assert spilled.next() is None
    spilled.come("a", 1)
    spilled.want("a")
    assert spilled.next() == "a"


def test_a_host_is_forgotten_with_its_last_row() -> None:
    """What is counted is what is on disk."""
    spilled = Spilled()
    for host in ("a", "b", "a"):
        spilled.go(host)
    spilled.want("a")
    assert spilled.next() == "a"
    spilled.come("a", 2)
    assert ("a" in spilled, "b" in spilled, spilled.rows) == (False, True, 1)
