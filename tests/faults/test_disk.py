"""Group D of docs/faults.md: what disks do, through the whole product.

Each sink is taken through every step of its own, refused and killed, in its contract (``scraper.testing.disk``);
here are whole runs: what the user is told, what the ledger says, what is left in the folder, how it goes on.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import files
from scraper import Outcome, Pipeline, RunConfig, SinkFailed, UsageError, arun, run
from scraper.config import CommitConfig, FetchConfig, PoolConfig, SpaceConfig
from scraper.engines import space
from scraper.ledger import Ledger, LedgerReader
from scraper.ledger_schema import connect
from scraper.origin.process import OriginProcess
from scraper.sinks.disk import Disk
from scraper.sinks.files import FilesSink
from scraper.sinks.jsonl import JsonlSink
from scraper.sinks.webdataset import WebdatasetSink
from scraper.testing.disk import REFUSALS, QuickDisk, RecordingDisk, Refusal, RefusingDisk, ShortDisk
from scraper.testing.server import LOOPBACK, ScriptedServer, reply

pytestmark = pytest.mark.slow  # all of them look at whole runs

FORMATS = ("files", "webdataset", "jsonl")

CONFIG = RunConfig(
    FetchConfig("test", allow_net=(LOOPBACK,)),
    pool=PoolConfig(workers=1),
    commit=CommitConfig(every_s=0.01, every_rows=4),  # many small commits: more steps to fail at
    space=SpaceConfig(min_free=0),  # the pause before a full disk is not what is tested
)


def server_of(bodies: Sequence[bytes]) -> ScriptedServer:
    """Serves ``/0``, ``/1``, …: each its own body."""
    return ScriptedServer({f"/{n}": [reply("200 OK", body)] for n, body in enumerate(bodies)})


BODIES = [f"<{n}>".encode() * 300 for n in range(12)]


def on(disk: Disk, output_format: str) -> Pipeline:
    """A pipeline that writes to that disk."""
    sinks = {"files": FilesSink, "webdataset": WebdatasetSink, "jsonl": JsonlSink}
    made = sinks[output_format]
    return replace(
        files.build(output_format=output_format), open_sink=lambda out, state: made(out, state, disk=disk)
    )


def outcomes(out: Path) -> dict[int, Outcome]:
    """What the ledger says, row by row."""
    with LedgerReader(out / ".scraper/ledger.sqlite") as ledger:
        return {each.outcome.row: each.outcome for each in ledger.rows()}


def classes(out: Path) -> Counter[str]:
    """Outcomes by class."""
    return Counter(each.class_ for each in outcomes(out).values())


def read(out: Path, output_format: str) -> dict[int, bytes]:
    """What stands under final names, read strictly. Of jsonl the digest: the bytes are not in it."""
    found: list[tuple[int, bytes]] = []
    if output_format == "files":
        found = [(int(path.stem), path.read_bytes()) for path in out.glob("[0-9]*/*")]
    elif output_format == "webdataset":
        for shard in out.glob("*.tar"):
            with tarfile.open(shard, "r:", errorlevel=2) as archive:
                for member in archive:
                    data = archive.extractfile(member)
                    assert data is not None
                    if not member.name.endswith(".json"):
                        found.append((int(member.name.partition(".")[0]), data.read()))
    elif (out / "items.jsonl").exists():
        lines = [json.loads(line) for line in (out / "items.jsonl").read_bytes().splitlines()]
        found = [(int(line["key"]), line["sha256"].encode()) for line in lines]
    assert len(found) == len(dict(found)), "a row stands there twice"
    return dict(found)


def check_nothing_torn(out: Path, output_format: str, bodies: Sequence[bytes]) -> None:
    """Whatever has a final name is one of the bodies, whole."""
    for row, data in read(out, output_format).items():
        assert data == bodies[row] if output_format != "jsonl" else len(data) == 64


def check_complete(out: Path, output_format: str, bodies: Sequence[bytes]) -> None:
    """Every row is ok and there, once, and nothing unfinished is left."""
    assert classes(out) == {"ok": len(bodies)}
    assert sorted(read(out, output_format)) == list(range(len(bodies)))
    check_nothing_torn(out, output_format, bodies)
    assert [*out.rglob("*.part"), *out.glob(".scraper/staged/*/*")] == []


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory, with those options; again, on the same folder, with others."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = False

    def mounts(options: str) -> Path:
        nonlocal mounted
        if mounted:
            options = f"remount,{options}"
        command = ["mount", "-t", "tmpfs", "-o", options, "scraper-test", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted = True
        return folder

    yield mounts
    if mounted:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


SCRAPER = [sys.executable, "-m", "scraper"]


def finished(command: Sequence[object], **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = [*map(str, command), "--allow-net", LOOPBACK, "--progress", "none", "--workers", "1"]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **how)


# --- D1: no space ---


@pytest.mark.parametrize("output_format", FORMATS)
async def test_d1_a_full_disk_ends_the_run_and_space_completes_it(
    mount: Callable[[str], Path], output_format: str
) -> None:
    """A file system that really is full: what was committed is kept, and with space the same run completes."""
    out = mount("size=1m") / "out"
    bodies = [os.urandom(40_000) for _ in range(40)]
    columns = {"note": "x" * 60_000 if output_format == "jsonl" else ""}  # its lines are to fill the disk
    async with server_of(bodies) as server:
        rows = [{"url": server.url(f"/{n}"), **columns} for n in range(len(bodies))]
        pipeline = files.build(output_format=output_format, number_sample_per_shard=8)
        config = replace(CONFIG, source=replace(CONFIG.source, save_additional_columns=("*",)))
        if output_format == "files":
            rows = [{"url": each["url"]} for each in rows]  # no sidecars: they are not what is counted
        with pytest.raises(SinkFailed, match=r"space left|is full") as caught:
            await arun(pipeline, rows, out=out, config=config)
        assert (caught.value.exit_code, str(out) in str(caught.value)) == (3, True)
        before = outcomes(out)
        assert len(before) < len(bodies)
        check_nothing_torn(out, output_format, bodies)
        asked = Counter(server.asked)
        mount("size=64m")
        report = await arun(pipeline, rows, out=out, config=config)
        again = server.asked - asked
    assert report.ok == len(bodies)
    assert not {f"/{row}" for row in before} & set(again)
    check_complete(out, output_format, bodies)


async def test_d1_a_fast_run_is_paused_before_the_disk_is_full_and_ends_once_there_is_room(
    mount: Callable[[str], Path],
    shared_origin: OriginProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As far as 80 MB/s go: what is under way at the pause still fits, and with room the same run completes."""
    folder = mount("size=80m")
    looks: list[int] = []
    real = space.room_at

    def room_at(watched: Path) -> space.Room:
        if any("waiting up to" in each.message for each in caplog.records):
            looks.append(real(watched).free)
            if len(looks) == 10:  # a second: what was under way has been written
                mount("size=300m")
        return real(watched)

    monkeypatch.setattr(space, "room_at", room_at)
    faults = "?garbage=500000&delay=50ms&tag="
    urls = [shared_origin.url(f"/img/thumb/{n}.jpg{faults}{n}") for n in range(200)]
    report = await arun(files.build(), urls, out=folder / "out", config=replace(CONFIG, space=SpaceConfig()))
    assert report.ok == 200
    assert min(looks) > 0
    _, went_on = (each.message for each in caplog.records if each.levelname == "WARNING")
    assert went_on == "There is space again: going on."
    assert len(list((folder / "out").glob("[0-9]*/*"))) == 200


