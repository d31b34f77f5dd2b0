"""What lies in OUT is data: whatever somebody wrote there, nothing of it is run, and nothing outside is read."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from scraper.cli import main
from scraper.ledger import Ledger, RunMeta
from scraper.outdir import OutputFolder
from scraper.records import Item, Outcome, Request, Result
from scraper.report import Report
from scraper.report.data import Picture
from scraper.report.thumbnails import thumbnails
from scraper.sinks import tar
from scraper.sinks.readback import read_items
from scraper.sinks.webdataset import WebdatasetSink
from scraper.testing.disk import QuickDisk

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


async def _made(out: Path, outcomes: Sequence[Outcome] = (), pipeline: str = "files") -> Path:
    """The folder of a run with these outcomes."""
    with OutputFolder(out) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            options = {"inputs": ["list.txt"], "options": {}}
            await ledger.begin(RunMeta(pipeline, {}, ["list.txt"], "f", options, "1.0", time.time()))
            await ledger.commit(outcomes, {})
            await ledger.end(0)
    return out


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()


MAY = {
    # Between the run and its own workers, over a pipe.
    "pickle": {"scraper/worker.py", "scraper/workers.py"},
    # Modules of our own, named by tables of our own.
    "importlib": {
        "scraper/__init__.py", "scraper/engines/__init__.py", "scraper/options/found.py",
        "scraper/report/__init__.py", "scraper/sinks/__init__.py", "scraper/sources/listed.py",
        # The user's own, named by the command: ``resume`` does not take the name from OUT.
        "scraper/transforms/user.py",
    },
}  # fmt: skip
"""What can make code of data, and who may use it."""

MAKES_CODE = re.compile(
    r"^\s*(?:import|from) (pickle|importlib|marshal|shelve|yaml|dill|cloudpickle|runpy|imp|code)\b"
    r"|(?<![\w.])(eval|exec|compile|__import__)\(",
    re.MULTILINE,
)


def test_nothing_makes_code_of_data_but_between_our_own_processes() -> None:
    """No reader of OUT unpickles, evaluates, imports or runs anything: JSON, SQLite, Parquet and tar are read."""
    wrong = [
        (where, used)
        for package in ("scraper", "pipelines")
        for path in (ROOT / package).rglob("*.py")
        if not (where := str(path.relative_to(ROOT))).startswith("scraper/testing/")
        for found in MAKES_CODE.finditer(path.read_text(encoding="utf-8"))
        if where not in MAY.get(used := found[1] or found[2], set())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "pipeline", ["os.system", "os:system", "evil", "../evil", "builtins", "pipelines.files", ""]
)
def test_resume_runs_only_pipelines_that_are_installed(
    tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name in the ledger is looked up among the entry points; a module beside OUT is not imported."""
    out = asyncio.run(_made(tmp_path / "out", pipeline=pipeline))
    for folder in (tmp_path, out, out / ".scraper"):
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(out)
    assert main(["resume", str(out)]) == 2
    assert f"There is no pipeline {pipeline!r}" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


