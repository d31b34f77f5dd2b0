"""The webdataset sink: what the usual readers find in it, and the contract of every sink."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset

from scraper.errors import SinkFailed, UsageError
from scraper.protocols import Sink, SinkState
from scraper.records import Held, Item, Outcome, Request, Result
from scraper.sinks import sink_named
from scraper.sinks.disk import Disk
from scraper.sinks.readback import read_items
from scraper.sinks.webdataset import WebdatasetOutput, WebdatasetSink
from scraper.testing.disk import DiskSinkContract, FullDisk
from scraper.testing.sink import MemoryLedger, sample_results


def _members_of(shard: Path) -> list[tuple[str, bytes]]:
    """Every member, read strictly: a bad header, a bad checksum or a missing end raises."""
    found = []
    with tarfile.open(shard, "r:", errorlevel=2) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            assert len(data) == member.size
            found.append((member.name, data))
        end = archive.offset
    content = shard.read_bytes()
    assert len(content) % tarfile.RECORDSIZE == 0
    assert not any(content[end:])
    assert len(content) - end >= tarfile.BLOCKSIZE
    return found


def _rows_of(table: Path) -> list[dict[str, object]]:
    """All of a small table, without the threads that pyarrow would start for it."""
    with pq.ParquetFile(table) as file:
        found: list[dict[str, object]] = file.read(use_threads=False).to_pylist()
    return found


class TestWebdatasetContract(DiskSinkContract):
    rows_per_shard = 5

    def make_on(self, disk: Disk, out: Path, state: SinkState) -> Sink:
        """See DiskSinkContract."""
        return WebdatasetSink(out, state, rows_per_shard=self.rows_per_shard, disk=disk)

    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """See SinkContract."""
        return [
            (int(name.partition(".")[0]), data)
            for shard in sorted(out.glob("*.tar"))
            for name, data in _members_of(shard)
            if name.endswith(".jpg")
        ]

    def check_complete(self, out: Path, outcomes: Sequence[Outcome]) -> None:
        """Shards have no gaps, and table, statistics and ledger agree."""
        shards = sorted(path.stem for path in out.glob("*.tar"))
        assert shards == [f"{number:05d}" for number in range(len(shards))]
        table = [row for shard in shards for row in _rows_of(out / f"{shard}.parquet")]
        assert sorted(row["key"] for row in table) == [outcome.key for outcome in outcomes]
        stats = [json.loads((out / f"{shard}_stats.json").read_bytes()) for shard in shards]
        assert sum(one["count"] for one in stats) == len(outcomes)
        assert sum(one["successes"] for one in stats) == sum(outcome.class_ == "ok" for outcome in outcomes)
        for outcome in outcomes:
            if outcome.path:
                (data,) = read_items(out, [(outcome.path, outcome.shard)])
                assert outcome.shard
                assert (data or b"").startswith(f"<{outcome.row}>".encode())


class TestOneRowPerShardContract(TestWebdatasetContract):
    rows = 3
    rows_per_shard = 1


class TestShardsLargerThanTheRunContract(TestWebdatasetContract):
    rows_per_shard = 1_000


def _result(row: int, *items: Item, class_: str = "ok", caption: str | None = None, **columns: object) -> Result:
    request = Request(row, f"http://origin.test/{row}", caption=caption, columns=columns)
    return Result(request, Outcome(row, request.url, class_), items)


async def _write(out: Path, results: Sequence[Result], rows_per_shard: int = 10_000) -> list[Outcome]:
    async with WebdatasetOutput(rows_per_shard)(out, {}) as sink:
        outcomes = await sink.write(results)
        await sink.finish()
        await sink.publish()
    return outcomes


# The reader leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_the_webdataset_reader_takes_every_shard(tmp_path: Path) -> None:
    """100 rows in shards of 7: each sample comes out once, with its picture, caption and metadata."""
    results = sample_results(100)
    outcomes = await _write(tmp_path, results, rows_per_shard=7)
    shards = sorted(tmp_path.glob("*.tar"))
    assert len(shards) == 15
    samples = [sample for shard in shards for sample in webdataset.WebDataset(str(shard), shardshuffle=False)]
    written = [given for given in results if given.items]
    assert [sample["__key__"] for sample in samples] == [given.outcome.key for given in written]
    for sample, given in zip(samples, written, strict=True):
        assert sample["jpg"] == given.items[0].data
        assert sample["txt"].decode() == given.request.caption
        assert json.loads(sample["json"])["url"] == given.request.url
    assert {(o.path, o.shard) for o in outcomes if o.path} >= {("000000000.jpg", "00000.tar")}
    assert outcomes[99].shard == "00014.tar"


async def test_a_shard_without_samples_is_still_an_archive(tmp_path: Path) -> None:
    """Seven failures make an empty tar and a table of seven rows, so that numbers have no gaps."""
    await _write(tmp_path, [_result(row, class_="http.404") for row in range(7)], rows_per_shard=7)
    assert _members_of(tmp_path / "00000.tar") == []
    assert pq.read_table(tmp_path / "00000.parquet").num_rows == 7


async def test_a_samples_members_stand_together(tmp_path: Path) -> None:
    """Data, caption, metadata: the order in which webdataset groups a key; further items are samples too."""
    await _write(
        tmp_path,
        [
            _result(3, Item(b"a", "jpg", {"width": 1}), Item(b"b", "png", {"width": 2}), caption="c"),
            _result(1, Item(b"{}", "json")),
        ],
    )
    members = _members_of(tmp_path / "00000.tar")
    assert [name for name, _ in members] == [
        "000000003.jpg",
        "000000003.txt",
        "000000003.json",
        "000000003_1.png",
        "000000003_1.txt",
        "000000003_1.json",
        "000000001.data.json",
        "000000001.json",
    ]
    assert json.loads(dict(members)["000000003_1.json"])["width"] == 2
    assert dict(members)["000000003.json"].startswith(b'{\n    "url": ')


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_parts_of_a_sample_share_its_key(tmp_path: Path) -> None:
    """An extension of two parts is a further picture of the sample; two of one name do not hide each other."""
    further = [Item(b"b", "1024.JPG"), Item(b"c", "1024.jpg"), Item(b"d", "data.txt"), Item(b"e", ".jpg")]
    await _write(tmp_path, [_result(3, Item(b"a", "jpg"), *further), _result(4, Item(b"f", "jpg"))])
    names = [name for name, _ in _members_of(tmp_path / "00000.tar")]
    assert names[:3] == ["000000003.jpg", "000000003.json", "000000003.1024.jpg"]
    assert [name for name in names if not name.endswith("json")][2:] == [
        "000000003_2.jpg", "000000003_3.data.txt", "000000003_4.jpg", "000000004.jpg",
    ]  # fmt: skip
    sample = next(iter(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)))
    assert (sample["jpg"], sample["1024.jpg"]) == (b"a", b"b")


async def test_the_table_has_img2datasets_columns_and_types(tmp_path: Path) -> None:
    """Every row of the shard, failures too; columns of any content, with the same schema in each shard."""
    columns: list[dict[str, object]] = [
        {"n": 1, "score": None, "tags": ["a", "ä"], "meta": {"k": 1}, "empty": None},
        {"n": None, "score": 0.5, "tags": None, "meta": None, "empty": None},
    ]
    fields = {"width": 4, "height": 3, "original_width": 40, "original_height": 30, "exif": '{"a": 1}'}
    await _write(
        tmp_path,
        [
            _result(0, Item(b"x", "jpg", fields), caption="Grüße 图\ud800", **columns[0]),
            _result(1, class_="http.404", **columns[1]),
            _result(2, class_="filtered.size", caption="only", **columns[1]),
            _result(3, class_="image.decode", **columns[1]),
        ],
        rows_per_shard=2,
    )
    first, second = (pq.read_table(tmp_path / f"0000{number}.parquet") for number in (0, 1))
    assert [(field.name, str(field.type)) for field in second.schema] == [
        ("n", "int64"),
        ("score", "double"),
        ("tags", "string"),
        ("meta", "string"),
        ("empty", "string"),
        ("url", "string"),
        ("caption", "string"),
        ("key", "string"),
        ("status", "string"),
        ("error_message", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("original_width", "int32"),
        ("original_height", "int32"),
        ("exif", "string"),
        ("sha256", "string"),
        ("class", "string"),
    ]
    assert first.schema == second.schema
    row = first.to_pylist()[0]
    assert (row["n"], row["tags"], row["meta"], row["empty"]) == (1, '["a","ä"]', '{"k":1}', None)
    assert (row["caption"], row["width"], row["error_message"]) == ("Grüße 图?", 4, None)
    assert [row["status"] for row in (*first.to_pylist(), *second.to_pylist())] == [
        "success",
        "failed_to_download",
        "skipped",
        "failed_to_resize",
    ]


async def test_the_statistics_add_up(tmp_path: Path) -> None:
    """Count is the sum of the four words, and status_dict says why."""
    classes = ["http.404", "http.404", "dns.not_found", "image.decode", "duplicate.url"]
    given = [_result(0, Item(b"x", "jpg")), *(_result(row, class_=c) for row, c in enumerate(classes, 1))]
    await _write(tmp_path, given)
    stats = json.loads((tmp_path / "00000_stats.json").read_bytes())
    assert stats["start_time"] <= stats["end_time"]
    assert 0 <= stats["duration"] <= stats["end_time"] - stats["start_time"] + 0.01
    assert {name: stats[name] for name in stats if "time" not in name and name != "duration"} == {
        "count": 6,
        "successes": 1,
        "failed_to_download": 3,
        "failed_to_resize": 1,
        "skipped": 1,
        "status_dict": {
            "http.404": 2,
            "success": 1,
            "dns.not_found": 1,
            "image.decode": 1,
            "duplicate.url": 1,
        },
    }


async def test_start_and_duration_of_a_shard_survive_a_stop(tmp_path: Path) -> None:
    """A resumed shard keeps its beginning, and its duration leaves out the time in between."""
    ledger = MemoryLedger()
    async with WebdatasetSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(sample_results(2)), await sink.flush())
    earlier = dict(ledger.state)
    earlier["start"], earlier["spent_s"] = 1_000.0, 500.0
    async with WebdatasetSink(tmp_path, earlier) as sink:
        await sink.finish()
        await sink.publish()
    stats = json.loads((tmp_path / "00000_stats.json").read_bytes())
    assert stats["start_time"] == 1_000.0
    assert 500 <= stats["duration"] < 600
    assert stats["end_time"] > 1_000_000


async def test_a_shard_takes_the_time_of_its_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard begins where the one before it was full, or the run began: count / duration is a rate."""
    now = 1_000.0

    class Clock:
        time = monotonic = staticmethod(lambda: now)

    monkeypatch.setattr("scraper.sinks.webdataset.time", Clock)
    ledger = MemoryLedger()
    first, second = sample_results(2)
    async with WebdatasetSink(tmp_path, {}, rows_per_shard=1) as sink:
        now = 1_010.0
        ledger.commit(await sink.write([first]), await sink.flush())
        now = 1_030.0
        ledger.commit(await sink.write([second]), await sink.flush())
        await sink.publish()
    stats = [json.loads((tmp_path / f"0000{n}_stats.json").read_bytes()) for n in (0, 1)]
    assert [(one["start_time"], one["duration"]) for one in stats] == [(1_000.0, 10.0), (1_010.0, 20.0)]


