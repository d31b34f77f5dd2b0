"""The process pool: whatever a transform does to its worker, each item has its answer and nothing is left over."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import platform
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import uvloop

from scraper.allocator import tune_allocator
from scraper.config import PoolConfig
from scraper.errors import InternalFault, UsageError
from scraper.pool import Pool
from scraper.records import Transformed
from scraper.testing.transform import Obedient, response
from scraper.transforms.raw import RawTransform

TWO = PoolConfig(workers=2, item_timeout_s=20.0)


def ends(answers: list[Transformed]) -> list[str]:
    """The class each answer ended with, ``ok`` for items."""
    return [answer.error.class_ if answer.error else "ok" for answer in answers]


async def pids_of(pool: Pool, workers: int) -> set[int]:
    """The pids of the workers, asked often enough that each has answered."""
    pids: set[int] = set()
    while len(pids) < workers:
        asked = await asyncio.gather(*(pool.run([response(b"pid")]) for _ in range(8)))
        pids |= {int(str(answer.items[0].fields["pid"])) for answers in asked for answer in answers}
    return pids


@contextmanager
def watched(pids: set[int]) -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits until all these processes have ended, and says whether they did."""
    fds = {pid: os.pidfd_open(pid) for pid in pids}

    def all_end(within_s: float) -> bool:
        poll = select.poll()
        for fd in fds.values():
            poll.register(fd, select.POLLIN)
        left = set(fds.values())
        while left:
            ended = poll.poll(within_s * 1000)
            if not ended:
                return False
            for fd, _ in ended:
                poll.unregister(fd)
                left.discard(fd)
        return True

    try:
        yield all_end
    finally:
        for fd in fds.values():
            os.close(fd)


async def test_answers_come_in_the_order_of_the_batch() -> None:
    """One answer per response, in order, with the digest of the body and the time it took."""
    batch = [response(b"echo %d" % row, row=row) for row in range(40)]
    async with Pool(Obedient(), TWO) as pool:
        batches = await asyncio.gather(*(pool.run(batch[at : at + 8]) for at in range(0, 40, 8)))
        assert await pool.run([]) == []
    answers = [answer for answers in batches for answer in answers]
    assert [answer.items[0].data for answer in answers] == [bytes(r.body) for r in batch]
    assert [answer.sha256 for answer in answers] == [sha256(r.body).hexdigest() for r in batch]
    assert all(answer.busy_s > 0 for answer in answers)


async def test_all_workers_are_up_before_the_first_batch() -> None:
    """Entering waits for every worker, each in a process of its own, none of them ours."""
    async with Pool(Obedient(), TWO) as pool:
        alive = {child.pid for child in multiprocessing.active_children()}
        assert len(alive) == 2
        assert await pids_of(pool, 2) == alive
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("word", "class_", "text"),
    [
        (b"raise too odd", "transform.error", "ValueError: too odd"),
        (b"unpicklable x", "transform.error", "Unpicklable: x"),
        (b"memory", "transform.error", "The transform ran out of memory."),
        (b"sysexit", "transform.error", "SystemExit: 3"),
        (b"interrupt", "transform.error", "KeyboardInterrupt"),
        (b"odd-class x", "transform.error", "no known class"),
        (b"odd-field", "transform.error", "field 'field' holds a object"),
    ],
)
async def test_an_error_ends_its_item_and_no_other(word: bytes, class_: str, text: str) -> None:
    """Whatever a transform raises or returns is one item's failure, digest included, in the same worker."""
    async with Pool(Obedient(), replace(TWO, workers=1)) as pool:
        before = await pids_of(pool, 1)
        good, bad, after = await pool.run([response(b"good"), response(word), response(b"good")])
        assert bad.error is not None
        assert bad.error.class_ == class_
        assert text in bad.error.message
        assert bad.sha256 == sha256(word).hexdigest()
        assert ends([good, after]) == ["ok", "ok"]
        assert await pids_of(pool, 1) == before


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (b"exit 3", "exit code 3"),
        (b"exit 0", "exit code 0"),
        (b"segfault", "SIGSEGV"),
        (b"abort", "SIGABRT"),
        (b"kill", "SIGKILL"),
    ],
)
async def test_an_item_that_kills_its_worker_dies_alone(word: bytes, text: str) -> None:
    """It ends as transform.crashed, its neighbours in the batch and in other batches are answered."""
    batches = [[response(b"good", row=row)] * 3 for row in range(6)]
    batches[2][1] = response(word)
    async with Pool(Obedient(), TWO) as pool:
        answers = await asyncio.gather(*(pool.run(batch) for batch in batches))
        bad = answers[2][1]
        assert [ends(a) for a in answers] == [
            ["ok", "transform.crashed" if row == 2 else "ok", "ok"] for row in range(6)
        ]
        assert bad.error is not None
        assert text in bad.error.message
        assert ends(await pool.run([response(b"good")])) == ["ok"]
    assert multiprocessing.active_children() == []


