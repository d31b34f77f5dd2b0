"""What politeness costs: time of a request and memory of a host in the frontier. No network and no disk."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from benchmarks.figures import Finding, judged, ratios, spread, verdict
from benchmarks.setting import Setting
from scraper.backlog import Backlog
from scraper.config import PermitConfig, PolitenessConfig
from scraper.frontier import Frontier
from scraper.records import Request

T = TypeVar("T")

GOAL_US = 20.0
GOAL_BYTES = 2_048
HOSTS = 10_000
ROWS = 100_000
QUICK = 10
LATENCY_S = 0.1
BODY = 10_000

_STRIDE = 7_919
"""Prime to the number of hosts: the next row is always another host's."""

POLITE = PolitenessConfig()
RUDE = PolitenessConfig(adaptive=False, host_failures=ROWS)
"""As many requests at once as the limits allow, whatever comes of it, and no host is ever given up."""


def measure(setting: Setting) -> Finding:
    """Each row is admitted, leased, answered at once, and ended, by as many workers as in a run."""
    rows = ROWS // QUICK if setting.quick else ROWS
    polite, rude = [], []
    for number in range(setting.repeat):
        polite.append(_on_a_loop(_request_us(POLITE, rows, setting.folder / "backlog.sqlite")))
        rude.append(_on_a_loop(_request_us(RUDE, rows, setting.folder / "backlog.sqlite")))
        print(f"  {number + 1}/{setting.repeat} {polite[-1]:.1f} µs, without {rude[-1]:.1f} µs", flush=True)
    host = _on_a_loop(_host_bytes(setting.folder / "backlog.sqlite"))
    is_met = judged(polite, lambda it: it <= GOAL_US) and host <= GOAL_BYTES
    return Finding(
        f"frontier: {rows:,} rows of {HOSTS:,} hosts, no network",
        ["", "politeness on", "off", "ratio"],
        [
            ["CPU of a request, µs", spread(polite), spread(rude), spread(ratios(polite, rude), 2)],
            ["memory of a host, bytes", f"{host:,.0f}", "", ""],
        ],
        [
            "a request: admitted, leased, located, ended, given back, and the workers' turns of the event loop",
            "a host: its queue, its group, pace and address, with one answer noted; its requests not counted",
            "off: not adaptive, no circuit",
        ],
        verdict(
            "frontier",
            f"{spread(polite)} µs, {host:,.0f} B",
            f"at most {GOAL_US:.0f} µs, {GOAL_BYTES:,} B",
            is_met,
            is_valid=True,
        ),
        is_valid=True,
    )


def _on_a_loop(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _requests(rows: int) -> list[Request]:
    return [Request(n, f"http://www.host-{n * _STRIDE % HOSTS}.example/{n}") for n in range(rows)]


def _address(request: Request) -> str:
    return "10.{}.{}.1".format(*divmod(request.row * _STRIDE % HOSTS, 256))


async def _request_us(politeness: PolitenessConfig, rows: int, path: Path) -> float:
    """CPU time of a row's way through the frontier, in µs."""
    async with Backlog(path) as backlog:
        permits = PermitConfig()
        frontier = Frontier(permits, politeness, backlog)
        requests = _requests(rows)
        gc.collect()
        gc.freeze()  # a run does not hold its whole list: collections need not look at it
        began = time.process_time()
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(frontier, requests))
            for _ in range(permits.concurrency):
                group.create_task(_work(frontier))
        took = time.process_time() - began
        gc.unfreeze()
        return took / rows * 1e6


async def _feed(frontier: Frontier, requests: list[Request]) -> None:
    for at in range(0, len(requests), 500):
        await frontier.admit(requests[at : at + 500])
    frontier.close()


async def _work(frontier: Frontier) -> None:
    while True:
        async with frontier.lease() as request:
            if request is None:
                return
            _answer(frontier, request)


def _answer(frontier: Frontier, request: Request) -> None:
    host = request.host
    frontier.hosts.located(host, _address(request))
    frontier.hosts.ended(host, "ok", row=request.row, began=0.0, latency_s=LATENCY_S, count=BODY)


async def _host_bytes(path: Path) -> float:
    """What a host takes in memory that has something queued and has answered."""
    requests = _requests(HOSTS)
    async with Backlog(path) as backlog, AsyncExitStack() as leases:
        frontier = Frontier(PermitConfig(concurrency=HOSTS), POLITE, backlog)
        out = [request for request in requests if request.host]  # whose caches are not the frontier's
        await frontier.admit([Request(HOSTS, "http://the-suffixes-are-read-now.example/")])
        gc.collect()
        tracemalloc.start()
        await frontier.admit(requests)
        for request in out:
            await leases.enter_async_context(frontier.lease())
            _answer(frontier, request)
            frontier.readmit(request)
        await leases.aclose()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        frontier.stop()
    return held / HOSTS
