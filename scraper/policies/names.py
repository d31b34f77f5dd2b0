"""What things are called in the output.

In: a row's number, an item's extension and its place among the row's items. Out: relative names.
Must never: let a byte of a URL, a header or a page into a name; give two items one name.
"""

from __future__ import annotations

import functools
import re

from scraper.records import key_of

ROWS_PER_FOLDER = 10_000
"""Files in one folder: file managers and ``ls`` stay usable, and it is the size of a default shard."""

MAX_EXTENSION = 8
"""Characters of an extension: the longest in common use is ``geojson``."""

FALLBACK_EXTENSION = "bin"

CAPTION_EXTENSION = "txt"
METADATA_EXTENSION = "json"
RECORDS = "items.jsonl"
"""The one file of all items, where an output is a file of records."""

_SIDECARS = frozenset({CAPTION_EXTENSION, METADATA_EXTENSION})

COLUMNS = (
    "url",
    "caption",
    "key",
    "status",
    "error_message",
    "width",
    "height",
    "original_width",
    "original_height",
    "exif",
    "sha256",
    "class",
)
"""Columns of a row that are ours, in their order: no column of a list may have such a name."""

_NOT_ALLOWED = re.compile("[^a-z0-9]")


@functools.lru_cache(maxsize=256)
def clean_extension(extension: str) -> str:
    """The extension in lower case, of ``[a-z0-9]{1,8}``; ``bin`` if nothing of it is left."""
    return _NOT_ALLOWED.sub("", extension.lower())[:MAX_EXTENSION] or FALLBACK_EXTENSION


def stem(row: int, index: int = 0) -> str:
    """The name of a row's item without its extension: the key, and ``_1``, ``_2`` … for the further items."""
    return f"{key_of(row)}_{index}" if index else key_of(row)


def item_name(row: int, extension: str, index: int = 0, *, sidecars: bool = False) -> str:
    """``KEY.ext``, the name of a row's item.

    Args:
        row: the row's number.
        extension: of the item; see ``clean_extension``.
        index: 0 for the first item of the row, 1 for the next.
        sidecars: ``KEY.txt`` and ``KEY.json`` stand beside the item, so that an item of these types is called
            ``KEY.data.txt`` and ``KEY.data.json``.
    """
    clean = clean_extension(extension)
    if sidecars and clean in _SIDECARS:
        clean = f"data.{clean}"
    return f"{stem(row, index)}.{clean}"


def folder_name(row: int) -> str:
    """``NNNNN``, the folder of a row's files: row // 10,000, five digits or more."""
    return f"{row // ROWS_PER_FOLDER:05d}"


def shard_name(number: int) -> str:
    """``NNNNN``, the name of an archive without its extension: five digits or more."""
    return f"{number:05d}"