async def test_an_item_that_hangs_is_killed() -> None:
    """Native code that holds the GIL for ever ends as transform.timeout; its neighbours are answered."""
    async with asyncio.timeout(25), Pool(Obedient(), replace(TWO, item_timeout_s=0.2)) as pool:
        batch = [response(b"good"), response(b"hang"), response(b"good")]
        assert ends(await pool.run(batch)) == ["ok", "transform.timeout", "ok"]


async def test_a_stopped_worker_is_noticed() -> None:
    """A worker that gets no turn at all before it has begun with its item costs time but no row."""
    async with asyncio.timeout(25), Pool(Obedient(), PoolConfig(workers=1, item_timeout_s=0.2)) as pool:
        (pid,) = await pids_of(pool, 1)
        os.kill(pid, signal.SIGSTOP)
        assert ends(await pool.run([response(b"good")])) == ["ok"]


async def test_a_worker_killed_from_outside_costs_no_row() -> None:
    """Workers killed while answers larger than a pipe are under way lose nothing, and nobody hangs."""
    body = os.urandom(300_000)
    done = 0
    async with Pool(Obedient(), TWO) as pool:

        async def work() -> None:
            nonlocal done
            for _ in range(6):
                answers = await pool.run([response(body)] * 4)
                assert [answer.items[0].data == body for answer in answers] == [True] * 4
                done += 1
                if done in (3, 9):  # twice: three times could look like the item's own doing
                    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

        async with asyncio.timeout(30):
            await asyncio.gather(work(), work(), work())
    assert done == 18


