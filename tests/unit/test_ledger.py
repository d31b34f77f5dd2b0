"""The ledger: what has ended, once, durably, for one job."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scraper.errors import SinkFailed, State, UsageError
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.ledger_reader import NoRun
from scraper.ledger_schema import translated
from scraper.records import Outcome, Timings

META = RunMeta(
    pipeline="images",
    settings={"image_size": 256, "formats": ("jpg", "png")},
    inputs=["list.txt"],
    fingerprint="f1",
    options={"concurrency": 64},
    version="1.0",
    started_at=1_000.0,
)

FULL = Outcome(
    row=3,
    url="https://example.org/a.jpg",
    class_="ok",
    status=200,
    attempts=2,
    bytes=36_000,
    sha256="ab" * 32,
    path="000000003.jpg",
    shard="00000.tar",
    timings=Timings(1.5, 2.25, 3.125, 4.0, 20.5),
    final_url="https://cdn.example.org/a.jpg",
    message="",
    line=4,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of an output folder is."""
    (tmp_path / ".scraper").mkdir()
    return tmp_path / ".scraper" / "ledger.sqlite"


def ok(row: int) -> Outcome:
    """A row that ended well."""
    return Outcome(row, f"https://example.org/{row}", "ok")


async def fill(path: Path, *outcomes: Outcome, meta: RunMeta = META) -> None:
    """A whole run with one commit."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(meta)
        await ledger.commit(outcomes, {"shard": 0})
        await ledger.end(0)


async def test_an_outcome_comes_back_as_it_was(path: Path) -> None:
    """Every field of an Outcome survives the ledger, the empty ones too."""
    bare = Outcome(7, "nonsense", "url.invalid")
    await fill(path, FULL, bare)
    with LedgerReader(path) as reader:
        found = list(reader.rows())
    assert [FULL, bare] == [one.outcome for one in found]
    assert all(one.at > 1e9 for one in found)


async def test_finished_tells_rows_of_a_range(path: Path) -> None:
    """``finished`` gives the rows of the range that have an outcome: none, some, or all."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        assert not await ledger.finished(0, 100)
        await ledger.commit([ok(row) for row in (*range(10), 12, 15)], {})
        assert set(range(10)) == set(await ledger.finished(0, 10))
        assert {8, 9, 12, 15} == set(await ledger.finished(8, 20))
        assert not await ledger.finished(13, 15)
        assert not await ledger.finished(16, 1_000)


async def test_a_later_run_knows_what_an_earlier_one_finished(path: Path) -> None:
    """Rows, counts and the sink's state are there for the next run, and each run has its line."""
    await fill(path, ok(0), ok(1), Outcome(2, "https://example.org/2", "http.404", status=404))
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        assert ledger.sink_state == {"shard": 0}
        assert {0, 1, 2} == set(await ledger.finished(0, 10))
        assert Counter({"ok": 2, "http.404": 1}) == await ledger.counts()
        await ledger.commit([ok(3)], {"shard": 1, "offset": 512})
        assert ledger.sink_state == {"shard": 1, "offset": 512}
    with LedgerReader(path) as reader:
        first, second = reader.runs()
        assert [commit.run for commit in reader.commits()] == [0, 1]
    assert (0, os.getpid(), "1.0") == (first.exit, first.pid, first.version)
    assert (second.exit, second.ended) == (None, None)


async def test_a_second_outcome_keeps_the_first_as_an_earlier_end(path: Path) -> None:
    """Asking a row again replaces its outcome, and how it ended before stays to be seen."""
    await fill(path, Outcome(5, "https://example.org/5", "timeout.total", message="too slow"), ok(6))
    await fill(path, ok(5))
    with LedgerReader(path) as reader:
        assert Counter({"ok": 2}) == reader.counts()
        ((class_, status, at, message),) = reader.earlier(5)
        assert reader.earlier(6) == []
    assert (class_, status, message) == ("timeout.total", 0, "too slow")
    assert at > 1e9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"image_size": 512, "formats": ["jpg", "png"]}}, "image_size was 256 and is now 512"),
        ({"settings": {"image_size": 256}}, 'formats was ["jpg", "png"] and is now not set'),
        ({"pipeline": "files"}, "made by 'images', not by 'files'"),
        ({"fingerprint": "f2"}, "the list, list.txt, has changed since"),
        ({"fingerprint": "f2", "inputs": ["b.txt"]}, "the list was list.txt and is now b.txt"),
    ],
)
async def test_another_job_is_refused(path: Path, change: dict[str, object], words: str) -> None:
    """Going on with another pipeline, list or settings is refused, saying what differs and what to do."""
    await fill(path, ok(0))
    async with Ledger.open(path) as ledger:
        with pytest.raises(UsageError) as refused:
            await ledger.begin(changed(change))
    assert words in str(refused.value)
    assert "--overwrite" in str(refused.value)
    with LedgerReader(path) as reader:
        assert len(reader.runs()) == 1


