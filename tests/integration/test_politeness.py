"""What docs/politeness.md promises, as a server sees it: whole runs, judged by the log of whom they asked.

Times are when requests came, by the loop's clock. Bounds are on the early side only: what is too late is a matter
of the machine, what is too early is a matter of manners.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import signal
import sqlite3
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines import files
from scraper import Report, Watch, arun
from scraper.policies import circuit
from scraper.policies.pace import Pace
from scraper.testing.server import LOOPBACK, ROBOTS, reply

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_page")]  # all of them look at whole runs

SLACK_S = 0.001
"""Timers are rounded to a millisecond."""

FINE = reply("200 OK", b"fine")
NO_ROBOTS = reply("404 Not Found")
BUSY = reply("429 Too Many Requests")
BROKEN = reply("502 Bad Gateway")


class Asked(NamedTuple):
    """One request, as it came.

    Attributes:
        at: when.
        host: whom it was for: the Host header.
        path: for what.
        at_once: requests of that host under way, this one included.
        in_all: the same of all hosts.
        answered: requests of that host that had been answered.
    """

    at: float
    host: str
    path: str
    at_once: int
    in_all: int
    answered: int


Answer = Callable[[Asked], Awaitable[bytes]]


async def fine(asked: Asked) -> bytes:
    """What most servers say, and after how long."""
    await asyncio.sleep(0.005)
    return FINE


class Site:
    """A server on several addresses, each of which is a host with a port of its own.

    Attributes:
        hosts: ``address:port`` of each.
        log: the requests, in the order they came.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._under_way: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()
        self.hosts: list[str] = []
        self.log: list[Asked] = []

    def of(self, host: str) -> list[Asked]:
        """The log of one host."""
        return [asked for asked in self.log if asked.host == host]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                host = next(line[6:] for line in head if line.lower().startswith("host: "))
                self._under_way[host] += 1
                counts = (self._under_way[host], self._under_way.total(), self._answered[host])
                asked = Asked(asyncio.get_running_loop().time(), host, head[0].split(" ")[1], *counts)
                self.log.append(asked)
                try:
                    answer = await self._answer(asked)
                finally:
                    self._under_way[host] -= 1
                self._answered[host] += 1
                writer.write(answer)
                await writer.drain()
        self._serving.discard(task)
        writer.transport.abort()

    def hang_up(self) -> None:
        """End what is under way."""
        for task in self._serving:
            task.cancel()


@asynccontextmanager
async def site(answer: Answer = fine, addresses: Sequence[str] = ("127.0.0.1",)) -> AsyncIterator[Site]:
    """A server while the block is open."""
    served = Site(answer)
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            server = await stack.enter_async_context(await asyncio.start_server(served.converse, address, 0))
            served.hosts.append(f"{address}:{server.sockets[0].getsockname()[1]}")
        stack.callback(served.hang_up)
        yield served


async def a_run(out: Path, urls: Sequence[str], watch: Watch | None = None, **more: Any) -> Report:
    """One run that uses the limits as they are, and asks for no robots.txt unless told to."""
    settings: dict[str, Any] = {"workers": 1, "allow_net": [LOOPBACK, "::1"], "pace": "fixed", "robots": "ignore"}
    settings |= more
    return await arun(files.build(), urls=urls, out=out, watch=watch, **settings)


async def scraper(folder: Path, urls: Sequence[str], *words: str) -> Process:
    """The command line, begun: ``scraper files`` into ``folder/out``."""
    listed = folder / "list.txt"
    await asyncio.to_thread(listed.write_text, "\n".join(urls))
    command = [sys.executable, "-m", "scraper", "files", str(listed), "-o", str(folder / "out"), "--workers", "1"]
    said = ["--progress", "none", "--allow-net", LOOPBACK, *words]
    return await asyncio.create_subprocess_exec(*command, *said, stderr=PIPE)


def urls_of(host: str, rows: int) -> list[str]:
    """So many rows of one host."""
    return [f"http://{host}/{n}" for n in range(rows)]


def gaps(log: Sequence[Asked]) -> list[float]:
    """Seconds from each request to the next."""
    return [after.at - before.at for before, after in itertools.pairwise(log)]


def are_apart(log: Sequence[Asked], least_s: float) -> bool:
    """Whether requests came with gaps of at least so many seconds.

    A busy machine lets a request lie for some milliseconds before this server sees it, which makes the gap before
    it longer and the one after it shorter: measured, 5 ms beside four busy processes on two cores. So the middle
    one of the gaps is held to the timer's rounding, and each of them to half.
    """
    found = gaps(log)
    return statistics.median(found) >= least_s - SLACK_S and min(found) >= least_s / 2


