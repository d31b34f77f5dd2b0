"""Bodies that go to real workers by where they are: whole, unharmed by who dies over them, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from scraper.arena import Arena, Slot
from scraper.buddies import LARGEST
from scraper.config import PoolConfig
from scraper.memory import shared_memory
from scraper.pool import Pool
from scraper.protocols import Transform
from scraper.records import Response, Transformed
from scraper.testing.transform import Borrower, Obedient, response

ONE = PoolConfig(workers=1, item_timeout_s=20.0)


class Lending:
    """A pool and an arena that share memory."""

    def __init__(self, arena: Arena, pool: Pool) -> None:
        self.arena, self.pool = arena, pool

    async def fetched(self, *bodies: bytes, claimed: int = 0) -> tuple[list[Slot], list[Response]]:
        """Bodies as a fetch leaves them."""
        slots, responses = [], []
        for row, body in enumerate(bodies):
            slot = await self.arena.reserve(claimed=claimed)
            await slot.append(body)
            whole = slot.body()
            slots.append(slot)
            responses.append(replace(response(b"", row=row), body=whole, place=slot.place))
        return slots, responses

    async def run(self, *bodies: bytes, claimed: int = 0) -> list[Transformed]:
        """What becomes of them, as one batch; their memory is given up."""
        slots, responses = await self.fetched(*bodies, claimed=claimed)
        answers = [_copied(answer) for answer in await self.pool.run(responses)]
        for slot in slots:
            slot.release()
        return answers


def _copied(answer: Transformed) -> Transformed:
    return replace(answer, items=[replace(item, data=bytes(item.data)) for item in answer.items])


@contextlib.asynccontextmanager
async def lending(transform: Transform, config: PoolConfig = ONE, budget: int = 1) -> AsyncIterator[Lending]:
    """Both, open."""
    memory = shared_memory(budget)
    assert memory is not None
    with Arena(1 << 40, memory) as arena:
        async with Pool(transform, config, memory) as pool:
            yield Lending(arena, pool)
        assert repr(memory) == "<Memory 0 bytes in rooms, 0 spilled>"


def ends(answers: Sequence[Transformed]) -> list[str]:
    """The class each answer ended with, ``ok`` for items."""
    return [answer.error.class_ if answer.error else "ok" for answer in answers]


@pytest.mark.parametrize("claimed", [0, LARGEST + 1])
async def test_workers_read_bodies_where_they_are(claimed: int) -> None:
    """Each worker sees each body, in its room or in a stretch beyond them, and answers as if it had been sent."""
    bodies = [b"%d" % n * 10_000 for n in range(20)]
    async with lending(Borrower(), replace(ONE, workers=2)) as lent:
        batches = await asyncio.gather(
            *(lent.run(*bodies[at : at + 5], claimed=claimed) for at in range(0, 20, 5))
        )
    answers = [answer for batch in batches for answer in batch]
    assert [answer.items[0].data for answer in answers] == bodies
    assert [answer.sha256 for answer in answers] == [sha256(body).hexdigest() for body in bodies]
    assert {answer.items[0].fields["is_view"] for answer in answers} == {not claimed}


async def test_a_view_that_is_kept_is_gone() -> None:
    """Whoever keeps the body looks in vain for it later, and finds no other one's."""
    async with lending(Borrower()) as lent:
        first, second = await lent.run(b"view secret", b"other")
    assert ends([first, second]) == ["ok", "ok"]
    assert second.items[0].fields["before"] == ["gone"]


@pytest.mark.parametrize("word", [b"part", b"export"])
async def test_a_part_that_is_kept_fails_its_item(word: bytes) -> None:
    """What cannot be taken away ends the item that kept it, in one sentence, and no other."""
    async with lending(Borrower()) as lent:
        first, second = await lent.run(word, b"other")
    assert ends([first, second]) == ["transform.error", "ok"]
    assert first.error is not None
    assert "keeps a part of response.body" in first.error.message


async def test_what_only_goes_round_in_circles_is_not_kept() -> None:
    """An error that refers to itself, with a part of the body, is rubbish and no fault."""
    async with lending(Borrower()) as lent:
        assert ends(await lent.run(b"circle", b"other")) == ["ok", "ok"]


async def test_a_body_that_is_an_item_comes_back_by_reference() -> None:
    """Nothing is copied: the item is the view that the loop has. A part of the body is copied."""
    async with lending(Borrower()) as lent:
        slots, responses = await lent.fetched(b"pass me", b"pass-part")
        whole, part = await lent.pool.run(responses)
        assert whole.items[0].data is responses[0].body
        assert part.items[0].data == b"ass-part"
        for slot in slots:
            slot.release()


