"""The command line, as far as it goes without fetching: parsing, refusals, help, dry runs, what resume needs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scraper._version import HOMEPAGE, __version__
from scraper.cli import main, voice
from scraper.cli.job import Job, resume, understand
from scraper.cli.parse import parse
from scraper.cli.signals import silence_the_tracker
from scraper.cli.table import BUILT_IN, Command
from scraper.config import Again, SourceConfig
from scraper.errors import InternalFault, OutputLocked, SinkFailed, UsageError
from scraper.ledger import Ledger, RunMeta
from scraper.options import img2dataset
from scraper.options.found import load
from scraper.options.schema import names_of, options_of
from scraper.options.shared import SHARED, PlaceOptions, RunOptions
from scraper.outdir import OutputFolder
from scraper.records import Outcome
from scraper.report import Report, render_terminal
from scraper.sources import open_source


@pytest.fixture(autouse=True)
def _plain_voice() -> None:
    voice.speak("text")


@pytest.fixture
def urls(tmp_path: Path) -> Path:
    """A list of three rows at two hosts."""
    path = tmp_path / "urls.txt"
    path.write_text("http://a.test/1\nhttp://a.test/2\nhttp://b.test/1\n")
    return path


async def a_run(out: Path, meta: RunMeta) -> None:
    """Leave an interrupted run in a folder, with two rows that ended."""
    with OutputFolder(out) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(meta)
            await ledger.commit(
                [Outcome(0, "http://a.test/1", "ok"), Outcome(1, "http://a.test/2", "http.404")], {}
            )
            await ledger.end(130)


def job(*arguments: str) -> Job:
    """What ``scraper images …`` amounts to."""
    understood = understand(load("images"), arguments, ["files", "images"])
    assert understood is not None
    return understood


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    code = main(arguments)
    return code, capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["imges"], "There is no command 'imges'; did you mean images?"),
        (["zzz"], "There is no command 'zzz'; there is: files, images, resume, report, results, origin."),
        (["--frob"], "There is no option --frob before the command; 'scraper --help' lists the commands."),
        (["images"], "Name a list: scraper images LIST -o OUT; - reads standard input."),
        (["images", "x", "--concurency", "3"], "There is no option --concurency; did you mean --concurrency?"),
        (["images", "x", "--zzz"], "There is no option --zzz; 'scraper images --help' lists the options."),
        (["images", "x", "--timeout"], "--timeout needs a value; 'scraper images --help' lists the options."),
        (["images", "x", "--retries", "1", "--retries", "2"], "--retries is given more than once."),
        (["images", "x", "--retries", "-1"], "--retries must be 0 or more."),
        (["images", "x", "--concurrency", "0"], "--concurrency must be at least 1."),
        (["images", "x", "--timeout", "abc"], "--timeout: 'abc' is no time; write 500ms, 30, 30s, 2m or 1h."),
        (["images", "x", "--set", "tiemout=3"], "There is no option 'tiemout' for --set; did you mean timeout?"),
        (["images", "x", "--config", "no.toml"], "There is no file no.toml for --config."),
        (
            ["images", "x", "--allow-net", "127.0.0.1/8"],
            "--allow-net '127.0.0.1/8' is no network: write 127.0.0.0/8 for the network, or 127.0.0.1 for the one "
            "address.",
        ),
        (["images", "x", "--hosts", "a.test"],
         "--hosts a.test says nothing: add a limit, as in 'a.test per_host=2 delay=1s'."),
        (["images", "x", "--robots", "no"], "--robots is one of obey, ignore; 'no' is not."),
        (["images", "x", "--per-host", "0"], "--per-host must be at least 1."),
        (["images", "x", "--host-wait", "-1"], "--host-wait: '-1' is no time; write 500ms, 30, 30s, 2m or 1h."),
        (["results"], "Give one output folder: scraper results OUT."),
        (["results", "a", "b"], "Give one output folder: scraper results OUT."),
        (
            ["results", "a", "--state", "fialed"],
            "--state is one of ok, failed, skipped; 'fialed' is not. Did you mean failed?",
        ),
        (["resume"], "Give the output folder first: scraper resume OUT."),
        (["resume", "--workers", "1", "out"], "Give the output folder first: scraper resume OUT."),
        (["report", "/nowhere"], "There is no run in /nowhere: give the -o folder of a run."),
        (["origin", "--port", "70000"], "--port must be from 0 to 65535, not 70000."),
        (
            ["origin", "stray"],
            "scraper origin takes no list, only options; 'scraper origin --help' lists the options.",
        ),
        (["pages"], "There is no command 'pages'; there is: files, images, resume, report, results, origin."),
        (
            ["images", "x", "-o", "o", "--retry-failed=dsn"],
            "There is no class of failed rows 'dsn'; did you mean dns?",
        ),
        (
            ["images", "x", "-o", "o", "--set", "retry_failed=dns"],
            "retry-failed cannot stand for --set; type --retry-failed instead.",
        ),
        (
            ["images", "x", "-o", "o", "--refresh", "--overwrite"],
            "--overwrite deletes what an earlier run left, and asks for it all anew: leave out --refresh.",
        ),
        (
            ["images", "x", "-o", "o", "--refresh", "--retry-failed"],
            "--refresh asks all failed rows again as well: leave out --retry-failed.",
        ),
        (
            ["files", "x", "-o", "o", "--refresh", "--output-format", "webdataset"],
            "--refresh needs --output-format files: in an archive or a table a row that has changed cannot take "
            "the place of the old one. Start over with --overwrite, or choose another -o OUT.",
        ),
        (
            ["images", "x", "--format", "csv"],
            "There is no option --format; did you mean --encode-format, --output-format, --input-format "
            "or --log-format?",
        ),
        (
            ["files", "x", "--min_image_size", "9"],
            "There is no option --min-image-size; 'scraper files --help' lists the options.",
        ),
        (
            ["images", "x", "--oom_shard_count", "9"],
            "img2dataset's --oom_shard_count 9 has no counterpart: leave it out.",
        ),
        (
            ["images", "x", "--compute_hash=crc32"],
            "--compute-hash is one of sha256, md5, sha1, sha512; 'crc32' is not.",
        ),
        (
            ["images", "x", "--enable_wandb", "--retries", "1"],
            "img2dataset's --enable_wandb True has no counterpart: leave it out.",
        ),
        (
            ["images", "x", "--connect-timeout", "90s"],
            "--connect-timeout 90s is more than --timeout 60s, which ends the whole attempt: lower the one "
            "or raise the other.",
        ),
        (["results", "a", "--class", "timeot"], "There is no outcome class 'timeot'; did you mean timeout?"),
        (["results", "a", "--class", "htpp.404"], "There is no outcome class 'htpp.404'; did you mean http?"),
        (["results", "a", "--class", "http.9999"], "There is no outcome class 'http.9999'; did you mean http?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """Exit status 2, one line on stderr that says what to do, no traceback."""
    assert said(capsys, *arguments) == (2, f"scraper: {sentence}")


def test_a_run_needs_a_place_for_its_results(capsys: pytest.CaptureFixture[str], urls: Path) -> None:
    """Nothing is written to a folder that nobody named."""
    assert said(capsys, "images", str(urls)) == (
        2,
        "scraper: Say where the results go: scraper images LIST -o OUT.",
    )


def test_dashes_and_underscores_are_the_same() -> None:
    """In names and in choices, with = and without."""
    one = job("x", "--image-size", "64", "--resize-mode", "keep-ratio", "--encode-format=webp")
    other = job("x", "--image_size=64", "--resize_mode=keep_ratio", "--encode_format", "webp")
    assert one.pipeline == other.pipeline
    assert one.pipeline.settings["resize_mode"] == "keep_ratio"


def test_an_img2dataset_command_ports_by_changing_its_name() -> None:
    """Its main spellings mean what they meant there."""
    ported = job(
        "--url_list", "list.parquet", "--input_format", "parquet", "--url_col", "URL", "--caption_col", "TEXT",
        "--output_format", "webdataset", "--output_folder", "data", "--processes_count", "3",
        "--thread_count", "32", "--number_sample_per_shard=500",
        "--image_size", "256", "--resize_only_if_bigger", "True", "--resize_mode=keep_ratio",
        "--save_additional_columns", '["a","b"]', "--timeout", "10", "--retries=1",
        "--compute_hash", "sha256", "--distributor=multiprocessing", "--incremental_mode", "incremental",
        "--subjob_size", "1000", "--enable_wandb", "False", "--extract_exif", "True", "--oom_shard_count", "5",
        "--max_shard_retry", "3", "--disallowed_header_directives", '["noai","noindex"]',
    )  # fmt: skip
    config = ported.config
    assert (ported.inputs, ported.out) == (["list.parquet"], "data")
    assert (config.pool.workers, config.permits.concurrency) == (3, 32)
    assert config.source.save_additional_columns == ("a", "b")
    assert (config.source.url_col, config.source.caption_col, config.source.input_format) == (
        "URL",
        "TEXT",
        "parquet",
    )
    assert (config.fetch.timeout_s, config.retry.retries) == (10, 1)
    assert config.politeness.opt_outs == ("noai", "noindex")
    assert ported.pipeline.settings["resize_only_if_bigger"] is True
    assert ported.pipeline.settings["number_sample_per_shard"] == 500


def test_nothing_may_be_said_as_img2dataset_says_it() -> None:
    """Options that hold None there say nothing here, with a space or an equals sign; so do its switches."""
    said = [
        "--bbox_col",
        "None",
        "--compute_hash=None",
        "--caption_col",
        "None",
        "--verify_hash",
        "None",
        "list.txt",
    ]
    assert img2dataset.ported(said) == ["list.txt"]
    assert img2dataset.ported(["--caption_col", "TEXT"]) == ["--caption_col", "TEXT"]


def test_no_option_of_ours_is_passed_over() -> None:
    """What is dropped from an img2dataset command is no option here; a value of another option is left alone."""
    ours = names_of(each for kind in (load("images").options, *SHARED) for each in options_of(kind))
    assert not set(ours) & set(img2dataset.NO_COUNTERPART)
    assert img2dataset.ported(["a", "--subjob_size", "9", "b", "--", "--subjob_size", "x"]) == [
        "a", "b", "--", "--subjob_size", "x",
    ]  # fmt: skip


def test_switches_take_values_too() -> None:
    """--switch, --switch=false and --switch False; the word after a bare switch stays a list."""
    assert job("x", "--resize-only-if-bigger").pipeline.settings["resize_only_if_bigger"] is True
    assert job("x", "--resize-only-if-bigger=false").pipeline.settings["resize_only_if_bigger"] is False
    assert job("--resize-only-if-bigger", "False", "x").pipeline.settings["resize_only_if_bigger"] is False
    assert job("--overwrite", "x").inputs == ["x"]


@pytest.mark.parametrize(
    ("typed", "failed"),
    [
        (["--retry-failed", "a.txt"], ()),
        (["--retry_failed", "a.txt"], ()),
        (["a.txt", "--retry-failed"], ()),
        (["--retry-failed=dns,http.429", "a.txt"], ("dns", "http.429")),
        (["--retry-failed=dns", "--retry-failed=timeout", "a.txt"], ("dns", "timeout")),
    ],
)
def test_a_list_is_not_taken_for_a_class(typed: list[str], failed: tuple[str, ...]) -> None:
    """--retry-failed takes a value only behind an equals sign: what follows it stays the list."""
    understood = job(*typed, "-o", "out")
    assert list(understood.inputs) == ["a.txt"]
    assert understood.config.again == Again(failed)


def test_lists_are_named_in_order() -> None:
    """Several lists, stdin among them, and what follows a double dash."""
    assert job("b", "-", "a", "-o", "out").inputs == ["b", "-", "a"]
    assert job("-o", "out", "--", "-strange", "-").inputs == ["-strange", "-"]


def test_repeated_options_collect() -> None:
    """--header may be given as often as wanted."""
    given = job("x", "--header", "A: 1", "--header", "B: 2, 3")
    assert dict(given.config.fetch.headers) == {"a": "1", "b": "2, 3"}


def test_what_was_typed_is_all_that_is_typed() -> None:
    """The parser reports no defaults, so that weaker layers can be seen below it."""
    command = Command("x", "", "LIST...", (("", PlaceOptions), ("", RunOptions)))
    parsed = parse(command, ["a", "--workers", "2"])
    assert parsed is not None
    assert (parsed.operands, parsed.typed) == (["a"], {"workers": "2"})


@pytest.mark.parametrize("name", ["images", "files", *BUILT_IN])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """--help and `help NAME` say the same, with an example that begins with the command."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: scraper {name}" in shown
    assert f"  scraper {name}" in shown.partition("Examples:")[2]
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == shown


