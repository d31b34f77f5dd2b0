"""The report: what a job came to, from the ledger, as an object, as text, as a page."""

import html
import io
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

import scraper.report
from scraper.config import Again
from scraper.errors import MissingExtra, SinkFailed, UsageError
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.outdir import OutputFolder
from scraper.records import Outcome, Timings
from scraper.report import Report, plots, render_summary, render_terminal, write_html
from scraper.report import data as report_data
from scraper.units import show_count

HOSTILE = "https://user:hunter2@example.org/\"><script>alert(1)</script>\x1b[31m\u202e'"


def rows() -> list[Outcome]:
    """A hundred rows: 90 ok from two hosts, 6 failed, 4 skipped."""
    ok = [
        Outcome(
            n, f"https://h{n % 2}.example.org/{n}.jpg", "ok", 200, 1, 1_000 * (n + 1), path=f"{n:09d}.jpg",
            shard="00000.tar", timings=Timings(dns_ms=1, connect_ms=2, tls_ms=3, first_byte_ms=4, total_ms=10 + n),
        )
        for n in range(90)
    ]  # fmt: skip
    failed = [Outcome(n, f"https://h1.example.org/{n}", "http.404", 404, 1) for n in range(90, 94)]
    failed += [
        Outcome(94, HOSTILE, "dns.not_found", message=HOSTILE),
        Outcome(95, "javascript:alert(2)", "url.scheme"),
    ]
    return ok + failed + [Outcome(n, "https://h1.example.org/0.jpg", "duplicate.url") for n in range(96, 100)]


