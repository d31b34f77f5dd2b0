"""The bounded, closable, measuring ``asyncio.Queue`` between two stages.

    with channel.producer():                          any number of producers
        await channel.put(item)
    while (batch := await channel.take(16)) is not None: ...        any number of readers

Leaving the last ``producer()`` block closes the channel: readers get what is left, then None. Once one was left by
an exception, none does: the task group cancels the readers, and nobody mistakes a crash for the end of the work.

Must never: be unbounded; hand an item to two readers; lose an item while it is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Where a run waits: a full channel waits for its readers, an empty one for its producers.

    Attributes:
        name: the channel's name.
        size: items waiting now.
        bound: most items that can wait.
        peak: most items that ever waited.
        passed: items handed to readers so far.
        blocked_put_s: seconds that producers spent waiting for room, summed over producers.
        blocked_get_s: seconds that readers spent waiting for an item, summed over readers.
    """

    name: str
    size: int
    bound: int
    peak: int
    passed: int
    blocked_put_s: float
    blocked_get_s: float


class _End:
    """Marks the end inside the queue. It never leaves this module."""


_END = _End()


class Channel(Generic[T]):
    """A bounded queue that ends.

    Args:
        name: for statistics and logs.
        bound: most items that may wait. No default: it is a decision. The bytes behind the items are
            bounded by the arena, not here.
    """

    def __init__(self, name: str, bound: int) -> None:
        if bound < 1:
            raise ValueError("a channel needs room for at least one item")
        self.name = name
        self.bound = bound
        self._queue: asyncio.Queue[T | _End] = asyncio.Queue(bound)
        self._producers = 0
        self._closed = False
        self._broken = False
        self._marked = False  # the mark of the end is in the queue
        self._peak = 0
        self._passed = 0
        self._blocked_put_s = 0.0
        self._blocked_get_s = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._producers} producers"
        return f"<Channel {self.name}: {self.statistics().size}/{self.bound} waiting, {state}>"

    @contextmanager
    def producer(self) -> Iterator[Channel[T]]:
        """Hold the channel open. The last to leave closes it, unless any has left by an exception.

        Enter before any reader could see the channel empty: in the task that starts the stages, or as the
        first thing that a stage does without awaiting.
        """
        if self._closed:
            raise RuntimeError(f"channel {self.name} is closed")
        self._producers += 1
        try:
            yield self
        except BaseException:
            self._producers -= 1
            self._broken = True
            raise
        self._producers -= 1
        if self._producers == 0 and not self._broken:
            self._closed = True
            self._mark_end()

    def _mark_end(self) -> None:
        """Put the mark behind the last item, now or as soon as there is room: it wakes the readers that wait."""
        if not self._marked and not self._queue.full():
            self._queue.put_nowait(_END)
            self._marked = True

    def _was_got(self, item: T | _End) -> None:
        """After each get: the mark stays in the queue, for the next reader."""
        if isinstance(item, _End):
            self._marked = False
        if self._closed:
            self._mark_end()

    async def put(self, item: T) -> None:
        """Add an item, waiting for room."""
        if self._closed:
            raise RuntimeError(f"channel {self.name} is closed")
        if self._queue.full():
            since = time.monotonic()
            await self._queue.put(item)
            self._blocked_put_s += time.monotonic() - since
        else:
            self._queue.put_nowait(item)
        size = self._queue.qsize()
        if size > self._peak:
            self._peak = size

    async def take(
        self,
        limit: int,
        *,
        wait_s: float | None = None,
        cost: Callable[[T], float] | None = None,
        most: float = 0.0,
    ) -> list[T] | None:
        """Take the next item and whatever else is already waiting.

        Args:
            limit: most items to return.
            wait_s: give up after so many seconds without an item. None waits for ever.
            cost: predicted cost of an item; with it, stop once ``most`` is reached. One item is always taken.
            most: see ``cost``.

        Returns:
            At least one item; an empty list when ``wait_s`` has passed; None at the end.
        """
        first = await self._first(wait_s)
        if isinstance(first, _End):
            return None
        if first is None:
            return []
        batch = [first[0]]
        spent = cost(batch[0]) if cost else 0.0
        while len(batch) < limit and (cost is None or spent < most) and not self._queue.empty():
            item = self._queue.get_nowait()
            self._was_got(item)
            if isinstance(item, _End):
                break
            batch.append(item)
            if cost:
                spent += cost(item)
        self._passed += len(batch)
        return batch

    async def _first(self, wait_s: float | None) -> tuple[T] | _End | None:
        """One item in a tuple, the end, or None when ``wait_s`` has passed."""
        if self._queue.empty():
            since = time.monotonic()
            try:
                async with asyncio.timeout(wait_s):
                    item = await self._queue.get()
            except TimeoutError:
                return None
            finally:
                self._blocked_get_s += time.monotonic() - since
        else:
            item = self._queue.get_nowait()
        self._was_got(item)
        return item if isinstance(item, _End) else (item,)

    def statistics(self) -> ChannelStatistics:
        """A snapshot, cheap enough for every redraw of a progress bar."""
        size = self._queue.qsize() - self._marked
        return ChannelStatistics(
            self.name, size, self.bound, self._peak, self._passed, self._blocked_put_s, self._blocked_get_s
        )