def most_at_once(log: Sequence[Asked]) -> int:
    """Requests of one host that were under way together."""
    return max(asked.at_once for asked in log)


async def test_per_host(tmp_path: Path) -> None:
    """As many at once as the limit allows, and never more; each of two hosts by its own limit."""
    async with site(addresses=["127.0.0.1", "127.0.0.2"]) as served:
        urls = [url for host in served.hosts for url in urls_of(host, 30)]
        report = await a_run(tmp_path, urls, per_host=2, hosts={"127.0.0.2": {"per_host": 5}})
        assert [most_at_once(served.of(host)) for host in served.hosts] == [2, 5]
    assert report.by_class == {"ok": 60}


@pytest.mark.parametrize("limit", [{"delay": "80ms"}, {"rate": 12.5}, {}], ids=["delay", "rate", "Crawl-delay"])
async def test_gaps(tmp_path: Path, limit: dict[str, Any]) -> None:
    """Each request comes 80 ms after the one before, be it for robots.txt, a row, a redirect or a retry."""
    rules = b"User-agent: *\nDisallow: /nothing\n" + (b"" if limit else b"Crawl-delay: 0.08\n")
    answers = {
        ROBOTS: [reply("200 OK", rules)],
        "/0": [reply("302 Found", b"", "Location: /elsewhere")],
        "/1": [reply("503 Service Unavailable"), FINE],
    }

    async def answer(asked: Asked) -> bytes:
        left = answers.get(asked.path, [FINE])
        await asyncio.sleep(0.1 if asked.path == "/2" else 0.0)  # some are under way while the next comes
        return left.pop(0) if len(left) > 1 else left[0]

    async with site(answer) as served:
        report = await a_run(tmp_path, urls_of(served.hosts[0], 6), robots="obey", retry_wait="10ms", **limit)
        assert (served.log[0].path, len(served.log)) == (ROBOTS, 9)
        assert are_apart(served.log, 0.08), gaps(served.log)
    assert report.by_class == {"ok": 6}


async def test_each_host_has_its_own_gap(tmp_path: Path) -> None:
    """A delay for one host holds for all the names of its pattern together, and for nobody else."""
    async with site() as served:
        port = served.hosts[0].partition(":")[2]
        names = [f"{name}:{port}" for name in ("a.slow.localhost", "b.slow.localhost", "fast.localhost")]
        urls = [url for name in names for url in urls_of(name, 4)]
        await a_run(tmp_path, urls, hosts={"*.slow.localhost": {"delay": "70ms"}})
        slow = [asked for asked in served.log if ".slow." in asked.host]
        assert len(slow) == 8
        assert are_apart(slow, 0.07), gaps(slow)
        assert served.of(names[2])[-1].at < slow[-1].at


async def test_limits_of_a_file(tmp_path: Path) -> None:
    """Tables of hosts in a file for ``--config`` reach the run: how many at once, and how far apart."""
    config = tmp_path / "run.toml"
    config.write_text(
        'per_host = 3\npace = "fixed"\n[hosts."127.0.0.2"]\nper_host = 1\n[hosts."127.0.0.3"]\nrate = 5\n'
    )
    async with site(addresses=["127.0.0.1", "127.0.0.2", "127.0.0.3"]) as served:
        urls = [url for host in served.hosts for url in urls_of(host, 4 if ".3:" in host else 12)]
        run = await scraper(tmp_path, urls, "--config", str(config), "--robots", "ignore")
        assert await run.wait() == 0
        first, second, third = (served.of(host) for host in served.hosts)
    assert (most_at_once(first), most_at_once(second), len(third)) == (3, 1, 4)
    assert are_apart(third, 0.2), gaps(third)


async def test_bandwidth(tmp_path: Path) -> None:
    """The bodies of a host come no faster than so many bytes a second, over all that are read at once."""
    size, per_s, at_once = 10_000, 200_000, 3

    async def answer(asked: Asked) -> bytes:
        return reply("200 OK", bytes(size))

    async with site(answer) as served:
        urls = urls_of(served.hosts[0], 10)
        report = await a_run(tmp_path, urls, per_host=at_once, bandwidth=per_s)
        for read, asked in enumerate(served.log[at_once:], start=1):
            assert asked.at - served.log[0].at >= read * size / per_s - SLACK_S
    assert report.by_class == {"ok": 10}


