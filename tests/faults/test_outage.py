"""Faults that are nobody's row: the network goes and comes back, descriptors run out, a stage stands still."""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scraper.config import HealthConfig, PermitConfig, PoolConfig, RetryConfig
from scraper.engines import pipeline
from scraper.engines.job import Job
from scraper.errors import InternalFault, RunStopped, SinkFailed
from scraper.fetch import Fetcher
from scraper.origin.process import OriginProcess
from scraper.records import Outcome, Request, Result
from scraper.testing.engine import FAST, at_once, run_job
from scraper.testing.memory import MemorySink
from scraper.testing.server import CLOSE, RESET, ScriptedServer, reply


class Vanishing:
    """A web server that can go away, with all its connections, and come back at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self.enough = asyncio.Event()
        self.after = 10**9
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def come(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def go(self) -> None:
        """Stop listening and cut every connection."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                if self.asked >= self.after:
                    self.enough.set()
                writer.write(reply("200 OK", b"here"))
                await writer.drain()
        self._open.discard(writer)
        writer.close()

    def urls(self, count: int) -> list[str]:
        """So many different ones."""
        return [f"http://127.0.0.1:{self.port}/{n}" for n in range(count)]


HEALTH = HealthConfig(wait_s=20.0, failures=4, probe_s=0.05)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the run tells nobody
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_n14_a_network_that_vanishes_and_returns_costs_no_row(
    tmp_path: Path, concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it is away within the limit: rows wait, none is given up, no attempt is used up by waiting."""
    server = Vanishing()
    await server.come()
    server.after = 100
    seen: list[float] = []

    async def outage(job: Job, sink: MemorySink) -> None:
        await server.enough.wait()
        server.go()
        await _until(lambda: "network" in job.meter.paused)
        before, since = job.meter.asked, time.monotonic()
        await _until(lambda: job.meter.asked >= before + 10)
        seen.append(time.monotonic() - since)
        await server.come()

    permits, politeness = PermitConfig(concurrency=concurrency), at_once(concurrency)
    config = replace(FAST, health=HEALTH, permits=permits, politeness=politeness)
    with caplog.at_level(logging.WARNING, "scraper"):
        ran = await run_job(pipeline.run, tmp_path, server.urls(400), config=config, during=outage)
    server.go()
    assert ran.error is None
    assert ran.classes == {"ok": 400}
    assert max(outcome.attempts for outcome in ran.outcomes.values()) <= 2
    assert seen[0] >= 5 * HEALTH.probe_s  # looked for now and then, not hammered
    assert [record.getMessage().split()[0] for record in caplog.records] == ["Nothing", "The"]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_n14_the_last_rows_of_a_list_outlast_it_too_even_without_retries(
    tmp_path: Path, concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Too few are left to tell that it is gone: whoever answered last is connected to before a row is given up."""
    server = Vanishing()
    await server.come()
    server.after = 3

    async def outage(job: Job, sink: MemorySink) -> None:
        await server.enough.wait()
        server.go()
        before = job.meter.asked
        await _until(lambda: job.meter.asked >= before + 6)
        await server.come()

    permits = PermitConfig(concurrency=concurrency)
    config = replace(FAST, health=HEALTH, permits=permits, retry=RetryConfig(retries=0))
    with caplog.at_level(logging.WARNING, "scraper"):
        ran = await run_job(pipeline.run, tmp_path, server.urls(6), config=config, during=outage)
    server.go()
    assert (ran.error, ran.classes) == (None, {"ok": 6})
    assert {outcome.attempts for outcome in ran.outcomes.values()} == {1}
    assert "Whoever answered last cannot be reached" in caplog.records[0].getMessage()


async def test_n14_the_last_rows_do_not_wait_for_ever(tmp_path: Path) -> None:
    """After --network-wait they end as what they failed with."""
    server = Vanishing()
    await server.come()
    server.after = 3

    async def outage(job: Job, sink: MemorySink) -> None:
        await server.enough.wait()
        server.go()

    health, permits = replace(HEALTH, wait_s=0.3), PermitConfig(concurrency=1)
    config = replace(FAST, health=health, permits=permits, retry=RetryConfig(retries=0))
    ran = await run_job(pipeline.run, tmp_path, server.urls(5), config=config, during=outage)
    assert ran.error is None
    assert ran.classes["ok"] >= 2
    assert sum(ran.classes.values()) == 5
    assert set(ran.classes) <= {"ok", "connect.refused", "connect.reset"}


async def test_a_url_that_never_works_is_asked_no_more_than_it_may(tmp_path: Path) -> None:
    """Where somebody else can be reached its failure is its own, at once."""
    good = [reply("200 OK", b"fine"), CLOSE]
    async with ScriptedServer({"/bad": [RESET], "/0": good, "/1": good, "/2": good}) as server:
        urls = [server.url(path) for path in ("/0", "/bad", "/1", "/2")]
        config = replace(FAST, health=HEALTH, permits=PermitConfig(1), retry=RetryConfig(retries=1, wait_s=0.0))
        ran = await run_job(pipeline.run, tmp_path, urls, config=config)
        assert server.asked == {"/0": 1, "/bad": 2, "/1": 1, "/2": 1}
    assert ran.classes == {"ok": 3, "connect.reset": 1}


async def test_n14_a_network_that_stays_away_ends_the_run_all_the_same(tmp_path: Path) -> None:
    """After --network-wait failures are the rows' own again, or their host's, and every row has its outcome."""
    server = Vanishing()
    await server.come()
    server.after = 20

    async def outage(job: Job, sink: MemorySink) -> None:
        await server.enough.wait()
        server.go()

    health, politeness = replace(HEALTH, wait_s=0.3), replace(FAST.politeness, host_wait_s=0.0)
    config = replace(FAST, health=health, politeness=politeness, retry=RetryConfig(retries=1, wait_s=0.0))
    ran = await run_job(pipeline.run, tmp_path, server.urls(100), config=config, during=outage)
    assert ran.error is None
    assert len(ran.outcomes) == 100
    failed = set(ran.classes) - {"ok"}
    assert failed
    assert failed <= {"connect.refused", "connect.reset", "host.unavailable"}


async def test_hosts_that_never_answered_hold_nobody_up(tmp_path: Path) -> None:
    """A list of dead hosts fails at once: nothing speaks for a network that is gone."""
    server = Vanishing()
    await server.come()
    server.go()
    politeness = replace(FAST.politeness, host_failures=100)  # that a host as such is given up is another matter
    config = replace(FAST, health=HEALTH, politeness=politeness, retry=RetryConfig(retries=0))
    ran = await run_job(pipeline.run, tmp_path, server.urls(50), config=config)
    assert ran.classes == {"connect.refused": 50}
    assert ran.meter.asked == 50


def _limit_with_room_for(more: int) -> int:
    """A limit of open files below which so many numbers are free."""
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, more, None))


