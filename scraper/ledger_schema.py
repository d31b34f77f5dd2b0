"""How the ledger lies on disk: its tables, how a row of it becomes an Outcome and back, what SQLite's errors mean.

In: connections and Outcomes. Out: SQL, tuples, and errors of our own tree.
The only module of the ledger that imports sqlite3. Must never: hold a row's text back, or store a password.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from scraper.database import is_damage
from scraper.errors import OUTCOME_CLASSES, SinkFailed, State, UsageError
from scraper.policies.secrets import mask_secrets
from scraper.records import NO_TIMINGS, Outcome, Timings
from scraper.whatwg import place_of

Connection = sqlite3.Connection

SCHEMA_VERSION = 5
APPLICATION_ID = 0x53435250
"""Tells our file from any other SQLite database."""

BUSY_S = 10.0
"""How long to wait for another program that has the ledger open, such as a shell somebody looks into it with."""

MOST_OF_A_VALIDATOR = 1_024
"""Characters of an ETag or a Last-Modified that are kept; real ones have fewer than a hundred."""

COLUMNS = (
    "row", "class", "host", "status", "attempts", "bytes", "at", "dns_us", "connect_us", "tls_us", "first_byte_us",
    "total_us", "line", "sha256", "path", "shard", "url", "final_url", "message", "etag", "last_modified",
)  # fmt: skip
_SINCE_2 = ("etag", "last_modified")
"""Columns that a file of version 1 lacks."""

MOST_EARLIER = 8
"""Earlier ends that are kept of a row: it may fail every night for years."""

# A row that was ok and still is hides nothing by it, so a nightly refresh of a million rows leaves nothing here.
# Whatever else a row was stays to be seen.
_OK = ", ".join(f"'{each.name}'" for each in OUTCOME_CLASSES.values() if each.state is State.OK)
_KEEP_EARLIER = f"""
CREATE TRIGGER keep_earlier BEFORE UPDATE ON outcomes WHEN old.class NOT IN ({_OK}) OR new.class NOT IN ({_OK})
BEGIN
    DELETE FROM earlier WHERE rowid IN (
        SELECT rowid FROM earlier WHERE row = old.row ORDER BY rowid DESC LIMIT -1 OFFSET {MOST_EARLIER - 1}
    );
    INSERT INTO earlier VALUES (old.row, old.class, old.status, old.at, old.message);
