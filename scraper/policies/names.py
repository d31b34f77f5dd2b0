"""What things are called in the output.

In: a row's number, an item's extension and its place among the row's items; any text at all. Out: names.
Must never: let text into a name but through ``safe_segment``; give two items one name; depend on the system.

Where a text goes into a name is the matter of ``scraper.policies.templates``. Without a template none does.
"""

from __future__ import annotations

import functools
import re
import unicodedata

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

MAX_SEGMENT = 255
"""Bytes of a name in UTF-8: NAME_MAX of ext4, xfs, btrfs, tmpfs and APFS; NTFS counts 255 UTF-16 units."""

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

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
"""Most text: safe as it stands, unless it is a device."""

# By their numbers, not by their categories: those change with the Unicode that a Python brings along.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    r'<>:"/\\|?*'  # what Windows refuses, and what parts a path there, a drive or a stream from the rest
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f"  # seen by nobody
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\uffa0\ufff0-\uffff"  # likewise, and what turns text round
    r"\ud800-\udfff\ue000-\uf8ff"  # half characters; private use, by which macOS writes what Windows refuses
    r"\u2800\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # blank; layout of rare scripts
    r"\U000e0000-\U0010ffff]"  # tags and selectors that nobody sees; private use
)
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_FIRST, _LAST = ".-$ ", ". "
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
"""Names that Windows gives to devices in every folder, whatever follows their first dot."""


@functools.lru_cache(maxsize=256)
def clean_extension(extension: str) -> str:
    """The extension in lower case, of ``[a-z0-9]{1,8}``; ``bin`` if nothing of it is left."""
    return _NOT_ALLOWED.sub("", extension.lower())[:MAX_EXTENSION] or FALLBACK_EXTENSION


def safe_segment(text: str, most: int = MAX_SEGMENT) -> str:
    """The name of one file or folder, made of any text; the same on every system, and harmless on each.

    In NFC. What separates, controls, is not seen or turns text round becomes ``_``, every kind of space a plain
    one. So do a dot, dash, dollar or space in front (hidden files, options, ``$Mft``), and a dot or space at the
    end, which Windows drops. What Windows takes for a device (``CON``, ``com1.txt``) gets a ``_`` in front. Empty
    text becomes ``_``. Given a safe name, it is that name.

    Args:
        text: anything, undecodable bytes as lone surrogates included.
        most: bytes of the name in UTF-8, at least 8; it is cut between two characters.
    """
    if len(text) <= most and _PLAIN.fullmatch(text) and not _DEVICE.match(text):
        return text
    # Cut roughly first: a caption may be a book.
    text = unicodedata.normalize("NFC", _SPACES.sub(" ", _UNSAFE.sub("_", text[: 4 * most]))) or "_"
    if text[0] in _FIRST:
        text = f"_{text[1:]}"
    if _DEVICE.match(text):
        text = f"_{text}"
    text = text.encode()[:most].decode(errors="ignore")
    return f"{text[:-1]}_" if text[-1] in _LAST else text


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
    return f"{stem(row, index)}.{item_suffix(extension, index, sidecars=sidecars)}"


def part_name(row: int, extension: str) -> str | None:
    """``KEY.PART.ext`` of an item whose extension has two parts, as in ``1024.jpg``: it is of its row's sample.

    So WebDataset's readers see it. None for an extension of one part: such an item is a sample of its own.
    """
    part, _, last = extension.lower().rpartition(".")
    clean = _NOT_ALLOWED.sub("", part)[:MAX_EXTENSION]
    if not clean or clean == "data":  # ``KEY.data.txt`` is the name of another item, see ``item_name``
        return None
    return f"{key_of(row)}.{clean}.{clean_extension(last)}"


def item_suffix(extension: str, index: int = 0, *, sidecars: bool = False) -> str:
    """What follows the dot in an item's name; see ``item_name``. Of a further item the part before a dot goes."""
    clean = clean_extension(extension.rpartition(".")[2] if index else extension)
    return f"data.{clean}" if sidecars and clean in _SIDECARS else clean


def folder_name(row: int) -> str:
    """``NNNNN``, the folder of a row's files: row // 10,000, five digits or more."""
    return f"{row // ROWS_PER_FOLDER:05d}"


def shard_name(number: int) -> str:
    """``NNNNN``, the name of an archive without its extension: five digits or more."""
    return f"{number:05d}"
