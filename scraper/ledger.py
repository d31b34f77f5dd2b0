"""What has ended, durably: one SQLite file, one thread that writes it, batches.

In: Outcomes whose bytes are durable, and what the sink goes on from. Out: which rows need not be asked again.
Must never: say "done" before a power cut could not undo it; mix the rows of two lists, or of two settings.

    async with Ledger.open(path) as ledger:
        await ledger.begin(meta, again)              refuses another list, other settings
        await ledger.finished(0, 1000)               the rows that need not be asked
        await ledger.commit(outcomes, sink_state)    one transaction, one fsync
        await ledger.end(exit_code)

WAL, so that ``scraper report`` can read while a run writes; synchronous=FULL, because in WAL mode NORMAL may lose
the last commits to a power cut, and the sink has already let go of what it would need to make them again.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from scraper.config import Again
from scraper.database import Database
from scraper.errors import State, UsageError, outcome_class
from scraper.ledger_hosts import Holds, HostRecord, holds_of, keep_hosts
from scraper.ledger_pass import Pass, held_of, keep, note_asked, pass_of, surprises
from scraper.ledger_prints import Alike, NewPrints, keep_prints, rows_alike
from scraper.ledger_reader import LedgerReader, Run
from scraper.ledger_schema import (
    SCHEMA,
    Cell,
    Connection,
    Recorded,
    RunMeta,
    check_version,
    connect,
    insert,
    translated,
    upgrade,
)
from scraper.policies.secrets import mask_secrets
from scraper.records import Held, Outcome

__all__ = ["Ledger", "LedgerReader", "Recorded", "Run", "RunMeta"]

log = logging.getLogger("scraper")

T = TypeVar("T")

_STEP = 10_000

WAYS_OUT = "choose another -o OUT, or start over with --overwrite."


class Ledger(Database):
    """The writing side."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "scraper-ledger")
        self._run = 0
        self._last_row = -1
        self._sink_state: Mapping[str, object] = {}
        self._is_same_list = False  # as far as the fingerprints tell
        self._pass: Pass | None = None

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """The ledger at ``path``, to be entered. Made if it is not there; its folder must be.

        Raises:
            UsageError: on entering, the file is damaged or of a newer version.
            SinkFailed: on entering, it cannot be read or written.
        """
        return cls(path)

    def __repr__(self) -> str:
        state = "open" if self._db is not None else "closed"
        return f"<Ledger {self.path}: {state}, run {self._run}, last row {self._last_row}>"

    @property
    def sink_state(self) -> Mapping[str, object]:
        """What the sink said last, as committed. Empty for a new output folder."""
        return self._sink_state

    @property
    def last_row(self) -> int:
        """The highest row that has an outcome; -1 if none has."""
        return self._last_row

    @property
    def is_empty(self) -> bool:
        """Whether no row has an outcome yet."""
        return self._last_row < 0

    async def begin(self, meta: RunMeta, again: Again = Again()) -> None:  # noqa: B008 - frozen
        """Start a run, new or going on.

        Args:
            meta: what the run is.
            again: rows that have ended and are to be asked once more. If the last pass asked the same and was cut
                short, this run goes on with it: what ended in it is not asked a second time.

        Raises:
            UsageError: the ledger holds rows of another pipeline, list or settings; says which and what to do.
        """
        await self._call(lambda: self._begin(meta, again))

    async def finished(self, first: int, last: int) -> Collection[int]:
        """The rows of ``range(first, last)`` that need not be asked: they have an outcome, which is to stay."""
        if first > self._last_row:
            return range(0)
        return await self._call(lambda: self._finished(first, last))

    async def beginning(self) -> int:
        """How many rows at the list's beginning need not be looked at: all have ended, none is asked again.

        Counted in steps of 10,000; 0 where only the rows themselves can tell whether this still is the same list.
        """
        if self._pass is not None or not self._is_same_list:
            return 0
        return await self._call(self._beginning)

    async def held(self, first: int, last: int) -> Mapping[int, Held]:
        """What earlier runs hold of those rows of ``range(first, last)`` that are asked again."""
        if self._pass is None or first > self._last_row:
            return {}
        return await self._call(lambda: self._held(first, last))

    async def compare(self, rows: Sequence[tuple[int, str]]) -> None:
        """See that rows which have an outcome still are the URLs they were.

        Does nothing where the list's fingerprint has shown that already; a list from a pipe or a program has none.

        Args:
            rows: number and URL, as the list has them now.

        Raises:
            UsageError: one is not; this is another list.
        """
        if rows and not self._is_same_list:
            await self._call(lambda: self._compare(rows))

    async def commit(
        self,
        outcomes: Sequence[Outcome],
        sink_state: Mapping[str, object],
        hosts: Sequence[HostRecord] = (),
        holds: Holds = MappingProxyType({}),
        prints: NewPrints | None = None,
    ) -> None:
        """Make ``outcomes`` and ``sink_state`` durable, both or neither.

        A row that has an outcome gets the new one; the old one stays visible as an earlier end. A copy that it has
        on disk stays known, unless the new outcome brings another.

        Args:
            outcomes: how rows ended.
            sink_state: what the sink is to go on from.
            hosts: how hosts were treated since the last commit.
            holds: until when hosts want to be left alone.
            prints: what those of the rows look like that later ones may be duplicates of.

        Raises:
            SinkFailed: the disk, or another program that has the file, refuses. Nothing was recorded.
        """
        await self._call(lambda: self._commit(outcomes, sink_state, hosts, holds, prints))

    async def alike(self, digests: Sequence[bytes], prints: Mapping[int, Collection[int]]) -> Alike:
        """The rows, as committed, whose contents are or whose pictures may be alike: see ``ledger_prints``."""
        return await self._call(lambda: rows_alike(self._connection(), digests, prints))

    async def holds(self) -> Holds:
        """The hosts that an earlier run was told to leave alone until a time that is still to come."""
        return await self._call(lambda: holds_of(self._connection(), time.time()))

    async def counts(self) -> Counter[str]:
        """Rows by outcome class, over all runs."""
        return await self._call(self._counts)

    async def end(self, exit_code: int, rows_total: int | None = None) -> None:
        """Note that the run begun here has ended by itself, and how.

        Args:
            exit_code: as the command's.
            rows_total: rows of the list, if it was read to its end.
        """
        await self._call(lambda: self._end(exit_code, rows_total))

    # From here on: in the ledger's thread.

    def _errors(self) -> AbstractContextManager[None]:
        return translated(self.path)

    def _open(self) -> None:
        self._db = db = connect(self.path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")
        upgrade(db, check_version(db, self.path))
        self._last_row = db.execute("SELECT coalesce(max(row), -1) FROM outcomes").fetchone()[0]
        self._sink_state = json.loads(self._meta("sink_state") or "{}")

    def _meta(self, key: str) -> str | None:
        found = self._connection().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else None

    def _set_meta(self, key: str, value: str) -> None:
        self._connection().execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk may have rolled back already
                db.execute("ROLLBACK")
            raise
        return result

    def _begin(self, meta: RunMeta, again: Again) -> None:
        def work(db: Connection) -> int:
            held = self._meta("run")
            if held is not None and (self._last_row >= 0 or self._sink_state):
                was = RunMeta.from_json(held)
                changes = changes_between(was, RunMeta.from_json(meta.to_json()))
                if changes:
                    raise UsageError(
                        f"{_out_of(self.path)} holds results of another job ({'; '.join(changes)}): {WAYS_OUT}"
                    )
                self._is_same_list = bool(was.fingerprint and meta.fingerprint)
            self._set_meta("run", _going_on(held, meta).to_json())
            self._pass = pass_of(db, again, time.time())
            inserted = db.execute(
                "INSERT INTO runs (started, last, pid, version, guards) VALUES (?, ?, ?, ?, ?)",
                (meta.started_at, meta.started_at, os.getpid(), meta.version, json.dumps(list(meta.guards))),
            )
            assert inserted.lastrowid is not None
            if self._pass is not None:
                for sentence in surprises(db, self._pass, _out_of(self.path)):
                    log.warning("%s", sentence)
                keep(db, self._pass, inserted.lastrowid)
            return inserted.lastrowid

        self._run = self._transaction(work)

    def _finished(self, first: int, last: int) -> Collection[int]:
        values: tuple[Cell, ...]
        these, values = "FROM outcomes WHERE row >= ? AND row < ?", (first, last)
        if self._pass is not None:
            due, more = self._pass.due
            these, values = f"{these} AND NOT {due}", (*values, *more)
        db = self._connection()
        # One row each, for the reason given at ledger_schema.insert.
        count = db.execute(f"SELECT count(*) {these}", values).fetchone()[0]
        if count == 0:
            return range(0)
        if count == last - first:
            return range(first, last)
        rows = db.execute(f"SELECT group_concat(row) {these}", values).fetchone()[0]
        return frozenset(map(int, rows.split(",")))

    def _beginning(self) -> int:
        rows = 0
        while self._count(rows, rows + _STEP) == _STEP:
            rows += _STEP
        return rows

    def _count(self, first: int, last: int) -> int:
        sql = "SELECT count(*) FROM outcomes WHERE row >= ? AND row < ?"
        return int(self._connection().execute(sql, (first, last)).fetchone()[0])

    def _held(self, first: int, last: int) -> Mapping[int, Held]:
        assert self._pass is not None
        return held_of(self._connection(), self._pass, first, last)

    def _compare(self, rows: Sequence[tuple[int, str]]) -> None:
        first, last = rows[0][0], rows[-1][0]
        sql = "SELECT row, url FROM outcomes WHERE row >= ? AND row <= ?"
        held = dict(self._connection().execute(sql, (first, last)).fetchall())
        for row, url in rows:
            now = mask_secrets(url)
            # Masked again: a version before may have let pass what is masked now.
            if row in held and mask_secrets(held[row]) != now:
                change = f"row {row} was {held[row]} and is now {now}"
                raise UsageError(f"{_out_of(self.path)} holds results of another list ({change}): {WAYS_OUT}")

    def _commit(
        self,
        outcomes: Sequence[Outcome],
        sink_state: Mapping[str, object],
        hosts: Sequence[HostRecord],
        holds: Holds,
        prints: NewPrints | None,
    ) -> None:
        # Not before the pass began, whatever the clock says: it would ask these rows again.
        now = max(time.time(), self._pass.started_at if self._pass else 0.0)
        states = Counter(outcome_class(outcome.class_).state for outcome in outcomes)
        tally = (states[State.OK], states[State.SKIPPED], states[State.FAILED], sum(o.bytes for o in outcomes))
        state_json = json.dumps(dict(sink_state))

        def work(db: Connection) -> None:
            if self._pass is not None:
                note_asked(db, self._pass, self._run, outcomes)
            insert(db, outcomes, now)
            keep_hosts(db, hosts, holds, now)
            if prints is not None:
                keep_prints(db, prints)
            if outcomes:
                db.execute(
                    "INSERT INTO commits (run, at, ok, skipped, failed, bytes) VALUES (?, ?, ?, ?, ?, ?)",
                    (self._run, now, *tally),
                )
            db.execute("UPDATE runs SET last = ? WHERE id = ?", (now, self._run))
            self._set_meta("sink_state", state_json)

        self._transaction(work)
        self._sink_state = json.loads(state_json)
        self._last_row = max(self._last_row, max((outcome.row for outcome in outcomes), default=-1))

    def _counts(self) -> Counter[str]:
        found = self._connection().execute("SELECT class, count(*) FROM outcomes GROUP BY class").fetchall()
        return Counter(dict(found))

    def _end(self, exit_code: int, rows_total: int | None) -> None:
        now = time.time()
        self._transaction(
            lambda db: db.execute(
                "UPDATE runs SET last = ?, ended = ?, exit = ?, rows_total = ? WHERE id = ?",
                (now, now, exit_code, rows_total, self._run),
            )
        )


def _out_of(path: Path) -> Path:
    """The output folder that a ledger belongs to, as users know it."""
    return path.parent.parent if path.parent.name == ".scraper" else path


def _going_on(held: str | None, meta: RunMeta) -> RunMeta:
    """What to keep: what the user says now, and of the past only what is not known now."""
    if held is None or meta.fingerprint:
        return meta
    return replace(meta, fingerprint=RunMeta.from_json(held).fingerprint)


def changes_between(was: RunMeta, now: RunMeta) -> list[str]:
    """What differs in a way that would mix two jobs in one output, in the user's words."""
    if was.pipeline != now.pipeline:
        return [f"made by '{was.pipeline}', not by '{now.pipeline}'"]
    found = [
        f"{name} was {_shown(was.settings, name)} and is now {_shown(now.settings, name)}"
        for name in sorted({*was.settings, *now.settings})
        if was.settings.get(name) != now.settings.get(name)
    ]
    if was.fingerprint and now.fingerprint and was.fingerprint != now.fingerprint:
        before, after = (", ".join(one.inputs) or "given by a program" for one in (was, now))
        if before == after:
            found.append(f"the list, {after}, has changed since")
        else:
            found.append(f"the list was {before} and is now {after}")
    return found


def _shown(settings: Mapping[str, object], name: str) -> str:
    return json.dumps(settings[name], ensure_ascii=False) if name in settings else "not set"