async def test_many_names_of_one_address(tmp_path: Path) -> None:
    """Once it is known that they are one machine, twelve hosts get no more at once than four would."""
    async with site() as served:
        port = served.hosts[0].partition(":")[2]
        names = [f"n{n}.localhost:{port}" for n in range(12)]
        urls = [url for rows in zip(*(urls_of(name, 10) for name in names), strict=True) for url in rows]
        report = await a_run(tmp_path, urls, per_host=2)
        known_from = max(
            next(i for i, one in enumerate(served.log) if one.host == name and one.answered) for name in names
        )
        known = served.log[known_from + 1 :]
        assert len(known) > 40
        assert max(asked.in_all for asked in known) == 8
    assert report.by_class == {"ok": 120}


async def test_pace_grows(tmp_path: Path) -> None:
    """Two at once to begin with, one more for each answer that is good, up to the limit."""
    async with site() as served:
        await a_run(tmp_path, urls_of(served.hosts[0], 60), pace="adaptive")
        assert all(asked.at_once <= 2 + asked.answered for asked in served.log)
        assert most_at_once(served.log) == 8


async def test_pace_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 while eight are under way: from then on it is four."""
    told: list[float] = []
    heard = asyncio.Event()
    cut = Pace._cut

    def noted(self: Pace, by: str, now: float) -> None:
        cut(self, by, now)
        heard.set()

    monkeypatch.setattr(Pace, "_cut", noted)

    async def answer(asked: Asked) -> bytes:
        if asked.at_once == 8 and not told:
            told.append(asked.at)
            return BUSY
        await asyncio.sleep(0.02)
        if told and asked.at < told[0]:
            await heard.wait()  # what is under way is so until the 429 has been heard
        return FINE

    async with site(answer) as served:
        report = await a_run(tmp_path, urls_of(served.hosts[0], 60), pace="adaptive", retry_wait=0)
        # For a second nothing grows; it need not be waited for.
        later = [asked for asked in served.log if told[0] < asked.at < told[0] + 0.9]
        assert most_at_once(later) == 4
    assert report.by_class == {"ok": 60}


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after(tmp_path: Path, form: str) -> None:
    """A host that says when to come back is left alone until then by all its rows, and others are not."""
    free_at: list[float] = []
    told = asyncio.Event()

    async def answer(asked: Asked) -> bytes:
        if not asked.host.startswith("127.0.0.1"):
            await told.wait()
            return FINE
        if asked.at_once == 3 and not free_at:
            now, wall = asyncio.get_running_loop().time(), time.time()
            on = math.ceil(wall) + 1
            said, left_s = ("1", 1.0) if form == "seconds" else (formatdate(on, usegmt=True), on - wall)
            free_at.append(now + left_s)
            told.set()
            return reply("503 Service Unavailable", b"", f"Retry-After: {said}")
        await told.wait()
        return FINE

    async with site(answer, ["127.0.0.1", "127.0.0.2"]) as served:
        urls = [url for host in served.hosts for url in urls_of(host, 8)]
        report = await a_run(tmp_path, urls, per_host=3, retry_wait=0)
        held, other = (served.of(host) for host in served.hosts)
        assert len(held) == 9
        assert min(asked.at for asked in held[3:]) >= free_at[0] - SLACK_S
        assert other[3].at < free_at[0]
    assert report.by_class == {"ok": 16}


def holds_in(out: Path) -> int:
    """Hosts that the ledger of a run, which has asked somebody already, knows are to be left alone."""
    path = f"file:{out}/.scraper/ledger.sqlite?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM holds").fetchone()[0])


async def test_retry_after_outlives_the_run(tmp_path: Path) -> None:
    """A run that is killed and begun again comes back when the server said, and not before."""
    free_at: list[float] = []

    async def answer(asked: Asked) -> bytes:
        if asked.path == ROBOTS:
            return NO_ROBOTS
        if not free_at:
            free_at.append(asked.at + 3.0)  # starting anew takes half of it
            return reply("429 Too Many Requests", b"", "Retry-After: 3")
        return FINE

    async with site(answer) as served:
        words = (urls_of(served.hosts[0], 4), "--per-host", "1")
        run = await scraper(tmp_path, *words)
        while not free_at or not await asyncio.to_thread(holds_in, tmp_path / "out"):
            assert run.returncode is None, (await run.communicate())[1]
            await asyncio.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        assert await run.wait() == -signal.SIGKILL
        before = len(served.log)
        run = await scraper(tmp_path, *words)
        assert await run.wait() == 0
        assert served.log[before].at >= free_at[0] - SLACK_S
        assert Counter(asked.path for asked in served.log[before:] if asked.path != ROBOTS) == dict.fromkeys(
            ("/0", "/1", "/2", "/3"), 1
        )


async def test_retry_after_beyond_the_limit(tmp_path: Path) -> None:
    """A server that wants to be left alone for too long is, in this run and in the next; its rows end unasked."""

    async def answer(asked: Asked) -> bytes:
        return reply("429 Too Many Requests", b"", "Retry-After: 3600")

    async with site(answer) as served:
        passes: tuple[dict[str, Any], ...] = ({}, {"retry_failed": True})
        for again in passes:
            report = await a_run(
                tmp_path, urls_of(served.hosts[0], 20), per_host=1, max_retry_after="1s", max_failed=20, **again
            )
            assert report.by_class == {"host.unavailable": 20}
            assert [asked.path for asked in served.log] == ["/0"]


async def test_a_host_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten failures, then only probes, further and further apart; others notice nothing, and no row is lost."""
    monkeypatch.setattr(circuit, "FIRST_PROBE_S", 0.2)
    probes = 3

    async def answer(asked: Asked) -> bytes:
        if asked.host == served.hosts[1]:
            return await fine(asked)
        # It is down until the other host has been asked for everything.
        return (
            FINE if len(served.of(asked.host)) >= 10 + probes and len(served.of(served.hosts[1])) == 40 else BROKEN
        )

    async with site(answer, ["127.0.0.1", "127.0.0.2"]) as served:
        urls = [url for host, rows in zip(served.hosts, (15, 40), strict=True) for url in urls_of(host, rows)]
        report = await a_run(tmp_path, urls, per_host=1, retries=50, retry_wait=0)
        waits = gaps(served.of(served.hosts[0]))[9 : 9 + probes]
        assert all(wait >= least - SLACK_S for wait, least in zip(waits, (0.2, 0.4, 0.8), strict=True))
    assert report.by_class == {"ok": 55}


