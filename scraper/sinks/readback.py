"""The way back: the bytes of items, from where their Outcomes say they are. For reports and checks.

In: an output folder and places. Out: bytes. Reads headers of an archive, and of the data only what is asked for.
Must never: read outside the output folder, whatever a place says; take a file of records for an item; take memory
for more than there is to read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from scraper.policies import names
from scraper.sinks import tar

Place = tuple[str, str | None]
"""``path`` and ``shard`` of an Outcome."""


def read_items(out: Path, places: Sequence[Place]) -> list[bytes | None]:
    """The bytes of items, in the order of ``places``; None for what is not there. Opens each archive once."""
    found: dict[Place, bytes] = {}
    members: dict[str, set[str]] = {}
    for path, shard in places:
        if shard is not None:
            members.setdefault(shard, set()).add(path)
        elif path != names.RECORDS and (data := _read(_inside(out, path))) is not None:
            found[path, None] = data
    for shard, wanted in members.items():
        found.update({(path, shard): data for path, data in _read_members(_inside(out, shard), wanted)})
    return [found.get(place) for place in places]


def _read_members(archive: Path | None, wanted: set[str]) -> Iterable[tuple[str, bytes]]:
    if archive is None:
        return
    if not archive.is_file():
        archive = archive.with_name(f"{archive.name}.part")
        if not archive.is_file():
            return
    missing = set(wanted)
    with archive.open("rb", buffering=0) as file:
        whole = os.fstat(file.fileno()).st_size
        for name, offset, size in tar.members(file):
            if name in missing:
                missing.remove(name)
                file.seek(offset)
                if offset + size <= whole:  # a header may say anything, and read() would make room for it first
                    yield name, file.read(size)
            if not missing:
                return


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None and path.is_file() else None


def _inside(out: Path, name: str) -> Path | None:
    """Where a place is, links followed; None for one outside, and for what is no path at all."""
    try:
        path = (out / name).resolve()
        path.is_file()  # may say that this cannot be a path
        return path if path.is_relative_to(out.resolve()) else None
    except (ValueError, RuntimeError, OSError):  # a NUL in it, links in a circle, far too long
        return None
