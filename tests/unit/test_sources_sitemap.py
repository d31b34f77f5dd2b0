"""What of a sitemap is a row, in which encodings, and what is said of XML that is none."""

import codecs
import gzip
import io
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.config import SourceConfig
from scraper.errors import RunStopped, UsageError
from scraper.records import Outcome, Request
from scraper.sources import open_source
from scraper.sources.sitemap import MAX_DEPTH, MAX_GAP, MAX_NAMES, _Document
from scraper.whatwg import MAX_LENGTH

A, B = "http://a.example/", "http://b.example/"
NS = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
ENTRY = f"<url><loc>{A}</loc></url>"
MIB = 1024 * 1024


def rows_of(data: bytes | str, **columns: object) -> list[Request | Outcome]:
    """The rows of a sitemap that comes by standard input."""
    raw = data.encode() if isinstance(data, str) else data
    return list(open_source(["-"], SourceConfig(input_format="sitemap", **columns), io.BytesIO(raw)))  # type: ignore[arg-type]


def urls_of(data: bytes | str) -> list[str]:
    """The URLs of a sitemap whose rows are all good."""
    rows = rows_of(data)
    assert all(isinstance(row, Request) for row in rows)
    return [row.url for row in rows]


def until_broken(data: bytes | str) -> tuple[list[str], Exception]:
    """The URLs before a sitemap cannot be read on, and what is raised there."""
    raw = data.encode() if isinstance(data, str) else data
    rows: list[Request | Outcome] = []
    with pytest.raises((RunStopped, UsageError)) as caught:
        rows.extend(open_source(["-"], SourceConfig(input_format="sitemap"), io.BytesIO(raw)))
    assert "\n" not in str(caught.value)
    return [row.url for row in rows], caught.value


def test_an_entry_is_a_row_with_its_columns() -> None:
    """A url's own elements are its columns, text without the blanks around it, None where it has none."""
    entry = f"<loc>\n  {A}?x=1&amp;y=2 </loc><lastmod>2024-05-01</lastmod><priority>0.8</priority>"
    data = f"<urlset {NS}>\n<url>{entry}</url>\n\n<url><loc>{B}</loc></url></urlset>"
    first, second = rows_of(data, caption_col="priority", save_additional_columns=("*",))
    columns = {"lastmod": "2024-05-01", "changefreq": None}
    assert first == Request(0, f"{A}?x=1&y=2", "0.8", columns, 2)
    assert second == Request(1, B, None, {"lastmod": None, "changefreq": None}, 5)


def test_the_url_column_is_loc() -> None:
    """The column need not be named, and may be; one that sitemaps do not have is refused with those they have."""
    assert [row.url for row in rows_of(f"<urlset>{ENTRY}</urlset>", url_col="loc")] == [A]
    with pytest.raises(UsageError, match=r"no column link; its columns are: loc, lastmod, changefreq, priority\."):
        rows_of(f"<urlset>{ENTRY}</urlset>", url_col="link")
    with pytest.raises(UsageError, match=r"Did you mean --save-additional-columns lastmod\?"):
        rows_of(f"<urlset>{ENTRY}</urlset>", save_additional_columns=("last_mod",))


def test_an_index_is_a_list_of_sitemaps() -> None:
    """The rows of an index are the sitemaps that it names."""
    entries = f"<sitemap><loc>{A}1.xml.gz</loc><lastmod>2024</lastmod></sitemap><sitemap><loc>{B}</loc></sitemap>"
    rows = rows_of(f"<sitemapindex {NS}>{entries}</sitemapindex>", save_additional_columns=("lastmod",))
    assert rows == [
        Request(0, f"{A}1.xml.gz", None, {"lastmod": "2024"}, 1),
        Request(1, B, None, {"lastmod": None}, 1),
    ]


@pytest.mark.parametrize(
    "data",
    [
        f'<s:urlset xmlns:s="x"><s:url><s:loc>{A}</s:loc></s:url></s:urlset>',
        f"<urlset>{ENTRY}</urlset>",
        f'<urlset xmlns="http://www.google.com/schemas/sitemap/0.84">{ENTRY}</urlset>',
        f"<urlset><url><image:image><image:loc>{B}</image:loc></image:image><loc>{A}</loc></url></urlset>",
        f'<urlset><url><i:image xmlns:i="y"><loc>{B}</loc></i:image><loc>{A}</loc></url></urlset>',
        f'<urlset><url><xhtml:link href="{B}"/><loc>{A}</loc></url></urlset>',
        f"<urlset><loc>{B}</loc><other><loc>{B}</loc></other>{ENTRY}</urlset>",
        f"<urlset><sitemap><loc>{B}</loc></sitemap>{ENTRY}</urlset>",
        f"<urlset><url><loc><![CDATA[{A}]]></loc></url></urlset>",
        f"<urlset><url><loc><!-- {B} -->{A[:4]}<?p {B}?>{A[4:]}</loc></url></urlset>",
        "<urlset><url><loc>&#x68;ttp://&#97;.example/</loc></url></urlset>",
        f'<?xml version="1.0"?>\n<?xml-stylesheet href="s"?>\n<!-- x --><urlset>{ENTRY}</urlset>\n<!-- y -->',
    ],
)
def test_elements_are_known_by_place_and_name(data: str) -> None:
    """Any prefix or none, declared or not; loc in other places, extensions and comments are no rows."""
    assert urls_of(data) == [A]


