"""What an earlier run wrote for a row, where the row is asked again and now ends in files of other names.

In: a row, and where the ledger says its first item is. Out: relative paths of files that are that row's.
Must never: name a file of another row, of the user's, outside of the row's folder, or reached by a symbolic link.

Names alone do not say whose a file is: people put captions and features beside pictures. So of ``KEY.*`` only the
item itself is taken, by the ledger's word, and sidecars by that of ``KEY.json``; names of the form ``KEY_1.*`` are
those of a row's further items. With a template ``KEY`` stands for whatever it makes of the row.
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
from scraper.policies.templates import Template
from scraper.sinks.disk import mode_of

_SUFFIX = re.compile(r"\.(?:data\.(?:txt|json)|[a-z0-9]{1,8})\Z")
_FURTHER = re.compile(rf"(.+)_[1-9][0-9]*{_SUFFIX.pattern}", re.DOTALL)

_FOLDERS = 64
"""Folders of which it is remembered which rows had further items: nearly always none had."""


def is_plain(out: Path, path: str) -> bool:
    """Whether ``path`` is a file below ``out``, reached through no symbolic link."""
    *folders, name = path.split("/")
    for depth in range(1, len(folders) + 1):
        mode = mode_of(out.joinpath(*folders[:depth]))
        if mode is None or not stat.S_ISDIR(mode):
            return False
    file = mode_of(out.joinpath(*folders, name))
    return file is not None and stat.S_ISREG(file)


class Leftovers:
    """Finds them. Thread-safe. Each row is asked for at most once, before it is written anew.

    Args:
        out: the output folder.
        template: by which its files are called.
    """

    def __init__(self, out: Path, template: Template | None = None) -> None:
        self._out = out
        self._template = template or Template()
        self._further = functools.lru_cache(maxsize=_FOLDERS)(self._list_further)

    def of(self, row: int, held: str | None) -> set[str]:
        """The files of a row.

        Args:
            row: its number.
            held: the path of its first item, as the ledger has it.
        """
        if held is None or self._template.row_of(held) != row:
            return set()
        folder, _, name = held.rpartition("/")
        base = _SUFFIX.sub("", name)
        found = {held, *self._sidecars(row, held, f"{folder}/{base}" if folder else base)}
        found.update(self._further(folder).get(base, ()))
        return {path for path in found if is_plain(self._out, path)}

    def _sidecars(self, row: int, held: str, stem: str) -> Sequence[str]:
        """What stands beside the first item, as far as ``KEY.json`` says that it is ours."""
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
        """Stem → paths of a row's further items and their sidecars, for the rows of a folder that have any."""
        found: dict[str, list[str]] = {}
        if not stat.S_ISDIR(mode_of(self._out / folder) or 0):
            return found
        for name in os.listdir(self._out / folder):  # noqa: PTH208 - tens of thousands of names, no paths
            named = _FURTHER.fullmatch(name) if "_" in name else None
            if named is not None:
                found.setdefault(named[1], []).append(f"{folder}/{name}" if folder else name)
        return found
