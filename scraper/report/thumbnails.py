"""Small pictures for the contact sheet, as data URIs.

In: pictures' places, and a callable that reads them. Out: JPEGs of a few kilobytes each.
Must never: raise over a picture that is none, is damaged, or is gone; decode one of unreasonable size; take long.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from PIL import Image, ImageOps

from scraper.report.data import Picture, ReadItems

SIDE = 168
"""Pixels: twice what the page shows on a phone, a little more than on a wide screen."""

MOST_PIXELS = 40_000_000
MOST_SECONDS = 0.8
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What our transforms write. The bytes may come from strangers, so no rarer decoder gets to see them."""

_AT_ONCE = 12


def thumbnails(out: Path, pictures: Sequence[Picture], read_items: ReadItems) -> list[tuple[Picture, str]]:
    """Each picture that can be shown, with its data URI, in order of rows; fewer when time runs out."""
    until = time.monotonic() + MOST_SECONDS
    found: list[tuple[Picture, str]] = []
    # In strides, so that what is there when time runs out is still spread over the list.
    strided = list(chain.from_iterable(pictures[start::4] for start in range(4)))
    for begin in range(0, len(strided), _AT_ONCE):
        some = strided[begin : begin + _AT_ONCE]
        if time.monotonic() > until:
            break
        try:
            bodies = read_items(out, [(picture.path, picture.shard) for picture in some])
            for picture, body in zip(some, bodies, strict=False):
                uri = _data_uri(body) if body else None
                if uri is not None:
                    found.append((picture, uri))
        except (OSError, ValueError):  # a shard that has gone, or is no tar
            continue
    return sorted(found, key=lambda one: one[0].row)


def _data_uri(body: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            image.draft("RGB", (SIDE, SIDE))
            ImageOps.exif_transpose(image, in_place=True)
            image.thumbnail(
                (SIDE, SIDE), Image.Resampling.BOX if image.width > 4 * SIDE else Image.Resampling.HAMMING
            )
            written = io.BytesIO()
            _flat(image).save(written, "JPEG", quality=72, optimize=False)
    except Exception:  # Pillow's decoders raise many kinds, and a thumbnail is worth none of them
        return None
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def _flat(image: Image.Image) -> Image.Image:
    """Without transparency, on grey."""
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        seen = image.convert("RGBA")
        flat = Image.new("RGB", image.size, (128, 128, 128))
        flat.paste(seen, mask=seen.getchannel("A"))
        return flat
    return image.convert("RGB")
