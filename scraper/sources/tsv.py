"""Tab-separated values with a header line: as csv in all else, quoted cells included."""

from __future__ import annotations

from collections.abc import Generator

from scraper.config import SourceConfig
from scraper.records import Outcome, Request
from scraper.sources.csv import read_separated
from scraper.sources.reading import Reading


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: unreadable, or lacks a column; before the first row.
        RunStopped: the list breaks off after its first row.
    """
    return (yield from read_separated(reading, config, row, first, "\t"))
