"""What a picture's container says about itself, where the decoders do not ask. Bytes in; yes, no or a number out.

A decoder gives a picture as soon as it has its pixels, whatever else is missing. A body that stops before its
container says so was cut on its way here, and is refused whole: nobody can tell what the cut took. Cut at every
byte, Pillow 13 gives a picture without a word for PNG from the last IDAT on, GIF from the first frame's data on,
APNG and TIFF of which later pages are missing, TIFF (Group 4) and BMP without their last bytes, and an ICO that
holds such a PNG, and some JPEGs without their last two bytes. WebP and AVIF fail at every byte.

What is *wrong* inside a JPEG's data cannot be seen from here, nor does Pillow pass libjpeg's warnings on. A second
decoder that does would find 13 to 30 in 100 single-bit errors, and all bodies cut and then ended by an EOI, for
66 to 95 % of the time of a decode at 1/8: too dear for every picture.

Must never: raise; copy the body; take longer than a pass over it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

from scraper.transforms.sniff import AVIF, BMP, GIF, ICO, JP2, JPEG, PNG, TIFF, WEBP, Kind

_PNG_SIGNATURE = 8
_GIF_HEADER = 13
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Neither a stuffed zero, a restart nor a fill byte: a new segment, or the end (ISO/IEC 10918-1 B.1.1)."""

_TIFF_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value by its field type (TIFF 6.0 section 2, and BigTIFF)."""
_SUBFILE, _HEIGHT, _STRIPS, _ROWS_PER_STRIP, _STRIP_BYTES, _TILES, _TILE_BYTES = _TIFF_PIXELS = (
    *(254, 257, 273, 278, 279),
    *(324, 325),
)
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType: a page that belongs to another one
_MOST_TIFF_STEPS = 300_000  # entries and strips looked at; what lies behind stays unseen


_UNPACKED_AT_ONCE = 1 << 20
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass, and from one to the next (PNG 8.2)."""


_MOST_PARTS = 100_000
_PART_BYTES = 64
"""Files of more parts than this, and of so few bytes each, are made to keep a decoder busy."""

_MOST_SCANS = 500
"""Of a progressive JPEG: each is a pass over the whole picture. Encoders make ten or so."""

_JPEG_HEADER_MARKER = re.compile(rb"\xff+([^\x00\xff])")


class TooManyParts(Exception):
    """The file is cut into so many parts that looking at each would take minutes."""


def check_parts(kind: Kind, body: bytes | memoryview) -> None:
    """See that a JPEG is not of countless segments or scans; those of PNG and GIF are counted as they are walked.

    Raises:
        TooManyParts: it is.
    """
    if kind is not JPEG:
        return
    with memoryview(body) as view:
        at, parts, is_progressive = 0, 0, False
        while (found := _JPEG_HEADER_MARKER.match(view, at)) is not None:
            at, marker = found.end(), view[found.end() - 1]
            parts += 1
            if parts > _MOST_PARTS // 10:
                raise TooManyParts
            is_progressive = is_progressive or marker == 0xC2
            if marker in (0xDA, 0xD9):
                break
            if marker not in (0x01, 0xD8):
                at += max(2, int.from_bytes(view[at : at + 2], "big"))
        if is_progressive and sum(1 for _ in re.finditer(rb"\xff\xda", view)) > _MOST_SCANS:
            raise TooManyParts


def _most_parts(view: memoryview) -> int:
    return 5 * _MOST_PARTS + len(view) // _PART_BYTES


