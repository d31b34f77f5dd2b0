"""Group H of docs/faults.md: what servers do wrong in HTTP, through the whole product.

One run asks for every scripted fault at once (``ran``); each test then looks at its own rows: the class in the
ledger, the requests that the server counted, the files that are there. What needs a run of its own has one.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import brotli
import pytest
import uvloop

from pipelines import files, images
from scraper import Pipeline, RunConfig, arun
from scraper.answers import Fetched, NotModified
from scraper.arena import Arena
from scraper.config import FetchConfig, HealthConfig, PermitConfig, PoolConfig, RetryConfig
from scraper.decoding import Decoder, zstd
from scraper.fetch import Fetcher
from scraper.ledger import LedgerReader
from scraper.records import Held, Outcome, Request
from scraper.testing.engine import at_once
from scraper.testing.peak import peak_of
from scraper.testing.server import (
    CLOSE,
    HANG,
    LOOPBACK,
    RESET,
    Drip,
    Forever,
    Script,
    ScriptedServer,
    Turns,
    reply,
)

pytestmark = pytest.mark.slow  # all of them look at whole runs

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"
TEXT = random.Random(7).randbytes(3_000).hex().encode()

Cases = Mapping[str, tuple[Script, str, int]]
"""Name → what is served, the class it must end with, and how often it must have been asked for."""

WITHIN_S = 25.0
"""However broken the product is, a run ends; the longest takes 2 s."""

ONCE, TWICE = 1, 2
"""Requests: what is never retried, and what is, with one retry."""


def config(**changes: Any) -> RunConfig:
    """Limits that a busy machine keeps; one retry, at once; no pauses, neither for a network nor for a host."""
    limits = {"timeout_s": 60.0, "connect_timeout_s": 30.0, "header_timeout_s": 30.0, "stall_timeout_s": 30.0}
    return RunConfig(
        FetchConfig("test", allow_net=(LOOPBACK,), **limits | {"max_bytes": 1_000_000} | changes),
        permits=PermitConfig(concurrency=200),
        politeness=replace(at_once(200), host_failures=1_000),
        retry=RetryConfig(retries=1, wait_s=0.0, cap_s=5.0),
        pool=PoolConfig(workers=1),
        health=HealthConfig(wait_s=0),
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run has left: outcomes by path, requests by path, and files by path."""

    outcomes: Mapping[str, Outcome]
    asked: Counter[str]
    found: Mapping[str, bytes]


async def ran_over(
    server: ScriptedServer, paths: list[str], out: Path, run: RunConfig, pipeline: Pipeline | None = None
) -> Ran:
    """Run the whole product over these paths of ``server``, and check what holds for every run."""
    async with asyncio.timeout(WITHIN_S):
        report = await arun(pipeline or files.build(), [server.url(path) for path in paths], out=out, config=run)
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(paths)))  # every row once
    assert report.ok + report.failed == len(paths)
    found = {
        str(each.relative_to(out)): each.read_bytes()
        for each in out.rglob("*")
        if each.is_file() and ".scraper" not in each.parts and each.name != "report.html"
    }
    # Every file belongs to a row that is ok, and holds what that row says.
    assert sorted(found) == sorted(each.path for each in outcomes if each.path)
    assert all(len(found[each.path]) == each.bytes for each in outcomes if each.path)
    assert all((each.class_ == "ok") == bool(each.path) for each in outcomes)
    return Ran(dict(zip(paths, outcomes, strict=True)), server.asked, found)


def path_of(name: str) -> str:
    """Where a case is served."""
    return "/" + "".join(letter if letter.isalnum() else f"-{ord(letter):x}-" for letter in name)


def check(ran: Ran, cases: Cases) -> None:
    """Each case has ended with its class, after as many requests as it should."""
    seen = {
        name: (ran.outcomes[path_of(name)].class_, ran.asked[path_of(name)], ran.outcomes[path_of(name)].attempts)
        for name in cases
    }
    assert seen == {name: (class_, asked, asked) for name, (_, class_, asked) in cases.items()}


