"""``scraper results``: the ledger's rows as JSON lines or CSV."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scraper.errors import State
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.records import Outcome, Timings
from scraper.results import COLUMNS, write_results

ROWS = [
    Outcome(0, "https://example.org/a.jpg", "ok", 200, 1, 36_000, "ab" * 32, "000000000.jpg", "00000.tar",
            Timings(total_ms=12.5), line=1),
    Outcome(17, "https://example.org/\x1b[31m\u202e.jpg", "http.404", 404, 1, message='said "no", twice\n'),
    Outcome(18, "=HYPERLINK()", "url.invalid", message="no URL"),
    Outcome(19, "https://example.org/a.jpg", "duplicate.url"),
]  # fmt: skip


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[LedgerReader]:
    """A ledger that holds ROWS."""
    path = tmp_path / ".scraper" / "ledger.sqlite"
    path.parent.mkdir()
    async with Ledger.open(path) as ledger:
        await ledger.begin(RunMeta("images"))
        await ledger.commit(ROWS, {})
    with LedgerReader(path) as opened:
        yield opened


def written(reader: LedgerReader, *how: object) -> str:
    """What ``write_results`` writes."""
    stream = io.StringIO()
    write_results(reader, stream, *how)  # type: ignore[arg-type] # as the caller says
    return stream.getvalue()


def test_a_row_is_the_object_that_is_documented(reader: LedgerReader) -> None:
    """The documented keys come first, in the documented order, with the documented kinds of values."""
    first = json.loads(written(reader).splitlines()[0])
    expected = {
        "row": 0, "key": "000000000", "url": "https://example.org/a.jpg", "state": "ok",
        "class": "ok", "status": 200, "attempts": 1, "bytes": 36_000, "sha256": "ab" * 32,
        "path": "000000000.jpg", "shard": "00000.tar",
        "ms": 12.5, "message": "",
    }  # fmt: skip
    assert expected == dict(list(first.items())[: len(expected)])
    assert list(expected) == list(first)[: len(expected)]
    assert list(COLUMNS) == [*first, "earlier"]


def test_what_is_not_there_is_null(reader: LedgerReader) -> None:
    """A row without bytes has null for digest and place, and zero for counts."""
    row = json.loads(written(reader).splitlines()[1])
    assert (row["sha256"], row["path"], row["shard"], row["bytes"], row["ms"]) == (None, None, None, 0, 0.0)


def test_json_lines_are_safe_on_a_terminal(reader: LedgerReader) -> None:
    """Control characters and text that changes direction appear as escapes, one line a row."""
    text = written(reader)
    assert text.isascii()
    assert len(ROWS) == len(text.splitlines())
    assert "\x1b" not in text
    assert ROWS[1].url == json.loads(text.splitlines()[1])["url"]


def test_csv_has_the_same_columns(reader: LedgerReader) -> None:
    """CSV reads back to the same rows; a cell that a spreadsheet would run is defused."""
    header, *rows = csv.reader(io.StringIO(written(reader, "csv")))
    assert list(COLUMNS) == header
    assert [row[0] for row in rows] == ["0", "17", "18", "19"]
    assert rows[1][COLUMNS.index("message")] == 'said "no", twice\n'
    assert rows[2][COLUMNS.index("url")] == "'=HYPERLINK()"


def test_rows_can_be_chosen(reader: LedgerReader) -> None:
    """State and class narrow what is written, and the count says how much it was."""
    stream = io.StringIO()
    assert write_results(reader, stream, "jsonl", State.FAILED) == 2
    assert [json.loads(line)["class"] for line in stream.getvalue().splitlines()] == ["http.404", "url.invalid"]
    assert write_results(reader, io.StringIO(), "jsonl", None, "http") == 1
    assert write_results(reader, io.StringIO(), "csv", State.OK, "http") == 0


async def test_what_a_row_was_before_is_told_of_it(reader: LedgerReader) -> None:
    """A row that was asked again has its earlier ends, oldest first; no other row has the key."""
    async with Ledger.open(reader.path) as ledger:
        await ledger.begin(RunMeta("images"))
        for outcome in (
            Outcome(17, ROWS[1].url, "timeout.total", message="too slow"),
            Outcome(17, ROWS[1].url, "http.500", 500),
            Outcome(19, ROWS[3].url, "ok", 200),
        ):
            await ledger.commit([outcome], {})
    rows = [json.loads(line) for line in written(reader).splitlines()]
    assert [row["row"] for row in rows if "earlier" in row] == [17, 19]
    assert list(rows[1])[-1] == "earlier"
    assert [{**one, "at": 0} for one in rows[1]["earlier"]] == [
        {"class": "http.404", "status": 404, "at": 0, "message": 'said "no", twice\n'},
        {"class": "timeout.total", "status": 0, "at": 0, "message": "too slow"},
    ]
    assert rows[1]["earlier"][0]["at"] <= rows[1]["earlier"][1]["at"] <= rows[1]["at"]
    table = list(csv.DictReader(io.StringIO(written(reader, "csv"))))
    assert [row["earlier"] for row in table] == ["", "http.404 timeout.total", "", "duplicate.url"]
    chosen = [json.loads(line) for line in written(reader, "jsonl", State.OK).splitlines()]
    assert [(row["row"], len(row.get("earlier", ()))) for row in chosen] == [(0, 0), (19, 1)]
    assert [[one.class_ for one in reader.earlier(row)] for row in (17, 19, 0)] == [
        ["http.404", "timeout.total"],
        ["duplicate.url"],
        [],
    ]


def test_a_reader_that_goes_away_is_no_error(reader: LedgerReader) -> None:
    """``scraper results OUT | head`` ends quietly, with the count of what was taken."""

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            if self.tell() > 400:
                raise BrokenPipeError
            return super().write(text)

    assert 0 < write_results(reader, Pipe()) < len(ROWS)
