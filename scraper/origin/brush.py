"""The tools scenes are painted with: dice, noise, gradients, ridges. Seeds and sizes in, Pillow images out.

Must never use a random source, a clock or floating-point trigonometry: the same seed has to paint
the same picture on every machine. All chance comes from SHAKE-128, which is the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

Colour = tuple[int, int, int]
Point = tuple[int, int]
T = TypeVar("T")

_BICUBIC = Image.Resampling.BICUBIC
_BILINEAR = Image.Resampling.BILINEAR


class Dice:
    """Deterministic chance: a stream of integers that depends on the seed and on nothing else."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._rolls = 0

    def bytes(self, count: int) -> bytes:
        """The next ``count`` bytes of chance."""
        self._rolls += 1
        return hashlib.shake_128(f"{self._seed}/{self._rolls}".encode()).digest(count)

    def between(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int.from_bytes(self.bytes(6), "big") % (high - low + 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[self.between(0, len(choices) - 1)]


def mix(a: Colour, b: Colour, percent: int) -> Colour:
    """The colour ``percent`` of the way from ``a`` to ``b``."""
    keep = 100 - percent
    return (
        (a[0] * keep + b[0] * percent) // 100,
        (a[1] * keep + b[1] * percent) // 100,
        (a[2] * keep + b[2] * percent) // 100,
    )


def gradient(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """A vertical gradient through evenly spaced colours, top first."""
    column = Image.new("RGB", (1, len(stops)))
    column.putdata(list(stops))
    # Pillow's filters see no further than the image, so the first and last half step would be flat: crop them.
    return column.resize(size, _BILINEAR, box=(0, 0.5, 1, len(stops) - 0.5))


def noise(dice: Dice, size: tuple[int, int], cells: tuple[int, int], octaves: int = 5) -> Image.Image:
    """Smooth value noise as a grey image: ``cells`` lumps across and down, each octave twice as fine."""
    across, down = max(1, min(cells[0], size[0])), max(1, min(cells[1], size[1]))
    field = Image.frombytes("L", (across, down), dice.bytes(across * down))
    weight = 0.42
    for _ in range(octaves - 1):
        finer = (across * 2, down * 2)
        if finer[0] > size[0] or finer[1] > size[1]:
            break
        across, down = finer
        detail = Image.frombytes("L", finer, dice.bytes(across * down))
        field = Image.blend(_stretched(field, finer), detail, weight)
        weight *= 0.66
    return _stretched(ImageOps.autocontrast(field, cutoff=1), size)


def _stretched(field: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Enlarge without seams: the good filter for most of the way, the cheap one for the last factor of 4."""
    halfway = (size[0] // 4, size[1] // 4)
    if halfway[0] > field.width and halfway[1] > field.height:
        field = field.resize(halfway, _BICUBIC)
    return field.resize(size, _BILINEAR)


def tinted(grey: Image.Image, dark: Colour, light: Colour, middle: Colour | None = None) -> Image.Image:
    """A grey image in colours: black becomes ``dark``, white ``light``."""
    return ImageOps.colorize(grey, dark, light, mid=middle)


def contrast(grey: Image.Image, low: int, high: int) -> Image.Image:
    """Stretch ``low..high`` to the full range; what lies outside becomes black or white."""
    span = max(1, high - low)
    return grey.point([min(255, max(0, (value - low) * 255 // span)) for value in range(256)])


def scaled(grey: Image.Image, percent: int) -> Image.Image:
    """A grey image, darker: every value times ``percent`` / 100."""
    return grey.point([value * percent // 100 for value in range(256)])


def ridge(dice: Dice, width: int, base: int, height: int, roughness: int) -> list[Point]:
    """A skyline by midpoint displacement, left edge to right edge.

    Args:
        dice: where the bumps come from.
        width: pixels across.
        base: the line's mean height, as y.
        height: how far it strays.
        roughness: percent of the stray that each halving keeps; 45 is downs, 60 is crags.
    """
    line = [base + dice.between(-height, height) for _ in range(3)]
    stray = height
    while len(line) < min(width // 3, 520):
        stray = stray * roughness // 100
        halved = []
        for left, right in pairwise(line):
            halved += [left, (left + right) // 2 + dice.between(-stray, stray)]
        line = [*halved, line[-1]]
    last = len(line) - 1
    return [(width * i // last, y) for i, y in enumerate(line)]


def below(size: tuple[int, int], line: Sequence[Point]) -> Image.Image:
    """A mask of everything under a skyline, its edge softened by a pixel."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon([(0, size[1]), *line, (size[0], size[1])], fill=255)
    return soft_edge(mask)


def soft_edge(mask: Image.Image) -> Image.Image:
    """A mask without staircase edges."""
    return mask.filter(ImageFilter.BoxBlur(0.6))


def glow(picture: Image.Image, centre: Point, radius: int, colour: Colour, percent: int) -> Image.Image:
    """Add a round light that fades to nothing at ``radius``."""
    light = scaled(ImageChops.invert(Image.radial_gradient("L")), percent)
    # The radial gradient reaches its corner value beyond the inscribed circle: cut it so that no box shows.
    light = contrast(light, 75 * percent // 100, 255).resize((radius * 2, radius * 2), _BICUBIC)
    corner = (centre[0] - radius, centre[1] - radius)
    picture.paste(Image.new("RGB", light.size, colour), corner, light)
    return picture


def disc(picture: Image.Image, centre: Point, radius: int, colour: Colour, blur: int) -> None:
    """Paint a filled circle with an edge ``blur`` pixels soft."""
    margin = radius + 2 * blur + 2
    mask = Image.new("L", (2 * margin, 2 * margin), 0)
    ImageDraw.Draw(mask).ellipse((margin - radius, margin - radius, margin + radius, margin + radius), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(blur)) if blur else soft_edge(mask)
    picture.paste(Image.new("RGB", mask.size, colour), (centre[0] - margin, centre[1] - margin), mask)


def lens(dice: Dice, picture: Image.Image, grain: int) -> Image.Image:
    """What a camera adds: darker corners, and grain of ``grain`` percent."""
    size = picture.size
    corners = contrast(Image.radial_gradient("L"), 130, 560).resize(size, _BICUBIC)
    picture.paste((8, 8, 14), (0, 0), corners)
    speckle = Image.frombytes("L", size, dice.bytes(size[0] * size[1]))
    return Image.blend(picture, Image.merge("RGB", (speckle, speckle, speckle)), grain / 100)
