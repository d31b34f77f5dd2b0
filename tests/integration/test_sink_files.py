"""The files sink: names, replacement, what it refuses, and the contract of every sink."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from scraper.errors import SinkFailed, State
from scraper.protocols import Sink, SinkState
from scraper.records import Item, Outcome, Request, Result
from scraper.sinks import sink_named
from scraper.sinks.disk import SYNC_WHOLE_FROM, Disk
from scraper.sinks.files import FilesOutput, FilesSink
from scraper.sinks.syncfs import whole_sync
from scraper.testing.disk import DiskSinkContract, RecordingDisk
from scraper.testing.sink import MemoryLedger, sample_results


def _result(row: int, *items: Item, caption: str | None = None, **columns: object) -> Result:
    request = Request(row, f"http://origin.test/{row}", caption=caption, columns=columns)
    return Result(request, Outcome(row, request.url, "ok"), items)


async def _put(out: Path, *results: Result, state: SinkState | None = None) -> list[Outcome]:
    async with FilesOutput()(out, state or {}) as sink:
        outcomes = await sink.write(results)
        await sink.flush()
        await sink.publish()
    return outcomes


class TestFilesContract(DiskSinkContract):
    rows = 4

    def make_on(self, disk: Disk, out: Path, state: SinkState) -> Sink:
        """See DiskSinkContract."""
        return FilesSink(out, state, disk=disk)

    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """See SinkContract."""
        for path in out.glob("[0-9]*/*.json"):
            assert json.loads(path.read_bytes())["key"] == path.stem
        return [(int(path.stem), path.read_bytes()) for path in sorted(out.glob("[0-9]*/*.jpg"))]


async def test_a_file_is_named_by_its_row(tmp_path: Path) -> None:
    """Row 12,345 is 00001/000012345.ext, and its further items follow it."""
    (outcome,) = await _put(tmp_path, _result(12_345, Item(b"one", "JPG"), Item(b"two", "../x")))
    assert (outcome.path, outcome.shard) == ("00001/000012345.jpg", None)
    assert (tmp_path / "00001/000012345.jpg").read_bytes() == b"one"
    assert (tmp_path / "00001/000012345_1.x").read_bytes() == b"two"


async def test_a_name_is_final_only_once_the_ledger_knows(tmp_path: Path) -> None:
    """Flushed is not enough: a file that the ledger does not know of could never be accounted for."""
    async with FilesSink(tmp_path, {}) as sink:
        await sink.write([_result(0, Item(b"x", "jpg"))])
        await sink.flush()
        assert not (tmp_path / "00000").exists()
        await sink.publish()
        assert (tmp_path / "00000/000000000.jpg").read_bytes() == b"x"


async def test_a_file_of_an_earlier_attempt_is_replaced(tmp_path: Path) -> None:
    """The same row again gives the same name and the new bytes."""
    await _put(tmp_path, _result(1, Item(b"old", "jpg")))
    await _put(tmp_path, _result(1, Item(b"new", "jpg")), state={"generation": 1})
    assert (tmp_path / "00000/000000001.jpg").read_bytes() == b"new"


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "fifo"])
async def test_what_is_no_file_is_never_replaced_or_written_through(tmp_path: Path, kind: str) -> None:
    """Something else under the name rejects this row alone, and is left as it is."""
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "out/00000/000000001.jpg"
    target.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"mine")
    match kind:
        case "folder":
            target.mkdir()
        case "link":
            target.symlink_to(elsewhere)
        case "dangling link":
            target.symlink_to(tmp_path / "nowhere")
        case "fifo":
            os.mkfifo(target)
    before = os.lstat(target)
    bad, good = await _put(tmp_path / "out", _result(1, Item(b"x", "jpg")), _result(2, Item(b"y", "jpg")))
    assert (bad.class_, bad.path, good.state) == ("sink.rejected", None, State.OK)
    assert "000000001.jpg" in bad.message
    assert os.lstat(target).st_ino == before.st_ino
    assert elsewhere.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("link", [True, False])
async def test_rows_whose_folder_is_no_folder_are_rejected(tmp_path: Path, link: bool) -> None:
    """A link or a file where NNNNN should be rejects its rows, and the next folder's go on."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    if link:
        (tmp_path / "out/00000").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "out/00000").write_bytes(b"")
    outcomes = await _put(tmp_path / "out", *(_result(row, Item(b"x", "jpg")) for row in (0, 1, 10_000)))
    assert [outcome.class_ for outcome in outcomes] == ["sink.rejected", "sink.rejected", "ok"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_sidecars_hold_the_caption_and_what_is_known(tmp_path: Path) -> None:
    """KEY.txt and KEY.json stand beside the item, and only where there is something to say."""
    await _put(
        tmp_path,
        _result(0, Item(b"x", "jpg", {"width": 3}), caption="Grüße 图", license="cc0"),
        _result(1, Item(b"y", "jpg")),
        _result(2, Item(b"{}", "json"), caption="data"),
    )
    assert sorted(path.name for path in (tmp_path / "00000").iterdir()) == [
        "000000000.jpg",
        "000000000.json",
        "000000000.txt",
        "000000001.jpg",
        "000000002.data.json",
        "000000002.json",
        "000000002.txt",
    ]
    assert (tmp_path / "00000/000000000.txt").read_text(encoding="utf-8") == "Grüße 图"
    about = json.loads((tmp_path / "00000/000000000.json").read_bytes())
    assert (about["license"], about["caption"], about["width"], about["status"]) == (
        "cc0",
        "Grüße 图",
        3,
        "success",
    )
    assert (tmp_path / "00000/000000002.data.json").read_bytes() == b"{}"


async def test_a_large_batch_is_written_by_several_threads_in_order(tmp_path: Path) -> None:
    """However a batch is split, its outcomes come back in its order and each file is its own."""
    results = sample_results(203)
    outcomes = await _put(tmp_path, *results)
    assert [outcome.row for outcome in outcomes] == list(range(203))
    for given, outcome in zip(results, outcomes, strict=True):
        if given.items:
            assert outcome.path is not None
            assert (tmp_path / outcome.path).read_bytes() == given.items[0].data


async def test_many_files_are_synced_by_one_call_where_that_is_safe(tmp_path: Path) -> None:
    """One syncfs stands for the fsync of each file only on file systems that report errors through it."""
    disk = RecordingDisk()
    async with FilesSink(tmp_path, {}, disk=disk) as sink:
        entered = len(disk.steps)
        await sink.write([_result(row, Item(b"x", "jpg")) for row in range(SYNC_WHOLE_FROM)])
        await sink.flush()
    whole = whole_sync(tmp_path)
    names = [name for name, _ in disk.steps[entered:]]
    if whole is None:
        assert names.count("fsync") >= SYNC_WHOLE_FROM
    else:
        whole.close()
        assert names.count("syncfs") == 1
        assert names.count("fsync") == 0


def test_a_failing_syncfs_falls_back_to_each_file(tmp_path: Path) -> None:
    """An error anywhere on the file system is not ours until an fsync of our own file says so."""
    files = [tmp_path / f"{n}" for n in range(SYNC_WHOLE_FROM)]
    for path in files:
        path.write_bytes(b"x")

    class Broken:
        root = tmp_path

        def __call__(self) -> None:
            raise OSError(5, "Input/output error")

    disk = RecordingDisk()
    disk.sync_all(files, Broken())  # type: ignore[arg-type]  # stands for a WholeSync
    assert [path for name, path in disk.steps if name == "fsync"] == files


async def test_a_read_only_folder_fails_before_the_first_row(tmp_path: Path) -> None:
    """Where nothing can be written, entering says so in a sentence that names the place."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkFailed, match="file"):
        async with FilesSink(tmp_path / "file" / "out", {}):
            pass


async def test_publishing_onto_a_folder_names_it(tmp_path: Path) -> None:
    """A folder that appears under a committed name stops the run with a sentence; removed, it resumes."""
    ledger = MemoryLedger()
    target = tmp_path / "00000/000000000.jpg"
    async with FilesSink(tmp_path, {}) as sink:
        outcomes = await sink.write([_result(0, Item(b"x", "jpg"))])
        target.mkdir(parents=True)
        ledger.commit(outcomes, await sink.flush())
        with pytest.raises(SinkFailed, match=r"000000000\.jpg: a folder is in its place"):
            await sink.publish()
    target.rmdir()
    async with FilesSink(tmp_path, ledger.state):
        assert target.read_bytes() == b"x"


async def test_a_folder_that_becomes_a_link_is_not_published_into(tmp_path: Path) -> None:
    """A link put in the place of NNNNN after a row was written stops the run; removed, it resumes."""
    ledger = MemoryLedger()
    (tmp_path / "elsewhere").mkdir()
    async with FilesSink(tmp_path / "out", {}) as sink:
        outcomes = await sink.write([_result(0, Item(b"x", "jpg"))])
        (tmp_path / "out/00000").symlink_to(tmp_path / "elsewhere")
        ledger.commit(outcomes, await sink.flush())
        with pytest.raises(SinkFailed, match="00000: it is a symbolic link"):
            await sink.publish()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "out/00000").unlink()
    async with FilesSink(tmp_path / "out", ledger.state):
        assert (tmp_path / "out/00000/000000000.jpg").read_bytes() == b"x"


def test_the_factory_is_found_by_name_and_can_be_pickled() -> None:
    """The table gives the class; what it makes travels to other processes as settings alone."""
    assert sink_named("files") is FilesOutput
    assert pickle.loads(pickle.dumps(FilesOutput())) == FilesOutput()


async def test_a_name_that_cannot_be_given_is_the_one_that_is_said(tmp_path: Path) -> None:
    """A rename that fails is told of by the final name, not by that of the temporary file."""
    sink = FilesSink(tmp_path, {})
    async with sink:
        await sink.write([_result(0, Item(b"one", "jpg"))])
        await sink.flush()
        (tmp_path / "00000/000000000.jpg").mkdir(parents=True)
        with pytest.raises(
            SinkFailed, match=rf"^Cannot write {tmp_path}/00000/000000000\.jpg: a folder is in its"
        ):
            await sink.publish()