def changed(change: dict[str, object]) -> RunMeta:
    """The job with something else about it."""
    return RunMeta(**{**{name: getattr(META, name) for name in RunMeta.__slots__}, **change})  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": ""},
        {"inputs": ["moved/list.txt"]},
        {"options": {"concurrency": 8}, "version": "1.1"},
        {"settings": {"formats": ["jpg", "png"], "image_size": 256}},
    ],
)
async def test_the_same_job_goes_on(path: Path, change: dict[str, object]) -> None:
    """An unknown fingerprint, a moved list, other options or another order of settings do not hinder a resume."""
    await fill(path, ok(0))
    await fill(path, ok(1), meta=changed(change))
    with LedgerReader(path) as reader:
        meta = reader.meta()
    assert meta is not None
    assert meta.fingerprint == "f1"
    assert list(changed(change).inputs) == list(meta.inputs)


async def test_a_job_that_did_nothing_binds_nobody(path: Path) -> None:
    """Before the first outcome there is nothing to mix, so other settings are welcome."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
    await fill(path, ok(0), meta=changed({"pipeline": "files"}))


async def test_passwords_are_not_written(path: Path) -> None:
    """User and password in a URL never reach the disk, in whichever field they come."""
    secret = "https://user:hunter2@example.org/a"
    await fill(
        path, Outcome(0, secret, "redirect.blocked", attempts=1, final_url=secret, message=f"went to {secret}")
    )
    with LedgerReader(path) as reader:
        (one,) = reader.rows()
        (host,) = reader.hosts(10)[1]
    masked = "https://***@example.org/a"
    assert (masked, masked, f"went to {masked}") == (one.outcome.url, one.outcome.final_url, one.outcome.message)
    assert host.host == "example.org"
    assert b"hunter2" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_text_that_is_not_unicode_is_kept_as_escapes(path: Path) -> None:
    """A lone surrogate, a NUL or a control character in a URL costs no row of its batch."""
    await fill(path, ok(0), Outcome(1, "http://x/\udcff", "url.invalid"), Outcome(2, "a\0b\x1b", "url.invalid"))
    with LedgerReader(path) as reader:
        assert [one.outcome.url for one in reader.rows(class_prefix="url")] == ["http://x/\\udcff", "a\0b\x1b"]
        assert sum(reader.counts().values()) == 3


async def test_rows_can_be_chosen(path: Path) -> None:
    """``rows`` gives one state, one class, or a family of classes, in the list's order."""
    classes = ["http.500", "ok", "http.404", "duplicate.url", "ok.not_modified", "timeout.total"]
    await fill(path, *(Outcome(row, f"http://h/{row}", name) for row, name in reversed([*enumerate(classes)])))
    with LedgerReader(path) as reader:

        def chosen(state: State | None = None, prefix: str | None = None) -> list[int]:
            return [one.outcome.row for one in reader.rows(state, prefix)]

        assert chosen() == [0, 1, 2, 3, 4, 5]
        assert chosen(State.FAILED) == [0, 2, 5]
        assert chosen(State.OK) == [1, 4]
        assert chosen(prefix="http") == [0, 2]
        assert chosen(State.FAILED, "http.404") == [2]
        assert chosen(prefix="htt") == []
        assert chosen(State.OK, "http") == []


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 333])
async def test_any_batch_size_is_written_whole(path: Path, size: int) -> None:
    """However many outcomes a batch has, each is written once."""
    await fill(path, *map(ok, range(size)))
    with LedgerReader(path) as reader:
        assert list(range(size)) == [one.outcome.row for one in reader.rows()]


