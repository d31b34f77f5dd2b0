"""From the bytes of a picture to the bytes of the picture asked for, by way of Pillow.

    open (header only) ─▶ pixel cap ─▶ draft ─▶ decode ─▶ 8-bit sRGB ─▶ resize ─▶ upright ─▶ pad ─▶ encode

Must never: return a picture of which the decoder says that data is missing; allocate pixels that were not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, JpegImagePlugin
from PIL.Image import Resampling

from scraper.errors import TransformFailed
from scraper.policies.resize import Placement, place, shrink_factor
from scraper.transforms import codecs, colour, metadata
from scraper.transforms.sniff import Kind

# Filter and headroom by measurement: synthetic photographs with edges, to 256 px; time is decode + resize; SSIM
# (8x8 luma) is against full decode + LANCZOS, the mean of four.
#
#                    HAMMING          BICUBIC          LANCZOS
#    400x300  /1   1.1 ms 0.988     1.5 ms 0.997     1.9 ms 1.000
#    700x525  /2   1.7 ms 0.983     2.0 ms 0.992     2.3 ms 0.996     headroom 1
#             /1   2.7 ms 0.991     3.6 ms 0.998     4.6 ms 1.000     headroom 1.5 and 2
#   1280x960  /4   3.8 ms 0.979     4.1 ms 0.989     4.4 ms 0.994     headroom 1
#             /2   4.7 ms 0.990     5.5 ms 0.997     6.4 ms 0.999     headroom 1.5 and 2
#  4000x3000  /8    25 ms 0.990      26 ms 0.995      26 ms 0.999     headroom 1 and 1.5
#             /4    29 ms 0.991      30 ms 0.997      32 ms 1.000     headroom 2
#
# BICUBIC without headroom never falls below 0.98, which HAMMING does, and costs least of those that do not.
_SHRINKING, _ENLARGING = Resampling.BICUBIC, Resampling.LANCZOS
_HEADROOM = 1.0
_REDUCING_GAP = 2.0  # for what draft cannot do: merge whole pixels first, down to twice the size aimed at


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``ImageTransform`` was told, checked there."""

    size: int
    mode: str
    only_if_bigger: bool
    format: str
    quality: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """An encoded picture and what is known about it; ``original_*`` are of the upright picture."""

    data: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    exif: str | None


def render(body: bytes | memoryview, kind: Kind, settings: Settings) -> Rendered:
    """Make the picture that was asked for.

    Raises:
        TransformFailed: image.truncated, image.decode or image.bomb.
    """
    with codecs.opened(kind, body) as image:
        _check_pixels(*image.size, settings.max_pixels, "The picture has")
        exif = metadata.exif_of(image)
        turn = metadata.turn_of(image, exif)
        lies = metadata.lies(turn)
        stored = image.size
        width, height = stored[::-1] if lies else stored
        placement = place(width, height, settings.mode, settings.size, only_if_bigger=settings.only_if_bigger)
        _check_result(placement, settings)
        pixels = _scaled(image, placement.transposed() if lies else placement, settings.format != "jpg")
        text = metadata.as_json(exif)
    if turn is not None:
        pixels = pixels.transpose(turn)
    if placement.is_padded:
        canvas = Image.new(pixels.mode, placement.canvas, "white")
        canvas.paste(pixels, placement.offset)
        pixels = canvas
    data = codecs.encode(pixels, settings.format, settings.quality)
    return Rendered(data, *pixels.size, width, height, text)


def _scaled(image: Image.Image, placement: Placement, keep_alpha: bool) -> Image.Image:
    """Decode and scale, as 8-bit RGB, or RGBA where there is transparency to keep."""
    box = placement.box
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        factor = shrink_factor(placement, _HEADROOM)
        if factor > 1:
            image.draft(image.mode, (image.width // factor, image.height // factor))
            box = (box[0] / factor, box[1] / factor, box[2] / factor, box[3] / factor)
    image.load()
    pixels = colour.plain(image, keep_alpha=keep_alpha)
    if placement.size != pixels.size or box != (0, 0, *pixels.size):
        resample = _ENLARGING if placement.enlarges else _SHRINKING
        pixels = pixels.resize(placement.size, resample, box, reducing_gap=_REDUCING_GAP)
    # Grey becomes RGB last, where it is cheapest: readers of a dataset want one shape for all pictures.
    return pixels.convert("RGB") if pixels.mode == "L" else pixels


def _check_pixels(width: int, height: int, most: int, what: str) -> None:
    if width * height > most:
        raise TransformFailed("image.bomb", f"{what} {width} x {height} pixels; {most} are allowed.")


def _check_result(placement: Placement, settings: Settings) -> None:
    """A very long and thin picture grows beyond all bounds when its short side is scaled up."""
    width, height = placement.canvas
    _check_pixels(width, height, settings.max_pixels, "The result would have")
    if max(width, height) > codecs.LONGEST_SIDE[settings.format]:
        sentence = f"The result would have {width} x {height} pixels, more than {settings.format} can hold."
        raise TransformFailed("image.bomb", sentence)