def is_damaged(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether a checksum of the container is wrong. Only PNG has any (PNG 3rd edition, 5.3).

    Pillow does not look at those over pixels: a flipped bit gives another picture there, and no error.
    """
    if kind is not PNG:
        return False
    with memoryview(body) as view:
        for name, at, end in _png_chunks(view):
            is_critical = name[:1].isupper()  # text and the like may be wrong: nothing depends on it
            if is_critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
                return True
    return False


def ends_early(kind: Kind, body: bytes | memoryview) -> bool:
    """Whether the body stops before its container says that it does.

    What stands behind the container's end does not count, nor does its loss.
    """
    ends = _ENDS.get(kind)
    if ends is None:
        return False
    with memoryview(body) as view:
        return ends(view)


def lacks_rows(body: bytes | memoryview) -> bool:
    """Whether the data of a PNG, which is all there and of right checksums, unpacks to less than all its rows."""
    with memoryview(body) as view:
        missing = _png_bytes(view)
        unpacking = zlib.decompressobj()
        for name, at, end in _png_chunks(view):
            packed: bytes | memoryview = view[at + 8 : end] if name == b"IDAT" else b""
            while len(packed) and missing > 0:
                try:
                    missing -= len(unpacking.decompress(packed, _UNPACKED_AT_ONCE))
                except zlib.error:
                    return missing > 0
                packed = unpacking.unconsumed_tail
        # All that was packed may be read and some of what it means not given out yet: some kilobytes at most.
        return missing > 0 and missing > len(unpacking.flush())


def _png_bytes(view: memoryview) -> int:
    """Bytes that a PNG's data unpacks to, by its header: a filter's byte and samples for each row (PNG 7.2)."""
    width, height = (int.from_bytes(view[at : at + 4], "big") for at in (16, 20))
    bits = view[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(view[25], 1)
    passes = _ADAM7 if view[28] else ((0, 0, 1, 1),)
    sizes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def frames(kind: Kind, body: bytes | memoryview) -> int:
    """How many pictures a GIF or a TIFF holds, without decoding one; 1 for the other formats.

    Pages of a TIFF that are a smaller copy or a mask of another one are not counted.
    """
    with memoryview(body) as view:
        if kind is GIF:
            return max(1, _gif(view)[0])
        if kind is TIFF:
            return max(1, _tiff(view)[0])
    return 1


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of data of each chunk that is all there, up to and with IEND."""
    at, left = _PNG_SIGNATURE, _MOST_PARTS
    while at + 12 <= len(view):
        left -= 1
        if left < 0:
            raise TooManyParts
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if end + 4 > len(view):
            return
        name = bytes(view[at + 4 : at + 8])
        yield name, at, end
        if name == b"IEND":
            return
        at = end + 4


def _png_ends_early(view: memoryview) -> bool:
    return all(name != b"IEND" for name, _, _ in _png_chunks(view))


def _jpeg_ends_early(view: memoryview) -> bool:
    at, left = 0, _most_parts(view)
    while found := _JPEG_MARKER.search(view, at):
        left -= 1
        if left < 0:
            raise TooManyParts
        at, marker = found.end(), view[found.end() - 1]
        if marker == 0xD9:
            return False
        if marker not in (0x01, 0xD8):  # all others but the start carry their length
            at += max(2, int.from_bytes(view[at : at + 2], "big"))
    return True


def _gif_ends_early(view: memoryview) -> bool:
    return not _gif(view)[1]


def _gif(view: memoryview) -> tuple[int, bool]:
    """How many frames, and whether the end was reached (GIF89a, appendix B).

    What is no block ends the walk as well: junk behind the picture, or a matter for the decoder.
    """
    if len(view) < _GIF_HEADER:
        return 0, False
    at = _GIF_HEADER + _colour_table(view[10])
    count, left = 0, _most_parts(view)
    while at < len(view):
        block = view[at]
        if block == 0x21:  # an extension
            at += 2
        elif block == 0x2C:
            if at + 10 > len(view):
                return count, False
            count += 1
            at += 11 + _colour_table(view[at + 9])
        else:
            return count, True
        left -= 1
        while at < len(view) and (length := view[at]):
            at += length + 1
            left -= 1
        if left < 0:
            raise TooManyParts
        at += 1
    return count, False


def _colour_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp_ends_early(view: memoryview) -> bool:
    return len(view) < 12 or int.from_bytes(view[4:8], "little") + 8 > len(view)


def _bmp_ends_early(view: memoryview) -> bool:
    """By the pixels rather than the size of the file, which many writers get wrong."""
    if len(view) < 38:
        return True
    ints: tuple[int, ...] = struct.unpack_from("<I4xIIiiHHII", view, 2)
    file_size, offset, header, width, height, _, bits, compression, size = ints
    if header == 12:  # OS/2
        width, height, _, bits = struct.unpack_from("<4H", view, 18)
        compression = 0
    if compression in (1, 2):  # run lengths: their size is known to the writer only
        return (offset + size if size else file_size) > len(view)
    return offset + (width * bits + 31) // 32 * 4 * abs(height) > len(view)


def _boxes_end_early(view: memoryview) -> bool:
    """By the top-level boxes' own word (ISO/IEC 14496-12 4.2)."""
    at = 0
    while at + 8 <= len(view):
        size = int.from_bytes(view[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(view[at + 8 : at + 16], "big")
        if size < 8:  # 0 stands for "to the end of the file"
            return False
        at += size
    return at != len(view)


def _avif_ends_early(view: memoryview) -> bool:
    """Boxes, and pixels in one of their own or within the metadata (ISO/IEC 14496-12 8.1.1 and 8.11.11)."""
    return _boxes_end_early(view) or re.search(b"mdat|idat", view) is None


def _jp2_ends_early(view: memoryview) -> bool:
    """Boxes, or a bare codestream; the EOC marker cannot occur within its data (ISO/IEC 15444-1 A.1)."""
    is_bare = bytes(view[:2]) == b"\xff\x4f"
    return (not is_bare and _boxes_end_early(view)) or b"\xff\xd9" not in bytes(view[-64:])


def _ico_ends_early(view: memoryview) -> bool:
    count = int.from_bytes(view[4:6], "little")
    if len(view) < 6 + 16 * count:
        return True
    entries = (struct.unpack_from("<II", view, 14 + 16 * each) for each in range(count))
    return any(size + offset > len(view) for size, offset in entries)


def _tiff_ends_early(view: memoryview) -> bool:
    return _tiff(view)[1]


def _tiff(view: memoryview) -> tuple[int, bool]:
    """How many pages, and whether anything that a page points to lies behind the end (TIFF 6.0, section 2)."""
    walk = _TiffWalk(view)
    pages, seen = 0, set[int]()
    try:
        at = walk.first()
        while at and at not in seen and walk.steps < _MOST_TIFF_STEPS:
            seen.add(at)
            known, at = walk.page(at)
            pages += not (pages and (known.get(_SUBFILE) or (0,))[0] & _REDUCED_OR_MASK)
    except (struct.error, EOFError, OverflowError):
        return pages, True
    return pages, False


class _TiffWalk:
    """From page to page of a TIFF, a bounded number of entries and strips in all.

    Its methods raise struct.error or EOFError where what they are to read lies behind the end.
    """

    def __init__(self, view: memoryview) -> None:
        self.steps = 0
        self._view = view
        self._order = "<" if bytes(view[:2]) == b"II" else ">"
        self._is_big = bytes(view[2:4]) in (b"+\x00", b"\x00+")
        self._place = "Q" if self._is_big else "I"
        self._room = 8 if self._is_big else 4  # bytes of an entry that hold its value, or the value's place

    def first(self) -> int:
        return self._read(self._place, 8 if self._is_big else 4)[0]

    def page(self, at: int) -> tuple[dict[int, tuple[int, ...]], int]:
        """What a page says of its pixels, and where the next page is."""
        number, head = ("Q", "HHQ") if self._is_big else ("H", "HHI")
        (count,) = self._read(number, at)
        at += struct.calcsize(number)
        self.steps += 1
        known: dict[int, tuple[int, ...]] = {}
        if count > _MOST_TIFF_STEPS - self.steps:  # what lies behind stays unseen
            self.steps = _MOST_TIFF_STEPS
            return known, 0
        for _ in range(count):
            tag, type_, length = self._read(head, at)
            value_at = at + struct.calcsize("<" + head)
            at = value_at + self._room
            self.steps += 1
            size = length * _TIFF_SIZES.get(type_, 0)
            if size > self._room:
                (value_at,) = self._read(self._place, value_at)
            if value_at + size > len(self._view):
                raise EOFError
            code = {3: "H", 4: "I", 16: "Q"}.get(type_)
            if tag in _TIFF_PIXELS and code is not None:
                if length > _MOST_TIFF_STEPS - self.steps:
                    self.steps = _MOST_TIFF_STEPS
                    return known, 0
                known[tag] = self._read(f"{length}{code}", value_at)
                self.steps += length
        height, rows = (known.get(tag, (0,))[0] for tag in (_HEIGHT, _ROWS_PER_STRIP))
        if _STRIPS in known and rows and len(known[_STRIPS]) * rows < height:
            raise EOFError
        for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
            pairs = zip(known.get(places, ()), known.get(sizes, ()), strict=False)
            if any(where + size > len(self._view) for where, size in pairs):
                raise EOFError
        return known, self._read(self._place, at)[0]

    def _read(self, codes: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + codes, self._view, at)


_ENDS: dict[Kind, Callable[[memoryview], bool]] = {
    AVIF: _avif_ends_early,
    BMP: _bmp_ends_early,
    GIF: _gif_ends_early,
    ICO: _ico_ends_early,
    JP2: _jp2_ends_early,
    JPEG: _jpeg_ends_early,
    PNG: _png_ends_early,
    TIFF: _tiff_ends_early,
    WEBP: _webp_ends_early,
}
