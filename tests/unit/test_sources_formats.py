"""What each format takes for a row, and what it says of the rest."""

import base64
import codecs
import csv
import datetime
import decimal
import io
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scraper.config import SourceConfig
from scraper.errors import RunStopped, UsageError
from scraper.records import Outcome, Request
from scraper.sources import iterable_source, open_source
from scraper.sources.lines import MAX_LINE, BadLine, line_blocks

A, B = "http://a.example/", "http://b.example/"


def rows_of(data: bytes, kind: str, **columns: object) -> list[Request | Outcome]:
    """The rows of a list that comes by standard input."""
    return list(open_source(["-"], SourceConfig(input_format=kind, **columns), io.BytesIO(data)))


def seen(rows: list[Request | Outcome]) -> list[tuple[int, str]]:
    """Line and URL of each good row; line and class of each bad one."""
    return [(row.line, row.url if isinstance(row, Request) else row.class_) for row in rows]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (f"{A}\n{B}\n".encode(), [(1, A), (2, B)]),
        (f"{A}\n{B}".encode(), [(1, A), (2, B)]),
        (f"{A}\r\n{B}\r\n".encode(), [(1, A), (2, B)]),
        (f"{A}\r{B}\r".encode(), [(1, A), (2, B)]),
        (f"\n# two\n  {A} \t\n\n #x\n{B}#frag\n\n".encode(), [(3, A), (6, B + "#frag")]),
        (codecs.BOM_UTF8 + f"{A}\n{B}".encode(), [(1, A), (2, B)]),
        (codecs.BOM_UTF16_LE + f"{A}\r\n{B}ü".encode("utf-16-le"), [(1, A), (2, B + "ü")]),
        (codecs.BOM_UTF16_BE + f"{A}\n{B}\n".encode("utf-16-be"), [(1, A), (2, B)]),
        (codecs.BOM_UTF16_LE + f"{A}\n{B}".encode("utf-16-le") + b"x", [(1, A), (2, "input.invalid")]),
        (f"{A}\n".encode() + b"http://\xe4.example\n" + B.encode(), [(1, A), (2, "input.invalid"), (3, B)]),
        (f"{A}\0\n{B}\n".encode(), [(1, "input.invalid"), (2, B)]),
        (f"{A}\u2028x\n{B}\x0bx".encode(), [(1, A + "\u2028x"), (2, B + "\x0bx")]),
        (b"no scheme\nfile:///etc/passwd\n", [(1, "no scheme"), (2, "file:///etc/passwd")]),
        (b"", []),
        (b"\n\n# nothing\n", []),
        (codecs.BOM_UTF8, []),
        (codecs.BOM_UTF16_LE, []),
    ],
)
def test_txt_lines(data: bytes, expected: list[tuple[int, str]]) -> None:
    """Blank lines and comments are no rows; all line ends and byte-order marks are known; lines are counted."""
    assert seen(rows_of(data, "txt")) == expected


def test_a_bad_line_says_where_and_why() -> None:
    """The message of a bad row names its line, its list and the reason, and shows it escaped and shortened."""
    row = rows_of(A.encode() + b"\nhttp://\xe4\x1b[31m" + b"x" * 500, "txt")[1]
    assert isinstance(row, Outcome)
    assert row.message == "Line 2 of - is not UTF-8 text at byte 8."
    assert row.url.startswith("http://\\xe4\\x1b[31mxxx")
    assert len(row.url) == 200


def test_line_ends_are_found_wherever_chunks_break() -> None:
    """The same lines come out however the bytes are cut into chunks."""
    data = b"one\r\ntwo\rthree\n\r\n\xfffour\r"
    whole = [line for block in line_blocks(iter([data])) for line in block]
    assert whole == ["one", "two", "three", "", BadLine(b"\xfffour", "is not UTF-8 text at byte 1")]
    for size in range(1, len(data)):
        cut = iter([data[at : at + size] for at in range(0, len(data), size)])
        assert [line for block in line_blocks(cut) for line in block] == whole


@pytest.mark.parametrize("size", [1000, 64 * 1024, MAX_LINE + 5000])
def test_a_line_is_too_long_by_its_length_alone(size: int) -> None:
    """1 MiB is a row and a byte more is not, whatever chunks they come in."""
    data = b"\n".join([b"a" * MAX_LINE, b"b" * (MAX_LINE + 1), b"c"])
    chunks = iter([data[at : at + size] for at in range(0, len(data), size)])
    longest, over, last = [line for block in line_blocks(chunks) for line in block]
    assert longest == "a" * MAX_LINE
    assert isinstance(over, BadLine)
    assert last == "c"


