"""Where bodies live between fetch and sink, and the byte budget that bounds them.

    slot = await arena.reserve(expected)      waits while the budget is spent
    await slot.append(chunk)                  may wait as well, except for the oldest slot
    slot.body()                               the bytes, for the Response
    slot.shrink(len(output))                  the input is gone, the output remains
    slot.release()                            once, by leaving ``with slot:`` in the sink

Here bodies are ordinary bytes and only their sum is bounded. The interface is that of a shared arena: nothing
outside this file knows where the bytes are.

Must never: dead-lock. When the budget is spent, the slot that has been filling longest may still grow: it
completes, is transformed and written, and frees its bytes. The next one may not go over the budget before that,
so the most that is ever held is the budget plus one body of ``--max-bytes``.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Arena:
    """The byte budget.

    Args:
        budget: most bytes held by all slots together.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self.peak = 0
        self._filling: dict[Slot, None] = {}  # in order of age; the first may always grow
        self._waiting: dict[Slot, tuple[int, asyncio.Future[None]]] = {}  # in order of asking

    def __repr__(self) -> str:
        return (
            f"<Arena {self.held}/{self.budget} bytes, {len(self._filling)} filling, {len(self._waiting)} waiting>"
        )

    async def reserve(self, expected: int = 0) -> Slot:
        """A slot with room for ``expected`` bytes, once the budget allows."""
        slot = Slot(self)
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

    __slots__ = ("_arena", "_chunks", "held", "size")

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._chunks: list[bytes] = []
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
        self._chunks.append(chunk)
        self.size += len(chunk)
        await self.grow(self.size)

    def body(self) -> bytes:
        """The whole body. Ends the filling: from here on the slot only shrinks."""
        if len(self._chunks) != 1:
            self._chunks = [b"".join(self._chunks)]
        self._seal()
        return self._chunks[0]

    def shrink(self, total: int) -> None:
        """The body is no longer needed; ``total`` bytes made from it are. May also grow the account."""
        self._chunks = []
        self._seal()
        change, self.held = self.held - total, total
        self._arena._give(change)

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
