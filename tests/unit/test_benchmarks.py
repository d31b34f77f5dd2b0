"""The arithmetic and the checks of the benchmarks; nothing is measured here."""

from __future__ import annotations

import io
import itertools
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package, which is not installed and lies beside the tests."""
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.__main__
    import benchmarks.measuring

    return benchmarks


def test_spread_shows_median_and_extremes(benchmarks: ModuleType) -> None:
    """A figure is its median with the least and the most; one run is itself, none is a dash."""
    spread = benchmarks.figures.spread
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0-3.0)"
    assert spread([0.0214], 3) == "0.021"
    assert spread([12345.6], 0) == "12,346"
    assert spread([]) == "-"


def test_ratios_are_taken_pair_by_pair(benchmarks: ModuleType) -> None:
    """A ratio compares runs that had the same neighbours, not two medians."""
    assert benchmarks.figures.ratios([10.0, 30.0], [5.0, 10.0]) == [2.0, 3.0]


def test_steady_leaves_start_and_end_out(benchmarks: ModuleType) -> None:
    """Start-up, which both runs have, does not count; a pair that was turned round by noise is left out."""
    assert benchmarks.figures.steady((500, 2000), [(3.0, 6.0), (4.0, 4.0)]) == [500.0]


def test_slope_of_a_line(benchmarks: ModuleType) -> None:
    """Growth is the line's slope, and none where there is nothing to draw a line through."""
    assert benchmarks.figures.slope([(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]) == pytest.approx(2.0)
    assert benchmarks.figures.slope([(1.0, 5.0)]) == 0.0


@pytest.mark.parametrize(("values", "word"), [([2.0, 1.0, 0.1], "met"), ([0.5], "MISSED"), ([], "not compared")])
def test_the_median_is_judged(benchmarks: ModuleType, values: list[float], word: str) -> None:
    """The verdict follows the median, and says so when there was nothing to compare with."""
    met = benchmarks.figures.judged(values, lambda it: it >= 1.0)
    assert benchmarks.figures.verdict("files", "x", "at least 1.0", met, is_valid=True).endswith(f": {word}")


def test_what_did_not_do_its_work_is_not_judged(benchmarks: ModuleType) -> None:
    """A side that fails early is fast and wrong: there is no verdict, and nothing is written."""
    run = benchmarks.measuring.Run(0.1, 0.1, 1.0, 1.0, (), 3)
    done = benchmarks.setting.Done(run, 9)
    assert not benchmarks.setting.is_whole([[done]], 10)
    assert benchmarks.setting.is_whole([[done]], 9)
    assert benchmarks.figures.verdict("files", "x", "y", True, is_valid=False).endswith(
        ": INVALID, rows are missing"
    )


def test_writing_replaces_only_what_is_between_the_marks(benchmarks: ModuleType) -> None:
    """The page around a benchmark's part stays, however often it is written."""
    page = "before\n<!-- files: begin -->\nold\n<!-- files: end -->\nafter\n"
    once = benchmarks.figures.replaced(page, "files", "new")
    assert once == "before\n<!-- files: begin -->\n\nnew\n\n<!-- files: end -->\nafter\n"
    assert benchmarks.figures.replaced(once, "files", "new") == once
    with pytest.raises(ValueError, match="marks"):
        benchmarks.figures.replaced(page, "images", "new")


def test_the_page_can_be_written(benchmarks: ModuleType) -> None:
    """docs/benchmarks.md has the marks of every benchmark that --write looks for."""
    page = benchmarks.__main__.PAGE.read_text(encoding="utf-8")
    for name in benchmarks.__main__.BENCHMARKS:
        assert "what was measured" in benchmarks.figures.replaced(page, name, "what was measured")


def test_growth_leaves_out_what_is_filled_once(benchmarks: ModuleType) -> None:
    """Neither the beginning of a run nor the report at its end is growth."""
    points = [(float(n), 100.0 + (n < 5) * n + (n >= 9) * 50) for n in range(10)]
    assert benchmarks.memory.settled(points) == points[5:9]


def test_a_table_has_a_column_for_each_name(benchmarks: ModuleType) -> None:
    """A finding is shown as Markdown that lines up."""
    lines = benchmarks.figures.table(["", "scraper"], [["files/s", "1"]]).splitlines()
    assert lines == ["|         | scraper |", "| ------- | ------- |", "| files/s | 1       |"]


def test_only_pictures_of_the_right_size_count(benchmarks: ModuleType, tmp_path: Path) -> None:
    """A tar's picture that was not resized is no success, and an unfinished tar counts nothing."""
    for name in ("00000.tar", "00001.tar.part"):
        with tarfile.open(tmp_path / name, "w") as tar:
            for key, size in (("0", (341, 256)), ("1", (1280, 960))):
                data = io.BytesIO()
                Image.new("RGB", size).save(data, "JPEG")
                member = tarfile.TarInfo(f"{key}.jpg")
                member.size = data.tell()
                tar.addfile(member, io.BytesIO(data.getvalue()))
    assert benchmarks.images.pictures_in(tmp_path) == 1


def test_only_files_of_the_right_length_count(benchmarks: ModuleType, tmp_path: Path) -> None:
    """A file that is cut off or missing is no success, in our layout and in curl's."""
    (tmp_path / "00000").mkdir()
    for row, size in ((0, 5), (1, 4)):
        (tmp_path / "00000" / f"{row:09d}.jpg").write_bytes(b"x" * size)
        (tmp_path / str(row)).write_bytes(b"x" * size)
    assert benchmarks.files.ours_in([5, 5, 5], tmp_path) == 1
    assert benchmarks.files.curls_in([5, 5, 5], tmp_path) == 1


def test_emptying_keeps_names(benchmarks: ModuleType, tmp_path: Path) -> None:
    """Between runs the space is given back and no inode is."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 100)
    benchmarks.setting.empty(tmp_path)
    assert (tmp_path / "a" / "b").stat().st_size == 0


def test_curl_writes_a_file_for_each_row(benchmarks: ModuleType) -> None:
    """Each URL of a curl config has an output named by its row."""
    config = benchmarks.peers.curl_config(["http://h/a", "http://h/b"], Path("/o"))
    assert config == 'url = "http://h/a"\noutput = "/o/0"\nurl = "http://h/b"\noutput = "/o/1"\n'


def test_both_sides_of_images_are_told_the_same(benchmarks: ModuleType) -> None:
    """Size, mode, quality and shard are one decision, written to two command lines."""
    theirs = benchmarks.peers.img2dataset_command(Path("img2dataset"), Path("l"), Path("o"), 500)
    ours = benchmarks.peers.images_command(Path("l"), Path("o"), 500)
    told = dict(itertools.pairwise(ours))
    for name in ("image_size", "resize_mode", "encode_quality", "encode_format", "number_sample_per_shard"):
        assert f"--{name}={told['--' + name.replace('_', '-')]}" in theirs


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_run_counts_its_children(benchmarks: ModuleType, tmp_path: Path) -> None:
    """CPU of a process's child counts, also when the child outlives it; the status is the command's."""
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}]); sys.exit(3)"
    done = benchmarks.measuring.run([sys.executable, "-c", code], folder=tmp_path)
    assert done.status == 3
    assert done.cpu_s >= 0.3
    assert done.seconds < done.cpu_s + 30


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_run_is_interrupted(benchmarks: ModuleType, tmp_path: Path) -> None:
    """After its time a command gets a SIGINT, and its memory was looked at until then."""
    code = "import signal\ntry: signal.pause()\nexcept KeyboardInterrupt: raise SystemExit(130)"
    done = benchmarks.measuring.run([sys.executable, "-c", code], folder=tmp_path, stop_after_s=0.7)
    assert done.status == 130
    assert done.rss_mb > 1
    assert done.rss
