"""Everything that touches Pillow: bytes of a picture in, bytes of the picture asked for out.

    open (header only) ─▶ pixel cap ─▶ draft ─▶ decode ─▶ 8-bit RGB(A) ─▶ resize ─▶ upright ─▶ pad ─▶ encode

Whatever Pillow raises is mapped here to one of our classes. Must never: return a picture of which the decoder
says that data is missing; run a format that was not asked for by its magic number.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# The plugins are imported for their registration: with them there, Pillow never loads the other forty.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.Image import Resampling, Transpose

from scraper.errors import TransformFailed
from scraper.policies.resize import Placement, place, shrink_factor
from scraper.transforms.containers import ends_early, is_damaged
from scraper.transforms.sniff import Kind

_FORMATS = {
    "avif": AvifImagePlugin.AvifImageFile.format,
    "bmp": BmpImagePlugin.BmpImageFile.format,
    "gif": GifImagePlugin.GifImageFile.format,
    "jpg": JpegImagePlugin.JpegImageFile.format,  # MPO, several JPEGs in one, comes with it
    "png": PngImagePlugin.PngImageFile.format,
    "tiff": TiffImagePlugin.TiffImageFile.format,
    "webp": WebPImagePlugin.WebPImageFile.format,
}
_ENCODERS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_LONGEST_SIDE = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}  # of the formats themselves

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

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""By the value of EXIF's Orientation tag (EXIF 2.32, 4.6.4)."""

_EXIF_SKIPPED = frozenset({"ExifOffset", "GPSInfo", "MakerNote", "PrintImageMatching", "XMLPacket", "UserComment"})
_EXIF_MOST_TAGS = 100
_EXIF_MOST_CHARS = 200


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


def warm_up(encode_format: str) -> None:
    """Settle Pillow's globals for a worker process, and run each codec once."""
    # Our own cap is exact, and settable per transform; Pillow's would refuse what the user allowed.
    Image.MAX_IMAGE_PIXELS = None
    # One process per core decodes one picture at a time; the codec's own threads would only compete.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Of the kind "corrupt EXIF data"; what matters raises.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    data = _encode(Image.new("RGB", (16, 16)), encode_format, 6)
    with Image.open(io.BytesIO(data)) as image:
        image.resize((8, 8), _SHRINKING)


