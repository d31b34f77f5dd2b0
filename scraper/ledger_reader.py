"""The ledger, read: while a run writes it, after a crash, on a disk that cannot be written.

In: the file. Out: rows one by one, and sums made by SQLite. Synchronous; of the file's tables, writes none.
Must never: hold all rows in memory; take a lock that makes a run wait.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from scraper.config import Again
from scraper.errors import State, UsageError, in_family, outcome_class
from scraper.ledger_hosts import HostRecord, records, to_show
from scraper.ledger_pass import LastPass, count_due, last_pass, pass_of, unfinished
from scraper.ledger_schema import (
    Cell,
    Connection,
    Recorded,
    RunMeta,
    check_version,
    connect,
    recorded,
    select,
    translated,
)

_EARLIER = "class, coalesce(status, 0), at, coalesce(message, '')"
_FETCH = 500


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job, in the order they were started.

    Attributes:
        started: seconds since the epoch.
        last: when it last made something durable, or ended.
        ended: when it ended by itself; None while it runs, and for ever if it was killed.
        exit: its exit code; None as for ``ended``.
        pid: its process.
        version: of this package.
        rows_total: rows of the list; None where the run ended before the list did.
        rows: rows that ended in it.
    """

    started: float
    last: float
    ended: float | None
    exit: int | None
    pid: int
    version: str
    rows_total: int | None
    rows: int

    @property
    def seconds(self) -> float:
        """How long it ran, as far as the ledger knows."""
        return max(0.0, self.last - self.started)


class HostTotals(NamedTuple):
    """What became of one host's rows. ``mean_ms`` is of the rows that were asked."""

    host: str
    rows: int
    ok: int
    failed: int
    mean_ms: float
    bytes: int


class TimeTotals(NamedTuple):
    """Sums over the rows that were asked: bytes of bodies, milliseconds by part."""

    bytes: int
    asked: int
    dns_ms: float
    connect_ms: float
    tls_ms: float
    first_byte_ms: float
    total_ms: float


class Commit(NamedTuple):
    """What one commit made durable. ``run`` counts from 0, in the order of ``runs()``."""

    run: int
    at: float
    ok: int
    skipped: int
    failed: int
    bytes: int


class Earlier(NamedTuple):
    """How a row ended before it was asked again. ``at`` is in seconds since the epoch."""

    class_: str
    status: int
    at: float
    message: str


class NoRun(UsageError):
    """There is no ledger, or one that has been begun and holds nothing yet, not even its tables."""


