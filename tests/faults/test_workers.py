"""Group W of docs/faults.md: what transforms do to their processes, and others to them. Whole runs."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import files
from scraper import RunConfig, arun
from scraper.config import FetchConfig, PoolConfig, RetryConfig
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.testing.server import LOOPBACK, ScriptedServer, reply
from scraper.testing.transform import Obedient
from scraper.worker import Answer, Parcel
from scraper.workers import Worker

pytestmark = pytest.mark.slow  # all of them look at whole runs

PIPELINE = replace(files.build(), transform=Obedient())
GOOD = b"burn 1"

WITHIN_S = 25.0
"""However broken the product is, a test ends; the slowest takes 2 s."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The rows of every batch that was given to a worker, in order."""
    batches: list[tuple[int, ...]] = []
    ask = Worker.ask

    async def noted(self: Worker, parcels: Sequence[Parcel]) -> list[Answer]:
        batches.append(tuple(parcel[0] for parcel in parcels))
        return await ask(self, parcels)

    monkeypatch.setattr(Worker, "ask", noted)
    return batches


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Every worker that was started."""
    workers: list[Worker] = []
    start = Worker.start

    async def noted(self: Worker) -> None:
        workers.append(self)
        await start(self)

    monkeypatch.setattr(Worker, "start", noted)
    return workers


def config(**limits: float) -> RunConfig:
    """Two workers; what they may do."""
    pool = PoolConfig(workers=2, **({"item_timeout_s": 60.0} | limits))  # type: ignore[arg-type]
    fetch = FetchConfig("test", allow_net=(LOOPBACK,))
    return RunConfig(fetch, retry=RetryConfig(retries=1, wait_s=0.0), pool=pool)


async def run(
    bodies: Sequence[bytes], out: Path, run_config: RunConfig | None = None, murders: int = 0
) -> list[Outcome]:
    """Run the whole product over these bodies; check what holds for every run; the outcomes by row.

    Args:
        bodies: a row each, served by a server of their own.
        out: the output folder.
        run_config: the settings.
        murders: after each tenth of the rows was asked for, so many times, a worker is killed.
    """
    scripts = {f"/{row}": (reply("200 OK", body),) for row, body in enumerate(bodies)}
    async with asyncio.timeout(WITHIN_S), ScriptedServer(scripts) as server, asyncio.TaskGroup() as group:
        murderer = group.create_task(_murder(server, len(bodies) // 10, murders))
        urls = [server.url(path) for path in scripts]
        await arun(PIPELINE, urls, out=out, config=run_config or config())
        murderer.cancel()
    assert server.asked == dict.fromkeys(scripts, 1)  # what ends a worker is no reason to fetch again
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(bodies)))
    assert {each.attempts for each in outcomes} == {1}
    found = {each for each in out.glob("0*/**/*") if each.is_file()}
    assert found == {out / each.path for each in outcomes if each.path}
    assert all((out / each.path).read_bytes() == bodies[each.row] for each in outcomes if each.path)
    assert all((each.class_ == "ok") == bool(each.path) for each in outcomes)
    assert multiprocessing.active_children() == []
    return outcomes


async def _murder(server: ScriptedServer, every: int, murders: int) -> None:
    for number in range(1, murders + 1):
        while sum(server.asked.values()) < number * every or not multiprocessing.active_children():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


def among_good(*words: bytes) -> list[bytes]:
    """These words, each with good rows before and after it."""
    return [body for word in words for body in (GOOD, word, GOOD, GOOD)]


def check(outcomes: Sequence[Outcome], words: Sequence[bytes], class_: str, text: str = "") -> None:
    """The rows of ``among_good(*words)`` ended with this class, and the good ones as ok."""
    assert [each.class_ for each in outcomes] == ["ok", class_, "ok", "ok"] * len(words)
    assert all(text in each.message for each in outcomes if each.class_ != "ok")


async def test_w1_killed_workers_cost_no_row(tmp_path: Path) -> None:
    """SIGKILL in the middle of items: they are tried again, nothing is fetched again, the others go on."""
    outcomes = await run([b"burn 4"] * 100, tmp_path / "out", murders=3)
    assert {each.class_ for each in outcomes} == {"ok"}


async def test_w2_a_poison_item_ends_two_workers_and_no_neighbour(
    tmp_path: Path, asked: list[tuple[int, ...]]
) -> None:
    """A native crash, once in its batch and once alone, is transform.crashed."""
    words = [b"segfault", b"abort"]
    outcomes = await run(among_good(*words), tmp_path / "out")
    check(outcomes, words, "transform.crashed", "died of SIG")
    for poison in (1, 5):
        assert [batch for batch in asked if poison in batch][-1] == (poison,)
        # Its batch may have waited behind one that ended the worker, which is no try of it.
        assert 2 <= sum(poison in batch for batch in asked) <= 5


@pytest.mark.parametrize("word", [b"hang", b"hang masked", b"stop"])
async def test_w3_an_item_that_hangs_is_ended_at_its_limit(tmp_path: Path, word: bytes) -> None:
    """Native code that holds the GIL, every signal blocked, a stopped process: transform.timeout."""
    outcomes = await run(among_good(word), tmp_path / "out", config(item_timeout_s=0.5))
    check(outcomes, [word], "transform.timeout", "Not finished within 0.5 s")


async def test_w4_memory_beyond_the_limit_fails_the_item(tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    """What an item wants beyond the limit of a worker is an error of that item, and its worker goes on."""
    words = [b"allocate 2000"] * 2
    outcomes = await run(among_good(*words), tmp_path / "out", config(memory_bytes=1 << 30))
    check(outcomes, words, "transform.error", "ran out of memory")
    assert sorted(row for batch in asked for row in batch) == list(range(8))  # each once


async def test_w4_an_item_for_which_the_kernel_kills_is_ended(tmp_path: Path) -> None:
    """SIGKILL each time it is tried, as the memory killer does: transform.crashed."""
    outcomes = await run(among_good(b"kill"), tmp_path / "out")
    check(outcomes, [b"kill"], "transform.crashed", "SIGKILL")


async def test_w5_what_cannot_be_sent_fails_its_item(tmp_path: Path, started: list[Worker]) -> None:
    """Exceptions and fields that no process can send to another: transform.error, in the same worker."""
    words = [b"unpicklable x", b"odd-field", b"odd-class x"]
    outcomes = await run(among_good(*words), tmp_path / "out")
    check(outcomes, words, "transform.error")
    assert "Unpicklable: x" in outcomes[1].message
    assert len(started) == 2


@pytest.mark.parametrize("how", [b"half ", b"half forked "])
async def test_w6_a_worker_that_dies_in_the_middle_of_its_answer(
    tmp_path: Path, how: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a large answer is in the pipe: nobody waits for the rest, even if a child keeps the pipe open."""
    monkeypatch.setattr("scraper.workers._CLOSE_S", 0.1)
    words = [how + bytes(300_000)]
    outcomes = await run(among_good(*words), tmp_path / "out")
    check(outcomes, words, "transform.crashed")


