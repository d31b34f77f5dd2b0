"""Sitemaps (sitemaps.org, protocol 0.9), by the standard library's expat: a row is a ``url``, its URL the ``loc``.

Of a sitemap index the rows are the sitemaps it names. Elements are known by their place and their name without
prefix; extensions (images, news, other languages) are passed over. Sitemaps come from strangers: must never let
a document define anything (any DOCTYPE is refused, so that there are no entities to expand and nothing outside
to fetch), nor hold more than one entry and one chunk of it. XML that is broken ends the list there, in a sentence.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Mapping, Set
from dataclasses import replace
from itertools import chain
from typing import NamedTuple
from xml.parsers import expat

from scraper.config import SourceConfig
from scraper.errors import RunStopped, UsageError
from scraper.records import Outcome, Request
from scraper.sources.columns import invalid, pick, request, shown
from scraper.sources.reading import CHUNK, Reading
from scraper.whatwg import MAX_LENGTH

LOC = "loc"
COLUMNS = (LOC, "lastmod", "changefreq", "priority")
"""What an entry says, and so the columns there are (sitemaps.org/protocol.html, "XML tag definitions")."""

ENTRIES: Mapping[str, str] = {"urlset": "url", "sitemapindex": "sitemap"}
"""Outermost element → the element of an entry in it."""

MAX_GAP = 4 * 1024 * 1024
"""Bytes without the end of an entry. One with 1,000 images, as many as Google allows, has less than that; what has
more is a bomb of blanks, or a comment without end, which expat would keep in memory."""

MAX_DEPTH = 32
"""Elements inside each other. Extensions need five."""

MAX_NAMES = 64 * 1024
"""Characters in all the different names of elements and attributes together: expat keeps each for good."""

MAX_NESTED = 1024 * 1024 * 1024
"""Bytes in and out of a gzip file inside a compressed one: twenty times what a sitemap may have, and no bomb of a
million bytes for each one sent."""

_DEFAULT_URL_COL = SourceConfig().url_col
_GZIP = b"\x1f\x8b"
_HTML = (b"<!doctype html", b"<html")


class _Entry(NamedTuple):
    """An entry as it stands: the line it begins on, the columns asked for, and why it is no row, if so."""

    line: int
    cells: dict[str, str]
    why: str


class _Broken(Exception):
    """The list cannot be read on: a message that continues its name, and what to do."""

    def __init__(self, what: str, advice: str = "fetch or make it again") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: no sitemap, or not to be trusted, or lacks a column; before the first row.
        RunStopped: the XML is broken, or goes beyond a bound, after the first row.
    """
    name, begin = reading.listed.name, row
    as_named_here = replace(config, url_col=LOC) if config.url_col == _DEFAULT_URL_COL else config
    picked = pick(as_named_here, COLUMNS, name)
    document = _Document(frozenset(picked.all))
    for piece in chain(_unpacked(reading), [b""]):
        broken = document.feed(piece)
        for entry in document.taken():
            if row >= first:
                line, cells, why = entry
                caption = None if picked.caption is None else cells.get(picked.caption)
                others = {column: cells.get(column) for column in picked.others}
                made = why or request(row, line, cells.get(picked.url), caption, others)
                if isinstance(made, str):
                    yield invalid(row, line, cells.get(picked.url, ""), f"Line {line} of {name} {made}.")
                else:
                    yield made
            row += 1
        if broken and row == begin:
            raise UsageError(f"{name} {broken.what}: {broken.advice}.") from broken
        if broken:
            raise RunStopped(
                f"{name} {broken.what}, so the rest of the list is missing: {broken.advice}."
            ) from broken
    return row