def test_a_huge_line_is_never_held() -> None:
    """A line of 100 MB goes by in a few MB of memory, and is one bad row."""

    def chunks() -> Iterator[bytes]:
        yield b"first\n"
        for _ in range(400):
            yield bytes(256 * 1024)
        yield b"\nlast"

    tracemalloc.start()
    lines = [line for block in line_blocks(chunks()) for line in block]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(line) for line in lines] == [str, BadLine, str]
    assert peak < 8 * MAX_LINE


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_huge_line_costs_only_itself(kind: str) -> None:
    """In the other text formats, too, a line over the limit is one bad row between two good ones."""
    sides = {"csv": b"%s,x\n", "tsv": b"%s\tx\n", "jsonl": b'{"url": "%s", "c": "x"}\n'}
    head = {"csv": b"url,c\n", "tsv": b"url\tc\n", "jsonl": b""}[kind]
    lines = [sides[kind] % url for url in (A.encode(), b"x" * 3_000_000, B.encode())]
    first = 1 if kind == "jsonl" else 2
    expected = [(first, A), (first + 1, "input.invalid"), (first + 2, B)]
    assert seen(rows_of(head + b"".join(lines), kind)) == expected


def test_csv_columns() -> None:
    """The columns asked for travel under their own names, the others do not, and all cells are text."""
    data = b'link,text,n,z\n"http://a.example/?a,b","say ""hi""\nand go",7,q\n'
    (row,) = rows_of(data, "csv", url_col="link", caption_col="text", save_additional_columns=("n",))
    assert row == Request(0, "http://a.example/?a,b", 'say "hi"\nand go', {"n": "7"}, 2)


def test_all_other_columns() -> None:
    """``*`` takes every column but the URL's, the caption's and those whose names the output has itself."""
    data = b"link,text,n,width,z\nhttp://a.example/,t,7,640,q\n"
    (row,) = rows_of(data, "csv", url_col="link", caption_col="text", save_additional_columns=("*",))
    assert isinstance(row, Request)
    assert row.columns == {"n": "7", "z": "q"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"http://b.example/", "has 1 cells where the header has 2"),
        (b"http://b.example/,1,2", "has 3 cells where the header has 2"),
        (b" ,1", "has nothing in column url"),
        (b'"http://b.example/"x,1', "cannot be read as separated values"),
        (b'"http://b.example/,1', "a quote may be left open"),
        (b"http://b.example/\0,1", "has a NUL byte in it"),
        (b"http://b.example/\xff,1", "is not UTF-8 text at byte 18"),
        (b"y" * 140_000 + b",1", "field larger than field limit"),
    ],
)
def test_a_bad_csv_line_costs_only_itself(line: bytes, expected: str) -> None:
    """Whatever is wrong with a line of csv, its neighbours are rows, and its message says what it is."""
    rows = rows_of(b"url,x\nhttp://a.example/,1\n" + line + b'\n\n"http://c.example/",2\n', "csv")
    assert seen(rows) == [(2, A), (3, "input.invalid"), (5, "http://c.example/")]
    assert isinstance(rows[1], Outcome)
    assert expected in rows[1].message
    assert rows[1].message.startswith("Line 3 of - ")


def test_an_open_quote_does_not_swallow_the_list() -> None:
    """A quote left open costs its own line: thousands of lines behind it are rows all the same."""
    good = b"".join(b"http://a.example/%d,x\n" % n for n in range(5_000))
    rows = rows_of(b'url,x\n"http://b.example/,1\n' + good, "csv")
    assert [row.row for row in rows if isinstance(row, Outcome)] == [0]
    assert (len(rows), rows[-1].url, rows[-1].line) == (5_001, "http://a.example/4999", 5_002)


def test_the_line_of_a_csv_row_is_where_it_begins() -> None:
    """Cells that span lines do not throw the line numbers off."""
    data = b'url,x\nhttp://a.example/,"1\n2\n3"\n\nhttp://b.example/,4\n'
    assert seen(rows_of(data, "csv")) == [(2, A), (6, B)]