async def test_order(tmp_path: Path) -> None:
    """A list that begins with 20,000 rows of one host: all 200 hosts behind are asked before half are done."""
    others = 200

    async def answer(asked: Asked) -> bytes:
        if asked.host == served.hosts[0]:
            if asked.answered < 10_000:
                return FINE
        elif len({one.host for one in served.log}) <= others:
            return FINE
        watch.stop.set()
        return FINE

    watch = Watch()
    async with site(answer, [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(others + 1)]) as served:
        first, *rest = served.hosts
        urls = urls_of(first, 20_000) + [f"http://{host}/" for host in rest]
        await a_run(tmp_path, urls, watch)
        asked = {one.host for one in served.log}
        assert asked == set(served.hosts)


async def test_opt_outs(tmp_path: Path) -> None:
    """A page that opts out is asked for once, whatever later runs are told; why is kept with the row."""

    async def answer(asked: Asked) -> bytes:
        if asked.path == ROBOTS:
            return reply("200 OK", b"User-agent: *\nDisallow: /3")
        if asked.path == "/1":
            return reply("200 OK", b"mine", "X-Robots-Tag: noai")
        return reply("404 Not Found") if asked.path == "/2" else FINE

    async with site(answer) as served:
        passes: tuple[dict[str, Any], ...] = ({}, {"retry_failed": True}, {"refresh": True})
        for again in passes:
            report = await a_run(tmp_path, urls_of(served.hosts[0], 4), robots="obey", max_failed=1, **again)
            assert report.by_class == {"ok": 1, "http.404": 1, "optout.header": 1, "robots.disallowed": 1}
        asked = Counter(one.path for one in served.log)
        assert asked == {ROBOTS: 1, "/0": 2, "/1": 1, "/2": 3}
    assert "noai" in next(skip for skip in report.skips if skip.of.name == "optout.header").samples[0].message


@pytest.mark.parametrize(("rows", "says_when"), [(8, False), (15, True)])
async def test_a_server_that_bears_five_a_second(tmp_path: Path, rows: int, says_when: bool) -> None:
    """Whatever is beyond that is told 429; the pace is found, and no row is lost to it."""
    borne: list[float] = []

    async def answer(asked: Asked) -> bytes:
        if sum(at > asked.at - 1 for at in borne) >= 5:
            return reply("429 Too Many Requests", b"", *(["Retry-After: 1"] if says_when else []))
        borne.append(asked.at)
        return FINE

    async with site(answer) as served:
        report = await a_run(tmp_path, urls_of(served.hosts[0], rows), pace="adaptive")
    assert report.by_class == {"ok": rows}
