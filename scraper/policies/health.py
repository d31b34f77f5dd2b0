"""Is it the hosts, or is it the network? In: which attempts were answered, which not. Out: what that means.

A network that goes away for half a minute fails every request of that time. Were these failures counted like any
other, each row would use up its attempts within seconds, and a run would lose most of its list to the restart of a
router. So failures below HTTP are evidence, of different weight:

    a row's first attempt, at a host that has answered before    the network may be gone
    the same at a host that has never answered                   says little: it may never have been there
    a refusal there                                              says nothing: a machine that says no was reached
    a further attempt of a row                                   says nothing: the tail of every run is of these

``failures`` in a row of the first kind, with no answer from anybody in between, or four times as many of the first
two kinds, at so many different hosts, and the network counts as gone. Requests pause, one a second is let through
to look, and what fails meanwhile does not count as an attempt. An answer, whatever it says, brings it back, and so
does the refusal of a stranger, which a network that is gone cannot deliver. After ``wait_s`` it was not the
network after all: failures count again, until the next answer.

Name servers go away by themselves, and then only hosts that were not looked up before fail: others go on, and
their answers say that the network is there. So look-ups are counted apart. When ``failures`` names were looked up
in vain with no answer to any look-up in between, requests pause as well, in the same way. An answer is also that a
name does not exist, and only a name's first failure counts (see ``scraper.resolver``).

Must never: wait for ever; hold up a run for one host that never answered.
"""

from __future__ import annotations

import enum
from collections import Counter

from scraper.config import HealthConfig

HOSTS_KNOWN = 10_000
"""Hosts remembered to have answered, the latest: a megabyte, and more than a run is talking to at one time."""

STRANGERS_WEIGH = 4
"""So many times more failures are needed where hosts are strangers. Of old links half may be dead: 32 in a row are
then one in four thousand million."""

NETWORK_CLASSES = frozenset(
    {"dns.temporary", "connect.refused", "connect.timeout", "connect.reset", "timeout.stall", "timeout.total"}
)
"""What a network that is gone looks like from here."""

_ASKED_NOBODY = ("url.", "address.", "dns.not_found", "redirect.blocked")
"""Failures that came about without any network, or out of a cache."""


def shows_an_answer(class_: str) -> bool:
    """Whether a failure of that class means that somebody was reached."""
    return class_ not in NETWORK_CLASSES and not class_.startswith(_ASKED_NOBODY)


class Change(enum.Enum):
    """What an attempt, or time, has changed."""

    NOTHING = enum.auto()
    GONE = enum.auto()
    BACK = enum.auto()
    GIVEN_UP = enum.auto()


class Outage:
    """A time in which what fails does not count, and which ends. Times are seconds of any monotonic clock.

    Attributes:
        is_on: it is that time; requests are to pause.
        is_given_up: it lasted for longer than ``wait_s``, so it was no outage: there will not be another one
            before something has answered.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._since = 0.0
        self._until = float("-inf")
        self.is_on = False
        self.is_given_up = False

    def __repr__(self) -> str:
        return f"<Outage: {'on' if self.is_on else 'given up' if self.is_given_up else 'off'}>"

    def may_begin(self) -> bool:
        """Whether there can be one now."""
        return not self.is_on and not self.is_given_up and self._wait_s > 0

    def begin(self, now: float) -> Change:
        """Nothing answers any more."""
        self.is_on = True
        self._since = now
        return Change.GONE

    def end(self, now: float) -> Change:
        """Something answered."""
        self.is_given_up = False
        if not self.is_on:
            return Change.NOTHING
        self.is_on = False
        self._until = now
        return Change.BACK

    def look(self, now: float) -> Change:
        """Called now and then while it is on: after ``wait_s`` it is not waited for any longer."""
        if not self.is_on or now - self._since < self._wait_s:
            return Change.NOTHING
        self.end(now)
        self.is_given_up = True
        return Change.GIVEN_UP

    def counts(self, began: float) -> bool:
        """Whether a failed attempt, which began at that time, counts as one of the row's.

        Not while it is on, nor if it was on at any time of the attempt.
        """
        return not self.is_on and began > self._until


class Health:
    """The network, as far as the attempts tell. Times are seconds of any monotonic clock.

    Attributes:
        outage: the network is gone, or was.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._enough = config.failures
        self._known: dict[str, None] = {}
        self._streak = 0
        self._strangers: Counter[str] = Counter()
        self.outage = Outage(config.wait_s)

    def __repr__(self) -> str:
        return f"<Health: {self.outage!r}, {self._streak} failures in a row>"

    def answered(self, host: str, now: float) -> Change:
        """Something came from ``host`` that was not silence."""
        self._forget()
        if host not in self._known:
            if len(self._known) >= HOSTS_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[host] = None
        return self.outage.end(now)

    def failed(self, host: str, class_: str, now: float, *, is_first: bool) -> Change:
        """An attempt at ``host``, a row's first or a further one, failed as one of ``NETWORK_CLASSES``."""
        if class_ == "connect.refused" and host not in self._known:
            if not self.outage.is_on:
                return Change.NOTHING
            self._forget()
            return self.outage.end(now)
        if not is_first or not self.outage.may_begin():
            return Change.NOTHING
        if host in self._known:
            self._streak += 1
        elif host in self._strangers or len(self._strangers) < HOSTS_KNOWN:
            self._strangers[host] += 1
        enough = self._enough
        if self._streak < enough and not (
            self._streak + self._strangers.total() >= STRANGERS_WEIGH * enough and len(self._strangers) >= enough
        ):
            return Change.NOTHING
        return self.outage.begin(now)

    def look(self, now: float) -> Change:
        """See ``Outage.look``."""
        change = self.outage.look(now)
        if change is not Change.NOTHING:
            self._forget()
        return change

    def _forget(self) -> None:
        self._streak = 0
        self._strangers.clear()


class NameHealth:
    """The name servers, as far as the look-ups tell.

    Attributes:
        outage: they are gone, or were.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._enough = config.failures
        self.outage = Outage(config.wait_s)

    def __repr__(self) -> str:
        return f"<NameHealth: {self.outage!r}>"

    def heard(self, unanswered: int, now: float) -> Change:
        """Called after each look-up in vain: so many names have not been answered since the last answer."""
        if unanswered < self._enough:
            return self.outage.end(now)
        return self.outage.begin(now) if self.outage.may_begin() else Change.NOTHING
