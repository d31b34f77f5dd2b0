"""``run`` and ``arun``: what a program can ask for, and what it is told when that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import files
from scraper import Report, RunConfig, RunStopped, UsageError, Watch, arun, run
from scraper.config import FetchConfig
from scraper.ledger import LedgerReader
from scraper.origin.process import OriginProcess
from scraper.testing.server import LOOPBACK


@pytest.fixture
def urls(shared_origin: OriginProcess) -> list[str]:
    """Three pictures."""
    return [shared_origin.url(f"/img/thumb/{n}.jpg") for n in range(3)]


def test_run_reports_what_happened(tmp_path: Path, urls: list[str]) -> None:
    """A list in, files and a report out; the page is there as well."""
    report = run(files.build(), urls, out=tmp_path / "out", concurrency=2, timeout="20s", allow_net=LOOPBACK)
    assert (report.ok, report.failed, dict(report.by_class)) == (3, 0, {"ok": 3})
    assert sorted(path.name for path in (tmp_path / "out/00000").glob("*.jpg")) == [
        "000000000.jpg",
        "000000001.jpg",
        "000000002.jpg",
    ]
    assert (tmp_path / "out/report.html").is_file()


@pytest.mark.parametrize("wrap", [str, Path, lambda path: [path]], ids=["str", "Path", "list"])
def test_one_list_needs_no_brackets(tmp_path: Path, urls: list[str], wrap: object) -> None:
    """inputs= takes a path as well as several."""
    (tmp_path / "list.txt").write_text("\n".join(urls))
    listed = wrap(tmp_path / "list.txt")  # type: ignore[operator]
    report = run(files.build(), inputs=listed, out=tmp_path / "out", allow_net=LOOPBACK)
    assert report.ok == 3


async def test_arun_leaves_the_loop_alone(tmp_path: Path, urls: list[str]) -> None:
    """run() inside a running loop says what to write instead; arun() works there."""
    with pytest.raises(UsageError, match="await arun"):
        run(files.build(), urls, out=tmp_path / "out")
    assert (await arun(files.build(), urls, out=tmp_path / "out", allow_net=LOOPBACK)).ok == 3


def test_a_module_is_no_pipeline(tmp_path: Path, urls: list[str]) -> None:
    """The usual slip, passing the module, is answered with what to pass."""
    with pytest.raises(UsageError, match=r"pipelines\.images\.build\(\)"):
        run(files, urls, out=tmp_path / "out")  # type: ignore[arg-type] # that is the slip


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "Give the list once"),
        ({"urls": ["http://a.test/"], "inputs": "x"}, "Give the list once"),
        ({"urls": "http://a.test/"}, "for a single one write"),
        ({"urls": []}, "urls= has no rows"),
        ({"urls": ["http://a.test/"], "concurency": 3}, "concurrency"),
        ({"urls": ["http://a.test/"], "progress": "bar"}, "watch=Watch"),
        ({"urls": ["http://a.test/"], "config": RunConfig(FetchConfig("me")), "timeout": 3}, "not both: timeout"),
    ],
)
def test_slips_are_explained(tmp_path: Path, given: dict[str, object], sentence: str) -> None:
    """What cannot be meant is refused with a sentence, before the output folder exists."""
    with pytest.raises(UsageError, match=sentence):
        run(files.build(), out=tmp_path / "out", **given)  # type: ignore[arg-type] # by name
    assert not (tmp_path / "out").exists()


def test_another_list_is_refused(tmp_path: Path, urls: list[str]) -> None:
    """A generator has no fingerprint; its rows are compared with those of the output all the same."""
    run(files.build(), iter(urls), out=tmp_path / "out", allow_net=LOOPBACK)
    with pytest.raises(UsageError, match=r"holds results of another list \(row 0 was .*/0\.jpg and is now"):
        run(files.build(), iter(reversed(urls)), out=tmp_path / "out", allow_net=LOOPBACK)
    assert run(files.build(), iter(urls), out=tmp_path / "out", allow_net=LOOPBACK).ok == 3


def test_other_columns_are_refused(tmp_path: Path, urls: list[str]) -> None:
    """A dataset half with captions and half without would be two jobs in one folder."""
    rows = [{"url": url, "text": "x"} for url in urls]
    run(files.build(), rows, out=tmp_path / "out", allow_net=LOOPBACK)
    with pytest.raises(UsageError, match="caption_col was null and is now"):
        run(files.build(), rows, out=tmp_path / "out", caption_col="text", allow_net=LOOPBACK)


def test_an_error_of_the_callers_list(tmp_path: Path, urls: list[str]) -> None:
    """A generator that raises is named as what it is; the rows before it are kept, and not asked again."""

    def rows() -> Iterator[str]:
        yield from urls
        raise LookupError("no more of these")

    with pytest.raises(RunStopped, match="urls= raised LookupError: no more of these"):
        run(files.build(), rows(), out=tmp_path / "out", allow_net=LOOPBACK)
    with LedgerReader(tmp_path / "out/.scraper/ledger.sqlite") as reader:
        assert reader.counts() == {"ok": 3}


def test_the_ledger_notes_how_it_ended(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """More failures than allowed are exit 1 in the ledger's record of the run, and the list's length is there."""
    urls = [shared_origin.url("/img/thumb/1.jpg?status=404"), shared_origin.url("/img/thumb/2.jpg")]
    report = run(files.build(), urls, out=tmp_path / "strict", allow_net=LOOPBACK)
    assert [(each.exit, each.rows_total, each.rows) for each in report.runs] == [(1, 2, 2)]
    report = run(files.build(), urls, out=tmp_path / "lenient", max_failed=1, allow_net=LOOPBACK)
    assert [each.exit for each in report.runs] == [0]


async def test_stop_and_report_from_outside(tmp_path: Path, urls: list[str]) -> None:
    """A stop set before the first row ends the run with nothing done; the report comes before the page."""
    seen: list[tuple[Report, bool]] = []
    page = tmp_path / "out/report.html"
    watch = Watch(on_report=lambda report: seen.append((report, page.exists())))
    watch.stop.set()
    report = await arun(files.build(), urls, out=tmp_path / "out", watch=watch, allow_net=LOOPBACK)
    assert (report.rows, report.is_complete) == (0, False)
    assert [(one.rows, there) for one, there in seen] == [(0, False)]
    assert await asyncio.to_thread(page.exists)