def test_the_help_shows_defaults_from_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """What the help says is what happens."""
    main(["images", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "[default: 64]" in words
    assert "[default: 64M]" in words
    assert "[default: one per core]" in words


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_lists_everything(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Each pipeline, each command, and lines to type."""
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ("images", "files", *BUILT_IN))
    assert "Examples:" in shown


def test_a_dry_run_reads_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], urls: Path, tmp_path: Path
) -> None:
    """It counts rows and hosts, shows the settings without credentials, and makes no folder."""
    out = tmp_path / "out"
    secrets = [
        "--header", "Authorization: Bearer open-sesame", "--auth", "https://a.test=me:open-sesame",
        "--proxy", "http://me:open-sesame@proxy.test:3128",
    ]  # fmt: skip
    code = main(["images", str(urls), "-o", str(out), "--dry-run", *secrets])
    shown = capsys.readouterr().out
    assert code == 0
    assert "3 rows, none bad, 2 hosts" in shown
    assert "2  a.test" in shown
    assert f"{out}: new" in shown
    settings = dict(line.split(maxsplit=1) for line in shown.partition("Settings:\n")[2].splitlines() if line)
    expected = {"image-size": "256", "encode-quality": "95", "timeout": "60s", "max-bytes": "64M",
                "connect-timeout": "10s", "resize-only-if-bigger": "false", "robots": "obey", "per-host": "8",
                "user-agent": f"scraper/{__version__} (+{HOMEPAGE})", "allow-net": "-",
                "host-wait": "60s"}  # fmt: skip
    assert expected == {name: settings[name] for name in expected}
    assert settings["workers"].isdigit()
    assert "Authorization: ***" in shown
    assert (settings["auth"], settings["proxy"]) == ("https://a.test=***", "http://***@proxy.test:3128")
    assert "open-sesame" not in shown
    assert not out.exists()


def test_a_dry_run_counts_what_is_no_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row that cannot be asked for is shown with its line, and has no host."""
    path = tmp_path / "list.jsonl"
    path.write_text('{"url": "http://a.test/"}\n{broken\n{"url": "a.test/1"}\n{"url": "ftp://b.test/"}\n')
    assert main(["files", str(path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 rows, 3 bad (input.invalid 1, url.invalid 1, url.scheme 1), 1 host\n" in shown
    assert all(f"line {number}:" in shown for number in (2, 3, 4))


@pytest.mark.parametrize(
    ("place", "words"), [("letter", "is a file"), ("full", "holds something else (letter.txt)")]
)
def test_a_dry_run_refuses_what_the_run_would(
    capsys: pytest.CaptureFixture[str], urls: Path, tmp_path: Path, place: str, words: str
) -> None:
    """A folder that cannot be used is refused with the run's own sentence, before the list is read."""
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    code, sentence = said(capsys, "images", str(urls), "-o", str(tmp_path / place), "--dry-run")
    assert (code, words in sentence) == (2, True)


async def test_a_dry_run_knows_what_is_done(
    capsys: pytest.CaptureFixture[str], urls: Path, tmp_path: Path
) -> None:
    """It says how many rows are left, and refuses settings other than those the results were made with."""
    out = tmp_path / "out"
    command = ["images", str(urls), "-o", str(out), "--dry-run"]
    columns = {"caption_col": None, "save_additional_columns": []}
    await a_run(out, RunMeta("images", {**job("x").pipeline.settings, **columns}, [str(urls)]))
    with OutputFolder(out):
        code, sentence = said(capsys, *command)
        assert (code, "Another run is writing" in sentence) == (4, True)
    before = written(out)
    assert main(command) == 0
    assert f"{out}: 2 rows have ended, 1 to go\n" in capsys.readouterr().out
    code, sentence = said(capsys, *command, "--image-size", "64")
    assert (code, "image_size was 256 and is now 64" in sentence) == (2, True)
    assert main([*command, "--image-size", "64", "--overwrite"]) == 0
    assert "2 rows of an earlier run would be deleted first" in capsys.readouterr().out
    assert before == written(out)


def written(out: Path) -> dict[str, bytes]:
    """What is in a folder; what SQLite's readers share is not ours to count."""
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_an_empty_list_is_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str]) -> None:
    """Whoever gives a list without rows meant another one; nothing is made of it."""
    path = tmp_path / "empty.txt"
    path.write_text("# nothing\n\n")
    code, sentence = said(capsys, "files", str(path), "-o", str(tmp_path / "out"), *flags)
    assert (code, sentence.endswith("has no rows.")) == (2, True)
    assert not (tmp_path / "out").exists()


def test_resume_needs_what_is_stored() -> None:
    """Every option that shapes the run is kept, as JSON, with absolute lists; credentials are not."""
    kept = job(
        "list.csv", "-", "-o", "out", "--header", "X-A: 1", "--header", "Cookie: secret=1", "--timeout", "5s",
        "--progress", "none", "--auth", "https://a.test=me:secret=2", "--proxy", "http://me:secret=3@b.test",
        "--allow-net", "127.0.0.0/8", "--hosts", "*.a.test delay=1s", "--robots", "ignore",
    ).stored  # fmt: skip
    stored = json.loads(json.dumps(kept))
    assert stored["inputs"] == [str(Path.cwd() / "list.csv"), "-"]
    assert stored["left_out"] == {
        "header": ["Cookie"],
        "auth": ["https://a.test"],
        "proxy": ["http://***@b.test"],
    }
    options = stored["options"]
    assert (options["header"], options["auth"], options.get("proxy")) == (["X-A: 1"], [], None)
    assert (options["allow_net"], options["hosts"]) == (["127.0.0.0/8"], ["*.a.test delay=1s"])
    assert (options["timeout"], options["robots"]) == (5, "ignore")
    assert not {"progress", "out", "dry_run", "set", "retry_failed", "refresh"} & set(options)
    assert "secret=" not in json.dumps(stored)


def test_a_resumed_job_is_the_same_job() -> None:
    """What was stored, below what is typed now, gives the same pipeline and config."""
    first = job(
        "x", "--image-size", "64", "--header", "A: 1", "--concurrency", "3", "--caption-col", "c",
        "--auth", "netrc", "--hosts", "*.a.test per_host=2 delay=1s", "--opt-outs", "off",
        "--allow-net", "::1,127.0.0.0/8", "--insecure", "[::1]", "--client-cert", "a.test=/c.pem,/c.key",
        "--contact", "me@a.test", "--pace", "fixed", "--downgrade", "refuse", "--cookie-jar", "per-host",
        "--bandwidth", "1M",
    )  # fmt: skip
    options = json.loads(json.dumps(first.stored))["options"]
    again = understand(load("images"), ["x", "-o", "out"], [], options)
    assert again is not None
    assert (again.pipeline, again.config) == (first.pipeline, first.config)
    changed = understand(load("images"), ["x", "--concurrency", "9"], [], options)
    assert changed is not None
    assert changed.config.permits.concurrency == 9


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (RunMeta("images", inputs=["-"], options={"inputs": ["-"], "options": {}}), "came from a pipe"),
        (RunMeta("images", inputs=["/dev/fd/63"], options={"inputs": ["x"], "options": {}}), "came from a pipe"),
        (RunMeta("images", inputs=["list.txt"], fingerprint="f"), "was started by a program"),
    ],
)
async def test_resume_says_what_it_cannot_go_on_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, meta: RunMeta, words: str
) -> None:
    """A list that is gone and a run of a program's are refused with what does go on; the report agrees."""
    await a_run(tmp_path, meta)
    code, sentence = said(capsys, "resume", str(tmp_path))
    assert (code, words in sentence) == (2, True)
    assert "scraper resume" not in render_terminal(Report.of(tmp_path))


SECRETS = {
    "header": (["--header", "Cookie: open=sesame"], "--header Cookie", "--header 'Cookie: …'"),
    "auth": (
        ["--auth", "https://a.test=me:open=sesame"],
        "--auth https://a.test",
        "--auth 'https://a.test=USER:PASSWORD'",
    ),
    "proxy": (["--proxy", "http://me:open=sesame@b.test"], "--proxy http://***@b.test", "--proxy URL"),
}
"""How a secret is said, what it is called when it is missing, and what is to be added."""


@pytest.mark.parametrize("option", list(SECRETS))
async def test_resume_asks_for_what_is_not_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, urls: Path, option: str
) -> None:
    """A run that had a secret goes on only with it: its rows would fail for want of it."""
    out, (typed, name, again) = tmp_path / "out", SECRETS[option]
    begun = job(str(urls), *typed)
    fingerprint = open_source([urls], SourceConfig()).fingerprint()
    columns = {"caption_col": None, "save_additional_columns": []}
    await a_run(
        out, RunMeta("images", {**begun.pipeline.settings, **columns}, [str(urls)], fingerprint, begun.stored)
    )
    assert said(capsys, "resume", str(out), "--dry-run") == (
        2,
        f"scraper: The run had a secret in {name}, which is not kept on disk; add {again} to resume.",
    )
    assert main(["resume", str(out), "--dry-run", *typed]) == 0
    assert "sesame" not in capsys.readouterr().out
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"sesame" not in kept


