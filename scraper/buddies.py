"""Which part of the arena is whose: a buddy allocator (Knowlton, CACM 8/10, 1965). Numbers in, numbers out.

Rooms are powers of two. A free one of twice the size is cut in two where none of the right size is free; two
halves of one room that are both free are one room again. The lowest is given first, so that what is used stays
together, its pages warm, and the upper end untouched for as long as possible.

Must never: give the same byte to two; know what is in it.
"""

from __future__ import annotations

from bisect import bisect_left, insort

SMALLEST = 16 * 1024
"""Rooms of four pages: most of what is fetched in masses is not much smaller."""

LARGEST = 16 * 1024 * 1024


def room_for(total: int) -> int:
    """The smallest room that takes ``total`` bytes; more than ``LARGEST`` if none does."""
    return max(SMALLEST, 1 << (total - 1).bit_length()) if total > 0 else SMALLEST


class Buddies:
    """The rooms. A few microseconds a call.

    Args:
        size: bytes to be given away, a multiple of ``LARGEST``.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: dict[int, list[int]] = {}  # where rooms of a size are free, lowest first
        room = SMALLEST
        while room < LARGEST:
            self._free[room] = []
            room *= 2
        self._free[LARGEST] = list(range(0, size, LARGEST))

    def __repr__(self) -> str:
        return f"<Buddies {self.free} of {self.size} bytes free>"

    @property
    def free(self) -> int:
        """Bytes in nobody's room."""
        return sum(room * len(places) for room, places in self._free.items())

    def take(self, room: int) -> int | None:
        """Where a room is that is now the caller's; None if none is left.

        Args:
            room: its size, as ``room_for`` gives it.
        """
        whole = room
        while whole <= LARGEST and not self._free[whole]:
            whole *= 2
        if whole > LARGEST:
            return None
        place = self._free[whole].pop(0)
        while whole > room:
            whole //= 2
            insort(self._free[whole], place + whole)
        return place

    def double(self, place: int, room: int) -> bool:
        """Make a room twice as large where it is, if what is behind it belongs to it and is free."""
        return room < LARGEST and place % (2 * room) == 0 and self._claim(place + room, room)

    def give(self, place: int, room: int) -> tuple[int, int]:
        """Take a room back. Where the free room is that it is now part of, and its size."""
        while room < LARGEST and self._claim(place ^ room, room):
            place &= ~room
            room *= 2
        insort(self._free[room], place)
        return place, room

    def _claim(self, place: int, room: int) -> bool:
        """Take this very room, if it is free as a whole."""
        places = self._free[room]
        at = bisect_left(places, place)
        if at == len(places) or places[at] != place:
            return False
        del places[at]
        return True
