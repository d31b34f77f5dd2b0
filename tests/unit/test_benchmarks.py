"""The arithmetic and the checks of the benchmarks; nothing is measured here."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
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
    """Start-up and the report at the end do not count: only the time from a quarter to nine tenths does."""
    grew = [(0.0, 0.0), (5.0, 0.0), *((5.0 + n, 100.0 * n) for n in range(1, 11)), (99.0, 1_000.0)]
    assert benchmarks.figures.steady(grew, 2_000.0) == pytest.approx(200.0)


def test_steady_sees_through_steps(benchmarks: ModuleType) -> None:
    """Whoever writes in large pieces has the same rate as who writes in small ones, whenever it is looked at."""
    smooth = [(n / 20, n / 20) for n in range(401)]
    pieces = [(x, float(int(y / 2.5) * 2.5)) for x, y in smooth]
    assert benchmarks.figures.steady(pieces, 20.0) == pytest.approx(benchmarks.figures.steady(smooth, 20.0))


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)], [(0.0, 5.0), (1.0, 5.0)]])
def test_steady_is_not_known_of_what_did_not_grow(
    benchmarks: ModuleType, points: list[tuple[float, float]]
) -> None:
    """A run that wrote nothing has no rate, and breaks nothing."""
    assert benchmarks.figures.steady(points, 10.0) is None


def test_what_failed_is_not_compared(benchmarks: ModuleType) -> None:
    """A peer that crashes is fast: no ratio comes of a side that is missing, or has not all of its rows."""
    run = benchmarks.measuring.Run(2.0, 0.1, 1.0, 1.0, (), 0)
    whole, part = (benchmarks.setting.Done(run, ok) for ok in (10, 9))
    compared, rate = benchmarks.setting.compared, benchmarks.setting.rate
    assert compared([whole], [whole], 10, rate) == [1.0]
    assert compared([whole], [part], 10, rate) == []
    assert compared([part], [whole], 10, rate) == []
    assert compared([whole], [], 10, rate) == []
    assert compared([whole, whole], [whole, whole], 10, lambda _: None) == []


def test_rates_count_what_is_right(benchmarks: ModuleType) -> None:
    """Rows that are missing make nobody faster or cheaper."""
    done = benchmarks.setting.Done(benchmarks.measuring.Run(2.0, 1.0, 1.0, 1.0, (), 0), 5)
    assert benchmarks.setting.rate(done) == 2.5
    assert benchmarks.setting.cpu_ms(done) == 200.0
    assert benchmarks.setting.least([done], 10) == "5 of 10"


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
    for name in (*benchmarks.__main__.BENCHMARKS, "duration"):
        assert "what was measured" in benchmarks.figures.replaced(page, name, "what was measured")


def test_growth_leaves_out_what_is_filled_once(benchmarks: ModuleType) -> None:
    """Neither the beginning of a run nor the report at its end is growth; a leak is."""
    flat = [(float(n), 100.0 - (n < 2) * 60 + (n >= 18) * 50) for n in range(20)]
    assert benchmarks.scale.growth(flat) == pytest.approx(0.0)
    assert benchmarks.scale.growth([(x, y + x) for x, y in flat]) == pytest.approx(19 / 109.5)
    assert benchmarks.scale.growth([]) == 0.0


def test_start_up_is_no_cost_of_a_row(benchmarks: ModuleType) -> None:
    """What a run of ten rows takes is taken from both, so that ten thousand rows and a million compare."""
    rows = 1_000 + benchmarks.scale.START_ROWS
    assert benchmarks.scale.per_row([1.0, 2.0], [2.0, 4.0], rows) == [1.0, 2.0]


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


def test_a_torn_tar_breaks_nothing(benchmarks: ModuleType, tmp_path: Path) -> None:
    """What a peer that crashed leaves behind counts as far as it can be read."""
    (tmp_path / "00000.tar").write_bytes(b"")
    (tmp_path / "00001.tar").write_bytes(b"not a tar at all" * 100)
    assert benchmarks.images.pictures_in(tmp_path) == 0


def test_only_files_of_the_right_length_count(benchmarks: ModuleType, tmp_path: Path) -> None:
    """A file that is cut off or missing is no success, in our layout and in a peer's."""
    (tmp_path / "00000").mkdir()
    for row, size in ((0, 5), (1, 4)):
        (tmp_path / "00000" / f"{row:09d}.jpg").write_bytes(b"x" * size)
        (tmp_path / str(row)).write_bytes(b"x" * size)
    assert benchmarks.files.files_in([5, 5, 5], benchmarks.downloaders._our_place, tmp_path) == 1
    assert benchmarks.files.files_in([5, 5, 5], str, tmp_path) == 1


