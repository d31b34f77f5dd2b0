"""Lists in, rows out: which format is read by which module, and the two doors to them.

In: paths, folders, globs, ``-`` for stdin, or any Python iterable. Out: a ``Source`` that streams Requests,
and an ``input.invalid`` Outcome for each row that is none. Must never hold a list in memory, drop a row
silently, or import a format's library before a list of that format is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

from scraper.config import SourceConfig
from scraper.protocols import Source
from scraper.sources.columns import refuse_reserved
from scraper.sources.inputs import find
from scraper.sources.iterable import IterableSource
from scraper.sources.listed import ListSource

__all__ = ["FORMATS", "iterable_source", "open_source"]

FORMATS: Mapping[str, str] = {
    "txt": "scraper.sources.txt",
    "csv": "scraper.sources.csv",
    "tsv": "scraper.sources.tsv",
    "jsonl": "scraper.sources.jsonl",
    "parquet": "scraper.sources.parquet",
    "sitemap": "scraper.sources.sitemap",
}
"""Format → the module with its ``read``; imported when a list of that format is opened.

A new format is one file, its line here, and its extension in ``scraper.sources.inputs``.
"""


def open_source(
    inputs: Sequence[str | os.PathLike[str]], config: SourceConfig, stdin: BinaryIO | None = None
) -> Source:
    """Open lists as one source; rows are numbered across all of them without gaps.

    Args:
        inputs: paths, folders, globs or ``-``, read in this order; a folder's or glob's files by name.
        config: format and columns.
        stdin: what ``-`` stands for; the process's own standard input by default.

    Raises:
        UsageError: a list is missing, unreadable, damaged, of unknown format, or lacks a column that was
            asked for. Lists that can be read once only (``-``, pipes) say so before their first row. Damage
            far into a large list shows only when reading gets there: iterating then raises RunStopped.
        MissingExtra: a list's format needs a library that is not installed.
    """
    refuse_reserved(config)
    lists = find(inputs, config.input_format, tuple(FORMATS))
    source = ListSource(lists, config, FORMATS, stdin)
    source.check()
    return source


def iterable_source(rows: Iterable[str | Mapping[str, object]], config: SourceConfig) -> Source:
    """Make a source of URLs, or of mappings with the columns that ``config`` names, held in Python.

    Raises:
        UsageError: ``rows`` is one string, or the columns asked for have reserved names. The first mapping
            lacking the URL column is told when iteration starts.
    """
    refuse_reserved(config)
    return IterableSource(rows, config)
