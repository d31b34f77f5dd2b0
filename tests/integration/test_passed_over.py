"""Going on with a list whose beginning has ended: that is counted and not read, and nothing else changes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import files
from scraper import Report, UsageError, Watch, arun
from scraper.ledger import LedgerReader
from scraper.records import Outcome, Request
from scraper.sources.listed import ListSource
from scraper.testing.server import LOOPBACK, Pause, ScriptedServer, Turns, reply

ROWS = 10
DONE = 9
"""Rows that the run which was killed has recorded."""

FINE = reply("200 OK", b"fine")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_page")]  # all of them look at whole runs


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that a list of ten rows has some of."""
    monkeypatch.setattr("scraper.ledger._STEP", 4)
    monkeypatch.setattr("scraper.seen.COMMIT_ROWS", 4)


@pytest.fixture
def begun_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows at which lists were begun to be read for a run; the first row is always read before, for a look."""
    begun: list[int] = []
    whole = ListSource.starting_at

    def starting_at(source: ListSource, first: int) -> Iterator[Request | Outcome]:
        begun.append(first)
        return whole(source, first)

    monkeypatch.setattr(ListSource, "starting_at", starting_at)
    return begun


async def a_run(listed: Path, out: Path, watch: Watch | None = None, **settings: object) -> Report:
    """One run over the list."""
    settings |= {"workers": 1, "allow_net": LOOPBACK}
    return await arun(files.build(), inputs=listed, out=out, watch=watch, **settings)


async def half_done(listed: Path, out: Path, **settings: object) -> None:
    """What a run leaves that was killed before its last row was recorded."""
    await a_run(listed, out, **settings)
    with sqlite3.connect(out / ".scraper/ledger.sqlite") as ledger:
        ledger.execute("DELETE FROM outcomes WHERE row >= ?", (DONE,))
        ledger.execute("UPDATE runs SET ended = NULL, exit = NULL, rows_total = NULL")
    ledger.close()


def written(tmp_path: Path, server: ScriptedServer, paths: list[str]) -> Path:
    """A list of these paths of the server."""
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{server.url(path)}\n" for path in paths))
    return listed


PATHS = [f"/{n}" for n in range(ROWS)]


@pytest.mark.parametrize("dedupe", ["url", "none"])
async def test_a_finished_beginning_is_passed_over(tmp_path: Path, begun_at: list[int], dedupe: str) -> None:
    """Two whole steps of four have ended: reading begins with the last row of them, and what is left is asked."""
    async with ScriptedServer(dict.fromkeys(PATHS, (FINE,))) as server:
        listed = written(tmp_path, server, PATHS)
        await half_done(listed, tmp_path / "out", dedupe=dedupe)
        begun_at.clear()
        report = await a_run(listed, tmp_path / "out", dedupe=dedupe)
        assert begun_at == [0, 7]
        assert (report.rows, report.rows_total, report.by_class) == (ROWS, ROWS, {"ok": ROWS})
        assert server.asked == {path: 2 if path == "/9" else 1 for path in PATHS}


async def test_a_duplicate_of_a_row_passed_over_is_one_all_the_same(tmp_path: Path, begun_at: list[int]) -> None:
    """Who was first is known from the run before."""
    paths = [*PATHS[:-1], "/0"]
    async with ScriptedServer(dict.fromkeys(paths, (FINE,))) as server:
        listed = written(tmp_path, server, paths)
        await half_done(listed, tmp_path / "out")
        begun_at.clear()
        report = await a_run(listed, tmp_path / "out")
        assert begun_at == [0, 7]
        assert report.by_class == {"ok": DONE, "duplicate.url": 1}
        assert server.asked["/0"] == 1


async def test_a_list_that_ends_in_what_was_passed_over_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fingerprint can lie, as that of a list of many gigabytes may: the rows that are gone are missed."""
    monkeypatch.setattr(ListSource, "fingerprint", lambda source: "the same")
    async with ScriptedServer(dict.fromkeys(PATHS, (FINE,))) as server:
        await half_done(written(tmp_path, server, PATHS), tmp_path / "out")
        shorter = written(tmp_path, server, PATHS[:5])
        with pytest.raises(UsageError, match="fewer than the 9 rows that have ended"):
            await a_run(shorter, tmp_path / "out")


async def test_a_pass_looks_at_every_row(tmp_path: Path, begun_at: list[int]) -> None:
    """Rows that are asked again may be anywhere."""
    async with ScriptedServer(dict.fromkeys(PATHS, (FINE,))) as server:
        listed = written(tmp_path, server, PATHS)
        await half_done(listed, tmp_path / "out")
        begun_at.clear()
        await a_run(listed, tmp_path / "out", refresh=True)
        assert begun_at == [0]
        assert server.asked == dict.fromkeys(PATHS, 2)


async def test_rows_passed_over_count_when_a_run_is_interrupted_at_its_end(tmp_path: Path) -> None:
    """The list was read, and what was in flight has ended: that is the whole list, and no interruption."""
    go_on, watch = asyncio.Event(), Watch()
    scripts = dict.fromkeys(PATHS, (FINE,)) | {"/9": Turns(([FINE], [Pause(go_on), FINE]))}
    async with ScriptedServer(scripts) as server:
        listed = written(tmp_path, server, PATHS)
        await half_done(listed, tmp_path / "out")
        going_on = asyncio.create_task(a_run(listed, tmp_path / "out", watch))
        while server.asked["/9"] < 2:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)
        watch.stop.set()
        go_on.set()
        report = await going_on
    assert (report.rows, report.rows_total) == (ROWS, ROWS)
    with LedgerReader(tmp_path / "out/.scraper/ledger.sqlite") as reader:
        assert reader.runs()[-1].exit == 0
