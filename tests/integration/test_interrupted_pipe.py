"""An interrupt while the list comes through a pipe: what has not come may still come, so nothing is complete."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from pipelines import files
from scraper import Report, Watch, arun
from scraper.ledger import LedgerReader
from scraper.testing.server import LOOPBACK, Pause, ScriptedServer, reply

FINE = reply("200 OK", b"fine")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_page")]


async def a_run(stdin: BinaryIO, out: Path, watch: Watch) -> Report:
    """One run over a piped list."""
    return await arun(
        files.build(output_format="jsonl"),
        inputs="-",
        input_format="txt",
        stdin=stdin,
        out=out,
        watch=watch,
        allow_net=LOOPBACK,
    )


def last_exit(out: Path) -> tuple[int | None, int | None]:
    """Exit code of the last run, and how many rows it took the list to have."""
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        return reader.runs()[-1].exit, reader.runs()[-1].rows_total


@pytest.fixture
def silence() -> Iterator[BinaryIO]:
    """A pipe whose other end has nothing to say."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin:  # noqa: PTH123 - it has no path
        yield stdin
        os.close(writing)


async def test_before_the_first_row(tmp_path: Path, silence: BinaryIO) -> None:
    """A list that has said nothing yet is not an empty one: no output gets its final name."""
    watch = Watch()
    watch.stop.set()
    report = await a_run(silence, tmp_path / "out", watch)
    assert (report.rows, report.is_complete) == (0, False)
    assert last_exit(tmp_path / "out") == (130, None)
    assert not (tmp_path / "out/items.jsonl").exists()


async def test_before_the_first_row_of_a_list_that_is_gone_on_with(tmp_path: Path, silence: BinaryIO) -> None:
    """Nor are the rows of the run before all there are."""
    watch, go_on = Watch(), asyncio.Event()
    async with ScriptedServer({"/0": [FINE], "/1": [Pause(go_on), FINE]}) as server:
        listed = io.BytesIO(f"{server.url('/0')}\n{server.url('/1')}\n".encode())
        interrupted = asyncio.create_task(a_run(listed, tmp_path / "out", watch))
        while server.asked["/1"] < 1:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)
        watch.stop.set()
        go_on.set()
        await interrupted
    assert last_exit(tmp_path / "out") == (130, None)
    watch = Watch()
    watch.stop.set()
    report = await a_run(silence, tmp_path / "out", watch)
    assert (report.rows, report.is_complete) == (2, False)
    assert last_exit(tmp_path / "out") == (130, None)
    assert not (tmp_path / "out/items.jsonl").exists()


async def test_at_its_end(tmp_path: Path) -> None:
    """It may be the end of the program that wrote it instead: Ctrl-C reaches both. The next run knows."""
    watch, go_on = Watch(), asyncio.Event()
    async with ScriptedServer({"/0": [Pause(go_on), FINE]}) as server:
        listed = f"{server.url('/0')}\n".encode()
        interrupted = asyncio.create_task(a_run(io.BytesIO(listed), tmp_path / "out", watch))
        while server.asked["/0"] < 1:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)
        watch.stop.set()
        go_on.set()
        assert (await interrupted).is_complete is False
        assert not (tmp_path / "out/items.jsonl").exists()
        report = await a_run(io.BytesIO(listed), tmp_path / "out", Watch())
    assert (report.is_complete, last_exit(tmp_path / "out")) == (True, (0, 1))
    assert len((tmp_path / "out/items.jsonl").read_text().splitlines()) == 1
