"""Row C5 of docs/faults.md: sitemaps from strangers, through the whole product."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pipelines import files
from scraper import RunConfig, UsageError, arun
from scraper.config import FetchConfig, PermitConfig, PoolConfig, RetryConfig, SourceConfig
from scraper.errors import RunStopped
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.sources import open_source
from scraper.testing.server import LOOPBACK, ScriptedServer, reply

GOOD = reply("200 OK", b"good")
MIB = 1024 * 1024


def entries(*urls: str, of: str = "url") -> bytes:
    """The entries of these URLs."""
    return "".join(f"<{of}><loc>{url}</loc></{of}>\n" for url in urls).encode()


def sitemap(*urls: str) -> bytes:
    """A sitemap of these URLs."""
    return b"<urlset>\n" + entries(*urls) + b"</urlset>\n"


async def run(inputs: str | Path, out: Path, source: SourceConfig | None = None) -> list[Outcome]:
    """Run the whole product over lists; the outcomes by row, also where the run stopped on the way."""
    config = RunConfig(
        FetchConfig("test", allow_net=(LOOPBACK,)),
        source=source or SourceConfig(),
        permits=PermitConfig(concurrency=8),
        retry=RetryConfig(retries=0, wait_s=0.0),
        pool=PoolConfig(workers=1),
    )
    await arun(files.build(), inputs=inputs, out=out, config=config)
    return outcomes(out)


def outcomes(out: Path) -> list[Outcome]:
    """What the ledger holds."""
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        return [recorded.outcome for recorded in reader.rows()]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
DEFINED = {
    "billion laughs": f'[<!ENTITY l0 "http://h/">{LAUGHS}]',
    "quadratic": f'[<!ENTITY l11 "{"x" * 100_000}">]',
    "itself": '[<!ENTITY l11 "&l11;">]',
    "file": '[<!ENTITY l11 SYSTEM "SECRET">]',
    "web": '[<!ENTITY l11 SYSTEM "SERVER">]',
    "parameter": '[<!ENTITY % p SYSTEM "SERVER"> %p; <!ENTITY l11 "x">]',
    "parameter inside": "[<!ENTITY % p \"<!ENTITY l11 SYSTEM 'SERVER'>\"> %p;]",
    "external": 'SYSTEM "SERVER"',
    "public": 'PUBLIC "-//x//y" "SERVER"',
    "default of an attribute": '[<!ATTLIST loc x CDATA "y">]',
    "nothing": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("defined", DEFINED.values(), ids=DEFINED)
async def test_c5_nothing_is_defined_in_a_sitemap(tmp_path: Path, defined: str) -> None:
    """A DOCTYPE is refused before anything in it is looked at: nothing is expanded, opened or asked for."""
    (tmp_path / "secret").write_text("http://secret/")
    async with ScriptedServer([GOOD]) as server:
        defined = defined.replace("SERVER", server.url("/dtd")).replace("SECRET", (tmp_path / "secret").as_uri())
        data = f"<!DOCTYPE urlset {defined}>\n<urlset><url><loc>{server.url('/&l11;')}</loc></url></urlset>"
        (tmp_path / "sitemap.xml").write_text(data)
        with pytest.raises(
            UsageError, match=r"sitemap\.xml has a DOCTYPE \(line 1\), which .*: take it out if you"
        ):
            await run(tmp_path / "sitemap.xml", tmp_path / "out")
        assert server.asked == {}
    assert not (tmp_path / "out").exists()


def test_c5_a_late_doctype_is_no_xml() -> None:
    """Behind the outermost element's beginning there can be none, and an entity that nobody defined is no text."""
    for late in ('<!DOCTYPE x [<!ENTITY e "x">]>', "<url><loc>&e;</loc></url>"):
        with pytest.raises(UsageError, match="cannot be read as XML"):
            list(_read(b"<urlset>" + late.encode() + b"</urlset>"))


def _read(data: bytes) -> list[str]:
    return [row.url for row in open_source(["-"], SourceConfig(input_format="sitemap"), io.BytesIO(data))]


@pytest.mark.slow
def test_c5_gzip_in_gzip_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are no way around it: a bomb of entries ends as well, and so does one that unpacks to nothing."""
    monkeypatch.setattr("scraper.sources.sitemap.MAX_NESTED", 4 * MIB)
    bomb = gzip.compress(squeezed(entries("http://h/"), 8, b"<urlset>"))
    with pytest.raises(RunStopped, match="it is more than 4,194,304 bytes"):
        _read(bomb)
    nothing = zlib.compressobj(wbits=31)
    empty = nothing.compress(b"<urlset>") + nothing.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * MIB
    with pytest.raises(RunStopped, match="it is more than 4,194,304 bytes"):
        _read(gzip.compress(empty))


PEAK = """
import json, resource, sys
from scraper.config import SourceConfig
from scraper.sources import open_source

def read(path):
    try:
        source = open_source([path], SourceConfig(input_format="sitemap"))
        return sum(1 for _ in source), ""
    except Exception as error:
        return -1, str(error)

