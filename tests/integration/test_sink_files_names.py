"""The files sink with a template, and with links in its way: where files go, and where they never do."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import files, images
from scraper import LedgerReader, arun
from scraper.errors import SinkFailed, UsageError
from scraper.protocols import Sink, SinkState
from scraper.records import Held, Item, Outcome, Request, Result
from scraper.sinks import output_of
from scraper.sinks.disk import Disk
from scraper.sinks.files import REPLACED, FilesOutput, FilesSink
from scraper.sinks.tree import Place, Tree
from scraper.testing.disk import DiskSinkContract, OrderlyDisk, QuickDisk, RecordingDisk
from scraper.testing.server import ScriptedServer, reply
from scraper.testing.sink import files_in

WAYS_OUT = [
    "../../../../etc/x", "..%2f..%2f..%2fx", "%2e%2e/%2e%2e/x", "%2fetc%2fpasswd", "C:%5cx", "%5c%5csrv%5cx",
    "a%00b", ".bashrc", "-rf", "CON", "x.", "x%20", "a:b", "%E2%80%AEx", "$Mft", ".scraper/ledger.sqlite",
    "x" * 400,
]  # fmt: skip


def _result(row: int, url: str, data: bytes = b"x", extension: str = "jpg", **columns: object) -> Result:
    request = Request(row, url, columns=columns)
    return Result(request, Outcome(row, url, "ok"), [Item(data, extension)])


async def _put(out: Path, template: str, *results: Result, state: SinkState | None = None) -> list[Outcome]:
    async with FilesSink(out, state or {}, template=template, disk=QuickDisk()) as sink:
        outcomes = await sink.write(results)
        await sink.flush()
        await sink.publish()
    return outcomes


class TestTemplateContract(DiskSinkContract):
    """The whole contract again, kills and refusals included, with folders in folders."""

    rows = 4

    def make_on(self, disk: Disk, out: Path, state: SinkState) -> Sink:
        """See DiskSinkContract."""
        return FilesSink(out, state, template="{host}/a/{column:n}", disk=disk)

    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """See SinkContract."""
        found = sorted(out.glob("origin.test/a/*.jpg"))
        return [(int(path.stem.rpartition("~")[2]), path.read_bytes()) for path in found]


async def test_a_template_decides_where_a_file_goes(tmp_path: Path) -> None:
    """Item, caption and metadata stand together, and the outcome knows the name."""
    result = _result(3, "http://a.example/albums/one.png", year=1999)
    (outcome,) = await _put(tmp_path, "{host}/{column:year}/{stem}", result)
    assert (outcome.path, outcome.shard) == ("a.example/1999/one~000000003.jpg", None)
    assert sorted(path.name for path in (tmp_path / "a.example/1999").iterdir()) == [
        "one~000000003.jpg",
        "one~000000003.json",
    ]


async def test_a_file_is_named_by_what_the_server_says(tmp_path: Path) -> None:
    """The response's Content-Disposition comes with the result."""
    result = replace(_result(3, "http://a.example/x"), disposition='attachment; filename="../report.pdf"')
    (outcome,) = await _put(tmp_path, "{filename}", result)
    assert outcome.path == "report~000000003.jpg"


async def test_no_url_header_or_column_leads_out_of_the_folder(tmp_path: Path) -> None:
    """Every file is below OUT, under a name that is recorded, and none among our own."""
    out = tmp_path / "out"
    results = [
        replace(
            _result(row, f"http://a.example/{way}", f"{row}".encode(), c=way),
            disposition=f'x; filename="{way}"',
        )
        for row, way in enumerate(WAYS_OUT)
    ]
    outcomes = await _put(out, "{path}/{column:c}/{filename}", *results)
    assert [each.class_ for each in outcomes] == ["ok"] * len(results)
    assert {path.read_bytes() for each in outcomes if (path := out / str(each.path))} == {
        f"{row}".encode() for row in range(len(results))
    }
    written = {path for path in files_in(tmp_path) if path.suffix == ".jpg"}
    assert written == {out / str(each.path) for each in outcomes}
    assert all(path.resolve().is_relative_to(out) for path in written)
    assert not list((out / ".scraper/staged").iterdir())


async def test_a_row_asked_again_leaves_no_file_of_its_old_name(tmp_path: Path) -> None:
    """A template may give it another folder: the new one stands, then the old one goes, sidecars with it."""
    template = "{host}/{filename}"
    first = _result(1, "http://a.example/x", b"old", n=1)
    (before,) = await _put(tmp_path, template, replace(first, disposition="filename=old"))
    held = Held(first.request.url, path=before.path)
    again = replace(
        _result(1, "http://a.example/x", b"new", "png"),
        request=replace(first.request, columns={}, held=held),
        disposition="filename=new",
    )
    await _put(tmp_path, template, again, state={"generation": 1})
    assert files_in(tmp_path) == {tmp_path / "a.example/new~000000001.png": b"new"}


