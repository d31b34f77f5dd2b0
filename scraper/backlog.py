"""Rows that are too far ahead of their turn, on disk. In: rows with their host. Out: the same, host by host.

The file is scratch, not a record: a backlog that is lost is read from the list again. So it is never synced, has
no journal, and is deleted when it is opened and when it is closed. It comes to be with the first row put in.

Must never: block the event loop, hence a thread of its own; hold rows in memory; change the order within a host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from scraper.database import Database
from scraper.errors import SinkFailed
from scraper.records import Held, Request

_CACHE_KIB = 8 * 1024
"""Enough for the pages at the end of each host's rows, where all writing happens."""

_SETUP = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE rows (host BLOB, turn INTEGER, request, PRIMARY KEY (host, turn)) WITHOUT ROWID;
"""

_PUSH = "INSERT INTO rows VALUES (?, ?, ?)"
_PULL = "SELECT turn, request FROM rows WHERE host = ? ORDER BY turn LIMIT ?"
_DROP = "DELETE FROM rows WHERE host = ? AND turn <= ?"


class Backlog(Database):
    """First in, first out, for each host, in a scratch file at ``path``.

    ``push`` and ``pull`` are carried out in the order in which they were called.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "scraper-backlog")
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Backlog {self.path.name}: {self._turn} rows put in>"

    async def __aexit__(self, *error: object) -> None:
        with contextlib.suppress(SinkFailed):  # no run fails for a scratch file that stays; the next deletes it
            await super().__aexit__(*error)

    def push(self, rows: Sequence[tuple[str, Request]]) -> asyncio.Future[None]:
        """Put rows in, each with its host. The future is done when they are on disk.

        Raises:
            SinkFailed: the disk refused.
        """
        return self._call(lambda: self._push(rows))

    def pull(self, host: str, limit: int) -> asyncio.Future[list[Request]]:
        """Take out the oldest rows of ``host``, at most ``limit``.

        Raises:
            SinkFailed: the disk refused.
        """
        return self._call(lambda: self._pull(host, limit))

    # From here on: in the thread.

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SinkFailed(
                f"The waiting rows cannot be kept in {self.path}: {error}. "
                "Make room there and run the same command again."
            ) from error

    def _open(self) -> None:
        self._close()  # what a run before us left behind when it was killed

    def _close(self) -> None:
        super()._close()
        self.path.unlink(missing_ok=True)

    def _made(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None)
            self._db.executescript(_SETUP)
        return self._db

    def _push(self, rows: Sequence[tuple[str, Request]]) -> None:
        first, self._turn = self._turn, self._turn + len(rows)
        db = self._made()
        db.execute("BEGIN")
        db.executemany(
            _PUSH,
            [(_key(host), turn, _encode(request)) for turn, (host, request) in enumerate(rows, first)],
        )
        db.execute("COMMIT")

    def _pull(self, host: str, limit: int) -> list[Request]:
        db = self._made()
        key = _key(host)
        db.execute("BEGIN")
        found = db.execute(_PULL, (key, limit)).fetchall()
        if found:
            db.execute(_DROP, (key, found[-1][0]))
        db.execute("COMMIT")
        return [_decode(data) for _, data in found]


def _key(host: str) -> bytes:
    return host.encode("utf-8", "surrogatepass")  # a list that is not UTF-8 may have put anything here


_to_bytes = msgspec.msgpack.Encoder().encode
_from_bytes = msgspec.msgpack.Decoder().decode


_JSON = ord("[")  # no array of eleven begins so in MessagePack


def _encode(request: Request) -> bytes:
    """The request as MessagePack, or as JSON where it holds what MessagePack cannot.

    That is integers over 64 bits, and the lone surrogates that stand for bytes which are no UTF-8.
    """
    held = request.held
    fields = (
        request.row,
        request.url,
        request.caption,
        request.columns,
        request.line,
        request.target,
        request.hops,
        request.attempt,
        request.spent_s,
        request.excused,
        held and (held.url, held.etag, held.last_modified, held.path),
    )
    try:
        return _to_bytes(fields)
    except (OverflowError, UnicodeEncodeError):
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> Request:
    row, url, caption, columns, line, target, hops, attempt, spent_s, excused, held = (
        json.loads(data.decode("utf-8", "surrogatepass")) if data[0] == _JSON else _from_bytes(data)
    )
    kept = Held(*held) if held else None
    return Request(row, url, caption, columns, line, target, tuple(hops), attempt, spent_s, excused, kept)