async def test_n13_a_lack_of_descriptors_shrinks_concurrency_and_fails_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit falls while the run is under way: fewer at once, every row ok at its first attempt."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with OriginProcess(latency_s=0.02) as origin, caplog.at_level(logging.WARNING, "scraper"):
        urls = [origin.url(f"/img/thumb/{n % 20}.jpg?tag={n}") for n in range(200)]

        async def squeeze(job: Job, sink: MemorySink) -> None:
            await _until(lambda: job.meter.rows_done >= 20)
            limit = _limit_with_room_for(4)
            while not caplog.records:  # how many connections are open at the moment is chance: when they are few
                with suppress(OSError):  # to look takes a descriptor
                    limit = min(limit, _limit_with_room_for(4))
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                await asyncio.sleep(0.002)

        fetch = replace(FAST.fetch, headers={"Connection": "close"})  # so that each needs one of its own
        config = replace(FAST, fetch=fetch, permits=PermitConfig(concurrency=32), politeness=at_once(32))
        try:
            ran = await run_job(pipeline.run, tmp_path, urls, config=config, during=squeeze)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ran.error is None
    assert ran.classes == {"ok": 200}
    assert any("file descriptors" in record.getMessage() for record in caplog.records)
    assert {outcome.attempts for outcome in ran.outcomes.values()} == {1}


QUICK = replace(
    FAST,
    fetch=replace(FAST.fetch, timeout_s=0.4, connect_timeout_s=0.2, header_timeout_s=0.3, stall_timeout_s=0.2),
    pool=PoolConfig(workers=1, item_timeout_s=0.2),
    retry=RetryConfig(retries=0),
    stuck_s=0.4,
)


class _HangingSink(MemorySink):
    """Never returns from a write, until it is let go."""

    let_go = asyncio.Event()

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Hang."""
        await self.let_go.wait()
        return await super().write(batch)


async def test_a_disk_that_never_answers_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run cannot finish its write, so whoever can end the process is told why; here the disk comes back."""
    told: list[str] = []

    def last_resort(fault: RunStopped) -> None:
        told.append(str(fault))
        _HangingSink.let_go.set()

    monkeypatch.setattr(_HangingSink, "let_go", asyncio.Event())
    monkeypatch.setattr("scraper.testing.engine.MemorySink", _HangingSink)
    monkeypatch.setattr("scraper.testing.engine.Job", partial(Job, last_resort=last_resort))
    with OriginProcess() as origin:
        ran = await run_job(pipeline.run, tmp_path, [origin.url("/img/thumb/1.jpg")], config=QUICK)
    assert isinstance(ran.error, SinkFailed)
    assert "The disk of the output has not answered" in told[0]
    assert ran.classes == {"ok": 1}  # the write did come to its end, and was committed


async def test_a_fetch_that_no_limit_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every limit of the fetch to fail, its row still ends, as timeout.total, and so does the run."""

    async def never(self: Fetcher, request: Request, *more: Any, **others: Any) -> object:
        if request.row == 1:
            await asyncio.get_running_loop().create_future()
        return await real(self, request, *more, **others)

    real = Fetcher.fetch
    monkeypatch.setattr(Fetcher, "fetch", never)
    with OriginProcess() as origin:
        urls = [origin.url(f"/img/thumb/{n}.jpg") for n in range(4)]
        ran = await run_job(pipeline.run, tmp_path, urls, config=QUICK)
    assert ran.error is None
    assert ran.classes == {"ok": 3, "timeout.total": 1}
    assert ran.outcomes[1].class_ == "timeout.total"


async def test_a_jam_of_our_own_ends_the_run_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the engine is an error with a description in the log, never a hang."""

    async def never(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(pipeline._Run, "transform", never)
    with OriginProcess() as origin:
        ran = await run_job(pipeline.run, tmp_path, [origin.url("/img/thumb/1.jpg")], config=QUICK)
    assert isinstance(ran.error, InternalFault)
    assert "Nothing has moved" in str(ran.error)
    assert not isinstance(ran.error, SinkFailed)
