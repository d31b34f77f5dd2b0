"""Name servers that go away and come back: hosts that are known go on, and no others are lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scraper import fetch
from scraper.config import HealthConfig, RetryConfig
from scraper.engines import pipeline
from scraper.engines.job import Job
from scraper.resolver import Answer, LookupFailed, Resolver
from scraper.testing.engine import FAST, run_job
from scraper.testing.memory import MemorySink
from scraper.testing.server import ScriptedServer, reply

HEALTH = HealthConfig(wait_s=20.0, failures=8, probe_s=0.05)


class NameServers:
    """Everything is here, while they answer.

    Attributes:
        asked: look-ups so far.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.are_dead = False

    async def __call__(self, host: str, family: int) -> Answer:
        """Look it up."""
        assert family in (socket.AF_UNSPEC, socket.AF_INET)
        self.asked += 1
        await asyncio.sleep(0)
        if self.are_dead:
            raise LookupFailed(None, f"{host} could not be looked up: nobody answers")
        return Answer(("127.0.0.1",), 300.0)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the run tells nobody
            await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_n3_dead_name_servers_pause_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of new hosts wait for them, all but those that showed it; img2dataset's issue 360 lost 70 %."""
    servers = NameServers()
    monkeypatch.setattr(fetch, "Resolver", lambda: Resolver(servers))

    async def outage(job: Job, sink: MemorySink) -> None:
        await _until(lambda: servers.asked >= 50)
        servers.are_dead = True
        await _until(lambda: "resolver" in job.meter.paused)
        assert job.meter.paused["resolver"] == "no name server answers"
        before = servers.asked
        await _until(lambda: servers.asked >= before + 10)
        servers.are_dead = False
        await _until(lambda: not job.meter.paused)

    config = replace(FAST, health=HEALTH, retry=RetryConfig(retries=0))
    async with ScriptedServer([reply("200 OK", b"here")]) as server:
        hosts = [f"h{n}.example" for n in range(300)]
        urls = [server.url(f"/{n}", host) for n, host in enumerate(hosts)]
        urls += [server.url(f"/{n}", "known.example") for n in range(50)]
        ran = await run_job(pipeline.run, tmp_path, urls, config=config, during=outage)
    assert ran.error is None
    assert ran.classes["ok"] >= len(urls) - (HEALTH.failures - 1)
    assert set(ran.classes) <= {"ok", "dns.temporary"}