async def test_resume_knows_what_earlier_versions_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, urls: Path
) -> None:
    """They kept the names of headers alone, under another name."""
    options = {"inputs": [str(urls)], "secret_headers": ["Cookie"], "options": {}}
    await a_run(tmp_path / "out", RunMeta("images", {}, [str(urls)], "f", options))
    code, sentence = said(capsys, "resume", str(tmp_path / "out"), "--dry-run")
    assert (code, "The run had a secret in --header Cookie" in sentence) == (2, True)


async def test_resume_goes_on_asking_again(capsys: pytest.CaptureFixture[str], tmp_path: Path, urls: Path) -> None:
    """A pass that was cut short is resumed as it was said, unless something else is said now."""
    out = tmp_path / "out"
    columns = {"caption_col": None, "save_additional_columns": []}
    meta = RunMeta(
        "images",
        {**job("x").pipeline.settings, **columns},
        [str(urls)],
        open_source([urls], SourceConfig()).fingerprint(),
        {"inputs": [str(urls)], "options": {}},
    )
    await a_run(out, meta)
    async with Ledger.open(OutputFolder(out).ledger_path) as ledger:
        await ledger.begin(meta, Again(("http",)))
    for typed, words in (
        ([], "2 rows have ended, 1 of them to be asked again, 1 to go"),
        (["--retry-failed=dns"], "2 rows have ended, 1 to go"),
        (["--refresh"], "2 rows have ended, 2 of them to be asked again, 1 to go"),
        (["--overwrite"], "2 rows of an earlier run would be deleted first"),
    ):
        assert main(["resume", str(out), "--dry-run", *typed]) == 0
        assert f"{out}: {words}\n" in capsys.readouterr().out


