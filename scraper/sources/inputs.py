"""What the user typed → the files that are meant, each with its format and compression.

In: paths, folders, globs, ``-``. Out: ``Listed`` entries in reading order. Must never read a list's contents,
and never guess: what cannot be told apart by name is refused with the sentence that says what to type.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scraper.errors import UsageError

EXTENSIONS = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xml": "sitemap",
}
"""File name extension, in lower case → format."""

CODECS = {".gz": "gz", ".zst": "zst"}
"""File name extension, in lower case → compression. Parquet compresses inside and takes none."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One input, found.

    Attributes:
        name: what messages call it.
        format: a key of the format table.
        codec: ``gz``, ``zst``, or empty where the name does not say; the first bytes then do.
        path: where it is; None for standard input.
        size: in bytes; None for what is no regular file: it has no end to measure against, and one reading.
    """

    name: str
    format: str
    codec: str = ""
    path: Path | None = None
    size: int | None = None


def find(inputs: Sequence[str | os.PathLike[str]], input_format: str, formats: Sequence[str]) -> list[Listed]:
    """Resolve every input, in order.

    Args:
        inputs: what was typed.
        input_format: one of ``formats``, ``.gz`` or ``.zst`` behind it or not; empty for "by extension".
        formats: the formats there are.

    Raises:
        UsageError: an input does not exist, has no list in it, or its format cannot be told.
    """
    wanted = _format_asked_for(input_format, formats)
    found: list[Listed] = []
    for given in inputs:
        found += _resolve(os.fspath(given), wanted)
    if sum(listed.path is None for listed in found) > 1:
        raise UsageError("Standard input can be read only once: name - only once.")
    return found


def _format_asked_for(input_format: str, formats: Sequence[str]) -> str:
    """The bare format: ``csv.gz`` is how other tools spell it, and the bytes tell compression anyway."""
    bare = input_format.lower().removesuffix(".gz").removesuffix(".zst")
    if bare and bare not in formats:
        raise UsageError(f"--input-format {input_format} is not known: use one of {', '.join(formats)}.")
    return bare


def _resolve(given: str, wanted: str) -> Iterator[Listed]:
    if given == "-":
        yield Listed("-", wanted or "txt")
        return
    if not given:
        raise UsageError("A list's name is empty: is a variable not set?")  # Path("") is the current folder
    if "://" in given:
        _refuse_url(given)
    path = Path(given)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield from _globbed(given, wanted)
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{given} cannot be read: {_reason(error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        yield from _folder(given, wanted)
    else:
        yield _file(given, wanted, status)


def _refuse_url(given: str) -> NoReturn:
    if not given.lower().startswith(("http://", "https://")):
        raise UsageError(f"{given} is not a local file: copy the list to this machine first.")
    by_name, _ = _told_by(given.partition("?")[0])
    hint = f" --input-format {by_name}" if by_name not in ("", "txt") else ""
    raise UsageError(
        f"Lists are not fetched from the web: download it first, or pipe it: "
        f"curl -L '{given}' | scraper images -{hint} …"
    )


def _globbed(given: str, wanted: str) -> Iterator[Listed]:
    if not glob.has_magic(given):
        raise UsageError(f"{given} does not exist: check the path of the list.")
    matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    if not matches:
        raise UsageError(f"{given} matches no file: check the pattern.")
    for match in matches:
        yield from _resolve(match, wanted)


def _folder(given: str, wanted: str) -> Iterator[Listed]:
    try:
        names = sorted(os.listdir(given))  # noqa: PTH208  # only names are needed, and they are strings
    except OSError as error:
        raise UsageError(f"{given} cannot be read: {_reason(error)}.") from error
    empty = True
    for name in names:
        # Names that begin with a dot are other programs' state, macOS's "._list.csv" among them.
        told, _ = _told_by(name)
        inside = os.path.join(given, name)  # noqa: PTH118  # keeps the spelling the user typed
        if name.startswith(".") or not told or (wanted and told != wanted) or not Path(inside).is_file():
            continue
        empty = False
        yield _file(inside, wanted, Path(inside).stat())
    if empty:
        kinds = f".{wanted}" if wanted else ", ".join(EXTENSIONS)
        raise UsageError(
            f"{given} is a folder with no list in it ({kinds}): "
            f"name a file, or a pattern such as '{given}/**/*.csv'."
        )


def _file(given: str, wanted: str, status: os.stat_result) -> Listed:
    regular = stat.S_ISREG(status.st_mode)
    told, codec = _told_by(given)
    format_ = wanted or told or ("" if regular else "txt")  # a pipe, such as <(command), is as stdin is
    if not format_:
        raise UsageError(
            f"The format of {given} cannot be told from its name: "
            f"say --input-format txt, csv, tsv, jsonl, parquet or sitemap."
        )
    if not os.access(given, os.R_OK):
        raise UsageError(f"{given} cannot be read: permission denied.")
    return Listed(given, format_, codec, Path(given), status.st_size if regular else None)


def _told_by(name: str) -> tuple[str, str]:
    """Format and compression that a file's name tells; empty where it tells none."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122  # Path() would drop a trailing slash
    codec = CODECS.get(extension, "")
    if codec:
        extension = os.path.splitext(stem)[1]  # noqa: PTH122  # as above
    return EXTENSIONS.get(extension, ""), codec


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
