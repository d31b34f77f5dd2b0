"""Group U of docs/faults.md: what lists hold, through the whole product."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import files
from scraper import RunConfig, UsageError, arun
from scraper.config import FetchConfig, PermitConfig, PoolConfig, RetryConfig, SourceConfig
from scraper.errors import FetchFailed
from scraper.ledger import LedgerReader
from scraper.policies.urls import check
from scraper.records import Outcome
from scraper.testing.server import LOOPBACK, ScriptedServer, reply

pytestmark = pytest.mark.slow  # all of them look at whole runs

GOOD = reply("200 OK", b"good")


def config(source: SourceConfig | None = None) -> RunConfig:
    """Usual settings, one retry."""
    return RunConfig(
        FetchConfig("test", allow_net=(LOOPBACK, "::1")),  # which localhost may be
        source=source or SourceConfig(),
        permits=PermitConfig(concurrency=8),
        retry=RetryConfig(retries=1, wait_s=0.0),
        pool=PoolConfig(workers=1),
    )


async def run(given: Path | Sequence[object], out: Path, source: SourceConfig | None = None) -> list[Outcome]:
    """Run the whole product over a file or over rows; check what holds for every run; the outcomes by row."""
    if isinstance(given, Path):
        await arun(files.build(), inputs=given, out=out, config=config(source))
    else:
        await arun(files.build(), given, out=out, config=config(source))  # type: ignore[arg-type] # on purpose
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(outcomes)))
    assert all((each.class_ == "ok") == bool(each.path) for each in outcomes)
    return outcomes


def classes(outcomes: Sequence[Outcome]) -> list[str]:
    """The class of each row."""
    return [each.class_ for each in outcomes]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"], ids=["plain", "BOM", "UTF-16"])
async def test_u1_lines_as_editors_leave_them(tmp_path: Path, line_end: str, encoding: str) -> None:
    """Marks, line ends, comments, blank lines and spaces cost nothing; a NUL costs its row, which is named."""
    async with ScriptedServer([GOOD]) as server:
        lines = [
            "# holiday",
            server.url("/1"),
            "",
            f"  {server.url('/2')}\t ",
            "   ",
            server.url("/3\0"),
            "  # not this one",
            server.url("/ü"),
        ]
        (tmp_path / "list.txt").write_bytes(line_end.join(lines).encode(encoding))
        outcomes = await run(tmp_path / "list.txt", tmp_path / "out")
        assert server.asked == {"/1": 1, "/2": 1, "/%C3%BC": 1}
    assert classes(outcomes) == ["ok", "ok", "input.invalid", "ok"]
    assert [each.line for each in outcomes] == [2, 4, 6, 8]
    assert outcomes[2].message == f"Line 6 of {tmp_path}/list.txt has a NUL byte in it."


async def test_u2_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    """A line in another encoding costs its row, which is named; the others are fetched."""
    async with ScriptedServer([GOOD]) as server:
        urls = [server.url("/1").encode(), server.url("/caf\xe9").encode("latin-1"), server.url("/2").encode()]
        (tmp_path / "list.txt").write_bytes(b"\n".join([*urls, b"\xff\xfe\xfd", urls[0] + b"?3"]))
        outcomes = await run(tmp_path / "list.txt", tmp_path / "out")
    assert classes(outcomes) == ["ok", "input.invalid", "ok", "input.invalid", "ok"]
    assert outcomes[1].message.startswith(f"Line 2 of {tmp_path}/list.txt is not UTF-8 text at byte ")
    assert outcomes[1].url.endswith("/caf\\xe9")


_READ = """
import resource, sys
from scraper.config import SourceConfig
from scraper.sources import open_source

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for _ in open_source([sys.argv[1]], SourceConfig()):
    pass
before, rows, bad = peak(), 0, 0
for row in open_source([sys.argv[2]], SourceConfig()):
    rows, bad = rows + 1, bad + (not hasattr(row, "target"))