async def test_resume_goes_on_with_what_a_plain_run_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, urls: Path
) -> None:
    """A pass that was cut short before a plain run is resumed all the same."""
    meta = RunMeta(
        "images",
        {**job("x").pipeline.settings, "caption_col": None, "save_additional_columns": []},
        [str(urls)],
        open_source([urls], SourceConfig()).fingerprint(),
        {"inputs": [str(urls)], "options": {}},
    )
    out = tmp_path / "out"
    await a_run(out, meta)
    for again, exit_code in ((Again(()), 130), (Again(), 1)):
        async with Ledger.open(OutputFolder(out).ledger_path) as ledger:
            await ledger.begin(meta, again)
            await ledger.end(exit_code)
    assert main(["resume", str(out), "--dry-run"]) == 0
    assert "1 of them to be asked again" in capsys.readouterr().out


def test_resume_of_nothing_is_refused(tmp_path: Path) -> None:
    """A folder without a run has nothing to go on with."""
    with pytest.raises(UsageError, match="There is no run in"):
        resume(str(tmp_path), [])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OutputLocked("Another run is writing to out."), 4, "scraper: Another run is writing to out."),
        (SinkFailed("Cannot write: disk full."), 3, "scraper: Cannot write: disk full."),
        (ExceptionGroup("", [SinkFailed("In a group.")]), 3, "scraper: In a group."),
        (UsageError("See http://me:pw@a.test/ \x1b[2J"), 2, r"scraper: See http://***@a.test/ \x1b[2J"),
    ],
)
def test_errors_on_purpose_are_said_as_they_are(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str
) -> None:
    """The exit code is the error's own; passwords and control characters stay out of the line."""
    assert voice.explain(error) == code
    assert capsys.readouterr().err.strip() == words


