"""Rows that are asked again and end in files of other names: what goes, when, and what never does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import files
from scraper import arun
from scraper.errors import SinkFailed
from scraper.policies.templates import Template
from scraper.records import Held, Item, Outcome, Request, Result
from scraper.sinks import SINKS, output_of
from scraper.sinks.files import REPLACED, FilesSink
from scraper.sinks.leftovers import Leftovers
from scraper.testing.disk import REFUSALS, Killed, KillingDisk, QuickDisk, RecordingDisk, RefusingDisk
from scraper.testing.server import ScriptedServer, Turns, reply
from scraper.testing.sink import MemoryLedger, files_in

LOOPBACK = {"allow_net": "127.0.0.0/8", "robots": "ignore"}

JPG, PNG = Item(b"old", "jpg"), Item(b"new", "png")


def _result(row: int, *items: Item, caption: str | None = None, class_: str = "ok") -> Result:
    request = Request(row, f"http://origin.test/{row}", caption=caption)
    return Result(request, Outcome(row, request.url, class_), items)


def _held(result: Result, path: str | None) -> Result:
    """The same for a row of which an earlier run holds a file."""
    return replace(result, request=replace(result.request, held=Held(result.request.url, path=path)))


async def _run(sink: FilesSink, ledger: MemoryLedger, results: Sequence[Result]) -> None:
    """One run, each row that is not in the ledger in a generation of its own."""
    async with sink:
        for result in results:
            if result.request.row not in ledger.outcomes:
                ledger.commit(await sink.write([result]), await sink.flush())
                await sink.publish()


async def _again(out: Path, first: Result, *second: Result) -> list[str]:
    """What stands in the row's folder after the second, third, … pass."""
    ledger = MemoryLedger()
    await _run(FilesSink(out, {}, disk=QuickDisk()), ledger, [first])
    for result in second:
        before = ledger.ask_again()[first.request.row]
        held = _held(result, before.path or "00000/000000001.jpg")
        await _run(FilesSink(out, ledger.state, disk=QuickDisk()), ledger, [held])
    return sorted(path.name for path in (out / "00000").iterdir())


async def test_a_file_of_another_name_goes_with_the_pass_that_replaces_it(tmp_path: Path) -> None:
    """A picture that is a PNG now leaves no JPEG of the same row, and the other way round again."""
    assert await _again(tmp_path, _result(1, JPG), _result(1, PNG)) == ["000000001.png"]
    assert await _again(tmp_path / "b", _result(1, JPG), _result(1, PNG), _result(1, JPG)) == ["000000001.jpg"]


async def test_a_file_of_the_same_name_is_replaced_in_one_step(tmp_path: Path) -> None:
    """The old bytes stand until the new ones do, and nothing is removed."""
    assert await _again(tmp_path, _result(1, JPG), _result(1, Item(b"new", "jpg"))) == ["000000001.jpg"]
    assert (tmp_path / "00000/000000001.jpg").read_bytes() == b"new"


@pytest.mark.parametrize("class_", ["ok.not_modified", "http.404", "filtered.size"])
async def test_a_row_that_ends_without_items_keeps_its_files(tmp_path: Path, class_: str) -> None:
    """Not changed, not there any more, left out by a rule: what an earlier run fetched stays."""
    first = _result(1, replace(JPG, fields={"width": 1}), caption="c")
    names = ["000000001.jpg", "000000001.json", "000000001.txt"]
    assert await _again(tmp_path, first, _result(1, class_=class_)) == names


async def test_further_items_and_sidecars_that_do_not_apply_any_more_go_too(tmp_path: Path) -> None:
    """Three items with captions become one without: one file is left."""
    first = _result(1, JPG, replace(JPG, fields={"n": 1}), JPG, caption="c")
    assert len(await _again(tmp_path / "a", first)) == 9
    assert await _again(tmp_path, first, _result(1, PNG)) == ["000000001.png"]


async def test_an_item_that_was_called_like_a_sidecar_goes_by_its_own_name(tmp_path: Path) -> None:
    """A .json that was the item itself, whatever it says inside, takes no caption with it."""
    lies = Item(b'{"key": "000000001", "caption": "x"}', "json")
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000/000000001.txt").write_bytes(b"the user's")
    assert await _again(tmp_path, _result(1, lies), _result(1, PNG)) == ["000000001.png", "000000001.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "000000001.npy",  # a feature that somebody put beside the picture
        "000000001.txt",  # a caption that somebody wrote: the row has none
        "000000001.jpg.bak",
        "000000001_mask.png",
        "000000001_1.backup.png",
        "000000011.jpg",
        "000000001",
    ],
)
async def test_what_is_not_the_rows_own_stays(tmp_path: Path, name: str) -> None:
    """Beside the item itself nothing goes that no run of ours has written."""
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / name).write_bytes(b"mine")
    names = await _again(tmp_path, _result(1, replace(JPG, fields={"n": 1})), _result(1, PNG))
    assert names == sorted([name, "000000001.png"])