END;
"""  # noqa: S608 - constants

_HOSTS = """
CREATE TABLE hosts (
    host TEXT PRIMARY KEY, requests INTEGER NOT NULL, throttled INTEGER NOT NULL, refused INTEGER NOT NULL,
    bytes INTEGER NOT NULL, active_s REAL NOT NULL, stretches INTEGER NOT NULL, delay_s REAL NOT NULL,
    at_once INTEGER NOT NULL, why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE holds (origin TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""
"""Since version 4."""

_PRINTS = """
CREATE TABLE prints (row INTEGER PRIMARY KEY, digest BLOB, dhash INTEGER);
CREATE TABLE contents (digest BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE bands (
    band INTEGER NOT NULL, dhash INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (band, dhash, row)
) WITHOUT ROWID;
"""
"""Since version 5: see ``scraper.ledger_prints``."""

# NULL stands for 0 and for "": most rows have most of them. Times are whole microseconds: 3 bytes where a
# float takes 8. What the report sums up comes first, so that SQLite reads no further into the row than that.
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, last REAL NOT NULL, ended REAL, exit INTEGER,
    pid INTEGER NOT NULL, version TEXT NOT NULL, rows_total INTEGER, guards TEXT
);
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL,
    ok INTEGER NOT NULL, skipped INTEGER NOT NULL, failed INTEGER NOT NULL, bytes INTEGER NOT NULL
);
CREATE TABLE outcomes (
    row INTEGER PRIMARY KEY, class TEXT NOT NULL, host TEXT, status INTEGER, attempts INTEGER, bytes INTEGER,
    at REAL NOT NULL, dns_us INTEGER, connect_us INTEGER, tls_us INTEGER, first_byte_us INTEGER,
    total_us INTEGER, line INTEGER, sha256 BLOB, path TEXT, shard TEXT, url TEXT NOT NULL, final_url TEXT,
    message TEXT, etag TEXT, last_modified TEXT
);
CREATE INDEX outcomes_by_class ON outcomes (class);
CREATE TABLE earlier (row INTEGER NOT NULL, class TEXT NOT NULL, status INTEGER, at REAL NOT NULL, message TEXT);
CREATE INDEX earlier_by_row ON earlier (row);
{_KEEP_EARLIER}
{_HOSTS}
{_PRINTS}
"""

_WRITE_SIZES = (1024, 256, 64, 16, 4, 1)
_ROW_OF_MARKS = f"({','.join('?' * len(COLUMNS))})"


def _replacement(name: str) -> str:
    """What a column holds once its row has ended again.

    A row that is asked again and then fails, or has not changed, leaves the copy on disk alone, so what describes
    that copy stays. Its validators go where the failure came from another URL than the copy did:
    ``final_url`` is then the failure's, and they would be sent there (RFC 9110 8.8: they are of one resource).
    """
    if name not in ("path", "shard", "sha256", "bytes", *_SINCE_2):
        return f"{name} = excluded.{name}"
    kept = f"CASE WHEN final_url IS excluded.final_url THEN {name} END" if name in _SINCE_2 else name
    return f"""{name} = CASE
        WHEN excluded.class = 'ok.not_modified' THEN coalesce(excluded.{name}, {name})
        WHEN excluded.class = 'ok' OR path IS NULL THEN excluded.{name}
        ELSE {kept} END"""


_REPLACE = ",".join(map(_replacement, COLUMNS[1:]))
_INSERTS = {
    size: f"INSERT INTO outcomes ({','.join(COLUMNS)}) VALUES {','.join([_ROW_OF_MARKS] * size)} "  # noqa: S608 - constants
    f"ON CONFLICT (row) DO UPDATE SET {_REPLACE}"
    for size in _WRITE_SIZES
}

_KINDS = {"pipeline": str, "settings": dict, "options": dict, "inputs": list, "fingerprint": str, "guards": list}

Cell = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class RunMeta:
    """What a run is, for the next one to be the same.

    Attributes:
        pipeline: the pipeline's name.
        settings: every setting that shapes the output; going on with others is refused.
        inputs: the lists, as the user named them.
        fingerprint: of the lists' rows; empty where it cannot be known, and then not compared.
        options: everything that ``scraper resume`` needs to run the same command.
        version: of this package.
        started_at: seconds since the epoch.
        guards: what the run was allowed beyond the defaults, in sentences for people.
    """

    pipeline: str
    settings: Mapping[str, object] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    fingerprint: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    version: str = ""
    started_at: float = 0.0
    guards: Sequence[str] = ()

    @classmethod
    def from_json(cls, text: str) -> RunMeta:
        """What ``to_json`` wrote; fields that this version does not know are left out.

        Raises:
            UsageError: somebody else wrote it.
        """
        try:
            known = {name: value for name, value in json.loads(text).items() if name in cls.__slots__}
            wrong = [name for name, kind in _KINDS.items() if not isinstance(known.get(name, kind()), kind)]
            if wrong:
                raise TypeError(f"{wrong[0]} is of the wrong kind")
            return cls(**known)
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"The ledger does not say what its run was, and is damaged: {error}.") from error

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(asdict(self), default=str)


class Recorded(NamedTuple):
    """An outcome as the ledger holds it.

    Attributes:
        outcome: how the row ended; user and password in its URLs are masked.
        at: when that became durable, in seconds since the epoch.
    """

    outcome: Outcome
    at: float


_REMEDIES = {
    "SQLITE_FULL": "free the disk",
    # SQLite keeps the errno to itself: to it a quota that is used up (EDQUOT) is an I/O error, like a bad disk.
    "SQLITE_IOERR": "the disk has failed, or its quota is used up; put that right",
    "SQLITE_READONLY": "it may not be written to; give it rights, or mount its disk for writing",
    "SQLITE_PERM": "it may not be written to; give it rights",
    "SQLITE_CANTOPEN": "see that its folder is there and may be written to, and that ulimit -n is not too low",
}
"""What to do, by the family of SQLite's error (https://sqlite.org/rescode.html)."""


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Map SQLite's errors to ours.

    Raises:
        UsageError: the file is damaged, or no ledger.
        SinkFailed: the disk or another program refuses us.
    """
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise _damaged(path, str(error)) from error
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise SinkFailed(
                f"{path} is locked by another program; close that program, then run the same command again."
            ) from error
        remedy = _REMEDIES.get("_".join(name.split("_")[:2]), "put this right")
        raise SinkFailed(
            f"{path} cannot be read or written ({error}): {remedy}, then run the same command again."
        ) from error


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is damaged ({why}): choose another -o OUT, or start over with --overwrite.")


def connect(path: Path, *, read_only: bool = False) -> Connection:
    """Open the file, for one thread; without any transaction unless one is begun."""
    uri = path.absolute().as_uri()
    if not read_only:
        return _connection(uri + "?mode=rwc")
    try:
        db = _connection(uri + "?mode=ro")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A folder that cannot be written has no room for the file that WAL readers share. Without a WAL
        # nobody is writing, and the file can be read as it is.
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        db = _connection(uri + "?mode=ro&immutable=1")
    return db


def _connection(uri: str) -> Connection:
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def check_version(db: Connection, path: Path) -> int:
    """The version of the file's tables.

    Raises:
        UsageError: it is no ledger, or one of a newer version.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID or version < 1:
        raise _damaged(path, "it is not a ledger")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} was written by a newer version of scraper: upgrade scraper, or choose another -o OUT."
        )
    assert isinstance(version, int)
    return version


