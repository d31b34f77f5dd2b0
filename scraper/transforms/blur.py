"""Faces and the like made unrecognisable: boxes of a row's column in, the picture with these parts blurred out.

The way is img2dataset's, which has it from Yang et al., "A Study of Face Obfuscation in ImageNet" (ICML 2022):
each box grows by a tenth of its longer side; a Gaussian of a tenth of the longest one blurs picture and mask.

Must never: leave a picture as it is because its boxes cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from scraper.errors import TransformFailed
from scraper.policies.resize import Placement

Box = tuple[float, float, float, float]
"""Left, upper, right, lower; 0 to 1 of the upright picture's width and height."""

_GROWTH = 0.1
_SIGMA = 0.1
_MOST = 1_000
_BEYOND = 0.5


def boxes_of(column: object, name: str) -> list[Box]:
    """The boxes in a row's column: a list of lists of four numbers, or its JSON; none for nothing.

    Args:
        column: what the row holds.
        name: what the column is called, for the message.

    Raises:
        TransformFailed: input.invalid: it holds something else.
    """
    if column is None or (isinstance(column, str) and not column.strip()):
        return []
    try:
        found: Any = json.loads(column) if isinstance(column, str) else column
        is_list = isinstance(found, Sequence) and not isinstance(found, str | bytes) and len(found) <= _MOST
        boxes = [_box(each) for each in found] if is_list else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        boxes = None
    if boxes is None:
        if isinstance(column, str) and column.strip() == "null":
            return []
        raise TransformFailed(
            "input.invalid",
            f"Column {name!r} is to hold boxes to blur, as [[left, upper, right, lower], ...] from 0 to 1 of "
            "width and height.",
        )
    return boxes


def _box(value: object) -> Box:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError
    left, upper, right, lower = map(float, value)
    # Detectors go a little beyond the edge. What is far beyond is in pixels, and would blur nothing.
    if not all(-_BEYOND <= edge <= 1 + _BEYOND for edge in (left, upper, right, lower)):
        raise ValueError
    left, right = sorted((min(max(left, 0.0), 1.0), min(max(right, 0.0), 1.0)))
    upper, lower = sorted((min(max(upper, 0.0), 1.0), min(max(lower, 0.0), 1.0)))
    if left == right or upper == lower:
        raise ValueError
    return left, upper, right, lower


def blurred(image: Image.Image, boxes: Sequence[Box], whole: tuple[int, int], placement: Placement) -> Image.Image:
    """The picture with the boxes blurred.

    Args:
        image: upright, resized, not padded yet.
        boxes: see Box.
        whole: width and height of the upright picture it was made from, which the boxes are parts of.
        placement: how it was made from that.
    """
    if not boxes:
        return image
    left, upper, right, lower = placement.box
    across, down = placement.size[0] / (right - left), placement.size[1] / (lower - upper)
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    longest = 0.0
    for box in boxes:
        x0, x1 = ((x * whole[0] - left) * across for x in (box[0], box[2]))
        y0, y1 = ((y * whole[1] - upper) * down for y in (box[1], box[3]))
        side = max(x1 - x0, y1 - y0)
        longest = max(longest, side)
        more = _GROWTH * side
        draw.rectangle((x0 - more, y0 - more, x1 + more, y1 + more), fill=255)
    soft = ImageFilter.GaussianBlur(_SIGMA * longest)
    return Image.composite(image.filter(soft), image, mask.filter(soft))