@pytest.mark.parametrize("content", ["", "[]", '{"key": "000000002"}', "[" * 100_000, "\x00\xff"])
async def test_a_sidecar_that_is_not_ours_says_nothing(tmp_path: Path, content: str) -> None:
    """KEY.json that somebody else wrote, or a damaged one, stays where it is."""
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000/000000001.json").write_text(content, "latin-1")
    names = await _again(tmp_path, _result(1, JPG), _result(1, PNG))
    assert names == ["000000001.json", "000000001.png"]


@pytest.mark.parametrize(
    "path",
    [
        "00000/000000002.jpg",
        "00001/000000001.jpg",
        "00000/../00000/000000001.jpg",
        "../outside/000000001.jpg",
        "/000000001.jpg",
        "00000/000000001.jpg/x",
        "00000/000000001.",
        "00000/0000000001.jpg",
        "000000001.jpg",
        "items.jsonl",
        "",
        None,
    ],
)
async def test_a_path_that_is_not_the_rows_is_not_heeded(tmp_path: Path, path: str | None) -> None:
    """Whatever the ledger says, only files of the row's own folder and key are looked for."""
    out = tmp_path / "out"
    others = [out / "00000/000000002.jpg", out / "00001/000000001.jpg", tmp_path / "outside/000000001.jpg"]
    others += [out / "00000/000000001_1.jpg", out / "000000001.jpg", out / "items.jsonl"]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")
    assert Leftovers(out).of(1, path) == set()
    await _run(FilesSink(out, {}, disk=QuickDisk()), MemoryLedger(), [_held(_result(1, PNG), path)])
    assert all(file.read_bytes() == b"mine" for file in others)


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_nothing_is_removed_through_a_link(tmp_path: Path, what: str) -> None:
    """A symbolic link in the place of the old file, or of its folder, is left alone with what it leads to."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "000000001.jpg").write_bytes(b"mine")
    if what == "folder":
        out.mkdir()
        (out / "00000").symlink_to(elsewhere)
    else:
        (out / "00000").mkdir(parents=True)
        (out / "00000/000000001.jpg").symlink_to(elsewhere / "000000001.jpg")
    assert Leftovers(out).of(1, "00000/000000001.jpg") == set()
    await _run(
        FilesSink(out, {}, disk=QuickDisk()), MemoryLedger(), [_held(_result(1, PNG), "00000/000000001.jpg")]
    )
    assert (elsewhere / "000000001.jpg").read_bytes() == b"mine"
    assert (out / "00000/000000001.jpg").read_bytes() == b"mine"


async def test_the_list_of_what_goes_is_not_trusted_blindly(tmp_path: Path) -> None:
    """A generation that a killed run left can remove nothing but files that this sink gave names to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    generation = tmp_path / "out/.scraper/staged/files-1"
    generation.mkdir(parents=True)
    (generation / REPLACED).write_text(f"../elsewhere\n{elsewhere}\n.scraper/ledger.sqlite\n00000/000000001.jpg\n")
    (tmp_path / "out/.scraper/ledger.sqlite").write_bytes(b"kept")
    (tmp_path / "out/00000").mkdir()
    (tmp_path / "out/00000/000000001.jpg").write_bytes(b"old")
    async with FilesSink(tmp_path / "out", {"generation": 1}, disk=QuickDisk()):
        pass
    assert elsewhere.exists()
    assert sorted(files_in(tmp_path / "out")) == [tmp_path / "out/.scraper/ledger.sqlite"]


async def test_a_folder_that_somebody_removed_is_no_fault(tmp_path: Path) -> None:
    """The old file need not be there any more for the new one to be written."""
    held = _held(_result(1, PNG), "00000/000000001.jpg")
    await _run(FilesSink(tmp_path, {}, disk=QuickDisk()), MemoryLedger(), [held])
    assert list(files_in(tmp_path)) == [tmp_path / "00000/000000001.png"]


FIRST = [
    _result(0, replace(JPG, fields={"n": 1}), JPG, caption="c"),
    _result(1, JPG),
    _result(2, JPG),
]
SECOND = [_result(0, PNG), _result(1, Item(b"newer", "jpg")), _result(2, PNG, PNG)]
WHOLE = {
    "00000/000000000.png": b"new",
    "00000/000000001.jpg": b"newer",
    "00000/000000002.png": b"new",
    "00000/000000002_1.png": b"new",
}


async def _first_pass(out: Path) -> tuple[MemoryLedger, list[Result]]:
    """An output, its ledger, and the results of asking again."""
    ledger = MemoryLedger()
    await _run(FilesSink(out, {}, disk=QuickDisk()), ledger, FIRST)
    before = ledger.ask_again()
    return ledger, [_held(result, before[result.request.row].path) for result in SECOND]


def _standing(out: Path) -> dict[str, bytes]:
    """Every file under a final name."""
    found = {str(path.relative_to(out)): data for path, data in files_in(out).items()}
    return {path: data for path, data in found.items() if not path.startswith(".scraper")}


def _check_each_row_stands(out: Path) -> None:
    """At every moment the first item of each row is there, old or new, and whole."""
    standing = _standing(out)
    for row in range(3):
        firsts = {
            path: data for path, data in standing.items() if Template().row_of(path) == row and "_" not in path
        }
        items = [data for path, data in firsts.items() if not path.endswith((".txt", ".json"))]
        assert items
        assert set(items) <= {b"old", b"new", b"newer"}