async def test_a_refused_commit_leaves_nothing(path: Path) -> None:
    """When the disk refuses, neither outcomes nor sink state are recorded, and the error is SinkFailed."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        await ledger.commit([ok(0)], {"offset": 1})
        db = ledger._db
        assert db is not None
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(SinkFailed, match="is full"):
            await ledger.commit([ok(row) for row in range(1, 2_000)], {"offset": 2})
        assert ledger.sink_state == {"offset": 1}
        assert not await ledger.finished(1, 2_000)
        db.execute("PRAGMA max_page_count = 1000000")
        await ledger.commit([ok(1)], {"offset": 2})
    with LedgerReader(path) as reader:
        assert [one.outcome.row for one in reader.rows()] == [0, 1]


@pytest.mark.parametrize("content", [b"this is no database at all" * 200, b"\0" * 8192])
async def test_a_damaged_ledger_says_what_to_do(path: Path, content: bytes) -> None:
    """A file that is no ledger is a UsageError with the ways out, for writer and reader alike."""
    path.write_bytes(content)
    with pytest.raises(UsageError, match="--overwrite"):
        async with Ledger.open(path):
            pass
    with pytest.raises(UsageError, match="--overwrite"):
        LedgerReader(path)
    assert content == path.read_bytes()


async def test_a_ledger_that_is_being_made_holds_no_run_yet(path: Path) -> None:
    """Whoever looks between the file's first moment and its tables' is told so, and not that it is damaged."""
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(NoRun, match="There is no run in"):
        LedgerReader(path)


async def test_damage_found_while_running_says_what_to_do(path: Path) -> None:
    """Pages overwritten under way are a UsageError too, not a traceback."""
    await fill(path, *map(ok, range(3_000)))
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"), LedgerReader(path) as reader:
        list(reader.rows())


async def test_a_newer_ledger_is_refused(path: Path) -> None:
    """What a newer version wrote is left alone."""
    await fill(path, ok(0))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="newer version"):
        async with Ledger.open(path):
            pass
    with pytest.raises(UsageError, match="newer version"):
        LedgerReader(path)


async def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """A ledger that cannot be made is SinkFailed; one that is not there to read is a UsageError."""
    with pytest.raises(SinkFailed, match="cannot be read or written"):
        async with Ledger.open(tmp_path / "missing" / "ledger.sqlite"):
            pass
    with pytest.raises(UsageError, match="There is no run"):
        LedgerReader(tmp_path / ".scraper" / "ledger.sqlite")


async def test_it_can_be_read_while_it_is_written(path: Path) -> None:
    """A reader sees each commit at once, and never half of one."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        with LedgerReader(path) as reader:
            for n in range(1, 6):
                await ledger.commit([ok(row) for row in range(n * 100, n * 100 + 100)], {})
                assert Counter({"ok": n * 100}) == reader.counts()


async def test_a_cancelled_commit_is_whole(path: Path) -> None:
    """Cancelling the one who waits for a commit does not tear it: it is in the file when the ledger is closed."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        committing = asyncio.ensure_future(ledger.commit([ok(row) for row in range(500)], {"offset": 9}))
        await asyncio.sleep(0)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        # Either it had not begun, or it is complete.
        assert (await ledger.counts())["ok"] in (0, 500)
        assert ledger.sink_state == {"offset": 9} or not await ledger.counts()


_KILLED = """
import asyncio, sys
from pathlib import Path
from scraper.ledger import Ledger, RunMeta
from scraper.records import Outcome

