"""The process pool under attack: workers killed, stopped, starved, replaced, while batches are under way."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import pytest

from scraper.config import PoolConfig
from scraper.errors import InternalFault
from scraper.pool import Pool
from scraper.records import Transformed
from scraper.testing.transform import Obedient, response
from scraper.worker import Answer, Parcel, _limit_memory
from scraper.workers import NoDescriptors, Worker

TWO = PoolConfig(workers=2, item_timeout_s=60.0)
ONE = replace(TWO, workers=1)


def ends(answers: Sequence[Transformed]) -> list[str]:
    """The class each answer ended with, ``ok`` for items."""
    return [answer.error.class_ if answer.error else "ok" for answer in answers]


def alive() -> set[int]:
    """The workers that there are."""
    return {child.pid or 0 for child in multiprocessing.active_children()}


async def pid_of(pool: Pool) -> int:
    """The pid of the worker that answers."""
    (answer,) = await pool.run([response(b"pid")])
    return int(str(answer.items[0].fields["pid"]))


@asynccontextmanager
async def killed_when_asked(monkeypatch: pytest.MonkeyPatch, times: int) -> AsyncIterator[None]:
    """The next so many batches find that their worker has just been killed."""
    left = times
    ask = Worker.ask

    async def killing(self: Worker, parcels: Sequence[Parcel]) -> list[Answer]:
        nonlocal left
        if left:
            left -= 1
            os.kill(self.pid, signal.SIGKILL)
        return await ask(self, parcels)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "ask", killing)
        yield
    assert left == 0


@pytest.mark.slow
async def test_murder_costs_the_poisoned_items_only() -> None:
    """A worker in service is killed after each twentieth answer; 200 items with five crashes end with 195 good."""
    poison = {10, 60, 100, 140, 190}
    rows = iter(range(200))
    ended: dict[int, str] = {}
    chance = random.Random(0)
    kills = 0
    async with asyncio.timeout(60), Pool(Obedient(), TWO) as pool:

        async def work() -> None:
            nonlocal kills
            while batch := [row for _, row in zip(range(8), rows, strict=False)]:
                bodies = [b"segfault" if row in poison else b"burn 2" for row in batch]
                ended.update(zip(batch, ends(await pool.run([response(body) for body in bodies])), strict=True))
                # A worker that was killed may not have its successor yet: then there is nobody to kill this time.
                if pool.answered // 20 > kills and pool._workers:
                    kills += 1
                    with suppress(ProcessLookupError):
                        os.kill(chance.choice(pool._workers).pid, signal.SIGKILL)

        await asyncio.gather(*(work() for _ in range(4)))
    assert ended == {row: "transform.crashed" if row in poison else "ok" for row in range(200)}
    assert kills >= 8
    assert alive() == set()


async def test_a_batch_that_was_not_begun_is_above_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to another worker as it is, once and again."""
    batches: list[int] = []
    ask = Worker.ask

    async def noted(self: Worker, parcels: Sequence[Parcel]) -> list[Answer]:
        batches.append(len(parcels))
        return await ask(self, parcels)

    monkeypatch.setattr(Worker, "ask", noted)
    async with Pool(Obedient(), ONE) as pool, killed_when_asked(monkeypatch, 2):
        assert ends(await pool.run([response(b"good")] * 4)) == ["ok"] * 4
    assert batches == [4, 4, 4]


@pytest.mark.parametrize(("murders", "class_"), [(5, "ok"), (6, "transform.crashed")])
async def test_an_end_from_outside_is_no_proof_twice(
    monkeypatch: pytest.MonkeyPatch, murders: int, class_: str
) -> None:
    """After three times in a batch an item is tried alone; there SIGKILL is its own doing at the third time."""
    async with Pool(Obedient(), ONE) as pool, killed_when_asked(monkeypatch, murders):
        assert ends(await pool.run([response(b"good"), response(b"good")])) == [class_, "ok"]