async def test_names_that_differ_by_case_only_are_apart(tmp_path: Path) -> None:
    """Where ``A`` and ``a`` are one, the two files share a folder and nothing else."""
    outcomes = await _put(
        tmp_path, "{path}", _result(1, "http://a.example/A/x"), _result(2, "http://a.example/a/X")
    )
    assert [each.path for each in outcomes] == ["A/x~000000001.jpg", "a/X~000000002.jpg"]
    assert len({str(each.path).casefold() for each in outcomes}) == 2


async def test_a_name_too_long_for_the_file_system_rejects_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hold less than 255 bytes, and nothing half of such a row is left."""
    real = os.open

    def narrow(path: str | Path, *args: int, **more: int) -> int:
        if len(str(path)) > 50 and str(path).endswith("x~000000001.json"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        return real(path, *args, **more)

    monkeypatch.setattr("scraper.sinks.disk.os.open", narrow)
    results = [_result(1, "http://a.example/" + "x" * 60, n=1), _result(2, "http://a.example/y", n=2)]
    async with FilesSink(tmp_path, {}, template="{stem}", disk=QuickDisk()) as sink:
        bad, good = await sink.write(results)
        assert {path.stem for path in files_in(tmp_path)} == {"y~000000002"}
        await sink.flush()
        await sink.publish()
    assert (bad.class_, good.path) == ("sink.rejected", "y~000000002.jpg")
    assert "longer than the file system" in bad.message
    assert sorted(path.name for path in files_in(tmp_path)) == ["y~000000002.jpg", "y~000000002.json"]


def _link_state(out: Path, to: Path) -> None:
    (out / ".scraper").rename(to / "was")
    (out / ".scraper").symlink_to(to)


def _link_staged(out: Path, to: Path) -> None:
    (out / ".scraper/staged").rmdir()
    (out / ".scraper/staged").symlink_to(to)


@pytest.mark.parametrize(("plant", "named"), [(_link_state, ".scraper"), (_link_staged, "staged")])
async def test_a_folder_of_ours_that_is_a_link_stops_the_sink(
    tmp_path: Path, plant: Callable[[Path, Path], None], named: str
) -> None:
    """It is named, and nothing behind it is made or removed."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (elsewhere / "files-77").mkdir(parents=True)
    await _put(out, "{key}", _result(0, "http://a.example/"))
    plant(out, elsewhere)
    with pytest.raises(SinkFailed, match=rf"{named}: it is a symbolic link"):
        await _put(out, "{key}", _result(1, "http://a.example/"))
    assert {path.name for path in elsewhere.iterdir()} <= {"files-77", "was"}


@pytest.mark.parametrize(
    "where", ["a.example", "a.example/b", ".scraper/staged/files-1", ".scraper/staged/files-1/a.example"]
)
async def test_a_link_put_in_a_folders_place_meanwhile_is_not_gone_through(tmp_path: Path, where: str) -> None:
    """However late it comes: a folder is opened part by part, so there is no moment between look and leap."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b").mkdir()
    sink = FilesSink(out, {}, template="{host}/b/{key}", disk=QuickDisk())
    async with sink:
        if where.startswith("."):
            (out / where).parent.mkdir(exist_ok=True)
            (out / where).symlink_to(elsewhere)
            with pytest.raises(SinkFailed, match="it is a symbolic link"):
                await sink.write([_result(0, "http://a.example/")])
        else:
            await sink.write([_result(0, "http://a.example/")])
            await sink.flush()
            (out / where).parent.mkdir(exist_ok=True)
            (out / where).symlink_to(elsewhere)
            with pytest.raises(SinkFailed, match=rf"{where}: it is a symbolic link"):
                await sink.publish()
    assert files_in(elsewhere) == {}


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
async def test_a_staged_name_that_is_taken_is_not_written_to(tmp_path: Path, kind: str) -> None:
    """Not through a link, not into a file that has another name elsewhere, not into a pipe."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"mine")
    async with FilesSink(out, {}, disk=QuickDisk()) as sink:
        staged = out / ".scraper/staged/files-1/00000"
        staged.mkdir(parents=True)
        name = staged / "000000000.jpg"
        if kind == "link":
            name.symlink_to(victim)
        elif kind == "hard link":
            name.hardlink_to(victim)
        else:
            os.mkfifo(name)
        with pytest.raises(SinkFailed, match=r"000000000\.jpg"):
            await sink.write([_result(0, "http://a.example/")])
    assert victim.read_bytes() == b"mine"