def test_csv_written_by_the_standard_library_comes_back() -> None:
    """Awkward cells survive: separators, quotes, line ends, spaces, nothing."""
    captions = ["a,b", 'say "hi"', "two\nlines", "tab\there", " spaced ", "", "ü"]
    for kind, separator in (("csv", ","), ("tsv", "\t")):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator).writerows([["url", "c"], *([A, caption] for caption in captions)])
        rows = rows_of(text.getvalue().encode(), kind, caption_col="c")
        assert [row.caption for row in rows if isinstance(row, Request)] == captions


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "is not JSON"),
        (b'{"url": "http://b.example/"', "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'"http://b.example/"', "is not a JSON object"),
        (b'{"link": "http://b.example/"}', "has no URL"),
        (b'{"url": null}', "has no URL"),
        (b'{"url": 7}', "has a URL that is no text"),
        (b'{"url": "  "}', "has an empty URL"),
        (b'{"url": "\\ud800"}', "is not JSON"),
        (b'{"url":' + b"[" * 100_000, "is not JSON"),
        (b'{"url": "\xff"}', "is not UTF-8 text at byte 10"),
        (b'{"url": "\0"}', "has a NUL byte"),
    ],
)
def test_a_bad_jsonl_line_costs_only_itself(line: bytes, expected: str) -> None:
    """Whatever is wrong with a line of JSON, its neighbours are rows, and its message says what it is."""
    rows = rows_of(b'{"url": "%s"}\n%s\n \n{"url": "%s"}' % (A.encode(), line, B.encode()), "jsonl")
    assert seen(rows) == [(1, A), (2, "input.invalid"), (4, B)]
    assert isinstance(rows[1], Outcome)
    assert expected in rows[1].message


def test_jsonl_columns_keep_their_types() -> None:
    """JSON values travel as they are; what an object lacks is None, if some object near the start has it."""
    data = b'{"url": "%s", "c": "t", "n": {"x": [1, null]}, "z": 0}\n{"url": "%s", "c": 5}' % (
        A.encode(),
        B.encode(),
    )
    rows = rows_of(data, "jsonl", caption_col="c", save_additional_columns=("n",))
    assert rows == [Request(0, A, "t", {"n": {"x": [1, None]}}, 1), Request(1, B, "5", {"n": None}, 2)]
    with pytest.raises(UsageError, match="no column d; its columns are: url, c, n, z"):
        rows_of(data, "jsonl", caption_col="d")


def parquet(tmp_path: Path, table: pa.Table, **columns: object) -> list[Request | Outcome]:
    """The rows of a table by way of a parquet file."""
    path = tmp_path / "list.parquet"
    pq.write_table(table, path, row_group_size=2)
    return list(open_source([path], SourceConfig(**columns)))


def test_parquet_values_become_json(tmp_path: Path) -> None:
    """Times are ISO text, decimals keep their digits, bytes are base64, and what JSON cannot say is None."""
    when = datetime.datetime(2024, 2, 29, 12, 30, 1)
    nanoseconds = pa.array([1_709_209_801_000_000_007, None, None], pa.timestamp("ns"))
    cells = {
        "when": pa.array([when, None, None]),
        "zoned": pa.array([when.replace(tzinfo=datetime.UTC), None, None], pa.timestamp("ms", "Europe/Paris")),
        "nanoseconds": nanoseconds,
        "far": pa.array([10**18, None, None], pa.timestamp("us")),
        "day": pa.array([when.date(), None, None]),
        "took": pa.array([datetime.timedelta(seconds=1.5), None, None]),
        "price": pa.array([decimal.Decimal("1.50"), None, None]),
        "blob": pa.array([b"\xff\x00", None, None]),
        "score": pa.array([0.5, float("nan"), float("inf")]),
        "box": pa.array([{"x": [1, 2], "at": when}, None, None]),
        "nested": pa.StructArray.from_arrays([nanoseconds], ["at"]),
    }
    rows = parquet(tmp_path, pa.table({"url": [A, B, A], **cells}), save_additional_columns=("*",))
    first, second, third = [dict(row.columns) for row in rows if isinstance(row, Request)]
    assert "2024-02-29 12:30:01.000000007" in str(first.pop("nested"))
    assert "1000000000000000000" in str(first.pop("far"))
    assert first == {
        "when": "2024-02-29T12:30:01",
        "zoned": "2024-02-29T12:30:01+00:00",
        "nanoseconds": "2024-02-29T12:30:01",
        "day": "2024-02-29",
        "took": 1.5,
        "price": "1.50",
        "blob": base64.b64encode(b"\xff\x00").decode(),
        "score": 0.5,
        "box": {"x": [1, 2], "at": "2024-02-29T12:30:01"},
    }
    assert (second["score"], third["score"], second["when"]) == (None, None, None)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_bad_rows(tmp_path: Path, kind: pa.DataType) -> None:
    """A null, an empty URL and one that is not UTF-8 are bad rows; text may be stored in any way."""
    raw = pa.array([A.encode(), None, b" ", b"\xff", B.encode()], pa.binary())
    urls = (
        raw.cast(kind.value_type if pa.types.is_dictionary(kind) else kind, safe=False)
        if kind == pa.binary()
        else None
    )
    if urls is None:
        flat = (
            raw.cast(pa.large_binary()).view(pa.large_string())
            if kind == pa.large_string()
            else raw.view(pa.string())
        )
        urls = flat.dictionary_encode() if pa.types.is_dictionary(kind) else flat
    rows = parquet(tmp_path, pa.table({"url": urls}))
    bad = (2, "input.invalid"), (3, "input.invalid"), (4, "input.invalid")
    assert seen(rows) == [(1, A), *bad, (5, B)]
    assert isinstance(rows[3], Outcome)
    assert rows[3].message.endswith("list.parquet is not UTF-8 text.")