def test_only_members_of_the_right_length_count(benchmarks: ModuleType, tmp_path: Path) -> None:
    """The same in our tars, where the rows are in the order they ended."""
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for key, size in ((2, 5), (0, 4)):
            member = tarfile.TarInfo(f"{key:09d}.jpg")
            member.size = size
            tar.addfile(member, io.BytesIO(b"x" * size))
            tar.addfile(tarfile.TarInfo(f"{key:09d}.json"))
    assert benchmarks.files.samples_in([5, 5, 5], tmp_path) == 1


def test_emptying_keeps_names(benchmarks: ModuleType, tmp_path: Path) -> None:
    """Between runs the space is given back and no inode is."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 100)
    benchmarks.setting.empty(tmp_path)
    assert (tmp_path / "a" / "b").stat().st_size == 0


def test_curl_writes_a_file_for_each_row(benchmarks: ModuleType) -> None:
    """Each URL of a curl config has an output named by its row."""
    config = benchmarks.downloaders.curl_config(["http://h/a", "http://h/b"], Path("/o"))
    assert config == 'url = "http://h/a"\noutput = "/o/0"\nurl = "http://h/b"\noutput = "/o/1"\n'


def test_a_peer_that_is_missing_is_a_line(
    benchmarks: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without curl, wget2, aria2c and requests there are lines that say so, with the package to install."""
    monkeypatch.setattr(benchmarks.downloaders.shutil, "which", lambda _: None)
    monkeypatch.setattr(benchmarks.peers, "environment", lambda *_: None)
    found = benchmarks.downloaders.theirs(tmp_path / "list.txt", tmp_path)
    missing = {each.name: each.why for each in found if isinstance(each, benchmarks.downloaders.Missing)}
    assert set(missing) == {"curl -Z", "wget2", "aria2c", "requests, threads"}
    assert "apt-get install aria2" in missing["aria2c"]
    assert [each.name for each in found if each.name not in missing] == ["aiohttp gather"]