async def make(out: Path, outcomes: Sequence[Outcome], exit_code: int | None = 0) -> Path:
    """A run with these outcomes in two commits; killed if there is no exit code."""
    with OutputFolder(out) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            options = {"inputs": ["list.txt"], "options": {}}
            await ledger.begin(
                RunMeta("images", {"image_size": 256}, ["list.txt"], "f", options, "1.0", time.time())
            )
            await ledger.commit(outcomes[: len(outcomes) // 2], {})
            await ledger.commit(outcomes[len(outcomes) // 2 :], {})
            if exit_code is not None:
                await ledger.end(exit_code)
    return out


@pytest.fixture
async def out(tmp_path: Path) -> Path:
    """The folder of a complete run of ``rows()``."""
    return await make(tmp_path / "out", rows())


async def test_counts_add_up(out: Path) -> None:
    """Rows are ok + skipped + failed, in all and by class, and the exit code follows from the failures."""
    report = Report.of(out)
    assert (report.rows, report.ok, report.skipped, report.failed) == (100, 90, 4, 6)
    assert report.by_class == {"ok": 90, "duplicate.url": 4, "http.404": 4, "dns.not_found": 1, "url.scheme": 1}
    assert [report.exit_code(), report.exit_code(5), report.exit_code(6)] == [1, 1, 0]
    assert [one.outcome.row for one in report.failed_rows()] == list(range(90, 96))
    assert report.is_complete


async def test_sums(out: Path) -> None:
    """Hosts, sizes, percentiles and the split of time are those of the rows."""
    report = Report.of(out)
    assert report.bytes == sum(1_000 * n for n in range(1, 91))
    assert report.hosts_total == 2  # the host of a row that was never asked is none
    assert [(host.host, host.rows, host.ok, host.failed) for host in report.hosts][:2] == [
        ("h1.example.org", 53, 45, 4),
        ("h0.example.org", 45, 45, 0),
    ]
    assert sum(count for _, count in report.sizes) == 90
    assert [size for size, _ in report.sizes] == [1 << power for power in range(9, 17)]
    assert report.percentiles_ms == {50: 54.5, 90: 90.5, 99: 99.5}
    means = report.means
    assert (means.dns_ms, means.connect_ms, means.tls_ms, means.first_byte_ms) == (1, 2, 3, 4)
    assert means.body_ms == pytest.approx(sum(10 + n - 10 for n in range(90)) / 90)


async def test_rate_holds_every_row_once(out: Path) -> None:
    """The rate over time sums up to the rows, by state, and leaves no gap."""
    slots = Report.of(out).slots
    assert sum(slot.ok for slot in slots) == pytest.approx(90)
    assert sum(slot.failed for slot in slots) == pytest.approx(6)
    assert sum(slot.skipped for slot in slots) == pytest.approx(4)
    assert [slot.start_s for slot in slots] == pytest.approx([n * slots[0].seconds for n in range(len(slots))])


async def test_time_between_runs_is_not_running_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night between two runs neither counts as running time nor makes a gap in the plot."""
    now = 1_000.0
    monkeypatch.setattr("scraper.ledger.time.time", lambda: now)
    with OutputFolder(tmp_path / "out") as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            for run in range(2):
                await ledger.begin(RunMeta("images", started_at=now))
                for batch in range(10):
                    now += 3
                    start = 100 * run + 10 * batch
                    await ledger.commit([Outcome(row, "http://h/", "ok") for row in range(start, start + 10)], {})
                await ledger.end(130)
                now += 40_000
    report = Report.of(tmp_path / "out")
    assert report.seconds == pytest.approx(60)
    assert report.rate == pytest.approx(200 / 60)
    assert [slot.ok / slot.seconds for slot in report.slots] == pytest.approx([200 / 60] * len(report.slots))
    assert not report.is_complete


async def test_an_empty_ledger_has_a_report(tmp_path: Path) -> None:
    """A run that was stopped before its first commit reports zeros, on the terminal and as a page."""
    with OutputFolder(tmp_path) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(RunMeta("images", started_at=1_000.0))
    report = Report.of(tmp_path)
    assert (report.rows, report.rate, report.seconds, report.exit_code()) == (0, 0.0, 0.0, 0)
    assert "the last run was cut short" in render_terminal(report)
    write_html(report, tmp_path / "report.html")
    assert "killed (process" in (tmp_path / "report.html").read_text()


async def test_no_run_is_a_sentence(tmp_path: Path) -> None:
    """A folder without a run is a UsageError."""
    with pytest.raises(UsageError, match="There is no run"):
        Report.of(tmp_path)


async def test_it_shows_itself(out: Path) -> None:
    """The repr says the pipeline, the folder and the counts."""
    report = Report.of(out)
    assert repr(report).startswith(f"<Report images {out}: 100 rows, 90 ok, 4 skipped, 6 failed, ")


async def test_terminal_text_says_what_ended_how(out: Path) -> None:
    """Each class stands there with its count, whose doing it is and what it means, and where to look further."""
    text = render_terminal(Report.of(out))
    assert re.search(r"ok +90 +90\.0 %", text)
    assert re.search(r"http\.404 +4  server +The server answered with status 404\.", text)
    assert re.search(r"duplicate\.url +4  list ", text)
    assert "scraper results" in text
    assert "scraper resume" not in text
    assert "\x1b" not in text
    narrow = render_terminal(Report.of(out), width=60)
    assert max(map(len, narrow.partition("  failed rows")[0].splitlines())) <= 60


@pytest.mark.parametrize(
    ("exit_code", "words"), [(130, "interrupted"), (3, "stopped by an error"), (None, "killed")]
)
async def test_an_incomplete_run_says_how_to_go_on(tmp_path: Path, exit_code: int | None, words: str) -> None:
    """Until the list is done, terminal and page name the command that goes on, with the folder quoted."""
    out = await make(tmp_path / "my out", rows(), exit_code)
    report = Report.of(out)
    assert f"scraper resume '{out}'" in render_terminal(report)
    write_html(report, out / "report.html")
    page = html.unescape((out / "report.html").read_text())
    assert f"scraper resume '{out}'" in page
    assert words in page


async def test_the_page_is_one_file_that_asks_for_nothing(out: Path) -> None:
    """No script, no style sheet, no picture, no font from anywhere: what it shows is inside it."""
    write_html(Report.of(out), out / "report.html", some_pictures)
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert {source[:11] for source in re.findall(r'src="([^"]*)', page)} == {"data:image/"}
    assert re.findall(r"url\((?!#)", page) == []
    assert "default-src 'none'" in page
    assert page.count("<svg") == 4
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


async def test_strangers_text_is_only_text(out: Path) -> None:
    """A hostile URL or message is shown, escaped; it makes no element and no link, and its password is gone."""
    write_html(Report.of(out), out / "report.html", some_pictures)
    page = (out / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "hunter2" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "javascript:alert(2)" in page
    assert {link.split(":")[0] for link in re.findall(r'href="([^"#][^"]*)', page)} <= {"http", "https"}


async def test_the_same_ledger_gives_the_same_page(out: Path) -> None:
    """Two pages of one ledger are the same bytes, so that they can be compared."""
    write_html(Report.of(out), out / "report.html", some_pictures)
    first = (out / "report.html").read_bytes()
    write_html(Report.of(out), out / "report.html", some_pictures)
    assert first == (out / "report.html").read_bytes()


def some_pictures(out: Path, places: Sequence[tuple[str, str | None]]) -> Iterable[bytes | None]:
    """A picture, damaged bytes, or nothing, by turns."""
    written = io.BytesIO()
    Image.new("RGB", (400, 300), (200, 90, 40)).save(written, "JPEG")
    kinds = (written.getvalue(), b"GIF89a, or so", None, written.getvalue()[:200])
    return [kinds[int(path[:9]) % len(kinds)] for path, _ in places]


async def test_the_contact_sheet_leaves_out_what_is_no_picture(out: Path) -> None:
    """Pictures become small JPEGs in the order of rows; damaged and missing ones cost nothing."""
    report = Report.of(out)
    assert len(report.pictures) == report_data.PICTURES
    write_html(report, out / "report.html", some_pictures)
    shown = [int(row) for row in re.findall(r'alt="row (\d+)"', (out / "report.html").read_text())]
    assert shown == [one.row for one in report.pictures if one.row % 4 == 0]


async def test_a_reader_that_fails_costs_the_pictures_only(out: Path) -> None:
    """Without its pictures the page is still a page."""

    def gone(out: Path, places: object) -> Iterable[bytes | None]:
        raise FileNotFoundError

    write_html(Report.of(out), out / "report.html", gone)
    page = (out / "report.html").read_text()
    assert "<img" not in page
    assert page.rstrip().endswith("</html>")


async def test_a_page_that_cannot_be_written_leaves_nothing(out: Path) -> None:
    """A place that refuses the page is SinkFailed, and no half page stands anywhere."""
    (out / "report.html").mkdir()
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(SinkFailed, match="scraper report"):
        write_html(Report.of(out), out / "report.html")
    assert before == sorted(path.name for path in out.iterdir())


async def test_the_report_sees_a_run_under_way(tmp_path: Path) -> None:
    """While a run holds the ledger, its report can be made."""
    with OutputFolder(tmp_path) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(RunMeta("images", started_at=1_000.0))
            await ledger.commit(rows(), {})
            with LedgerReader(folder.ledger_path) as reader:
                report = Report.from_ledger(reader, tmp_path)
            assert report.rows == 100
            text = render_terminal(report)
            assert f"still running (process {os.getpid()})" in text
            assert "go on" not in text
            write_html(report, tmp_path / "report.html")
            page = (tmp_path / "report.html").read_text()
            assert f"running (process {os.getpid()})" in page
            assert "go on" not in page


async def test_only_the_last_run_can_be_running(tmp_path: Path) -> None:
    """A run without an end that another followed was killed, whatever is under way now."""
    with OutputFolder(tmp_path) as folder:
        for _ in range(2):
            async with Ledger.open(folder.ledger_path) as ledger:
                await ledger.begin(RunMeta("images", started_at=1_000.0))
        write_html(Report.of(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"(\w+) \(process", page) == ["killed", "running"]


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (RunMeta("files", inputs=["-"], options={"inputs": ["-"]}), "the same list piped in"),
        (RunMeta("files", inputs=["list.txt"], fingerprint="f"), "the same program again"),
        (RunMeta("files"), "the same program again"),
    ],
)
async def test_what_cannot_be_resumed_is_not_offered(tmp_path: Path, meta: RunMeta, words: str) -> None:
    """Where the list came from a pipe or a program, terminal and page say what goes on instead."""
    with OutputFolder(tmp_path) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(meta)
            await ledger.end(130)
    report = Report.of(tmp_path)
    write_html(report, tmp_path / "report.html")
    for text in (render_terminal(report), (tmp_path / "report.html").read_text()):
        assert words in text
        assert "scraper resume" not in text


async def test_an_interrupted_run_knows_how_much_there_was(tmp_path: Path) -> None:
    """Of how many rows is said where a run read the list to its end, and only until all have ended."""
    with OutputFolder(tmp_path) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(RunMeta("images", started_at=1_000.0))
            await ledger.commit(rows(), {})
            await ledger.end(130)
            assert " of " not in render_summary(Report.of(tmp_path))
            await ledger.end(130, 2_050)
            report = Report.of(tmp_path)
            assert re.search(r"rows +100 of 2,050   in", render_summary(report))
            write_html(report, tmp_path / "report.html")
            assert "<b>100</b><span>of 2,050 rows</span>" in (tmp_path / "report.html").read_text()
            await ledger.end(1, 100)
            assert " of " not in render_summary(Report.of(tmp_path))


META = RunMeta("images", inputs=["list.txt"], fingerprint="f", options={"inputs": ["list.txt"], "options": {}})


async def a_run(
    path: Path, again: Again, outcomes: Sequence[Outcome], exit_code: int | None, meta: RunMeta = META
) -> None:
    """A run that asks rows again, or none; killed if there is no exit code."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(meta, again)
        await ledger.commit(outcomes, {})
        if exit_code is not None:
            await ledger.end(exit_code)


@pytest.fixture
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without plots, for tests that make several: drawing takes a third of a second."""
    for name in ("rate", "classes", "time_split", "sizes"):
        monkeypatch.setattr(f"scraper.report.plots.{name}", lambda report: "")


def shown(out: Path) -> list[str]:
    """The report for a terminal, and the page's text."""
    report = Report.of(out)
    write_html(report, out / "report.html")
    return [render_terminal(report), html.unescape((out / "report.html").read_text())]


def failing(*numbers: int, class_: str = "http.500") -> list[Outcome]:
    """Rows that ended so."""
    return [Outcome(n, f"https://h1.example.org/{n}", class_, 500, 1) for n in numbers]


@pytest.mark.usefixtures("_without_plots")
@pytest.mark.parametrize(
    ("again", "ends", "words"),
    [
        (Again(()), {94: "ok", 90: "http.500", 91: "ok"}, "3 rows by --retry-failed: 2 ok now, 1 failed again"),
        (Again(("dns", "url")), {94: "http.404"}, "1 row by --retry-failed=dns,url: 0 ok now, 1 failed again"),
        (
            Again(refresh=True),
            dict.fromkeys(range(80), "ok.not_modified") | {80: "ok", 81: "http.404", 90: "robots.disallowed"},
            "83 rows by --refresh: 1 fetched anew, 80 not modified, 1 skipped, 1 failed",
        ),
    ],
)
async def test_what_came_of_asking_again_is_said(
    out: Path, again: Again, ends: Mapping[int, str], words: str
) -> None:
    """How many rows were asked again, by which option, and how they ended; also after later runs."""
    assert not any("again    " in text or "asked again" in text for text in shown(out))
    ledger = OutputFolder(out).ledger_path
    outcomes = [each for row, class_ in ends.items() for each in failing(row, class_=class_)]
    meta = RunMeta("images", {"image_size": 256}, ["list.txt"], "f")
    for how, rows_of in ((again, outcomes), (Again(), [])):
        await a_run(ledger, how, rows_of, 1, meta)
        terminal, page = shown(out)
        assert f"  again    {words}\n" in terminal
        assert f"<dt>asked again</dt><dd>{words}</dd>" in page


@pytest.mark.usefixtures("_without_plots")
async def test_a_pass_that_asked_nothing_says_nothing(tmp_path: Path) -> None:
    """A first run that was told to ask again has asked nothing again."""
    with OutputFolder(tmp_path) as folder:
        await a_run(folder.ledger_path, Again(refresh=True), failing(0), 1)
    assert not any("--refresh" in text for text in shown(tmp_path))


@pytest.mark.usefixtures("_without_plots")
@pytest.mark.parametrize(
    ("meta", "way_on"),
    [
        (META, "go on with: scraper resume {out}"),
        (
            RunMeta("images", inputs=["-"], options={"inputs": ["-"]}),
            "go on with the same command and --retry-failed, the same list piped in",
        ),
        (RunMeta("images"), "go on by starting the same program again, with --retry-failed"),
    ],
)
async def test_an_unfinished_pass_is_not_forgotten(tmp_path: Path, meta: RunMeta, way_on: str) -> None:
    """After a plain run, too, terminal and page say how many of its rows are left, and what goes on with it."""
    with OutputFolder(tmp_path) as folder:
        left = "--retry-failed was cut short with 2 rows left to ask"
        await a_run(folder.ledger_path, Again(), failing(0, 1, 2), 1, meta)
        assert not any("cut short" in text for text in shown(tmp_path))
        await a_run(folder.ledger_path, Again(()), failing(0), 130, meta)
        terminal, page = shown(tmp_path)
        assert f"  the last run was cut short; {left}; {way_on.format(out=tmp_path)}" in terminal
        await a_run(folder.ledger_path, Again(), [], 1, meta)
        terminal, page = shown(tmp_path)
        assert f"\n  {left}; {way_on.format(out=tmp_path)}" in terminal
        assert "ask again " not in terminal  # it would be another pass
        assert f"<dt>unfinished</dt><dd>{left}</dd>" in page
        assert way_on.format(out=tmp_path).removeprefix("go on with: ") in page
        async with Ledger.open(folder.ledger_path) as ledger:  # under way: nothing is known to be left over
            await ledger.begin(meta, Again(()))
            assert not any(left in text for text in shown(tmp_path))
            await ledger.commit(failing(1, 2), {})
            await ledger.end(1)
    assert not any("cut short" in text for text in shown(tmp_path))


@pytest.mark.usefixtures("_without_plots")
async def test_the_runs_are_counted_once(tmp_path: Path) -> None:
    """Terminal and page agree; a run that found nothing to do is listed, and counts neither there nor as time."""
    with OutputFolder(tmp_path) as folder:
        for outcomes, count in (
            (failing(0), 1),
            ([], 1),
            (failing(1), 2),
            ([], 2),
        ):
            await a_run(folder.ledger_path, Again(), outcomes, 1)
            terminal, page = shown(tmp_path)
            assert Report.of(tmp_path).working_runs == count
            assert re.findall(r"over (\d+) runs", terminal) == ["2"] * (count - 1)
            assert re.findall(r" · (\d+) runs", page) == ["2"] * (count - 1)
    assert re.findall(r"exit 1(.*)</dd>", page) == ["", ", no row ended"] * 2


@pytest.mark.usefixtures("_without_plots")
@pytest.mark.parametrize(("class_", "is_offered"), [("http.500", True), ("http.404", False)])
async def test_what_may_pass_is_offered_to_be_asked_again(tmp_path: Path, class_: str, is_offered: bool) -> None:
    """On the terminal and on the page, once all is done; not for what will fail again."""
    with OutputFolder(tmp_path) as folder:
        await a_run(folder.ledger_path, Again(), failing(0, class_=class_), 1)
    assert [f"scraper resume {tmp_path} --retry-failed" in text for text in shown(tmp_path)] == [is_offered] * 2


def test_classes_beyond_the_last_bar_are_counted_in_it() -> None:
    """A plot of some bars leaves no row out."""
    classes = {f"http.{status}": 1000 - status for status in range(400, 412)}
    drawn = plots.classes(Report(out=Path("out"), pipeline="images", by_class=classes))
    rest = 12 - plots.MOST_CLASSES + 1
    assert f"{rest} more classes" in drawn
    assert show_count(sum([*classes.values()][-rest:])) in drawn
    assert "http.406" in drawn
    assert "http.407" not in drawn


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
async def test_a_missing_library_is_named(out: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the page is refused with the line that installs it; object and text are there anyway."""
    for name in ("page", "plots"):
        monkeypatch.delitem(sys.modules, f"scraper.report.{name}", raising=False)
        monkeypatch.delattr(scraper.report, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    report = Report.of(out)
    assert render_terminal(report)
    with pytest.raises(MissingExtra, match=r"pip install 'scraper-pipelines\[report\]'"):
        write_html(report, out / "report.html")
    assert not (out / "report.html").exists()
