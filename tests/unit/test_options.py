"""What the user said becomes what a run needs: units, conversion, layers, resolution."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import images
from scraper import UsageError, option
from scraper.config import (
    Again,
    FetchConfig,
    HealthConfig,
    PermitConfig,
    PolitenessConfig,
    PoolConfig,
    RetryConfig,
    SourceConfig,
    SpaceConfig,
)
from scraper.options import InputOptions, RunOptions, from_settings, resolve
from scraper.options.again import check_again
from scraper.options.layers import Layers, merge
from scraper.options.near import likely
from scraper.options.schema import convert, names_of, options_of, taken
from scraper.options.shared import SHARED
from scraper.options.units import format_size, format_time, parse_size, parse_time

ALL = (images.Options, *SHARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One of each.

    Attributes:
        count: How many,
            over two lines.
        size: How large.
        wait: How long.
        mode: Which way.
        names: Which ones.
        on: Whether.
        label: What to call it.
    """

    count: int = 3
    size: int = option(1024, unit="size")
    wait: float = option(1.5, unit="time", alias=["pause"])
    mode: Literal["no_thing", "some"] = "some"
    names: tuple[str, ...] = option((), split=True)
    on: bool = False
    label: str | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500", 500),
        ("1k", 1024),
        ("1K", 1024),
        ("64M", 64 << 20),
        ("1.5G", 3 << 29),
        ("2 MiB", 2 << 20),
        ("7b", 7),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    """Steps of 1024, either case, with or without a B; plain numbers are bytes."""
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("30", 30), ("30s", 30), ("1.5m", 90), ("1h", 3600), ("2d", 172800)]
)
def test_times(text: str, expected: float) -> None:
    """A plain number is seconds."""
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "k", "1x", "1e9", "nan", "inf", "1 000", "0x10", "9" * 400, "٣"])
def test_what_is_neither_size_nor_time(text: str) -> None:
    """Anything else is refused with an example of what to write."""
    if text != "٣":  # a digit, though not one of ours: worth what it says
        with pytest.raises(UsageError, match="is no size; write"):
            parse_size(text)
        with pytest.raises(UsageError, match="is no time; write"):
            parse_time(text)