def test_a_benchmark_that_breaks_costs_no_other(
    benchmarks: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what happened, and there is simply no finding of it."""

    def broken(_setting: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(benchmarks.__main__.BENCHMARKS, "files", broken)
    setting = benchmarks.setting.Setting(tmp_path / "files", None, 1, quick=True)
    assert benchmarks.__main__._measured("files", setting) is None
    assert "no such luck" in capsys.readouterr().err


def test_both_sides_of_images_are_told_the_same(benchmarks: ModuleType) -> None:
    """Size, mode, quality and shard are one decision, written to two command lines."""
    theirs = benchmarks.peers.img2dataset_command(Path("img2dataset"), Path("l"), Path("o"), 500)
    ours = benchmarks.peers.images_command(Path("l"), Path("o"), 500)
    told = dict(itertools.pairwise(ours))
    for name in ("image_size", "resize_mode", "encode_quality", "encode_format", "number_sample_per_shard"):
        assert f"--{name}={told['--' + name.replace('_', '-')]}" in theirs


def test_hash_and_exif_are_left_out_of_both(benchmarks: ModuleType) -> None:
    """Without extras img2dataset takes neither, and ours no EXIF; with them both take both, as by default."""
    theirs, ours = benchmarks.peers.img2dataset_command, benchmarks.peers.images_command
    told = theirs(Path("img2dataset"), Path("l"), Path("o"), 5, extras=False)
    assert {"--compute_hash=None", "--extract_exif=False"} <= set(told)
    assert {"--compute_hash=sha256", "--extract_exif=True"} <= set(theirs(Path("i"), Path("l"), Path("o"), 5))
    assert "--no-extract-exif" in ours(Path("l"), Path("o"), 5, extras=False)
    assert "--no-extract-exif" not in ours(Path("l"), Path("o"), 5)


def test_the_mix_is_what_the_page_says(benchmarks: ModuleType) -> None:
    """64 pictures, of the formats and sizes that are stated; a picture is the same every time."""
    mix = benchmarks.mix
    files = mix.files()
    assert len(files) == len(mix.FORMATS) == 64
    assert sorted(mix._format(number) for number in range(64)) == sorted(mix.FORMATS)
    assert [extension for extension, _ in files].count("webp") == 10
    small = next(number for number in range(64) if mix.SIZES[number % 8] == (400, 300))
    data = mix.picture(small)
    assert data == mix.picture(small)
    assert Image.open(io.BytesIO(data)).size == (400, 300)


def test_plots_are_the_same_for_the_same_figures(benchmarks: ModuleType) -> None:
    """No date and no random name is in them: a page that is written again shows what has changed."""
    pytest.importorskip("matplotlib")
    bars = benchmarks.figures.Bars("x", "t", "u", ["a", "b"], {"ours": [[1.0, 2.0], []], "theirs": [[], [3.0]]})
    lines = benchmarks.figures.Lines("y", "t", "s", "MB", {"": [(0.0, 1.0), (1.0, 2.0)]})
    for plot in (bars, lines):
        drawn = benchmarks.plots.drawn(plot)
        assert drawn == benchmarks.plots.drawn(plot)
        assert "<dc:date>" not in drawn
        assert len(drawn) < 40_000


def test_a_page_shows_plots_only_where_they_are(benchmarks: ModuleType) -> None:
    """On a terminal there are none; in the page each is a picture with a title."""
    plot = benchmarks.figures.Bars("speed", "how fast", "u", [], {})
    finding = benchmarks.figures.Finding("t", ["a"], [["b"]], [], "v", is_valid=True, plots=[plot])
    assert "![" not in benchmarks.figures.shown(finding)
    assert "![how fast](benchmarks/speed.svg)" in benchmarks.figures.shown(finding, "benchmarks")


def test_a_list_may_be_longer_than_the_pictures(benchmarks: ModuleType, tmp_path: Path) -> None:
    """There are as many names as rows, and those beyond the pictures are the same again, with their extensions."""
    server = benchmarks.serving.Server("http://h", "nginx", tmp_path)
    urls = server.lay_out([("jpg", lambda: b"one"), ("png", lambda: b"two")], 3)
    assert urls == ["http://h/mix/0.jpg", "http://h/mix/1.png", "http://h/mix/2.jpg"]
    assert (tmp_path / "www" / "mix" / "2.jpg").read_bytes() == b"one"
    assert benchmarks.serving.Server("http://h", "the built-in origin", None).lay_out([], 3) is None


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
    # Without site packages it is at its ``try`` in some 10 ms.
    done = benchmarks.measuring.run([sys.executable, "-I", "-S", "-c", code], folder=tmp_path, stop_after_s=0.7)
    assert done.status == 130
    assert done.rss_mb > 1
    assert done.rss


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_run_is_watched(benchmarks: ModuleType, tmp_path: Path) -> None:
    """What its output folder holds is seen while it grows, and at the end."""
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(tmp_path / "seen")
    code = "import pathlib\np = pathlib.Path('out/0.tar.part')\np.write_bytes(b'x')\nopen('seen').read()\n"
    code += "p.write_bytes(b'xyz'); p.rename('out/0.tar')"
    size_of = benchmarks.setting.growth(out, "*.tar*")

    def watch() -> float:
        size: float = size_of()
        if size == 1.0 and (tmp_path / "seen").exists():
            (tmp_path / "seen").write_text("go on")  # waits until the command reads
            (tmp_path / "seen").unlink()
        return size

    done = benchmarks.measuring.run([sys.executable, "-c", code], folder=tmp_path, watch=watch)
    assert done.watched[-1][1] == 3.0
    assert 1.0 in [size for _, size in done.watched]


@pytest.mark.slow
def test_stages_fit_the_engine(benchmarks: ModuleType, tmp_path: Path) -> None:
    """What ``stages`` puts together of our parts does its work: fetches, workers from memory, and bare runs."""
    from benchmarks import stage_programs
    from scraper.origin.process import OriginProcess

    body = tmp_path / "0.jpg"
    Image.new("RGB", (40, 30)).save(body)
    listed = tmp_path / "list.txt"
    assert asyncio.run(stage_programs.from_memory(20, [str(body)]))["ok"] == 20
    with OriginProcess() as origin:
        listed.write_text("".join(f"{origin.base}/bytes/100?tag={n}\n" for n in range(20)))
        assert asyncio.run(stage_programs.fetching(listed))["ok"] == 20
        assert stage_programs.whole("hand-off", listed, tmp_path / "out")["ok"] == 20
