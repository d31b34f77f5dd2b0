"""The command line against a local web server: a run, the same again, an interrupt, and going on."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from scraper.cli import main
from scraper.errors import UsageError
from scraper.ledger import LedgerReader
from scraper.origin.process import OriginProcess
from scraper.report import Report, render_terminal, write_html
from scraper.results import write_results
from scraper.testing.server import LOOPBACK

SCRAPER = [sys.executable, "-m", "scraper"]
LOCAL = ["--allow-net", LOOPBACK]
QUIET = ["--progress", "none", "--workers", "1", *LOCAL]


def scraper(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [*SCRAPER, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def results(out: Path) -> list[dict[str, object]]:
    """What ``scraper results`` prints, parsed; made in this process, which is started already."""
    stream = io.StringIO()
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as reader:
        write_results(reader, stream)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def has_results(out: Path) -> bool:
    """Whether a run that goes on has recorded a row; early in it there is no ledger, or one without tables."""
    try:
        return bool(results(out))
    except UsageError:
        return False


@pytest.fixture
def urls(tmp_path: Path, shared_origin: OriginProcess) -> Path:
    """Five pictures and one that is not there."""
    path = tmp_path / "urls.txt"
    pictures = [shared_origin.url(f"/img/thumb/{number}.jpg") for number in range(5)]
    path.write_text("\n".join([*pictures, shared_origin.url("/img/thumb/5.jpg?status=404")]))
    return path


@pytest.mark.slow
def test_a_run_and_the_same_again(urls: Path, tmp_path: Path) -> None:
    """Every row is accounted for, a failure is exit 1 unless allowed, and the second run changes nothing."""
    out = tmp_path / "out"
    first = scraper("images", urls, "-o", out, *QUIET)
    assert first.returncode == 1, first.stderr
    assert "http.404" in first.stdout
    assert len(list(out.rglob("*.jpg"))) == 5
    rows = results(out)
    assert [row["class"] for row in rows] == ["ok"] * 5 + ["http.404"]
    assert [json.loads(line) for line in scraper("results", out).stdout.splitlines()] == rows
    again = scraper("images", urls, "-o", out, "--max-failed", "1", *QUIET)
    assert again.returncode == 0, again.stderr
    assert results(out) == rows


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_other_settings_for_the_same_output_are_explained(urls: Path, tmp_path: Path) -> None:
    """An output is never mixed from two jobs; the results and their report stay as they were."""
    out = tmp_path / "out"
    scraper("files", urls, "-o", out, *QUIET)
    other = scraper("files", urls, "-o", out, "--output-format", "webdataset", *QUIET)
    assert other.returncode == 2
    assert "output_format was" in other.stderr
    assert "Traceback" not in other.stderr
    shown = scraper("report", out)
    assert (shown.returncode, "rows     6" in shown.stdout) == (0, True)
    csv = scraper("results", out, "--state", "failed", "--format", "csv").stdout.splitlines()
    assert len(csv) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_a_list_from_a_pipe(urls: Path, tmp_path: Path) -> None:
    """A dash reads standard input; resume cannot, and says what can."""
    out = tmp_path / "out"
    done = scraper("files", "-", "-o", out, "--max-failed", "1", *QUIET, stdin=urls.read_text())
    assert done.returncode == 0, done.stderr
    assert len(results(out)) == 6
    resumed = scraper("resume", out)
    assert resumed.returncode == 2
    assert "came from a pipe" in resumed.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    """It says how to go on, again and again, and that ends with every row accounted for, none fetched twice."""
    out, urls = tmp_path / "out", tmp_path / "urls.txt"
    with OriginProcess(latency_s=0.2) as origin:
        urls.write_text("\n".join(origin.url(f"/img/thumb/{each}.jpg") for each in range(60)))
        slowly = ["--concurrency", "2", *QUIET]
        first = ended_after(5, origin, signal.SIGINT, ["files", str(urls), "-o", str(out), *slowly])
        again = ended_after(15, origin, signal.SIGTERM, ["resume", str(out), *slowly])
        assert (first.returncode, again.returncode) == (130, 143)
        for each in (first, again):
            assert f"scraper resume {out}" in each.stderr
        assert 15 <= len(results(out)) < 60
        resumed = scraper("resume", out, "--concurrency", "64", "--per-host", "64", *QUIET)
        assert resumed.returncode == 0, resumed.stderr
        assert [row["row"] for row in results(out)] == list(range(60))
        # What was in flight at a signal was finished, not put back; and only the first run asked for robots.txt.
        assert (origin.stats()["total"], origin.stats()["robots"]) == (60, 1)


def ended_after(
    requests: int, origin: OriginProcess, number: signal.Signals, words: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """A command that gets a signal once the server has been asked so often."""
    command = [*SCRAPER, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        patience = threading.Event()
        while origin.stats()["total"] < requests and run.poll() is None:
            patience.wait(0.02)
        run.send_signal(number)
        shown, said = run.communicate(timeout=30)
    return subprocess.CompletedProcess(command, run.returncode, shown, said)


@pytest.mark.slow
def test_bad_places_are_refused(urls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence each, exit 2, and what was there stays as it was."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    empty = tmp_path / "empty"
    empty.mkdir()
    table = tmp_path / "table.csv"
    table.write_text("url,caption\nhttp://a.test/,one\n")
    for arguments, words in [
        (("files", tmp_path / "no.txt", "-o", tmp_path / "out"), "no.txt"),
        (("files", urls, "-o", full), "letter.txt"),
        (("files", urls, "-o", urls), "is a file"),
        (("files", table, "-o", tmp_path / "out", "--url-col", "link"), "link"),
        (("files", empty, "-o", tmp_path / "out"), "empty"),
    ]:
        code = main([*map(str, arguments), *QUIET])
        said = capsys.readouterr().err
        assert (code, said.count("\n")) == (2, 1), said
        assert words in said
    refused = scraper("files", tmp_path / "no.txt", "-o", tmp_path / "out", *QUIET)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert [each.name for each in full.iterdir()] == ["letter.txt"]


@pytest.mark.slow
def test_what_outlives_a_killed_run_says_nothing(tmp_path: Path) -> None:
    """Nothing is written over the prompt by the processes that clean up; the report says that it was killed."""
    out, urls = tmp_path / "out", tmp_path / "urls.txt"
    command = [*SCRAPER, "images", str(urls), "-o", str(out), "--robots", "ignore", *QUIET]
    with socket.create_server(("127.0.0.1", 0)) as server:  # never answers
        server.settimeout(30)
        urls.write_text(f"http://127.0.0.1:{server.getsockname()[1]}/1.jpg")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run, server.accept()[0]:
            assert run.stderr is not None
            run.kill()
            # The end of stderr comes when the last process that holds it has gone.
            assert run.stderr.read() == ""
    report = Report.of(out)
    assert "(process" not in render_terminal(report)
    write_html(report, out / "report.html")
    assert "killed (process" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_an_interrupted_list_from_a_pipe_is_not_resumed_in_words(
    tmp_path: Path, shared_origin: OriginProcess
) -> None:
    """What stands last says what does go on; a report made meanwhile says that the run is under way."""
    out = tmp_path / "out"
    command = [*SCRAPER, "files", "-", "-o", str(out), *QUIET]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin is not None
        run.stdin.write(shared_origin.url("/img/thumb/0.jpg") + "\n")
        run.stdin.flush()
        patience = threading.Event()
        while not has_results(out):
            assert run.poll() is None
            patience.wait(0.02)
        assert f"still running (process {run.pid})" in render_terminal(Report.of(out))
        run.send_signal(signal.SIGINT)
        # Waited for before the pipe is closed: a list that has come to its end is complete, and not interrupted.
        assert run.wait(timeout=30) == 130
        shown, said = run.communicate()
    write_html(Report.of(out), out / "report.html")
    for text in (shown, said, (out / "report.html").read_text()):
        assert "the same list piped in" in text
        assert "scraper resume" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("closed", ["<&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(urls: Path, tmp_path: Path, closed: str) -> None:
    """A service that starts us without stdin, stdout or stderr gets its pictures and an exit code all the same."""
    command = shlex.join([*SCRAPER, "images", str(urls), "-o", str(tmp_path / "out"), "--max-failed", "1", *QUIET])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], check=False, timeout=60)
    assert done.returncode == 0
    assert [row["class"] for row in results(tmp_path / "out")] == ["ok"] * 5 + ["http.404"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_too_few_descriptors_for_the_workers(urls: Path, tmp_path: Path) -> None:
    """They need more than they may have: one sentence says which limit to raise, and the rest is done later."""
    out = tmp_path / "out"
    command = shlex.join([*SCRAPER, "images", str(urls), "-o", str(out), *LOCAL, "--progress", "none"])
    few = ["sh", "-c", f"ulimit -n 64; exec {command} --workers 16 --concurrency 1"]
    refused = subprocess.run(few, capture_output=True, text=True, check=False, timeout=60)
    (said,) = [line for line in refused.stderr.splitlines() if line.startswith("scraper: ")]
    assert "internal fault" not in said
    assert (refused.returncode, "too many files open" in said, "ulimit -n" in said) == (3, True, True), (
        refused.stderr
    )
    resumed = scraper("resume", out, "--max-failed", "1", "--workers", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert [row["class"] for row in results(out)] == ["ok"] * 5 + ["http.404"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_a_terminal_that_lacks_letters(urls: Path, tmp_path: Path) -> None:
    """A name that the terminal cannot show is shown as well as it can, and changes nothing else."""
    out = tmp_path / "Fotos \u65e5"
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [*SCRAPER, "files", str(urls), "-o", str(out), "--max-failed", "1", "--progress", "plain", *LOCAL],
        check=False,
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert b"Fotos \\u65e5" in done.stdout