async def test_without_shared_memory_a_body_that_is_an_item_comes_back_as_well() -> None:
    """What went through the pipe need not come back through it."""
    sent = response(b"pass me")
    async with Pool(Borrower(), ONE) as pool:
        (answer,) = await pool.run([sent])
    assert answer.items[0].data is sent.body


@pytest.mark.parametrize("word", [b"kill", b"segfault", b"exit 3"])
async def test_bodies_outlive_the_workers_that_read_them(word: bytes) -> None:
    """A batch of which one ends two workers: the others are tried again, from the same bytes."""
    bodies = [b"good %d " % n * 5_000 for n in range(4)]
    async with lending(Obedient()) as lent:
        answers = await lent.run(*bodies[:2], word, *bodies[2:])
        after = await lent.run(b"echo")
    assert ends([*answers, *after]) == ["ok", "ok", "transform.crashed", "ok", "ok", "ok"]
    assert [answer.items[0].data for answer in answers if answer.items] == bodies


async def test_the_least_worker_memory_is_enough_for_any_budget() -> None:
    """What is shared takes nothing of the address space that an item may have."""
    memory = shared_memory(1 << 30)
    assert memory is not None
    with Arena(1 << 30, memory) as arena:
        async with Pool(Obedient(), replace(ONE, memory_bytes=1 << 30), memory) as pool:
            lent = Lending(arena, pool)
            assert ends(await lent.run(b"allocate 256", b"allocate 2048")) == ["ok", "transform.error"]


async def test_what_is_shared_is_no_leak() -> None:
    """A worker that has read from all over the shared memory holds no more of its own than before."""
    async with lending(Borrower(), budget=4 * LARGEST) as lent:
        assert ends(await lent.run(*[b"pass " + bytes(LARGEST - 5)] * 6)) == ["ok"] * 6
        (worker,) = lent.pool._workers
        worker.look(0.0)
        assert 0 < worker.resident < 3 * LARGEST
        assert not worker.is_spent


PROGRAM = """
    import asyncio, os, sys
    from dataclasses import replace
    from multiprocessing import forkserver
    from scraper.arena import Arena
    from scraper.config import PoolConfig
    from scraper.memory import shared_memory
    from scraper.pool import Pool
    from scraper.testing.transform import Obedient, response

    async def main():
        memory = shared_memory(1 << 28)
        with Arena(1 << 28, memory) as arena:
            async with Pool(Obedient(), PoolConfig(workers=2), memory) as pool:
                async def run(word, claimed=0):
                    slot = await arena.reserve(claimed=claimed)
                    await slot.append(word + b" " * 50_000)
                    whole = replace(response(b""), body=slot.body(), place=slot.place)
                    return await pool.run([whole])
                echoed = await run(b"echo", 1 << 25)
                assert len(echoed[0].items[0].data) == 50_004
                asyncio.ensure_future(run(b"hang"))
                asyncio.ensure_future(run(b"hang", 1 << 25))
                while sum(worker.batches for worker in pool._workers) < 2:
                    await asyncio.sleep(0.01)
                pids = [worker.pid for worker in pool._workers]
                print(*pids, forkserver._forkserver._forkserver_pid, flush=True)
                await asyncio.sleep(60)

    if __name__ == "__main__":
        asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False])
async def test_nothing_is_left_once_the_processes_are_killed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, group: bool
) -> None:
    """SIGKILL for all at once, or for the loop alone: no file had a name, and nobody has it any more."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    scratch = tmp_path_factory.mktemp("t")  # a short name: sockets are made in it, and theirs may have 107 bytes
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, str(tmp_path / "program.py")),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert program.stdout is not None
    pids = [int(pid) for pid in (await program.stdout.readline()).split()]
    *workers, server = pids
    assert len(workers) == 2
    assert "memfd:scraper-arena" not in " ".join(_open_files(server))  # the fork server only passes it on
    assert [_names_of_the_arena(pid) for pid in (program.pid, *workers)] == [
        {"/memfd:scraper-arena (deleted)"}
    ] * 3
    ends = [os.pidfd_open(pid) for pid in pids]
    (os.killpg if group else os.kill)(program.pid, signal.SIGKILL)
    await program.wait()
    for end in ends:
        await _ended(end)
        os.close(end)
    left = [path for path in scratch.rglob("*") if not path.is_dir() and not path.is_socket()]
    assert left == []


def _open_files(pid: int) -> list[str]:
    return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]


def _names_of_the_arena(pid: int) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in maps if "scraper-arena" in line}


async def _ended(pidfd: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(20.0):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(pidfd)
