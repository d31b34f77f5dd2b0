"""A SQLite file and the one thread that works in it. In: work for the thread. Out: its results; errors as ours.

    class Names(Database):
        def _open(self): …      on entering, in the thread: makes ``_db``
        def _errors(self): …    what SQLite's and the disk's errors mean to the user

Work is carried out in the order of the calls, each piece to its end.
Must never: block the event loop; let go of the file before the work that is queued is done.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")


class Database(ABC):
    """An asynchronous context manager that owns its thread and its connection. Used by one event loop.

    Args:
        path: the file.
        thread: what the thread is called.
    """

    def __init__(self, path: Path, thread: str) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread)
        self._db: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._call(self._open)
        except BaseException:
            self._thread.submit(self._close)  # what is half open; nobody leaves what was not entered
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        # Comes after whatever is queued, so a commit under way is completed first.
        try:
            await self._call(self._close)
        finally:
            self._thread.shutdown(wait=False)

    def _call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have ``work`` done in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    # From here on: in the thread.

    def _guarded(self, work: Callable[[], T]) -> T:
        with self._errors():
            return work()

    @abstractmethod
    def _errors(self) -> AbstractContextManager[None]:
        """Turns errors of SQLite and of the disk into ours."""

    @abstractmethod
    def _open(self) -> None:
        """Begin to use the file."""

    def _close(self) -> None:
        """Let go of the file, if it is open."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _delete(self) -> None:
        """Let go of the file, and remove it with all that SQLite keeps beside it."""
        with suppress(sqlite3.Error):
            self._close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"{self!r} is not open: use it inside `async with`")
        return self._db


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file is damaged, or no database at all."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