class LedgerReader:
    """Reads a ledger; a context manager.

    Args:
        path: the file.

    Raises:
        NoRun: no run has written there.
        UsageError: it is damaged, or of a newer version.
        SinkFailed: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        nothing = NoRun(f"There is no run in {path.parent.parent}: give the -o folder of a run.")
        if not path.is_file():
            raise nothing
        with translated(path):
            self._db: Connection = connect(path, read_only=True)
            try:
                if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                    raise nothing  # a run is making it just now
                self._version = check_version(self._db, path)
                self._select = select(self._version)
            except BaseException:
                self._db.close()
                raise

    def __repr__(self) -> str:
        return f"<LedgerReader {self.path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _each(self, sql: str, values: Sequence[Cell] = ()) -> Iterator[tuple[Cell, ...]]:
        with translated(self.path):
            cursor = self._db.execute(sql, values)
            try:
                while rows := cursor.fetchmany(_FETCH):
                    yield from rows
            finally:
                cursor.close()

    def meta(self) -> RunMeta | None:
        """What the last run was; None if none has begun."""
        for (text,) in self._each("SELECT value FROM meta WHERE key = 'run'"):
            return RunMeta.from_json(str(text))
        return None

    def runs(self) -> list[Run]:
        """Every run so far, oldest first."""
        rows = "(SELECT coalesce(sum(ok + skipped + failed), 0) FROM commits WHERE run = runs.id)"
        sql = f"SELECT started, last, ended, exit, pid, version, rows_total, {rows} FROM runs ORDER BY id"  # noqa: S608 - constants
        return [Run(*row) for row in self._each(sql)]  # type: ignore[arg-type] # the table's own column types

    def counts(self) -> Counter[str]:
        """Rows by outcome class."""
        sql = "SELECT class, count(*) FROM outcomes GROUP BY class"
        return Counter({str(name): n for name, n in self._each(sql) if isinstance(n, int)})

    def _classes(self, state: State | None = None, class_prefix: str | None = None) -> list[str]:
        """The classes there are, of that state, and equal to or below that dotted name."""
        below = class_prefix.rstrip(".") if class_prefix else ""
        return [
            name
            for name in self.counts()
            if (state is None or outcome_class(name).state is state) and (not below or in_family(name, below))
        ]

    def rows(self, state: State | None = None, class_prefix: str | None = None) -> Iterator[Recorded]:
        """The rows in order of their number, streamed; of one state, of one class or family of classes."""
        where, classes = "", self._classes(state, class_prefix)
        if state is not None or class_prefix:
            # "+" keeps SQLite from the index: it would have to collect and sort all that it finds there.
            where = f" WHERE +class IN ({','.join('?' * len(classes))})"
        for cells in self._each(f"{self._select}{where} ORDER BY row", classes if where else ()):
            yield recorded(cells)

    def first(self, class_: str, limit: int) -> list[Recorded]:
        """The first rows of one class."""
        sql = f"{self._select} WHERE class = ? ORDER BY row LIMIT ?"
        return [recorded(cells) for cells in self._each(sql, (class_, limit))]

    def sample(self, class_: str, limit: int) -> list[Recorded]:
        """Up to ``limit`` rows of one class, spread evenly over the list."""
        (ends,) = self._each("SELECT min(row), max(row) FROM outcomes WHERE class = ?", (class_,))
        low, high = ends
        if not isinstance(low, int) or not isinstance(high, int):
            return []
        found: dict[int, Recorded] = {}
        sql = f"{self._select} WHERE class = ? AND row >= ? ORDER BY row LIMIT 1"
        for n in range(limit):
            for cells in self._each(sql, (class_, low + n * (high - low + 1) // limit)):
                one = recorded(cells)
                found[one.outcome.row] = one
        return list(found.values())

    def earlier(self, row: int) -> list[Earlier]:
        """How a row ended before it was asked again, oldest first."""
        sql = f"SELECT {_EARLIER} FROM earlier WHERE row = ? ORDER BY rowid"  # noqa: S608 - constants
        return [Earlier(*cells) for cells in self._each(sql, (row,))]  # type: ignore[arg-type] # as the table has them

    def with_earlier(
        self, state: State | None = None, class_prefix: str | None = None
    ) -> Iterator[tuple[Recorded, list[Earlier]]]:
        """As ``rows``, each with how it ended before, oldest first. Two queries, however many rows there are."""
        sql = f"SELECT row, {_EARLIER} FROM earlier ORDER BY row, rowid"  # noqa: S608 - constants
        ends = self._each(sql)
        end = next(ends, None)
        for one in self.rows(state, class_prefix):
            row, found = one.outcome.row, []
            while end is not None and end[0] <= row:  # type: ignore[operator] # a row's number
                if end[0] == row:
                    found.append(Earlier(*end[1:]))  # type: ignore[arg-type] # as the table has them
                end = next(ends, None)
            yield one, found

    def asked_again(self, again: Again) -> int:
        """How many rows a run that begins now would ask again."""
        with translated(self.path):
            found = pass_of(self._db, again, time.time())
            return 0 if found is None else count_due(self._db, found)

    def unfinished(self) -> Again:
        """What the last pass was to ask again, if it was cut short; nothing otherwise."""
        with translated(self.path):
            return unfinished(self._db)

    def last_pass(self) -> LastPass | None:
        """What came of asking again last; None if that was never done."""
        with translated(self.path):
            return last_pass(self._db)

    def hosts(self, limit: int) -> tuple[int, list[HostTotals]]:
        """How many hosts were asked, and those with the most rows."""
        ok, failed = self._classes(State.OK), self._classes(State.FAILED)
        sql = f"""
            SELECT count(*) OVER (), host, count(*), sum(class IN ({",".join("?" * len(ok))})),
                sum(class IN ({",".join("?" * len(failed))})),
                coalesce(avg(total_us), 0) / 1000, coalesce(sum(bytes), 0)
            FROM outcomes WHERE host IS NOT NULL GROUP BY host HAVING count(attempts) ORDER BY 3 DESC, 2 LIMIT ?
        """  # noqa: S608 - marks only
        found = list(self._each(sql, (*ok, *failed, limit)))
        total = found[0][0] if found else 0
        assert isinstance(total, int)
        return total, [HostTotals(*row[1:]) for row in found]  # type: ignore[arg-type] # as selected

    def treatment(self, limit: int) -> list[HostRecord]:
        """How hosts were treated: those that held a run back, and those that were asked most."""
        return records(self._each(*to_show(limit))) if self._version >= 4 else []

    def guards(self) -> list[str]:
        """What runs were allowed beyond the defaults, in sentences, each once, those of the last run first."""
        if self._version < 4:
            return []
        said: dict[str, None] = {}
        for (text,) in self._each("SELECT guards FROM runs WHERE guards IS NOT NULL ORDER BY id DESC"):
            said |= dict.fromkeys(map(str, json.loads(str(text))))
        return list(said)

    def totals(self) -> TimeTotals:
        """Bytes of bodies and milliseconds, summed over all rows."""
        parts = ("dns_us", "connect_us", "tls_us", "first_byte_us", "total_us")
        sums = ", ".join(f"coalesce(sum({part}), 0) / 1000.0" for part in parts)
        sql = f"SELECT coalesce(sum(bytes), 0), count(total_us), {sums} FROM outcomes"  # noqa: S608 - constants
        (found,) = self._each(sql)
        return TimeTotals(*found)  # type: ignore[arg-type] # as selected

    def durations(self) -> list[tuple[int, int]]:
        """(whole milliseconds, rows that took so long), ascending."""
        sql = "SELECT total_us / 1000, count(*) FROM outcomes WHERE total_us IS NOT NULL GROUP BY 1 ORDER BY 1"
        return list(self._each(sql))  # type: ignore[arg-type] # as selected

    def sizes(self, grain: int = 256) -> Iterator[tuple[int, int]]:
        """(size of body in bytes, rounded down to ``grain``; rows), ascending; rows without a body left out."""
        sql = "SELECT bytes / ? * ?, count(*) FROM outcomes WHERE bytes IS NOT NULL GROUP BY 1 ORDER BY 1"
        return self._each(sql, (grain, grain))  # type: ignore[return-value] # as selected

    def commits(self) -> Iterator[Commit]:
        """What was made durable when, oldest first."""
        run = "(SELECT count(*) FROM runs WHERE id < run)"
        sql = f"SELECT {run}, at, ok, skipped, failed, bytes FROM commits ORDER BY id"  # noqa: S608 - constants
        for row in self._each(sql):
            yield Commit(*row)  # type: ignore[arg-type] # as selected
