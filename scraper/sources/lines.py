r"""Bytes → lines: blocks of decoded lines, whatever the line ends and however long a line is.

``\n``, ``\r\n`` and a lone ``\r`` each end a line. A line that is no text, or is too long to be a row, comes
out as a BadLine in its place, so that lines can be counted. Must never hold more than ``MAX_LINE`` bytes of a
line, nor split on the other separators that ``str.splitlines`` knows: they may stand in a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_LINE = 1024 * 1024
"""Bytes in a line. Browsers give up on URLs far shorter; a longer line is damage, not a row."""

MAX_SHOWN = 400
"""Bytes kept of a line that is too long: twice what a message shows."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that no format can read.

    Attributes:
        start: its first bytes, for the message.
        why: continues "Line 17 of list.txt …".
    """

    start: bytes
    why: str


Line = str | BadLine

_TOO_LONG = f"is longer than {MAX_LINE:,} bytes"


def line_blocks(chunks: Iterator[bytes]) -> Iterator[Sequence[Line]]:
    """Group the lines of a byte stream by the chunk that ended them. The last line need not be ended."""
    tail = bytearray()  # the line that has begun
    overlong = b""  # the start of that line, once it is known to be too long; the rest is let go
    for chunk in _one_kind_of_break(chunks):
        begin, end = 0, chunk.rfind(b"\n")
        if end < 0:
            if not overlong:
                tail += chunk
                if len(tail) > MAX_LINE:
                    overlong = bytes(tail[:MAX_SHOWN])
                    tail.clear()
            continue
        if overlong:
            yield [BadLine(overlong, _TOO_LONG)]
            overlong = b""
            begin = chunk.index(b"\n") + 1
        if begin <= end:
            yield _lines(bytes(tail) + chunk[begin:end])
        tail = bytearray(chunk[end + 1 :])
    if overlong:
        yield [BadLine(overlong, _TOO_LONG)]
    elif tail:
        yield _lines(bytes(tail))


def _one_kind_of_break(chunks: Iterator[bytes]) -> Iterator[bytes]:
    held = b""  # a carriage return at the end of a chunk: the line feed may be the next chunk's first byte
    for piece in chunks:
        chunk = held + piece
        held = b""
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):
                chunk, held = chunk[:-1], b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield chunk
    if held:
        yield b"\n"


def _lines(block: bytes) -> Sequence[Line]:
    if len(block) <= MAX_LINE and b"\0" not in block:  # the usual case, in three passes of C
        try:
            return block.decode().split("\n")
        except UnicodeDecodeError:
            pass
    return [_examined(line) for line in block.split(b"\n")]


def _examined(line: bytes) -> Line:
    if len(line) > MAX_LINE:
        return BadLine(line[:MAX_SHOWN], _TOO_LONG)
    if b"\0" in line:
        return BadLine(line[:MAX_SHOWN], "has a NUL byte in it")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return BadLine(line[:MAX_SHOWN], f"is not UTF-8 text at byte {error.start + 1}")
