"""Pictures as the web has them: 64 of four sizes, three formats and three qualities, always the same.

Sizes stand for the largest picture of a page, which is what lists of photographs are made of: 0.11, 0.43, 1.09
and 2.56 Mpx are its lower quartile, median, upper quartile and 90th percentile (HTTP Archive, Web Almanac 2022,
Media), and each is taken as often as what lies around it. Formats follow the shares in the same place: of all
pictures 40 % are JPEG, 28 % PNG and 9 % WebP. Half of the PNGs are left out, as icons and drawings; half of what
remains has a palette. That, the qualities, and one progressive JPEG in five, are our guess.
Must never: depend on anything but the versions of Pillow and of the origin's painter.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

from PIL import Image

from scraper.origin import scenes

SIZES = (*[(400, 300)] * 3, *[(760, 570)] * 2, *[(1200, 900)] * 2, (1840, 1380))
QUALITIES = (75, 85, 92)
FORMATS = (*["baseline"] * 32, *["progressive"] * 8, *["png"] * 7, *["palette"] * 7, *["webp"] * 10)
GRAIN = 7
"""Camera noise, as in the origin's photographs."""

_APART = 27
"""Prime to the number of formats: neighbours have different ones, and every size has all of them."""


def files() -> Sequence[tuple[str, Callable[[], bytes]]]:
    """Extension of each picture, and what makes it."""
    return [(_extension(_format(number)), partial(picture, number)) for number in range(len(FORMATS))]


def _format(number: int) -> str:
    return FORMATS[number * _APART % len(FORMATS)]


def _extension(name: str) -> str:
    return {"webp": "webp", "png": "png", "palette": "png"}.get(name, "jpg")


def picture(number: int) -> bytes:
    """Picture ``number``, from 0 to 63; some tens of milliseconds of work."""
    size = SIZES[number % len(SIZES)]
    quality = QUALITIES[number % len(QUALITIES)]
    painted = scenes.paint(f"mix/{number}", size, GRAIN)
    name = _format(number)
    out = io.BytesIO()
    if name == "png":
        painted.save(out, "PNG")
    elif name == "palette":
        painted.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "PNG")
    elif name == "webp":
        painted.save(out, "WEBP", quality=quality)
    else:
        painted.save(out, "JPEG", quality=quality, subsampling="4:2:0", progressive=name == "progressive")
    return out.getvalue()