@given(st.integers(0, 1 << 45))
def test_a_shown_size_can_be_typed(size: int) -> None:
    """What the help shows is what one may type, to the byte."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.0, 15.0, 90.5, 1234567.0])
def test_a_shown_time_can_be_typed(seconds: float) -> None:
    """What the help shows is what one may type."""
    assert parse_time(format_time(seconds)) == seconds


def test_a_dataclass_becomes_options() -> None:
    """Names, kinds, defaults and help come from the fields and the docstring."""
    by_name = {each.name: each for each in options_of(Sample)}
    assert list(by_name) == ["count", "size", "wait", "mode", "names", "on", "label"]
    assert by_name["count"].help == "How many, over two lines."
    assert [each.metavar for each in by_name.values()] == [
        "N",
        "SIZE",
        "TIME",
        "no_thing|some",
        "TEXT",
        "",
        "TEXT",
    ]
    assert [each.shown for each in by_name.values()] == ["3", "1k", "1.5s", "some", "", "", ""]
    assert by_name["wait"].aliases == ("pause",)
    assert (by_name["names"].repeated, by_name["label"].optional) == (True, True)


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("count", "7", 7),
        ("count", 7, 7),
        ("size", "2k", 2048),
        ("size", 2048, 2048),
        ("wait", 2, 2.0),
        ("mode", "No-Thing", "no_thing"),
        ("names", "a, b", ("a", "b")),
        ("names", ["a,b", "c"], ("a", "b", "c")),
        ("names", '["a", "b"]', ("a", "b")),
        ("on", "true", True),
        ("on", False, False),
        ("on", "no", False),
        ("label", None, None),
        ("label", 5, "5"),
    ],
)
def test_values_are_converted(name: str, raw: object, expected: object) -> None:
    """The same value, whether it was typed, set, read from TOML or passed from Python."""
    found = next(each for each in options_of(Sample) if each.field == name)
    assert convert(found, raw, "here") == expected


@pytest.mark.parametrize(
    ("name", "raw", "sentence"),
    [
        ("count", "x", "here wants a whole number, not 'x'."),
        ("count", "1.5", "here wants a whole number, not '1.5'."),
        ("count", True, "here wants a whole number, not true."),
        ("count", [1], r"here wants a whole number, not \[1\]."),
        ("size", "big", "here: 'big' is no size"),
        ("mode", "som", r"here is one of no_thing, some; 'som' is not. Did you mean some\?"),
        ("on", "maybe", "here is a switch"),
        ("names", "[a", "is no list"),
    ],
)
def test_values_are_refused(name: str, raw: object, sentence: str) -> None:
    """A refusal says where, what was said, and what is wanted."""
    found = next(each for each in options_of(Sample) if each.field == name)
    with pytest.raises(UsageError, match=sentence):
        convert(found, raw, "here")


def test_the_stronger_layer_wins(tmp_path: Path) -> None:
    """Command line over --set over --config over what an earlier run stored."""
    config = tmp_path / "run.toml"
    config.write_text("concurrency = 3\nper-host = 3\nretries = 3\n")
    layers = Layers(
        typed={"concurrency": "1"},
        sets=["concurrency=2", "per_host=2"],
        config=str(config),
        stored={"concurrency": 4, "per_host": 4, "retries": 4, "max_failed": 4},
    )
    assert merge(layers, ALL, "images") == {"concurrency": 1, "per_host": 2, "retries": 3, "max_failed": 4}


def test_a_table_of_the_pipeline_goes_before_the_top_level(tmp_path: Path) -> None:
    """One file serves several pipelines: each has its own table, and ignores the others'."""
    config = tmp_path / "run.toml"
    config.write_text(
        "timeout = '2m'\nper_host = 1\n[images]\nimage-size = 64\nper-host = 2\n[files]\noutput-format = 'files'\n"
    )
    merged = merge(Layers({}, config=str(config)), ALL, "images", others=["files", "images"])
    assert merged == {"timeout": 120.0, "per_host": 2, "image_size": (64,)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("retries = true", "retries in run.toml wants a whole number, not true."),
        ("concurency = 3", "There is no option 'concurency' in run.toml; did you mean concurrency?"),
        ("[imges]\nx = 1", r"There is no pipeline \[imges\] for the table in run.toml; did you mean \[images\]?"),
        ("timeout = []\n", "timeout in run.toml wants a time, not"),
        ("timeout = 1\ntime-out = 1\n", "There is no option 'time-out' in run.toml; did you mean timeout?"),
        ("per-host = 1\nper_host = 1\n", "per-host is given twice in run.toml."),
        ("dry_run = true\n", "dry-run cannot stand in run.toml; type --dry-run instead."),
        ("= 1", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """A key or value that cannot be meant is never passed over."""
    config = tmp_path / "run.toml"
    config.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        merge(Layers({}, config=str(config)), ALL, "images", others=["files"])


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    """--config names a file that is there."""
    with pytest.raises(UsageError, match="There is no file"):
        merge(Layers({}, config=str(tmp_path / "no.toml")), ALL, "images")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        merge(Layers({}, config=str(tmp_path)), ALL, "images")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not valid TOML"):
        merge(Layers({}, config=str(tmp_path / "binary.toml")), ALL, "images")


def test_set_wants_a_key_and_a_value() -> None:
    """--set is checked as strictly as a file; a repeated option collects its values."""
    with pytest.raises(UsageError, match="--set wants key=value, not 'concurrency'"):
        merge(Layers({}, ["concurrency"]), ALL, "images")
    with pytest.raises(UsageError, match="There is no option 'x' for --set"):
        merge(Layers({}, ["x=1"]), ALL, "images")
    with pytest.raises(UsageError, match="--set concurrency wants a whole number"):
        merge(Layers({}, ["concurrency=1", "concurrency=2"]), ALL, "images")
    headers = merge(Layers({}, ["header=A: 1=2", "header=B: 2"]), ALL, "images")
    assert headers == {"header": ("A: 1=2", "B: 2")}


def test_nothing_said_resolves_to_the_defaults_of_config() -> None:
    """No default is written twice: what the options show is what config.py says."""
    config = resolve(*(kind() for kind in SHARED))
    assert config == resolve()
    assert config.fetch == FetchConfig(user_agent=config.fetch.user_agent)
    assert config.permits == PermitConfig()
    assert config.politeness == PolitenessConfig()
    assert config.retry == RetryConfig()
    assert config.pool == PoolConfig()
    assert config.source == SourceConfig()
    assert (config.health, config.space) == (HealthConfig(), SpaceConfig())


def test_no_two_options_have_one_name() -> None:
    """What is said of one kind of option cannot be taken for another's."""
    each = [name for kind in SHARED for one in options_of(kind) for name in (one.name, *one.aliases)]
    assert sorted(names_of(one for kind in SHARED for one in options_of(kind))) == sorted(each)


def test_every_option_of_a_run_reaches_the_config() -> None:
    """None is parsed and ignored; those of the moment are the command line's own."""
    said = RunOptions(
        concurrency=1, workers=3, timeout=6, connect_timeout=4, stall_timeout=5, retries=7, retry_wait=8,
        max_bytes=9, max_failed=10, header_timeout=3, network_wait=11, worker_memory=300 << 20, min_free=12,
        retry_failed=("dns",),
    )  # fmt: skip
    lists = InputOptions(input_format="csv", url_col="u", caption_col="c", save_additional_columns=("d",))
    config = resolve(said, lists)
    fetch = config.fetch
    assert (config.permits.concurrency, config.pool.workers) == (1, 3)
    assert (fetch.timeout_s, fetch.connect_timeout_s, fetch.stall_timeout_s) == (6, 4, 5)
    assert (fetch.header_timeout_s, config.health.wait_s, config.pool.memory_bytes) == (3, 11, 300 << 20)
    assert (config.space.min_free, config.again) == (12, Again(("dns",)))
    assert resolve(RunOptions(refresh=True), lists).again == Again(refresh=True)
    assert (config.retry.retries, config.retry.wait_s, fetch.max_bytes, config.max_failed) == (7, 8, 9, 10)
    assert config.source == SourceConfig("csv", "u", "c", ("d",))
    of_the_moment = {"progress", "log_format", "dry_run", "overwrite", "config", "set", "refresh"}
    untouched = {each.name for each in fields(RunOptions) if getattr(said, each.name) == each.default}
    assert untouched == of_the_moment


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (True, Again(())),
        (False, Again()),
        (None, Again()),
        ("", Again(())),
        ("dns,timeout", Again(("dns", "timeout"))),
        (["timeout", "dns.", "dns"], Again(("dns", "timeout"))),
        ("http.429", Again(("http.429",))),
    ],
)
def test_what_to_ask_again_can_be_said_in_a_program(said: object, expected: Again) -> None:
    """True is all failed rows, text and lists are classes and families, in any order."""
    assert from_settings({"retry_failed": said}).again == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"retry_failed": "timeot"}, "There is no class of failed rows 'timeot'; did you mean timeout?"),
        ({"retry_failed": "dns,htpp.429"}, "There is no class of failed rows 'htpp.429'; did you mean http?"),
        ({"retry_failed": "duplicate.url"}, "There is no class of failed rows 'duplicate.url'; each begins with"),
        ({"retry_failed": "ok"}, "There is no class of failed rows 'ok'; each begins with one of address, body"),
        ({"retry_failed": True, "refresh": True}, "--refresh asks all failed rows again as well"),
    ],
)
def test_what_cannot_be_asked_again_is_refused(settings: dict[str, object], sentence: str) -> None:
    """A class that no row can fail with would ask for nothing, in silence; the nearest right one is named."""
    with pytest.raises(UsageError) as refused:
        from_settings(settings)
    assert str(refused.value).startswith(sentence)