async def test_only_files_of_the_sinks_own_names_are_published_from_a_killed_run(tmp_path: Path) -> None:
    """What somebody put among the staged files does not get a name in OUT: links, odd names, ways out."""
    staged = tmp_path / "out/.scraper/staged/files-1"
    (staged / "a.example").mkdir(parents=True)
    (staged / "a.example/x~000000001.jpg").write_bytes(b"ours")
    (staged / "a.example/x~000000002.jpg").symlink_to("/etc/passwd")
    (staged / "report.html").write_bytes(b"not ours")
    (staged / ".bashrc").write_bytes(b"not ours")
    async with FilesSink(tmp_path / "out", {"generation": 1}, template="{host}/{stem}", disk=QuickDisk()):
        pass
    assert files_in(tmp_path / "out") == {tmp_path / "out/a.example/x~000000001.jpg": b"ours"}


async def test_a_host_called_like_the_list_of_what_goes_is_not_in_its_way(tmp_path: Path) -> None:
    """That list has a name that no row can have."""
    held = Held("http://a.example/", path="replaced/y~000000001.jpg")
    result = _result(1, f"http://{REPLACED.strip('.')}/x")
    result = replace(result, request=replace(result.request, held=held))
    (tmp_path / "replaced").mkdir()
    (tmp_path / "replaced/y~000000001.jpg").write_bytes(b"old")
    await _put(tmp_path, "{host}/{stem}", result)
    assert files_in(tmp_path) == {tmp_path / "replaced/x~000000001.jpg": b"x"}


async def test_every_folder_on_the_way_is_durable_before_the_staged_files_go(tmp_path: Path) -> None:
    """The names of new folders are synced, from the innermost to OUT."""
    disk = RecordingDisk()
    async with FilesSink(tmp_path, {}, template="{path}", disk=disk) as sink:
        await sink.write([_result(0, "http://a.example/a/b/c")])
        await sink.flush()
        begun = len(disk.steps)
        await sink.publish()
    steps = disk.steps[begun:]
    gone = next(at for at, (name, _) in enumerate(steps) if name in ("unlink", "rmdir"))
    synced = [path for name, path in steps[:gone] if name == "fsync"]
    assert synced == [tmp_path / "a/b", tmp_path / "a", tmp_path]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Whether a folder can be opened or not."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    before = len(list(Path("/dev/fd").iterdir()))
    tree = Tree(OrderlyDisk(), tmp_path)
    with closing(Place(tree)) as place:
        for below in ("a/b/c", "a/b", "a/b", ""):
            place.of(below)
        with pytest.raises(OSError, match="symbolic link"):
            place.of("link/x")
        with pytest.raises(NotADirectoryError):
            place.of("file/x")
    with pytest.raises(FileNotFoundError):
        tree.open("missing")
    tree.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize("pipeline", [files, images])
def test_the_option_reaches_the_sink_and_guards_the_output(pipeline: object) -> None:
    """--name makes the sink's template, and is one of the settings with which a run may go on."""
    built = getattr(pipeline, "build")(name="{host}/{path}")  # noqa: B009 - a module
    assert built.open_sink == FilesOutput(template="{host}/{path}")
    assert pickle.loads(pickle.dumps(built.open_sink)) == built.open_sink
    assert built.settings["name"] == "{host}/{path}"
    said, silent = (getattr(pipeline, "build")(**how) for how in ({"name": "{folder}/{key}"}, {}))  # noqa: B009
    assert (said.open_sink, said.settings) == (silent.open_sink, silent.settings)


@pytest.mark.parametrize("name", ["webdataset", "jsonl"])
def test_a_template_is_for_files(name: str) -> None:
    """Elsewhere it is refused, as is one that is none."""
    with pytest.raises(UsageError, match=f"--name is for --output-format files: what {name} writes"):
        output_of(name, 7, "{key}")
    with pytest.raises(UsageError, match=r"did you mean \{key\}"):
        output_of("files", 7, "{keys}")


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
async def test_a_whole_run_names_its_files_and_goes_on_only_with_the_same_template(tmp_path: Path) -> None:
    """From URL and header to the ledger's path; another --name against the same OUT is refused."""
    told = 'Content-Disposition: attachment; filename="../../Annual report.PDF"'
    async with ScriptedServer(
        {"/a/b": [reply("200 OK", b"one", told)], "/c": [reply("200 OK", b"two")]}
    ) as server:
        urls = [server.url("/a/b"), server.url("/c")]
        pipeline = files.build(name="{host}/{filename}")
        await arun(pipeline, urls, out=tmp_path, workers=1, allow_net="127.0.0.0/8", robots="ignore")
    with LedgerReader(tmp_path / ".scraper/ledger.sqlite") as reader:
        paths = [str(recorded.outcome.path) for recorded in reader.rows()]
    assert paths == ["127.0.0.1/Annual report~000000000.bin", "127.0.0.1/c~000000001.bin"]
    assert [(tmp_path / path).read_bytes() for path in paths] == [b"one", b"two"]
    with pytest.raises(UsageError, match="name was"):
        await arun(files.build(name="{stem}"), urls, out=tmp_path, workers=1)