def body(ran: Ran, name: str) -> bytes:
    """The file that a case has left."""
    path = ran.outcomes[path_of(name)].path
    assert path is not None
    return ran.found[path]


def length(*values: bytes) -> Script:
    """A response with these Content-Lengths, and five bytes."""
    return [OK + b"".join(b"Content-Length: " + value + b"\r\n" for value in values) + b"\r\nhello", CLOSE]


def header(line: bytes) -> Script:
    """A good response but for one header line."""
    return [OK + line + b"\r\n" + HELLO, CLOSE]


def coded(coding: str, packed: bytes) -> Script:
    """A response with a Content-Encoding, framed right."""
    return [reply("200 OK", packed, f"Content-Encoding: {coding}")]


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header and checksum, as some servers send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def many_gzip(times: int) -> bytes:
    """Packed so many times over."""
    packed = TEXT
    for _ in range(times):
        packed = gzip.compress(packed)
    return packed


H1: Cases = {
    "h1 length": ([OK + b"Content-Length: 9\r\n\r\nhalf", CLOSE], "body.truncated", TWICE),
    "h1 nothing": ([OK + b"Content-Length: 9\r\n\r\n", CLOSE], "body.truncated", TWICE),
    "h1 reset": ([OK + b"Content-Length: 9\r\n\r\nhalf", RESET], "connect.reset", TWICE),
}
H2: Cases = {
    "h2 between": ([CHUNKED + b"4\r\nhalf\r\n", CLOSE], "body.truncated", TWICE),
    "h2 within": ([CHUNKED + b"9\r\nhalf", CLOSE], "body.truncated", TWICE),
    "h2 end of trailers": ([CHUNKED + b"4\r\nhalf\r\n0\r\n", CLOSE], "body.truncated", TWICE),
}
H3: Cases = {
    f"h3 {name}": ([CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n", CLOSE], "protocol.malformed", ONCE)
    for name, size in {
        "letters": b"ZZ",
        "negative": b"-5",
        "prefix": b"0x5",
        "overflow": b"10000000000000005",
        "none": b"",
        "space before": b" 5",
        "too short": b"4",
        "bare CR": b"5;\rx",
    }.items()
}
H4: Cases = {
    **{
        f"h4 {value!r}": (length(value), "protocol.malformed", ONCE)
        for value in (
            b"-5",
            b"+5",
            b"5, 5",
            b"5, 6",
            b"0x5",
            b"9" * 30,
            b"",
            b"5 5",
            b"5;",
            b"5.0",
            b"5e0",
            b"\xb2",
        )
    },
    "h4 twice the same": (length(b"5", b"5"), "protocol.malformed", ONCE),
    "h4 twice": (length(b"5", b"6"), "protocol.malformed", ONCE),
    "h4 huge": (length(b"9223372036854775808"), "body.too_large", ONCE),
}
H4_FINE: Cases = {
    "h4 zeros": (length(b"005"), "ok", ONCE),
    "h4 blanks": (length(b" \t5 \t"), "ok", ONCE),
}
H5: Cases = {
    "h5 length first": ([OK + b"Content-Length: 3\r\n" + CHUNKED[17:] + b"0\r\n\r\n"], "protocol.malformed", ONCE),
    "h5 chunked first": (
        [CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
        "protocol.malformed",
        ONCE,
    ),
    **{
        f"h5 {coding}": (
            [OK + b"Transfer-Encoding: %s\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % coding.encode(), CLOSE],
            "protocol.malformed",
            ONCE,
        )
        for coding in ("gzip, chunked", "chunked, gzip", "xchunked", "\x0bchunked")
    },
}
H6: Cases = {
    "h6 line": ([OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n", HANG], "protocol.header_too_large", ONCE),
    "h6 lines": ([OK + b"X: 1\r\n" * 100_000, HANG], "protocol.header_too_large", ONCE),
    "h6 long lines": (
        [OK + (b"X: " + b"x" * 30_000 + b"\r\n") * 200, HANG],
        "protocol.header_too_large",
        ONCE,
    ),
    "h6 trailers": ([CHUNKED + b"0\r\n", Forever(b"X: 1\r\n" * 1_000)], "protocol.header_too_large", ONCE),
}
H7: Cases = {
    f"h7 {line!r}": (header(line), "protocol.malformed", ONCE)
    for line in (
        b"X\x00Y: a",
        b"X: a\x00b",
        b"X: a\rb",
        b"X: a\rContent-Length: 1",
        b"nonsense",
        b"non sense",
        b": a",
        b"X : a",
        b"X\tY: a",
        b"X(Y): a",
        b"\xc3\x89: a",
    )
}
H6_FINE: Cases = {
    "h6 chunks of a byte": (
        [CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in TEXT * 4) + b"0\r\n\r\n"],
        "ok",
        ONCE,
    ),
    "h6 few trailers": ([CHUNKED + b"5;a=b\r\nhello\r\n0\r\nDigest: x\r\n\r\n"], "ok", ONCE),
    "h6 a large header": (header(b"Content-Security-Policy: " + b"x" * 30_000), "ok", ONCE),
}
H7_FINE: Cases = {
    "h7 folded": (header(b"X: a\r\n b"), "ok", ONCE),  # RFC 9112 5.2
    "h7 bare LF": ([b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"], "ok", ONCE),  # RFC 9112 2.2
    "h7 latin-1": (header(b"X: caf\xe9"), "ok", ONCE),
    "h7 length before a blank": ([OK + b"Content-Length : 5\r\n\r\nhello"], "ok", ONCE),  # RFC 9112 5.1
}
H8: Cases = {
    "h8 none": ([b"<html>hello</html>", CLOSE], "protocol.malformed", ONCE),
    **{
        f"h8 {line}": ([line.encode() + b"\r\n" + HELLO, CLOSE], "protocol.malformed", ONCE)
        for line in (
            *("HTTP/0.9 200 OK", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200 OK", "HTTP/1.10 200 OK"),
            *("http/1.1 200 OK", "ICY 200 OK", "RTSP/1.0 200 OK", "ICE/1.0 200 OK", "HTTP/1.1", "HTTP/1.1  OK"),
            *(f"HTTP/1.1 {status} OK" for status in ("9999", "-1", "99", "099", "000", "1000", "0200", "2x0")),
        )
    },
    "h8 above": ([b"HTTP/1.1 999 OK\r\n" + HELLO], "http.999", ONCE),
}
H8_FINE: Cases = {
    "h8 1.0": ([b"HTTP/1.0 200 OK\r\n" + HELLO, CLOSE], "ok", ONCE),
    "h8 no reason": ([b"HTTP/1.1 200\r\n" + HELLO], "ok", ONCE),
    "h8 blank lines first": ([b"\r\n\r\n" + OK + HELLO], "ok", ONCE),
}
H9: Cases = {
    "h9 flood": ([Forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)], "protocol.header_too_large", ONCE),
    "h9 closed": ([b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE], "connect.reset", TWICE),
    "h9 switched": ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "http.101", ONCE),
    "h9 hints": ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5 + OK + HELLO], "ok", ONCE),
}
H11: Cases = {
    "h11 blank": ([reply("302 Found", b"", "Location:  ")], "protocol.malformed", ONCE),
    "h11 none": ([reply("302 Found")], "protocol.malformed", ONCE),
    "h11 two": ([reply("302 Found", b"", "Location: /a", "Location: /b")], "protocol.malformed", ONCE),
    "h11 circle": ([reply("302 Found", b"", "Location: ?")], "redirect.loop", ONCE),
}
H15: Cases = {
    f"h15 {status}": ([reply(f"{status} No", b"nothing here")], f"http.{status}", ONCE)
    for status in (400, 401, 403, 404, 410, 414, 451, 501)
}
H20: Cases = {
    f"h20 {coding}": (coded(coding, b"plain text, as it is"), "body.encoding", TWICE)
    for coding in ("gzip", "br", "zstd", "deflate")
}
PACKED = {
    "gzip": gzip.compress(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
    "deflate": zlib.compress(TEXT),
}
H21: Cases = {
    f"h21 {coding} less {cut}": (coded(coding, packed[:-cut]), "body.truncated", TWICE)
    for coding, packed in PACKED.items()
    for cut in (1, len(packed) // 2, len(packed) - 3)
}
H22: Cases = {
    "h22 members": (coded("gzip", gzip.compress(TEXT[:3_000]) + gzip.compress(TEXT[3_000:])), "ok", ONCE),
    "h22 frames": (coded("zstd", zstd.compress(TEXT[:3_000]) + zstd.compress(TEXT[3_000:])), "ok", ONCE),
    "h22 garbage": (coded("gzip", PACKED["gzip"] + b"\x00garbage"), "ok", ONCE),
    "h22 zeros": (coded("gzip", PACKED["gzip"] + bytes(512)), "ok", ONCE),
    "h22 raw deflate": (coded("deflate", raw_deflate(TEXT)), "ok", ONCE),
    "h22 x-gzip": (coded("x-gzip", PACKED["gzip"]), "ok", ONCE),
}
H22_BAD: Cases = {
    "h22 garbage after br": (coded("br", PACKED["br"] + b"garbage"), "body.encoding", TWICE),
    "h22 second member cut": (coded("gzip", PACKED["gzip"] + PACKED["gzip"][:-9]), "body.truncated", TWICE),
}
H23: Cases = {
    "h23 six": (coded(", ".join(["gzip"] * 6), many_gzip(6)), "body.encoding", TWICE),
    "h23 a thousand": (coded(", ".join(["gzip"] * 1_000), b"x"), "body.encoding", TWICE),
}
H23_FINE: Cases = {"h23 five": (coded(", ".join(["gzip"] * 5), many_gzip(5)), "ok", ONCE)}
H24: Cases = {
    f"h24 {coding}": (coded(coding, TEXT), "body.encoding", TWICE)
    for coding in ("none", "rot13", "compress", "utf-8")
}
H24_FINE: Cases = {"h24 identity": (coded("identity", TEXT), "ok", ONCE)}

ALL: Cases = {
    **H1 | H2 | H3 | H4 | H4_FINE | H5 | H6 | H6_FINE | H7 | H7_FINE | H8 | H8_FINE | H9 | H11 | H15,  # type: ignore[operator]
    **H20 | H21 | H22 | H22_BAD | H23 | H23_FINE | H24 | H24_FINE,  # type: ignore[operator]
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run over every case, on the loop that the product runs on."""

    async def main() -> Ran:
        async with ScriptedServer({path_of(name): script for name, (script, _, _) in ALL.items()}) as server:
            paths = [path_of(name) for name in ALL]
            return await ran_over(server, paths, tmp_path_factory.mktemp("http") / "out", config())

    with pytest.MonkeyPatch.context() as patch:
        # A connection that proves stale is replaced without counting as an attempt; here every request counts.
        patch.setattr("scraper.connector.KEEP_ALIVE_S", -1.0)
        return uvloop.run(main())


def test_h1_a_body_shorter_than_announced_is_no_body(ran: Ran) -> None:
    """A body that ends before its Content-Length is asked for again, and never written."""
    check(ran, H1)


def test_h2_chunks_without_the_last_are_no_body(ran: Ran) -> None:
    """A chunked body that is cut anywhere before its end is asked for again, and never written."""
    check(ran, H2)


def test_h3_chunk_sizes_that_are_none(ran: Ran) -> None:
    """A chunk size that is no hexadecimal number, or too large, or wrong, is refused at once."""
    check(ran, H3)


def test_h4_lengths_that_are_none(ran: Ran) -> None:
    """A Content-Length that is not one number said once is refused at once; leading zeros and blanks are fine."""
    check(ran, H4)
    check(ran, H4_FINE)
    assert body(ran, "h4 zeros") == body(ran, "h4 blanks") == b"hello"


def test_h5_two_framings_at_once(ran: Ran) -> None:
    """A length together with chunks, or a transfer coding that was never asked for, is refused at once."""
    check(ran, H5)


def test_h6_headers_without_end(ran: Ran) -> None:
    """Header and trailer floods are refused at once, by line, by count and in all; what is usual is read."""
    check(ran, H6)
    check(ran, H6_FINE)
    assert body(ran, "h6 chunks of a byte") == TEXT * 4


def test_h6_floods_take_no_memory() -> None:
    """Floods of headers, trailers, chunk extensions and interim responses at once leave memory flat."""
    floods: dict[str, Script] = {
        "/line": [OK + b"X: ", Forever(b"x" * 8_192)],
        "/lines": [OK, Forever(b"X: 1\r\n" * 1_000)],
        "/long-lines": [OK, Forever(b"X: " + b"x" * 30_000 + b"\r\n")],
        "/trailers": [CHUNKED + b"4\r\ngood\r\n0\r\n", Forever(b"X: 1\r\n" * 1_000)],
        "/long-trailers": [CHUNKED + b"4\r\ngood\r\n0\r\n", Forever(b"X: " + b"x" * 30_000 + b"\r\n")],
        "/extension": [CHUNKED + b"4;", Forever(b"x" * 8_192)],
        "/interim": [Forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)],
        "/hints": [Forever(b"HTTP/1.1 103 Hints\r\n" + b"Link: </a>\r\n" * 200 + b"\r\n")],
    }
    limits = config(timeout_s=15.0, header_timeout_s=10.0)  # were all caps gone, a flood would last as long
    peak = peak_of(floods, 4, limits.fetch)
    assert peak.ended == {"protocol.header_too_large": 4 * len(floods)}
    assert peak.growth < 64 * 1024 * 1024


def test_h7_header_lines_that_are_none(ran: Ran) -> None:
    """Bytes that could hide a header are refused; what RFC 9112 lets a client read is read, and framed right."""
    check(ran, H7)
    check(ran, H7_FINE)
    assert {body(ran, name) for name in H7_FINE} == {b"hello"}


def test_h8_status_lines_that_are_none(ran: Ran) -> None:
    """Other protocols, other versions and numbers that are no status are refused at once."""
    check(ran, H8)
    check(ran, H8_FINE)
    assert {body(ran, name) for name in H8_FINE} == {b"hello"}


def test_h9_interim_responses_without_end(ran: Ran) -> None:
    """A flood of interim responses is refused, none after them is no response, a few are skipped."""
    check(ran, H9)


async def test_h9_a_trickle_of_interim_responses_costs_a_permit_for_the_header_deadline(tmp_path: Path) -> None:
    """Whoever says 100 Continue and nothing else, once or for ever, is hung up on when the headers are due."""
    scripts: dict[str, Script] = {
        "/drip": [Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 900, 0.001)],
        "/once": [b"HTTP/1.1 100 Continue\r\n\r\n", HANG],
    }
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, list(scripts), tmp_path / "out", config(header_timeout_s=0.2))
    assert {each.class_ for each in ran.outcomes.values()} == {"timeout.stall"}
    assert {each.message for each in ran.outcomes.values()} == {"No response headers within 0.2 s."}
    assert {each.attempts for each in ran.outcomes.values()} == set(ran.asked.values()) == {2}


async def test_h10_a_body_where_none_may_be_reaches_nobody_else(tmp_path: Path) -> None:
    """After a 204 or 304 that has a body all the same, the next row's answer is its own."""
    good = reply("200 OK", b"good")
    scripts: dict[str, Script] = {}
    for kind, evil in (("response", reply("200 OK", b"evil")), ("text", b"evil text")):
        length = b"Content-Length: %d\r\n\r\n" % len(evil)
        scripts |= {
            f"/{kind}/204": [b"HTTP/1.1 204 No Content\r\n" + length + evil],
            f"/{kind}/after-204": [good],
            f"/{kind}/304": [b"HTTP/1.1 304 Not Modified\r\n" + length + evil],
            f"/{kind}/after-304": [good],
            f"/{kind}/404": [b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone" + evil],
            f"/{kind}/after-404": [good],
            f"/{kind}/200": [reply("200 OK", b"mine") + evil],
            f"/{kind}/after-200": [good],
        }
    one = PermitConfig(concurrency=1)
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, list(scripts), tmp_path / "out", replace(config(), permits=one))
    ends = ["body.empty", "ok", "http.304", "ok", "http.404", "ok", "ok", "ok"]
    assert [each.class_ for each in ran.outcomes.values()] == ends * 2
    assert sorted(ran.found.values()) == [b"good"] * 8 + [b"mine"] * 2
    assert set(ran.asked.values()) == {1}


async def test_h11_redirects_end(tmp_path: Path) -> None:
    """Twenty redirects are followed and no more; circles and targets that are none end the row."""
    chain: dict[str, Script] = {f"/r{n}": [reply("302 Found", b"", f"Location: /r{n + 1}")] for n in range(30)}
    short: dict[str, Script] = {f"/s{n}": [reply("302 Found", b"", f"Location: /s{n + 1}")] for n in range(20)}
    loop: dict[str, Script] = {
        "/a": [reply("301 Moved", b"", "Location: /b")],
        "/b": [reply("301 Moved", b"", "Location: /a")],
    }
    scripts = {**chain, **short, **loop, "/s20": [reply("200 OK", b"there")]}
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, ["/r0", "/s0", "/a"], tmp_path / "out", config())
    assert [each.class_ for each in ran.outcomes.values()] == ["redirect.loop", "ok", "redirect.loop"]
    assert [path for path in ran.asked if path.startswith("/r")] == [f"/r{n}" for n in range(21)]
    assert (ran.asked["/a"], ran.asked["/b"]) == (1, 1)


def test_h11_targets_that_are_none(ran: Ran) -> None:
    """A redirect to nowhere, to two places or to itself ends the row at once."""
    check(ran, H11)


async def test_h12_the_body_of_a_redirect_is_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect and an error are answers by their headers alone: whoever may undo br is not called for them."""
    made: list[str] = []

    def noted(kind: Any, name: str) -> None:
        make = getattr(kind, name)

        def note(*args: Any, **kwargs: Any) -> Any:
            made.append(f"{kind.__name__}.{name}")
            return make(*args, **kwargs)

        monkeypatch.setattr(kind, name, note)

    # Ours, wherever it is imported, and the library, which aiohttp would use too if it were told to decode.
    noted(Decoder, "__init__")
    noted(brotli, "Decompressor")
    noted(brotli, "decompress")
    bomb = brotli.compress(bytes(10_000_000))
    scripts: dict[str, Script] = {
        "/from": [reply("302 Found", bomb, "Content-Encoding: br", "Location: /to")],
        "/to": [reply("200 OK", b"there")],
        "/error": [reply("500 Oh", bomb, "Content-Encoding: br")],
        "/wanted": [reply("200 OK", brotli.compress(b"here"), "Content-Encoding: br")],
    }
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, ["/from", "/error"], tmp_path / "out", config())
        assert made == []
        assert [each.class_ for each in ran.outcomes.values()] == ["ok", "http.500"]
        assert list(ran.found.values()) == [b"there"]
        await ran_over(server, ["/wanted"], tmp_path / "other", config())
    assert made == ["Decoder.__init__", "brotli.Decompressor"]  # or else it looks at the wrong calls


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_h13_who_asks_to_wait_is_waited_for(tmp_path: Path, status: str) -> None:
    """A row comes back no sooner than its server wants, or not at all; rows at other hosts meanwhile go on."""
    good = reply("200 OK", b"good")

    def later(wish: str) -> Turns:
        return Turns(((reply(status, b"no", f"Retry-After: {wish}"),), (good,)))

    past, far = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"
    scripts = {"/wait": later("1"), "/past": later(past), "/minus": later("-5"), "/junk": later("soon")}
    async with (
        ScriptedServer(scripts) as slow,
        ScriptedServer({"/": later("1000000000")}) as never,
        ScriptedServer({"/": later(far)}) as date,
        ScriptedServer([good]) as other,
    ):
        urls = [never.url(), date.url(), *(slow.url(path) for path in scripts)]
        urls += [other.url(f"/{n}") for n in range(50)]
        async with asyncio.timeout(WITHIN_S):
            report = await arun(files.build(), urls, out=tmp_path / "out", config=config())
        assert (report.ok, dict(report.by_class)) == (54, {"ok": 54, "host.unavailable": 2})
        assert never.asked == date.asked == {"/": 1}
        times: dict[bytes, list[float]] = {}
        for head, at in zip(slow.requests, slow.asked_at, strict=True):
            times.setdefault(head.split(b" ")[1], []).append(at)
        waited = {path: at[-1] - at[0] for path, at in times.items() if len(at) == 2}
        assert waited.keys() == {b"/wait", b"/past", b"/minus", b"/junk"}
        assert waited[b"/wait"] >= 0.99
        assert max(other.asked_at) < times[b"/wait"][1]


async def test_h13_being_too_fast_is_no_attempt(tmp_path: Path) -> None:
    """Five answers of 429 cost a row none of its attempts; from the sixth on they do, and 503 does at once."""
    late, busy, good = (reply(each, b"x") for each in ("429 Too Many Requests", "503 Busy", "200 OK"))
    scripts = {
        "/five": Turns((*[(late,)] * 5, (good,))),
        "/ever": [late],
        "/busy": Turns(((busy,), (late,), (late,), (good,))),
    }
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, list(scripts), tmp_path / "out", config())
    ended = {path: (each.class_, each.attempts, ran.asked[path]) for path, each in ran.outcomes.items()}
    assert ended == {"/five": ("ok", 1, 6), "/ever": ("http.429", 2, 7), "/busy": ("ok", 2, 4)}


async def test_h14_an_error_that_passes_costs_attempts_and_no_row(tmp_path: Path) -> None:
    """Two 500s and then a 200 are an ok row with three attempts."""
    oh = reply("500 Oh", b"sorry")
    run = replace(config(), retry=RetryConfig(retries=2, wait_s=0.0))
    async with ScriptedServer({"/a": Turns(((oh,), (oh,), (reply("200 OK", b"good"),)))}) as server:
        ran = await ran_over(server, ["/a"], tmp_path / "out", run)
    outcome = ran.outcomes["/a"]
    assert (outcome.class_, outcome.attempts, ran.asked["/a"]) == ("ok", 3, 3)
    assert list(ran.found.values()) == [b"good"]


def test_h15_no_is_no(ran: Ran) -> None:
    """What a server says is not there, or not for us, is asked for once."""
    check(ran, H15)


async def test_h16_an_error_page_is_no_picture(tmp_path: Path) -> None:
    """HTML under a picture's name and type is not_image, asked for once; nothing is written."""
    page = reply("200 OK", b"<!DOCTYPE html><title>Sorry</title>", "Content-Type: image/jpeg")
    async with ScriptedServer({"/a.jpg": [page]}) as server:
        ran = await ran_over(server, ["/a.jpg"], tmp_path / "out", config(), images.build())
    assert (ran.outcomes["/a.jpg"].class_, ran.asked["/a.jpg"]) == ("image.not_image", 1)


async def test_h17_two_versions_are_never_spliced(tmp_path: Path) -> None:
    """After half a body the whole is asked for again, whatever the ETag says now; a part unasked is no body."""
    half = OK + b'ETag: "1"\r\nContent-Length: 10\r\n\r\nfirst'
    scripts: dict[str, Script | Turns] = {
        "/changed": Turns(([half, CLOSE], [reply("200 OK", b"second one", 'ETag: "2"')])),
        "/part": [reply("206 Partial Content", b"part", "Content-Range: bytes 5-8/10")],
        "/416": [reply("416 Range Not Satisfiable", b"", "Content-Range: bytes */10")],
    }
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, list(scripts), tmp_path / "out", config())
        assert not any(b"range" in head.lower() for head in server.requests)
    assert [each.class_ for each in ran.outcomes.values()] == ["ok", "http.206", "http.416"]
    assert list(ran.found.values()) == [b"second one"]
    assert ran.asked == {"/changed": 2, "/part": 1, "/416": 1}


async def test_h18_a_copy_that_is_current_is_not_sent_again() -> None:
    """A 304 to our question is an answer of its own, without a body that could replace what we have."""
    same = b'HTTP/1.1 304 Not Modified\r\nETag: "a1"\r\n\r\n'
    async with ScriptedServer([same]) as server, Fetcher(config().fetch, Arena(10_000)) as fetcher:
        answer = await fetcher.fetch(Request(0, server.url(), held=Held(server.url(), '"a1"')))
        assert isinstance(answer, NotModified)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("held", "asks"),
    [
        (('W/"a1"', "yesterday"), [b'If-None-Match: W/"a1"']),
        (("*", "Wed, 21 Oct 2015 07:28:00 GMT"), [b"If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT"]),
        (("a1", "Wed, 99 Oct 2015 07:28:00 GMT"), []),
        (("", ""), []),
    ],
)
async def test_h19_validators_that_are_none_ask_nothing(held: tuple[str, str], asks: list[bytes]) -> None:
    """A weak ETag is as good as a strong one; what is no ETag and no date is left out, at worst all is fetched."""
    script = [reply("200 OK", b"whole", "ETag: a1", "Last-Modified: yesterday")]
    async with ScriptedServer(script) as server, Fetcher(config().fetch, Arena(10_000)) as fetcher:
        answer = await fetcher.fetch(Request(0, server.url(), held=Held(server.url(), *held)))
        assert isinstance(answer, Fetched)
        answer.slot.release()
        assert [line for line in server.requests[0].split(b"\r\n") if line.startswith(b"If-")] == asks


def test_h20_bodies_that_are_not_in_their_coding(ran: Ran) -> None:
    """A body that is not what its Content-Encoding says is asked for again, and never written."""
    check(ran, H20)


def test_h21_streams_cut_inside_whole_framing(ran: Ran) -> None:
    """A gzip, br, zstd or deflate stream that ends early is truncated, though every announced byte has come."""
    check(ran, H21)


def test_h22_several_members_garbage_and_raw_deflate(ran: Ran) -> None:
    """All members and frames are decoded, deflate is read raw as well; garbage is ignored, except after br."""
    check(ran, H22)
    assert {body(ran, name) for name in H22} == {TEXT}
    check(ran, H22_BAD)


def test_h23_six_codings_are_too_many(ran: Ran) -> None:
    """Five codings one upon the other are undone; six are refused before a byte is decoded."""
    check(ran, H23)
    check(ran, H23_FINE)
    assert body(ran, "h23 five") == TEXT


def test_h24_codings_nobody_knows(ran: Ran) -> None:
    """A coding that we cannot undo is a failure that names it, never a file in that coding."""
    check(ran, H24)
    check(ran, H24_FINE)
    assert "'none'" in ran.outcomes[path_of("h24 none")].message


async def test_h25_a_packed_archive_with_a_coding_is_unpacked_once(tmp_path: Path) -> None:
    """The Content-Encoding of a .tar.gz is undone like any other (RFC 9110 8.4); its size is that of the tar."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    packed = gzip.compress(held.getvalue())
    scripts: dict[str, Script] = {
        "/coded.tar.gz": [reply("200 OK", packed, "Content-Encoding: gzip", "Content-Type: application/x-tar")],
        "/plain.tar.gz": [reply("200 OK", packed, "Content-Type: application/gzip")],
    }
    async with ScriptedServer(scripts) as server:
        ran = await ran_over(server, list(scripts), tmp_path / "out", config())
    coded_, plain = ran.outcomes.values()
    assert (coded_.class_, plain.class_) == ("ok", "ok")
    assert (coded_.path, ran.found[str(coded_.path)]) == ("00000/000000000.tar", held.getvalue())
    assert (plain.path, ran.found[str(plain.path)]) == ("00000/000000001.gz", packed)
