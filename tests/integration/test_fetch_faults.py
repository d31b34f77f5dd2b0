"""What servers do wrong, one script each, and what a row is told; on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.testing.server import CLOSE, HANG, RESET, Drip, Forever, Pause, Script, ScriptedServer, reply

CONFIG = FetchConfig(
    "test",
    allow_net=("127.0.0.0/8",),
    timeout_s=20.0,
    connect_timeout_s=10.0,
    header_timeout_s=0.9,
    stall_timeout_s=0.9,
    stall_bytes=100,
    max_bytes=200_000,
)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = gzip.compress(b"whole" * 1_000)

FAULTS: dict[str, tuple[Script, str]] = {
    "closed before a byte": ([CLOSE], "connect.reset"),
    "reset before a byte": ([RESET], "connect.reset"),
    "closed within the headers": ([b"HTTP/1.1 200 OK\r\nConte", CLOSE], "connect.reset"),
    "reset within the body": ([OK + b"Content-Length: 9\r\n\r\nhalf", RESET], "connect.reset"),
    "reset within a body without framing": ([OK + b"\r\nhalf", RESET], "connect.reset"),
    "shorter than announced": ([OK + b"Content-Length: 9\r\n\r\nhalf", CLOSE], "body.truncated"),
    "cut between chunks": ([CHUNKED + b"4\r\nhalf\r\n", CLOSE], "body.truncated"),
    "cut within a chunk": ([CHUNKED + b"9\r\nhalf", CLOSE], "body.truncated"),
    "bad chunk size at once": ([CHUNKED + b"ZZ\r\nx", HANG], "protocol.malformed"),
    "overflowing chunk size": ([CHUNKED + b"F" * 20 + b"\r\nx", HANG], "protocol.malformed"),
    "100 kB header": ([OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n", HANG], "protocol.header_too_large"),
    "a thousand headers": ([OK + b"X: 1\r\n" * 1_000 + b"\r\n", HANG], "protocol.header_too_large"),
    "flood of trailers": ([CHUNKED + b"0\r\n" + b"X: 1\r\n" * 5_000, HANG], "protocol.header_too_large"),
    "not HTTP": ([b"<html>hello</html>", CLOSE], "protocol.malformed"),
    "SSH": ([b"SSH-2.0-OpenSSH_9.9\r\n", HANG], "protocol.malformed"),
    "HTTP/1.2": ([b"HTTP/1.2 200 OK\r\n\r\n", HANG], "protocol.malformed"),
    "status 000": ([b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"], "protocol.malformed"),
    "status 099": ([b"HTTP/1.1 099 Nothing\r\nContent-Length: 0\r\n\r\n"], "protocol.malformed"),
    "status 9999": ([b"HTTP/1.1 9999 OK\r\n\r\n", HANG], "protocol.malformed"),
    "two lengths": ([OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", HANG], "protocol.malformed"),
    "negative length": ([OK + b"Content-Length: -3\r\n\r\nabc", HANG], "protocol.malformed"),
    "header without colon": ([OK + b"nonsense\r\n\r\n", HANG], "protocol.malformed"),
    "NUL in a header": ([OK + b"X: a\x00b\r\n\r\n", HANG], "protocol.malformed"),
    "accepts and never answers": ([HANG], "timeout.stall"),
    "headers never end": ([Drip(OK + b"X: 1\r\n" * 900, 0.01)], "timeout.stall"),
    "body drips": ([OK + b"Content-Length: 900\r\n\r\n", Drip(b"x" * 900, 0.02)], "timeout.stall"),
    "body stops": ([OK + b"Content-Length: 900\r\n\r\n" + b"x" * 800, HANG], "timeout.stall"),
    "interim responses only": ([Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 90, 0.005)], "timeout.stall"),
    "endless body": ([OK + b"\r\n", Forever(b"x" * 8_192)], "body.too_large"),
    "endless chunks": ([CHUNKED, Forever(b"1000\r\n" + b"x" * 4_096 + b"\r\n")], "body.too_large"),
    "announces too much": ([OK + b"Content-Length: 200001\r\n\r\n", HANG], "body.too_large"),
    "empty": ([reply("200 OK")], "body.empty"),
    "empty, claiming gzip": ([reply("200 OK", b"", "Content-Encoding: gzip")], "body.empty"),
    "gzip of nothing": ([reply("200 OK", gzip.compress(b""), "Content-Encoding: gzip")], "body.empty"),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], "body.empty"),
    "205": ([reply("205 Reset Content")], "body.empty"),
    "a part unasked": ([reply("206 Partial Content", b"part", "Content-Range: bytes 0-3/9")], "http.206"),
    "101": ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "http.101"),
    "claims gzip, is not": ([reply("200 OK", b"plain text", "Content-Encoding: gzip")], "body.encoding"),
    "unknown coding": ([reply("200 OK", b"plain text", "Content-Encoding: rot13")], "body.encoding"),
    "whole framing, cut gzip": ([reply("200 OK", PACKED[:-9], "Content-Encoding: gzip")], "body.truncated"),
    "gzip bomb": (
        [reply("200 OK", gzip.compress(bytes(9_000_000)), "Content-Encoding: gzip")],
        "body.bomb",
    ),
    "304 unasked": ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], "http.304"),
    "redirect to nowhere": ([reply("302 Found")], "protocol.malformed"),
    "redirect to two places": ([reply("302 Found", b"", "Location: /a", "Location: /b")], "protocol.malformed"),
    "redirect to itself": ([reply("302 Found", b"", "Location: /redirect-to-itself")], "redirect.loop"),
    "redirect to a file": ([reply("302 Found", b"", "Location: file:///etc/passwd")], "redirect.blocked"),
    "404": ([reply("404 Not Found", b"gone")], "http.404"),
    "404 with an endless body": ([b"HTTP/1.1 404 Not Found\r\n\r\n", Forever(b"x" * 8_192)], "http.404"),
    "404 whose body stops": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nx", HANG], "http.404"),
    "404 whose body is reset": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nx", RESET], "http.404"),
    "500 with a bomb": (
        [reply("500 Oh", gzip.compress(bytes(9_000_000)), "Content-Encoding: gzip")],
        "http.500",
    ),
}

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def path_of(name: str) -> str:
    """Where a fault is served."""
    return "/" + name.replace(" ", "-").replace(",", "")


@LOOPS
def test_every_fault_has_its_class(run: Run) -> None:
    """Each fault ends with its class and a sentence, gives its bytes back, and leaves nothing in flight."""

    async def main() -> dict[str, str]:
        arena = Arena(1_000_000)
        scripts = {path_of(name): script for name, (script, _) in FAULTS.items()}
        ended = {}
        async with ScriptedServer(scripts) as server, Fetcher(CONFIG, arena) as fetcher:
            rows = [Request(row, server.url(path)) for row, path in enumerate(scripts)]
            async with asyncio.timeout(25.0), asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetcher.fetch(row)) for row in rows]
            for name, task in zip(FAULTS, tasks, strict=True):
                result = task.result()
                if isinstance(result, Failed):
                    assert result.error.message.endswith("."), result
                    assert result.timings.total_ms > 0
                    ended[name] = result.error.class_
                else:
                    ended[name] = repr(result)
            assert repr(arena) == "<Arena 0/1000000 bytes, 0 filling, 0 waiting>"
            assert "0 in flight" in repr(fetcher._watchdog)
            # Only those connections were kept whose response was whole, wanted or not.
            assert len(fetcher._session.connector._acquired) == 0  # type: ignore[union-attr]
        return ended

    assert run(main()) == {name: class_ for name, (_, class_) in FAULTS.items()}


@LOOPS
def test_malformed_after_the_headers(run: Run) -> None:
    """A bad chunk that comes while the body is being read ends the row at once, not when it has stalled."""

    async def main() -> str:
        reading = asyncio.Event()
        script = [CHUNKED + b"4\r\ngood\r\n", Pause(reading), b"ZZ\r\n", HANG]
        patient = FetchConfig("test", allow_net=("127.0.0.0/8",), stall_timeout_s=30.0)
        arena = Arena(10_000)
        async with ScriptedServer(script) as server, Fetcher(patient, arena) as fetcher, asyncio.timeout(20.0):
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(fetcher.fetch(Request(0, server.url())))
                while arena.held < len(b"good"):  # noqa: ASYNC110 - the arena sets no event
                    await asyncio.sleep(0.001)
                reading.set()
            result = fetching.result()
        assert isinstance(result, Failed)
        assert result.error.status == 200
        return result.error.class_

    assert run(main()) == "protocol.malformed"


async def test_redirect_body_is_never_decoded() -> None:
    """A redirect leads on, whatever its body holds, and the body's bytes are not decompressed."""
    bomb = gzip.compress(bytes(50_000_000))
    script = [reply("302 Found", bomb, "Content-Encoding: gzip", "Location: /next")]
    async with ScriptedServer(script) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
        result = await fetcher.fetch(Request(0, server.url("/start")))
        assert isinstance(result, Redirected)
        assert result.request.asked == server.url("/next")


