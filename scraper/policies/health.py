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


class Health:
    """The network, as far as the attempts tell. Times are seconds of any monotonic clock.

    Attributes:
        is_gone: requests are to pause.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._known: dict[str, None] = {}
        self._streak = 0
        self._strangers: Counter[str] = Counter()
        self._gone_since = 0.0
        self._gone_until = float("-inf")
        self._given_up = False
        self.is_gone = False

    def __repr__(self) -> str:
        state = "gone" if self.is_gone else "given up" if self._given_up else "there"
        return f"<Health: {state}, {self._streak} failures in a row>"

    def answered(self, host: str, now: float) -> Change:
        """Something came from ``host`` that was not silence."""
        self._streak = 0
        self._strangers.clear()
        self._given_up = False
        if host not in self._known:
            if len(self._known) >= HOSTS_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[host] = None
        if not self.is_gone:
            return Change.NOTHING
        self._end(now)
        return Change.BACK

    def failed(self, host: str, class_: str, now: float, *, is_first: bool) -> Change:
        """An attempt at ``host``, a row's first or a further one, failed as one of ``NETWORK_CLASSES``."""
        if class_ == "connect.refused" and host not in self._known:
            if not self.is_gone:
                return Change.NOTHING
            self._end(now)
            return Change.BACK
        if not is_first or self.is_gone or self._given_up or not self._config.wait_s:
            return Change.NOTHING
        if host in self._known:
            self._streak += 1
        elif host in self._strangers or len(self._strangers) < HOSTS_KNOWN:
            self._strangers[host] += 1
        enough = self._config.failures
        if self._streak < enough and not (
            self._streak + self._strangers.total() >= STRANGERS_WEIGH * enough and len(self._strangers) >= enough
        ):
            return Change.NOTHING
        self.is_gone = True
        self._gone_since = now
        return Change.GONE

    def counts(self, began: float) -> bool:
        """Whether a failed attempt, which began at that time, counts as one of the row's.

        Not while the network is gone, nor if it was gone at any time of the attempt.
        """
        return not self.is_gone and began > self._gone_until

    def looks_for_good(self, now: float) -> Change:
        """Called now and then while it is gone: after ``wait_s`` it is not waited for any longer."""
        if not self.is_gone or now - self._gone_since < self._config.wait_s:
            return Change.NOTHING
        self._given_up = True
        self._end(now)
        return Change.GIVEN_UP

    def _end(self, now: float) -> None:
        self.is_gone = False
        self._streak = 0
        self._strangers.clear()
        self._gone_until = now
