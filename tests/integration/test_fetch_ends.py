"""How hops end other than well: connections that break, deadlines, cancellation, names that lead nowhere."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from scraper.answers import Failed, Fetched
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Fetcher
from scraper.records import Request, Response
from scraper.resolver import Answer, HostNotFound, LookupFailed, Resolver
from scraper.testing.server import CLOSE, HANG, Drip, Pause, Script, ScriptedServer, Turns, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def config(**changes: Any) -> FetchConfig:
    """Limits that end a test soon."""
    return FetchConfig(
        **{
            "user_agent": "tester/1",
            "allow_net": ("127.0.0.0/8",),
            "timeout_s": 5.0,
            "connect_timeout_s": 5.0,
            "stall_timeout_s": 5.0,
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


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(30.0):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


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
def test_a_stale_connection_is_nobodys_fault(run: Run) -> None:
    """Closed by the server just as it is reused, a connection is replaced at once, by one that nobody has used."""

    async def main() -> None:
        both = asyncio.Event()
        scripts: dict[str, Script | Turns] = {
            "/warm": [Pause(both), reply("200 OK", b"x")],
            "/stale": Turns(([CLOSE], [reply("200 OK", b"fresh")])),
        }
        async with ScriptedServer(scripts) as server, Fetcher(config(), arena()) as fetcher:
            async with asyncio.TaskGroup() as group:  # two idle connections
                for _ in range(2):
                    group.create_task(body_of(fetcher, server.url("/warm")))
                await until(lambda: server.connections == 2)
                both.set()
            assert await body_of(fetcher, server.url("/stale")) == b"fresh"
            assert server.asked["/stale"] == 2
            assert server.connections == 3

    run(main())


async def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    """Only a reused connection can be stale: a server that hangs up on a new one is asked once."""
    async with ScriptedServer([CLOSE]) as server, Fetcher(config(), arena()) as fetcher:
        failed = await failure_of(fetcher, server.url("/x"))
        assert failed.error.class_ == "connect.reset"
        assert server.asked["/x"] == 1


async def test_stale_twice_is_a_failure() -> None:
    """Where the replacement breaks as well, the row fails like any other."""
    scripts: dict[str, Script] = {"/warm": [reply("200 OK", b"x")], "/broken": [CLOSE]}
    async with ScriptedServer(scripts) as server, Fetcher(config(), arena()) as fetcher:
        await body_of(fetcher, server.url("/warm"))
        assert (await failure_of(fetcher, server.url("/broken"))).error.class_ == "connect.reset"
        assert server.asked["/broken"] == 2


@LOOPS
def test_cancelled_from_outside(run: Run) -> None:
    """Cancelled in the middle of a body, a fetch raises CancelledError, gives its bytes back and hangs up."""

    async def main() -> None:
        budget = arena()
        script = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", HANG]
        async with ScriptedServer(script) as server, Fetcher(config(), budget) as fetcher:
            task = asyncio.ensure_future(fetcher.fetch(Request(0, server.url())))
            await until(lambda: budget.held > 0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert budget.held == 0
            assert "0 in flight" in repr(fetcher._watchdog)

    run(main())


async def test_waiting_for_the_budget_is_no_time_of_the_servers() -> None:
    """How long a fetch waits for the byte budget is left out of what it took."""
    budget = Arena(1_000)
    async with ScriptedServer([reply("200 OK", b"x" * 900)]) as server, Fetcher(config(), budget) as fetcher:
        first = await fetcher.fetch(Request(0, server.url()))
        assert isinstance(first, Fetched)
        elder = await budget.reserve(1)  # the oldest that is filling may always go on; this one is it
        began = time.perf_counter()
        task = asyncio.ensure_future(fetcher.fetch(Request(1, server.url())))
        await until(lambda: "1 waiting" in repr(budget))
        await asyncio.sleep(0.2)
        first.slot.release()
        second = await task
        whole_ms = (time.perf_counter() - began) * 1e3
        elder.release()
        assert isinstance(second, Fetched), second
        assert 0 < second.response.timings.total_ms <= whole_ms - 190  # 200, but for the grain of the loop's clock
        second.slot.release()
        assert budget.held == 0


@pytest.mark.parametrize(
    ("script", "changes", "class_"),
    [
        ([HANG], {"header_timeout_s": 0.1}, "timeout.stall"),
        ([b"HTTP/1.1 200 OK\r\n\r\nx", HANG], {"stall_timeout_s": 0.1}, "timeout.stall"),
        ([HANG], {"timeout_s": 0.1}, "timeout.total"),
        (
            [b"HTTP/1.1 200 OK\r\n\r\n", Drip(b"x" * 2_000, 0.002)],
            {"timeout_s": 0.2, "stall_bytes": 1},
            "timeout.total",
        ),
    ],
)
async def test_deadlines(script: Script, changes: dict[str, Any], class_: str) -> None:
    """Whoever answers too late or too slowly is hung up on, with what was spent in the timings."""
    async with ScriptedServer(script) as server, Fetcher(config(**changes), arena()) as fetcher:
        began = time.perf_counter()
        failed = await failure_of(fetcher, server.url())
        assert failed.error.class_ == class_
        assert 100 <= failed.timings.total_ms <= (time.perf_counter() - began) * 1e3


async def test_spent_time_counts() -> None:
    """An attempt that has used its time up on earlier hops ends at once."""
    async with ScriptedServer([HANG]) as server, Fetcher(config(), arena()) as fetcher:
        result = await fetcher.fetch(Request(0, server.url(), spent_s=4.9))
        assert isinstance(result, Failed)
        assert result.error.class_ == "timeout.total"
        assert result.timings.total_ms > 4_900


async def test_nobody_listens() -> None:
    """A refused connection says where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with Fetcher(config(), arena()) as fetcher:
            failed = await failure_of(fetcher, f"http://127.0.0.1:{port}/")
    assert str(failed.error) == f"connect.refused: No connection to 127.0.0.1:{port}: Connection refused."


