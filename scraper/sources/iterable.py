"""Rows that a Python program holds or makes: URLs, or mappings with columns.

In: any iterable, taken one entry at a time. Out: Requests and ``input.invalid`` Outcomes. Must never look
ahead: the iterable may be a generator that waits for something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized

from scraper.config import SourceConfig
from scraper.errors import UsageError
from scraper.records import Outcome, Request
from scraper.sources.columns import as_json, invalid, others_of, pick, request

_DIGEST_ROWS = 100_000
"""Rows of a sequence that are worth a digest: a fifth of a second."""


class IterableSource:
    """A ``Source`` over a Python iterable. ``line`` is the 1-based position of an entry."""

    name = "the rows given"

    def __init__(self, rows: Iterable[str | Mapping[str, object]], config: SourceConfig) -> None:
        if isinstance(rows, str | bytes | Mapping):
            raise UsageError("Rows are a list of URLs or of mappings: put the one there is in a list.")
        if isinstance(rows, set | frozenset):
            raise UsageError("A set has another order in each process, so its rows have no numbers: give a list.")
        self._rows = rows
        self._config = config
        self._taken = 0
        self._ended = False
        self._iterator: Iterator[str | Mapping[str, object]] | None = None

    def __repr__(self) -> str:
        return f"<IterableSource of {type(self._rows).__name__}, {self._taken} taken>"

    def __iter__(self) -> Iterator[Request | Outcome]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[Request | Outcome]:
        """The rows from number ``first`` on; entries before that are taken and let go."""
        entries = iter(self._rows)
        if entries is self._iterator:  # an iterator is its own iterator, and used up
            raise UsageError("These rows can be read only once: give a list to read them again.")
        self._iterator = entries if entries is self._rows else None
        self._taken, self._ended = 0, False
        for row, entry in enumerate(entries):
            self._taken = row + 1
            if row >= first:
                yield self._row(row, entry)
        self._ended = True

    def _row(self, row: int, entry: object) -> Request | Outcome:
        made: Request | str
        if isinstance(entry, Mapping):
            if row == 0 and self._config.url_col not in entry:
                pick(self._config, [str(name) for name in entry], "The first row")
            caption = None if self._config.caption_col is None else entry.get(self._config.caption_col)
            columns = {str(name): as_json(value) for name, value in others_of(entry, self._config).items()}
            made = request(row, row + 1, entry.get(self._config.url_col), caption, columns)
        else:
            made = request(row, row + 1, entry, None, {})
        if isinstance(made, str):
            return invalid(row, row + 1, str(entry), f"Entry {row + 1} {made}.")
        return made

    def fraction(self) -> float | None:
        """Entries taken of all, where the iterable knows how many it has."""
        if not isinstance(self._rows, Sized):
            return None
        return 1.0 if self._ended else min(1.0, self._taken / max(1, len(self._rows)))

    def fingerprint(self) -> str:
        """Digest of the rows of a sequence of up to 100,000; empty for anything longer or read only once."""
        if not isinstance(self._rows, Sequence) or len(self._rows) > _DIGEST_ROWS:
            return ""
        digest = hashlib.sha256()
        for row, entry in enumerate(self._rows):
            made = self._row(row, entry)
            kept = (made.url, made.caption, made.columns) if isinstance(made, Request) else made.url
            digest.update(repr(kept).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()[:32]
