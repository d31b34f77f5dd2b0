"""When this machine has no descriptor left: whose fault it is, what leaks, and whether it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from scraper.answers import Failed, Fetched
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.errors import OutOfResources
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.resolver import Answer, AresLookup, LookupFailed, Resolver
from scraper.testing.server import Script, ScriptedServer, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]
CONFIG = FetchConfig("test", allow_net=("127.0.0.0/8",), timeout_s=20.0, connect_timeout_s=20.0)


@contextlib.contextmanager
def exhausted() -> Iterator[None]:
    """No descriptor can be had in this process, for as long as this lasts.

    Whatever others give back meanwhile, such as the thread in which c-ares ends what earlier tests have closed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def used_up() -> Iterator[None]:
    """The same, but what is given back can be had again."""
    gc.collect()  # what others left behind would give descriptors back in the middle of it
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_open()) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _open() -> set[int]:
    return {int(each.name) for each in Path("/proc/self/fd").iterdir()}


async def _ok(fetcher: Fetcher, url: str) -> bool:
    answer = await fetcher.fetch(Request(0, url))
    if isinstance(answer, Fetched):
        answer.slot.release()
    return isinstance(answer, Fetched)


@LOOPS
def test_out_of_descriptors_is_nobodys_row(run: Run) -> None:
    """Without a descriptor a hop fails as our own lack, whatever else fails; nothing leaks, and later it works."""

    async def main() -> None:
        async def lookup(host: str, family: int) -> Answer:
            return Answer(("127.0.0.9", "127.0.0.1"), 300.0)

        arena = Arena(10_000)
        async with (
            ScriptedServer([reply("200 OK", b"x")]) as server,
            Fetcher(CONFIG, arena, resolver=Resolver(lookup)) as fetcher,
        ):
            gc.collect()
            before = _open()
            for url in (server.url(), server.url(host="two.example")):
                with exhausted():
                    answers = [await fetcher.fetch(Request(row, url)) for row in range(20)]
                for answer in answers:
                    assert isinstance(answer, Failed)
                    assert isinstance(answer.error, OutOfResources)
                    assert answer.error.class_ == "connect.reset"
                    assert answer.error.message.startswith("This machine is out of file descriptors")
            assert _open() <= before
            assert arena.held == 0
            assert "0 in flight" in repr(fetcher._watchdog)
            assert await _ok(fetcher, server.url())
            assert await _ok(fetcher, server.url(host="two.example"))

    run(main())


@LOOPS
def test_idle_connections_make_room(run: Run) -> None:
    """Where all descriptors are taken, those of connections kept for reuse are given up, and it works again."""

    async def main() -> None:
        script: Script = [reply("200 OK", b"x")]
        async with (
            ScriptedServer(script) as one,
            ScriptedServer(script) as other,
            Fetcher(CONFIG, Arena(10_000)) as fetcher,
        ):
            assert await _ok(fetcher, one.url())
            with used_up():
                first = await fetcher.fetch(Request(1, other.url()))
                assert isinstance(first, Failed)
                assert isinstance(first.error, OutOfResources)
                async with asyncio.timeout(10.0):  # less than an idle connection is kept for
                    while not await _ok(fetcher, other.url()):  # noqa: ASYNC110 - a closed socket sets no event
                        await asyncio.sleep(0.001)

    run(main())


@LOOPS
def test_a_look_up_without_a_descriptor(run: Run) -> None:
    """A name that cannot be looked up for want of a descriptor is our own lack, and known not to be the name's."""

    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            lookup = AresLookup((f"127.0.0.1:{silent.getsockname()[1]}",), timeout_s=0.05, tries=1)
            async with Fetcher(CONFIG, Arena(10_000), resolver=Resolver(lookup)) as fetcher:
                with exhausted():
                    with pytest.raises(LookupFailed) as caught:
                        await lookup("a.example", socket.AF_UNSPEC)
                    failed = await fetcher.fetch(Request(0, "http://b.example/"))
                assert caught.value.errno == errno.EMFILE
                assert isinstance(failed, Failed)
                assert isinstance(failed.error, OutOfResources)
                with pytest.raises(LookupFailed) as caught:
                    await lookup("c.example", socket.AF_UNSPEC)
                assert caught.value.errno is None
            await lookup.close()

    run(main())


@LOOPS
def test_whether_somebody_can_be_reached(run: Run) -> None:
    """A connection that is taken says yes, and nothing is asked; a lack of our own says nothing of anybody."""

    async def main() -> None:
        async def nowhere(host: str, family: int) -> Answer:
            raise LookupFailed(None, f"{host} could not be looked up")

        fetcher = Fetcher(CONFIG, Arena(10_000))
        async with ScriptedServer([reply("200 OK")]) as server, fetcher:
            assert await fetcher.reaches(server.url("/a"))
            with exhausted():
                assert await fetcher.reaches(server.url("/a"))
            assert server.asked == {}
            port = server.port
        async with Fetcher(CONFIG, Arena(10_000), resolver=Resolver(nowhere)) as fetcher:
            assert not await fetcher.reaches(f"http://127.0.0.1:{port}/a")
            assert not await fetcher.reaches("http://a.example/")

    run(main())