print(peak() - before, rows, bad)
"""


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_u3_long_lists_and_long_lines_take_no_memory(tmp_path: Path, packed: bool) -> None:
    """200,000 rows, then a line of 50 MB without an end: read in the memory of a short list, each row counted."""
    write = gzip.compress if packed else bytes
    name = "list.txt.gz" if packed else "list.txt"
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / name).write_bytes(write(b"http://h.example/x\n" * 100))
    rows = b"".join(b"http://h.example/%d\n" % n for n in range(200_000))
    (tmp_path / name).write_bytes(write(rows + b"http://h.example/" + b"x" * 50_000_000))
    done = subprocess.run(
        [sys.executable, "-c", _READ, tmp_path / "small" / name, tmp_path / name],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    grown, count, bad = map(int, done.stdout.split())
    assert (count, bad) == (200_001, 1)
    assert grown < 16 * 1024 * 1024


async def test_u3_the_last_line_need_not_end(tmp_path: Path) -> None:
    """A list without a final line end loses nothing."""
    async with ScriptedServer([GOOD]) as server:
        (tmp_path / "list.txt").write_text(f"{server.url('/1')}\n{server.url('/2')}")
        assert classes(await run(tmp_path / "list.txt", tmp_path / "out")) == ["ok", "ok"]


async def test_u4_duplicates_are_fetched_once_and_each_is_answered(tmp_path: Path) -> None:
    """However a URL is written, it is asked for once; the rows after the first say which row that was."""
    async with ScriptedServer([GOOD]) as server:
        urls = [
            server.url("/a~b?q=1"),
            server.url("/other"),
            server.url("/a~b?q=1"),
            server.url("/a%7eb?q=1#part"),
            server.url("/x/../a%7Eb?q=1").replace("http:", "HTTP:"),
            server.url("/a~b?q=2"),
            server.url("/A~b?q=1"),
        ]
        outcomes = await run(urls, tmp_path / "out")
        assert server.asked == {"/a~b?q=1": 1, "/other": 1, "/a~b?q=2": 1, "/A~b?q=1": 1}
    assert classes(outcomes) == ["ok", "ok", *["duplicate.url"] * 3, "ok", "ok"]
    assert {each.message for each in outcomes[2:5]} == {"Row 0 asks for the same."}
    assert {each.state.value for each in outcomes[2:5]} == {"skipped"}


async def test_u4_another_caption_is_another_sample(tmp_path: Path) -> None:
    """The same URL with another caption, or another column, is fetched; with the same it is not."""
    source = SourceConfig(caption_col="text", save_additional_columns=("licence",))
    async with ScriptedServer([GOOD]) as server:
        url = server.url("/1")
        rows = [
            {"url": url, "text": "a lake", "licence": "CC0"},
            {"url": url, "text": "a sea", "licence": "CC0"},
            {"url": url, "text": "a lake", "licence": "CC-BY"},
            {"url": url, "text": "a lake", "licence": "CC0"},
        ]
        outcomes = await run(rows, tmp_path / "out", source)
        assert server.asked == {"/1": 3}
    assert classes(outcomes) == ["ok", "ok", "ok", "duplicate.url"]


async def test_u4_rows_that_cannot_be_asked_fail_each(tmp_path: Path) -> None:
    """A URL that is none is no duplicate of itself: each row says what is wrong with it."""
    outcomes = await run(["photo.jpg", "photo.jpg", "ftp://h.example/", "ftp://h.example/"], tmp_path / "out")
    assert classes(outcomes) == ["url.invalid"] * 2 + ["url.scheme"] * 2


async def test_u4_the_next_run_knows_the_same_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped and run again: no row is fetched twice for being a duplicate, and none is left out."""
    monkeypatch.setattr("scraper.seen.COMMIT_ROWS", 1)
    async with ScriptedServer([GOOD]) as server:
        urls = [server.url(f"/{n % 30}") for n in range(90)]
        (tmp_path / "list.txt").write_text("\n".join(urls))
        await run(tmp_path / "list.txt", tmp_path / "out")
        (tmp_path / "out/.scraper/ledger.sqlite").unlink()  # as if nothing had been committed
        for leftover in tmp_path.glob("out/.scraper/ledger.sqlite-*"):
            leftover.unlink()
        outcomes = await run(tmp_path / "list.txt", tmp_path / "out")
        assert set(server.asked.values()) == {2}
    assert classes(outcomes) == ["ok"] * 30 + ["duplicate.url"] * 60


async def test_u5_international_names_are_dialled_as_punycode(tmp_path: Path) -> None:
    """Host names in any script are asked for as IDNA encodes them; what it cannot encode is url.invalid."""
    async with ScriptedServer([GOOD]) as server:
        good = {
            "bücher.localhost": "xn--bcher-kva.localhost",
            "BÜCHER.localhost": "xn--bcher-kva.localhost",
            "faß.localhost": "xn--fa-hia.localhost",
            "日本語。localhost": "xn--wgv71a119e.localhost",
            "❤.localhost": "xn--qei.localhost",
            "xn--qei.localhost": "xn--qei.localhost",
        }
        bad = [
            "xn--a.localhost",
            "xn--.localhost",
            "a\u200db.localhost",
            "\ufffd.localhost",
            f"{'x' * 64}.localhost",
        ]
        urls = [server.url(f"/{row}", host) for row, host in enumerate([*good, *bad])]
        outcomes = await run(urls, tmp_path / "out")
        hosts = {head.split()[1].decode(): _header(head, b"host") for head in server.requests}
    assert hosts == {f"/{row}": f"{host}:{server.port}" for row, host in enumerate(good.values())}
    assert classes(outcomes) == ["ok"] * len(good) + ["url.invalid"] * len(bad)


