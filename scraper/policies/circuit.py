"""Hosts that fail, request after request. In: how attempts ended. Out: whether a host may be asked, and when next.

    closed ──host_failures in a row──▶ open ──host_wait_s──▶ given up
       ▲                                │ a probe after 5, 10, 20, 40, 60, 60 … seconds
       └────────────an answer───────────┴──────────────────────┘

A host that says nothing but 429 works, and so is not counted out but slowed down; for ``throttled_s``, after which
it is given up as well.

While a circuit is open the host's rows wait; once it is given up they end without being asked. Either way one
request at a time goes out as a probe, as long as there are rows, and any answer closes the circuit. A host that
has never answered is given up as soon as its circuit opens: of old links a third may be dead, and none comes back.

Must never: remember a host that has not failed; have two probes of a host out.
"""

from __future__ import annotations

import enum
import functools
from collections import OrderedDict
from collections.abc import Callable

FIRST_PROBE_S = 5.0
"""A server process that restarts is back within seconds."""

LAST_PROBE_S = 60.0
"""A probe a minute is nothing to a host, and finds it again soon enough."""

HOSTS_FAILING = 20_000
"""Circuits remembered, the latest: some 5 MB. A host whose circuit is forgotten fails a few times more."""

_FAILING = frozenset({"tls.handshake", "dns.temporary", "http.502", "http.503", "http.504"})
_FAILING_KINDS = ("connect.", "timeout.")
_ASKED_NOBODY = ("url.", "address.", "dns.", "robots.", "host.", "input.")


@functools.lru_cache(1024)
def is_failing(class_: str) -> bool:
    """Whether an attempt that ended so says that the host, not the one URL, does not work."""
    return class_ in _FAILING or class_.startswith(_FAILING_KINDS)


class Verdict(enum.Enum):
    """What is to become of a host's next row."""

    GO = enum.auto()
    WAIT = enum.auto()
    REFUSE = enum.auto()


class Circuit:
    """One host's. Times are seconds of any monotonic clock.

    Attributes:
        is_open: it failed too often, and has not answered since.
        last: how the last attempt failed.
        probe: the row that is out as a probe; None if none is.
        throttled_since: since when all it says is 429; None if that is not so.
    """

    __slots__ = (
        "_failures",
        "_give_up_at",
        "_most",
        "_probe_at",
        "_wait_s",
        "is_open",
        "last",
        "probe",
        "throttled_since",
    )

    def __init__(self, most: int) -> None:
        self._most = most
        self._failures = 0
        self._wait_s = FIRST_PROBE_S
        self._probe_at = 0.0
        self._give_up_at = 0.0
        self.is_open = False
        self.last = ""
        self.probe: int | None = None
        self.throttled_since: float | None = None

    def throttled(self, row: int, now: float, most_s: float) -> None:
        """It said 429, and for ``most_s`` it has said nothing else: then it is given up."""
        if self.throttled_since is None:
            self.throttled_since = now
        if not self.is_open and now - self.throttled_since < most_s:
            return
        if row == self.probe or not self.is_open:
            self.probe = None
            self._probe_at = now + LAST_PROBE_S
        self.is_open = True
        self._give_up_at = now

    def failed(self, row: int, now: float, host_wait_s: float) -> None:
        """An attempt failed. Once the circuit is open, only the probe's failure tells more."""
        self.throttled_since = None
        if not self.is_open:
            self._failures += 1
            if self._failures < self._most:
                return
            self.is_open = True
            self._give_up_at = now + host_wait_s
        elif row == self.probe:
            self.probe = None
            self._wait_s = min(LAST_PROBE_S, 2 * self._wait_s)
        else:
            return
        self._probe_at = now + self._wait_s

    def verdict(self, now: float) -> Verdict:
        """On the host's next row. After GO it is the probe, if the circuit is open."""
        if not self.is_open or (self.probe is None and self._probe_at <= now):
            return Verdict.GO
        return Verdict.REFUSE if self._give_up_at <= now else Verdict.WAIT

    def look_again_at(self) -> float:
        """When WAIT may become something else, unless the probe ends before."""
        return self._give_up_at if self.probe is not None else min(self._give_up_at, self._probe_at)


class Circuits:
    """Those of the hosts that have failed.

    Args:
        failures: so many in a row open a host's circuit.
        host_wait_s: so long an open circuit's rows wait; 0 for not at all.
        changed: told a host whose verdict may be another from now on.
        throttled_s: so long a host may say nothing but 429.
    """

    def __init__(
        self,
        failures: int,
        host_wait_s: float,
        changed: Callable[[str], None],
        *,
        throttled_s: float = float("inf"),
    ) -> None:
        self._failures = failures
        self._throttled_s = throttled_s
        self._host_wait_s = host_wait_s
        self._changed = changed
        self._circuits: OrderedDict[str, Circuit] = OrderedDict()
        self.get = self._circuits.get
        """The circuit of a host, None for one that does not fail."""

    def __repr__(self) -> str:
        return f"<Circuits {len(self._circuits)} hosts>"

    def ended(self, host: str, class_: str, row: int, now: float, *, is_known: bool = True) -> None:
        """An attempt at ``host`` for ``row`` ended as ``class_``.

        Args:
            host: who was asked.
            class_: how it ended.
            row: the row that was asked for.
            now: when.
            is_known: the host has answered before.
        """
        circuit = self._circuits.get(host)
        if is_failing(class_):
            circuit = circuit or self._new(host)
            self._circuits.move_to_end(host)
            circuit.last = class_
            circuit.failed(row, now, self._host_wait_s if is_known else 0.0)
            if circuit.is_open:
                self._changed(host)
            return
        is_throttled = class_ == "http.429"
        if circuit is not None and not class_.startswith(_ASKED_NOBODY):
            if is_throttled and circuit.throttled_since is not None:
                circuit.throttled(row, now, self._throttled_s)
            else:
                del self._circuits[host]
            if circuit.is_open:
                self._changed(host)
        if is_throttled and host not in self._circuits:
            self._new(host).throttled(row, now, self._throttled_s)

    def _new(self, host: str) -> Circuit:
        circuit = self._circuits[host] = Circuit(self._failures)
        circuit.last = "http.429"
        if len(self._circuits) > HOSTS_FAILING:
            self._circuits.popitem(last=False)
        return circuit

    def left(self, host: str, row: int) -> None:
        """The row is no longer out. If it was a probe for which nobody was asked, the next row is one."""
        circuit = self._circuits.get(host)
        if circuit is not None and circuit.probe == row:
            circuit.probe = None
            self._changed(host)
