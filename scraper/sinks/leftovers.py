"""What an earlier run wrote for a row, where the row is asked again and now ends in files of other names.

In: a row, and where the ledger says its first item is. Out: relative paths of files that are that row's.
Must never: name a file of another row, of the user's, outside of the row's folder, or reached by a symbolic link.

Names alone do not say whose a file is: people put captions and features beside pictures. So of ``KEY.*`` only the
item itself is taken, by the ledger's word, and sidecars by that of ``KEY.json``; names of the form ``KEY_1.*`` are
those of a row's further items.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from scraper.policies import names
from scraper.sinks.disk import mode_of

_NAME = re.compile(r"(\d{9,})(_[1-9]\d*)?\.(?:data\.)?[a-z0-9]{1,8}")

_FOLDERS = 64
"""Folders of which it is remembered which rows had further items: nearly always none had."""


def row_of(path: str) -> int | None:
    """The row that a relative path belongs to, if it is one that the files sink gives."""
    folder, _, name = path.partition("/")
    named = _NAME.fullmatch(name)
    if named is None or names.folder_name(int(named[1])) != folder or names.stem(int(named[1])) != named[1]:
        return None
    return int(named[1])


def is_plain(out: Path, path: str) -> bool:
    """Whether ``path`` is a file in a folder of ``out``, neither of them a symbolic link."""
    folder, file = mode_of((out / path).parent), mode_of(out / path)
    return folder is not None and stat.S_ISDIR(folder) and file is not None and stat.S_ISREG(file)


class Leftovers:
    """Finds them. Thread-safe. Each row is asked for at most once, before it is written anew."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._further = functools.lru_cache(maxsize=_FOLDERS)(self._list_further)

    def of(self, row: int, held: str | None) -> set[str]:
        """The files of a row.

        Args:
            row: its number.
            held: the path of its first item, as the ledger has it.
        """
        if held is None or row_of(held) != row:
            return set()
        folder = names.folder_name(row)
        found = {held, *self._sidecars(row, held), *self._further(folder).get(names.stem(row), ())}
        return {path for path in found if is_plain(self._out, path)}

    def _sidecars(self, row: int, held: str) -> Sequence[str]:
        """What stands beside the first item, as far as ``KEY.json`` says that it is ours."""
        stem = f"{names.folder_name(row)}/{names.stem(row)}"
        about = f"{stem}.{names.METADATA_EXTENSION}"
        if about == held or not is_plain(self._out, about):
            return ()
        try:
            told = json.loads((self._out / about).read_bytes())
        except (ValueError, RecursionError):
            return ()
        if not isinstance(told, dict) or told.get("key") != names.stem(row):
            return ()
        return (about, f"{stem}.{names.CAPTION_EXTENSION}") if "caption" in told else (about,)

    def _list_further(self, folder: str) -> Mapping[str, Sequence[str]]:
        """Key → paths of the row's further items and their sidecars, for the rows of a folder that have any."""
        found: dict[str, list[str]] = {}
        if mode_of(self._out / folder) is None:
            return found
        for name in os.listdir(self._out / folder):  # noqa: PTH208 - tens of thousands of names, no paths
            named = _NAME.fullmatch(name) if "_" in name else None
            if named is not None:
                found.setdefault(named[1], []).append(f"{folder}/{name}")
        return found