async def test_a_ledger_leads_the_report_nowhere_outside(tmp_path: Path) -> None:
    """Pictures are shown from below OUT alone: not by .., not by a link, not out of an archive elsewhere."""
    out = await _made(tmp_path / "out")
    picture = _jpeg()
    (out / "good.jpg").write_bytes(picture)
    (tmp_path / "secret.jpg").write_bytes(picture)
    archive = tar.Headers(0)("a.jpg", len(picture)) + picture + tar.padding(len(picture)) + bytes(1024)
    (tmp_path / "secret.tar").write_bytes(archive)
    (out / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (out / "link.tar").symlink_to(tmp_path / "secret.tar")
    (out / "links").symlink_to(tmp_path)
    (out / "round").symlink_to("round")
    places: list[tuple[str, str | None]] = [
        ("good.jpg", None),
        ("../secret.jpg", None),
        (str(tmp_path / "secret.jpg"), None),
        ("link.jpg", None),
        ("links/secret.jpg", None),
        ("round/x.jpg", None),
        ("good.jpg\x00", None),
        ("x" * 5000, None),
        ("a.jpg", "../secret.tar"),
        ("a.jpg", "link.tar"),
        ("a.jpg", str(tmp_path / "secret.tar")),
        ("a.jpg", "..\x00"),
    ]
    assert read_items(out, places) == [picture] + [None] * 11
    outcomes = [
        Outcome(row, "http://a.example/", "ok", 200, 1, 9, path=path, shard=shard)
        for row, (path, shard) in enumerate(places)
    ]
    out = await _made(tmp_path / "out2", outcomes)
    for name in ("link.jpg", "link.tar", "links"):
        (out / name).symlink_to((tmp_path / "out" / name).readlink())
    (out / "good.jpg").write_bytes(picture)
    report = Report.of(out)
    assert [each.row for each, _ in thumbnails(out, report.pictures, read_items)] == [0]


@pytest.mark.parametrize("digits", [b"-0000001000", b"-0000000777", b"0000_000_10", b" " * 11, b"+0000000010"])
def test_an_archive_whose_sizes_are_none_is_not_gone_through_for_ever(tmp_path: Path, digits: bytes) -> None:
    """A size with a sign would lead back to where one is; the report passes over such an archive."""
    header = bytearray(tar.Headers(0)("a.jpg", 0))
    header[124:135] = digits
    (tmp_path / "00000.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="a member of"):
        read_items(tmp_path, [("b.jpg", "00000.tar")])
    assert thumbnails(tmp_path, [Picture(0, "", "b.jpg", "00000.tar")], read_items) == []


def test_an_archive_that_promises_too_much_takes_no_memory(tmp_path: Path) -> None:
    """A member of 8 GiB that is not there is no item."""
    (tmp_path / "00000.tar").write_bytes(tar.Headers(0)("a.jpg", tar.MAX_MEMBER) + bytes(1024))
    assert read_items(tmp_path, [("a.jpg", "00000.tar")]) == [None]


async def test_no_member_of_an_archive_is_called_after_a_url(tmp_path: Path) -> None:
    """Keys stay row numbers, one after the other, and extensions are plain, whatever the list and content say."""
    odd = ["../../x", "/etc/passwd", "C:\\x", "a\x00b", "CON", "x" * 400]
    results = []
    for row, text in enumerate(odd):
        request = Request(row, f"http://a.example/{text}", caption=text, columns={text: text, "key": text})
        item = Item(b"x", f"../{text}.sh", {text: text})
        results.append(Result(request, Outcome(row, request.url, "ok"), [item], f"x; filename={text}"))
    async with WebdatasetSink(tmp_path, {}, disk=QuickDisk()) as sink:
        outcomes = await sink.write(results)
        await sink.finish()
        await sink.publish()
    with (tmp_path / "00000.tar").open("rb") as file:
        members = [name for name, _, _ in tar.members(file)]
    assert [name for name in members if not name.endswith((".txt", ".json"))] == [each.path for each in outcomes]
    assert {name.partition(".")[0] for name in members} == {f"{row:09d}" for row in range(len(odd))}
    assert all(set(name.partition(".")[2]) <= set("abcdefghijklmnopqrstuvwxyz0123456789") for name in members)


@pytest.mark.parametrize("name", ["lock", "ledger.sqlite", "ledger.sqlite-wal", "log.jsonl"])
def test_a_file_of_ours_that_is_a_link_is_not_written_through(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, a sentence that names it, and what it leads to stays as it is."""
    out, victim = asyncio.run(_made(tmp_path / "out")), tmp_path / "victim"
    victim.write_bytes(b"mine")
    (out / ".scraper" / name).unlink(missing_ok=True)
    (out / ".scraper" / name).symlink_to(victim)
    (tmp_path / "list.txt").write_text("http://127.0.0.1:1/\n")
    assert main(["files", str(tmp_path / "list.txt"), "-o", str(out)]) == 3
    assert f".scraper/{name} cannot be written to: it is a symbolic link" in capsys.readouterr().err
    assert victim.read_bytes() == b"mine"


def test_a_state_folder_that_is_a_link_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Though OUT itself may be one."""
    (tmp_path / "list.txt").write_text("http://127.0.0.1:1/\n")
    real = asyncio.run(_made(tmp_path / "real"))
    (tmp_path / "out").symlink_to(real)
    with OutputFolder(tmp_path / "out"):
        pass
    (real / ".scraper").rename(tmp_path / "elsewhere")
    (real / ".scraper").symlink_to(tmp_path / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").iterdir()}
    for more in ([], ["--dry-run"], ["--overwrite"]):
        assert main(["files", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), *more]) == 3
        assert ".scraper cannot be written to: it is a symbolic link" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").iterdir()} == before


def test_settings_in_a_ledger_are_compared_and_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A template in them is not filled in, an object not made: going on with other settings is refused."""
    out = asyncio.run(_made(tmp_path / "out", [Outcome(0, "http://a.example/", "ok")]))
    with closing(sqlite3.connect(out / ".scraper/ledger.sqlite")) as database, database:
        (text,) = database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
        crafted = json.loads(text) | {
            "settings": {"name": "{row.__class__.__mro__}", "__reduce__": ["os.system", ["true"]]}
        }
        database.execute("UPDATE meta SET value = ? WHERE key = 'run'", (json.dumps(crafted),))
    (tmp_path / "list.txt").write_text("http://a.example/\n")
    assert main(["files", str(tmp_path / "list.txt"), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert "{row.__class__.__mro__}" in said