async def test_w7_a_leak_has_an_end(
    tmp_path: Path, started: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has grown over the limit is replaced, and no row is lost by that."""
    monkeypatch.setattr("scraper.pool._LOOK_S", 0.01)
    outcomes = await run([b"keep 16"] * 40, tmp_path / "out", config(recycle_bytes=100 << 20))
    assert {each.class_ for each in outcomes} == {"ok"}
    assert len(started) > 2
    most = max(worker.resident for worker in started)
    assert 100 << 20 < most < 500 << 20  # 640 MiB were leaked; what is in hand when it is seen is finished


async def test_w7_a_worker_that_has_done_its_share_is_replaced(tmp_path: Path, started: list[Worker]) -> None:
    """By count: a fresh one after so many items, and no row is lost by that."""
    outcomes = await run([GOOD] * 60, tmp_path / "out", config(recycle_items=10))
    assert {each.class_ for each in outcomes} == {"ok"}
    assert len(started) >= 4


@pytest.mark.parametrize(
    ("word", "class_", "text"),
    [
        (b"sysexit", "transform.error", "SystemExit: 3"),
        (b"interrupt", "transform.error", "KeyboardInterrupt"),
        (b"exit 0", "transform.crashed", "exit code 0"),
        (b"exit 3", "transform.crashed", "exit code 3"),
        (b"close-fds", "transform.crashed", "exit code"),
    ],
)
async def test_w8_leaving_early_fails_the_item(tmp_path: Path, word: bytes, class_: str, text: str) -> None:
    """An item that exits, or closes what does not belong to it, fails; its neighbours do not."""
    outcomes = await run(among_good(word), tmp_path / "out")
    check(outcomes, [word], class_, text)


async def test_w8_a_timer_that_is_left_running_harms_no_neighbour(tmp_path: Path) -> None:
    """An alarm set by one item does not go off in the next."""
    outcomes = await run([b"timer", b"burn 40"] * 3, tmp_path / "out", config(batch_s=1.0))
    assert {each.class_ for each in outcomes} == {"ok"}


PROGRAM = """
import sys
from dataclasses import replace
from pipelines import files
from scraper import run
from scraper.testing.transform import Obedient
pipeline = replace(files.build(), transform=Obedient())
report = run(pipeline, sys.argv[3:], out=sys.argv[1], workers=1, allow_net=sys.argv[2])
print(*report.by_class.items())
"""


async def said_by_program(body: bytes, out: Path) -> tuple[bytes, bytes]:
    """What ``PROGRAM`` and all its processes say over two rows with this body, once the last of them has ended."""
    async with asyncio.timeout(WITHIN_S), ScriptedServer([reply("200 OK", body)]) as server:
        program = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", PROGRAM, str(out), LOOPBACK, server.url("/a"), server.url("/b")],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            return await program.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):  # also where it has ended itself, and others have not
                os.killpg(program.pid, signal.SIGKILL)
            await program.wait()


async def test_w8_what_a_transform_prints_stays_out_of_stdout(tmp_path: Path) -> None:
    """Python's output and native output go to stderr; standard output holds what the program printed."""
    out, err = await said_by_program(b"print this", tmp_path / "out")
    assert out == b"('ok', 2)\n"
    assert sorted(err.split(b"\n")) == [b"", b"printed this", b"printed this", b"written", b"written"]


async def test_w8_a_fork_that_comes_back_from_the_transform_ends(tmp_path: Path) -> None:
    """The child of a transform that forks does not go on as a second worker: it ends, and so do all others."""
    out, err = await said_by_program(b"fork", tmp_path / "out")
    assert (out, err) == (b"('ok', 2)\n", b"")
