"""The jsonl sink: its lines, its two names, what it refuses, and the contract of every sink."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from scraper.errors import SinkFailed
from scraper.protocols import Sink, SinkState
from scraper.records import Item, Outcome, Request, Result
from scraper.sinks import sink_named
from scraper.sinks.disk import Disk
from scraper.sinks.jsonl import WRITE_SIZE, JsonlOutput, JsonlSink
from scraper.sinks.readback import read_items
from scraper.testing.disk import DiskSinkContract, QuickDisk, RecordingDisk
from scraper.testing.sink import MemoryLedger, sample_results


def _lines_of(path: Path) -> list[dict[str, object]]:
    """Every line, read strictly: one that is cut, empty or no object raises."""
    content = path.read_bytes()
    assert content.endswith(b"\n")
    found = [json.loads(line) for line in content.decode().split("\n")[:-1]]
    assert all(isinstance(each, dict) for each in found)
    return found


def _result(row: int, *items: Item, class_: str = "ok", caption: str | None = None, **columns: object) -> Result:
    request = Request(row, f"http://user:secret@origin.test/{row}", caption=caption, columns=columns)
    return Result(request, Outcome(row, request.url, class_), items)


async def _write(out: Path, *results: Result) -> list[Outcome]:
    async with JsonlOutput()(out, {}) as sink:
        outcomes = await sink.write(results)
        await sink.finish()
        await sink.publish()
    return outcomes


class TestJsonlContract(DiskSinkContract):
    def make_on(self, disk: Disk, out: Path, state: SinkState) -> Sink:
        """See DiskSinkContract."""
        return JsonlSink(out, state, disk=disk)

    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """The items' bytes are not in the file; what is known of them stands for them."""
        if not (out / "items.jsonl").exists():
            return []
        return [(int(str(each["key"])), str(each["width"]).encode()) for each in _lines_of(out / "items.jsonl")]

    def expected(self, results: Sequence[Result]) -> dict[int, bytes]:
        """See ``read_back``."""
        return {each.request.row: str(each.items[0].fields["width"]).encode() for each in results if each.items}


async def test_a_line_says_what_is_known_of_an_item(tmp_path: Path) -> None:
    """The columns of the list, ours, and the item's fields; each item on a line of its own; no password."""
    outcomes = await _write(
        tmp_path,
        _result(7, Item(b"x", "jpg", {"width": 3, "title": "Grüße\n图"}), caption="c", license="cc0"),
        _result(8, class_="http.404"),
        _result(9, Item(b"", "json", {"price": 1.5}), Item(b"", "json", {"price": 2.5})),
    )
    lines = _lines_of(tmp_path / "items.jsonl")
    assert [line["key"] for line in lines] == ["000000007", "000000009", "000000009_1"]
    assert [line.get("price") for line in lines] == [None, 1.5, 2.5]
    first = lines[0]
    assert list(first)[:4] == ["license", "url", "caption", "key"]
    assert (first["title"], first["width"], first["class"], first["status"]) == ("Grüße\n图", 3, "ok", "success")
    assert "secret" not in str(first)
    assert [(outcome.path, outcome.shard) for outcome in outcomes] == [
        ("items.jsonl", None),
        (None, None),
        ("items.jsonl", None),
    ]


async def test_the_name_is_final_only_when_every_row_has_ended(tmp_path: Path) -> None:
    """Whoever finds items.jsonl has all of it; until then it is called items.jsonl.part."""
    async with JsonlSink(tmp_path, {}) as sink:
        await sink.write(sample_results(4))
        await sink.flush()
        await sink.publish()
        assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl.part"]
        await sink.finish()
        assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl.part"]
        await sink.publish()
        assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


async def test_more_rows_take_the_final_name_away_again(tmp_path: Path) -> None:
    """Rows that are added to a finished file make it an unfinished one, before the first of them is in it."""
    ledger = MemoryLedger()
    results = sample_results(4)
    async with JsonlSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(results[:2]), await sink.finish())
        await sink.publish()
    async with JsonlSink(tmp_path, ledger.state) as sink:
        await sink.write([_result(3, class_="http.404")])  # adds no line
        await sink.flush()
        assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]
        await sink.write(results[2:3])
        assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl.part"]
        await sink.finish()
        await sink.publish()
    assert [line["key"] for line in _lines_of(tmp_path / "items.jsonl")] == ["000000000", "000000001", "000000002"]


