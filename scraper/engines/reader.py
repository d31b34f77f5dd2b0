"""Rows from a blocking iterator, read ahead in a thread of its own: whatever is there, as soon as it is there.

In: an iterator that may block, on a disk or for ever on a pipe. Out: lists of rows, in order, on the event loop.
Must never: hold more than ``ahead`` rows; keep the process alive once nobody reads, hence a daemon thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

R = TypeVar("R")
T = TypeVar("T")


class Reader(Generic[T]):
    """Reads ``rows`` in a thread while the loop does other things.

    Args:
        rows: iterated in the thread, and only there.
        ahead: most rows read and not yet taken.
    """

    def __init__(self, rows: Iterator[T], ahead: int) -> None:
        self._rows = rows
        self._ahead = ahead
        self._buffer: list[T] = []
        self._ended = False
        self.count = 0
        """Rows taken from the iterator so far."""
        self.is_at_end = False
        """Whether ``count`` is all there are."""
        self._error: BaseException | None = None
        self._abandoned = False
        self._changed = threading.Condition()
        self._wanted: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, name="scraper-reader", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # No join: the thread may sit in a read that never returns. It holds nothing but the source.

    def stop(self) -> None:
        """Read no more: ``take`` gives an empty list from here on, also to the one who waits in it."""
        with self._changed:
            self._abandoned = self._ended = True
            self._buffer = []
            self._tell()
            self._changed.notify()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits in ``take``, and the list has not given anything yet."""
        return self._wanted is not None

    async def take(self) -> list[T]:
        """The rows read since the last call, waiting for at least one; empty at the end.

        Raises:
            Exception: what the iterator raised, after the rows before it were taken.
        """
        with self._changed:
            if not self._buffer and not self._ended:
                self._wanted = self._loop.create_future()
            wanted = self._wanted
        if wanted is not None:
            await wanted
        with self._changed:
            self._wanted = None
            rows, self._buffer = self._buffer, []
            self._changed.notify()
        if not rows and self._error is not None:
            raise self._error
        return rows

    def _read(self) -> None:
        try:
            for row in self._rows:
                with self._changed:
                    if self._abandoned:
                        return
                    self._buffer.append(row)
                    self.count += 1
                    self._tell()
                    while len(self._buffer) >= self._ahead and not self._abandoned:
                        self._changed.wait()
        except BaseException as error:  # it is raised where somebody can see it: in take()
            self._error = error
        with self._changed:
            self.is_at_end = self._error is None
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        """Wake the one who waits in take(). Called with the lock held."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, wanted)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def in_daemon_thread(work: Callable[[], R]) -> R:
    """Call ``work`` in a thread that does not keep the process alive, should it never return."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[R] = loop.create_future()

    def call() -> None:
        try:
            result = work()
        except BaseException as error:  # it is raised where somebody can see it: in the awaiting task
            tell(answer.set_exception, error)
        else:
            tell(answer.set_result, result)

    def tell(settle: Callable[[Any], None], value: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: None if answer.done() else settle(value))

    threading.Thread(target=call, name="scraper-first-row", daemon=True).start()
    return await answer