async def test_bytes_after_a_response_do_not_reach_the_next() -> None:
    """A body that is longer than announced costs its connection, never the next response's meaning."""
    scripts: dict[str, Script] = {
        "/long": [OK + b"Content-Length: 5\r\n\r\nwholeHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"],
        "/next": [reply("200 OK", b"good")],
    }
    async with ScriptedServer(scripts) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
        bodies = []
        for path in ("/long", "/next"):
            result = await fetcher.fetch(Request(0, server.url(path)))
            assert isinstance(result, Fetched)
            bodies.append(bytes(result.response.body))
            result.slot.release()
        assert bodies == [b"whole", b"good"]
        assert server.connections == 2


def _surplus_has_come(fetcher: Fetcher) -> bool:
    """Whether the one idle connection holds what nobody asked for, or has been given up for it."""
    connector = fetcher._session.connector
    assert connector is not None
    idle = [protocol for protocols in connector._conns.values() for protocol, _ in protocols]
    return all(protocol.should_close or not protocol.is_connected() for protocol in idle)


@pytest.mark.parametrize(
    "junk", [reply("200 OK", b"not asked for"), b"surplus\r\n\r\n"], ids=["response", "bytes"]
)
async def test_what_comes_after_a_response_answers_nothing(junk: bytes) -> None:
    """Bytes beyond a response never become the answer to the next row: its connection is not used again."""
    good = reply("200 OK", b"asked for")
    sent = asyncio.Event()
    scripts: dict[str, Script] = {"/bad": [good, Pause(sent), junk], "/good": [good]}
    async with ScriptedServer(scripts) as server, Fetcher(CONFIG, Arena(1_000_000)) as fetcher:
        for path in ("/bad", "/good", "/bad", "/good"):
            result = await fetcher.fetch(Request(0, server.url(path)))
            assert isinstance(result, Fetched), result
            assert bytes(result.response.body) == b"asked for"
            result.slot.release()
            if path == "/bad":
                sent.set()
                async with asyncio.timeout(20.0):
                    while not _surplus_has_come(fetcher):  # noqa: ASYNC110 - a socket sets no event
                        await asyncio.sleep(0.001)
                sent.clear()


async def test_promises_take_no_budget() -> None:
    """Servers that promise much and send little leave the budget to those who send."""
    promise = OK + b"Content-Length: 150000\r\n\r\n"
    scripts: dict[str, Script] = {"/slow": [promise, b"x" * 500, HANG], "/good": [reply("200 OK", b"good" * 100)]}
    arena = Arena(1024 * 1024)
    config = FetchConfig("test", allow_net=("127.0.0.0/8",), max_bytes=64 * 1024 * 1024, stall_timeout_s=60.0)
    scripts["/slow"] = [OK + b"Content-Length: 60000000\r\n\r\n", b"x" * 500, HANG]
    async with ScriptedServer(scripts) as server, Fetcher(config, arena) as fetcher, asyncio.TaskGroup() as group:
        slow = [group.create_task(fetcher.fetch(Request(n, server.url("/slow")))) for n in range(8)]
        good = await fetcher.fetch(Request(9, server.url("/good")))
        assert isinstance(good, Fetched)
        good.slot.release()
        for task in slow:
            task.cancel()
