"""Where bodies live between fetch and sink, and the byte budget that bounds them.

    slot = await arena.reserve(expected)      waits while the budget is spent
    await slot.append(chunk)                  may wait as well, except for the oldest slot
    slot.body(), slot.place                   the bytes, and where workers find them, for the Response
    slot.shrink(len(output))                  the input is gone, the output remains
    slot.release()                            once, by leaving ``with slot:`` in the sink

Bodies for worker processes are in memory that these share (``scraper.memory``): what came from the network is
copied there once, and nowhere else. Bodies that stay in this process are ordinary bytes, and so are all of them
where there is no such memory, or no more of it. Nothing outside of these two files knows where the bytes are.

What the budget bounds is bytes of bodies. A room in shared memory may be larger than the body in it, but what is
not written to takes no memory.

Must never: dead-lock; show a body to who holds the view of another. When the budget is spent, the slot that has
been filling longest may still grow: it completes, is transformed and written, and frees its bytes. The next one
may not go over the budget before that, so what is ever held is the budget and one body of ``--max-bytes`` at most.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from scraper.memory import Block, Memory, Spill
from scraper.records import Place


class Arena:
    """The byte budget, and where its bytes are. A context manager, where they are in memory that is shared.

    Args:
        budget: most bytes held by all slots together.
        memory: where bodies are to be; None for ordinary bytes.
    """

    def __init__(self, budget: int, memory: Memory | None = None) -> None:
        self.budget = budget
        self.memory = memory
        self.held = 0
        self.peak = 0
        self._filling: dict[Slot, None] = {}  # in order of age; the first may always grow
        self._waiting: dict[Slot, tuple[int, asyncio.Future[None]]] = {}  # in order of asking

    def __repr__(self) -> str:
        return (
            f"<Arena {self.held}/{self.budget} bytes, {len(self._filling)} filling, {len(self._waiting)} waiting>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.memory is not None:
            self.memory.close()

    async def reserve(self, expected: int = 0, claimed: int = 0) -> Slot:
        """A slot with ``expected`` bytes of the budget, once that allows.

        Args:
            expected: bytes to hold.
            claimed: bytes the body is said to have. Nothing is held for that; it only says how large a room to
                look for, which spares a body that grows the way from room to room.
        """
        slot = Slot(self, max(expected, claimed))
        self._filling[slot] = None
        try:
            await slot.grow(expected)
        except BaseException:
            slot.release()
            raise
        return slot

    async def _take(self, slot: Slot, more: int) -> None:
        if self._may_hold(slot, more) and (not self._waiting or self._is_oldest(slot)):
            self._hold(slot, more)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[slot] = (more, granted)
        try:
            await granted
        except asyncio.CancelledError:
            self._waiting.pop(slot, None)
            if granted.cancelled():
                self._grant()  # those behind us may have waited for our turn only
            else:  # granted and cancelled in the same turn of the loop
                slot.held -= more
                self._give(more)
            raise

    def _is_oldest(self, slot: Slot) -> bool:
        return next(iter(self._filling), None) is slot

    def _may_hold(self, slot: Slot, more: int) -> bool:
        if self.held + more <= self.budget:
            return True
        # Over the budget on its own account only. What others hold beyond it is of bodies that are complete,
        # and so on their way out.
        return self._is_oldest(slot) and self.held - slot.held <= self.budget

    def _hold(self, slot: Slot, more: int) -> None:
        slot.held += more
        self.held += more
        self.peak = max(self.peak, self.held)

    def _give(self, less: int) -> None:
        self.held -= less
        self.peak = max(self.peak, self.held)  # ``less`` is negative for a result larger than its input
        self._grant()

    def _grant(self) -> None:
        """Let those go on who now may: the oldest slot whatever it asks, the others first come, first served."""
        oldest = next(iter(self._filling), None)
        if oldest in self._waiting and self._may_hold(oldest, self._waiting[oldest][0]):
            self._admit(oldest)
        while self._waiting:
            first = next(iter(self._waiting))
            if not self._may_hold(first, self._waiting[first][0]):
                return
            self._admit(first)

    def _admit(self, slot: Slot) -> None:
        more, granted = self._waiting.pop(slot)
        if not granted.done():
            self._hold(slot, more)
            granted.set_result(None)


class Slot:
    """The bytes of one body. Belongs to one task at a time; passed along with the Response."""

    __slots__ = ("_arena", "_chunks", "_claimed", "_there", "_view", "held", "size")

    def __init__(self, arena: Arena, claimed: int = 0) -> None:
        self._arena = arena
        self._claimed = claimed
        self._chunks: list[bytes] = []  # what is not in shared memory
        self._there: Block | Spill | None = None  # where it is in shared memory
        self._view: memoryview | None = None  # of the body there, once it is whole
        self.held = 0
        """Bytes of the budget in our name."""
        self.size = 0
        """Bytes appended so far."""

    def __repr__(self) -> str:
        return f"<Slot {self.size} bytes, {self.held} held>"

    async def grow(self, total: int) -> None:
        """Hold at least ``total`` bytes of the budget."""
        if total > self.held:
            await self._arena._take(self, total - self.held)

    async def append(self, chunk: bytes) -> None:
        """Add bytes to the body, waiting for budget where it was not reserved."""
        if self._arena.memory is None or self._chunks:
            self._chunks.append(chunk)
        else:
            self._write(self._arena.memory, chunk)
        self.size += len(chunk)
        await self.grow(self.size)

    def _write(self, memory: Memory, chunk: bytes) -> None:
        total = self.size + len(chunk)
        try:
            if self._there is None:  # not sooner: who promises much and sends nothing takes no room
                self._there = memory.take(max(self._claimed, total))
            self._there = self._there.for_total(total, self.size)
            self._there.write(self.size, chunk)
        except OSError:
            self._chunks = [*self._taken_back(), chunk]

    def _taken_back(self) -> list[bytes]:
        """What is in shared memory, as ordinary bytes."""
        there, self._there = self._there, None
        if there is None:
            return []
        copy = there.read(self.size)
        there.free(self.size)
        return [copy] if copy else []

    def body(self) -> bytes | memoryview:
        """The whole body. Ends the filling: from here on the slot only shrinks.

        A view of shared memory raises ValueError once the slot has given the body up.
        """
        if self._there is not None and self._view is None:
            try:
                self._view = self._there.view(self.size)
            except OSError:  # no descriptor left
                self._chunks = self._taken_back()
        self._seal()
        if self._view is not None:
            return self._view
        if len(self._chunks) != 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]

    @property
    def place(self) -> Place | None:
        """Where workers find the body, if it is in shared memory. For after ``body``."""
        return None if self._there is None else (self._there.place, self.size)

    def shrink(self, total: int, *, keep_body: bool = False) -> None:
        """``total`` bytes made from the body are needed. May also grow the account.

        Args:
            total: bytes to hold from now on.
            keep_body: the body is one of the things that are made from it, and stays where it is.
        """
        if not keep_body:
            self._give_up()
        self._seal()
        change, self.held = self.held - total, total
        self._arena._give(change)

    def _give_up(self) -> None:
        self._chunks = []
        if self._view is not None:
            self._view.release()
        there, self._there, self._view = self._there, None, None
        if there is not None:
            there.free(self.size)

    def _seal(self) -> None:
        if self in self._arena._filling:
            del self._arena._filling[self]
            self._arena._grant()

    def release(self) -> None:
        """Give the bytes back. A second call does nothing."""
        self.shrink(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