async def test_without_pyarrow_the_table_is_jsonl(tmp_path: Path) -> None:
    """The same rows, a line each, where the extra is not installed."""
    code = f"""
import asyncio, sys
sys.modules["pyarrow"] = None  # the import fails
from pathlib import Path
from scraper.sinks.webdataset import WebdatasetOutput
from scraper.testing.sink import sample_results
async def main():
    async with WebdatasetOutput(7)(Path({str(tmp_path)!r}), {{}}) as sink:
        await sink.write(sample_results(7))
        await sink.finish()
        await sink.publish()
asyncio.run(main())
"""
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-W", "error", "-c", code], check=False)
    assert done.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "00000.jsonl").read_bytes().splitlines()]
    assert [row["key"] for row in lines] == [f"{row:09d}" for row in range(7)]
    assert not (tmp_path / "00000.parquet").exists()


async def test_a_shard_that_is_not_ours_is_never_overwritten(tmp_path: Path) -> None:
    """A tar under the next number stops the run before the first row."""
    (tmp_path / "00000.tar").write_bytes(b"theirs")
    with pytest.raises(SinkFailed, match="choose another output folder"):
        async with WebdatasetSink(tmp_path, {}):
            pass
    assert (tmp_path / "00000.tar").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["00000.tar.part", ".scraper/00000.rows.jsonl.part"])
