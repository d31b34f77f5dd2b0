"""Where a picture's pixels go: sizes come in; a Placement goes out, the way there too. No pixels here.

Modes are img2dataset's words and mean what they mean there:

    no                   as it is
    border               longest side to ``size``, then padded to a square
    keep_ratio           shortest side to ``size``
    keep_ratio_largest   longest side to ``size``
    center_crop          the largest centred square, scaled to ``size``

With ``only_if_bigger`` a picture whose deciding side (the shortest for keep_ratio and center_crop, the longest
for the others) is not over ``size`` stays as it is: not scaled, cropped or padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

RESIZE_MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")

SHRINKS = (8, 4, 2, 1)
"""What a JPEG decoder can divide the sides by while it decodes, at a fraction of the cost."""

AUTO = "auto"
FILTERS = ("nearest", "area", "linear", "hamming", "bicubic", "lanczos")
"""How pixels are merged or made up: img2dataset's words but for hamming, which has the support of linear and is
sharper. All but nearest weigh every pixel under their support, which grows with what is merged (as in Pillow)."""

SAME = {"bilinear": "linear", "cubic": "bicubic", "lanczos4": "lanczos"}
"""Other words of img2dataset's, and what is taken for them."""

# By measurement, `python -m benchmarks quality`: structural similarity to full decode + lanczos over photographs,
# by how much is left to merge after the decoder has shrunk. The table is in docs/benchmarks.md.
HEADROOM = 1.5
"""Least times that a shrunk picture is larger than what is made of it. Bicubic is then at 0.994 in the mean and at
0.985 for the worst of 17 photographs, where without headroom it is at 0.983 and 0.960."""

_HAMMING_SHRUNK = 1.75
"""Times from which hamming does for a picture that was shrunk: the worst is at 0.976, and at 0.970 from 1.5 on.
For one that was decoded whole it always does: 0.985 and 0.976, or better. It costs two thirds of bicubic, and half
of lanczos."""


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

    def keeps(self, width: int, height: int) -> bool:
        """Whether the result is the picture of that size as it is."""
        return self.canvas == self.size == (width, height) and self.box == (0, 0, width, height)

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


def shrink_of(placements: Iterable[Placement], downscale: str = AUTO) -> int:
    """By how much a decoder may divide the sides of a picture for all that is to be made of it.

    Args:
        placements: what is to be made.
        downscale: the filter that follows; nearest takes pixels as they are, and so is given all.
    """
    least = min(map(_merged, placements))
    if downscale == "nearest":
        return 1
    return next((factor for factor in SHRINKS if least / factor >= HEADROOM), 1)


def filter_of(placement: Placement, shrink: int = 1, downscale: str = AUTO, upscale: str = "lanczos") -> str:
    """The filter for a picture that was shrunk by that much: one of FILTERS.

    Args:
        placement: of the picture as it was before.
        shrink: by how much the decoder has divided its sides.
        downscale: one of FILTERS, or ``auto`` for what is known to look as good as the best and costs least.
        upscale: one of FILTERS, for pictures that are enlarged.
    """
    if placement.enlarges:
        return upscale
    if downscale != AUTO:
        return downscale
    does = shrink == 1 or _merged(placement) / shrink >= _HAMMING_SHRUNK
    return "hamming" if does else "bicubic"


def _merged(placement: Placement) -> float:
    """How many pixels become one, along the side where it is fewest."""
    left, upper, right, lower = placement.box
    return min((right - left) / placement.size[0], (lower - upper) / placement.size[1])