highest = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
read(sys.argv[1])
before = highest()
ended = [read(path) for path in sys.argv[2:]]
print(json.dumps([highest() - before, ended]))
"""


def squeezed(filler: bytes, mib: int, head: bytes, tail: bytes = b"") -> bytes:
    """So many MiB of the same as gzip."""
    packer = zlib.compressobj(level=1, wbits=31)
    block = filler * (MIB // len(filler))
    return (
        packer.compress(head)
        + b"".join(packer.compress(block) for _ in range(mib))
        + packer.compress(tail)
        + packer.flush()
    )


@pytest.mark.slow
def test_c5_bombs_take_no_memory(tmp_path: Path) -> None:
    """Whatever is swollen, once or twice compressed, memory stays flat and the list is refused early."""
    head = sitemap("http://h/").removesuffix(b"</urlset>\n")
    bombs = {
        "blanks": squeezed(b" ", 64, head),
        "blanks before": squeezed(b" ", 64, b"<!-- x -->"),
        "comment": squeezed(b"x", 64, head + b"<!--"),
        "attribute": squeezed(b"x", 64, head + b"<url a='"),
        "text": squeezed(b"x", 64, head + b"<url><loc>"),
        "no end of lastmods": squeezed(b"<lastmod>x</lastmod>", 64, head + b"<url>"),
        "no end of locs": squeezed(b"<loc>x</loc>", 64, head + b"<url>"),
        "depth": squeezed(b"<x>", 64, head),
        "name": squeezed(b"x", 64, head + b"<"),
    }
    bombs |= {f"{name} twice": gzip.compress(bomb) for name, bomb in bombs.items()}
    assert max(len(bomb) for bomb in bombs.values()) < MIB
    (tmp_path / "warm.xml.gz").write_bytes(gzip.compress(gzip.compress(sitemap("http://h/"))))
    for name, bomb in bombs.items():
        (tmp_path / f"{name}.xml.gz").write_bytes(bomb)
    paths = [str(tmp_path / f"{name}.xml.gz") for name in ("warm", *bombs)]
    done = subprocess.run([sys.executable, "-c", PEAK, *paths], stdout=subprocess.PIPE, check=True, timeout=120.0)
    growth, ended = json.loads(done.stdout)
    for (count, message), name in zip(ended, bombs, strict=True):
        assert count == -1, name
        assert "without a whole entry" in message or "deep inside each other" in message, name
    assert growth < 32 * MIB


@pytest.mark.slow
async def test_c5_sitemaps_as_servers_send_them(tmp_path: Path) -> None:
    """An index is fetched, then what it names, gzipped once or twice; then the pages, each asked for once."""
    scripts = {f"/{n}.html": [GOOD] for n in range(6)}
    async with ScriptedServer(scripts) as server:
        pages = [server.url(f"/{n}.html") for n in range(6)]
        once = gzip.compress(sitemap(*pages[2:4]))
        bodies = {"/a.xml": sitemap(*pages[:2]), "/b.xml.gz": once, "/c": gzip.compress(sitemap(*pages[4:]))}
        scripts |= {path: [reply("200 OK", body)] for path, body in bodies.items()}
        scripts["/b.xml.gz"] = [reply("200 OK", gzip.compress(once))]  # of which the server says nothing
        index = entries(*(server.url(path) for path in bodies), of="sitemap")
        (tmp_path / "index.xml").write_bytes(b"<sitemapindex>" + index + b"</sitemapindex>")
        maps = await run(tmp_path / "index.xml", tmp_path / "maps")
        assert [each.path for each in maps] == [f"00000/00000000{n}" for n in ("0.xml", "1.gz", "2.gz")]
        ended = await run(f"{tmp_path}/maps/0*/*", tmp_path / "pages", SourceConfig(input_format="sitemap"))
        assert [(each.url, each.class_) for each in ended] == [(page, "ok") for page in pages]
        assert set(server.asked.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True], ids=["bare ampersand", "cut"])
async def test_c5_what_stands_before_the_damage_is_fetched(tmp_path: Path, cut: bool) -> None:
    """Broken XML stops the run with its line, and rows before it are done; half a URL is not asked for."""
    async with ScriptedServer([GOOD]) as server:
        data = sitemap(*(server.url(f"/{n}") for n in range(5)), server.url("/?a&b"))
        (tmp_path / "sitemap.xml").write_bytes(data.partition(b"&")[0] if cut else data)
        with pytest.raises(
            RunStopped, match=r"sitemap\.xml cannot be read as XML \(.*: line 7, column .*the rest"
        ):
            await run(tmp_path / "sitemap.xml", tmp_path / "out")
        assert sorted(server.asked) == [f"/{n}" for n in range(5)]
    assert [each.class_ for each in outcomes(tmp_path / "out")] == ["ok"] * 5


async def test_c5_pages_in_place_of_sitemaps_are_told(tmp_path: Path) -> None:
    """HTML among the sitemaps that were fetched is refused by name, before anything is asked."""
    (tmp_path / "1.xml").write_bytes(sitemap("http://127.0.0.1:1/"))
    (tmp_path / "2.html").write_bytes(b"<!DOCTYPE html><title>Not found</title>")
    with pytest.raises(UsageError, match=r"2\.html is an HTML page, not a sitemap"):
        await run(f"{tmp_path}/*", tmp_path / "out", SourceConfig(input_format="sitemap"))
    assert not (tmp_path / "out").exists()
