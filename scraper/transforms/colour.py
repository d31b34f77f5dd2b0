"""Pixels of any mode, depth and colour space → 8-bit sRGB: L, RGB, or RGBA where transparency is kept.

In: a picture that is decoded. Out: one that resizing and every encoder understands. ``plain`` does all of it. The
steps are there as well, for what is cheaper or better once the picture is small:

    samples ─▶ resize ─▶ to_srgb ─▶ flat

Between the first and the last step transparency is a channel of its own, not multiplied into the colours. Pillow's
``resize`` weighs the colours of LA and RGBA by it, so that what stands under transparent pixels does not bleed.

What a file says of its colours other than by a profile is not looked at: PNG's gAMA and cHRM, AVIF's nclx.

Must never: clip what can be scaled; read a profile as anything but data; keep an unbounded number of them.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections import OrderedDict

from PIL import Image, ImageChops, ImageCms

WHITE = (255, 255, 255)

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
"""Kinds of profile that say what a picture's colours are (ICC.1:2022, 7.2.5); the others are for workflows."""
_MOST_PROFILE = 4 << 20  # bytes; those of printing presses have up to 3 MB
_MOST_CONVERSIONS = 32
_UNSEEN = 2  # of 255: a profile that changes no colour by more is sRGB in other words

_Conversion = ImageCms.ImageCmsTransform | list[int] | None
"""From a profile to sRGB: for grey a table, None where nothing is to be done."""


