"""The log: lines that are safe to read, and a logger that is given back as it was."""

import io
import json
import logging
from pathlib import Path

import pytest

from scraper.errors import SinkFailed
from scraper.log import escaped, logging_to
from scraper.policies.secrets import mask_userinfo

log = logging.getLogger("scraper.test")


def lines(path: Path) -> list[dict[str, object]]:
    """The objects in a log file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_an_object_with_the_fields_of_its_event(tmp_path: Path) -> None:
    """Time, level, logger, event, then what was given as extra."""
    with logging_to(tmp_path / "log.jsonl"):
        log.info("robots.txt of %s unreachable", "example.org", extra={"host": "example.org", "tries": 3})
        log.debug("not worth a line")
    (line,) = lines(tmp_path / "log.jsonl")
    assert list(line) == ["time", "level", "logger", "event", "host", "tries"]
    assert (line["level"], line["event"], line["tries"]) == ("info", "robots.txt of example.org unreachable", 3)


def test_lines_are_appended(tmp_path: Path) -> None:
    """The next run goes on in the same file."""
    for _ in range(2):
        with logging_to(tmp_path / "log.jsonl"):
            log.info("started")
    assert len(lines(tmp_path / "log.jsonl")) == 2


def test_the_logger_is_left_as_it_was(tmp_path: Path) -> None:
    """Handlers and level of ``scraper`` come back, and the root logger is never touched."""
    ours, root = logging.getLogger("scraper"), logging.getLogger()
    before = (ours.level, list(ours.handlers), ours.propagate, root.level, list(root.handlers))
    with logging_to(tmp_path / "log.jsonl", "text", io.StringIO()):
        assert (root.level, list(root.handlers)) == before[3:]
        assert len(ours.handlers) == len(before[1]) + 2
    assert before == (ours.level, list(ours.handlers), ours.propagate, root.level, list(root.handlers))


def test_a_traceback_is_in_the_file_and_a_word_of_it_on_the_stream(tmp_path: Path) -> None:
    """People get a line, the file gets all of it, on one line too."""
    stream = io.StringIO()
    with logging_to(tmp_path / "log.jsonl", "text", stream):
        try:
            raise ValueError("odd\nvalue")
        except ValueError:
            log.exception("a fault of ours")
    (line,) = lines(tmp_path / "log.jsonl")
    assert "Traceback" in str(line["error"])
    assert stream.getvalue().endswith("error a fault of ours (ValueError: odd\\x0avalue)\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_strangers_text_cannot_act(form: str, tmp_path: Path) -> None:
    """Control characters are escaped and passwords masked, in events and in fields, on stream and in file."""
    hostile = "https://me:hunter2@h/\x1b[2J\r\n\u202e\udcff"
    stream = io.StringIO()
    with logging_to(tmp_path / "log.jsonl", form, stream):  # type: ignore[arg-type] # a parameter
        log.warning("fetching %s", hostile, extra={"url": hostile, "odd": {hostile}})
    for text in (stream.getvalue(), (tmp_path / "log.jsonl").read_text()):
        assert text.count("\n") == 1
        assert text.isascii()
        assert text[:-1].isprintable()
        assert "hunter2" not in text


def test_the_stream_gets_warnings_only(tmp_path: Path) -> None:
    """What progress and report say anyway is not said twice on stderr."""
    stream = io.StringIO()
    with logging_to(None, "json", stream):
        log.info("started")
        log.warning("slow")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["slow"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_description_is_in_the_file_only(form: str, tmp_path: Path) -> None:
    """The stream gets the sentence, short fields and where the rest is; without a file it gets all."""
    path, stream = tmp_path / "log.jsonl", io.StringIO()
    stuck = {"tasks": {str(number): "where it stands" for number in range(100)}}
    with logging_to(path, form, stream):  # type: ignore[arg-type] # a parameter
        log.error("Nothing has moved for 9 s.", extra={"stuck": stuck, "host": "example.org"})
    said = stream.getvalue()
    assert len(said) < 200 + len(str(path))
    assert all(words in said for words in ("Nothing has moved for 9 s.", "example.org", str(path)))
    (line,) = lines(path)
    assert (line["stuck"], "details" in line) == (stuck, False)
    alone = io.StringIO()
    with logging_to(None, form, alone):  # type: ignore[arg-type] # a parameter
        log.error("Nothing has moved for 9 s.", extra={"stuck": stuck})
    assert alone.getvalue().count("where it stands") == 100


def test_stderr_is_looked_up_for_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream of its own a line goes to what stderr is then, such as a progress display."""
    import sys

    replaced = io.StringIO()
    with logging_to(None, "text"):
        log.warning("before")
        was, sys.stderr = sys.stderr, replaced
        try:
            log.warning("during")
        finally:
            sys.stderr = was
    assert "before" in capsys.readouterr().err
    assert "during" in replaced.getvalue()


def test_a_stream_that_fails_stops_nothing(tmp_path: Path) -> None:
    """A closed stream costs its lines, and the file still gets them."""
    stream = io.StringIO()
    stream.close()
    with logging_to(tmp_path / "log.jsonl", "text", stream):
        log.warning("slow")
    assert len(lines(tmp_path / "log.jsonl")) == 1


def test_a_file_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    """Where the log cannot be, the run cannot either."""
    with pytest.raises(SinkFailed, match="cannot be written to"), logging_to(tmp_path / "missing" / "log.jsonl"):
        pass


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße, 世界", "Grüße, 世界"),
        ("a\tb\nc\x1b", "a\\x09b\\x0ac\\x1b"),
        ("\u202eevil\u2028", "\\u202eevil\\u2028"),
        ("\udcff", "\\udcff"),
        ("\x85", "\\x85"),
    ],
)
def test_escaped(text: str, shown: str) -> None:
    """What a terminal would obey, or an encoder refuse, is shown as an escape; the rest as it is."""
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/@user/a@b", "https://example.org/@user/a@b"),
        ("https://u:p@example.org/", "https://***@example.org/"),
        ("https://u@example.org/?q=a@b", "https://***@example.org/?q=a@b"),
        ("https://u:p@w@example.org", "https://***@example.org"),
        ("HTTPS://u:p@h and ftp://a:b@c/", "HTTPS://***@h and ftp://***@c/"),
        ("https:\\\\u:p@h", "https:\\\\***@h"),
        ("http:u:p@h/", "http:***@h/"),
        ("https://h/?next=http://u:p@h2/", "https://h/?next=http://***@h2/"),
        ("mail me@example.org", "mail me@example.org"),
        ("mailto:me@example.org", "mailto:me@example.org"),
        ("u:p@example.org/x has no scheme", "***@example.org/x has no scheme"),
        ("//u:p@example.org/x", "//***@example.org/x"),
        ("https://***@example.org/", "https://***@example.org/"),
    ],
)
def test_mask_userinfo(text: str, shown: str) -> None:
    """User and password go, whatever the URL looks like round them; nothing else changes."""
    assert mask_userinfo(text) == shown
    assert mask_userinfo(shown) == shown
