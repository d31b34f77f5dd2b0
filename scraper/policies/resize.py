"""Where a picture's pixels go: sizes come in, a Placement goes out. No pixels here.

Modes are img2dataset's words and mean what they mean there:

    no                   as it is
    border               longest side to ``size``, then padded with white to a square
    keep_ratio           shortest side to ``size``
    keep_ratio_largest   longest side to ``size``
    center_crop          the largest centred square, scaled to ``size``

With ``only_if_bigger`` a picture whose deciding side (the shortest for keep_ratio and center_crop, the longest
for the others) is not over ``size`` stays as it is: not scaled, cropped or padded.
"""

from __future__ import annotations

from dataclasses import dataclass

RESIZE_MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")

SHRINKS = (8, 4, 2, 1)
"""What a JPEG decoder can divide the sides by while it decodes, at a fraction of the cost."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What to do with an upright picture.

    Attributes:
        box: the part of the picture that is used: left, upper, right, lower; always centred.
        size: width and height that part is scaled to.
        canvas: width and height of the result.
        offset: where the scaled part stands on the canvas.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    @property
    def is_padded(self) -> bool:
        """Whether the canvas shows around the picture."""
        return self.canvas != self.size

    @property
    def enlarges(self) -> bool:
        """Whether pixels are made up rather than merged."""
        left, upper, right, lower = self.box
        return self.size[0] > right - left or self.size[1] > lower - upper

    def transposed(self) -> Placement:
        """The same for a picture stored on its side. The box is centred, so mirroring changes nothing."""
        left, upper, right, lower = self.box
        return Placement(
            (upper, left, lower, right), self.size[::-1], self.canvas[::-1], (self.offset[1], self.offset[0])
        )


def place(width: int, height: int, mode: str, size: int, *, only_if_bigger: bool = False) -> Placement:
    """Where the pixels of an upright ``width`` x ``height`` picture go.

    Args:
        width: pixels, at least 1.
        height: pixels, at least 1.
        mode: one of RESIZE_MODES.
        size: the side aimed at, in pixels, at least 1.
        only_if_bigger: leave smaller pictures alone.
    """
    whole = (0.0, 0.0, float(width), float(height))
    if mode not in RESIZE_MODES:
        raise ValueError(mode)
    deciding = min(width, height) if mode in ("keep_ratio", "center_crop") else max(width, height)
    if mode == "no" or (only_if_bigger and deciding <= size):
        return Placement(whole, (width, height), (width, height))
    if mode == "center_crop":
        left, upper = (width - deciding) / 2, (height - deciding) / 2
        return Placement((left, upper, left + deciding, upper + deciding), (size, size), (size, size))
    scaled = (_scaled(width, size, deciding), _scaled(height, size, deciding))
    if mode == "border":
        offset = ((size - scaled[0]) // 2, (size - scaled[1]) // 2)
        return Placement(whole, scaled, (size, size), offset)
    return Placement(whole, scaled, scaled)


def _scaled(side: int, size: int, deciding: int) -> int:
    """``side * size / deciding``, rounded half up, in integers: floats would round some exact sizes off."""
    return max(1, (2 * side * size + deciding) // (2 * deciding))


def shrink_factor(placement: Placement, headroom: float) -> int:
    """By how much the decoder may divide the sides, and still give ``headroom`` times those that are needed."""
    left, upper, right, lower = placement.box
    for factor in SHRINKS:
        wide_enough = (right - left) / factor >= placement.size[0] * headroom
        if wide_enough and (lower - upper) / factor >= placement.size[1] * headroom:
            return factor
    return 1
