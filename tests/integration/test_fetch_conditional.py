"""Asking whether a copy is still current, against a real socket (RFC 9110 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from scraper.answers import Failed, Fetched, NotModified, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Fetcher
from scraper.records import Held, Request
from scraper.testing.server import CLOSE, HANG, RESET, Script, ScriptedServer, Turns, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]

CONFIG = FetchConfig(
    "test",
    allow_net=("127.0.0.0/8",),
    timeout_s=5.0,
    connect_timeout_s=5.0,
    header_timeout_s=5.0,
    stall_timeout_s=5.0,
)
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
SAME = b'HTTP/1.1 304 Not Modified\r\nETag: "a1"\r\nCache-Control: max-age=60\r\n\r\n'


@LOOPS
def test_a_copy_that_is_current(run: Run) -> None:
    """A 304 to our question says so, with the new headers; nothing is held, and its connection serves again."""

    async def main() -> None:
        arena = Arena(10_000)
        async with ScriptedServer({"/a": [SAME], "/b": [reply("200 OK", b"x")]}) as server:
            async with Fetcher(CONFIG, arena) as fetcher:
                url = server.url("/a")
                answer = await fetcher.fetch(Request(0, url, held=Held(url, 'W/"a1"', DATE)))
                assert isinstance(answer, NotModified), answer
                assert answer.url == url
                assert answer.headers == {"etag": '"a1"', "cache-control": "max-age=60"}
                assert answer.timings.first_byte_ms > 0
                other = await fetcher.fetch(Request(1, server.url("/b")))
                assert isinstance(other, Fetched)
                other.slot.release()
            assert arena.held == 0
            assert server.connections == 1
            assert b'\r\nIf-None-Match: W/"a1"\r\n' in server.requests[0]
            assert f"\r\nIf-Modified-Since: {DATE}\r\n".encode() in server.requests[0]
            assert b"\r\nIf-" not in server.requests[1]

    run(main())


async def test_a_304_that_nobody_asked_for() -> None:
    """Without a question, with the user's own, and with a copy from elsewhere, a 304 is a failure."""
    mine = FetchConfig("test", allow_net=("127.0.0.0/8",), headers={"If-None-Match": '"mine"'})
    async with ScriptedServer({"/a": [SAME]}) as server:
        url = server.url("/a")
        for config, held in (
            (CONFIG, None),
            (CONFIG, Held(url)),
            (CONFIG, Held(url + "?other", '"a1"')),
            (mine, Held(url, '"a1"')),
        ):
            async with Fetcher(config, Arena(10_000)) as fetcher:
                answer = await fetcher.fetch(Request(0, url, held=held))
            assert isinstance(answer, Failed)
            assert answer.error.class_ == "http.304"
        assert [head.count(b"If-") for head in server.requests] == [0, 0, 0, 1]


async def test_a_server_that_does_not_care() -> None:
    """Who answers 200 all the same has given the whole, whatever its validators say."""
    script = [reply("200 OK", b"whole", 'ETag: "a1"')]
    async with ScriptedServer(script) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
        answer = await fetcher.fetch(Request(0, server.url(), held=Held(server.url(), '"a1"')))
        assert isinstance(answer, Fetched)
        with answer.slot:
            assert answer.response.body == b"whole"


async def test_the_question_is_put_at_the_last_hop() -> None:
    """Where the copy came from behind a redirect, only that hop is asked whether it has changed."""
    scripts: dict[str, Script] = {"/from": [reply("302 Found", b"", "Location: /to")], "/to": [SAME]}
    async with ScriptedServer(scripts) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
        request = Request(0, server.url("/from"), held=Held(server.url("/to"), '"a1"'))
        onward = await fetcher.fetch(request)
        assert isinstance(onward, Redirected)
        answer = await fetcher.fetch(onward.request)
        assert isinstance(answer, NotModified)
        assert answer.url == server.url("/to")
        assert [b"If-None-Match" in head for head in server.requests] == [False, True]


@pytest.mark.parametrize("ending", [CLOSE, RESET, HANG, b"a body all the same"])
async def test_what_comes_after_a_304_changes_nothing(ending: Any) -> None:
    """The answer stands by its headers, whatever the connection does next."""
    async with ScriptedServer([SAME, ending]) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
        answer = await fetcher.fetch(Request(0, server.url(), held=Held(server.url(), '"a1"')))
    assert isinstance(answer, NotModified)


@LOOPS
def test_a_stale_connection_repeats_the_question(run: Run) -> None:
    """The request that replaces one on a stale connection carries the same conditions."""

    async def main() -> None:
        scripts: dict[str, Script | Turns] = {"/warm": [reply("200 OK", b"x")], "/a": Turns(([CLOSE], [SAME]))}
        async with ScriptedServer(scripts) as server, Fetcher(CONFIG, Arena(10_000)) as fetcher:
            warm = await fetcher.fetch(Request(0, server.url("/warm")))
            assert isinstance(warm, Fetched)
            warm.slot.release()
            url = server.url("/a")
            assert isinstance(await fetcher.fetch(Request(1, url, held=Held(url, '"a1"'))), NotModified)
            assert [b"If-None-Match" in head for head in server.requests] == [False, True, True]

    run(main())