@pytest.mark.parametrize(
    ("refusal", "output_format"),
    [*(("full", each) for each in FORMATS), ("quota", "files"), ("read-only", "webdataset")],
)
async def test_d1_refused_from_any_step_on_the_run_stops_and_resumes(
    tmp_path: Path, refusal: str, output_format: str
) -> None:
    """No space, no quota, no right to write, early or late in a run: one sentence, nothing torn, it resumes."""
    async with server_of(BODIES) as server:
        urls = [server.url(f"/{n}") for n in range(len(BODIES))]
        for at in (1, 5, 12, 10_000):
            out, disk = tmp_path / f"{at}", RefusingDisk(at, REFUSALS[refusal])
            failure = ""
            try:
                await arun(on(disk, output_format), urls, out=out, config=CONFIG)
            except SinkFailed as error:
                failure = str(error)
            assert (REFUSALS[refusal].says in failure, str(out) in failure) == (disk.refused, disk.refused)
            check_nothing_torn(out, output_format, BODIES)
            await arun(on(QuickDisk(), output_format), urls, out=out, config=CONFIG)
            check_complete(out, output_format, BODIES)
    assert not disk.refused


def test_d1_a_limit_of_file_sizes_is_exit_3_and_one_sentence(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """The command says in one line which file could not grow, and completes once it may."""
    (tmp_path / "urls.txt").write_text("\n".join(shared_origin.url(f"/img/thumb/{n}.jpg") for n in range(30)))
    command = [*SCRAPER, "files", tmp_path / "urls.txt", "-o", tmp_path / "out", "--output-format", "webdataset"]
    limit = 150_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    refused = finished(command, preexec_fn=limited)
    assert refused.returncode == 3, refused.stderr
    (said,) = refused.stderr.splitlines()
    assert "00000.tar.part: the file would be larger" in said
    assert "run the same command again" in said
    pipeline = files.build(output_format="webdataset")
    assert run(pipeline, inputs=tmp_path / "urls.txt", out=tmp_path / "out", allow_net=LOOPBACK).ok == 30
    assert len(read(tmp_path / "out", "webdataset")) == 30


@pytest.mark.parametrize("output_format", FORMATS)
async def test_d1_a_full_ledger_stops_the_run_and_undoes_what_it_does_not_hold(
    tmp_path: Path, output_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ledger itself finds no space, bytes it could not note are not kept either, and it stays sound."""

    def small(path: Path) -> sqlite3.Connection:
        database = connect(path)
        database.execute("PRAGMA max_page_count = 24")  # SQLite says "database or disk is full" beyond it
        return database

    paths = [f"/{n}?{'x' * 6_000}" for n in range(len(BODIES))]
    async with ScriptedServer(
        {path: [reply("200 OK", body)] for path, body in zip(paths, BODIES, strict=True)}
    ) as server:
        urls = [server.url(path) for path in paths]
        with monkeypatch.context() as patch:
            patch.setattr("scraper.ledger.connect", small)
            with pytest.raises(SinkFailed, match=r"ledger\.sqlite cannot be .* full.* free the disk"):
                await arun(on(QuickDisk(), output_format), urls, out=tmp_path / "out", config=CONFIG)
        assert len(outcomes(tmp_path / "out")) < len(BODIES)
        check_nothing_torn(tmp_path / "out", output_format, BODIES)
        await arun(on(QuickDisk(), output_format), urls, out=tmp_path / "out", config=CONFIG)
    check_complete(tmp_path / "out", output_format, BODIES)
    with sqlite3.connect(tmp_path / "out/.scraper/ledger.sqlite") as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- D2: no right to write ---


async def test_d2_a_read_only_file_system_fails_before_the_first_request(mount: Callable[[str], Path]) -> None:
    """The output folder is tried before the network is: nothing is asked, and the sentence says what to do."""
    folder = mount("ro,size=1m")
    async with server_of(BODIES) as server:
        with pytest.raises(UsageError, match=r"mounted.*Read-only file system.*-o"):
            await arun(files.build(), [server.url("/0")], out=folder / "out", config=CONFIG)
        assert server.connections == 0


async def test_d2_a_folder_that_becomes_read_only_fails_before_the_first_request(
    mount: Callable[[str], Path],
) -> None:
    """An output that was writable in an earlier run is tried again in each."""
    out = mount("size=8m") / "out"
    async with server_of(BODIES) as server:
        urls = [server.url(f"/{n}") for n in range(3)]
        await arun(files.build(), urls[:1], out=out, config=CONFIG)
        mount("ro")
        asked = server.connections
        with pytest.raises(SinkFailed, match=r"Read-only file system.*mount its disk for writing"):
            await arun(files.build(), urls[:1], out=out, config=CONFIG)
        assert server.connections == asked


def test_d2_a_folder_of_somebody_else_fails_before_the_first_request(tmp_path: Path) -> None:
    """Without the right to write there the command is exit 2 with one sentence, and asks nothing."""
    (tmp_path / "theirs").mkdir(mode=0o555)
    command = [*SCRAPER, "files", "-", "-o", str(tmp_path / "theirs/out")]
    if os.geteuid() == 0:  # who may do anything, unless that is taken away
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv here to change that")
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    with OriginProcess() as origin:
        refused = finished(command, input=origin.url("/img/thumb/1.jpg"))
        assert origin.stats()["total"] == 0
    assert refused.returncode == 2, refused.stderr
    assert "Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr


# --- D3: something is there already ---


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
async def test_d3_what_is_no_file_is_left_alone_and_its_row_rejected(tmp_path: Path, kind: str) -> None:
    """A folder, a link out of the output or a pipe under a row's name: sink.rejected for it alone."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    target = out / "00000/000000001.bin"
    elsewhere.write_bytes(b"mine")
    target.parent.mkdir(parents=True)
    (out / ".scraper").mkdir()
    match kind:
        case "folder":
            target.mkdir()
        case "link":
            target.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(target)
    before = target.lstat().st_ino
    async with server_of([b"\x00a", b"\x00b", b"\x00c"]) as server:
        await arun(files.build(), [server.url(f"/{n}") for n in range(3)], out=out, config=CONFIG)
    assert [each.class_ for _, each in sorted(outcomes(out).items())] == ["ok", "sink.rejected", "ok"]
    assert target.lstat().st_ino == before
    assert elsewhere.read_bytes() == b"mine"


async def test_d3_a_file_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    """A row's name is that row's: a file under it becomes the row's own, in one step."""
    target = tmp_path / "out/00000/000000000.bin"
    target.parent.mkdir(parents=True)
    (tmp_path / "out/.scraper").mkdir()
    target.write_bytes(b"old")
    async with server_of([b"\x00new"]) as server:
        await arun(files.build(), [server.url("/0")], out=tmp_path / "out", config=CONFIG)
    assert target.read_bytes() == b"\x00new"


@pytest.mark.parametrize(("output_format", "name"), [("webdataset", "00000.tar"), ("jsonl", "items.jsonl")])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
async def test_d3_an_archive_that_is_not_ours_stops_the_run_before_the_first_request(
    tmp_path: Path, output_format: str, name: str, kind: str
) -> None:
    """What stands under the name of a whole output is never overwritten or written through."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / ".scraper").mkdir(parents=True)
    elsewhere.write_bytes(b"mine")
    match kind:
        case "file":
            (out / name).write_bytes(b"mine")
        case "folder":
            (out / name).mkdir()
        case "link":
            (out / name).symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(out / name)
    before = (out / name).lstat().st_ino
    async with server_of(BODIES) as server:
        with pytest.raises(SinkFailed, match=rf"{name} is there already.*choose another"):
            await arun(files.build(output_format=output_format), [server.url("/0")], out=out, config=CONFIG)
        assert server.connections == 0
    assert (out / name).lstat().st_ino == before
    assert elsewhere.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("output_format", "name"), [("webdataset", "00000.tar.part"), ("jsonl", "items.jsonl.part")]
)
@pytest.mark.parametrize("kind", ["link", "fifo"])
async def test_d3_a_trap_under_the_name_of_a_part_is_never_written_through(
    tmp_path: Path, output_format: str, name: str, kind: str
) -> None:
    """A link or a pipe where a growing file belongs, put there while it was not looked: an error, never a wait."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")

    class Trapping(QuickDisk):
        def step(self, step: str, path: Path, data: bytes | bytearray | memoryview = b"") -> None:
            if step == "open" and path.name == name:
                path.symlink_to(elsewhere) if kind == "link" else os.mkfifo(path)

    async with server_of(BODIES) as server:
        with pytest.raises(SinkFailed, match="symbolic link" if kind == "link" else "a pipe or a device"):
            await arun(on(Trapping(), output_format), [server.url("/0")], out=out, config=CONFIG)
        assert elsewhere.read_bytes() == b"mine"
        await arun(files.build(output_format=output_format), [server.url("/0")], out=out, config=CONFIG)
    assert elsewhere.read_bytes() == b"mine"
    check_complete(out, output_format, BODIES[:1])


@pytest.mark.parametrize("output_format", FORMATS)
async def test_d3_an_output_folder_may_be_a_link(tmp_path: Path, output_format: str) -> None:
    """The user's own link to a folder, on a larger disk say, is where results go."""
    (tmp_path / "large").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large")
    async with server_of(BODIES) as server:
        urls = [server.url(f"/{n}") for n in range(len(BODIES))]
        await arun(files.build(output_format=output_format), urls, out=tmp_path / "out", config=CONFIG)
    check_complete(tmp_path / "large", output_format, BODIES)


# --- D4: names ---


async def test_d4_urls_that_would_have_one_name_are_kept_apart(tmp_path: Path) -> None:
    """Same last part, only case or query different: each row has its file, and the same one in every run."""
    paths = ["/a/photo.bin", "/b/photo.bin", "/a/PHOTO.BIN", "/a/Photo.bin", "/a/photo.bin?v=2", "/a/photo.bin/"]
    async with ScriptedServer({path: [reply("200 OK", f"\0{path}".encode())] for path in paths}) as server:
        for name in ("one", "two"):
            await arun(files.build(), [server.url(path) for path in paths], out=tmp_path / name, config=CONFIG)
    for name in ("one", "two"):
        held = {
            row: (tmp_path / name / str(each.path)).read_bytes() for row, each in outcomes(tmp_path / name).items()
        }
        assert held == {row: f"\0{path}".encode() for row, path in enumerate(paths)}
        found = [path.name for path in (tmp_path / name / "00000").iterdir()]
        assert sorted(found) == [f"00000000{row}.bin" for row in range(len(paths))]


# --- D5: errors of the device, signals, short writes ---


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("step", ["write", "fsync", "close", "rename"])
async def test_d5_an_error_of_the_device_is_never_swallowed(tmp_path: Path, output_format: str, step: str) -> None:
    """EIO once, at the last write, fsync, close or rename of a run: the run stops, and the next one completes."""
    refusal = Refusal(REFUSALS["broken"].code, REFUSALS["broken"].says, frozenset({step}), once=True)
    async with server_of(BODIES) as server:
        urls = [server.url(f"/{n}") for n in range(len(BODIES))]
        rehearsal = RecordingDisk()
        await arun(on(rehearsal, output_format), urls, out=tmp_path / "rehearsal", config=CONFIG)
        last = [name for name, _ in rehearsal.steps].count(step)
        for at in {1, last}:
            out, disk = tmp_path / f"{at}", _NthOf(at, refusal)
            failure = ""
            try:
                await arun(on(disk, output_format), urls, out=out, config=CONFIG)
            except SinkFailed as error:
                failure = str(error)
            # Not refused: this run happened to need fewer commits than the rehearsal.
            assert (refusal.says in failure) is disk.refused
            check_nothing_torn(out, output_format, BODIES)
            await arun(on(QuickDisk(), output_format), urls, out=out, config=CONFIG)
            check_complete(out, output_format, BODIES)


class _NthOf(RefusingDisk):
    """Counts only the steps that the refusal is about."""

    def __init__(self, at: int, refusal: Refusal) -> None:
        super().__init__(1, refusal)
        self.left = at

    def reached(self, count: int, name: str, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Refuse the n-th of them."""
        if name in self.refusal.steps:
            self.left -= 1
            if self.left == 0:
                super().reached(count, name, path, data)


@pytest.mark.parametrize("output_format", FORMATS)
async def test_d5_short_writes_and_signals_lose_nothing(tmp_path: Path, output_format: str) -> None:
    """Each write takes half, and a timer's signal comes every millisecond: every byte is there all the same."""
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        async with server_of(BODIES) as server:
            urls = [server.url(f"/{n}") for n in range(len(BODIES))]
            await arun(on(ShortDisk(), output_format), urls, out=tmp_path / "out", config=CONFIG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    check_complete(tmp_path / "out", output_format, BODIES)


# --- D6: order ---


@pytest.mark.parametrize("output_format", FORMATS)
async def test_d6_a_name_is_final_after_the_bytes_and_the_ledger_are_durable(
    tmp_path: Path, output_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write, fsync of the file, commit of the ledger, rename, fsync of the folder: so for every file."""
    disk, out = RecordingDisk(), tmp_path / "out"
    real = Ledger.commit

    async def commit(
        self: Ledger, outcomes: Sequence[Outcome], sink_state: Mapping[str, object], *more: object
    ) -> None:
        await real(self, outcomes, sink_state, *more)
        disk.steps.append(("commit", out))

    monkeypatch.setattr(Ledger, "commit", commit)
    async with server_of(BODIES) as server:
        urls = [server.url(f"/{n}") for n in range(len(BODIES))]
        await arun(on(disk, output_format), urls, out=out, config=CONFIG)
    steps = [(name, path.relative_to(out)) for name, path in disk.steps]
    whole = output_format == "files"
    names = [path for path in _final_names(out) if whole or path.suffix in {".tar", ".jsonl"}]
    assert names
    for final in names:
        written = [at for at, step in enumerate(steps) if step[0] == "write" and _becomes(step[1], final)]
        durable = [at for at, step in enumerate(steps) if step[0] == "fsync" and _becomes(step[1], final)]
        named = steps.index(("rename", final))
        assert written[-1] < durable[-1] < named
        assert ("commit", Path()) in steps[durable[-1] : named]
        assert ("fsync", final.parent) in steps[named:]
    first_commit = steps.index(("commit", Path()))
    assert ("fsync", Path()) in steps[:first_commit]  # or OUT's own .scraper could be lost with all it says


def _final_names(out: Path) -> list[Path]:
    found = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    return [path for path in found if path.parts[0] not in {".scraper", "report.html"}]


def _becomes(path: Path, final: Path) -> bool:
    """Whether a file is the one that gets that final name."""
    return path.name == f"{final.name}.part" or (path.name == final.name and path.parts[0] == ".scraper")


# --- D7: long names ---


async def test_d7_a_long_url_is_a_short_name_and_stands_whole_in_the_ledger(tmp_path: Path) -> None:
    """A last part of 300 bytes and a path of 4,000: the file is called by its row, the URL is in the ledger."""
    paths = [f"/{'n' * 300}.bin", f"/{'/'.join(['d' * 100] * 39)}", f"/{'%C3%A9' * 300}"]
    async with ScriptedServer({path: [reply("200 OK", b"\0" + path[:9].encode())] for path in paths}) as server:
        urls = [server.url(path) for path in paths]
        await arun(files.build(), urls, out=tmp_path / "out", config=CONFIG)
    held = outcomes(tmp_path / "out")
    assert [held[row].url for row in range(3)] == urls
    assert [held[row].path for row in range(3)] == [f"00000/00000000{row}.bin" for row in range(3)]


async def test_d7_an_output_path_that_is_too_long_is_said_before_the_first_request(tmp_path: Path) -> None:
    """Where the file system has no room for the folder's name, nothing is asked, and the sentence says so."""
    async with server_of(BODIES) as server:
        with pytest.raises(UsageError, match=r"File name too long.*choose another folder with -o"):
            await arun(files.build(), [server.url("/0")], out=tmp_path / ("o" * 300), config=CONFIG)
        assert server.connections == 0