@pytest.mark.parametrize(
    ("declared", "encoding", "mark"),
    [
        ("", "utf-8", b""),
        ("", "utf-8", codecs.BOM_UTF8),
        ("UTF-8", "utf-8", codecs.BOM_UTF8),
        ("UTF-16", "utf-16-le", codecs.BOM_UTF16_LE),
        ("UTF-16", "utf-16-be", codecs.BOM_UTF16_BE),
        ("", "utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16le", "utf-16-le", b""),
        ("ISO-8859-1", "latin-1", b""),
        ("windows-1252", "cp1252", b""),
        ("koi8-r", "koi8-r", b""),
    ],
)
def test_encodings(declared: str, encoding: str, mark: bytes) -> None:
    """The byte-order mark and the XML declaration say how a sitemap is encoded."""
    tail = "Ж" if declared == "koi8-r" else "ü"
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    data = mark + f"{head}<urlset><url><loc>{A}{tail}</loc></url></urlset>".encode(encoding)
    assert urls_of(data) == [A + tail]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("", "has no URL"),
        ("<lastmod>2024</lastmod>", "has no URL"),
        ("<loc/>", "has an empty URL"),
        ("<loc>  </loc>", "has an empty URL"),
        (f"<loc>{A}</loc><loc>{B}</loc>", "has more than one loc"),
        (f"<loc>{A}<b>x</b></loc>", "has an element inside its loc"),
        (f"<loc>{'x' * (MAX_LENGTH + 1)}</loc>", "has a loc of more than 32,768 characters"),
        (f"<loc>{'x' * 20 * MIB}</loc>", None),
    ],
)
def test_a_bad_entry_costs_only_itself(entry: str, why: str | None) -> None:
    """Whatever is wrong with an entry, its neighbours are rows, unless it alone is more than a sitemap's."""
    data = f"<urlset>\n{ENTRY}\n<url>{entry}</url>\n<url><loc>{B}</loc></url>\n</urlset>"
    if why is None:
        urls, error = until_broken(data)
        assert (urls, "without a whole entry" in str(error)) == ([A], True)
        return
    good, bad, end = rows_of(data)
    assert isinstance(bad, Outcome)
    assert (bad.row, bad.line, bad.class_, bad.message) == (1, 3, "input.invalid", f"Line 3 of - {why}.")
    assert len(bad.url) <= 200
    assert (good.url, end.url, end.line) == (A, B, 4)


def test_the_longest_url_is_a_row() -> None:
    """One of as many characters as are asked for at most is not too long."""
    assert urls_of(f"<urlset><url><loc>{'x' * MAX_LENGTH}</loc></url></urlset>") == ["x" * MAX_LENGTH]


