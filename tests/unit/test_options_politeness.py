"""What is said of how hosts are treated becomes a PolitenessConfig, or is refused with a sentence."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from scraper import UsageError
from scraper.config import OPT_OUTS, HostLimits, PolitenessConfig
from scraper.options import from_settings, resolve
from scraper.options.layers import Layers, merge
from scraper.options.politeness import PolitenessOptions
from scraper.options.schema import taken
from scraper.options.shared import SHARED


def said(**settings: object) -> PolitenessConfig:
    """What a program's settings amount to."""
    return from_settings(settings).politeness


def from_file(tmp_path: Path, text: str) -> PolitenessConfig:
    """What a TOML file amounts to."""
    path = tmp_path / "run.toml"
    path.write_text(text)
    values = merge(Layers({}, config=str(path)), SHARED, "images", ["images", "files"])
    return resolve(taken(PolitenessOptions, values)).politeness


def test_every_option_reaches_the_config() -> None:
    """None is parsed and ignored."""
    options = PolitenessOptions(
        per_host=3, delay=1.5, rate=2.5, bandwidth=4096, hosts=("a.test per_host=1",), pace="fixed",
        max_retry_after=7, host_wait=8, robots="ignore", opt_outs=("noai",),
    )  # fmt: skip
    limits = HostLimits(3, 1.5, 2.5, 4096)
    assert resolve(options).politeness == PolitenessConfig(
        limits=limits,
        hosts={"a.test": HostLimits(1, 1.5, 2.5, 4096)},
        adaptive=False,
        robots="ignore",
        opt_outs=("noai",),
        max_retry_after_s=7,
        host_wait_s=8,
    )
    assert {each.name for each in fields(options) if getattr(options, each.name) == each.default} == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("example.com per_host=2", {"example.com": HostLimits(2)}),
        ("*.Example.com per-host=2 delay=1s", {"*.example.com": HostLimits(2, 1.0)}),
        ("* rate=0.5, bandwidth=1M", {"*": HostLimits(8, 0.0, 0.5, 1 << 20)}),
        ("[::1] delay=250ms", {"[::1]": HostLimits(8, 0.25)}),
        ("  127.0.0.1   delay=0 ", {"127.0.0.1": HostLimits()}),
        ("bücher.example per_host=1", {"bücher.example": HostLimits(1)}),
    ],
)
def test_a_line_for_a_host(line: str, expected: dict[str, HostLimits]) -> None:
    """A pattern and its limits, in the spelling of the options; blanks and commas part them."""
    assert said(hosts=line).hosts == expected
    assert said(hosts=[line]).hosts == expected


def test_what_a_line_does_not_say_is_as_for_all_hosts() -> None:
    """A host of its own differs from the others in what was said of it, and in nothing else."""
    config = said(per_host=3, delay="2s", hosts=["a.test rate=1", "b.test delay=0"])
    assert config.hosts == {"a.test": HostLimits(3, 2.0, 1.0), "b.test": HostLimits(3, 0.0)}


def test_a_host_means_the_same_wherever_it_is_said(tmp_path: Path) -> None:
    """A line, a table of a TOML file, and a program's mapping: with values as numbers or as one types them."""
    expected = {"*.a.test": HostLimits(2, 1.0, 0.5, 2 << 20)}
    line = "*.a.test per_host=2 delay=1s rate=0.5 bandwidth=2M"
    table = '[hosts."*.a.test"]\nper_host = 2\ndelay = "1 s"\nrate = 0.5\nbandwidth = "2 MiB"\n'
    dashed = "[hosts.'*.A.test']\nper-host = '2'\ndelay = 1\nrate = '0.5'\nbandwidth = 2097152\n"
    assert said(hosts=line).hosts == expected
    assert from_file(tmp_path, f"hosts = ['{line}']\n").hosts == expected
    assert from_file(tmp_path, table).hosts == expected
    assert from_file(tmp_path, dashed).hosts == expected
    mapping = {"*.a.test": {"per_host": 2, "delay": 1, "rate": 0.5, "bandwidth": "2M"}}
    assert said(hosts=mapping).hosts == expected


def test_the_table_of_hosts_stands_beside_those_of_pipelines(tmp_path: Path) -> None:
    """It is no pipeline's, and the limits of a pipeline's table are below it."""
    config = from_file(tmp_path, "per_host = 5\n[images]\nper_host = 4\n[hosts.'a.test']\ndelay = 1\n")
    assert config.limits == HostLimits(4)
    assert config.hosts == {"a.test": HostLimits(4, 1.0)}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "--hosts '' names no host: write example.com, '*.example.com' for all below it, or '*'."),
        ("per_host=2", "--hosts 'per_host=2' names no host: write example.com,"),
        ("http://a.test/ per_host=2", "--hosts 'http://a.test/ per_host=2' names no host: write example.com,"),
        ("a.test:8080 per_host=2", "--hosts a.test:8080: limits are those of a host on all its ports"),
        ("a.*.test per_host=2", "--hosts 'a.*.test per_host=2' names no host: write example.com,"),
        ("**.test per_host=2", "--hosts '**.test per_host=2' names no host: write example.com,"),
        (
            "a.test",
            "--hosts a.test says nothing: add a limit, as in 'a.test per_host=2 delay=1s'.",
        ),
        ("a.test delay", "--hosts a.test: delay wants a value, as in delay=2."),
        ("a.test delay=", "--hosts a.test: delay wants a value, as in delay=2."),
        ("a.test perhost=2", "There is no option 'perhost' for the host a.test; did you mean per-host?"),
        ("a.test robots=ignore", "There is no option 'robots' for the host a.test"),
        ("a.test per_host=2.5", "per-host of the host a.test wants a whole number, not '2.5'."),
        ("a.test per_host=0", "--hosts a.test: --per-host must be at least 1."),
        ("a.test delay=-1s", "delay of the host a.test: '-1s' is no time; write 500ms, 30, 30s, 2m or 1h."),
        ("a.test rate=-1", "--hosts a.test: --rate must be 0 or more."),
        ("a.test rate=inf", "--hosts a.test: --rate must be 0 or more."),
        ("a.test rate=nan", "--hosts a.test: --rate must be 0 or more."),
        ("a.test delay=1 delay=2", "--hosts a.test: delay is given twice."),
    ],
)
def test_a_line_that_is_none_is_refused(line: str, sentence: str) -> None:
    """One sentence that names the line, the host or the value, and what to write."""
    with pytest.raises(UsageError) as refused:
        said(hosts=line)
    assert str(refused.value).startswith(sentence)


