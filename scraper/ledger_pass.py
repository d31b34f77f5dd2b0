"""A pass: one round of asking again rows that have ended. Which rows those are, and when the round is over.

In: what is to be asked again, and a ledger's connection. Out: conditions in SQL, what is held of such rows, and
what came of the round. Must never: ask a row twice in one pass, however often the pass is killed; trust the clock
to run forwards; forget in silence a pass that was cut short.

A row has had its turn once it ends at or after the pass began. So a pass needs nothing but its beginning, and goes
on after a kill: rows of the pass that ended meanwhile, well or badly, are later than that.

The ledger keeps the last pass, with the last run that was at it. The pass is over when that run has ended by
itself. Until then a run that asks the same goes on with it; one that asks nothing again leaves it as it is; one
that asks something else takes its place, and says so.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scraper.config import Again
from scraper.errors import State, in_family, outcome_class
from scraper.ledger_schema import Cell, Connection
from scraper.policies.secrets import MASK
from scraper.records import Held, Outcome

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


@dataclass(frozen=True, slots=True)
class LastPass:
    """What came of the last pass so far.

    Attributes:
        again: what it is to ask.
        by_class: rows that were asked again in it, by the class they ended as.
        left: rows that it has still to ask; 0 once it is over.
    """

    again: Again
    by_class: Mapping[str, int]
    left: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last pass, as the ledger keeps it."""

    again: Again
    started_at: float
    by_class: Mapping[str, int]
    is_over: bool


def option_of(again: Again) -> str:
    """What is asked again, as one types it."""
    if again.refresh:
        return "--refresh"
    return f"--retry-failed={','.join(again.failed)}" if again.failed else "--retry-failed"


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
    if kept is not None and kept.again == again and not kept.is_over:
        started_at = kept.started_at
    else:
        # Rows of a time to come are there after a clock was set back.
        (latest,) = db.execute("SELECT coalesce(max(at), 0.0) FROM commits").fetchone()
        started_at = max(now, math.nextafter(latest, math.inf))
    return _pass(db, again, started_at)


def _pass(db: Connection, again: Again, started_at: float) -> Pass:
    found = db.execute("SELECT class FROM outcomes GROUP BY class").fetchall()
    return Pass(again, started_at, tuple(name for (name,) in found if is_asked(name, again)))


def count_due(db: Connection, pass_: Pass) -> int:
    """How many rows are still to be asked in it."""
    due, values = pass_.due
    (count,) = db.execute(f"SELECT count(*) FROM outcomes WHERE {due}", values).fetchone()  # noqa: S608 - marks only
    assert isinstance(count, int)
    return count


def last_pass(db: Connection) -> LastPass | None:
    """What came of the last pass; None if rows were never asked again."""
    kept = _kept(db)
    if kept is None:
        return None
    left = 0 if kept.is_over else count_due(db, _pass(db, kept.again, kept.started_at))
    return LastPass(kept.again, kept.by_class, left)


def unfinished(db: Connection) -> Again:
    """What the last pass was to ask again, if it was cut short; nothing otherwise."""
    kept = _kept(db)
    return Again() if kept is None or kept.is_over else kept.again


def is_asked(class_: str, again: Again) -> bool:
    """Whether a row that ended as ``class_`` is asked again."""
    state = outcome_class(class_).state
    if again.refresh:
        return state in (State.OK, State.FAILED)
    if again.failed is None or state is not State.FAILED:
        return False
    return not again.failed or any(in_family(class_, each) for each in again.failed)


def surprises(db: Connection, pass_: Pass, out: Path) -> Iterator[str]:
    """What the user may not expect of a pass that begins: sentences. Before the pass is kept.

    Args:
        db: the ledger.
        pass_: the pass.
        out: the output folder, as the user knows it.
    """
    option, nothing = option_of(pass_.again), f"{out} holds nothing yet"
    if db.execute("SELECT 1 FROM outcomes LIMIT 1").fetchone() is None:
        yield f"{nothing}: every row is asked for the first time, and {option} has none to ask again."
    last = last_pass(db) if unfinished(db) != pass_.again else None
    if last is not None and last.left:
        rows = f"{last.left:,} row{'s' if last.left > 1 else ''}"
        yield f"{option} takes the place of {option_of(last.again)}, which was cut short with {rows} left to ask."


def keep(db: Connection, pass_: Pass, run: int) -> None:
    """Note the pass of the run that begins, within the caller's transaction."""
    kept = _kept(db)
    goes_on = kept is not None and (kept.again, kept.started_at) == (pass_.again, pass_.started_at)
    _write(db, pass_, run, kept.by_class if kept is not None and goes_on else {})


def note_asked(db: Connection, pass_: Pass, run: int, outcomes: Sequence[Outcome]) -> None:
    """Count those of ``outcomes`` that are asked again, before they are written, within the same transaction."""
    rows = json.dumps([outcome.row for outcome in outcomes])
    # One row of SQLite's for all, for the reason given at ledger_schema.insert.
    sql = "SELECT group_concat(row) FROM outcomes WHERE row IN (SELECT value FROM json_each(?)) AND at < ?"
    (found,) = db.execute(sql, (rows, pass_.started_at)).fetchone()
    kept = _kept(db)
    if not found or kept is None:
        return
    again = frozenset(map(int, found.split(",")))
    ended = Counter(outcome.class_ for outcome in outcomes if outcome.row in again)
    _write(db, pass_, run, ended + Counter(kept.by_class))


def _write(db: Connection, pass_: Pass, run: int, by_class: Mapping[str, int]) -> None:
    said = {
        "failed": pass_.again.failed,
        "refresh": pass_.again.refresh,
        "started_at": pass_.started_at,
        "run": run,
        "by_class": by_class,
    }
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(said)))


def _kept(db: Connection) -> _Kept | None:
    sql = "SELECT value, exit FROM meta JOIN runs ON id = json_extract(value, '$.run') WHERE key = ?"
    found = db.execute(sql, (_KEY,)).fetchone()
    if found is None:
        return None
    said = json.loads(found[0])
    again = Again(None if said["failed"] is None else tuple(said["failed"]), said["refresh"])
    return _Kept(again, said["started_at"], said["by_class"], found[1] in _ENDED_BY_ITSELF)


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