def test_what_is_not_asked_for_is_not_looked_at() -> None:
    """A column that does not travel may be anything, and so may a second lastmod."""
    entry = f"<lastmod>{'x' * 100_000}</lastmod><lastmod><b/></lastmod>"
    assert urls_of(f"<urlset><url>{entry}<loc>{A}</loc></url></urlset>") == [A]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "- cannot be read as XML (no element found: line 1, column 0): fetch or make it again."),
        (f"{A}\n", "- cannot be read as XML (not well-formed"),
        ("<!DOCTYPE html><html></html>", "- is an HTML page, not a sitemap: look into it, and"),
        ("\n<!doctype html>\n<title>x", "- is an HTML page, not a sitemap: look into it, and"),
        ('<HTML lang="en"><br>', "- is an HTML page, not a sitemap: look into it, and"),
        ('<?xml version="1.0"?><html xmlns="x"/>', "- is an HTML page, not a sitemap: look into it, and"),
        ('<rss version="2.0"><channel/></rss>', "its outermost element is rss, not urlset or sitemapindex): make"),
        (f"<urlset>{'<a>' * MAX_DEPTH}", "more than 32 deep inside each other (line 1)"),
        ('<?xml version="1.0" encoding="shift_jis"?><urlset/>', "cannot be read as XML (multi-byte encodings"),
        ('<?xml version="1.0" encoding="\u017cz"?><urlset/>', "cannot be read as XML (XML declaration not"),
        ('<?xml version="1.0" encoding="zz"?><urlset/>', "cannot be read as XML (unknown encoding: zz)"),
        ('<?xml version="1.0" encoding="zlib"?><urlset/>', "cannot be read as XML ('zlib' is not a text encoding"),
        ('<?xml version="1.0" encoding="utf-16"?><urlset/>', "cannot be read as XML (encoding specified"),
    ],
)
def test_what_is_no_sitemap_is_one_sentence(tmp_path: Path, data: bytes | str, sentence: str) -> None:
    """It is told when the list is opened, by what it is instead; by standard input, before the first row."""
    urls, error = until_broken(data)
    assert urls == []
    assert isinstance(error, UsageError)
    assert sentence in str(error)
    path = tmp_path / "sitemap.xml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(UsageError) as caught:
        open_source([path], SourceConfig())
    assert str(caught.value) == str(path) + str(error).removeprefix("-")


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        (
            f"<url><loc>{B}?a&b</loc></url></urlset>",
            "- cannot be read as XML (not well-formed (invalid token): line 3",
        ),
        (f"<url><loc>{B[:-3]}", "- cannot be read as XML (no element found: line 3, column"),
        ("<url><lo", "- cannot be read as XML (unclosed token: line 3"),
        ("</urlset><urlset>", "- cannot be read as XML (junk after document element: line 3"),
        ("&nbsp;</urlset>", "- cannot be read as XML (undefined entity: line 3"),
        ("<x>" * (MAX_DEPTH + 1), "- has elements more than 32 deep inside each other (line 3)"),
    ],
)
def test_xml_that_breaks_off_gives_the_rows_before(rest: str, sentence: str) -> None:
    """What stands before the damage is rows; then the run stops with the line; half a URL is none."""
    urls, error = until_broken(f"<urlset>\n{ENTRY}\n{rest}")
    assert urls == [A]
    assert isinstance(error, RunStopped)
    assert str(error).startswith(sentence)
    assert str(error).endswith("so the rest of the list is missing: fetch or make it again.")


def test_gzip_inside_of_compressed_data_is_unpacked(tmp_path: Path) -> None:
    """What a server has compressed twice is read; three times is refused, and so is what is damaged inside."""
    plain = (
        b"<urlset>"
        + b"".join(b"<url><loc>%s%d</loc></url>" % (A.encode(), n) for n in range(3_000))
        + b"</urlset>"
    )
    once = gzip.compress(plain)
    assert len(urls_of(gzip.compress(once))) == 3_000
    assert len(urls_of(gzip.compress(once + bytes(512)))) == 3_000
    path = tmp_path / "sitemap.xml.gz"
    path.write_bytes(gzip.compress(once))
    assert len(list(open_source([path], SourceConfig()))) == 3_000
    problem = "- is cut or damaged as gz data inside of compressed data"
    for inside, why in (
        (once[:-1], "no end"),
        (once + once, "stands behind its end"),
        (once[:-8] + bytes(8), "incorrect"),
    ):
        urls, error = until_broken(gzip.compress(inside))
        assert urls == [f"{A}{n}" for n in range(len(urls))]
        assert str(error).startswith(problem)
        assert why in str(error)
    assert "is compressed more than twice" in str(until_broken(gzip.compress(gzip.compress(once)))[1])


def test_a_document_of_nothing_but_names_is_bounded() -> None:
    """The parser keeps each name it has met; a document that never stops making new ones is refused."""
    names = "".join(f"<n{n}/>{ENTRY if n % 100 == 0 else ''}" for n in range(MAX_NAMES))
    urls, error = until_broken(f"<urlset>{names}</urlset>")
    assert "has too many different names" in str(error)
    assert urls


