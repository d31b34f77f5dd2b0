"""Whether a picture's file is nothing but pixels. Bytes in, yes or no out.

What passes through unchanged takes along whatever stands in it: positions in EXIF, XMP, texts and maker notes, a
second picture behind the first. So it goes by a list of what may be there, and anything else means no.

Must never: raise; copy the body.
"""

from __future__ import annotations

import re

from scraper.transforms.sniff import JPEG, PNG, WEBP, Kind

# Frames, tables, restarts, scans (ITU-T T.81, B.1.1.3), JFIF without a thumbnail, and Adobe's word on the colours.
_JPEG_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE})
_JPEG_LENGTHS = {0xE0: 16, 0xEE: 14}
_SCAN, _END = 0xDA, 0xD9
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sRGB", b"pHYs", b"bKGD", b"sBIT"})
_PNG_ANCILLARY_BYTES = 256  # tRNS of a whole palette; the others have a few

_WEBP_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH"})


def is_bare(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether a JPEG, PNG or WebP holds pixels and what it takes to show them, and nothing else."""
    with memoryview(body) as view:
        if kind is JPEG:
            return _is_bare_jpeg(view)
        if kind is PNG:
            return _is_bare_png(view)
        return kind is WEBP and _is_bare_webp(view)


def _is_bare_jpeg(view: memoryview) -> bool:
    at = 2
    while at + 2 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        if marker == _END:
            return at + 2 == len(view)
        length = int.from_bytes(view[at + 2 : at + 4], "big")
        if marker not in _JPEG_MARKERS or length != _JPEG_LENGTHS.get(marker, length):
            return False
        at += 2 + length
        if marker == _SCAN:
            found = _AFTER_SCAN.search(view, at)
            at = found.start() if found else len(view)
    return False


def _is_bare_png(view: memoryview) -> bool:
    at = 8
    while at + 12 <= len(view):
        name = bytes(view[at + 4 : at + 8])
        if name not in _PNG_CHUNKS:
            return False
        length = int.from_bytes(view[at : at + 4], "big")
        if name[:1].islower() and length > _PNG_ANCILLARY_BYTES:
            return False
        at += 12 + length
        if name == b"IEND":
            return at == len(view)
    return False


def _is_bare_webp(view: memoryview) -> bool:
    at = 12
    while at + 8 <= len(view):
        if bytes(view[at : at + 4]) not in _WEBP_CHUNKS:
            return False
        size = int.from_bytes(view[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at == len(view)
