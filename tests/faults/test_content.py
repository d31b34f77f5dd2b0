"""Group C of docs/faults.md: what bodies hold that they should not, through the whole product."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import brotli
import pytest
from PIL import Image

from pipelines import files, images
from scraper import Pipeline, RunConfig, arun
from scraper.config import FetchConfig, HealthConfig, PoolConfig, RetryConfig
from scraper.decoding import zstd
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.testing.peak import peak_of
from scraper.testing.server import CLOSE, LOOPBACK, Script, ScriptedServer, reply

pytestmark = pytest.mark.slow  # whole runs, and processes of their own

MIB = 1024 * 1024
FETCH = FetchConfig("test", max_bytes=12 * MIB, allow_net=(LOOPBACK,))
RUN = RunConfig(
    FETCH, retry=RetryConfig(retries=1, wait_s=0.0), pool=PoolConfig(workers=1), health=HealthConfig(wait_s=0)
)


def gzip_bomb(mebibytes: int) -> bytes:
    """A gzip stream of so many MiB of zeros, made as fast as it is read: a thousandth of that."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + again * (mebibytes - 1)


def brotli_bomb() -> bytes:
    """16 MiB in some dozens of bytes."""
    return brotli.compress(bytes(16 * MIB))


def zstd_bomb() -> bytes:
    """16 MiB in half a kilobyte."""
    return zstd.compress(bytes(16 * MIB))


def picture(format_: str) -> bytes:
    """A small picture in that format."""
    held = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(held, format_)
    return held.getvalue()


async def outcomes_of(
    scripts: dict[str, Script], out: Path, pipeline: Pipeline | None = None
) -> tuple[dict[str, Outcome], dict[str, bytes], dict[str, int]]:
    """Run over every path; outcomes by path, files by path, requests by path."""
    async with ScriptedServer(scripts) as server:
        await arun(pipeline or files.build(), [server.url(path) for path in scripts], out=out, config=RUN)
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        ended = [recorded.outcome for recorded in reader.rows()]
    found = {
        str(each.relative_to(out)): each.read_bytes() for each in out.rglob("0000*/*") if each.suffix != ".json"
    }
    assert sorted(found) == sorted(each.path for each in ended if each.path)
    return dict(zip(scripts, ended, strict=True)), found, dict(server.asked)


BOMBS = {"gzip": gzip_bomb, "br": brotli_bomb, "zstd": zstd_bomb}


def test_c1_ten_gigabytes_of_gzip_take_no_memory() -> None:
    """10 MB that decompress to 10 GB end as a bomb at the cap, and memory stays within the cap and a little."""
    script = [reply("200 OK", gzip_bomb(10_240), "Content-Encoding: gzip")]
    peak = peak_of({"/bomb": script}, 1, FETCH)
    assert peak.ended == {"body.bomb": 1}
    assert peak.growth < 64 * MIB


def test_c2_bombs_in_one_chunk_take_no_memory() -> None:
    """Bombs that arrive whole in one piece, in any coding and in several at once, are cut at the cap as well."""
    scripts: dict[str, Script] = {
        "/br": [reply("200 OK", brotli_bomb(), "Content-Encoding: br")],
        "/zstd": [reply("200 OK", zstd_bomb(), "Content-Encoding: zstd")],
        "/gzip": [reply("200 OK", gzip_bomb(16), "Content-Encoding: gzip")],
        "/twice": [reply("200 OK", brotli.compress(gzip_bomb(10_240)), "Content-Encoding: gzip, br")],
    }
    config = FetchConfig("test", max_bytes=2 * MIB, allow_net=(LOOPBACK,))
    peak = peak_of(scripts, 4, config)
    assert peak.ended == {"body.bomb": 16}
    assert peak.growth < 64 * MIB


async def test_c2_bombs_leave_no_file(tmp_path: Path) -> None:
    """A bomb is asked for once and leaves nothing behind; its neighbours are fetched."""
    scripts: dict[str, Script] = {
        f"/{coding}": [reply("200 OK", make(16) if coding == "gzip" else make(), f"Content-Encoding: {coding}")]  # type: ignore[call-arg]
        for coding, make in BOMBS.items()
    }
    scripts["/good"] = [reply("200 OK", b"good")]
    ended, found, asked = await outcomes_of(scripts, tmp_path / "out")
    assert [each.class_ for each in ended.values()] == ["body.bomb"] * 3 + ["ok"]
    assert list(found.values()) == [b"good"]
    assert set(asked.values()) == {1}


async def test_c3_nothing_is_no_body(tmp_path: Path) -> None:
    """A 200 without a byte is body.empty, however it is framed or coded, and leaves no file."""
    scripts: dict[str, Script] = {
        "/length": [reply("200 OK")],
        "/chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        "/until-closed": [b"HTTP/1.1 200 OK\r\n\r\n", CLOSE],
        "/claims-gzip": [reply("200 OK", b"", "Content-Encoding: gzip")],
        "/gzip-of-nothing": [reply("200 OK", zlib.compress(b"", wbits=31), "Content-Encoding: gzip")],
    }
    ended, found, asked = await outcomes_of(scripts, tmp_path / "out")
    assert {each.class_ for each in ended.values()} == {"body.empty"}
    assert found == {}
    attempts = {path: each.attempts for path, each in ended.items()}
    assert all(asked[path] >= attempts[path] for path in scripts)


async def test_c4_content_decides_not_its_label(tmp_path: Path) -> None:
    """Whatever type and suffix a server gives, the file is named by its magic number."""
    bodies = {
        "/a.png": (picture("JPEG"), "image/png", "jpg"),
        "/b.jpg": (picture("PNG"), "text/html", "png"),
        "/c.html": (picture("WEBP"), "application/octet-stream", "webp"),
        "/d.jpg": (b"<!DOCTYPE html><p>Sorry", "image/jpeg", "html"),
        "/e.exe": (b"%PDF-1.7\n", "image/gif", "pdf"),
    }
    scripts: dict[str, Script] = {
        path: [reply("200 OK", body, f"Content-Type: {label}")] for path, (body, label, _) in bodies.items()
    }
    ended, found, _ = await outcomes_of(scripts, tmp_path / "out")
    assert {path: str(each.path).rpartition(".")[2] for path, each in ended.items()} == {
        path: extension for path, (_, _, extension) in bodies.items()
    }
    assert sorted(found.values()) == sorted(body for body, _, _ in bodies.values())


async def test_c4_what_is_no_picture_is_not_made_one(tmp_path: Path) -> None:
    """In the images pipeline, a label makes no picture of a page and takes nothing from a picture."""
    scripts: dict[str, Script] = {
        "/page.jpg": [reply("200 OK", b"<!DOCTYPE html><p>Sorry", "Content-Type: image/jpeg")],
        "/picture.html": [reply("200 OK", picture("PNG"), "Content-Type: text/html")],
    }
    ended, found, _ = await outcomes_of(scripts, tmp_path / "out", images.build())
    assert [each.class_ for each in ended.values()] == ["image.not_image", "ok"]
    assert len(found) == 1
