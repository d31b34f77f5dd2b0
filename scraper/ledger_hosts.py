"""What the ledger keeps of hosts: how they were treated and why, and until when they want to be left alone.

In: counts of a run, times to come back. Out: sums over all runs, for the report; holds, for the next run.
Part of the ledger: SQL on its connection. Must never: keep more than a line a host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scraper.ledger_schema import Connection

Holds = Mapping[str, float]
"""Origin (``Request.host``) → when it may be asked again, in seconds since the epoch."""


SHORTEST_S = 1.0
"""Of less than a second no rate is told: two requests in a millisecond are not a thousand a second."""


class HostRecord(NamedTuple):
    """How one host was treated. What is recorded adds up; the last three say how it stands.

    Attributes:
        host: what shares limits: a registrable domain, an address, a name that has limits of its own.
        requests: sent, the hops of redirects and retries included.
        throttled: answers that said "too many" (429, 503).
        refused: rows that ended unasked, or unkept, because the host does not want it or fails.
        bytes: of bodies.
        active_s: seconds from the first request of a run to its last, summed over runs.
        stretches: how many times that were.
        delay_s: least time between two requests; 0 for none.
        at_once: requests at once that it is trusted with.
        why: where the last two come from, for people.
    """

    host: str
    requests: int
    throttled: int
    refused: int
    bytes: int
    active_s: float
    stretches: int
    delay_s: float
    at_once: int
    why: str

    @property
    def rate(self) -> float:
        """Requests a second, over the time in which it was asked; 0 where that was too short to tell."""
        gaps = self.requests - self.stretches
        return gaps / self.active_s if gaps > 0 and self.active_s >= SHORTEST_S else 0.0


LONGEST_HOLD_S = 31 * 86_400.0
"""A hold for longer than a month is no server's word that anybody waits for, but a clock that was set back."""

MOST_HOLDS = 100_000
"""Those that last longest: some 20 MB."""

_COLUMNS = ", ".join(HostRecord._fields)
_ADDED = ("requests", "throttled", "refused", "bytes", "active_s", "stretches")
_INSERT = f"""
    INSERT INTO hosts ({_COLUMNS}) VALUES ({",".join("?" * len(HostRecord._fields))})
    ON CONFLICT (host) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _ADDED)},
        delay_s = excluded.delay_s, at_once = excluded.at_once, why = excluded.why
"""  # noqa: S608 - constants


_HOLD = """
    INSERT INTO holds VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET until = max(until, excluded.until)
"""
_HOLDS = """
    SELECT origin, until FROM holds WHERE until > ? AND until < ?
    AND typeof(origin) = 'text' AND typeof(until) = 'real' ORDER BY until DESC LIMIT ?
"""
_KINDS = (str, int, int, int, int, (int, float), int, (int, float), int, str)
"""What the columns of ``hosts`` hold in a file of ours: somebody else may have made it."""


def keep_hosts(db: Connection, records: Sequence[HostRecord], holds: Holds, now: float) -> None:
    """Add to the records, and note the holds, within the caller's transaction; holds that are over go."""
    if records:
        db.executemany(_INSERT, records)
    if holds:
        db.executemany(_HOLD, list(holds.items()))
        db.execute("DELETE FROM holds WHERE until <= ?", (now,))


def holds_of(db: Connection, now: float) -> Holds:
    """The hosts that are not to be asked yet, as far as that can be true: the file is another's word."""
    return dict(db.execute(_HOLDS, (now, now + LONGEST_HOLD_S, MOST_HOLDS)).fetchall())


def to_show(limit: int) -> tuple[str, tuple[int]]:
    """A query for the hosts to show: those that held a run back, then those that were asked most."""
    order = "why = '' AND throttled = 0, throttled DESC, requests DESC, host"
    sql = f"SELECT {_COLUMNS} FROM hosts WHERE requests OR refused ORDER BY {order} LIMIT ?"  # noqa: S608 - constants
    return sql, (limit,)


def records(rows: Iterator[tuple[object, ...]]) -> list[HostRecord]:
    """What ``to_show`` finds."""
    return [HostRecord(*row) for row in rows if all(map(isinstance, row, _KINDS))]  # type: ignore[arg-type] # just seen
