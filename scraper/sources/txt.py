"""A URL a line. Blank lines and lines that begin with ``#`` are no rows; anything else on a line is the URL.

Must never fail on a line's bytes: a line that is no text is that row's ``input.invalid``.
"""

from __future__ import annotations

from collections.abc import Generator

from scraper.config import SourceConfig
from scraper.errors import UsageError
from scraper.records import Outcome, Request
from scraper.sources.columns import ALL, invalid
from scraper.sources.lines import BadLine, line_blocks
from scraper.sources.reading import Reading


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: unreadable, or columns were asked for, which a txt list has none of.
        RunStopped: the list breaks off after its first row.
    """
    name = reading.listed.name
    asked = [
        column for column in (config.caption_col, *config.save_additional_columns) if column not in (None, ALL)
    ]
    if asked:
        raise UsageError(
            f"{name} is a txt list, which has URLs and no column {asked[0]}: use csv, tsv, jsonl or parquet."
        )
    line = 0
    for block in line_blocks(reading.chunks()):
        for text in block:
            line += 1
            if isinstance(text, BadLine):
                if row >= first:
                    yield invalid(row, line, text.start, f"Line {line} of {name} {text.why}.")
                row += 1
                continue
            url = text.strip()
            if url and url[0] != "#":
                if row >= first:
                    yield Request(row, url, None, {}, line)
                row += 1
    return row