def test_parquet_reads_only_what_was_asked_for(tmp_path: Path) -> None:
    """A column of numbers is no URL column, and columns not asked for do not travel."""
    table = pa.table({"url": [A], "n": [7], "text": ["t"]})
    assert parquet(tmp_path, table, caption_col="n") == [Request(0, A, "7", {}, 1)]
    with pytest.raises(UsageError, match=r"Column n of .* holds int64, not text"):
        parquet(tmp_path, table, url_col="n")


def test_damaged_parquet_stops_the_run(tmp_path: Path) -> None:
    """Damage past the first rows is no end of the list: it is said, and the rows before it are rows."""
    path = tmp_path / "list.parquet"
    urls = [f"http://a.example/{n}" for n in range(20_000)]
    pq.write_table(pa.table({"url": urls}), path, row_group_size=5_000, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    data[at : at + 200] = bytes(200)
    path.write_bytes(data)
    rows = iter(open_source([path], SourceConfig()))
    taken = []
    with pytest.raises(RunStopped, match=r"list\.parquet is damaged after"):
        taken.extend(rows)  # extends by what came before the error
    assert [row.url for row in taken] == urls[: len(taken)]
    assert len(taken) >= 5_000


def test_python_rows_may_have_columns() -> None:
    """Mappings give columns as any format does, and their values become JSON."""
    rows = [A, {"url": B, "c": 5, "when": datetime.date(2024, 1, 2)}, {"c": "x"}, 7, {"url": "\ud800"}]
    config = SourceConfig(caption_col="c", save_additional_columns=("*",))
    first, second, *bad = iterable_source(rows, config)  # type: ignore[arg-type]  # wrong on purpose
    assert (first, second) == (Request(0, A, line=1), Request(1, B, "5", {"when": "2024-01-02"}, 2))
    assert [(row.row, getattr(row, "message", "")) for row in bad] == [
        (2, "Entry 3 has no URL."),
        (3, "Entry 4 has a URL that is no text."),
        (4, "Entry 5 is not UTF-8 text."),
    ]


def test_python_rows_that_cannot_be_numbered_are_refused() -> None:
    """One string, one mapping and a set are told from a list before the first row; so is a wrong column."""
    for wrong in (A, {"url": A}, {A, B}):
        with pytest.raises(UsageError):
            iterable_source(wrong, SourceConfig())  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match=r"Did you mean --url-col URL\?"):
        next(iter(iterable_source([{"URL": A}], SourceConfig())))


def test_an_iterator_gives_its_rows_once() -> None:
    """A second pass over what is used up is an error, not an empty list."""
    source = iterable_source(iter([A]), SourceConfig())
    assert len(list(source)) == 1
    with pytest.raises(UsageError, match="only once"):
        list(source)


def test_the_examples_in_the_docs_are_read() -> None:
    """Each list shown in docs/inputs.md is one that we read, without a bad row."""
    page = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```(txt|csv|tsv|jsonl|xml)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in examples] == ["txt", "csv", "tsv", "jsonl", "xml"]
    captions = {"csv": "caption", "tsv": "caption", "jsonl": "caption", "xml": "lastmod"}
    for kind, text in examples:
        rows = rows_of(text.encode(), "sitemap" if kind == "xml" else kind, caption_col=captions.get(kind))
        assert rows
        assert all(isinstance(row, Request) for row in rows)