def _header(head: bytes, name: bytes) -> str | None:
    found = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(name + b":")]
    return found[0].strip().decode() if found else None


STANDARD: dict[str, str | None] = {
    # As the list has it, and its host by the URL standard (WHATWG URL 3.5, 4.4); None: it fails.
    "http:\\\\h\\p": "h",
    "http:/h/p": "h",
    "http:h": "h",
    "http:////h/": "h",
    "ht\ntp://h/": "h",
    "http://a\tb/": "ab",
    " http://h/ ": "h",
    "HTTP://H/": "h",
    "http://user@evil@h/": "h",
    "http://a:b@c:d@h/": "h",
    "http://@h/": "h",
    "http://:@h/": "h",
    "http://h:@x/": "x",
    "http://x;@h/": "h",
    "http://h\\@x/": "h",
    "http://a@b\\c/": "b",
    "http://h#@x/": "h",
    "http://h?@x/": "h",
    "http://h/@x": "h",
    "http://h/\\..\\x": "h",
    "http://%00/": None,
    "http://h\x00/": None,
    "http://%68ost/": "host",
    "http://%C3%BC.example/": "xn--tda.example",
    "http://h%2Fx/": None,
    "http://h%/": None,
    "http://a b/": None,
    "http://a<b/": None,
    "http://a>b/": None,
    "http://a^b/": None,
    "http://a|b/": None,
    "http://a[b/": None,
    "http://a]b/": None,
    "http://a%b/": None,
    'http://a"b/': 'a"b',
    "http://a{b}/": "a{b}",
    "http://a*b/": "a*b",
    "http://h\x7f/": None,
    "http://under_score/": "under_score",
    "http://-h-/": "-h-",
    "http://a..b/": None,  # an empty label, which the standard lets through and DNS does not
    "http://h./": "h.",
    "http:///": None,
    "http://": None,
    "http://?q": None,
    "http://\uff27\uff2f.com/": "go.com",
    "http://a。b/": "a.b",
    "http://faß.de/": "xn--fa-hia.de",
    "http://\u212aelvin.example/": "kelvin.example",
    "http://a\u0308.example/": "xn--4ca.example",
    "http://a\u00adb.example/": "ab.example",
    "http://\u200bh.example/": "h.example",
    "http://h\uff0fx.example/": None,
    "http://h\uff20x.example/": None,
    "http://h\uff1a80/": None,
    "http://h\uff3cx/": None,
    "http://\u2100.example/": None,
    "http://\u05d0a.example/": None,
    "http://\ufffd.example/": None,
    "http://xn--/": None,
    "http://xn--a/": None,
    "http://xn--zn7c.com/": None,
    "http://xn--bcher-kva.example/": "xn--bcher-kva.example",
    "http://127.0.0.1/": "127.0.0.1",
    "http://\uff11\uff12\uff17.0.0.1/": "127.0.0.1",
    "http://127.1/": "127.0.0.1",
    "http://0x7f.1/": "127.0.0.1",
    "http://2130706433/": "127.0.0.1",
    "http://017700000001/": "127.0.0.1",
    "http://0x/": "0.0.0.0",
    "http://1.2.3.4./": "1.2.3.4",
    "http://1.2.3.08/": None,
    "http://256.0.0.1/": None,
    "http://4294967296/": None,
    "http://1.2.3.4.5/": None,
    "http://foo.0x4/": None,
    "http://foo.1.2.3.4/": None,
    "http://1.2.3.4.example/": "1.2.3.4.example",
    "http://[::1]/": "::1",
    "http://[0:0:0:0:0:0:0:1]/": "::1",
    "http://[::127.0.0.1]/": "::7f00:1",
    "http://[::FFFF:7f00:1]/": "::ffff:7f00:1",
    "http://[::1/": None,
    "http://[:::]/": None,
    "http://[1::2::3]/": None,
    "http://[::g]/": None,
    "http://[1.2.3.4]/": None,
    "http://[]/": None,
    "http://[v1.x]/": None,
    "http://[::1]x/": None,
    "http://x[::1]/": None,
    "http://[fe80::1%25eth0]/": None,
    "http://h:/": "h",
    "http://h:00080/": "h",
    "http://h:65536/": None,
    "http://h:+80/": None,
    "http://h:8_0/": None,
    "http://h:\u0668/": None,
    "http://h:x/": None,
}


