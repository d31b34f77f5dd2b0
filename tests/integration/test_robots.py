"""Row P5 of docs/faults.md over a real socket: robots.txt as servers serve it, fetched, read and kept."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brotli
import pytest
import trustme

from scraper.answers import Failed, Fetched
from scraper.arena import Arena
from scraper.config import OPT_OUTS, FetchConfig, SecretsConfig, TlsConfig
from scraper.fetch import Fetcher
from scraper.origin.process import OriginProcess
from scraper.records import Held, Request
from scraper.robots import Robots, Verdict
from scraper.testing.server import CLOSE, HANG, RESET, Drip, Forever, Script, ScriptedServer, Turns, reply

RULES = b"User-agent: *\nDisallow: /closed\n"
FILLER = b"Disallow: /filler/with/some/length\n"


def config(**changes: Any) -> FetchConfig:
    """Limits that end a test soon."""
    limits = {"timeout_s": 15.0, "connect_timeout_s": 10.0, "header_timeout_s": 10.0, "stall_timeout_s": 10.0}
    return FetchConfig(**{"user_agent": "tester/1", "allow_net": ("127.0.0.0/8",)} | limits | changes)


async def verdicts(
    folder: Path,
    script: Script | Turns,
    fetch: FetchConfig | None = None,
    more: Mapping[str, Script] | None = None,
) -> tuple[Verdict, Verdict]:
    """What holds for a page that ``RULES`` allows and for one that they forbid, where ``script`` is robots.txt."""
    arena = Arena(10_000_000)
    async with (
        asyncio.timeout(20),
        ScriptedServer({"/robots.txt": script, **(more or {})}) as server,
        Fetcher(fetch or config(), arena, opt_outs=OPT_OUTS) as fetcher,
        Robots(folder / "robots.sqlite", "tester") as robots,
    ):
        row = Request(1, server.url("/open"))
        assert robots.verdict(row) is None
        await robots.learn(row, fetcher.fetch_robots)
        opened, closed = robots.verdict(row), robots.verdict(Request(2, server.url("/closed")))
        assert opened is not None
        assert closed is not None
        assert server.asked["/robots.txt"] == 1
        assert set(server.asked) <= {"/robots.txt", *(more or {})}
    assert arena.held == 0
    return opened, closed


HEAD = b"HTTP/1.1 200 OK\r\n"
BIG = b"User-agent: *\nDisallow: /closed\n" + FILLER * 20_000
WITHIN, BEYOND = (b"User-agent: *\n" + FILLER * n + b"Disallow: /closed\n" + FILLER for n in (14_700, 15_000))

READ: dict[str, tuple[Script, bool]] = {
    "plain": ([reply("200 OK", RULES)], True),
    "html": (
        [reply("200 OK", b"<html><h1>Hello</h1>\nDisallow: /closed</html>", "Content-Type: text/html")],
        False,
    ),
    "empty": ([reply("200 OK")], False),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], False),
    "203": ([reply("203 Non-Authoritative Information", RULES)], True),
    "mark": ([reply("200 OK", b"\xef\xbb\xbf" + RULES)], True),
    "crlf": ([reply("200 OK", RULES.replace(b"\n", b"\r\n"))], True),
    "cr": ([reply("200 OK", RULES.replace(b"\n", b"\r"))], True),
    "nul": ([reply("200 OK", b"\x00\xff\xfe\n" + RULES + b"\x00")], True),
    "gzip": ([reply("200 OK", gzip.compress(RULES), "Content-Encoding: gzip")], True),
    "brotli": ([reply("200 OK", brotli.compress(RULES), "Content-Encoding: br")], True),
    "chunked": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n" + RULES + b"\r\n0\r\n\r\n"], True),
    "until it closes": ([HEAD + b"\r\n" + RULES, CLOSE], True),
    "opts out itself": ([reply("200 OK", RULES, "X-Robots-Tag: noindex, none")], True),
    "sets a cookie": ([reply("200 OK", RULES, "Set-Cookie: id=1")], True),
    "700 kB, rule at the beginning": ([reply("200 OK", BIG)], True),
    "the same, gzip": ([reply("200 OK", gzip.compress(BIG), "Content-Encoding: gzip")], True),
    "the same, brotli": ([reply("200 OK", brotli.compress(BIG), "Content-Encoding: br")], True),
    "700 kB, rule at the end": ([reply("200 OK", FILLER * 20_000 + RULES)], False),
    "rule just beyond 512 KiB": ([reply("200 OK", BEYOND)], False),
    "rule beyond 500 KiB": ([reply("200 OK", WITHIN)], True),
    "endless": ([HEAD + b"\r\n" + RULES, Forever(FILLER * 100)], True),
    "endless, then nothing": ([HEAD + b"\r\n" + RULES + FILLER * 16_000, HANG], True),
    "a bomb": ([reply("200 OK", gzip.compress(RULES + b"\n" * 50_000_000), "Content-Encoding: gzip")], True),
    "400": ([reply("400 Bad Request", RULES)], False),
    "401": ([reply("401 Unauthorized", RULES, "WWW-Authenticate: Basic")], False),
    "403": ([reply("403 Forbidden", RULES)], False),
    "404": ([reply("404 Not Found", RULES)], False),
    "410": ([reply("410 Gone", RULES)], False),
    "304": ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], False),
    "redirect to itself": ([reply("301 Moved", b"", "Location: /robots.txt")], False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
async def test_answers(tmp_path: Path, name: str) -> None:
    """What a server answers, however it is wrapped, is read as a robots.txt; 4xx means that there is none."""
    script, forbids = READ[name]
    opened, closed = await verdicts(tmp_path, script)
    assert (opened.error, closed.error) == (None, None)
    assert opened.allowed
    assert closed.allowed is not forbids


NOT_READ: dict[str, tuple[Script, str]] = {
    "429": ([reply("429 Too Many Requests", RULES)], "http.429"),
    "500": ([reply("500 Internal Server Error", RULES)], "http.500"),
    "503": ([reply("503 Service Unavailable", RULES)], "http.503"),
    "206": ([reply("206 Partial Content", RULES)], "http.206"),
    "hang": ([HANG], "timeout.stall"),
    "headers, then nothing": ([HEAD, HANG], "timeout.stall"),
    "body, then nothing": ([HEAD + b"Content-Length: 900\r\n\r\n" + RULES, HANG], "timeout.stall"),
    "drip": ([HEAD + b"Content-Length: 900\r\n\r\n", Drip(RULES * 20, 0.02)], "timeout.stall"),
    "reset": ([RESET], "connect.reset"),
    "reset in the body": ([HEAD + b"Content-Length: 900\r\n\r\n" + RULES, RESET], ""),
    "close": ([CLOSE], "connect.reset"),
    "cut": ([HEAD + b"Content-Length: 900\r\n\r\n" + RULES, CLOSE], "body.truncated"),
    "cut gzip": ([reply("200 OK", gzip.compress(RULES)[:-9], "Content-Encoding: gzip")], "body.truncated"),
    "no gzip": ([reply("200 OK", RULES, "Content-Encoding: gzip")], "body.encoding"),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE], "protocol.malformed"),
    "redirect to file:": ([reply("302 Found", b"", "Location: file:///etc/passwd")], "redirect.blocked"),
    "redirect to ftp:": ([reply("302 Found", b"", "Location: ftp://127.0.0.1/robots.txt")], "redirect.blocked"),
    "redirect nowhere": ([reply("302 Found")], "protocol.malformed"),
    "redirect to an address that is refused": (
        [reply("302 Found", b"", "Location: http://10.0.0.1/robots.txt")],
        "address.blocked",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_READ)
async def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    """A robots.txt that is there, or may be, and cannot be read: nothing is asked for until it can."""
    script, cause = NOT_READ[name]
    limits = {"header_timeout_s": 0.3, "stall_timeout_s": 0.3} if cause == "timeout.stall" else {}
    opened, closed = await verdicts(tmp_path, script, config(**limits))
    for verdict in (opened, closed):
        assert not verdict.allowed
        assert verdict.error is not None
        assert verdict.error.class_ == "robots.unreachable"
        assert f"({cause}" in verdict.error.message
        assert verdict.error.retry_after_s is not None


@pytest.mark.parametrize("max_bytes", [10, 100_000_000])
@pytest.mark.parametrize("more", [0, 3_000_000])
@pytest.mark.parametrize("packed", [False, True])
async def test_limits_of_bodies_are_those_of_rows(tmp_path: Path, max_bytes: int, more: int, packed: bool) -> None:
    """--max-bytes bounds what is fetched for rows; a robots.txt is read for its 512 KiB, more or less packed."""
    body = RULES + FILLER * 100 + b"\n" * more
    script = [reply("200 OK", gzip.compress(body), "Content-Encoding: gzip") if packed else reply("200 OK", body)]
    opened, closed = await verdicts(tmp_path, script, config(max_bytes=max_bytes))
    assert (opened.error, opened.allowed, closed.allowed) == (None, True, False)


async def test_what_is_enough_ends_the_connection(tmp_path: Path) -> None:
    """A server that goes on after half a mebibyte is not left connected."""
    async with (
        asyncio.timeout(20),
        ScriptedServer({"/robots.txt": [HEAD + b"\r\n" + RULES + FILLER * 16_000, HANG]}) as server,
        Fetcher(config(), Arena(10_000_000)) as fetcher,
        Robots(tmp_path / "robots.sqlite", "tester") as robots,
    ):
        await robots.learn(Request(1, server.url("/open")), fetcher.fetch_robots)
        while server._serving:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)
        assert server.connections == 1


@pytest.mark.parametrize(("redirects", "forbids"), [(5, True), (6, False)])
async def test_redirects(tmp_path: Path, redirects: int, forbids: bool) -> None:
    """Five redirects are followed; with a sixth there is no robots.txt."""
    hops: dict[str, Script] = {
        f"/{n}": [reply("301 Moved Permanently", b"", f"Location: /{n + 1}")] for n in range(1, redirects)
    }
    hops[f"/{redirects}"] = [reply("200 OK", RULES)]
    _, closed = await verdicts(tmp_path, [reply("301 Moved Permanently", b"", "Location: /1")], more=hops)
    assert closed.error is None
    assert closed.allowed is not forbids


async def test_a_redirect_to_another_host(tmp_path: Path) -> None:
    """What another origin serves holds for the one that sent us there, and says nothing of the other."""
    arena = Arena(10_000_000)
    async with (
        ScriptedServer([reply("200 OK", RULES)]) as other,
        ScriptedServer({"/robots.txt": [reply("302 Found", b"", f"Location: {other.url('/rules')}")]}) as server,
        Fetcher(config(), arena) as fetcher,
        Robots(tmp_path / "robots.sqlite", "tester") as robots,
    ):
        row = Request(1, server.url("/closed"))
        await robots.learn(row, fetcher.fetch_robots)
        assert robots.verdict(row) == Verdict(False)
        assert robots.verdict(Request(2, other.url("/closed"))) is None
        assert (server.asked["/robots.txt"], other.asked["/rules"]) == (1, 1)


async def test_nothing_of_the_users_goes_along(tmp_path: Path) -> None:
    """User agent and Accept are all that robots.txt is asked with: no header, login, cookie or condition."""
    script: dict[str, Script] = {"/robots.txt": [reply("200 OK", RULES)], "/a": [reply("200 OK", b"x")]}
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tid\tsecret\n")
    async with ScriptedServer(script) as server:
        secrets = SecretsConfig(auth={server.url(""): ("me", "secret")}, cookies=str(cookies))
        mine = config(headers={"X-Api-Key": "secret", "If-None-Match": '"x"'}, secrets=secrets)
        async with (
            Fetcher(mine, Arena(1_000_000)) as fetcher,
            Robots(tmp_path / "robots.sqlite", "tester") as robots,
        ):
            url = server.url("/a").replace("//", "//user:secret@")
            row = Request(1, url, held=Held(url, '"secret"', ""))
            await robots.learn(row, fetcher.fetch_robots)
            assert robots.verdict(row) == Verdict(True)
        (head,) = server.requests
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /robots.txt HTTP/1.1"
    names = {line.partition(":")[0] for line in lines[1:] if line}
    assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert "User-Agent: tester/1" in lines


async def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    """Nothing was asked, and the row ends by what is the matter: refused, not found, not allowed."""
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port = plug.getsockname()[1]
    async with (
        Fetcher(config(), Arena(1_000_000)) as fetcher,
        Robots(tmp_path / "robots.sqlite", "tester") as robots,
    ):
        for url, class_ in (
            (f"http://127.0.0.1:{port}/a", "connect.refused"),
            ("http://10.0.0.1/", "address.blocked"),
        ):
            await robots.learn(Request(1, url), fetcher.fetch_robots)
            verdict = robots.verdict(Request(1, url))
            assert verdict is not None
            assert verdict.error is not None
            assert (verdict.allowed, verdict.error.class_) == (False, class_)


@pytest.mark.slow
async def test_a_certificate_that_is_not_believed(tmp_path: Path) -> None:
    """A host whose certificate is not accepted is not asked for robots.txt either, unless the user says so."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with ScriptedServer({"/robots.txt": [reply("200 OK", RULES)]}, tls=context) as server:
        row = Request(1, server.url("/closed"))
        for insecure, class_ in ((frozenset[str](), "tls.verify"), (frozenset({"127.0.0.1"}), None)):
            async with (
                Fetcher(config(tls=TlsConfig(insecure=insecure)), Arena(1_000_000)) as fetcher,
                Robots(tmp_path / "robots.sqlite", "tester") as robots,
            ):
                await robots.learn(row, fetcher.fetch_robots)
                verdict = robots.verdict(row)
                assert verdict is not None
                assert not verdict.allowed
                assert (verdict.error.class_ if verdict.error else None) == class_