async def test_a_part_that_someone_cut_is_reported(tmp_path: Path, name: str) -> None:
    """A file shorter than what was committed is not stretched: the user is told which one it is."""
    ledger = MemoryLedger()
    async with WebdatasetSink(tmp_path, {}) as sink:
        ledger.commit(await sink.write(sample_results(2)), await sink.flush())
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SinkFailed, match="something else changed it"):
        async with WebdatasetSink(tmp_path, ledger.state):
            pass


async def test_a_part_is_never_written_through_a_link(tmp_path: Path) -> None:
    """A symbolic link under the name of a part stops the run and is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    async with WebdatasetSink(tmp_path / "out", {}) as sink:
        (tmp_path / "out/00000.tar.part").symlink_to(elsewhere)
        with pytest.raises(SinkFailed, match="symbolic link"):
            await sink.write(sample_results(2))
    assert elsewhere.read_bytes() == b"mine"


async def test_small_writes_are_collected(tmp_path: Path) -> None:
    """A thousand small samples, one by one, reach the disk in a handful of writes."""
    disk = FullDisk(at=1_000_000)  # here for its count
    async with WebdatasetSink(tmp_path, {}, disk=disk) as sink:
        for row in range(1_000):
            await sink.write([_result(row, Item(b"x" * 5_000, "jpg"))])
        await sink.flush()
    assert 2 <= sum(name == "write" for name, _ in disk.steps) <= 8


async def test_one_batch_may_fill_several_shards(tmp_path: Path) -> None:
    """Shards that fill before a flush wait, sealed, and are all published after it."""
    async with WebdatasetSink(tmp_path, {}, rows_per_shard=7) as sink:
        await sink.write(sample_results(100))
        assert len(list(tmp_path.glob("*.tar.part"))) == 15
        await sink.flush()
        assert list(tmp_path.glob("*.tar")) == []
        await sink.publish()
        assert [path.name for path in tmp_path.glob("*.tar.part")] == ["00014.tar.part"]
        assert len(list(tmp_path.glob("*.tar"))) == 14


def test_the_factory_is_found_by_name_and_can_be_pickled() -> None:
    """The table gives the class; what it makes travels to other processes as settings alone."""
    assert sink_named("webdataset") is WebdatasetOutput
    assert pickle.loads(pickle.dumps(WebdatasetOutput(5))) == WebdatasetOutput(5)


def test_a_shard_of_no_rows_is_refused() -> None:
    """A run with it would never end a shard."""
    with pytest.raises(UsageError, match="at least 1 row"):
        WebdatasetOutput(rows_per_shard=0)


async def test_a_row_that_fails_again_joins_no_other_shard(tmp_path: Path) -> None:
    """A pass over rows that stay dead makes no archive without samples, and lists no row twice."""
    request = Request(0, "http://h/0")
    failed = Result(request, Outcome(0, "http://h/0", "http.404"))
    again = Result(replace(request, held=Held("http://h/0")), failed.outcome)
    state: SinkState = {}
    for result in (failed, again):
        async with WebdatasetSink(tmp_path, state) as sink:
            assert await sink.write([result]) == [failed.outcome]
            state = await sink.finish()
            await sink.publish()
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar"]
    assert pq.read_table(tmp_path / "00000.parquet").num_rows == 1
