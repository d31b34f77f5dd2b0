"""A pass: one round of asking again rows that have ended. Which rows those are, and when the round is over.

In: what is to be asked again, and a ledger's connection. Out: conditions in SQL, and what is held of such rows.
Must never: ask a row twice in one pass, however often the pass is killed; trust the clock to run forwards.

A row has had its turn once it ends at or after the pass began. So a pass needs nothing but its beginning, and goes
on after a kill: rows of the pass that ended meanwhile, well or badly, are later than that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from scraper.config import Again
from scraper.errors import State, outcome_class
from scraper.ledger_schema import Cell, Connection
from scraper.policies.secrets import MASK
from scraper.records import Held

_KEY = "pass"
_ENDED_BY_ITSELF = (0, 1)
"""Exit codes of a run that has asked all it had to ask."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A round of asking again.

    Attributes:
        again: what it is to ask.
        started_at: seconds since the epoch; later than the end of every row it found.
        classes: those of the ledger's outcome classes that it is to ask.
    """

    again: Again
    started_at: float
    classes: tuple[str, ...]

    @property
    def due(self) -> tuple[str, list[Cell]]:
        """The condition for the rows that are still to be asked, and the values in it."""
        return f"(at < ? AND class IN ({','.join('?' * len(self.classes))}))", [self.started_at, *self.classes]


def pass_of(db: Connection, again: Again, now: float) -> Pass | None:
    """The pass that a run beginning now has: the one that was cut short, if it asks the same, or else a new one.

    Args:
        db: the ledger, in which the run has not begun yet.
        again: what the run is to ask again; None is the answer if that is nothing.
        now: seconds since the epoch.
    """
    if not again:
        return None
    kept = _kept(db)
    if kept is not None and kept[0] == again and _was_cut_short(db):
        started_at = kept[1]
    else:
        # Rows of a time to come are there after a clock was set back.
        (latest,) = db.execute("SELECT coalesce(max(at), 0.0) FROM commits").fetchone()
        started_at = max(now, math.nextafter(latest, math.inf))
    found = db.execute("SELECT class FROM outcomes GROUP BY class").fetchall()
    return Pass(again, started_at, tuple(name for (name,) in found if is_asked(name, again)))


def unfinished(db: Connection) -> Again:
    """What the last run was to ask again, if it was cut short; nothing otherwise."""
    kept = _kept(db)
    return kept[0] if kept is not None and _was_cut_short(db) else Again()


def is_asked(class_: str, again: Again) -> bool:
    """Whether a row that ended as ``class_`` is asked again."""
    state = outcome_class(class_).state
    if again.refresh:
        return state in (State.OK, State.FAILED)
    if again.failed is None or state is not State.FAILED:
        return False
    return not again.failed or any(class_ == each or class_.startswith(f"{each}.") for each in again.failed)


def keep(db: Connection, pass_: Pass | None) -> None:
    """Note the pass of the run that begins, within the caller's transaction."""
    if pass_ is None:
        db.execute("DELETE FROM meta WHERE key = ?", (_KEY,))
        return
    said = {"failed": pass_.again.failed, "refresh": pass_.again.refresh, "started_at": pass_.started_at}
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(said)))


def _kept(db: Connection) -> tuple[Again, float] | None:
    """The pass of the last run that had begun, and when it began."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    if found is None:
        return None
    said = json.loads(found[0])
    failed = said["failed"]
    return Again(None if failed is None else tuple(failed), said["refresh"]), said["started_at"]


def _was_cut_short(db: Connection) -> bool:
    last = db.execute("SELECT exit FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return last is not None and last[0] not in _ENDED_BY_ITSELF


def held_of(db: Connection, pass_: Pass, first: int, last: int) -> Mapping[int, Held]:
    """What there is of the rows of ``range(first, last)`` that are still to be asked."""
    due, values = pass_.due
    # One row of SQLite's for all, for the reason given at ledger_schema.insert.
    sql = f"""
        SELECT json_group_array(json_array(row, coalesce(final_url, url), etag, last_modified, path)) FROM outcomes
        WHERE row >= ? AND row < ? AND {due}
    """  # noqa: S608 - constants and marks
    (found,) = db.execute(sql, (first, last, *values)).fetchone()
    return {
        row: _held(url, etag, last_modified, path) for row, url, etag, last_modified, path in json.loads(found)
    }


def _held(url: str, etag: str | None, last_modified: str | None, path: str | None) -> Held:
    if f"{MASK}@" in url:  # not the URL it came from: the ledger does not know the password that was in it
        return Held(url, path=path)
    return Held(url, etag or "", last_modified or "", path)