@pytest.mark.parametrize("room", [0, 3, 6])
async def test_want_of_descriptors_is_said_and_passes(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a start it shows: no fault of ours, and once there are some again a worker can start."""
    monkeypatch.setattr("scraper.pool._PAUSE_S", 0.001)
    async with Pool(Obedient(), ONE):  # so that the servers of multiprocessing are there
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_ = [os.open(os.devnull, os.O_RDONLY) for _ in range(room)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_[-1] + 1 if open_ else 3, hard))
        for each in open_:
            os.close(each)
        try:
            with pytest.raises(NoDescriptors, match=r"this process has too many files open\..*ulimit -n"):
                await Pool(Obedient(), ONE).__aenter__()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with Pool(Obedient(), ONE) as pool:
        assert ends(await pool.run([response(b"good")])) == ["ok"]
    assert alive() == set()


async def test_a_killed_fork_server_costs_no_row() -> None:
    """All workers end with it, through no fault of their items; the next ones have a new one."""
    async with Pool(Obedient(), TWO) as pool:
        running = asyncio.gather(*(pool.run([response(b"burn 30")] * 2) for _ in range(4)))
        await pool.run([response(b"good")])
        before = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(before, signal.SIGKILL)
        assert [ends(answers) for answers in await running] == [["ok", "ok"]] * 4
        assert forkserver._forkserver._forkserver_pid != before  # type: ignore[attr-defined]


async def test_idle_workers_that_were_killed_are_replaced() -> None:
    """Nobody waits for a worker that ended while it had nothing to do."""
    async with Pool(Obedient(), TWO) as pool:
        before = alive()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert ends(await pool.run([response(b"good")])) == ["ok"]
        assert not alive() & before


async def test_a_worker_that_dies_while_it_starts_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not if it says why, nor for ever."""
    starts = 0
    start = Worker.start

    async def noted(self: Worker) -> None:
        nonlocal starts
        starts += 1
        await start(self)

    monkeypatch.setattr(Worker, "start", noted)
    monkeypatch.setattr("scraper.pool._PAUSE_S", 0.0)
    for warm, expected in ((b"kill", 5), (b"exit 1", 1), (b"raise no", 1)):
        starts = 0
        with pytest.raises(InternalFault):
            async with Pool(Obedient(warm=warm), ONE):
                pass
        assert starts == expected


@pytest.mark.slow
async def test_a_worker_that_never_gets_warm_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start has a limit of its own, and leaves no process."""
    monkeypatch.setattr("scraper.workers._START_S", 0.2)
    monkeypatch.setattr("scraper.pool._STARTS", 1)
    with pytest.raises(InternalFault, match=r"not ready within 0.2 s"):
        async with Pool(Obedient(warm=b"hang masked"), ONE):
            pass
    assert alive() == set()


async def test_a_hanging_item_holds_up_only_who_is_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is in quarantine, a pool of one worker answers everybody else."""
    async with Pool(Obedient(), ONE) as pool:
        async with killed_when_asked(monkeypatch, 3):
            hanging = asyncio.ensure_future(pool.run([response(b"stop")]))
            while not any(map(_is_stopped, alive())):  # noqa: ASYNC110 - it cannot tell
                await asyncio.sleep(0.001)
        assert ends(await pool.run([response(b"good")])) == ["ok"]
        assert not hanging.done()
        hanging.cancel()


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def test_recycling_loses_no_batch() -> None:
    """A fresh worker is there before the old one goes; as many as were wanted are left at the end."""
    async with Pool(Obedient(), replace(TWO, recycle_items=20)) as pool:
        answers: list[Transformed] = []

        async def work() -> None:
            for _ in range(8):
                answers.extend(await pool.run([response(b"pid")] * 5))

        await asyncio.gather(*(work() for _ in range(4)))
        assert ends(answers) == ["ok"] * 160
        assert len({each.items[0].fields["pid"] for each in answers}) > 2
        while len(alive()) > 2:  # noqa: ASYNC110 - the last of the old are on their way out
            await asyncio.sleep(0.001)


async def test_a_worker_that_is_large_from_the_start_is_not_replaced_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit below what a warm worker holds counts what it grows by."""
    monkeypatch.setattr("scraper.pool._LOOK_S", 0.005)
    async with Pool(Obedient(), replace(ONE, recycle_bytes=1)) as pool:
        before = await pid_of(pool)
        for _ in range(5):
            await pool.run([response(b"burn 5")])
        assert await pid_of(pool) == before


async def test_a_limit_below_what_a_worker_needs_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """And names the option; a limit that leaves room is set."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError, match=r"holds \d+ MiB .* limit is 1 MiB; raise --worker-memory"):
        _limit_memory(1 << 20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    async with Pool(Obedient(), replace(ONE, memory_bytes=1 << 30)) as pool:
        bodies = [b"allocate 100", b"allocate 1000", b"allocate 100"]
        assert ends(await pool.run([response(body) for body in bodies])) == ["ok", "transform.error", "ok"]


async def test_what_a_transform_starts_has_no_signal_blocked() -> None:
    """Workers are started with signals blocked; that ends with them."""
    async with Pool(Obedient(), ONE) as pool:
        (answer,) = await pool.run([response(b"child")])
    assert int(str(answer.items[0].fields["blocked"]), 16) == 0


async def test_a_jam_can_be_described_and_broken() -> None:
    """The stacks say where each worker is; what is in its hand is tried again, and in the end given up."""
    async with asyncio.timeout(30), Pool(Obedient(), replace(TWO, item_timeout_s=600.0)) as pool:
        stuck = asyncio.ensure_future(pool.run([response(b"good"), response(b"hang")]))
        while "_do_hang" not in (stacks := await pool.stacks()):
            pass
        assert "get" in stacks  # the other one waits for something to do
        assert ends(await pool.run([response(b"good")])) == ["ok"]
        breaks = 0
        while not stuck.done():
            if "_do_hang" in await pool.stacks():
                breaks += 1
                pool.break_jam()
        assert ends(await stuck) == ["ok", "transform.crashed"]
        assert breaks == 4  # in its batch, and three times alone
        assert pool.answered == 3


@pytest.mark.slow
async def test_a_worker_that_starts_is_not_asked_for_its_stacks() -> None:
    """The signal would end it; the description says that it is starting."""
    pool = Pool(Obedient(warm=b"nap 400"), ONE)
    entering = asyncio.ensure_future(pool.__aenter__())
    while not alive():  # noqa: ASYNC110 - nobody else knows
        await asyncio.sleep(0.001)
    before = alive()
    assert "starting" in await pool.stacks()
    await entering
    assert alive() == before
    await pool.__aexit__(None, None, None)


PROGRAM = """
import asyncio, os, signal, sys
from scraper.config import PoolConfig
from scraper.pool import Pool
from scraper.testing.transform import Obedient, response

async def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    async with Pool(Obedient(), PoolConfig(workers=1, item_timeout_s=float(sys.argv[1]))) as pool:
        pid = lambda answers: answers[0].items[0].fields["pid"]
        before = pid(await pool.run([response(b"pid")]))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        napping = asyncio.ensure_future(pool.run([response(b"nap " + sys.argv[2].encode())]))
        await asyncio.sleep(float(sys.argv[3]))
        await asyncio.to_thread(print, "busy", flush=True)
        print((await napping)[0].error, pid(await pool.run([response(b"pid")])) == before, flush=True)
        os.kill(before, signal.SIGKILL)  # and a new one can still be started
        print(pid(await pool.run([response(b"pid")])) != before, flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def program(
    tmp_path: Path, item_timeout_s: float, nap_ms: int = 300, busy_s: float = 0.0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``PROGRAM``, ready, in a session of its own; checked for its answers at the end.

    Its item takes ``nap_ms``, and is said to be under way after ``busy_s`` of them.
    """
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    running = await asyncio.create_subprocess_exec(
        *[sys.executable, "-W", "error", str(path), str(item_timeout_s), str(nap_ms), str(busy_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert running.stdout is not None
    try:
        assert await running.stdout.readline() == b"ready\n"
        yield running
        out, err = await running.communicate(b"go\n")
        assert out.replace(b"busy\n", b"") == b"None True\nTrue\n"
        assert err == b""
        assert running.returncode == 0
    finally:
        if running.returncode is None:
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_the_group_ends_no_process_of_the_pool(tmp_path: Path, number: signal.Signals) -> None:
    """Workers go on, and the servers that start them too: the parent decides."""
    async with program(tmp_path, 60.0) as running:
        os.killpg(running.pid, number)


@pytest.mark.slow
async def test_a_group_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Stopped in the middle of an item for longer than its limit: no worker is blamed for that."""
    # A nap goes by the clock on the wall: what is left of it afterwards, and the part of it before, are within the
    # limit. Before it, because only an item that was looked at in time could be blamed for being still there.
    async with program(tmp_path, 1.2, nap_ms=3_300, busy_s=0.5) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"go\n")
        assert await running.stdout.readline() == b"busy\n"
        os.killpg(running.pid, signal.SIGSTOP)
        await asyncio.sleep(2.5)  # what is tested is that time passes
        os.killpg(running.pid, signal.SIGCONT)


@pytest.mark.slow
async def test_a_stopped_worker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """Even one that gets no turn is not left over."""
    steps = PROGRAM.replace('print("ready", flush=True)', 'print("ready", before, flush=True)')
    path = tmp_path / "program.py"
    path.write_text(steps)
    running = await asyncio.create_subprocess_exec(
        *[sys.executable, str(path), "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    worker = int((await running.stdout.readline()).split()[1])
    ended = os.pidfd_open(worker)
    os.kill(worker, signal.SIGSTOP)
    running.kill()
    await running.wait()
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(ended, over.set)
    try:
        async with asyncio.timeout(20):
            await over.wait()
    finally:
        loop.remove_reader(ended)
        os.close(ended)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