@pytest.mark.slow
async def test_a_kill_at_any_step_of_replacing_is_survived(tmp_path: Path) -> None:
    """Killed at the 1st, 2nd, … step: a row always has its file, and in the end exactly the new ones stand."""
    for at in range(1, 2_000):
        out = tmp_path / f"{at}"
        ledger, results = await _first_pass(out)
        try:
            await _run(FilesSink(out, ledger.state, disk=KillingDisk(at)), ledger, results)
        except Killed:
            _check_each_row_stands(out)
            await _run(FilesSink(out, ledger.state, disk=QuickDisk()), ledger, results)
            assert _standing(out) == WHOLE
        else:
            assert at > 30
            assert _standing(out) == WHOLE
            return
    pytest.fail("the run never completed")


@pytest.mark.slow
async def test_a_second_kill_while_replacing_is_completed_is_survived(tmp_path: Path) -> None:
    """What a killed run had committed is completed by the next one, which may be killed as well."""
    steps = RecordingDisk()
    ledger, results = await _first_pass(tmp_path / "whole")
    await _run(FilesSink(tmp_path / "whole", ledger.state, disk=steps), ledger, results)
    for first in range(1, len(steps.steps), 7):
        for second in range(1, 7):
            out = tmp_path / f"{first}-{second}"
            ledger, results = await _first_pass(out)
            for disk in (KillingDisk(first), KillingDisk(second), QuickDisk()):
                try:
                    await _run(FilesSink(out, ledger.state, disk=disk), ledger, results)
                except Killed:
                    _check_each_row_stands(out)
            assert _standing(out) == WHOLE


@pytest.mark.slow
async def test_a_disk_that_refuses_while_replacing_tears_nothing(tmp_path: Path) -> None:
    """An error of the device at any step stops the run, and the next one ends as if it had not been."""
    for at in range(1, 2_000, 3):
        out = tmp_path / f"{at}"
        ledger, results = await _first_pass(out)
        disk = RefusingDisk(at, REFUSALS["broken"])
        failed = False
        try:
            await _run(FilesSink(out, ledger.state, disk=disk), ledger, results)
        except SinkFailed:
            failed = True
        assert failed is disk.refused
        _check_each_row_stands(out)
        await _run(FilesSink(out, ledger.state, disk=QuickDisk()), ledger, results)
        assert _standing(out) == WHOLE
        if not failed:
            return
    pytest.fail("the run never completed")


async def test_the_old_file_goes_after_the_new_one_stands_for_good(tmp_path: Path) -> None:
    """Write, fsync, rename, fsync of the folder, and only then unlink: no power cut leaves a row empty."""
    ledger, results = await _first_pass(tmp_path)
    disk = RecordingDisk()
    await _run(FilesSink(tmp_path, ledger.state, disk=disk), ledger, results[2:])
    old, new = tmp_path / "00000/000000002.jpg", tmp_path / "00000/000000002.png"
    steps = disk.steps
    named, removed = steps.index(("rename", new)), steps.index(("unlink", old))
    assert ("fsync", new.parent) in steps[named:removed]
    assert ("fsync", new.parent) in steps[removed:]


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
async def test_a_whole_run_that_refreshes_leaves_one_file_a_row(tmp_path: Path) -> None:
    """Changed to another type, not changed, gone: the new file alone, the old one, the old one."""
    jpeg, png, gif = b"\xff\xd8\xff\xe0 jpeg", b"\x89PNG\r\n\x1a\n png", b"GIF89a gif"
    scripts = {
        "/0": Turns(([reply("200 OK", jpeg)], [reply("200 OK", png)])),
        "/1": Turns(([reply("200 OK", gif, 'ETag: "a"')], [b"HTTP/1.1 304 Not Modified\r\n\r\n"])),
        "/2": Turns(([reply("200 OK", gif)], [reply("404 Not Found")])),
    }
    out = tmp_path / "out"
    async with ScriptedServer(scripts) as server:
        urls = [server.url(path) for path in scripts]
        await arun(files.build(), urls, out=out, workers=1, **LOOPBACK)
        report = await arun(files.build(), urls, out=out, workers=1, refresh=True, **LOOPBACK)
    assert dict(report.by_class) == {"ok": 1, "ok.not_modified": 1, "http.404": 1}
    assert {path.name: path.read_bytes() for path in (out / "00000").iterdir()} == {
        "000000000.png": png,
        "000000001.gif": gif,
        "000000002.gif": gif,
    }


@pytest.mark.parametrize(("name", "replaces"), [("files", True), ("webdataset", False), ("jsonl", False)])
def test_each_output_says_whether_it_can_replace_a_row(name: str, replaces: bool) -> None:
    """Only single files can be taken the place of; archives and appended files grow."""
    assert name in SINKS
    made = output_of(name, rows_per_shard=7)
    assert getattr(made, "replaces") is replaces  # noqa: B009 - a factory need not have it
