"""When two pictures look the same: the distance of their prints, and where to look for near ones.

In: 64-bit prints (``scraper.transforms.prints``) as whole numbers. Out: distances, and the keys under which a
print is entered and sought. Must never: miss a print that lies within the distance.

Comparing each print with all others would take their number squared. So a print is cut into bands: if two
differ in at most d bits and there are d // 2 + 1 bands, at least one band differs in at most one bit, since two
bits in each would be more than d (multi-index hashing: Norouzi, Punjani, Fleet, CVPR 2012). Prints are entered
under each of their bands, and sought under each band and its neighbours one bit away. What is found is
measured.
"""

from __future__ import annotations

from collections.abc import Sequence

PRINT_BITS = 64

_ALL = (1 << PRINT_BITS) - 1


def parsed(text: object) -> int | None:
    """A print as items carry it, 16 hexadecimal digits; None for anything else."""
    if not isinstance(text, str) or len(text) != PRINT_BITS // 4 or not text.isalnum():
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


def apart(one: int, other: int) -> int:
    """Bits in which two prints differ."""
    return (one ^ other).bit_count()


def tells_nothing(print_: int, distance: int) -> bool:
    """Whether a picture is too plain to be told from others by its print.

    A dHash says where it grows lighter from left to right. A picture of one colour has no such place, and one that
    grows lighter evenly has nothing else: all zeros, all ones. Whatever lies within the distance of these would be
    taken for any plain picture at all.
    """
    return min(apart(print_, 0), apart(print_, _ALL)) <= distance


class Bands:
    """How prints are cut for one distance.

    The bits of a band are spread over the whole picture: of neighbouring bits many a picture has none at all (a
    white border, a sky), and all those pictures would be found under one key.

    Args:
        distance: most bits in which two prints that look the same differ.
    """

    def __init__(self, distance: int) -> None:
        self.distance = distance
        self._count = distance // 2 + 1
        self._bits = [range(first, PRINT_BITS, self._count) for first in range(self._count)]
        self._masks = [sum(1 << bit for bit in bits) for bits in self._bits]

    def __repr__(self) -> str:
        return f"<Bands {self._count} for {self.distance} bits>"

    def entered(self, print_: int) -> set[int]:
        """The keys under which a print can be found: its bands, each in its own bits of 64."""
        return {print_ & mask for mask in self._masks}

    def sought(self, print_: int) -> set[int]:
        """The keys under which all prints within the distance are found, with others."""
        found = self.entered(print_)
        if self.distance:
            for mask, bits in zip(self._masks, self._bits, strict=True):
                found.update((print_ & mask) ^ (1 << bit) for bit in bits)
        return found


def nearest(print_: int, found: Sequence[tuple[int, int]], distance: int) -> tuple[int, int] | None:
    """Of prints that were found, with their rows, the one that differs least; among equals the lowest row.

    Returns:
        (its row, the bits in which it differs), or None where none lies within the distance.
    """
    best = min(((apart(print_, other), row) for other, row in found), default=None)
    return None if best is None or best[0] > distance else (best[1], best[0])