async def main():
    ledger = Ledger.open(Path(sys.argv[1]))
    await ledger.__aenter__()
    await ledger.begin(RunMeta("images"))
    await ledger.commit([Outcome(row, "http://h/", "ok") for row in range(100)], {"offset": 7})
    print("committed", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def killed_after_a_commit(path: Path) -> None:
    """Have a process commit and then die of SIGKILL, with its ledger open."""
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"committed\n"
        process.send_signal(signal.SIGKILL)


async def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """After SIGKILL the committed rows are read, by a reader first and then by the next run."""
    killed_after_a_commit(path)
    with LedgerReader(path) as reader:
        assert Counter({"ok": 100}) == reader.counts()
        assert reader.runs()[0].ended is None
    async with Ledger.open(path) as ledger:
        await ledger.begin(RunMeta("images"))
        assert ledger.sink_state == {"offset": 7}
        assert range(100) == await ledger.finished(0, 100)


async def test_sums_for_the_report(path: Path) -> None:
    """Hosts, totals, durations, sizes and samples say what the rows say."""
    outcomes = [
        Outcome(
            n,
            f"http://h{n % 2}/{n}",
            "ok",
            attempts=1,
            bytes=1_000 * n,
            timings=Timings(total_ms=10.0 * n, dns_ms=1.0),
        )
        for n in range(1, 11)
    ]
    await fill(path, *outcomes, Outcome(11, "http://h1/", "http.500"), Outcome(12, "rubbish", "url.invalid"))
    with LedgerReader(path) as reader:
        total, hosts = reader.hosts(1)
        assert (total, [tuple(host) for host in hosts]) == (2, [("h1", 6, 5, 1, 50.0, 25_000)])
        totals = reader.totals()
        assert (totals.bytes, totals.asked, totals.dns_ms, totals.total_ms) == (55_000, 10, 10.0, 550.0)
        assert [(10 * n, 1) for n in range(1, 11)] == reader.durations()
        assert list(reader.sizes(grain=1_000))[:2] == [(1_000, 1), (2_000, 1)]
        assert [one.outcome.row for one in reader.sample("ok", 3)] == [1, 4, 7]
        assert list(range(1, 11)) == [one.outcome.row for one in reader.sample("ok", 60)]
        assert reader.sample("http.404", 3) == []
        assert [one.outcome.row for one in reader.first("ok", 2)] == [1, 2]
        (commit,) = reader.commits()
        assert (commit.run, commit.ok, commit.skipped, commit.failed, commit.bytes) == (0, 10, 0, 2, 55_000)


async def test_it_shows_itself(path: Path) -> None:
    """The repr says which file, which run, and how far."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        await ledger.commit([ok(41)], {})
        assert f"<Ledger {path}: open, run 1, last row 41>" == repr(ledger)
    assert "closed" in repr(ledger)


@pytest.mark.parametrize("fingerprint", ["", "f1"])
async def test_a_list_without_a_fingerprint_is_compared_row_by_row(path: Path, fingerprint: str) -> None:
    """Rows from a pipe or a program must be the URLs they were; a fingerprint spares the look."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(changed({"fingerprint": fingerprint}))
        await ledger.commit([Outcome(0, "http://u:p@a.test/0", "ok"), Outcome(1, "http://a.test/1", "ok")], {})
    async with Ledger.open(path) as ledger:
        await ledger.begin(changed({"fingerprint": fingerprint}))
        await ledger.compare([(0, "http://u:other@a.test/0"), (1, "http://a.test/1"), (2, "http://a.test/2")])
        if fingerprint:
            await ledger.compare([(1, "http://b.test/1")])
        else:
            with pytest.raises(UsageError, match=r"row 1 was http://a\.test/1 and is now http://b\.test/1"):
                await ledger.compare([(1, "http://b.test/1")])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("SQLITE_FULL", "free the disk"),
        ("SQLITE_IOERR_FSYNC", "its quota is used up"),
        ("SQLITE_READONLY_DBMOVED", "give it rights"),
        ("SQLITE_CANTOPEN", "ulimit -n"),
        ("SQLITE_NOMEM", "put this right"),
    ],
)
def test_what_to_do_fits_what_went_wrong(path: Path, name: str, remedy: str) -> None:
    """Only for a disk that is full the advice is to free it."""
    error = sqlite3.OperationalError("no")
    error.sqlite_errorname = name
    pattern = rf"\(no\): .*{remedy}.*, then run the same command again\.$"
    with pytest.raises(SinkFailed, match=pattern) as said, translated(path):
        raise error
    assert ("free the disk" in str(said.value)) == (name == "SQLITE_FULL")


async def test_a_write_that_is_refused_is_no_full_disk(path: Path) -> None:
    """EFBIG, as EDQUOT and EIO, is an I/O error to SQLite: the sentence says what that may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            with pytest.raises(SinkFailed, match=r"disk I/O error.*quota"):
                await ledger.commit([FULL], {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