async def test_names_are_resolved() -> None:
    """A name leads to its address, keeps its Host header, and its look-up shows in the timings."""
    async with (
        ScriptedServer([reply("200 OK", b"x")]) as server,
        Fetcher(config(), arena(), resolver=pretend({"photos.example": ("127.0.0.1",)})) as fetcher,
    ):
        response = await response_of(fetcher, server.url(host="PHOTOS.example"))
        assert response.timings.dns_ms > 0
        assert f"Host: photos.example:{server.port}\r\n".encode() in server.requests[0]


async def test_a_dead_first_address() -> None:
    """Where the first address refuses, the next is tried (RFC 8305)."""
    known = {"two.example": ("127.0.0.9", "127.0.0.1")}
    async with (
        ScriptedServer([reply("200 OK", b"x")]) as server,
        Fetcher(config(), arena(), resolver=pretend(known)) as fetcher,
    ):
        assert await body_of(fetcher, server.url(host="two.example")) == b"x"


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        (HostNotFound(None, "no.example does not exist"), "dns.not_found"),
        (LookupFailed(None, "no.example could not be looked up: timed out"), "dns.temporary"),
    ],
)
async def test_names_that_lead_nowhere(error: OSError, class_: str) -> None:
    """A name that does not exist is told from one that nobody can look up now."""

    async def lookup(host: str, family: int) -> Answer:
        raise error

    async with Fetcher(config(), arena(), resolver=Resolver(lookup)) as fetcher:
        failed = await failure_of(fetcher, "http://no.example/")
    assert str(failed.error) == f"{class_}: {error.strerror}."


async def test_a_look_up_that_hangs() -> None:
    """The connect timeout covers DNS; a look-up that is never answered ends there, and is what is blamed."""

    async def lookup(host: str, family: int) -> Answer:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with Fetcher(config(connect_timeout_s=0.1), arena(), resolver=Resolver(lookup)) as fetcher:
        failed = await failure_of(fetcher, "http://slow.example/")
    assert failed.error.class_ == "dns.temporary"
    assert failed.error.message == "No connection within 0.1 s: its name was still being looked up."
    assert failed.timings.dns_ms >= 100


@pytest.mark.parametrize(
    ("url", "class_"),
    [("ftp://a.example/x", "url.scheme"), ("a.example/x", "url.invalid"), ("http://1.2.3.4.5/", "url.invalid")],
)
async def test_urls_that_are_none(url: str, class_: str) -> None:
    """What is no URL to dial fails before anything is dialled."""
    async with Fetcher(config(), arena(), resolver=pretend({})) as fetcher:
        failed = await failure_of(fetcher, url)
    assert (failed.error.class_, failed.url, failed.timings.total_ms) == (class_, url, 0)


async def test_credentials_in_a_url() -> None:
    """Userinfo is sent as Basic authorization to that host; together with the user's own header it is refused."""
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        url = server.url().replace("http://", "http://user:word@")
        async with Fetcher(config(), arena()) as fetcher:
            await body_of(fetcher, url)
            assert b"Authorization: Basic dXNlcjp3b3Jk\r\n" in server.requests[0]
        async with Fetcher(config(headers={"Authorization": "Bearer t"}), arena()) as fetcher:
            failed = await failure_of(fetcher, url)
            assert failed.error.class_ == "url.invalid"
            assert "word" not in failed.error.message


async def test_a_head_that_is_too_long_is_so_however_it_comes() -> None:
    """In several pieces, the last of which holds its end: the rest of a head by itself is no HTTP."""
    head = b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 20_000
    async with (
        ScriptedServer([head, Drip(b"a", 0.02), b"a" * 80_000 + b"\r\n\r\n", HANG]) as server,
        Fetcher(config(), arena()) as fetcher,
    ):
        failed = await failure_of(fetcher, server.url())
    assert failed.error.class_ == "protocol.header_too_large"