def upgrade(db: Connection, version: int) -> None:
    """Bring a file of an older version up to this one, in one transaction."""
    if version == SCHEMA_VERSION:
        return
    added = "".join(f"ALTER TABLE outcomes ADD COLUMN {name} TEXT;" for name in _SINCE_2) if version < 2 else ""
    kept = f"DROP TRIGGER keep_earlier; {_KEEP_EARLIER}" if version < 3 else ""
    hosts = f"ALTER TABLE runs ADD COLUMN guards TEXT; {_HOSTS}" if version < 4 else ""
    changes = f"{added} {kept} {hosts} {_PRINTS}"
    db.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")


def select(version: int) -> str:
    """The beginning of a query for whole rows, as ``recorded`` takes them, from a file of that version."""
    names = ("NULL" if name in _SINCE_2 and version < 2 else name for name in COLUMNS)
    return f"SELECT {','.join(names)} FROM outcomes"  # noqa: S608 - constants


def insert(db: Connection, outcomes: Sequence[Outcome], at: float) -> None:
    """Write rows, within the caller's transaction.

    Many rows to a statement: Python lets go of its interpreter lock round every step of SQLite and must win it
    back from a busy event loop each time, which can take it 5 ms. A row each, 1,000 rows could take seconds.
    """
    try:
        rows = [_cells(outcome, at) for outcome in outcomes]
        _insert(db, rows)
    except UnicodeEncodeError:  # a lone surrogate, out of a list that is not UTF-8
        _insert(db, [[_storable(cell) for cell in row] for row in rows])


def _insert(db: Connection, rows: Sequence[Sequence[Cell]]) -> None:
    begin = 0
    most = db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(COLUMNS)  # 1,560 or more since SQLite 3.32
    for size in _WRITE_SIZES:
        while len(rows) - begin >= size and size <= most:
            db.execute(_INSERTS[size], [cell for row in rows[begin : begin + size] for cell in row])
            begin += size


def _storable(cell: Cell) -> Cell:
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def _cells(outcome: Outcome, at: float) -> Sequence[Cell]:
    """In the order of COLUMNS."""
    times = outcome.timings
    # What a failure was served with describes no copy that we hold: told "not modified", we would have nothing.
    etag, last_modified = (outcome.etag, outcome.last_modified) if outcome.state is State.OK else (None, None)
    return (
        outcome.row,
        outcome.class_,
        place_of(outcome.url) or None,
        outcome.status or None,
        outcome.attempts or None,
        outcome.bytes or None,
        at,
        _us(times.dns_ms),
        _us(times.connect_ms),
        _us(times.tls_ms),
        _us(times.first_byte_ms),
        _us(times.total_ms),
        outcome.line or None,
        bytes.fromhex(outcome.sha256) if outcome.sha256 else None,
        outcome.path,
        outcome.shard,
        mask_secrets(outcome.url),
        mask_secrets(outcome.final_url) if outcome.final_url else None,
        mask_secrets(outcome.message) if outcome.message else None,
        _validator(etag),
        _validator(last_modified),
    )


def _validator(value: str | None) -> str | None:
    """A header value that may be sent back; none that is odd or long, which a server could make it."""
    is_fit = value is not None and len(value) <= MOST_OF_A_VALIDATOR and value.isascii() and value.isprintable()
    return value or None if is_fit else None


def _us(ms: float) -> int | None:
    return round(ms * 1000) or None if ms else None


def recorded(cells: Sequence[Cell]) -> Recorded:
    """A row of ``SELECT COLUMNS`` as what it says."""
    (row, class_, _host, status, attempts, size, at, dns, connect_, tls, first_byte, total, line, digest,
     path, shard, url, final_url, message, etag, last_modified) = cells  # fmt: skip
    times = (dns, connect_, tls, first_byte, total)
    outcome = Outcome(
        row=_int(row),
        url=str(url),
        class_=str(class_),
        status=_int(status),
        attempts=_int(attempts),
        bytes=_int(size),
        sha256=digest.hex() if isinstance(digest, bytes) else None,
        path=_text(path),
        shard=_text(shard),
        timings=Timings(*(_int(us) / 1000 for us in times)) if any(times) else NO_TIMINGS,
        final_url=_text(final_url),
        message=_text(message) or "",
        line=_int(line),
        etag=_text(etag),
        last_modified=_text(last_modified),
    )
    assert isinstance(at, float)
    return Recorded(outcome, at)


def _int(cell: Cell) -> int:
    return cell if isinstance(cell, int) else 0


def _text(cell: Cell) -> str | None:
    return cell if isinstance(cell, str) else None
