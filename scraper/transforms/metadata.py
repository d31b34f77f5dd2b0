"""What a picture says of itself beside its pixels: EXIF.

In: a picture that is open. Out: its orientation; its tags as JSON.
Must never: fail a picture for its metadata; hand on where it was taken.
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


def turn_of(image: Image.Image, exif: Image.Exif) -> Transpose | None:
    """What turns the picture upright; None if it is."""
    if image.format == "TIFF":  # Pillow's reader turns these itself
        return None
    return _UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))


def lies(turn: Transpose | None) -> bool:
    """Whether the turn swaps width and height."""
    return turn is not None and turn >= Transpose.ROTATE_90 and turn != Transpose.ROTATE_180


def exif_of(image: Image.Image) -> Image.Exif:
    """The tags; none where they cannot be read: a picture does not fail for its metadata."""
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


def _text(value: object) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\x00").decode("ascii", "ignore")
        return text.strip() if len(text) == len(value.rstrip(b"\x00")) and text.isprintable() else ""
    if isinstance(value, tuple):
        return f"[{', '.join(_text(part) for part in value[:_MOST_CHARS])}]"
    if isinstance(value, TiffImagePlugin.IFDRational):
        return f"{value.numerator}/{value.denominator}" if value.denominator != 1 else f"{value.numerator}"
    return str(value).replace("\x00", "").strip()
