"""What no run left in OUT, and lists that came back changed: nothing outside is touched, nothing hangs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines import files
from scraper import LedgerReader, Outcome, Report, arun
from scraper.cli import main
from scraper.errors import SinkFailed, UsageError
from scraper.outdir import OutputFolder
from scraper.testing.server import ScriptedServer, reply

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_page")]


async def _run(urls: Sequence[str], out: Path, **settings: object) -> list[Outcome]:
    # Not a list, which would have a digest.
    await arun(files.build(), urls=iter(urls), out=out, allow_net="127.0.0.0/8", robots="ignore", **settings)
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
        return [recorded.outcome for recorded in reader.rows()]


def _precious(tmp_path: Path) -> Path:
    precious = tmp_path / "precious"
    (precious / "files-77").mkdir(parents=True)
    (precious / "files-77" / "thesis.txt").write_text("years of work")
    return precious


async def test_a_link_among_the_staged_files_is_removed_not_followed(tmp_path: Path) -> None:
    """What it points to stays as it is, and the run goes on."""
    precious, out = _precious(tmp_path), tmp_path / "out"
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        await _run([server.url("/1")], out)
        (out / ".scraper" / "staged" / "files-99").symlink_to(precious)
        outcomes = await _run([server.url("/1"), server.url("/2")], out)
    assert [each.class_ for each in outcomes] == ["ok", "ok"]
    assert (precious / "files-77" / "thesis.txt").read_text() == "years of work"
    assert not (out / ".scraper" / "staged" / "files-99").is_symlink()


async def test_a_folder_of_ours_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """It leads out of OUT: one sentence, and nothing behind it is touched."""
    precious, out = _precious(tmp_path), tmp_path / "out"
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        await _run([server.url("/1")], out)
        (out / ".scraper" / "staged").rmdir()
        (out / ".scraper" / "staged").symlink_to(precious)
        with pytest.raises(SinkFailed, match="symbolic link"):
            await _run([server.url("/1"), server.url("/2")], out)
    assert (precious / "files-77" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("what", ["pipe", "link"])
async def test_a_log_that_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    """A pipe would be waited for until somebody reads it, a link may lead anywhere."""
    out = tmp_path / "out"
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        await _run([server.url("/1")], out)
        log = out / ".scraper" / "log.jsonl"
        log.unlink()
        if what == "pipe":
            os.mkfifo(log)
        else:
            log.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SinkFailed, match=r"log\.jsonl cannot be written to"):
            await _run([server.url("/1"), server.url("/2")], out)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_refresh_brings_back_what_is_gone(tmp_path: Path) -> None:
    """A copy that was removed, emptied or replaced is asked for plainly: no 304 can stand for it."""
    whole = reply("200 OK", b"all of it", 'ETag: "1"', "Content-Type: text/plain")
    async with ScriptedServer({f"/{n}": [whole] for n in range(4)}) as server:
        urls = [server.url(f"/{n}") for n in range(4)]
        out = tmp_path / "out"
        outcomes = await _run(urls, out)
        paths = [out / str(each.path) for each in outcomes]
        paths[0].unlink()
        paths[1].write_bytes(b"")
        paths[2].unlink()
        paths[2].symlink_to(tmp_path / "elsewhere")
        before = len(server.requests)
        outcomes = await _run(urls, out, refresh=True)
        asked = [b"If-None-Match" in head for head in server.requests[before:]]
    assert sorted(asked) == [False, False, False, True]
    assert [path.read_bytes() for path in (*paths[:2], paths[3])] == [b"all of it"] * 3
    assert [each.class_ for each in outcomes] == ["ok", "ok", "sink.rejected", "ok"]


async def test_a_list_that_comes_back_shorter_is_refused(tmp_path: Path) -> None:
    """A producer that died looks like the end of the list: rows that have ended beyond it say otherwise."""
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        urls = [server.url(f"/{n}") for n in range(10)]
        await _run(urls, tmp_path)
        with pytest.raises(UsageError, match="fewer than the 10 rows that have ended"):
            await _run(urls[:4], tmp_path)
        outcomes = await _run([*urls, server.url("/more")], tmp_path)
    assert [each.class_ for each in outcomes] == ["ok"] * 11


async def test_a_report_is_printed_where_its_page_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is known is said, and then what went wrong."""
    out = tmp_path / "out"
    async with ScriptedServer([reply("200 OK", b"x")]) as server:
        await arun(files.build(), [server.url()], out=out, allow_net="127.0.0.0/8", robots="ignore")

    def refused(report: Report, folder: OutputFolder) -> None:
        raise SinkFailed("report.html cannot be written.")

    monkeypatch.setattr("scraper.api.write_page", refused)
    assert await asyncio.to_thread(main, ["report", str(out)]) == 3
    said = capsys.readouterr()
    assert "rows     1" in said.out
    assert "report.html cannot be written." in said.err
