"""From the bytes of a picture to the bytes of the pictures asked for, by way of Pillow.

    open (header only) ─▶ limits ─▶ shrink + decode ─▶ 8 bits
    for each size: resize ─▶ upright ─▶ blur ─▶ pad ─▶ encode

Must never: return a picture of which the decoder says that data is missing; allocate pixels that were not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin
from PIL.Image import Resampling, Transpose

from scraper.errors import TransformFailed
from scraper.policies.resize import AUTO, SHRINKS, Placement, filter_of, place, shrink_of
from scraper.transforms import bare, blur, codecs, colour, metadata, prints
from scraper.transforms.sniff import Kind

RESAMPLING = {
    "nearest": Resampling.NEAREST,
    "area": Resampling.BOX,
    "linear": Resampling.BILINEAR,
    "hamming": Resampling.HAMMING,
    "bicubic": Resampling.BICUBIC,
    "lanczos": Resampling.LANCZOS,
}
_REDUCING_GAP = 2.0
"""For what no decoder shrinks: whole pixels are merged first, down to twice the size wanted (Pillow's resize)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``ImageTransform`` was told, checked there."""

    sizes: tuple[int, ...]
    mode: str
    format: str
    quality: int
    max_pixels: int
    only_if_bigger: bool = False
    downscale: str = AUTO
    upscale: str = "lanczos"
    background: tuple[int, int, int] = (255, 255, 255)
    min_side: int = 0
    max_area: float = float("inf")
    max_aspect: float = float("inf")
    skip_reencode: bool = False
    metadata: str = "strip"
    animated: str = "first"
    extract_exif: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture that was made; ``data`` is the body itself where that passed through unchanged."""

    data: bytes | memoryview
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """The pictures, in the order of the sizes, and what is known of the one they were made from, set upright.

    ``dhash`` is of the first picture, before it is padded; ``remarks`` are what the decoder found odd.
    """

    pictures: Sequence[Picture]
    width: int
    height: int
    mode: str
    exif: str | None
    dhash: str
    remarks: Sequence[str]


def render(body: bytes | memoryview, kind: Kind, settings: Settings, boxes: Sequence[blur.Box] = ()) -> Rendered:
    """Make the pictures that were asked for, with the boxes blurred.

    Raises:
        TransformFailed: image.truncated, image.decode, image.bomb, or filtered.* for what is not wanted.
    """
    remarks: list[str] = []
    with codecs.opened(kind, body, remarks=remarks) as image:
        _check_pixels(*image.size, settings.max_pixels, "The picture has")
        # All bounds are the same for a picture that lies on its side, and asking PNG for its EXIF decodes it.
        _check_wanted(*image.size, settings)
        for placement in _placements(*image.size, settings):
            _check_result(placement, settings)
        exif = metadata.exif_of(image)
        turn = metadata.turn_of(image, exif)
        width, height = image.size[::-1] if metadata.lies(turn) else image.size
        if settings.animated == "refuse" and (frames := codecs.frames(image)) > 1:
            raise TransformFailed("filtered.type", f"The picture has {frames} frames or pages; --animated refuse.")
        placements = _placements(width, height, settings)
        mode, text = image.mode, metadata.as_json(exif) if settings.extract_exif else None
        may_pass = settings.skip_reencode and not boxes and turn is None and _fits(image, kind, body, settings)
        anew = [each for each in placements if not (may_pass and each.keeps(width, height))]
        shrink = _shrink(image, anew, settings.downscale)
        image.load()  # also of what passes through: it has to be whole
        codecs.check_rows(image, kind, body)
        source = _Source(colour.samples(image), colour.profile_of(image), shrink, turn, (width, height), boxes)
        made: list[Picture] = []
        dhash = ""
        for placement in placements:
            if placement in anew:
                pixels = _resized(source, placement, settings)
                made.append(_finished(exif, pixels, placement, settings))
            else:
                pixels = colour.to_srgb(source.pixels, source.profile)
                made.append(Picture(body, width, height))
            dhash = dhash or prints.dhash(pixels)
    return Rendered(made, width, height, mode, text, dhash, remarks)


@dataclass(frozen=True, slots=True)
class _Source:
    """A picture that is decoded: its pixels as they are stored, by how much they were shrunk, and the like."""

    pixels: Image.Image
    profile: bytes | None
    shrink: int
    turn: Transpose | None
    upright: tuple[int, int]
    boxes: Sequence[blur.Box]


def _placements(width: int, height: int, settings: Settings) -> list[Placement]:
    return [
        place(width, height, settings.mode, size, only_if_bigger=settings.only_if_bigger)
        for size in settings.sizes
    ]


def _fits(image: Image.Image, kind: Kind, body: bytes | memoryview, settings: Settings) -> bool:
    """Whether the picture, if it has the size already, could have been written by us."""
    return (
        kind.extension == settings.format
        and image.mode in ("RGB", *(("RGBA",) if settings.format != "jpg" else ()))
        and not image.info.get("icc_profile")
        and (settings.metadata == "keep-gps" or bare.is_bare(kind, body))
        and codecs.frames(image) == 1
    )


def _shrink(image: Image.Image, placements: Sequence[Placement], downscale: str) -> int:
    """Have the decoder divide the sides, if it can; by how much it will."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    factor = shrink_of(placements, downscale) if placements else max(SHRINKS)
    if factor > 1:
        image.draft(image.mode, (image.width // factor, image.height // factor))
    return factor


def _resized(source: _Source, upright: Placement, settings: Settings) -> Image.Image:
    """One picture in sRGB, upright. What costs by the pixel comes after the resize, where there are fewer."""
    pixels, turn = source.pixels, source.turn
    placement = upright.transposed() if metadata.lies(turn) else upright
    left, upper, right, lower = (edge / source.shrink for edge in placement.box)
    box = (left, upper, right, lower)
    if placement.size != pixels.size or box != (0, 0, *pixels.size):
        resample = RESAMPLING[filter_of(placement, source.shrink, settings.downscale, settings.upscale)]
        pixels = pixels.resize(placement.size, resample, box, reducing_gap=_REDUCING_GAP)
    if turn is not None:
        pixels = pixels.transpose(turn)
    pixels = colour.to_srgb(pixels, source.profile)
    if settings.format == "jpg":
        pixels = colour.flat(pixels, settings.background)
    return blur.blurred(pixels, source.boxes, source.upright, upright)


def _finished(exif: Image.Exif, pixels: Image.Image, placement: Placement, settings: Settings) -> Picture:
    """The same padded and encoded, with what is to be kept of the metadata of the picture it was made from."""
    if pixels.mode == "L":  # readers of a dataset want one shape for all pictures
        pixels = pixels.convert("RGB")
    if placement.is_padded:
        canvas = Image.new(pixels.mode, placement.canvas, settings.background)
        canvas.paste(pixels, placement.offset)
        pixels = canvas
    kept = b""
    if settings.metadata != "strip":
        kept = metadata.kept(pixels, exif, gps=settings.metadata == "keep-gps")
    return Picture(codecs.encode(pixels, settings.format, settings.quality, exif=kept), *pixels.size)


def _check_pixels(width: int, height: int, most: int, what: str) -> None:
    if width * height > most:
        raise TransformFailed("image.bomb", f"{what} {width} x {height} pixels; {most} are allowed.")


def _check_wanted(width: int, height: int, settings: Settings) -> None:
    """The user's bounds, from the header alone. Names and meanings are img2dataset's."""
    shown = f"The picture has {width} x {height} pixels"
    if min(width, height) < settings.min_side:
        raise TransformFailed("filtered.size", f"{shown}; its sides are to have {settings.min_side} at least.")
    if width * height > settings.max_area:
        raise TransformFailed("filtered.pixels", f"{shown}; {settings.max_area:g} are wanted at most.")
    if max(width, height) > settings.max_aspect * min(width, height):
        raise TransformFailed(
            "filtered.aspect", f"{shown}; one side is to be at most {settings.max_aspect:g} times the other."
        )


def _check_result(placement: Placement, settings: Settings) -> None:
    """A very long and thin picture grows beyond all bounds when its short side is scaled up."""
    width, height = placement.canvas
    _check_pixels(width, height, settings.max_pixels, "The result would have")
    if max(width, height) > codecs.LONGEST_SIDE[settings.format]:
        sentence = f"The result would have {width} x {height} pixels, more than {settings.format} can hold."
        raise TransformFailed("image.bomb", sentence)