def test_u6_the_host_dialled_is_the_host_of_the_standard() -> None:
    """Each oddity is dialled as browsers read it, or is url.invalid: never as another host."""
    assert {text: dialled(text) for text in STANDARD} == {
        text: host or "url.invalid" for text, host in STANDARD.items()
    }


def dialled(text: str) -> str | None:
    """The host that a URL is asked at, or the class that the row ends with."""
    try:
        return check(text).raw_host
    except FetchFailed as failed:
        return failed.class_


async def test_u6_where_readers_disagree_the_standard_is_followed(tmp_path: Path) -> None:
    """URLs that name this server to some: asked here if they do to browsers; if to nobody, url.invalid."""
    async with ScriptedServer([GOOD]) as server:
        at = f"127.0.0.1:{server.port}"
        here = [
            f"http:\\\\{at}/0",
            f"http:/{at}/1",
            f"http:{at}/2",
            f"http:///{at}/3",
            f"ht\ttp://{at}/4",
            f"http://127.1:{server.port}/5",
            f"http://2130706433:{server.port}/6",
            f"http://%31%32%37.0.0.1:{server.port}/7",
            f"http://{at}\\@127.0.0.2:1/8",
        ]
        elsewhere = [f"http://127.0.0.2:1\\@{at}/", f"http://127.0.0.2:1#@{at}/"]
        nowhere = [f"http://127.0.0.1:+{server.port}/", f"{at}/", f"http://127.0.0.1.:{server.port}.1/"]
        outcomes = await run([*here, *elsewhere, *nowhere], tmp_path / "out")
        assert {_header(head, b"host") for head in server.requests} == {at}
        assert sorted(server.asked) == [*(f"/{n}" for n in range(len(here) - 1)), f"/@127.0.0.2:1/{len(here) - 1}"]
    assert classes(outcomes) == ["ok"] * len(here) + ["connect.refused"] * 2 + ["url.invalid"] * 3
    assert {each.attempts for each in outcomes[-len(nowhere) :]} == {0}


async def test_x11_nothing_in_a_url_becomes_a_header(tmp_path: Path) -> None:
    """Line breaks in a URL are taken out, as browsers do, before anything is sent; encoded ones stay encoded."""
    async with ScriptedServer([GOOD]) as server:
        lines = "\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n"
        urls = [server.url(f"/a{lines}"), server.url(f"/?{lines}"), server.url("/b%0d%0aX-Evil:1")]
        urls.append(server.url("/", f"127.0.0.1{lines}"))
        outcomes = await run(urls, tmp_path / "out")
        heads = server.requests
    assert classes(outcomes) == ["ok"] * 3 + ["url.invalid"]
    assert len(heads) == 3
    assert not [line for head in heads for line in head.split(b"\r\n") if line.lower().startswith(b"x-evil")]


async def test_u7_other_schemes_are_not_fetched(tmp_path: Path) -> None:
    """Only http and https: whatever else a URL says, it is url.scheme at once; no file is read."""
    (tmp_path / "secret").write_text("secret")
    urls = [
        "ftp://127.0.0.1/x",
        (tmp_path / "secret").as_uri(),
        "data:text/plain,hello",
        "javascript:alert(1)",
        "gopher://127.0.0.1/",
        "mailto:a@b.example",
        "ws://127.0.0.1/",
        "blob:http://127.0.0.1/x",
        "view-source:http://127.0.0.1/",
    ]
    outcomes = await run(urls, tmp_path / "out")
    assert classes(outcomes) == ["url.scheme"] * len(urls)
    assert {each.attempts for each in outcomes} == {0}


async def test_u8_userinfo_goes_to_its_own_origin_only(tmp_path: Path) -> None:
    """A URL's user and password are sent as Basic to that origin, redirects within it too, and to no other."""
    async with ScriptedServer([GOOD]) as other:
        scripts = {
            "/away": [reply("302 Found", b"", f"Location: {other.url('/there')}")],
            "/near": [reply("302 Found", b"", "Location: /here")],
            "/here": [GOOD],
        }
        async with ScriptedServer(scripts) as server:
            urls = [server.url(path, "us%40er:p%C3%A4ss@127.0.0.1") for path in ("/away", "/near", "/here")]
            outcomes = await run([*urls, server.url("/here")], tmp_path / "out")
            sent = sorted(
                (head.split()[1].decode(), _header(head, b"authorization") or "") for head in server.requests
            )
        assert [_header(head, b"authorization") for head in other.requests] == [None]
    assert classes(outcomes) == ["ok"] * 4
    assert [path for path, _ in sent] == ["/away", "/here", "/here", "/here", "/near"]
    basic = {value for _, value in sent}
    assert len(basic) == 2
    assert base64.b64decode(max(basic).removeprefix("Basic ")) == "us@er:päss".encode()


