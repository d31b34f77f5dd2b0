"""One input, being read: bytes in, plain UTF-8 out, and how far it has come.

Undoes gzip and zstd, takes a byte-order mark off and turns UTF-16 into UTF-8, a bounded piece at a time.
Must never pass off a cut or damaged input as a complete one: it raises where the damage shows.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Protocol

from scraper.errors import RunStopped, UsageError
from scraper.sources.inputs import Listed

CHUNK = 256 * 1024
"""Bytes asked for at once: large enough to make per-chunk work vanish, small enough to be "streaming"."""

_MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}
"""First bytes of RFC 1952 2.3.1 and RFC 8878 3.1.1. Neither can begin UTF-8 text, so they are safe to go by."""


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Reading:
    """One pass over one input.

    Attributes:
        listed: what is being read.
        position: bytes of the input taken in so far, as they are at rest; at most ``listed.size``.
    """

    def __init__(self, listed: Listed, stdin: BinaryIO | None = None) -> None:
        self.listed = listed
        self.position = 0
        self._stdin = stdin

    def __repr__(self) -> str:
        return f"<Reading {self.listed.name!r} at {self.position} of {self.listed.size}>"

    def moved_to(self, position: int) -> None:
        """Say how far reading has come; a list that grows meanwhile is never more than read."""
        self.position = position if self.listed.size is None else min(position, self.listed.size)

    def chunks(self) -> Iterator[bytes]:
        """The text as UTF-8 in pieces of no set size; what cannot be UTF-8 is left in, for the row to fail on.

        Raises:
            UsageError: nothing can be read at all.
            RunStopped: the input breaks off after something was read.
        """
        return _as_utf8(self.pieces())

    def broken(self, problem: str, error: Exception) -> UsageError | RunStopped:
        """The error to raise for an input that cannot be read on."""
        if self.position == 0:
            return UsageError(f"{self.listed.name} {problem} ({error}): fetch or make the list again.")
        return RunStopped(
            f"{self.listed.name} {problem} after {self.position:,} bytes ({error}), so the rest of the list is "
            f"missing: fetch or make it again."
        )

    def pieces(self) -> Iterator[bytes]:
        """The bytes, unpacked, in pieces of no set size.

        Raises:
            UsageError: nothing can be read at all.
            RunStopped: the input breaks off after something was read.
        """
        with ExitStack() as stack:
            try:
                raw = self._opened(stack)
                codec = self.listed.codec or _codec_of(raw)
                stream, damage = _decoder(codec, raw)
            except OSError as error:
                raise self.broken("cannot be read", error) from error
            problem = f"is cut or damaged as {codec} data" if codec else "cannot be read"
            if codec and self.listed.size == 0:
                raise self.broken(problem, EOFError("it is empty"))
            while True:
                try:
                    chunk = stream.read1(CHUNK)
                except (EOFError, OSError, damage) as error:
                    raise self.broken(problem, error) from error
                if not chunk:
                    return
                self.moved_to(raw.tell() if self.listed.size is not None else self.position + len(chunk))
                yield chunk

    def _opened(self, stack: ExitStack) -> io.BufferedReader[Any]:
        if self.listed.path is not None:
            return stack.enter_context(self.listed.path.open("rb"))
        if self._stdin is None and sys.stdin is not None:
            # Through a descriptor of our own: a thread that still waits in sys.stdin when an interrupted process
            # ends holds a lock that the interpreter wants then, and aborts it.
            return stack.enter_context(open(os.dup(sys.stdin.fileno()), "rb"))  # noqa: PTH123 - it has no path
        stdin: Any = self._stdin
        if stdin is None:
            raise UsageError("This process has no standard input: name a file instead of -.")
        if isinstance(stdin, io.BufferedReader):
            return stdin
        raw = io.BufferedReader(stdin)  # any object with readinto will do
        stack.callback(raw.detach)  # standard input is not ours to close
        return raw


def _codec_of(raw: io.BufferedReader[Any]) -> str:
    first = raw.peek(4)
    return next((codec for codec, magic in _MAGIC.items() if first.startswith(magic)), "")


def _decoder(codec: str, raw: io.BufferedReader[Any]) -> tuple[_Readable, type[Exception]]:
    """The stream to read from, and the error it raises on damage besides EOFError and OSError."""
    if codec == "gz":
        from isal import igzip, isal_zlib

        stream: _Readable = igzip.IGzipFile(fileobj=raw, mode="rb")  # type: ignore[no-untyped-call]  # isal's lack
        damage: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub names an instance
        return stream, damage
    if codec == "zst":
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return zstd.ZstdFile(raw, "rb"), zstd.ZstdError
    return raw, OSError


def _as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Take the byte-order mark off, and follow it: UTF-8 stays, UTF-16 is turned into it."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= len(codecs.BOM_UTF8):
            break
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        little = first.startswith(codecs.BOM_UTF16_LE)
        yield from _from_utf16("utf-16-le" if little else "utf-16-be", first[2:], chunks)
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    if first:
        yield first
    yield from chunks


def _from_utf16(encoding: str, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    # Lone surrogates pass through into what is no valid UTF-8, so that their line fails and no other.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    encode: Callable[[str], bytes] = lambda text: text.encode("utf-8", "surrogatepass")  # noqa: E731
    yield encode(decoder.decode(first))
    for chunk in chunks:
        yield encode(decoder.decode(chunk))
    if decoder.getstate()[0]:
        yield b"\xff"  # half a character is left over: the last line is damaged