def test_a_host_given_twice_is_refused() -> None:
    """Which of the two was meant is not guessed; case makes no other host."""
    with pytest.raises(UsageError, match=r"--hosts a\.test is given twice; put its limits together\."):
        said(hosts=["a.test per_host=2", "A.test delay=1"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[hosts]\nper_host = 2\n", '[hosts] in run.toml wants a table for each host, as in [hosts."per_host"].'),
        (
            "[hosts.a.test]\nper_host = 2\n",
            '[hosts] in run.toml: a host with dots is written in quotes, as in [hosts."example.com"].',
        ),
        ("[hosts.'a.test']\n", "--hosts a.test says nothing: add a limit, as in 'a.test per_host=2 delay=1s'."),
        ("[hosts.'a.test']\nper_host = true\n", "per-host of the host a.test wants a whole number, not 'True'."),
        ("[hosts.'a.test']\ndelay = [1]\n", "delay of the host a.test: '[1]' is no time; write"),
        ("[hosts.'a.test']\ndelai = 1\n", "There is no option 'delai' for the host a.test; did you mean delay?"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """As strictly as a line, with the file named where the file's form is what is wrong."""
    with pytest.raises(UsageError) as refused:
        from_file(tmp_path, text)
    assert str(refused.value).startswith(sentence)


def test_a_program_is_told_what_a_mapping_of_hosts_is() -> None:
    """Names with limits, each a mapping of its own."""
    with pytest.raises(UsageError, match="hosts wants a table for each host"):
        said(hosts={"a.test": 2})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("off", ()),
        ("OFF", ()),
        ("[]", ()),
        ([], ()),
        ((), ()),
        ("noai", ("noai",)),
        ("NoAI, noml", ("noai", "noml")),
        ('["noai","noindex"]', ("noai", "noindex")),
        (["noai", "noml"], ("noai", "noml")),
    ],
)
def test_opt_outs_can_be_chosen(value: object, expected: tuple[str, ...]) -> None:
    """Some, or none at all: off, or an empty list as img2dataset's commands have it."""
    assert said(opt_outs=value).opt_outs == expected
    assert said(disallowed_header_directives=value).opt_outs == expected


def test_all_opt_outs_count_where_nothing_is_said() -> None:
    """The default is the respectful one."""
    assert said().opt_outs == OPT_OUTS
    assert said().robots == "obey"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"opt_outs": "no ai"}, "--opt-outs: 'no ai' is no directive of X-Robots-Tag; did you mean noai?"),
        ({"opt_outs": "bot: noai"}, "--opt-outs: 'bot: noai' is no directive of X-Robots-Tag; there are noai,"),
        ({"opt_outs": "noia"}, "--opt-outs: 'noia' is no directive of X-Robots-Tag; did you mean noai?"),
        ({"opt_outs": "off,noai"}, "--opt-outs off stands alone: leave it out, or what else is named."),
        ({"robots": "no"}, "robots is one of obey, ignore; 'no' is not."),
        ({"pace": "slow"}, "pace is one of adaptive, fixed; 'slow' is not."),
        ({"per_host": 0}, "--per-host must be at least 1."),
        ({"delay": "-1"}, "delay: '-1' is no time"),
        ({"rate": "-0.5"}, "--rate must be 0 or more."),
        ({"rate": "nan"}, "--rate must be 0 or more."),
        ({"bandwidth": "fast"}, "bandwidth: 'fast' is no size"),
        ({"max_retry_after": "soon"}, "max_retry_after: 'soon' is no time"),
        ({"host_wait": "-1s"}, "host_wait: '-1s' is no time"),
    ],
)
def test_values_that_none_could_have_are_refused(settings: dict[str, object], sentence: str) -> None:
    """One sentence that names the option and what is wanted."""
    with pytest.raises(UsageError) as refused:
        said(**settings)
    assert str(refused.value).startswith(sentence)


def test_limits_of_hosts_are_laid_over_those_of_the_same_hosts_only(tmp_path: Path) -> None:
    """What the command line says of one host leaves what the file says of the others."""
    file = tmp_path / "run.toml"
    file.write_text('[hosts."a.test"]\ndelay = "1s"\n[hosts."b.test"]\nper_host = 2\n')
    layers = Layers({"hosts": ["B.test per_host=3"]}, [], str(file))
    assert merge(layers, [PolitenessOptions], "images")["hosts"] == ("a.test delay=1s", "B.test per_host=3")