async def test_u8_a_user_with_a_colon_is_refused(tmp_path: Path) -> None:
    """Basic could not say where the password begins (RFC 7617 2)."""
    async with ScriptedServer([GOOD]) as server:
        outcomes = await run([server.url("/", "us%3Aer:p@127.0.0.1"), server.url("/", "密:p@127.0.0.1")], tmp_path)
    assert classes(outcomes) == ["url.invalid", "ok"]
    assert "colon" in outcomes[0].message


async def test_u8_passwords_are_written_nowhere(tmp_path: Path) -> None:
    """However a row with a password ends, the password is in no file under the output folder."""
    async with ScriptedServer({"/ok": [GOOD], "/loop": [reply("302 Found", b"", "Location: ?")]}) as server:
        host = "user:s3cr3t@127.0.0.1"
        urls = [
            server.url("/ok", host),
            server.url("/ok", host),
            server.url("/missing", host),
            server.url("/loop", host),
            "http://user:s3cr3t@127.0.0.1:1/",
            "http://user:s3cr3t@h:99999/",
            "http://user:s3cr3t@a..b/",
            "ftp://user:s3cr3t@h/",
            "user:s3cr3t@h/",
        ]
        outcomes = await run(urls, tmp_path / "out")
    assert outcomes[0].url == server.url("/ok", "***@127.0.0.1")
    assert len(outcomes) == len(urls)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert found == []


async def test_u9_bad_rows_of_a_csv(tmp_path: Path) -> None:
    """Records with too few or too many cells, or an open quote, cost their rows; the others are fetched."""
    async with ScriptedServer([GOOD]) as server:
        lines = [
            "url,text",
            f"{server.url('/1')},a lake",
            server.url("/short"),
            f"{server.url('/long')},a,b",
            f'{server.url("/open")},"never closed',
            ",no URL",
            f"{server.url('/2')},a sea",
        ]
        (tmp_path / "list.csv").write_text("\n".join(lines))
        outcomes = await run(tmp_path / "list.csv", tmp_path / "out", SourceConfig(caption_col="text"))
        assert server.asked == {"/1": 1, "/2": 1}
    assert classes(outcomes) == ["ok", *["input.invalid"] * 4, "ok"]
    assert [each.line for each in outcomes] == [2, 3, 4, 5, 6, 7]


async def test_u9_bad_rows_of_a_jsonl(tmp_path: Path) -> None:
    """Lines that are no JSON, no object, or have no URL cost their rows; the others are fetched."""
    async with ScriptedServer([GOOD]) as server:
        lines = [
            json.dumps({"url": server.url("/1")}),
            '{"url": "http://h/',
            "[1, 2]",
            '{"link": "http://h/"}',
            '{"url": 7}',
            json.dumps({"url": server.url("/2"), "more": [1]}),
        ]
        (tmp_path / "list.jsonl").write_text("\n".join(lines))
        outcomes = await run(tmp_path / "list.jsonl", tmp_path / "out")
        assert server.asked == {"/1": 1, "/2": 1}
    assert classes(outcomes) == ["ok", *["input.invalid"] * 4, "ok"]


async def test_u9_bad_rows_of_a_parquet(tmp_path: Path) -> None:
    """Rows without a URL, or with one that is no text, cost themselves; the others are fetched."""
    async with ScriptedServer([GOOD]) as server:
        cells = [server.url("/1").encode(), None, b"", b"\xff\xfe", server.url("/2").encode()]
        pq.write_table(pa.table({"url": pa.array(cells, pa.binary())}), tmp_path / "list.parquet")
        outcomes = await run(tmp_path / "list.parquet", tmp_path / "out")
        assert server.asked == {"/1": 1, "/2": 1}
    assert classes(outcomes) == ["ok", *["input.invalid"] * 3, "ok"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", b"link,text\nhttp://h/,x\n"),
        ("list.jsonl", b'{"link": "http://h/"}\n'),
        ("list.parquet", b""),
    ],
)
async def test_u9_a_missing_column_is_refused_at_once(tmp_path: Path, name: str, content: bytes) -> None:
    """A list without the URL's column is refused with the columns it has, before the output folder is made."""
    if name.endswith("parquet"):
        await asyncio.to_thread(pq.write_table, pa.table({"link": ["http://h/"]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} has no column url; its columns are: link"):
        await run(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
