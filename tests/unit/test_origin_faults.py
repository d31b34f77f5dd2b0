"""The origin's faults as pure functions: what they do to a reply, and what they refuse."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import brotli
import pytest
from backports import zstd

from scraper.origin import faults
from scraper.origin.encodings import gzip_bomb
from scraper.origin.reply import Ending, Reply

BODY = bytes(range(256)) * 40
DOCS = Path(__file__).parents[2] / "docs" / "origin.md"


def bent(query: str, count: int = 1) -> Reply:
    """A picture's reply after the faults of a query."""
    reply = Reply(BODY, headers={"Content-Type": "image/jpeg", "ETag": '"1"'})
    return faults.bend(reply, faults.Visit("/img/photo/7.jpg", faults.parse(query), count, 0.5))


def test_docs_list_every_fault() -> None:
    """The table in docs/origin.md has each fault, with the value it takes, in the order they apply."""
    text = DOCS.read_text(encoding="utf-8").partition("## Faults")[2].partition("\n## ")[0]
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert documented == [f"{name}={f.takes}" if f.takes else name for name, f in faults.FAULTS.items()]


def test_unknown_fault_names_the_known_ones() -> None:
    """A misspelt fault is refused, and the message says what there is."""
    with pytest.raises(faults.BadFault, match=r"'statsu'.*cut_chunked.*status"):
        faults.parse("statsu=503")


@pytest.mark.parametrize(
    "query",
    [
        "status=99",
        "status=ok",
        "delay=soon",
        "delay=-1s",
        "delay=2h",
        "cut=1",
        "cut=nan",
        "truncate=x",
        "redirect=many",
        "flaky=-1",
        "encoding=rot13",
        "encoding_lie=a%0Ab",
        "type=%0D%0AX-Evil:1",
        "redirect_to=%0D%0AX-Evil:1",
        "bomb=2G",
        "header_bytes=x",
        "empty=no",
    ],
)
def test_bad_values_are_refused(query: str) -> None:
    """A value of the wrong form is a sentence that names the fault."""
    with pytest.raises(faults.BadFault, match=query.partition("=")[0]):
        bent(query)


def test_what_the_answer_is() -> None:
    """Faults of content change status and body, and no ETag vouches for what was not asked for."""
    assert bent("status=503").status == 503
    assert b"<h1>" in bent("html").body
    assert bent("empty").body == b""
    assert len(bent("garbage=1k").body) == 1024
    assert bent("garbage").body == bent("garbage").body
    assert bent("truncate=0.25").body == BODY[: len(BODY) // 4]
    for query in ("status=404", "html", "empty", "garbage", "truncate=0.5"):
        assert "ETag" not in bent(query).headers


def test_flaky_fails_and_then_does_not() -> None:
    """The first n visits fail, with 500 or the status named; the next one is served."""
    assert [bent("flaky=2", count).status for count in (1, 2, 3)] == [500, 500, 200]
    assert [bent("flaky=1:429", count).status for count in (1, 2)] == [429, 200]
    assert bent("flaky=2", 3).body == BODY


def test_redirects_count_down() -> None:
    """Each hop leads to the next, keeps the other faults for the end, and waits as told."""
    first = bent("redirect=2:301&status=404&delay=1s")
    assert (first.status, first.wait_s) == (301, 1.0)
    assert first.headers["Location"] == "/img/photo/7.jpg?redirect=1%3A301&status=404&delay=1s"
    assert bent("redirect=1").headers["Location"] == "/img/photo/7.jpg?redirect=0"
    assert bent("redirect=0&status=404").status == 404
    assert bent("redirect=loop").headers["Location"] == "/img/photo/7.jpg?redirect=loop"
    assert bent("redirect_to=http://127.0.0.1:1/x").headers["Location"] == "http://127.0.0.1:1/x"
    assert bent("redirect=2&redirect_to=/x").headers["Location"].startswith("/img/photo/7.jpg?redirect=1")


@pytest.mark.parametrize(
    ("name", "decode"),
    [
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("br", brotli.decompress),
        ("zstd", zstd.decompress),
    ],
)
def test_encodings_are_real(name: str, decode: object) -> None:
    """What is said to be encoded decodes to what was encoded, and a lie does not."""
    assert callable(decode)
    reply = bent(f"encoding={name}")
    assert reply.headers["Content-Encoding"] == name
    assert decode(reply.body) == BODY
    lie = bent(f"encoding_lie={name}")
    assert (lie.headers["Content-Encoding"], lie.body) == (name, BODY)
    assert bent(f"encoding={name}&encoding_cut=0.5").body == reply.body[: len(reply.body) // 2]


def test_encodings_chain() -> None:
    """Several encodings lie over each other, the last one outermost."""
    reply = bent("encoding=gzip,br")
    assert reply.headers["Content-Encoding"] == "gzip, br"
    assert gzip.decompress(brotli.decompress(reply.body)) == BODY


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 5])
def test_bombs_are_valid_gzip(size: int) -> None:
    """A bomb is a whole gzip member of exactly its size, and small on the wire."""
    packed = gzip_bomb(size)
    assert gzip.decompress(packed) == bytes(size)
    assert len(packed) < 100 + size // 500


def test_headers() -> None:
    """Faults of headers leave the body alone."""
    assert bent("type=text/html").headers["Content-Type"] == "text/html"
    assert bent("retry_after=2").headers["Retry-After"] == "2"
    assert len(bent("header_bytes=100000").headers["X-Padding"]) == 100_000
    assert bent("type=text/html&retry_after=2&header_bytes=9&tag=x").body == BODY


def test_the_wire() -> None:
    """Faults of the wire are orders to the server, and times add up."""
    assert bent("delay=200ms&jitter=1s").wait_s == pytest.approx(0.7)
    assert bent("drip=100").drip == 100
    assert (bent("stall=30s").stop_at, bent("stall=30s").stall_s) == (0.5, 30.0)
    assert (bent("cut=0.25").stop_at, bent("cut=0.25").ending) == (0.25, Ending.CLOSE)
    assert bent("cut_chunked=0.5").chunked
    assert bent("reset").ending is Ending.RESET
    assert not bent("close").has_headers
    assert not bent("hang").has_headers
    assert bent("status=503&delay=1s").is_plain
