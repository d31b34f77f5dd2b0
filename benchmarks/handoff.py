"""What it costs to get a body to a worker: pickled, through the pipe, or by where it is in shared memory.

No network and no disk: pieces of 64 KB, as they come from a socket, become a body; a batch of them goes to one
worker, which takes the SHA-256, as for every body of a run, and gives nothing back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import uvloop

from benchmarks.figures import Finding, judged, ratios, spread, verdict
from benchmarks.setting import Setting
from scraper.allocator import tune_allocator
from scraper.arena import Arena
from scraper.config import MIB, PoolConfig
from scraper.memory import shared_memory
from scraper.pool import Pool
from scraper.records import Item, Request, Response

GOAL_US = 100.0
GOAL_SIZE = 350_000
BODIES = {4_000: 8_000, 36_000: 4_000, GOAL_SIZE: 1_000, 3_000_000: 150}
"""Bytes of a body, and how many of them a measurement takes."""

QUICK = 10
BUDGET = 256 * MIB
IN_FLIGHT = 2
_BATCH, _BATCH_BYTES = 16, 1_400_000
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Nothing:
    """Makes nothing of anything."""

    inline: ClassVar[bool] = False

    def warm_up(self) -> None:
        """Nothing to load."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """No item."""
        return ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds an item: by the clock, of the loop process's CPU, of the worker's."""

    wall: float
    loop: float
    worker: float


def measure(setting: Setting) -> Finding:
    """Both ways in turn, for each size of a body."""
    tune_allocator()  # as a run does
    table, loops, pipes = [], [], []
    for size, count in BODIES.items():
        rows = count // QUICK if setting.quick else count
        shared, piped = [], []
        for number in range(setting.repeat):
            piped.append(_cost(size, rows, is_shared=False))
            shared.append(_cost(size, rows, is_shared=True))
            print(f"  {size:,} bytes {number + 1}/{setting.repeat}", flush=True)
        for name, costs in (("pipe", piped), ("shared memory", shared)):
            figures = [spread([getattr(cost, what) for cost in costs], 0) for what in ("wall", "loop", "worker")]
            table.append([f"{size // 1000:,} KB, {name}", *figures])
        if size == GOAL_SIZE:
            loops = [cost.loop for cost in shared]
            pipes = ratios([cost.loop for cost in piped], loops)
    return Finding(
        "handoff: a body from the socket's pieces to a worker and an answer back, µs an item",
        ["", "clock", "CPU of the loop process", "CPU of the worker"],
        table,
        [
            "one worker; batches of up to 16 bodies or 1.4 MB, which take some 20 ms to decode; two in flight",
            "the worker's CPU has the SHA-256 in it",
            f"CPU of the loop process with the pipe over that with shared memory, {GOAL_SIZE // 1000} KB: "
            f"{spread(pipes, 1)}",
        ],
        verdict(
            "handoff",
            f"{spread(loops, 0)} µs of the loop process for {GOAL_SIZE // 1000} KB",
            f"at most {GOAL_US:.0f} µs",
            judged(loops, lambda it: it <= GOAL_US),
            is_valid=True,
        ),
        is_valid=True,
    )


def _cost(size: int, count: int, *, is_shared: bool) -> Cost:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measured(size, count, is_shared=is_shared))


async def _measured(size: int, count: int, *, is_shared: bool) -> Cost:
    memory = shared_memory(BUDGET) if is_shared else None
    batch = min(_BATCH, max(1, _BATCH_BYTES // size))
    pieces = [bytes(min(_PIECE, size - at)) for at in range(0, size, _PIECE)]
    with Arena(BUDGET, memory) as arena:
        async with Pool(Nothing(), PoolConfig(workers=1), memory) as pool:
            (worker,) = pool._workers
            await _hand_off(arena, pool, pieces, batch, 4 * batch)  # pages and caches as in a run that goes on
            began, loop, other = time.perf_counter(), time.process_time(), _cpu_s(worker.pid)
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(_hand_off(arena, pool, pieces, batch, count // IN_FLIGHT))
            done = count // IN_FLIGHT // batch * batch * IN_FLIGHT
            return Cost(
                (time.perf_counter() - began) / done * 1e6,
                (time.process_time() - loop) / done * 1e6,
                (_cpu_s(worker.pid) - other) / done * 1e6,
            )


async def _hand_off(arena: Arena, pool: Pool, pieces: Sequence[bytes], batch: int, count: int) -> None:
    size = sum(map(len, pieces))
    for _ in range(count // batch):
        with contextlib.ExitStack() as slots:
            responses = []
            for row in range(batch):
                slot = slots.enter_context(await arena.reserve(min(size, MIB), claimed=size))
                for piece in pieces:
                    await slot.append(piece)
                empty = Response(Request(row, "http://127.0.0.1/"), "http://127.0.0.1/", 200, {}, b"")
                responses.append(replace(empty, body=slot.body(), place=slot.place))
            await pool.run(responses)


def _cpu_s(pid: int) -> float:
    """Seconds of CPU a process has had."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
