"""What a picture's container says about itself, where the decoders do not ask. Bytes in, yes or no out.

Must never: raise; copy the body.
"""

from __future__ import annotations

import zlib

from scraper.transforms.sniff import AVIF, BMP, GIF, JPEG, PNG, WEBP, Kind

_PNG_SIGNATURE = 8


def is_damaged(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether a checksum of the container is wrong. Only PNG has any (PNG 3rd edition, 5.3).

    Pillow does not look at those over pixels: a flipped bit gives another picture there, and no error.
    """
    if kind is not PNG:
        return False
    at = _PNG_SIGNATURE
    with memoryview(body) as view:
        while at + 12 <= len(view):
            end = at + 8 + int.from_bytes(view[at : at + 4], "big")
            name = bytes(view[at + 4 : at + 8])
            if end + 4 > len(view):
                return False  # cut off, which the decoder will find
            is_critical = name[:1].isupper()  # text and the like may be wrong: nothing depends on it
            if is_critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
                return True
            if name == b"IEND":
                return False
            at = end + 4
    return False


def ends_early(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether a picture's container says that there should be more. For naming a failure, not for finding one."""
    head, tail = bytes(body[:16]), bytes(body[-64:])
    if kind is JPEG:
        return b"\xff\xd9" not in tail
    if kind is PNG:
        return b"IEND" not in tail
    if kind is GIF:
        return not tail.rstrip(b"\x00").endswith(b";")
    if kind is WEBP:
        return int.from_bytes(head[4:8], "little") + 8 > len(body)
    if kind is BMP:
        return int.from_bytes(head[2:6], "little") > len(body)
    if kind is AVIF:
        return _boxes_end(body) > len(body)
    return False


def _boxes_end(body: bytes | memoryview) -> int:
    """Where the last top-level box ends by its own word (ISO/IEC 14496-12 4.2)."""
    at = 0
    while at + 8 <= len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(body[at + 8 : at + 16], "big")
        if size < 8:  # 0 stands for "to the end of the file"
            return len(body)
        at += size
    return at if at >= len(body) else len(body) + 1
