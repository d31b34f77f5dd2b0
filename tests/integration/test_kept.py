"""What results must be to be kept, through the whole product: duplicates, digests, the user's own function."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from pipelines import files, images
from scraper import Pipeline, Report, UsageError, arun
from scraper.cli import main
from scraper.ledger import LedgerReader
from scraper.origin.process import OriginProcess
from scraper.records import Outcome
from scraper.testing.server import LOOPBACK, ScriptedServer, Turns, reply
from scraper.transforms.user import function_of

ROOT = Path(__file__).resolve().parents[2]

QUICK = ("--retries", "0", "--network-wait", "0", "--workers", "1")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_page")]


def outcomes(out: Path) -> list[Outcome]:
    """How each row ended."""
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
        return [one.outcome for one in reader.rows()]


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``scraper`` with these arguments, in that folder."""
    words = [sys.executable, "-P", "-m", "scraper", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)


async def a_run(
    server: ScriptedServer,
    out: Path,
    rows: list[dict[str, object]],
    pipeline: Pipeline | None = None,
    **more: object,
) -> Report:
    """One run over paths of the server."""
    urls = [{**row, "url": server.url(str(row["url"]))} for row in rows]
    settings = {"retries": 0, "workers": 1, "max_failed": 99, "allow_net": LOOPBACK, "pace": "fixed"} | more
    return await arun(pipeline or files.build(), urls=urls, out=out, **settings)  # type: ignore[arg-type] # by name


# ---- duplicates ----------------------------------------------------------------------------------------------


async def test_the_same_bytes_under_two_urls(tmp_path: Path) -> None:
    """One file, and the other row says whose; marked, both are there and each has the column."""
    scripts = {
        "/a": [reply("200 OK", b"same")],
        "/b": [reply("200 OK", b"same")],
        "/c": [reply("200 OK", b"other")],
    }
    rows: list[dict[str, object]] = [{"url": path} for path in scripts]
    async with ScriptedServer(scripts) as server:
        await a_run(server, tmp_path / "drop", rows, dedupe="url,content")
        await a_run(server, tmp_path / "mark", rows, dedupe="content", duplicates="mark")
    dropped = [outcome for outcome in outcomes(tmp_path / "drop") if outcome.class_ == "duplicate.content"]
    assert Counter(outcome.class_ for outcome in outcomes(tmp_path / "drop")) == {"ok": 2, "duplicate.content": 1}
    assert dropped[0].path is None
    assert dropped[0].sha256 == hashlib.sha256(b"same").hexdigest()
    assert len(list((tmp_path / "drop").glob("00000/*"))) == 2
    about = [json.loads(path.read_text()) for path in sorted((tmp_path / "mark").glob("00000/*.json"))]
    marks = {each["duplicate_of"] for each in about}
    assert len(about) == 3
    assert marks in ({None, "000000000"}, {None, "000000001"})


async def test_a_refresh_makes_no_row_a_duplicate_of_itself(tmp_path: Path) -> None:
    """Rows that come as they were stay; one that has changed takes its own place."""
    changed = Turns(([reply("200 OK", b"one")], [reply("200 OK", b"two")]))
    scripts = {"/a": changed, "/b": [reply("200 OK", b"fixed")]}
    rows: list[dict[str, object]] = [{"url": "/a"}, {"url": "/b"}]
    async with ScriptedServer(scripts) as server:
        for refresh in (False, True):
            await a_run(server, tmp_path, rows, dedupe="content", refresh=refresh)
    assert [outcome.class_ for outcome in outcomes(tmp_path)] == ["ok", "ok"]
    assert sorted(path.read_bytes() for path in tmp_path.glob("00000/*")) == [b"fixed", b"two"]