def plain(image: Image.Image, *, keep_alpha: bool, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """The picture in L or RGB; in RGBA if it has transparency and that is to be kept, else over ``background``.

    A colour profile in ``image.info`` is applied. What is wrong with one is warned of (``codecs.opened`` collects
    that), and the picture is taken for sRGB.
    """
    pixels = to_srgb(samples(image), profile_of(image))
    return pixels if keep_alpha else flat(pixels, background)


def profile_of(image: Image.Image) -> bytes | None:
    """The colour profile that came with a picture, as bytes. Ask the picture that was opened."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def samples(image: Image.Image) -> Image.Image:
    """The picture in 8 bits a sample, colours as they are: L, LA, RGB, RGBA or, if it has a profile, CMYK.

    Deeper samples are scaled and not clipped, one-bit samples widened, palettes looked up. CMYK without a profile
    becomes RGB here: each of R, G, B is 255 less its ink, times what black lets through: (255 - C)(255 - K) / 255,
    as browsers do. Adobe's inverted inks, and YCCK, have been put right by the decoder.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(image)
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in image.info:
        return image.convert("RGB") if image.mode == "CMYK" and profile_of(image) is None else image
    if image.mode in ("1", "L", "La") or (
        image.mode == "P" and not image.has_transparency_data and _is_grey(image)
    ):
        return image.convert("LA" if image.has_transparency_data else "L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """What ``samples`` gave, resized or not, in L, RGB or RGBA of sRGB.

    The conversion is relative colorimetric with black point compensation: white stays white, which is what
    backgrounds and readers expect, and shadows of printing inks do not turn grey.

    Args:
        image: in L, LA, RGB, RGBA or CMYK.
        profile: what ``profile_of`` gave, or None for sRGB.
    """
    space = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    conversion = _conversion(profile, space) if profile is not None else None
    if conversion is not None:
        colours = image.convert(space) if space != image.mode else image
        if isinstance(conversion, list):
            colours = colours.point(conversion)
        else:
            colours = ImageCms.applyTransform(colours, conversion) or colours
        if space != image.mode:
            colours.putalpha(image.getchannel("A"))
        image = colours
    wanted = {"LA": "RGBA", "CMYK": "RGB"}.get(image.mode, image.mode)
    return image if wanted == image.mode else image.convert(wanted)


def flat(image: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """What ``to_srgb`` gave, in L or RGB: transparent parts show the background, in sRGB."""
    if image.mode != "RGBA":
        return image
    below = Image.new("RGB", image.size, background)
    below.paste(image, mask=image.getchannel("A"))
    return below


def _is_grey(image: Image.Image) -> bool:
    """Whether a palette holds nothing but greys, which are three times as fast in one channel."""
    palette = bytes(image.getpalette("RGB") or b"")
    return palette[0::3] == palette[1::3] == palette[2::3]


def _deep(image: Image.Image) -> Image.Image:
    """16 and 32 bits a sample in 8. All are grey: of deep colours Pillow's decoders give the upper 8 bits."""
    factor = 255.0 / _white(image)
    whole = image if image.mode in ("I", "F") else image.convert("I")
    pixels = whole.point(lambda sample: sample * factor + 0.5).convert("L")
    if _tiff_tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts up to 8 bits only
        pixels = ImageChops.invert(pixels)
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode != "F":
        pixels.putalpha(whole.point([255 * (sample != key) for sample in range(65_536)], "L"))
    return pixels


def _white(image: Image.Image) -> float:
    """The sample that is white. Formats say so up to 16 bits; beyond, the next usual scale above the brightest."""
    bits = _tiff_tag(image, _TIFF_BITS) or 16
    if image.mode.startswith("I;16"):
        return 2.0 ** min(bits, 16) - 1
    if image.mode == "I" and bits == 16 and _tiff_tag(image, _TIFF_SAMPLE_FORMAT) == _SIGNED:
        return 32_767.0
    extrema = image.getextrema()
    brightest = extrema[1]
    assert isinstance(brightest, int | float)
    scales = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
    if not math.isfinite(brightest):
        return scales[0]
    return next((scale for scale in scales if brightest <= scale), float(brightest))


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


_MOST_TAGS = 100  # usual profiles have 10 to 20

_conversions: OrderedDict[tuple[bytes, str], _Conversion | str] = OrderedDict()
"""By digest and mode, the last used last. A text is what is wrong with the profile."""


def _conversion(profile: bytes, mode: str) -> _Conversion:
    """From the profile to sRGB. Making one takes some milliseconds, applying it to 256 x 256 pixels about one."""
    key = (hashlib.sha256(profile).digest(), mode)
    if key in _conversions:
        _conversions.move_to_end(key)
    else:
        _conversions[key] = _made(profile, mode)
        if len(_conversions) > _MOST_CONVERSIONS:
            _conversions.popitem(last=False)
    made = _conversions[key]
    if isinstance(made, str):
        warnings.warn(f"The colour profile is ignored: {made}.", stacklevel=2)
        return None
    return made


def _made(profile: bytes, mode: str) -> _Conversion | str:
    if not 128 <= len(profile) <= _MOST_PROFILE or profile[36:40] != b"acsp" or profile[12:16] not in _CLASSES:
        return "it is none, or none for pictures"
    if _is_costly(profile):
        return "it is of a kind that is not applied"
    space = _SPACES.get(profile[16:20])
    if space is None or (space != mode and mode != "L"):
        return f"it is for {profile[16:20].decode('ascii', 'replace').strip()}, and the picture is in {mode}"
    try:
        transform = ImageCms.buildTransform(
            ImageCms.getOpenProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            space,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "L":
            return _curve(transform, space)
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except Exception as error:  # littlecms has many ways to say that a file is damaged
        return f"it is damaged ({error})"


def _is_costly(profile: bytes) -> bool:
    """Whether it holds chains of processing elements (ICC.1:2022, 9.2.19): a kilobyte of them takes a minute."""
    count = int.from_bytes(profile[128:132], "big")
    if count > _MOST_TAGS:
        return True
    for at in range(132, 132 + 12 * count, 12):
        place = int.from_bytes(profile[at + 4 : at + 8], "big")
        if profile[at : at + 3] in (b"D2B", b"B2D") or profile[place : place + 4] == b"mpet":
            return True
    return False


def _curve(transform: ImageCms.ImageCmsTransform, space: str) -> list[int] | None:
    """What becomes of each grey; those of an RGB profile, which many grey JPEGs carry, are R = G = B."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256))).convert(space)
    greys = (ImageCms.applyTransform(ramp, transform) or ramp).getchannel("G").tobytes()
    return None if all(abs(grey - at) <= _UNSEEN for at, grey in enumerate(greys)) else list(greys)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether 6 x 6 x 6 colours come out as they went in: names and sizes of sRGB profiles are many."""
    steps = range(0, 256, 51)
    cube = Image.frombytes(
        "RGB", (216, 1), bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
    )
    difference = ImageChops.difference(cube, ImageCms.applyTransform(cube, transform) or cube)
    return max(each[1] for each in difference.getextrema()) <= _UNSEEN  # type: ignore[index]  # three bands