def test_an_output_must_be_able_to_replace_its_rows() -> None:
    """--refresh is for single files, and neither way of asking again goes with --overwrite."""
    archive = images.build(output_format="webdataset")
    for again, pipeline, overwrite, words in (
        (Again(refresh=True), archive, False, "--refresh needs --output-format files"),
        (Again(refresh=True), images.build(), True, "leave out --refresh"),
        (Again(()), images.build(), True, "leave out --retry-failed"),
    ):
        with pytest.raises(UsageError, match=words):
            check_again(again, pipeline, overwrite)
    check_again(Again(refresh=True), images.build(), overwrite=False)
    check_again(Again(()), archive, overwrite=False)
    check_again(Again(), archive, overwrite=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"timeout": 0},
        {"workers": "-1"},
        {"max_failed": -1},
        {"user_agent": " "},
        {"retries": -1},
        {"worker_memory": "1M"},
        {"header_timeout": 0},
        {"dedupe": "contents"},
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, object]) -> None:
    """A setting that no run could have is refused before anything begins."""
    with pytest.raises(UsageError):
        from_settings(settings)


@pytest.mark.parametrize("name", ["connect_timeout", "header_timeout", "stall_timeout"])
def test_deadlines_do_not_contradict_each_other(name: str) -> None:
    """One that was said and cannot come to pass is refused; a default gives way to a shorter --timeout."""
    with pytest.raises(UsageError, match=r"-timeout 90s is more than --timeout 60s"):
        from_settings({name: "90s"})
    with pytest.raises(UsageError, match=r"-timeout 10s is more than --timeout 5s"):
        from_settings({name: 10, "timeout": 5})
    assert getattr(from_settings({"timeout": 5}).fetch, f"{name}_s") == 5
    assert getattr(from_settings({"timeout": 90, name: 90}).fetch, f"{name}_s") == 90


def test_python_settings_are_converted_as_typed_ones() -> None:
    """timeout="2m" and timeout=120 are the same; names have their near misses."""
    assert from_settings({"timeout": "2m", "thread_count": 5}).fetch.timeout_s == 120
    with pytest.raises(UsageError, match="There is no option 'concurency'; did you mean concurrency"):
        from_settings({"concurency": 1})
    with pytest.raises(UsageError, match="There is no option 'dry_run'"):
        from_settings({"dry_run": True})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("concurency", ["concurrency"]),
        ("time-out", ["timeout"]),
        ("tiemout", ["timeout"]),
        ("image-sise", ["image-size"]),
        ("max-byte", ["max-bytes"]),
        ("conc", ["concurrency"]),
        ("size", ["image-size"]),
        ("output", ["output-format", "output-folder"]),
        ("retry-failed", []),
        ("oom-shard-count", []),
        ("min-image-size", []),
        ("x", []),
        ("", []),
    ],
)
def test_a_hint_is_right_or_is_not_given(name: str, expected: list[str]) -> None:
    """A misspelling leads to what was meant, a word to the names that have it, anything else to nothing."""
    known = ["concurrency", "thread-count", "timeout", "image-size", "max-bytes", "retry-wait", "output-format",
             "output-folder", "set"]  # fmt: skip
    assert likely(name, known) == expected


def test_taken_leaves_the_others() -> None:
    """From all that was said, each dataclass takes what is its own."""
    assert taken(Sample, {"count": 1, "foreign": 2}) == Sample(count=1)