class _Document:
    """What has been read of the XML: ``feed`` in, ``taken`` out."""

    def __init__(self, wanted: Set[str]) -> None:
        self._wanted = wanted
        self._head = b""  # the document's first bytes, to tell what it is if it is no XML
        self._held = bytearray()  # not yet given to expat
        self._parsed = 0  # bytes that were
        self._ended: list[_Entry] = []
        self._gap = 0  # bytes since an entry ended
        self._names: dict[str, str] = {}  # as expat's binding keeps them
        self._names_known = 0
        self._depth = 0
        self._of_entry = ""  # the entries' element in this document
        self._line = 0  # where the entry begins that is being read; 0 outside of entries
        self._cells: dict[str, str] = {}
        self._why = ""
        self._column = ""  # the column that is being read
        self._parts: list[str] = []
        self._length = 0
        parser = expat.ParserCreate(intern=self._names)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._parser = parser

    def feed(self, piece: bytes) -> _Broken | None:
        """Take the next bytes, none for the end; say whether that is as far as the document can be read."""
        if len(self._head) < len(_HTML[0]):
            self._head += piece[:1024]
        self._gap += len(piece)
        self._held += piece
        # expat looks at a token anew until it is whole. Each time there must be twice as much of it, or a long one
        # in small pieces would take minutes (CVE-2023-52425; expat does the same from 2.6 on).
        begun = self._parsed - self._parser.CurrentByteIndex
        if not piece or len(self._held) >= begun or self._gap > MAX_GAP:
            broken = self._parse(last=not piece)
            if broken:
                return broken
        if self._ended:
            self._gap = 0
        if self._gap > MAX_GAP:
            return _Broken(f"has more than {MAX_GAP:,} bytes without a whole entry in them ({self._here()})")
        if len(self._names) != self._names_known:
            self._names_known = len(self._names)
            if sum(map(len, self._names)) > MAX_NAMES:
                return _Broken(f"has too many different names of elements and attributes ({self._here()})")
        return None

    def _parse(self, *, last: bool) -> _Broken | None:
        try:
            self._parser.Parse(self._held, last)
        except _Broken as broken:
            return self._html_or(broken)
        except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: of an encoding
            return self._html_or(_Broken(f"cannot be read as XML ({shown(str(error))})"))
        self._parsed += len(self._held)
        self._held.clear()
        return None

    def taken(self) -> list[_Entry]:
        """The entries that have ended since this was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def _here(self) -> str:
        return f"line {self._parser.CurrentLineNumber}"

    def _html_or(self, broken: _Broken) -> _Broken:
        if self._head.startswith(_GZIP):
            return _Broken("is compressed more than twice", "unpack it first")
        if any(mark in self._head.lower() for mark in _HTML):
            return _Broken("is an HTML page, not a sitemap", "look into it, and fetch the sitemap itself")
        return broken

    def _doctype(self, *_: object) -> None:
        # Told before anything that the DOCTYPE defines is read.
        raise _Broken(
            f"has a DOCTYPE ({self._here()}), which sitemaps need not and through which XML can do harm",
            "take it out if you trust the rest",
        )

    def _start(self, tag: str, _attributes: object) -> None:
        self._depth += 1
        if self._depth == 3:
            name = tag.rpartition(":")[2]
            if self._line and name in self._wanted:
                self._column, self._parts, self._length = name, [], 0
                self._parser.CharacterDataHandler = self._text
        elif self._depth == 2:
            if tag.rpartition(":")[2] == self._of_entry:
                self._line, self._cells, self._why = self._parser.CurrentLineNumber, {}, ""
        elif self._depth == 1:
            self._begin(tag)
        elif self._column:
            self._why = self._why or f"has an element inside its {self._column}"
        elif self._depth > MAX_DEPTH:
            raise _Broken(f"has elements more than {MAX_DEPTH} deep inside each other ({self._here()})")

    def _begin(self, tag: str) -> None:
        self._of_entry = ENTRIES.get(tag.rpartition(":")[2], "")
        if not self._of_entry:
            raise _Broken(
                f"is XML but no sitemap (its outermost element is {shown(tag, 40)}, not urlset or sitemapindex)",
                "make a txt list of its URLs",
            )

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._length <= MAX_LENGTH:
            self._parts.append(text)
        else:
            self._why = self._why or f"has a {self._column} of more than {MAX_LENGTH:,} characters"

    def _end(self, _tag: str) -> None:
        self._depth -= 1
        if self._depth == 2:
            if self._column:
                self._parser.CharacterDataHandler = None
                if self._column not in self._cells:
                    self._cells[self._column] = "".join(self._parts).strip()
                elif self._column == LOC:
                    self._why = self._why or "has more than one loc"
                self._column = ""
        elif self._depth == 1 and self._line:
            self._ended.append(_Entry(self._line, self._cells, self._why))
            self._line = 0


def _unpacked(reading: Reading) -> Iterator[bytes]:
    """The document's bytes, also where a server has compressed once more what was a .gz file already."""
    pieces = reading.pieces()
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= len(_GZIP):
            break
    if first.startswith(_GZIP):
        yield from _unpacked_again(reading, chain([first], pieces))
    elif first:
        yield first
        yield from pieces


def _unpacked_again(reading: Reading, pieces: Iterator[bytes]) -> Iterator[bytes]:
    problem = "is cut or damaged as gz data inside of compressed data"
    # One member, as servers make it. Many empty ones would cost time and give nothing.
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    total = 0
    try:
        for piece in pieces:
            total += len(piece)
            left = piece
            while left and not decoder.eof:
                unpacked = decoder.decompress(left, CHUNK)
                left = decoder.unconsumed_tail
                total += len(unpacked)
                if total > MAX_NESTED:
                    raise zlib.error(f"it is more than {MAX_NESTED:,} bytes")
                if unpacked:  # no bytes would say the end
                    yield unpacked
            if (decoder.unused_data or left).strip(b"\0"):  # blocks of tapes are filled up with zeros
                raise zlib.error("something stands behind its end")
    except zlib.error as error:
        raise reading.broken(problem, error) from error
    if not decoder.eof:
        raise reading.broken(problem, EOFError("it has no end"))
