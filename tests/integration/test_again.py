"""Asking again rows that have ended, through the whole product: what is asked, what is written, what is shown."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import files
from scraper import Pipeline, Report, UsageError, Watch, arun
from scraper.cli import main
from scraper.ledger import LedgerReader
from scraper.options import from_settings
from scraper.origin.process import OriginProcess
from scraper.protocols import SinkState
from scraper.records import Outcome, Result
from scraper.report import render_terminal
from scraper.results import write_results
from scraper.sinks.files import FilesSink
from scraper.testing.server import HANG, LOOPBACK, ScriptedServer, Turns, reply

pytestmark = pytest.mark.usefixtures("no_page")

FINE = reply("200 OK", b"first")
GONE = reply("404 Not Found", b"no")
BUSY = reply("429 Too Many Requests")


def in_turn(*scripts: bytes) -> Turns:
    """The first request gets the first, and so on; the last serves all that follow."""
    return Turns(tuple([each] for each in scripts))


async def a_run(
    server: ScriptedServer, out: Path, paths: Sequence[str], pipeline: Pipeline | None = None, **more: object
) -> Report:
    """One run over the paths of the server, without retries of its own; a 429 slows nothing down."""
    urls = [server.url(path) for path in paths]
    settings = {"retries": 0, "workers": 1, "max_failed": 99, "allow_net": LOOPBACK, "pace": "fixed"} | more
    return await arun(pipeline or files.build(), urls=urls, out=out, **settings)  # type: ignore[arg-type] # by name


def outcomes(out: Path) -> list[Outcome]:
    """How each row ended last."""
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
        return [one.outcome for one in reader.rows()]


def classes(out: Path) -> list[str]:
    """The class of each row."""
    return [outcome.class_ for outcome in outcomes(out)]


def past(out: Path, format_: str = "jsonl") -> str:
    """What ``scraper results`` prints."""
    stream = io.StringIO()
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
        write_results(reader, stream, format_)  # type: ignore[arg-type] # one of the two
    return stream.getvalue()


@pytest.mark.slow
async def test_failed_rows_are_asked_again(tmp_path: Path) -> None:
    """Those of the classes named, or all; the others keep their outcome, and the report counts each row once."""
    paths = ["/ok", "/gone", "/busy"]
    scripts = {"/ok": [FINE], "/gone": [GONE], "/busy": in_turn(BUSY, FINE)}
    async with ScriptedServer(scripts) as server:
        await a_run(server, tmp_path, paths)
        for retry_failed, asked, expected in (
            ("timeout", (1, 1, 1), ["ok", "http.404", "http.429"]),
            ("http.429,dns", (1, 1, 2), ["ok", "http.404", "ok"]),
            (False, (1, 1, 2), ["ok", "http.404", "ok"]),
            (True, (1, 2, 2), ["ok", "http.404", "ok"]),
        ):
            report = await a_run(server, tmp_path, paths, retry_failed=retry_failed)
            assert tuple(server.asked[path] for path in paths) == asked
            assert classes(tmp_path) == expected
            assert (report.rows, report.ok) == (3, expected.count("ok"))
            stems = {path.stem for path in (tmp_path / "00000").iterdir()}
            assert stems == {f"{row:09d}" for row, class_ in enumerate(expected) if class_ == "ok"}


@pytest.mark.slow
async def test_what_failed_before_is_told(tmp_path: Path) -> None:
    """The earlier end of a row that was asked again stays to be seen, in both formats."""
    async with ScriptedServer({"/busy": in_turn(BUSY, GONE, FINE), "/ok": [FINE]}) as server:
        await a_run(server, tmp_path / "out", ["/busy", "/ok"])
        for _ in range(2):
            await a_run(server, tmp_path / "out", ["/busy", "/ok"], retry_failed=True)
    first, second = (json.loads(line) for line in past(tmp_path / "out").splitlines())
    assert (first["class"], [one["class"] for one in first["earlier"]]) == ("ok", ["http.429", "http.404"])
    assert "earlier" not in second
    table = list(csv.DictReader(io.StringIO(past(tmp_path / "out", "csv"))))
    assert [row["earlier"] for row in table] == ["http.429 http.404", ""]


@pytest.mark.slow
async def test_a_retried_row_joins_the_archive_once(tmp_path: Path) -> None:
    """In webdataset a row that is ok at last is appended like any other; no member is doubled."""
    shards = files.build(output_format="webdataset", number_sample_per_shard=2)
    paths = ["/ok", "/busy", "/gone"]
    async with ScriptedServer({"/ok": [FINE], "/busy": in_turn(BUSY, FINE), "/gone": [GONE]}) as server:
        await a_run(server, tmp_path / "out", paths, shards)
        await a_run(server, tmp_path / "out", paths, shards, retry_failed=True)
    members = []
    for archive in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(archive) as opened:
            members += opened.getnames()
    assert sorted({name.partition(".")[0] for name in members}) == ["000000000", "000000001"]
    assert len(members) == len(set(members))
    assert classes(tmp_path / "out") == ["ok", "ok", "http.404"]
    assert [bool(outcome.shard) for outcome in outcomes(tmp_path / "out")] == [True, True, False]


@pytest.mark.slow
async def test_a_pass_that_is_stopped_goes_on(tmp_path: Path) -> None:
    """Rows that had their turn in the pass are not asked a second time, the others are; also after a plain run."""
    paths = [f"/{n}" for n in range(4)]
    # The second time of asking, two rows fail again and two are never answered.
    hangs = Turns(([BUSY], [HANG], [FINE]))
    async with ScriptedServer({"/0": [BUSY], "/1": [BUSY], "/2": hangs, "/3": hangs}) as server:
        await a_run(server, tmp_path, paths)
        watch = Watch()
        once = replace(files.build(), open_sink=lambda out, state: _StoppingSink(out, state, watch.stop, 2))
        settings = {"workers": 1, "retries": 0, "retry_failed": True, "allow_net": LOOPBACK, "pace": "fixed"}
        said = replace(from_settings(settings), grace_s=0.05)
        urls = [server.url(path) for path in paths]
        report = await arun(once, urls, out=tmp_path, config=said, watch=watch)
        assert not report.is_complete
        report = await a_run(server, tmp_path, paths)
        assert dict(server.asked) == {"/0": 2, "/1": 2, "/2": 2, "/3": 2}
        assert "--retry-failed was cut short with 2 rows left to ask" in render_terminal(report)
        report = await a_run(server, tmp_path, paths, retry_failed=True)
        assert dict(server.asked) == {"/0": 2, "/1": 2, "/2": 3, "/3": 3}
        assert "4 rows by --retry-failed: 2 ok now, 2 failed again" in render_terminal(report)
        assert "cut short" not in render_terminal(report)
        assert classes(tmp_path) == ["http.429", "http.429", "ok", "ok"]
        await a_run(server, tmp_path, paths, retry_failed=True)
        assert dict(server.asked) == {"/0": 3, "/1": 3, "/2": 3, "/3": 3}


class _StoppingSink(FilesSink):
    """Stops the run once so many rows are in the ledger."""

    def __init__(self, out: Path, state: SinkState, stop: asyncio.Event, rows: int) -> None:
        super().__init__(out, state)
        self._stop, self._left = stop, rows

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        self._left -= len(batch)
        return await super().write(batch)

    async def publish(self) -> None:
        await super().publish()
        if self._left <= 0:
            self._stop.set()


DATED = "Last-Modified: Sat, 21 Nov 2026 13:00:00 GMT"
OLD = reply("200 OK", b"old text", 'ETag: "1"', DATED)
NEW = reply("200 OK", b"new text", 'ETag: "2"')
SAME = reply("304 Not Modified", b"", 'ETag: "1"')


def asked_with(server: ScriptedServer, path: str) -> list[dict[str, str]]:
    """The conditions of each request for a path."""
    found = []
    for head in server.requests:
        line, *fields = head.decode().split("\r\n")
        if line.split(" ")[1] == path:
            pairs = (each.partition(": ") for each in fields)
            found.append({name.lower(): value for name, _, value in pairs if name.lower().startswith("if-")})
    return found


@pytest.mark.slow
async def test_a_refresh_fetches_only_what_has_changed(tmp_path: Path) -> None:
    """304 leaves the file and what is known of it alone, 200 replaces it, a failure takes nothing away."""
    paths = ["/same", "/changed", "/failing", "/gone"]
    scripts = {
        "/same": in_turn(OLD, SAME, SAME),
        "/changed": in_turn(OLD, NEW),
        "/failing": in_turn(OLD, GONE, SAME),
        "/gone": [GONE],
    }
    out = tmp_path / "out"
    async with ScriptedServer(scripts) as server:
        await a_run(server, out, paths)
        before = {path: path.stat().st_mtime_ns for path in (out / "00000").iterdir()}
        await a_run(server, out, paths, refresh=True)
        assert classes(out) == ["ok.not_modified", "ok", "http.404", "http.404"]
        assert _texts(out) == ["old text", "new text", "old text", None]
        await a_run(server, out, paths, refresh=True)
        conditions = {path: asked_with(server, path) for path in paths}
    assert classes(out) == ["ok.not_modified", "ok", "ok.not_modified", "http.404"]
    assert _texts(out) == ["old text", "new text", "old text", None]
    first = {"if-none-match": '"1"', "if-modified-since": DATED.partition(": ")[2]}
    assert conditions == {
        "/same": [{}, first, first],
        "/changed": [{}, first, {"if-none-match": '"2"'}],
        "/failing": [{}, first, first],
        "/gone": [{}, {}, {}],
    }
    untouched = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert sorted(path.stem for path in untouched) == ["000000000", "000000002"]


def _texts(out: Path) -> list[str | None]:
    """What is on disk of each row, where the ledger says that it is."""
    return [(out / one.path).read_text() if one.path else None for one in outcomes(out)]


@pytest.mark.slow
async def test_what_cannot_be_asked_again_is_refused_before_anything_happens(tmp_path: Path) -> None:
    """An archive cannot be refreshed, from Python either; nothing is asked and nothing is changed."""
    shards = files.build(output_format="webdataset")
    async with ScriptedServer({"/ok": [FINE]}) as server:
        await a_run(server, tmp_path, ["/ok"], shards)
        before = past(tmp_path)
        with pytest.raises(UsageError, match="--refresh needs --output-format files"):
            await a_run(server, tmp_path, ["/ok"], shards, refresh=True)
        assert (server.asked["/ok"], past(tmp_path)) == (1, before)


@pytest.mark.slow
async def test_another_list_is_not_asked_again(tmp_path: Path) -> None:
    """Rows of a list without a fingerprint must be the URLs they were, those that are asked again as well."""
    async with ScriptedServer({"/gone": [GONE], "/other": [FINE]}) as server:
        gone, other = iter([server.url("/gone")]), iter([server.url("/other")])
        await arun(files.build(), urls=gone, out=tmp_path, max_failed=9, allow_net=LOOPBACK)
        with pytest.raises(UsageError, match="holds results of another list"):
            await arun(files.build(), urls=other, out=tmp_path, retry_failed=True, allow_net=LOOPBACK)
        assert server.asked["/other"] == 0
    assert classes(tmp_path) == ["http.404"]


@pytest.mark.slow
def test_the_command_line_asks_again(
    tmp_path: Path, shared_origin: OriginProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bare option before the list: a plain run where nothing has failed, and, saying so, where nothing is."""
    urls, out = tmp_path / "urls.txt", tmp_path / "out"
    urls.write_text(shared_origin.url("/img/thumb/1.jpg") + "\n")
    warning = f"{out} holds nothing yet: every row is asked for the first time"
    how = ["--workers", "1", "--progress", "none", "--allow-net", LOOPBACK]
    for is_first in (True, False):
        assert main(["files", "--retry-failed", str(urls), "-o", str(out), *how]) == 0
        assert classes(out) == ["ok"]
        assert capsys.readouterr().err.count(warning) == is_first
    assert "earlier" not in past(out)
