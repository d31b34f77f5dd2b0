"""Content encodings the origin speaks: bytes in, encoded bytes out. Owns brotli and zstd on the serving side.

Must never decode anything: what the origin sends is for others to judge.
"""

from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Callable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import brotli

ZEROS = 1 << 20


def _gzip(body: bytes) -> bytes:
    # wbits 31: a gzip wrapper whose header holds no time, so that equal bodies stay equal.
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(body) + packer.flush()


def _br(body: bytes) -> bytes:
    packed: bytes = brotli.compress(body, quality=4)
    return packed


def _zstd(body: bytes) -> bytes:
    return zstd.compress(body)


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "deflate": zlib.compress,
    "br": _br,
    "zstd": _zstd,
}
"""Name in Content-Encoding → encoder. ``deflate`` is the zlib format, as RFC 9110 8.4.1.2 says."""


@functools.lru_cache(maxsize=4)
def gzip_bomb(size: int) -> bytes:
    """A valid gzip member of ``size`` zero bytes, at a thousandth of the memory.

    A full flush makes each compressed piece stand alone, so one piece can be repeated.
    """
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(ZEROS)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest_packer = zlib.compressobj(9, wbits=-15)
    rest = rest_packer.compress(bytes(size % ZEROS)) + rest_packer.flush()
    checksum = 0
    for _ in range(size // ZEROS):
        checksum = zlib.crc32(_ZERO_PIECE, checksum)
    checksum = zlib.crc32(bytes(size % ZEROS), checksum)
    trailer = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + piece * (size // ZEROS) + rest + trailer


_ZERO_PIECE = bytes(ZEROS)