async def test_cancelling_a_run_ends_busy_workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving while a worker hangs kills it, without waiting for it first, and no process is left over."""
    monkeypatch.setattr("scraper.workers._CLOSE_S", 600.0)  # how long idle workers may take to leave
    async with Pool(Obedient(), replace(TWO, item_timeout_s=600.0)) as pool:
        with watched(await pids_of(pool, 2)) as all_end:
            task = asyncio.ensure_future(pool.run([response(b"hang")]))
            await asyncio.sleep(0)  # one turn of the loop takes it to the executor
            assert "1 batches in flight" in repr(pool)
            task.cancel()
            async with asyncio.timeout(30):
                await pool.__aexit__(None, None, None)
            assert all_end(20.0)
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_cancelling_the_start_leaves_nothing() -> None:
    """A pool whose entering is cancelled while its workers warm up has ended them."""
    pool = Pool(Obedient(warm=b"hang"), TWO)
    entering = asyncio.ensure_future(pool.__aenter__())
    while len(multiprocessing.active_children()) < 2:  # noqa: ASYNC110 - they announce nothing yet
        await asyncio.sleep(0.001)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("warm", "text"), [(b"raise no library", "ValueError: no library"), (b"exit 1", "died"), (b"kill", "died")]
)
async def test_workers_that_cannot_start_say_why(warm: bytes, text: str) -> None:
    """A failing warm_up is one clear error from entering, not a hang."""
    with pytest.raises(InternalFault, match=text):
        async with Pool(Obedient(warm=warm), TWO):
            pass
    assert multiprocessing.active_children() == []


async def test_a_transform_that_cannot_be_sent_is_the_users_to_change() -> None:
    """A lambda inside a transform is refused before any process is started."""
    with pytest.raises(UsageError, match="frozen dataclass"):
        async with Pool(Obedient(warm=lambda: None), TWO):  # type: ignore[arg-type]  # the mistake under test
            pass


async def test_a_column_that_cannot_be_sent_ends_its_row() -> None:
    """A row whose column holds a lock fails by itself; plain columns travel."""
    odd, plain = response(b"good"), response(b"good")
    odd = replace(odd, request=replace(odd.request, columns={"lock": threading.Lock()}))
    plain = replace(plain, request=replace(plain.request, columns={"box": [1, 2.5, "x", None]}))
    async with Pool(Obedient(), replace(TWO, workers=1)) as pool:
        answers = await pool.run([odd, plain])
    assert ends(answers) == ["transform.error", "ok"]
    assert answers[0].error is not None
    assert "'lock' holds a lock" in answers[0].error.message


async def test_inline_transforms_start_no_process() -> None:
    """Small bodies are done on the loop, large ones in a thread, with equal answers."""
    bodies = [b"small", bytes(2 * 1024 * 1024)]
    async with Pool(RawTransform(), TWO) as pool:
        answers = [(await pool.run([response(body)]))[0] for body in bodies]
        assert multiprocessing.active_children() == []
    assert [answer.items[0].data for answer in answers] == bodies
    assert [answer.sha256 for answer in answers] == [sha256(body).hexdigest() for body in bodies]


async def test_cost_follows_what_was_measured() -> None:
    """Predictions are kept apart by size, come from the answers, and exist before the first answer."""
    small, large = response(b"x" * 10), response(b"x" * 3_000_000)
    async with Pool(RawTransform(), TWO) as pool:
        assert pool.cost(small) > 0
        for _ in range(3):
            await pool.run([small])
            await pool.run([large])
        assert 0 < pool.cost(small) < pool.cost(large)


def test_it_works_on_uvloop() -> None:
    """The product's loop watches and replaces workers as the standard one does."""

    async def main() -> list[str]:
        async with Pool(Obedient(), TWO) as pool:
            return ends(await pool.run([response(b"good"), response(b"exit 1"), response(b"good")]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == ["ok", "transform.crashed", "ok"]


def test_the_allocator_is_tuned_where_it_can_be() -> None:
    """On glibc every threshold is accepted; elsewhere nothing happens, and says so."""
    assert tune_allocator() is (platform.libc_ver()[0] == "glibc")


SCRIPT = """
import asyncio, signal, sys
from scraper.config import PoolConfig
from scraper.pool import Pool
from scraper.testing.transform import Obedient, response

async def main():
    async with Pool(Obedient(), PoolConfig(workers=2)) as pool:
{steps}

asyncio.run(main())  # without a guard: workers must not run this again
"""


def script(tmp_path: Path, steps: str) -> list[str]:
    """The command of a program that does ``steps`` inside a pool."""
    path = tmp_path / "program.py"
    path.write_text(SCRIPT.format(steps=textwrap.indent(textwrap.dedent(steps), " " * 8)))
    return [sys.executable, "-X", "dev", "-W", "error", str(path)]


def test_what_a_transform_prints_stays_out_of_stdout(tmp_path: Path) -> None:
    """Python's and native output of a worker goes to stderr; the program needs no __main__ guard."""
    done = subprocess.run(
        script(tmp_path, "print((await pool.run([response(b'print this')]))[0].items[0].data)"),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b"b'print this'\n"
    assert done.stderr.split(b"\n") == [b"printed this", b"written", b""]
    assert done.returncode == 0


def test_an_interrupt_to_the_group_is_the_parents_to_decide(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the group; workers go on, and nothing is printed by them."""
    steps = """
        signal.signal(signal.SIGINT, lambda *_: None)
        before = {(await pool.run([response(b"pid")]))[0].items[0].fields["pid"] for _ in range(20)}
        print("ready", flush=True)
        sys.stdin.readline()
        after = {(await pool.run([response(b"pid")]))[0].items[0].fields["pid"] for _ in range(20)}
        print("same" if after <= before else "other", flush=True)
    """
    command = script(tmp_path, steps)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(b"go\n", timeout=30)
    assert (out, err, program.returncode) == (b"same\n", b"", 0)


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the parent ends its workers too, the idle one and the one stuck in native code."""
    steps = """
        pids = set()
        while len(pids) < 2:
            pids |= {a[0].items[0].fields["pid"] for a in
                     await asyncio.gather(*(pool.run([response(b"pid")]) for _ in range(8)))}
        print(*pids, flush=True)
        await pool.run([response(b"hang")])
    """
    with subprocess.Popen(script(tmp_path, steps), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        with watched({int(pid) for pid in program.stdout.readline().split()}) as all_end:
            program.kill()
            assert all_end(20.0)
