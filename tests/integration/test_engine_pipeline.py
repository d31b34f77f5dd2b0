"""The product's engine keeps what every engine must, and its own bounds."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import files
from scraper import arun
from scraper.config import MIB, PermitConfig
from scraper.engines import pipeline
from scraper.engines.reader import Reader
from scraper.origin.process import OriginProcess
from scraper.testing.engine import FAST, EngineContract, at_once, run_job
from scraper.testing.server import LOOPBACK, Pause, ScriptedServer, reply


class TestPipeline(EngineContract):
    engine = staticmethod(pipeline.run)


ENDS = {
    "/img/thumb/1.jpg": "ok",
    "/img/thumb/2.jpg?redirect=2": "ok",
    "/img/thumb/3.jpg?chunked": "ok",
    "/img/thumb/4.jpg?status=404": "http.404",
    "/img/thumb/5.jpg?status=503": "http.503",
    "/img/thumb/6.jpg?empty": "body.empty",
    "/img/thumb/7.jpg?cut=0.5": "body.truncated",
    "/img/thumb/8.jpg?close": "connect.reset",
    "/img/thumb/9.jpg?redirect_to=file:///etc/passwd": "redirect.blocked",
    "": "input.invalid",
    "ftp://127.0.0.1/": "url.scheme",
    "nothing/to/dial": "url.invalid",
}
"""What a row may be, and how it must end."""


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.sampled_from(list(ENDS)), max_size=60), concurrency=st.integers(1, 16))
def test_rows_in_are_outcomes_out(shared_origin: OriginProcess, rows: list[str], concurrency: int) -> None:
    """Whatever the list holds, in whatever order: each row ends once, as what it is."""
    urls = [shared_origin.url(row) if row.startswith("/") else row for row in rows]
    config = replace(FAST, permits=PermitConfig(concurrency=concurrency), politeness=at_once(concurrency))
    with tempfile.TemporaryDirectory() as folder:
        ran = asyncio.run(run_job(pipeline.run, Path(folder), urls, config=config))
    assert ran.error is None
    expected = {}
    for number, row in enumerate(rows):
        is_again = row.startswith("/") and row in rows[:number]
        expected[number] = "duplicate.url" if is_again else ENDS[row]
    assert {row: outcome.class_ for row, outcome in ran.outcomes.items()} == expected
    assert sorted(result.request.row for result in ran.sink.results) == list(range(len(rows)))


async def test_a_list_larger_than_the_byte_budget(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """Bytes come back to the budget as rows are written: a list of many times the budget completes."""
    config = replace(FAST, permits=PermitConfig(concurrency=16, byte_budget=MIB))
    urls = [shared_origin.url(f"/img/photo/{n % 4}.jpg?tag={n}") for n in range(40)]
    ran = await run_job(pipeline.run, tmp_path, urls, config=config)
    assert ran.classes == {"ok": 40}
    assert sum(outcome.bytes for outcome in ran.outcomes.values()) > 8 * MIB


async def test_the_reader_gives_what_is_there() -> None:
    """Rows are handed over as they come, without waiting for more, and the end is told from a pause."""
    more: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def rows() -> object:
        while (number := asyncio.run_coroutine_threadsafe(more.get(), loop).result()) >= 0:
            yield number

    async with Reader(iter(rows()), ahead=10) as reader:  # type: ignore[arg-type] # a generator
        more.put_nowait(1)
        assert await reader.take() == [1]
        more.put_nowait(2)
        assert await reader.take() == [2]
        more.put_nowait(-1)
        assert await reader.take() == []


async def test_the_reader_stops_at_its_bound() -> None:
    """No more than ``ahead`` rows are read before somebody takes them."""
    read: list[int] = []
    full = asyncio.Event()
    loop = asyncio.get_running_loop()

    def rows() -> object:
        for number in range(100):
            read.append(number)
            if number == 9:
                loop.call_soon_threadsafe(full.set)
            yield number

    async with Reader(iter(rows()), ahead=10) as reader:  # type: ignore[arg-type] # a generator
        await full.wait()
        assert len(read) == 10
        taken: list[int] = []
        while chunk := await reader.take():
            assert len(chunk) <= 10
            taken += chunk
        assert taken == list(range(100))


async def test_a_stopped_reader_answers_who_waits() -> None:
    """Stopping ends a ``take`` that waits for a list which may never go on."""
    never = asyncio.Event()
    loop = asyncio.get_running_loop()

    def rows() -> object:
        asyncio.run_coroutine_threadsafe(never.wait(), loop).result()
        yield 1

    async with Reader(iter(rows()), ahead=10) as reader:  # type: ignore[arg-type] # a generator
        waiting = asyncio.ensure_future(reader.take())
        await asyncio.sleep(0)
        reader.stop()
        assert await waiting == []
    never.set()


def bodies_of(size: int) -> int:
    """How many blocks of that size, or more, there are."""
    return sum(trace.size >= size for trace in tracemalloc.take_snapshot().traces)


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
async def test_bodies_that_were_written_are_let_go(tmp_path: Path) -> None:
    """While one row is waited for, nobody keeps the bodies of the others: no worker, no stage."""
    size, rows, go_on = MIB, 12, asyncio.Event()
    large = reply("200 OK", b"\x01" * size)
    paths = [f"/{n}" for n in range(rows)]
    scripts = dict.fromkeys(paths, (large,)) | {"/last": (Pause(go_on), reply("200 OK", b"x"))}
    async with ScriptedServer(scripts) as server:
        urls = [server.url(path) for path in (*paths, "/last")]
        tracemalloc.start()
        try:
            several = {"concurrency": rows + 1, "per_host": rows + 1, "allow_net": LOOPBACK}
            running = asyncio.create_task(arun(files.build(), urls, out=tmp_path, **several))
            async with asyncio.timeout(20):
                while len([*tmp_path.glob("*/*.bin")]) < rows or bodies_of(size):  # noqa: ASYNC110 - sets no event
                    await asyncio.sleep(0.01)
        finally:
            tracemalloc.stop()
        go_on.set()
        assert (await running).ok == rows + 1
