"""Every format, compressed or not, keeps the contract of a source; and so do stdin and Python iterables."""

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scraper.config import SourceConfig
from scraper.protocols import Source
from scraper.records import Outcome, Request
from scraper.sources import FORMATS, iterable_source, open_source
from scraper.testing.source import SourceContract

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KINDS = ["txt", "csv", "tsv", "jsonl"]
NAMES = [f"{kind}{codec}" for kind in (*KINDS, "parquet", "xml") for codec in ("", ".gz", ".zst")]


def encode(name: str, urls: Sequence[str]) -> bytes:
    """A list of these URLs in the format and compression that a file name's end tells."""
    kind, _, codec = name.partition(".")
    text = io.StringIO(newline="")
    if kind == "txt":
        text.write("".join(f"{url}\n" for url in urls))
    elif kind == "jsonl":
        text.write("".join(json.dumps({"url": url}) + "\n" for url in urls))
    elif kind in ("csv", "tsv"):
        writer = csv.writer(text, delimiter="," if kind == "csv" else "\t")
        writer.writerows([["id", "url"], *enumerate(urls)])
    elif kind == "xml":
        entries = "".join(f"<url><loc>{escape(url)}</loc></url>\n" for url in urls)
        text.write(f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n')
    plain = text.getvalue().encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"url": pa.array(urls, pa.string())}), sink, row_group_size=max(1, len(urls)))
        plain = sink.getvalue()
    return {"": bytes, "gz": gzip.compress, "zst": zstd.compress}[codec](plain)


class FileContract(SourceContract):
    """A list in a file whose name ends in ``name``."""

    name: ClassVar[str]

    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """As the contract says."""
        path = folder / f"list.{self.name}"
        path.write_bytes(encode(self.name, urls))
        return open_source([path], SourceConfig())


class TestTxt(FileContract):
    name = "txt"
    bad_entry = "http://a.example/\0"


class TestTxtGz(FileContract):
    name = "txt.gz"
    bad_entry = "http://a.example/\0"


class TestTxtZst(FileContract):
    name = "txt.zst"
    bad_entry = "http://a.example/\0"


class TestCsv(FileContract):
    name = "csv"


class TestTsv(FileContract):
    name = "tsv"


class TestJsonl(FileContract):
    name = "jsonl"


class TestParquet(FileContract):
    name = "parquet"


class TestSitemap(FileContract):
    name = "xml"


class TestSitemapGz(FileContract):
    name = "xml.gz"


class TestSeveralFiles(SourceContract):
    """A folder of lists of several formats is one list."""

    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """As the contract says."""
        half = len(urls) // 2
        (folder / "1.csv").write_bytes(encode("csv", urls[:half]))
        (folder / "2.jsonl.gz").write_bytes(encode("jsonl.gz", urls[half:]))
        return open_source([folder], SourceConfig())


class TestStdin(SourceContract):
    bad_entry = "http://a.example/\0"
    reads_twice = False

    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """As the contract says."""
        return open_source(["-"], SourceConfig(), io.BytesIO(encode("txt", urls)))


class TestList(SourceContract):
    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """As the contract says."""
        return iterable_source(list(urls), SourceConfig())


class TestGenerator(SourceContract):
    reads_twice = False

    def make(self, folder: Path, urls: Sequence[str]) -> Source:
        """As the contract says."""
        return iterable_source((url for url in urls), SourceConfig())


def test_the_table_and_these_tests_know_the_same_formats() -> None:
    """A format that is added to the table cannot go untested."""
    assert set(FORMATS) == {*KINDS, "parquet", "sitemap"}


def endless() -> Iterator[str]:
    """URLs without end."""
    number = 0
    while True:
        yield f"http://a.example/{number}"
        number += 1


def test_an_iterable_is_never_read_ahead() -> None:
    """A generator that waits for something gives each row the moment it has it."""
    taken = []
    rows = iter(iterable_source((taken.append(url) or url for url in endless()), SourceConfig()))
    assert (next(rows).url, next(rows).row, len(taken)) == ("http://a.example/0", 1, 2)


def test_rows_of_a_pipe_are_there_before_it_closes() -> None:
    """What has come down a pipe so far is handed out, though the writer has more to say."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin, os.fdopen(writer, "wb", buffering=0) as typed:
        rows = iter(open_source(["-"], SourceConfig(), stdin))
        typed.write(b"http://a.example/1\nhttp://a.exam")
        assert next(rows).url == "http://a.example/1"
        typed.write(b"ple/2\n")
        assert next(rows).url == "http://a.example/2"


printable = st.text(st.characters(exclude_categories=("C", "Z")), max_size=30)
fast = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", NAMES)
@given(tails=st.lists(printable, max_size=12))
@fast
def test_any_urls_survive_any_format(tmp_path: Path, name: str, tails: list[str]) -> None:
    """Printable URLs come back as they were, from each format and compression."""
    urls = [f"http://a.example/{tail}" for tail in tails]
    path = tmp_path / f"list.{name}"
    path.write_bytes(encode(name, urls))
    assert list(open_source([path], SourceConfig())) == [
        Request(number, url, line=row.line)
        for number, (url, row) in enumerate(zip(urls, open_source([path], SourceConfig()), strict=True))
    ]


pieces = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b",",
            b"\t",
            b'"',
            b'""',
            b"\0",
            b"\xff",
            b"\xef\xbb\xbf",
            b"{",
            b"}",
            b"#",
            b" ",
        ),
        *(b'{"url":"http://a/"}', b'{"url":1}', b"http://a/", b"url", "ü".encode(), b"\\ud800", b"[" * 2000),
    ]
)
junk = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=40).map(b"".join))


@pytest.mark.parametrize(
    ("kind", "head"), [("txt", b""), ("csv", b"url,x\n"), ("tsv", b"x\turl\n"), ("jsonl", b"")]
)
@given(junk=junk)
@settings(fast, max_examples=120)
def test_any_bytes_are_rows_without_gaps(kind: str, head: bytes, junk: bytes) -> None:
    """Whatever a list holds, it is read to its end, and each row has the next number and a line that grows."""
    first = b'{"url": "http://a/"}\n' if kind == "jsonl" else b"#\n" if kind == "txt" else head
    source = open_source(["-"], SourceConfig(input_format=kind), io.BytesIO(first + junk))
    rows = list(source)
    assert [row.row for row in rows] == list(range(len(rows)))
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    for row in rows:
        assert isinstance(row, Request) or (row.class_, len(row.url) <= 200) == ("input.invalid", True)
        row.url.encode()
    assert sum(isinstance(row, Request | Outcome) for row in rows) == len(rows)