@pytest.mark.parametrize(
    "filler", [b" ", b"<!--x-->", b"<a b='c'/>" + b" " * 90], ids=["blanks", "comments", "elements"]
)
def test_a_long_way_between_entries_is_bounded(filler: bytes) -> None:
    """A little less than the bound between two entries is passed over, more is refused."""
    entry = ENTRY.encode()
    some = filler * (MAX_GAP // len(filler) // 2)
    assert urls_of(b"<urlset>" + entry + some + entry + some + entry + b"</urlset>") == [A] * 3
    urls, error = until_broken(b"<urlset>" + entry + some * 3 + entry + b"</urlset>")
    assert urls == [A]
    assert "has more than 4,194,304 bytes without a whole entry in them (line 1)" in str(error)


class Pieces(io.RawIOBase):
    """A stream that gives its bytes in these pieces, none longer than 64 KiB."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._left = iter(pieces)

    def readable(self) -> bool:
        """As said."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # what the reader hands in
        """The next piece."""
        piece = next(self._left, b"")
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_may_be_of_any_size(size: int) -> None:
    """The rows are the same wherever the bytes are cut, and the line of an error too."""
    data = f"<?xml version='1.0'?>\n<urlset>\n<!--{'-x' * 99}-->{ENTRY}\n<a b='{'c' * 99}'/>{ENTRY}\n&".encode()
    stdin = io.BufferedReader(Pieces(data[at : at + size] for at in range(0, len(data), size)))
    rows: list[Request | Outcome] = []
    with pytest.raises(RunStopped, match=r"well-formed|unclosed token: line 5"):
        rows.extend(open_source(["-"], SourceConfig(input_format="sitemap"), stdin))
    assert [(row.url, row.line) for row in rows] == [(A, 3), (A, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [4 * 1024, 40 * 1024])
def test_a_comment_may_fill_the_gap(size: int) -> None:
    """Just below the bound, between two entries, and however small the pieces are."""
    comment = f"<!--{'x' * (MAX_GAP - 64 * 1024)}-->"
    data = f"<urlset>{ENTRY}{comment}{ENTRY}{comment}{ENTRY}</urlset>".encode()
    stdin = io.BufferedReader(Pieces(data[at : at + size] for at in range(0, len(data), size)), 64 * 1024)
    assert len(list(open_source(["-"], SourceConfig(input_format="sitemap"), stdin))) == 3


def test_a_long_token_in_small_pieces_is_read_once() -> None:
    """What a comment costs grows with its length, not with its square, however small the pieces are."""

    def looked_at(pieces: int) -> int:
        document, parsed = _Document(frozenset(("loc",))), []
        parser = document._parser  # what is counted is how often expat is asked
        document._parser = _Counted(parser, parsed)  # type: ignore[assignment]
        for piece in (b"<urlset><!--", *[b"x" * 64] * pieces):
            assert document.feed(piece) is None
        return len(parsed)

    assert looked_at(1_000) < 20
    assert looked_at(32_000) < 25


class _Counted:
    """A parser that keeps how much it was given each time."""

    def __init__(self, parser: object, parsed: list[int]) -> None:
        self._parser = parser
        self._parsed = parsed

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)

    def Parse(self, data: bytearray, last: bool) -> None:  # noqa: N802 - expat's name
        """As expat."""
        self._parsed.append(len(data))
        self._parser.Parse(data, last)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_memory_is_flat() -> None:
    """Ten times as many entries take no more memory."""

    def peak(pieces: int) -> int:
        stdin = io.BufferedReader(
            Pieces([b"<urlset>", *[ENTRY.encode() * 1_000] * pieces, b"</urlset>"]), 64 * 1024
        )
        tracemalloc.start()
        count = sum(1 for _ in open_source(["-"], SourceConfig(input_format="sitemap"), stdin))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 1_000 * pieces
        return most

    assert peak(20) < peak(2) + MIB // 4


pieces = st.sampled_from(
    [
        *(b"<urlset>", b"</urlset>", b"<url>", b"</url>", b"<loc>", b"</loc>", b"<loc/>", b"<lastmod>x</lastmod>"),
        *(
            b"<![CDATA[",
            b"]]>",
            b"<!--",
            b"-->",
            b"<?x ",
            b"?>",
            b"&amp;",
            b"&",
            b"&#0;",
            b"<",
            b">",
            b"'",
            b"a=",
            b"\n",
        ),
        *(
            ENTRY.encode(),
            ENTRY.encode(),
            b"<image:loc>",
            b"<!DOCTYPE x [",
            b"\0",
            b"\xff",
            b"\xed\xa0\x80",
            "ü".encode(),
        ),
    ]
)
junk = st.one_of(st.binary(max_size=100), st.lists(pieces, max_size=30).map(b"".join))


@pytest.mark.slow
@given(junk=junk, head=st.sampled_from([b"", b"<urlset>", b"<urlset><url>", b"<urlset>" + ENTRY.encode()]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_rows_or_one_sentence(junk: bytes, head: bytes) -> None:
    """Whatever a sitemap holds, its rows have no gaps, and it ends in a sentence or in its end."""
    rows: list[Request | Outcome] = []
    end: Exception | None = None
    try:
        rows.extend(open_source(["-"], SourceConfig(input_format="sitemap"), io.BytesIO(head + junk)))
    except (UsageError, RunStopped) as error:
        end = error
    assert end is None or isinstance(end, RunStopped) == bool(rows)
    assert str(end).isprintable()
    assert [row.row for row in rows] == list(range(len(rows)))
    for row in rows:
        row.url.encode()
