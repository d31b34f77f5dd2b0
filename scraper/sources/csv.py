"""Comma-separated values with a header line (RFC 4180), by the standard library's reader.

Cells are text. Quoted cells may span lines. A record that cannot be read is one ``input.invalid`` row, and
reading goes on at the line after the one it began on: a quote that is never closed costs its own row, not the
rest of the list. Must never hold more than ``MAX_RECORD`` characters of a record.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator, Sequence

from scraper.config import SourceConfig
from scraper.errors import UsageError
from scraper.records import Outcome, Request
from scraper.sources.columns import invalid, pick
from scraper.sources.lines import MAX_LINE, MAX_SHOWN, BadLine, Line, line_blocks
from scraper.sources.reading import Reading

MAX_RECORD = MAX_LINE
"""Characters in a record, so that an unclosed quote does not swallow the list into memory."""

MAX_RECORD_LINES = 200
"""Lines in a record. Bounds how often lines are read over in a list made of unclosed quotes: at worst some
30,000 lines a second are left, which is more than any network fetches."""


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: unreadable, or lacks a column; before the first row.
        RunStopped: the list breaks off after its first row.
    """
    return (yield from read_separated(reading, config, row, first, ","))


def read_separated(
    reading: Reading, config: SourceConfig, row: int, first: int, separator: str
) -> Generator[Request | Outcome, None, int]:
    """As ``read``, for any separator."""
    name = reading.listed.name
    records = iter(_Records(line_blocks(reading.chunks()), separator))
    header = _header(records, name)
    if not header:
        return row
    picked = pick(config, header, name)
    width, url_at = len(header), header.index(picked.url)
    caption_at = None if picked.caption is None else header.index(picked.caption)
    others = [(column, header.index(column)) for column in picked.others]
    for line, cells in records:
        if row < first:
            pass
        elif isinstance(cells, BadLine):
            yield invalid(row, line, cells.start, f"Line {line} of {name} {cells.why}.")
        elif len(cells) != width:
            counts = f"has {len(cells)} cells where the header has {width}"
            yield invalid(row, line, separator.join(cells), f"Line {line} of {name} {counts}.")
        elif not (url := cells[url_at].strip()):
            yield invalid(row, line, "", f"Line {line} of {name} has nothing in column {picked.url}.")
        else:
            caption = None if caption_at is None else cells[caption_at]
            yield Request(row, url, caption, {column: cells[at] for column, at in others}, line)
        row += 1
    return row


def _header(records: Iterator[tuple[int, list[str] | BadLine]], name: str) -> list[str]:
    for line, cells in records:
        if isinstance(cells, BadLine):
            raise UsageError(f"Line {line} of {name}, its header, {cells.why}: mend it and start again.")
        return [cell.strip() for cell in cells]
    return []


class _Records:
    """Records of a list, each with the line it begins on; a BadLine for what is none."""

    def __init__(self, blocks: Iterator[Sequence[Line]], separator: str) -> None:
        self._blocks = blocks
        self._separator = separator
        self._waiting: deque[Line] = deque()
        self._record: list[Line] = []  # the lines of the record being read
        self._next_line = 1

    def __iter__(self) -> Iterator[tuple[int, list[str] | BadLine]]:
        record = self._record
        while True:
            # strict: text behind a closing quote is an error, and so is an end of input inside a quoted cell.
            reader = csv.reader(self._fed(), delimiter=self._separator, strict=True)
            try:
                for cells in reader:
                    line = self._next_line
                    self._next_line += len(record)
                    record.clear()
                    if cells:  # a blank line is no row
                        yield line, cells
            except csv.Error as error:
                yield self._next_line, self._given_up(error)
                self._next_line += 1
            else:
                return

    def _fed(self) -> Iterator[str]:
        """The lines as the reader takes them, each kept until its record is complete."""
        waiting, record = self._waiting, self._record
        size = 0
        while waiting or self._refilled():
            if not record:
                size = 0
            text = waiting.popleft()
            record.append(text)
            if isinstance(text, BadLine):
                raise csv.Error(text.why)
            size += len(text)
            if size > MAX_RECORD or len(record) > MAX_RECORD_LINES:
                raise csv.Error("the record does not end")
            yield text + "\n"

    def _refilled(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self._waiting.extend(block)
        return True

    def _given_up(self, error: csv.Error) -> BadLine:
        """Give the record's lines back, but for the first, which is the one at fault."""
        first, *rest = self._record
        self._record.clear()
        self._waiting.extendleft(reversed(rest))
        if isinstance(first, BadLine):
            return first
        why = f"cannot be read as separated values ({error})"
        if rest:
            why += ": a quote may be left open on it"
        return BadLine(first[:MAX_SHOWN].encode(), why)
