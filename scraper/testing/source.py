"""What any ``Source`` must keep, as tests: derive a class, override ``make``, and let pytest collect it.

    class TestMySource(SourceContract):
        def make(self, folder, urls):
            return MySource(...)

Imports nothing but the protocols, so that it can be shipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

from scraper.protocols import Source
from scraper.records import Outcome, Request

__all__ = ["SourceContract"]

_FEW = ["http://a.example/1.jpg", "https://b.example/2.jpg?x=1&y=2", "http://c.example/ü/三.jpg", "no scheme"]


class SourceContract:
    """The promises of ``scraper.protocols.Source``, one test each.

    Attributes:
        bad_entry: what ``make`` may be given in place of a URL that makes a row which is none; None where the
            source can hold nothing of the kind.
        reads_twice: whether the input can be read again.
        entries: how many entries make a list that is not read in one gulp.
    """

    bad_entry: ClassVar[str | None] = ""
    reads_twice: ClassVar[bool] = True
    entries: ClassVar[int] = 20_000

    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """Make a source of these URLs, in this order; ``folder`` is empty and yours."""
        raise NotImplementedError

    def _made(self, tmp_path: Path, name: str, urls: Sequence[str]) -> Source:
        folder = tmp_path / name
        folder.mkdir()
        return self.make(folder, urls)

    def _long(self) -> list[str]:
        # Digests do not compress, so that a compressed list of them is long as well.
        return [f"http://a.example/{hashlib.sha256(b'%d' % n).hexdigest()}" for n in range(self.entries)]

    def test_it_is_a_source(self, tmp_path: Path) -> None:
        """It has all that the protocol names, and a name for messages."""
        source = self._made(tmp_path, "list", _FEW)
        assert isinstance(source, Source)
        assert source.name

    def test_every_entry_is_a_request_in_order(self, tmp_path: Path) -> None:
        """Entries come out as they went in, an odd URL too, numbered from 0 without gaps."""
        rows = list(self._made(tmp_path, "list", _FEW))
        assert all(isinstance(row, Request) for row in rows)
        assert [row.url for row in rows] == _FEW
        assert [row.row for row in rows] == [0, 1, 2, 3]
        assert all(row.line > 0 for row in rows)

    def test_a_list_without_entries_has_no_rows(self, tmp_path: Path) -> None:
        """Nothing in, nothing out, and no error: what an empty list means is for the run to say."""
        assert list(self._made(tmp_path, "list", [])) == []

    def test_a_bad_entry_is_an_outcome_in_its_place(self, tmp_path: Path) -> None:
        """What is no row takes a number, says why, and costs no other entry its row."""
        if self.bad_entry is None:
            return
        good, bad, end = self._made(tmp_path, "list", [_FEW[0], self.bad_entry, _FEW[1]])
        assert isinstance(bad, Outcome)
        assert (bad.row, bad.class_) == (1, "input.invalid")
        assert bad.message
        assert bad.line > 0
        assert len(bad.url) <= 200
        assert (good.url, end.url) == (_FEW[0], _FEW[1])
        assert (good.row, end.row) == (0, 2)

    def test_iterating_again_gives_the_same_rows(self, tmp_path: Path) -> None:
        """A second pass, and one after a pass that was given up, begin at row 0 and yield the same."""
        if not self.reads_twice:
            return
        source = self._made(tmp_path, "list", _FEW)
        first = list(source)
        next(iter(source))
        assert list(source) == first

    def test_starting_at_a_row_leaves_out_what_comes_before(self, tmp_path: Path) -> None:
        """The rows from there on are as they always are, bad ones too; past the end there are none."""
        if not self.reads_twice:
            return
        entries = [*_FEW, self.bad_entry, *_FEW] if self.bad_entry is not None else [*_FEW, *_FEW]
        source = self._made(tmp_path, "list", entries)
        rows = list(source)
        for first in range(len(entries) + 2):
            assert list(source.starting_at(first)) == rows[first:]
            assert source.fraction() in (1.0, None)

    def test_starting_far_into_a_list_finds_its_end(self, tmp_path: Path) -> None:
        """However much of the list is left out, what is left keeps its numbers and its lines."""
        if not self.reads_twice:
            return
        urls = self._long()
        rows = list(self._made(tmp_path, "list", urls).starting_at(self.entries - 7))
        assert [row.url for row in rows] == urls[-7:]
        assert [row.row for row in rows] == [*range(self.entries - 7, self.entries)]
        assert rows[-1].line - rows[0].line == 6

    def test_taking_one_row_does_not_read_the_list(self, tmp_path: Path) -> None:
        """Rows are streamed: the first is there long before the last is read."""
        source = self._made(tmp_path, "list", self._long())
        rows = iter(source)
        next(rows)
        fraction = source.fraction()
        assert fraction is None or fraction < 0.9
        assert sum(1 for _ in rows) == self.entries - 1

    def test_fraction_grows_to_one(self, tmp_path: Path) -> None:
        """Progress starts at 0, never falls, and is 1 at the end; or is never known at all."""
        source = self._made(tmp_path, "list", self._long())
        seen = [source.fraction()]
        rows = iter(source)
        while list(islice(rows, 1_000)):
            seen.append(source.fraction())
        seen.append(source.fraction())
        known = [fraction for fraction in seen if fraction is not None]
        assert not known or len(known) == len(seen)
        assert known == sorted(known)
        assert not known or (known[0], known[-1]) == (0.0, 1.0)

    def test_equal_lists_have_equal_fingerprints(self, tmp_path: Path) -> None:
        """The fingerprint is of what the list holds: not of where it lies, nor of how far it was read."""
        one, other = self._made(tmp_path, "one", _FEW), self._made(tmp_path, "other", _FEW)
        before = one.fingerprint()
        assert before == other.fingerprint()
        list(one)
        assert one.fingerprint() == before

    def test_different_lists_have_different_fingerprints(self, tmp_path: Path) -> None:
        """One row more, one row less, or another order is another list, where that can be known."""
        lists = [_FEW, _FEW[1:], [*_FEW, _FEW[0]], _FEW[::-1]]
        digests = [self._made(tmp_path, str(n), urls).fingerprint() for n, urls in enumerate(lists)]
        assert len(set(digests)) == (len(lists) if digests[0] else 1)