@pytest.mark.parametrize("error", [ValueError("odd"), InternalFault("odd")])
def test_a_fault_of_ours_is_one_sentence_and_a_log_entry(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, error: Exception
) -> None:
    """Exit status 3; the traceback is in the log and not on the screen."""
    log = tmp_path / "log.jsonl"
    assert voice.explain(error, log) == 3
    shown = capsys.readouterr().err
    assert (shown.count("\n"), "odd" in shown, str(log) in shown, "Traceback" in shown) == (1, True, True, False)
    assert json.loads(log.read_text())["level"] == "critical"


def test_messages_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--log-format json: each line on stderr is an object."""
    voice.speak("json")
    voice.say("Stopping.", "warning")
    assert json.loads(capsys.readouterr().err) == {"level": "warning", "event": "Stopping."}


@pytest.mark.parametrize(
    "arguments", ["--version", "--help", "images --help", "results OUT", "files URLS --dry-run"]
)
def test_a_full_disk_behind_stdout_is_said(tmp_path: Path, urls: Path, arguments: str) -> None:
    """Output that cannot be written is one sentence and exit status 3, whichever command it is."""
    asyncio.run(a_run(tmp_path / "out", RunMeta("images")))
    words = arguments.replace("OUT", str(tmp_path / "out")).replace("URLS", str(urls)).split()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scraper", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    sentence = "scraper: Standard output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (3, sentence)


def test_the_tracker_is_told_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python starts beside our workers does not write over the prompt; its other warnings are said."""
    monkeypatch.setattr(sys, "warnoptions", [])
    silence_the_tracker()
    warn = (
        "import warnings; warnings.warn('resource_tracker: There appear to be 3 leaked'); warnings.warn('other')"
    )
    flags = [f"-W{each}" for each in sys.warnoptions]
    done = subprocess.run([sys.executable, *flags, "-c", warn], capture_output=True, text=True, check=True)
    assert "leaked" not in done.stderr.replace(warn, "")
    assert "UserWarning: other" in done.stderr