async def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    """Pipelines without prints have no look; other duplicates than before would mix two jobs."""
    async with ScriptedServer({"/a": [reply("200 OK", b"same")]}) as server:
        with pytest.raises(UsageError, match=r"the transform of 'files' does not say .*: use --dedupe content"):
            await a_run(server, tmp_path, [{"url": "/a"}], dedupe="perceptual")
        await a_run(server, tmp_path, [{"url": "/a"}], dedupe="content")
        with pytest.raises(UsageError, match='dedupe was "content" and is now not set'):
            await a_run(server, tmp_path, [{"url": "/a"}])


async def test_pictures_that_look_the_same(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """The same scene as JPEG and as PNG is one picture, and another scene is another."""
    urls = [shared_origin.url(f"/img/thumb/{name}") for name in ("1.jpg", "2.jpg", "1.png", "2.webp")]
    await arun(
        images.build(image_size=128), urls=urls, out=tmp_path, dedupe="perceptual:4", allow_net=LOOPBACK, workers=1
    )
    classes = Counter(outcome.class_ for outcome in outcomes(tmp_path))
    assert classes == {"ok": 2, "duplicate.perceptual": 2}


def test_killed_again_and_again_no_content_is_lost_or_doubled(
    tmp_path: Path, shared_origin: OriginProcess
) -> None:
    """After SIGKILLs at any time each content is there once, and each duplicate points to a row that has it."""
    contents, rows = 30, 150
    urls = [shared_origin.url(f"/img/thumb/{row % contents}.jpg?delay=60ms") for row in range(rows)]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    words = [sys.executable, "-m", "scraper", "files", "list.txt", "-o", "out", "--allow-net", LOOPBACK]
    words += ["--dedupe=content", "--workers=1", "--concurrency=4", "--pace=fixed", "--progress=none"]
    ledger = tmp_path / "out" / ".scraper" / "ledger.sqlite"
    ended = 0
    for _ in range(3):
        run = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while run.poll() is None and time.monotonic() < deadline:
            now = _rows_ended(ledger)
            if now > ended:
                ended = now
                break
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert ended > 0
    last = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert last.returncode == 0, last.stderr
    found = outcomes(tmp_path / "out")
    by_row = {outcome.row: outcome for outcome in found}
    kept = [outcome for outcome in found if outcome.class_ == "ok"]
    assert len(found) == rows
    assert len({outcome.sha256 for outcome in kept}) == len(kept)
    assert {outcome.sha256 for outcome in kept} == {outcome.sha256 for outcome in found}
    for outcome in found:
        if outcome.class_ == "duplicate.content":
            first = by_row[int(outcome.message.split()[1])]
            assert (first.class_, first.sha256) == ("ok", outcome.sha256)
            assert (tmp_path / "out" / str(first.path)).is_file()
    assert len([path for path in (tmp_path / "out").glob("0*/*") if path.is_file()]) == len(kept)


def _rows_ended(ledger: Path) -> int:
    try:
        with LedgerReader(ledger) as reader:
            return sum(reader.counts().values())
    except UsageError:
        return 0


# ---- digests -------------------------------------------------------------------------------------------------


async def test_bodies_must_have_the_digest_of_the_list(tmp_path: Path) -> None:
    """By its length or its name; another digest, none, or one that is none fails the row."""
    body = b"the body"
    md5, sha = hashlib.md5(body).hexdigest(), hashlib.sha512(body).hexdigest()
    given = [md5, sha.upper(), "0" * 32, "", "xyz"]
    scripts = {f"/{number}": [reply("200 OK", body)] for number in range(len(given))}
    rows: list[dict[str, object]] = [
        {"url": f"/{number}", "sha256": digest} for number, digest in enumerate(given)
    ]
    async with ScriptedServer(scripts) as server:
        await a_run(server, tmp_path, rows, verify_hash="sha256", compute_hash="md5")
    found = outcomes(tmp_path)
    assert [outcome.class_ for outcome in found] == ["ok", "ok", "body.hash", "body.hash", "body.hash"]
    assert found[2].message == f"The md5 of the body is {md5}, and not {'0' * 32}."
    assert found[3].message == "The list gives no digest in the column sha256."
    about = json.loads((tmp_path / "00000" / "000000000.json").read_text())
    assert (about["md5"], about["sha256"]) == (md5, hashlib.sha256(body).hexdigest())


# ---- the user's function -------------------------------------------------------------------------------------

FILTERS = """
    import dataclasses
    import helper_of_filters

    def keep(sample):
        return helper_of_filters.YES

    def by_column(sample):
        answer = {"drop": False, "why": "not nice", "none": None, "raise": 0, "empty": []}
        answer["twice"] = [sample.item] * 2
        said = sample.columns["want"]
        if said == "change":
            fields = {**sample.item.fields, "length": len(sample.body), "type": sample.headers["content-type"]}
            return dataclasses.replace(sample.item, data=sample.body.upper(), fields=fields)
        if said == "raise":
            return 1 / answer[said]
        return answer.get(said, True)

    async def later(sample):
        return True

    NUMBER = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the user's own modules."""
    (tmp_path / "filters.py").write_text(textwrap.dedent(FILTERS))
    (tmp_path / "helper_of_filters.py").write_text("YES = True\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/never\n")
    return tmp_path


async def test_a_function_keeps_drops_and_changes(folder: Path, tmp_path: Path) -> None:
    """Each answer has its meaning, and whatever it raises or returns by mistake ends that row alone."""
    wants = ["", "drop", "why", "change", "none", "raise", "empty", "twice"]
    reply_ = reply("200 OK", b"some words", "Content-Type: text/plain")
    rows: list[dict[str, object]] = [{"url": f"/{number}", "want": want} for number, want in enumerate(wants)]
    async with ScriptedServer({f"/{number}": [reply_] for number in range(len(wants))}) as server:
        listed = [json.dumps({**row, "url": server.url(str(row["url"]))}) for row in rows]
        (folder / "list.jsonl").write_text("\n".join(listed))
        words = [
            sys.executable,
            "-P",
            "-m",
            "scraper",
            "files",
            "list.jsonl",
            "-o",
            "out",
            "--allow-net",
            LOOPBACK,
        ]
        words += ["--save-additional-columns", "want", "--transform", "filters:by_column", "--max-failed", "2"]
        run = await asyncio.create_subprocess_exec(
            *words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, said = await asyncio.wait_for(run.communicate(), 60)
    assert run.returncode == 0, said.decode()
    found = outcomes(tmp_path / "out")
    assert [outcome.class_ for outcome in found] == [
        "ok", "filtered.function", "filtered.function", "ok", "transform.error", "transform.error",
        "filtered.function", "ok",
    ]  # fmt: skip
    assert [outcome.message for outcome in found] == [
        "",
        "filters:by_column leaves it out.",
        "not nice",
        "",
        "filters:by_column returned nothing; it returns True, False, a text, an Item or a list of Items.",
        "filters:by_column: ZeroDivisionError: division by zero (filters.py, line 16)",
        "filters:by_column leaves no item of it.",
        "",
    ]
    about = json.loads((tmp_path / "out" / "00000" / "000000003.json").read_text())
    assert (about["length"], about["type"], about["want"]) == (10, "text/plain", "change")
    assert (tmp_path / "out" / "00000" / "000000003.data.txt").read_bytes() == b"SOME WORDS"
    assert (tmp_path / "out" / "00000" / "000000007_1.data.txt").read_bytes() == b"some words"


def test_what_lies_in_the_folder_hides_nothing_that_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is called like a module of Python's is not what a worker imports by that name."""
    (folder / "colorsys.py").write_text("raise SystemExit('imported')")
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("colorsys", None)
    try:
        assert function_of("colorsys:rgb_to_hls", str(folder))(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)  # type: ignore[call-arg,arg-type] # no filter
    finally:
        function_of.cache_clear()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("filters", "--transform wants module:function, as filters:is_bright, not 'filters'."),
        ("filters.py:keep", "--transform wants module:function (without .py), as filters:is_bright"),
        ("./filters:keep", "--transform wants module:function"),
        ("nowhere:keep", "there is no module nowhere, neither installed nor in {folder}: change to its folder"),
        ("filters:kepe", "--transform filters:kepe: filters has no kepe; did you mean keep?"),
        ("filters:NUMBER", "--transform filters:NUMBER is no plain function, but of type int."),
        ("filters:later", "is no plain function, but an async function: write it with def."),
        ("broken:x", "--transform broken:x: importing broken failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_is_not_there_is_a_sentence(
    folder: Path, name: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and a sentence, before anything is asked or written; a dry run says the same."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        for more in ((), ("--dry-run",)):
            assert main(["files", "list.txt", "-o", "out", "--transform", name, *more]) == 2
            said = capsys.readouterr().err
            assert sentence.format(folder=folder) in said
            assert len(said.splitlines()) == 1
    finally:
        for module in ("filters", "helper_of_filters", "broken"):
            sys.modules.pop(module, None)
        function_of.cache_clear()
    assert not (folder / "out").exists()


def test_resume_imports_what_the_command_names_only(folder: Path) -> None:
    """The name of a function is not taken from OUT: it is to be typed again, and must be the same."""
    first = command("files", "list.txt", "-o", "out", "--transform", "filters:keep", *QUICK, cwd=folder)
    assert first.returncode == 1, first.stderr
    bare = command("resume", "out", cwd=folder)
    assert bare.returncode == 2
    assert bare.stderr.strip().endswith("name it again: scraper resume out --transform filters:keep.")
    other = command("resume", "out", "--transform", "filters:by_column", cwd=folder)
    assert other.returncode == 2
    assert 'transform was "filters:keep" and is now "filters:by_column"' in other.stderr
    assert command("resume", "out", "--transform", "filters:keep", cwd=folder).returncode == 1
    (folder / "filters.py").unlink()
    gone = command("resume", "out", "--transform", "filters:keep", cwd=folder)
    assert gone.returncode == 2
    assert "there is no module filters" in gone.stderr


async def test_a_program_gives_the_function_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is written in a module; a lambda cannot go to workers, and that is a sentence."""
    module = "module_of_a_program"
    (tmp_path / f"{module}.py").write_text("def is_short(sample):\n    return len(sample.body) < 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = __import__(module).is_short
    rows: list[dict[str, object]] = [{"url": "/a"}, {"url": "/b"}]
    async with ScriptedServer({"/a": [reply("200 OK", b"1234")], "/b": [reply("200 OK", b"12345")]}) as server:
        await a_run(server, tmp_path / "out", rows, transform=function)
        with pytest.raises(UsageError, match="not a lambda"):
            await a_run(server, tmp_path / "out", rows, transform=lambda sample: True)
    assert [outcome.class_ for outcome in outcomes(tmp_path / "out")] == ["ok", "filtered.function"]


def test_the_example_filters(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """What the example says it keeps is kept."""
    with (ROOT / "examples" / "filter_photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "filter_photos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["url", "licence"])
        writer.writeheader()
        for row in rows:
            path = row["url"].removeprefix("http://127.0.0.1:8765")
            writer.writerow({**row, "url": shared_origin.url(path)})
    (tmp_path / "filter_photos.py").write_text((ROOT / "examples" / "filter_photos.py").read_text())
    run = command(
        "images", "filter_photos.csv", "-o", "bright", "--allow-net", LOOPBACK,
        "--save-additional-columns", "licence", "--transform", "filter_photos:bright",
        "--resize-mode", "keep_ratio", "--workers", "1", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = outcomes(tmp_path / "bright")
    reasons = Counter(outcome.message for outcome in found)
    assert reasons["licence"] == sum(row["licence"] == "unknown" for row in rows)
    assert set(reasons) <= {"", "licence", "too dark"}
    assert reasons[""] > 0