async def test_a_row_comes_back_and_learns(tmp_path: Path) -> None:
    """A 503 that passes: the row that comes back when told to finds the rules."""
    turns = Turns(([reply("503 Service Unavailable")], [reply("200 OK", RULES)]))
    now = 0.0
    async with (
        ScriptedServer({"/robots.txt": turns}) as server,
        Fetcher(config(), Arena(1_000_000)) as fetcher,
        Robots(tmp_path / "robots.sqlite", "tester", now=lambda: now) as robots,
    ):
        row = Request(1, server.url("/closed"))
        await robots.learn(row, fetcher.fetch_robots)
        verdict = robots.verdict(row)
        assert verdict is not None
        assert verdict.error is not None
        assert verdict.error.status == 503
        now += verdict.error.retry_after_s or 0.0
        assert robots.verdict(row) is None
        await robots.learn(row, fetcher.fetch_robots)
        assert robots.verdict(row) == Verdict(False)


@pytest.mark.slow
async def test_the_origin_counts_it_apart(tmp_path: Path) -> None:
    """The built-in origin serves a robots.txt of its own; asking for it is no request of a row's."""
    async with (
        OriginProcess() as origin,
        Fetcher(config(), Arena(1_000_000)) as fetcher,
        Robots(tmp_path / "robots.sqlite", "tester") as robots,
    ):
        row = Request(1, origin.url("/private/1.html"))
        await robots.learn(row, fetcher.fetch_robots)
        assert robots.verdict(row) == Verdict(False)
        assert robots.verdict(Request(2, origin.url("/page/1.html"))) == Verdict(True)
        stats = origin.stats()
        assert (stats["robots"], stats["total"], stats["requests"], origin.log()) == (1, 0, {}, [])
        origin.reset()
        assert origin.stats()["robots"] == 0


async def test_pages_are_fetched_as_before(tmp_path: Path) -> None:
    """The longer reading is of robots.txt alone: rows keep their cap, and their opting out."""
    script: dict[str, Script] = {
        "/long": [reply("200 OK", b"x" * 100)],
        "/out": [reply("200 OK", b"x", "X-Robots-Tag: noai")],
        "/fine": [reply("200 OK", b"x", "X-Robots-Tag: other: noai")],
    }
    async with (
        ScriptedServer(script) as server,
        Fetcher(config(max_bytes=10), Arena(1_000_000), opt_outs=("noai",)) as fetcher,
    ):
        found = {}
        for path in script:
            answer = await fetcher.fetch(Request(1, server.url(path)))
            found[path] = answer.error.class_ if isinstance(answer, Failed) else type(answer)
            if isinstance(answer, Fetched):
                answer.slot.release()
    assert found == {"/long": "body.too_large", "/out": "optout.header", "/fine": Fetched}
