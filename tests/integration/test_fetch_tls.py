"""https: who is believed, what a broken handshake is called, and that a cut is noticed under TLS as well."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Failed, Fetched, Fetcher
from scraper.records import Request
from scraper.testing.server import CLOSE, HANG, RESET, Script, ScriptedServer, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody has heard of, made anew each time."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What the server needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client believes the authority. aiohttp makes its context once, at import."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)


async def ending(url: str) -> str:
    """The body, or the class and sentence of the failure."""
    async with Fetcher(FetchConfig("test", connect_timeout_s=1.0), Arena(10_000)) as fetcher:
        result = await fetcher.fetch(Request(0, url))
    if isinstance(result, Failed):
        return str(result.error)
    assert isinstance(result, Fetched)
    return bytes(result.response.body).decode()


@LOOPS
def test_nobody_unknown_is_believed(run: Run, tls: ssl.SSLContext) -> None:
    """A certificate from nobody we trust ends the row, and not a byte of the request is sent."""

    async def main() -> str:
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            said = await ending(server.url())
            assert server.requests == []
            return said

    said = run(main())
    assert said == "tls.verify: The certificate is not accepted: unable to get local issuer certificate."


@LOOPS
@pytest.mark.usefixtures("trusted")
def test_https_works_and_is_timed(run: Run, tls: ssl.SSLContext) -> None:
    """A trusted server is fetched from; the handshake is told from the connect, and both are spared when warm."""

    async def main() -> None:
        config = FetchConfig("test")
        server = ScriptedServer([reply("200 OK", b"x")], tls=tls)
        async with server, Fetcher(config, Arena(10_000)) as fetcher:
            for warm in (False, True):
                result = await fetcher.fetch(Request(0, server.url()))
                assert isinstance(result, Fetched), result
                timings = result.response.timings
                assert (timings.tls_ms == 0) == (timings.connect_ms == 0) == warm
                result.slot.release()
            assert server.connections == 1

    run(main())


@pytest.mark.usefixtures("trusted")
async def test_another_hosts_certificate(tls: ssl.SSLContext) -> None:
    """A valid certificate for another name is not accepted."""
    async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
        said = await ending(server.url(host="other.localhost"))
    assert said.startswith("tls.verify: The certificate is not accepted: ")
    assert "other.localhost" in said


@LOOPS
@pytest.mark.parametrize(
    ("script", "class_"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE], "tls.handshake"),
        ([CLOSE], "tls.handshake"),
        ([RESET], "tls.handshake"),
        ([HANG], "connect.timeout"),
    ],
    ids=["plain HTTP", "closes", "resets", "says nothing"],
)
def test_what_is_no_handshake(run: Run, script: Script, class_: str) -> None:
    """Whoever cannot shake hands is told from whoever does not answer."""

    async def main() -> str:
        async with ScriptedServer(script, greet=True) as server:
            return await ending(server.url().replace("http://", "https://"))

    assert run(main()).partition(":")[0] == class_


@LOOPS
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("script", "end"),
    [
        ([OK + b"Content-Length: 5\r\n\r\nwhole", RESET], "whole"),
        ([OK + b"\r\nwhole", CLOSE], "whole"),
        ([OK + b"\r\nhalf", RESET], "connect.reset"),
        ([OK + b"Content-Length: 9\r\n\r\nhalf", RESET], "connect.reset"),
        ([OK + b"Content-Length: 9\r\n\r\nhalf", CLOSE], "body.truncated"),
    ],
    ids=["whole, then cut", "until close", "until cut", "cut", "short"],
)
def test_how_a_body_ends(run: Run, tls: ssl.SSLContext, script: Script, end: str) -> None:
    """A connection cut after the whole body does no harm; one cut before is never taken for an end."""

    async def main() -> str:
        async with ScriptedServer(script, tls=tls) as server:
            return await ending(server.url())

    assert run(main()).partition(":")[0] == end