async def test_the_old_name_is_gone_for_good_before_the_ledger_says_that_it_is(tmp_path: Path) -> None:
    """A power cut after a commit must find the file under the name that the committed state says."""
    ledger = MemoryLedger()
    results = sample_results(3)
    async with JsonlSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(results[:2]), await sink.finish())
        await sink.publish()
    disk = RecordingDisk()
    async with JsonlSink(tmp_path, ledger.state, disk=disk) as sink:
        entered = len(disk.steps)
        await sink.write(results[2:])
        await sink.flush()
    assert disk.steps[entered:] == [
        ("rename", tmp_path / "items.jsonl.part"),
        ("open", tmp_path / "items.jsonl.part"),
        ("write", tmp_path / "items.jsonl.part"),
        ("fsync", tmp_path / "items.jsonl.part"),
        ("fsync", tmp_path),
        ("close", tmp_path),
    ]


async def test_rows_without_items_make_no_file(tmp_path: Path) -> None:
    """Where every row failed there is no record, and no empty file that looks like a result."""
    await _write(tmp_path, _result(0, class_="http.404"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_not_ours_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    """Anything under the final name stops the run before its first row, and is left as it is."""
    target = tmp_path / "items.jsonl"
    match kind:
        case "file":
            target.write_bytes(b"theirs")
        case "folder":
            target.mkdir()
        case "link":
            target.symlink_to(tmp_path / "nowhere")
    inode = target.lstat().st_ino
    with pytest.raises(SinkFailed, match="choose another output folder"):
        async with JsonlSink(tmp_path, {}):
            pass
    assert target.lstat().st_ino == inode


async def test_a_name_that_is_taken_meanwhile_stops_the_run(tmp_path: Path) -> None:
    """What appears under the final name is not replaced; removed, the next run completes."""
    ledger = MemoryLedger()
    async with JsonlSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(sample_results(2)), await sink.finish())
        (tmp_path / "items.jsonl").write_bytes(b"theirs")
        with pytest.raises(SinkFailed, match="is there already"):
            await sink.publish()
    (tmp_path / "items.jsonl").unlink()
    async with JsonlSink(tmp_path, ledger.state):
        assert len(_lines_of(tmp_path / "items.jsonl")) == 2


@pytest.mark.parametrize("content", [None, b"", b"x" * 100_000], ids=["gone", "shorter", "longer"])
async def test_a_file_that_someone_changed_is_not_added_to(tmp_path: Path, content: bytes | None) -> None:
    """A finished file that is not as long as it was committed is reported, and not touched."""
    ledger = MemoryLedger()
    async with JsonlSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(sample_results(2)), await sink.finish())
        await sink.publish()
    final = tmp_path / "items.jsonl"
    final.unlink() if content is None else final.write_bytes(content)
    async with JsonlSink(tmp_path, ledger.state, disk=QuickDisk()) as sink:
        with pytest.raises(SinkFailed, match=r"items\.jsonl"):
            await sink.write(sample_results(3)[2:])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if content is None else [content])


async def test_small_writes_are_collected(tmp_path: Path) -> None:
    """Ten thousand lines, one by one, reach the disk in a handful of writes."""
    disk = RecordingDisk()
    async with JsonlSink(tmp_path, {}, disk=disk) as sink:
        for row in range(10_000):
            await sink.write([_result(row, Item(b"", "json"))])
        await sink.flush()
    size = (tmp_path / "items.jsonl.part").stat().st_size
    assert [name for name, _ in disk.steps].count("write") == size // WRITE_SIZE + 1


async def test_a_place_in_it_has_no_bytes_to_read_back(tmp_path: Path) -> None:
    """The contact sheet asks for pictures where Outcomes say they are; a file of records is none."""
    (outcome,) = await _write(tmp_path, _result(0, Item(b"x", "jpg")))
    assert outcome.path
    assert read_items(tmp_path, [(outcome.path, outcome.shard)]) == [None]


def test_the_factory_is_found_by_name_and_can_be_pickled() -> None:
    """The table gives the class; what it makes travels to other processes as settings alone."""
    assert sink_named("jsonl") is JsonlOutput
    assert pickle.loads(pickle.dumps(JsonlOutput())) == JsonlOutput()