def test_the_help_names_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    """img2dataset's names stand in the help; resume's says where the options are."""
    main(["images", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Also --thread-count." in words
    main(["resume", "--help"])
    assert "'scraper images --help' lists them" in " ".join(capsys.readouterr().out.split())


def test_python_dash_m_is_the_same_program() -> None:
    """``python -m scraper`` works where the script is not on PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "scraper", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("scraper ")


def test_a_reader_that_leaves_is_no_error() -> None:
    """`scraper … | head -0` ends quietly."""
    command = f"{sys.executable} -m scraper images --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["json", "cyclopts", "uvloop"])
def test_an_interrupt_before_anything_is_begun_ends_it_quietly(tmp_path: Path, urls: Path, module: str) -> None:
    """Ctrl-C while modules are imported, early or late: exit 130, no traceback, nothing done."""
    (tmp_path / f"{module}.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-m", "scraper", "files", str(urls), "-o", str(out)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr, out.exists()) == (130, "", "", False)


@pytest.mark.parametrize("command", ["results", "report", "files"])
def test_an_interrupt_later_on_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    urls: Path,
    command: str,
) -> None:
    """Once a command is under way, Ctrl-C lets it clean up first; then the signal does what it did before."""
    asyncio.run(a_run(tmp_path / "out", RunMeta("images")))

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("scraper.results.write_results", interrupted)
    monkeypatch.setattr("scraper.report.Report.of", interrupted)
    monkeypatch.setattr("scraper.cli.dry.dry_run", interrupted)
    arguments = [str(urls), "--dry-run"] if command == "files" else [str(tmp_path / "out")]
    before = signal.getsignal(signal.SIGINT)
    assert said(capsys, command, *arguments) == (130, "Interrupted.")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_is_ignored_stays_ignored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, urls: Path
) -> None:
    """As under ``nohup`` and for a job in the background of a script."""
    seen: list[object] = []
    monkeypatch.setattr("scraper.cli.dry.dry_run", lambda *_: seen.append(signal.getsignal(signal.SIGINT)) or 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["files", str(urls), "--dry-run"]) == 0
        assert seen == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGINT, before)
