"""Hops against a real socket: what is sent, what comes back, and what happens to connections and bytes."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import brotli
import pytest
import uvloop

from scraper import connector
from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Fetcher
from scraper.records import Request, Response
from scraper.resolver import Answer, HostNotFound, Resolver
from scraper.testing.server import CLOSE, HANG, Forever, Script, ScriptedServer, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def config(**changes: Any) -> FetchConfig:
    """Limits that end a test soon."""
    return FetchConfig(
        **{
            "user_agent": "tester/1",
            "allow_net": ("127.0.0.0/8",),
            "timeout_s": 5.0,
            "connect_timeout_s": 2.0,
            "stall_timeout_s": 2.0,
        }
        | changes
    )


def arena() -> Arena:
    """Room for whatever these tests serve."""
    return Arena(10_000_000)


def pretend(addresses: dict[str, tuple[str, ...]]) -> Resolver:
    """A resolver that knows these hosts and no others."""

    async def lookup(host: str, family: int) -> Answer:
        if host not in addresses:
            raise HostNotFound(None, f"{host} does not exist")
        return Answer(addresses[host], 300.0)

    return Resolver(lookup)


async def body_of(fetcher: Fetcher, url: str) -> bytes:
    """Fetch and release."""
    return bytes((await response_of(fetcher, url)).body)


async def response_of(fetcher: Fetcher, url: str) -> Response:
    """Fetch, which must work, and release."""
    result = await fetcher.fetch(Request(0, url))
    assert isinstance(result, Fetched), result
    with result.slot:
        return result.response


async def failure_of(fetcher: Fetcher, url: str) -> Failed:
    """Fetch, which must fail."""
    result = await fetcher.fetch(Request(0, url))
    assert isinstance(result, Failed), result
    return result


@LOOPS
def test_a_response_is_whole(run: Run) -> None:
    """Body, status, headers, URL, size on the wire and timings arrive; the slot accounts for the bytes."""

    async def main() -> None:
        body = b"picture " * 90_000
        script = [reply("200 Fine", body, "X-Kind: first", "X-KIND: second", "X-Raw: caf\xe9")]
        budget = arena()
        async with ScriptedServer(script) as server, Fetcher(config(), budget) as fetcher:
            request = Request(7, server.url("/a.jpg?x=1#part"))
            result = await fetcher.fetch(request)
            assert isinstance(result, Fetched)
            response = result.response
            assert response.request is request
            assert response.url == request.url
            assert (response.status, response.body, response.wire_bytes) == (200, body, len(body))
            assert response.headers == {
                "x-kind": "first",
                "x-raw": "caf\ufffd",
                "content-length": str(len(body)),
            }
            assert budget.held == result.slot.held == len(body)
            result.slot.release()
            assert budget.held == 0
            timings = response.timings
            assert timings.connect_ms > 0
            assert timings.first_byte_ms > 0
            assert timings.tls_ms == 0
            assert timings.total_ms >= timings.connect_ms + timings.first_byte_ms
            assert server.requests[0].startswith(b"GET /a.jpg?x=1 HTTP/1.1\r\n")

    run(main())


async def test_what_is_sent() -> None:
    """Our headers go with every request, the user's replace them in any case, and cookies never come back."""
    script = [reply("200 OK", b"x", "Set-Cookie: id=1; Path=/")]
    mine = config(headers={"user-AGENT": "mine/2", "X-Key": "k", "accept-encoding": "br"})
    async with ScriptedServer(script) as server, Fetcher(mine, arena(), "image/*", "identity") as fetcher:
        for _ in range(2):
            await body_of(fetcher, server.url())
        for head in server.requests:
            lines = head.decode().split("\r\n")[1:-2]
            assert sorted(lines) == [
                "Accept: image/*",
                f"Host: 127.0.0.1:{server.port}",
                "X-Key: k",
                "accept-encoding: br",
                "user-AGENT: mine/2",
            ]


@LOOPS
def test_connections_are_reused(run: Run) -> None:
    """A connection serves again after a body, a redirect and a small error; a warm one costs no connect time."""

    async def main() -> None:
        scripts: dict[str, Script] = {
            "/ok": [reply("200 OK", b"hello")],
            "/moved": [reply("301 Moved Permanently", b"there", "Location: /ok")],
            "/gone": [reply("404 Not Found", b"x" * 60_000)],
        }
        async with ScriptedServer(scripts) as server, Fetcher(config(), arena()) as fetcher:
            await body_of(fetcher, server.url("/ok"))
            assert isinstance(await fetcher.fetch(Request(0, server.url("/moved"))), Redirected)
            assert (await failure_of(fetcher, server.url("/gone"))).error.status == 404
            warm = await response_of(fetcher, server.url("/ok"))
            assert server.connections == 1
            assert (warm.timings.dns_ms, warm.timings.connect_ms, warm.timings.tls_ms) == (0, 0, 0)
            assert warm.timings.first_byte_ms > 0

    run(main())


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 70000\r\n\r\n", HANG],
        [b"HTTP/1.1 404 Not Found\r\n\r\n", Forever(b"x" * 9_000)],
        [
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n",
            Forever(b"2000\r\n" + b"x" * 8192 + b"\r\n"),
        ],
    ],
    ids=["long", "endless", "endless chunks"],
)
async def test_long_error_bodies_are_not_read(script: Script) -> None:
    """An error's body is not worth reading beyond 64 KiB: the connection is cut and the status stands."""
    async with (
        ScriptedServer({"/gone": script, "/ok": [reply("200 OK", b"x")]}) as server,
        Fetcher(config(), arena()) as fetcher,
    ):
        assert (await failure_of(fetcher, server.url("/gone"))).error.class_ == "http.404"
        await body_of(fetcher, server.url("/ok"))
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "header", "wait_s"),
    [
        ("429 Too Many Requests", "Retry-After: 7", 7.0),
        ("503 Service Unavailable", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("503 Service Unavailable", "Retry-After: soon", None),
        ("500 Internal Server Error", "X-Other: 1", None),
    ],
)
async def test_error_statuses(status: str, header: str, wait_s: float | None) -> None:
    """An error status becomes http.<status> with the wait the server asks for, if it makes sense."""
    async with ScriptedServer([reply(status, b"sorry", header)]) as server, Fetcher(config(), arena()) as fetcher:
        failed = await failure_of(fetcher, server.url("/x"))
    number = int(status[:3])
    assert (failed.error.class_, failed.error.status) == (f"http.{number}", number)
    assert failed.error.retry_after_s == wait_s
    assert failed.error.message == f"The server answered {status}."
    assert failed.url == server.url("/x")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_come_back_as_requests(status: int) -> None:
    """One hop is made; the next is a request of the same attempt that knows where it has been and for how long."""
    async with (
        ScriptedServer([reply(f"{status} Moved", b"", "Location: ../b?c=1")]) as server,
        Fetcher(config(), arena()) as fetcher,
    ):
        began = time.monotonic()
        result = await fetcher.fetch(Request(3, server.url("/a/x"), attempt=2, spent_s=1.0))
        assert isinstance(result, Redirected)
        onward = result.request
        assert (onward.row, onward.attempt, onward.asked) == (3, 2, server.url("/b?c=1"))
        assert onward.hops == (server.url("/a/x"),)
        assert 1.0 < onward.spent_s <= 1.0 + time.monotonic() - began
        assert server.asked == {"/a/x": 1}


