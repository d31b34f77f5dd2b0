"""Retry rules: which failures, how often, how long."""

import pytest

from scraper.config import RetryConfig
from scraper.errors import OUTCOME_CLASSES, FetchFailed
from scraper.policies.retry import EXCUSES, decide, is_our_haste, parse_retry_after

TWICE = RetryConfig(retries=2, wait_s=1.0, cap_s=60.0)
MANY = RetryConfig(retries=10_000, wait_s=1.0, cap_s=60.0)


@pytest.mark.parametrize(
    "class_", ["timeout.total", "connect.reset", "dns.temporary", "http.429", "http.503", "http.522"]
)
def test_passing_faults_are_retried(class_: str) -> None:
    """A fault that may pass is tried again after a wait."""
    assert decide(FetchFailed(class_), 1, TWICE, 0.5) == 0.5


@pytest.mark.parametrize(
    "class_", ["http.404", "http.403", "http.501", "dns.not_found", "tls.verify", "url.invalid", "body.too_large"]
)
def test_lasting_faults_are_not_retried(class_: str) -> None:
    """A fault that will be the same tomorrow is final at once, whatever Retry-After says."""
    assert decide(FetchFailed(class_, retry_after_s=1.0), 1, TWICE, 0.5) is None


def test_the_table_of_classes_decides() -> None:
    """For every class on the closed list, retrying is what the list says."""
    for name, class_ in OUTCOME_CLASSES.items():
        assert (decide(FetchFailed(name), 1, TWICE, 0.0) is not None) == class_.retry


@pytest.mark.parametrize(
    ("retries", "attempt", "again"),
    [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True), (2, 3, False), (2, 99, False)],
)
def test_retries_are_counted_beyond_the_first_attempt(retries: int, attempt: int, again: bool) -> None:
    """``retries`` further attempts are made, and no more."""
    config = RetryConfig(retries=retries)
    assert (decide(FetchFailed("http.500"), attempt, config, 0.5) is not None) == again


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (2_000, 60)])
def test_the_wait_doubles_up_to_the_cap(attempt: int, ceiling: float) -> None:
    """The wait is drawn from zero to a ceiling that doubles with each attempt, up to the cap."""
    error = FetchFailed("timeout.total")
    assert decide(error, attempt, MANY, 0.0) == 0.0
    assert decide(error, attempt, MANY, 0.25) == ceiling / 4
    assert decide(error, attempt, MANY, 0.999) == pytest.approx(ceiling * 0.999)


@pytest.mark.parametrize(
    ("asked", "chance", "wait"),
    [(0.0, 0.5, 0.5), (0.1, 0.5, 0.5), (2.0, 0.5, 2.0), (60.0, 0.5, 60.0), (60.1, 0.5, 60.1), (1e9, 0.0, 1e9)],
)
def test_retry_after_is_honoured_in_full(asked: float, chance: float, wait: float | None) -> None:
    """The server is left alone for at least as long as it asks: the cap is one of our own waits."""
    error = FetchFailed("http.503", status=503, retry_after_s=asked)
    assert decide(error, 1, TWICE, chance) == wait


def test_no_wait_is_a_choice() -> None:
    """``--retry-wait 0`` retries at once."""
    assert decide(FetchFailed("connect.reset"), 1, RetryConfig(wait_s=0.0), 0.9) == 0.0


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7\t", 7),
        ("1000000000", 1e9),
        ("9" * 5_000, 2.0**31),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 2.0**31),
    ],
)
def test_retry_after_is_read(value: str, seconds: float) -> None:
    """Seconds and all three forms of an HTTP-date are understood; the past means now."""
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-5",
        "+5",
        "5.5",
        "1e3",
        "0x10",
        "٣",
        "soon",
        "10 seconds",
        "1994-11-06",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999999999",
        "\x00",
        ",",
        "GMT",
    ],
)
def test_junk_in_retry_after_is_no_answer(value: str) -> None:
    """What is neither seconds nor a date says nothing, and our own backoff applies."""
    assert parse_retry_after(value, NOW) is None


@pytest.mark.parametrize(
    ("class_", "excused", "config", "expected"),
    [
        ("http.429", 0, TWICE, True),
        ("http.429", EXCUSES - 1, TWICE, True),
        ("http.429", EXCUSES, TWICE, False),
        ("http.429", 0, RetryConfig(retries=0), False),
        ("http.503", 0, TWICE, False),
        ("timeout.total", 0, TWICE, False),
    ],
)
def test_asking_too_fast_costs_no_attempt(class_: str, excused: int, config: RetryConfig, expected: bool) -> None:
    """A few answers that say so are excused, of rows that are to be asked again at all."""
    assert is_our_haste(FetchFailed(class_), excused, config) is expected
