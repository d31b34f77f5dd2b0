"""Undoing Content-Encoding (RFC 9110 8.4). In: bytes as they come over the network. Out: decoded bytes, in pieces.

Pure and streaming: no I/O, no clock. Each step makes a piece of about 64 KiB at most, whatever the input claims,
so a decompression bomb costs its caller's cap and no more.

Must never: call a stream complete that ends early (clients that trust the framing alone do); hold more than one
piece of output.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
from isal import igzip_lib

from scraper.errors import FetchFailed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CODINGS = 5
"""Longest chain of codings that is undone. Nobody honest sends two."""

STEP = 64 * 1024
"""Most output of one step. Brotli overshoots it by half, in pieces of its own; still a bound."""

MAX_EMPTY_FRAMES = 1_000
"""Frames that hold nothing: a few bytes each on the wire, they cost time and give no turn to others."""

_ZSTD_WINDOW_LOG = 23
"""8 MiB: the most that zstd as a content coding may ask for (RFC 9659 3)."""


# isal's stub calls its exception class an instance.
_CORRUPT: tuple[type[Exception], ...] = (igzip_lib.error, brotli.error, zstd.ZstdError)  # type: ignore[assignment]


class Decoder:
    """Undoes a chain of codings.

    Args:
        content_encoding: the header's value; codings in the order they were applied.
        max_bytes: cap on what each coding yields.

    Raises:
        FetchFailed: ``body.encoding`` for an unknown coding, or more than five.
    """

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        codings = [name.strip().lower() for name in content_encoding.split(",")]
        codings = [name for name in codings if name not in ("", "identity")]
        if len(codings) > MAX_CODINGS:
            raise FetchFailed(
                "body.encoding", f"{len(codings)} content codings; at most {MAX_CODINGS} are undone."
            )
        self._max_bytes = max_bytes
        self._stages = [_stage(name) for name in reversed(codings)]
        self._made = [0] * len(codings)

    def __bool__(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._stages)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in bounded pieces. Nothing is decoded ahead of what is asked for.

        Raises:
            FetchFailed: ``body.encoding`` where the bytes are not in that coding, ``body.bomb`` over the cap.
        """
        return self._through(0, data)

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._stages):
            yield data
            return
        stage = self._stages[depth]
        try:
            for piece in stage.feed(data):
                self._made[depth] += len(piece)
                if self._made[depth] > self._max_bytes:
                    raise FetchFailed(
                        "body.bomb", f"The {stage.coding} body decompresses to more than {self._max_bytes} bytes."
                    )
                yield from self._through(depth + 1, piece)
        except _CORRUPT as error:
            raise FetchFailed(
                "body.encoding", f"The body is not {stage.coding}, as it claims: {error}."
            ) from error

    def finish(self) -> None:
        """The input is over.

        Raises:
            FetchFailed: ``body.truncated`` where a stream is not.
        """
        for stage in self._stages:
            if not stage.is_complete:
                raise FetchFailed("body.truncated", f"The {stage.coding} stream ends before its end.")


class _Stage(Protocol):
    coding: str

    @property
    def is_complete(self) -> bool: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Frame(Protocol):
    """One compressed stream; isal and zstd offer it alike."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Framed:
    """Streams made of frames, one after the other; what follows the last and is no frame is ignored.

    Args:
        coding: for messages.
        head: bytes that tell whether a frame begins, and of which kind.
        open_: the frame that begins with these bytes; None if none does. The first frame always begins.
    """

    def __init__(self, coding: str, head: int, open_: Callable[[bytes, bool], _Frame | None]) -> None:
        self.coding = coding
        self._head = head
        self._open = open_
        self._frame: _Frame | None = None
        self._pending = b""
        self._frames = 0
        self._is_empty = True  # the frame in hand, so far
        self._empty = 0
        self._garbage = False

    @property
    def is_complete(self) -> bool:
        return self._frame is None and self._frames > 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._garbage:
            if self._frame is None:
                data = self._pending + data
                if len(data) < self._head:
                    self._pending = data
                    return
                self._pending = b""
                self._frame = self._open(data[: self._head], self._frames == 0)
                self._is_empty = True
                self._garbage = self._frame is None
                continue
            for piece in _drain(self._frame, data):
                self._is_empty = False
                yield piece
            if not self._frame.eof:
                return
            data = self._frame.unused_data
            self._frame = None
            self._frames += 1
            self._empty += self._is_empty
            if self._empty > MAX_EMPTY_FRAMES:
                raise FetchFailed("body.bomb", f"More than {MAX_EMPTY_FRAMES} empty {self.coding} streams.")


def _drain(frame: _Frame, data: bytes) -> Iterator[bytes]:
    piece = frame.decompress(data, STEP)
    while piece:
        yield piece
        piece = b"" if frame.eof or frame.needs_input else frame.decompress(b"", STEP)


class _Brotli:
    """Brotli has no frames and no trailer: the stream says itself when it ends (RFC 7932 9.2)."""

    coding = "br"

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def is_complete(self) -> bool:
        return bool(self._stream.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        piece = self._stream.process(data, output_buffer_limit=STEP)
        while piece:
            yield piece
            # A short piece means that the input is used up. can_accept_more_data() does not: it is true as well
            # while output waits in the decoder's window.
            if len(piece) < STEP and self._stream.can_accept_more_data():
                return
            if self._stream.is_finished():
                return
            piece = self._stream.process(b"", output_buffer_limit=STEP)


def _gzip(head: bytes, first: bool) -> _Frame | None:
    """RFC 1952 2.2: a file is a series of members."""
    if first or head == b"\x1f\x8b":
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return None


def _deflate(head: bytes, first: bool) -> _Frame | None:
    """RFC 9110 8.4.1.2 means zlib (CM 8 and a checksum in its header, RFC 1950 2.2); some servers send it raw."""
    if not first:
        return None
    is_zlib = head[0] & 0x0F == 8 and int.from_bytes(head, "big") % 31 == 0
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB if is_zlib else igzip_lib.DECOMP_DEFLATE)


def _zstd(head: bytes, first: bool) -> _Frame | None:
    """RFC 8878 3.1: frames, or skippable frames with a magic number of 0x184D2A50 and the 15 after it."""
    if first or head == b"\x28\xb5\x2f\xfd" or (head[0] & 0xF0 == 0x50 and head[1:] == b"\x2a\x4d\x18"):
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
    return None


def _stage(coding: str) -> _Stage:
    if coding in ("gzip", "x-gzip"):
        return _Framed("gzip", 2, _gzip)
    if coding == "deflate":
        return _Framed("deflate", 2, _deflate)
    if coding == "zstd":
        return _Framed("zstd", 4, _zstd)
    if coding == "br":
        return _Brotli()
    raise FetchFailed("body.encoding", f"Unknown Content-Encoding {coding[:40]!r}.")