def render(body: bytes | memoryview, kind: Kind, settings: Settings) -> Rendered:
    """Make the picture that was asked for.

    Raises:
        TransformFailed: image.truncated, image.decode or image.bomb.
    """
    if is_damaged(kind, body):
        raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged (wrong checksum).")
    with _mapped(kind, body), Image.open(io.BytesIO(body), formats=[_FORMATS[kind.extension]]) as image:
        _check_pixels(*image.size, settings.max_pixels, "The picture has")
        exif = _exif_of(image)
        # Pillow's TIFF reader turns pictures upright itself.
        turn = None if kind.extension == "tiff" else _UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))
        lies = turn is not None and turn >= Transpose.ROTATE_90 and turn != Transpose.ROTATE_180
        stored = image.size
        width, height = stored[::-1] if lies else stored
        placement = place(width, height, settings.mode, settings.size, only_if_bigger=settings.only_if_bigger)
        _check_result(placement, settings)
        pixels = _scaled(image, placement.transposed() if lies else placement, settings.format != "jpg")
        text = _exif_json(exif)
    if turn is not None:
        pixels = pixels.transpose(turn)
    if placement.is_padded:
        canvas = Image.new(pixels.mode, placement.canvas, "white")
        canvas.paste(pixels, placement.offset)
        pixels = canvas
    data = _encode(pixels, settings.format, settings.quality)
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
    pixels = _eight_bit(image)
    if pixels.has_transparency_data:
        pixels = pixels.convert("RGBA")
        if not keep_alpha:
            pixels = _on_white(pixels)
    elif pixels.mode not in ("RGB", "L"):
        pixels = pixels.convert("RGB")
    if placement.size != pixels.size or box != (0, 0, *pixels.size):
        resample = _ENLARGING if placement.enlarges else _SHRINKING
        pixels = pixels.resize(placement.size, resample, box, reducing_gap=_REDUCING_GAP)
    # Grey becomes RGB last, where it is cheapest: readers of a dataset want one shape for all pictures.
    return pixels.convert("RGB") if pixels.mode == "L" else pixels


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deeper samples scaled, not clipped; one-bit samples widened."""
    if image.mode == "1":
        return image if "transparency" in image.info else image.convert("L")
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    if image.mode.startswith("I;16"):
        white = 65_535.0
        image = image.convert("I")
    else:
        # 32 bits: formats do not say what white is. The next usual scale above the brightest sample.
        extrema = image.getextrema()
        brightest = extrema[1]
        assert isinstance(brightest, int | float)
        scales = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
        white = next((scale for scale in scales if brightest <= scale), float(brightest))
    factor = 255.0 / white
    return image.point(lambda sample: sample * factor + 0.5).convert("L")


def _on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _encode(image: Image.Image, format_: str, quality: int) -> bytes:
    image.info = {}  # encoders write profiles and texts they find there
    out = io.BytesIO()
    if format_ == "png":
        image.save(out, _ENCODERS[format_], compress_level=quality)
    else:
        image.save(out, _ENCODERS[format_], quality=quality)
    return out.getvalue()


def _exif_of(image: Image.Image) -> Image.Exif:
    """The tags; none where they cannot be read: a picture does not fail for its metadata."""
    try:
        return image.getexif()
    except Exception:
        if image.format == "PNG":
            image.load()  # reading the tags decodes there; if it was that, it fails here again
        return Image.Exif()


def _exif_json(exif: Image.Exif) -> str | None:
    """The tags by name, values as text, as img2dataset's column has them; bounded, whatever the file claims.

    Positions (the GPS block) and blobs (maker notes) are left out.
    """
    known: dict[str, str] = {}
    with contextlib.suppress(Exception):  # what was read before the damage is kept
        blocks: list[tuple[str, Mapping[int, object]]] = [("Image", exif)]
        blocks.append(("EXIF", exif.get_ifd(ExifTags.IFD.Exif)))
        for block, tags in blocks:
            for tag, value in tags.items():
                name, text = ExifTags.TAGS.get(tag), _exif_text(value)
                if name is not None and name not in _EXIF_SKIPPED and text and len(known) < _EXIF_MOST_TAGS:
                    known[f"{block} {name}"] = text[:_EXIF_MOST_CHARS]
    return json.dumps(known, ensure_ascii=False) if known else None


def _exif_text(value: object) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\x00").decode("ascii", "ignore")
        return text.strip() if len(text) == len(value.rstrip(b"\x00")) and text.isprintable() else ""
    if isinstance(value, tuple):
        return f"[{', '.join(_exif_text(part) for part in value[:_EXIF_MOST_CHARS])}]"
    if isinstance(value, TiffImagePlugin.IFDRational):
        return f"{value.numerator}/{value.denominator}" if value.denominator != 1 else f"{value.numerator}"
    return str(value).replace("\x00", "").strip()


def _check_pixels(width: int, height: int, most: int, what: str) -> None:
    if width * height > most:
        raise TransformFailed("image.bomb", f"{what} {width} x {height} pixels; {most} are allowed.")


def _check_result(placement: Placement, settings: Settings) -> None:
    """A very long and thin picture grows beyond all bounds when its short side is scaled up."""
    width, height = placement.canvas
    _check_pixels(width, height, settings.max_pixels, "The result would have")
    if max(width, height) > _LONGEST_SIDE[settings.format]:
        sentence = f"The result would have {width} x {height} pixels, more than {settings.format} can hold."
        raise TransformFailed("image.bomb", sentence)


@contextlib.contextmanager
def _mapped(kind: Kind, body: bytes | memoryview) -> Iterator[None]:
    """The one place where Pillow's errors become ours."""
    try:
        yield
    except (TransformFailed, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TransformFailed("image.bomb", f"{error}") from error
    except Exception as error:
        # A stranger's bytes meet seven parsers: any exception at all may come out, and means the same.
        text = f"{error}".lower()
        cut = isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text
        if cut or ends_early(kind, body):
            sentence = f"The body is {kind.label} that ends after {len(body)} bytes, before the picture does."
            raise TransformFailed("image.truncated", sentence) from error
        unreadable = isinstance(error, UnidentifiedImageError)  # its text holds an address
        detail = "its header cannot be read" if unreadable else f"{type(error).__name__}: {error}"
        raise TransformFailed("image.decode", f"The body is {kind.label} that is damaged ({detail}).") from error