async def test_redirects_end() -> None:
    """Beyond max_redirects hops the attempt fails, with the status of the last."""
    async with (
        ScriptedServer([reply("302 Found", b"", "Location: /next")]) as server,
        Fetcher(config(max_redirects=2), arena()) as fetcher,
    ):
        request = Request(0, server.url("/a"), target=server.url("/c"), hops=(server.url("/a"), server.url("/b")))
        result = await fetcher.fetch(request)
    assert isinstance(result, Failed)
    assert (result.error.class_, result.error.status) == ("redirect.loop", 302)


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b"text " * 50_000)),
        ("deflate", zlib.compress(b"text " * 50_000)),
        ("br", brotli.compress(b"text " * 50_000)),
        ("gzip, br", brotli.compress(gzip.compress(b"text " * 50_000))),
    ],
    ids=["gzip", "deflate", "br", "both"],  # gzip puts the time in, and each test process collects for itself
)
async def test_codings_are_undone(coding: str, packed: bytes) -> None:
    """The body is what was encoded; the size on the wire is what came."""
    script = [reply("200 OK", packed, f"Content-Encoding: {coding}")]
    async with ScriptedServer(script) as server, Fetcher(config(), arena()) as fetcher:
        response = await response_of(fetcher, server.url())
        assert response.body == b"text " * 50_000
        assert response.wire_bytes == len(packed)


async def test_the_cap_is_the_last_size_that_is_taken() -> None:
    """A body of max_bytes is taken, one byte more is not, with a length announced or without."""
    scripts: dict[str, Script] = {
        "/at": [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000, CLOSE],
        "/over": [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001, CLOSE],
        "/announced": [reply("200 OK", b"x" * 1_001)],
    }
    async with ScriptedServer(scripts) as server, Fetcher(config(max_bytes=1_000), arena()) as fetcher:
        assert len(await body_of(fetcher, server.url("/at"))) == 1_000
        for path in ("/over", "/announced"):
            failed = await failure_of(fetcher, server.url(path))
            assert (failed.error.class_, failed.error.status) == ("body.too_large", 200)


async def test_a_part_that_was_asked_for() -> None:
    """With a Range header of the user's own, 206 is the answer."""
    script = [reply("206 Partial Content", b"part", "Content-Range: bytes 0-3/9")]
    asks = config(headers={"range": "bytes=0-3"})
    async with ScriptedServer(script) as server, Fetcher(asks, arena()) as fetcher:
        assert await body_of(fetcher, server.url()) == b"part"


@LOOPS
def test_many_at_once(run: Run) -> None:
    """Hundreds of fetches share a small budget and all end well; nothing is left over."""

    async def main() -> None:
        budget = Arena(100_000)
        body = b"y" * 30_000
        async with ScriptedServer([reply("200 OK", body)]) as server, Fetcher(config(), budget) as fetcher:

            async def work(rows: range) -> None:
                for row in rows:
                    result = await fetcher.fetch(Request(row, server.url(f"/{row}")))
                    assert isinstance(result, Fetched), result
                    with result.slot:
                        assert result.response.body == body

            async with asyncio.TaskGroup() as group:
                for start in range(0, 400, 10):
                    group.create_task(work(range(start, start + 10)))
            assert len(server.requests) == 400
            assert budget.peak <= 100_000 + len(body)
            assert budget.held == 0

    run(main())


async def test_idle_hosts_are_bounded() -> None:
    """A crawl over many hosts does not keep a connection to each."""
    hosts = {f"h{n}.example": ("127.0.0.1",) for n in range(connector.IDLE_HOSTS + 20)}
    async with (
        ScriptedServer([reply("200 OK", b"x")]) as server,
        Fetcher(config(), arena(), resolver=pretend(hosts)) as fetcher,
    ):
        for host in hosts:
            await body_of(fetcher, server.url(host=host))
        pool = fetcher._session.connector
        assert pool is not None
        assert len(pool._conns) == connector.IDLE_HOSTS + 1
