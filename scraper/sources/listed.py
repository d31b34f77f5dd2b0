"""Several lists as one source: what was found, read one after another, rows numbered across all.

In: ``Listed`` entries. Out: Requests and ``input.invalid`` Outcomes. Must never open a list before its turn,
except to check all of them once before the first row.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import BinaryIO, Protocol, cast

from scraper.config import SourceConfig
from scraper.errors import RunStopped, UsageError
from scraper.records import Outcome, Request
from scraper.sources.inputs import Listed
from scraper.sources.reading import Reading

Rows = Generator[Request | Outcome, None, int]
"""Rows of one list; its return value is the number of the row that comes next."""

MIB = 1024 * 1024

_DIGEST_WHOLE = 4096 * MIB
"""Lists of up to this many bytes together are digested whole, at more than a gigabyte a second."""

_CHECKED_WHOLE = 16 * MIB
"""Compressed lists of up to this many bytes are unpacked once before the first row: a fraction of a second."""


class Format(Protocol):
    """What a format's module offers."""

    def read(self, reading: Reading, config: SourceConfig, row: int, first: int) -> Rows:
        """Yield the list's rows, numbered from ``row``, but none before ``first``: to count those is enough.

        Raises:
            UsageError: unreadable, or lacks a column; before the first row.
            RunStopped: the list breaks off, or is damaged, after its first row.
        """


class ListSource:
    """A ``Source`` over files and standard input."""

    def __init__(
        self, lists: Sequence[Listed], config: SourceConfig, formats: Mapping[str, str], stdin: BinaryIO | None
    ) -> None:
        self._lists = tuple(lists)
        self._config = config
        self._stdin = stdin
        # Imported here, so that a missing extra is known before anything is read.
        self._formats = {
            listed.format: cast("Format", importlib.import_module(formats[listed.format])) for listed in lists
        }
        self._reading: Reading | None = None
        self._finished_bytes = 0
        self._ended = False
        self._once_only_begun = False

    def __repr__(self) -> str:
        return f"<ListSource {self.name!r} {self.fraction()}>"

    @property
    def name(self) -> str:
        """The one list's name, or the first's and how many more there are."""
        if not self._lists:
            return "nothing"
        more = len(self._lists) - 1
        return self._lists[0].name + (f" and {more} more" if more else "")

    def check(self) -> None:
        """Read each list to its first row, and small compressed ones to their end, where a cut shows.

        Lists that can be read once only are left alone.

        Raises:
            UsageError: as ``open_source`` says.
        """
        for listed in self._lists:
            if listed.size is None:
                continue
            try:
                with closing(self._rows(Reading(listed), 0, 0)) as rows:
                    next(rows, None)
                if listed.codec and listed.size <= _CHECKED_WHOLE:
                    for _ in Reading(listed).chunks():
                        pass
            except RunStopped as error:
                raise UsageError(str(error)) from error

    def __iter__(self) -> Iterator[Request | Outcome]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[Request | Outcome]:
        """The rows from number ``first`` on; those before it are read and counted, ten times as fast."""
        if any(listed.size is None for listed in self._lists):
            if self._once_only_begun:
                raise UsageError(f"{self.name} can be read only once: save it to a file to read it again.")
            self._once_only_begun = True
        self._finished_bytes, self._ended = 0, False
        row = 0
        for listed in self._lists:
            self._reading = Reading(listed, self._stdin)
            try:
                row = yield from self._rows(self._reading, row, first)
            except UsageError as error:
                if row == 0:
                    raise
                # It was in order when it was checked, and others have given rows since.
                raise RunStopped(f"{error} Rows from {row} on have not been read.") from error
            self._finished_bytes, self._reading = self._finished_bytes + (listed.size or 0), None
        self._ended = True

    def _rows(self, reading: Reading, row: int, first: int) -> Rows:
        return self._formats[reading.listed.format].read(reading, self._config, row, first)

    def fraction(self) -> float | None:
        """Bytes read of all bytes, as they are at rest: compressed where they are."""
        sizes = [listed.size for listed in self._lists]
        if None in sizes:
            return None
        if self._ended:
            return 1.0
        reading = self._reading  # taken once: the rows are read in another thread
        done = self._finished_bytes + (reading.position if reading else 0)
        return min(1.0, done / max(1, sum(size or 0 for size in sizes)))

    def fingerprint(self) -> str:
        """Digest of what the lists hold and which column is the URL; where the lists lie does not matter.

        Over 4 GiB in all, only the size, the time of change and the first and last MiB of each list are looked at.
        """
        if any(listed.size is None for listed in self._lists):
            return ""
        digest = hashlib.sha256()
        whole = sum(listed.size or 0 for listed in self._lists) <= _DIGEST_WHOLE
        for listed in self._lists:
            assert listed.path is not None
            assert listed.size is not None
            url_col = "" if listed.format == "txt" else self._config.url_col
            digest.update(repr((listed.format, url_col, listed.size)).encode("utf-8", "backslashreplace"))
            try:
                if not whole:
                    digest.update(str(listed.path.stat().st_mtime_ns).encode())
                with listed.path.open("rb") as file:
                    if whole or listed.size <= 2 * MIB:
                        while block := file.read(MIB):
                            digest.update(block)
                    else:
                        digest.update(file.read(MIB))
                        file.seek(-MIB, 2)
                        digest.update(file.read(MIB))
            except OSError as error:
                raise UsageError(f"{listed.name} cannot be read: {error.strerror}.") from error
        return digest.hexdigest()[:32]
