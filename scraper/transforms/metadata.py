"""What a picture says of itself beside its pixels: EXIF.

In: a picture that is open. Out: its orientation; its tags as JSON; its tags for the picture made of it.

Orientation is read wherever Pillow finds EXIF: JPEG, PNG (eXIf, and ImageMagick's text), WebP, TIFF; AVIF, whose
irot and imir win; and where there is none in EXIF, XMP's tiff:Orientation.

Must never: fail a picture for its metadata; hand on where it was taken, unless that was asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from PIL import ExifTags, Image, TiffImagePlugin
from PIL.Image import Transpose

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

_SKIPPED = frozenset({"ExifOffset", "GPSInfo", "MakerNote", "PrintImageMatching", "XMLPacket", "UserComment"})
_MOST_TAGS = 100
_MOST_CHARS = 200

_KEPT = frozenset(
    {
        *(0x010D, 0x010E),  # document, description
        *(0x010F, 0x0110, 0x0131, 0x013C),  # make and model, software, computer
        ExifTags.Base.Orientation,
        *(0x011A, 0x011B, 0x0128),  # resolution
        *(0x0132, 0x013B, 0x8298),  # time, artist, copyright
        *(0x4746, 0x4749),  # rating
        *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject as Windows writes them
    }
)
"""Of the first block. Its other tags tell how *that* file stores its pixels, or are places, or blobs."""
_BLOBS = frozenset({0x927C, 0xEA1C, 0xA005})
"""Maker notes, padding, and the place of a further block."""
_WIDTH, _HEIGHT, _COLOUR_SPACE, _SRGB = 0xA002, 0xA003, 0xA001, 1
_MOST_BYTES = 65_533
"""Of a JPEG's APP1 segment, its length excepted (EXIF 2.32, 4.7.2). Other formats get no more."""


def turn_of(image: Image.Image, exif: Image.Exif) -> Transpose | None:
    """What turns the picture upright; None if it is."""
    if image.format == "TIFF":  # Pillow's reader turns these itself
        return None
    return _UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))


def lies(turn: Transpose | None) -> bool:
    """Whether the turn swaps width and height."""
    return turn is not None and turn >= Transpose.ROTATE_90 and turn != Transpose.ROTATE_180


def exif_of(image: Image.Image) -> Image.Exif:
    """The tags; none where they cannot be read: a picture does not fail for its metadata.

    Ask before the pixels are read: Pillow forgets where a TIFF's are then. The tags outlive the picture.
    """
    try:
        return image.getexif()
    except Exception:
        if image.format == "PNG":
            image.load()  # reading the tags decodes there; if it was that, it fails here again
        return Image.Exif()


def as_json(exif: Image.Exif) -> str | None:
    """The tags by name, values as text, as img2dataset's column has them; bounded, whatever the file claims.

    Positions (the GPS block) and blobs (maker notes) are left out.
    """
    known: dict[str, str] = {}
    with contextlib.suppress(Exception):  # what was read before the damage is kept
        blocks: list[tuple[str, Mapping[int, object]]] = [("Image", exif)]
        blocks.append(("EXIF", exif.get_ifd(ExifTags.IFD.Exif)))
        for block, tags in blocks:
            for tag, value in tags.items():
                name, text = ExifTags.TAGS.get(tag), _text(value)
                if name is not None and name not in _SKIPPED and text and len(known) < _MOST_TAGS:
                    known[f"{block} {name}"] = text[:_MOST_CHARS]
    return json.dumps(known, ensure_ascii=False) if known else None


def kept(image: Image.Image, exif: Image.Exif, *, gps: bool = False) -> bytes:
    """The tags for the picture that was made, as ``codecs.encode`` takes them; empty where there are none.

    Orientation is 1, sizes are the new ones, and the colour space is sRGB. Left out: the thumbnail, maker notes
    (blobs that may hold anything, serial numbers and places included), what describes the old file, and, unless
    asked for, the GPS block. Where the whole would not fit into a JPEG, long values go: those over 8,192 bytes,
    then 512, then 64, then all.

    Args:
        image: the picture that was made: upright, in its final size.
        exif: of the one it was made from, as ``exif_of`` gave it.
        gps: keep where it was taken.
    """
    for longest in (_MOST_BYTES, 8192, 512, 64):
        with contextlib.suppress(Exception):  # a value that cannot be written, or a block that cannot be read
            data = _block(image, exif, longest, gps)
            if len(data) <= _MOST_BYTES:
                return data
    return b""


def _block(image: Image.Image, exif: Image.Exif, longest: int, gps: bool) -> bytes:
    made = Image.Exif()
    for tag, value in exif.items():
        if tag in _KEPT and _is_short(value, longest):
            made[tag] = value
    if ExifTags.Base.Orientation in made:
        made[ExifTags.Base.Orientation] = 1
    details = _details(exif, ExifTags.IFD.Exif, longest)
    details = {tag: each for tag, each in details.items() if tag not in _BLOBS}
    new = {_WIDTH: image.width, _HEIGHT: image.height, _COLOUR_SPACE: _SRGB}
    details |= {tag: value for tag, value in new.items() if tag in details}
    if details:
        made[ExifTags.IFD.Exif] = details
    if gps and (places := _details(exif, ExifTags.IFD.GPSInfo, longest)):
        made[ExifTags.IFD.GPSInfo] = places
    return made.tobytes() if len(made) else b""


def _details(exif: Image.Exif, block: ExifTags.IFD, longest: int) -> dict[int, object]:
    with contextlib.suppress(Exception):  # damage in one block costs that block
        return {tag: value for tag, value in exif.get_ifd(block).items() if _is_short(value, longest)}
    return {}


def _is_short(value: object, longest: int) -> bool:
    """Whether it takes at most about ``longest`` bytes; an element of a tuple takes up to 8."""
    size = len(value) * 8 if isinstance(value, tuple) else len(value) if isinstance(value, str | bytes) else 0
    return size <= longest


def _text(value: object) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\x00").decode("ascii", "ignore")
        return text.strip() if len(text) == len(value.rstrip(b"\x00")) and text.isprintable() else ""
    if isinstance(value, tuple):
        return f"[{', '.join(_text(part) for part in value[:_MOST_CHARS])}]"
    if isinstance(value, TiffImagePlugin.IFDRational):
        return f"{value.numerator}/{value.denominator}" if value.denominator != 1 else f"{value.numerator}"
    return str(value).replace("\x00", "").strip()
