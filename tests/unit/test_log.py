"""The log: lines that are safe to read, and a logger that is given back as it was."""

import io
import json
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import SinkFailed
from scraper.log import escaped, logging_to
from scraper.policies.secrets import mask_secrets
from scraper.policies.urls import check
from scraper.whatwg import MAX_LENGTH

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
        ("\u2066\u200f\ufeff", "\\u2066\\u200f\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\x85\x9b2J\x7f", "\\x85\\x9b2J\\x7f"),
        ("a\xa0b\u3000c", "a\\xa0b\\u3000c"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_escaped(text: str, shown: str) -> None:
    """What a terminal would obey, an encoder refuse, or nobody see, is shown as an escape; the rest as it is."""
    assert escaped(text) == shown


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"])))
def test_escaped_is_printable(text: str) -> None:
    """Whatever comes in, what comes out is one line that a terminal only prints."""
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "http://h/\x1b]0;title\x07",
        "Server: a\x9b31m",
        "/out/\u202egnp.exe",
        "a\r\n12:00:00 error forged",
        "\x7f\x08\x08\x08",
        "\x1bP+q544e\x1b\\\\",
        "\U000e0001\ufff9\xad",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_x14_no_source_reaches_the_terminal(form: str, hostile: str, tmp_path: Path) -> None:
    """As message, argument, field, field in a field, or error: control characters are escaped in every line."""
    path, stream = tmp_path / "log.jsonl", io.StringIO()
    with logging_to(path, form, stream):  # type: ignore[arg-type] # a parameter
        log.warning(hostile)
        log.warning(
            "asked %s", hostile, extra={"url": hostile, "header": [hostile], "many": {hostile: (hostile,)}}
        )
        try:
            raise ValueError(hostile)
        except ValueError:
            log.exception("of %r", hostile)
    for text in (stream.getvalue(), path.read_text()):
        assert text.count("\n") == 3
        assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("form", ["text", "json"])
def test_passwords_deep_in_a_field_are_masked(form: str, tmp_path: Path) -> None:
    """In lists, in mappings, in their keys, in what has a text of its own, and in errors."""
    url = "http://me:hunter 2@h/"
    path, stream = tmp_path / "log.jsonl", io.StringIO()
    with logging_to(path, form, stream):  # type: ignore[arg-type] # a parameter
        log.warning("one", extra={"urls": [url, (url,)], "held": {url: {"asked": [url]}}, "path": Path(url)})
        log.warning("two", extra={"urls": {url}}, exc_info=ValueError(url))
    for text in (stream.getvalue(), path.read_text()):
        assert "hunter" not in text
        assert "***@h" in text


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
        ("http:////u:p@h", "http:////***@h"),
        ("http:u:p@h and more", "http:***@h and more"),
        ("ht\ntp:\t/\r/u:\tp@h", "ht\ntp:\t/\r/***@h"),
        ("ht\ttp:u:p@h", "ht\ttp:***@h"),
        ("\x01 http://my name@h/", "\x01 http://***@h/"),
        ("http://u:my word@h/", "http://***@h/"),
        ("asking http://u:my word@h/ failed", "asking http://***@h/ failed"),
        ("http://u:pa/ss@h/", "http://***@h/"),
        ("http://u:9pa?s#s@h/a@b", "http://***@h/a@b"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("http://h/a:b@c", "http://h/a:b@c"),
        ("http://[::1]:80/a:b@c", "http://[::1]:80/a:b@c"),
        ("http://h\\@x/", "http://h\\@x/"),
        ("scraper (+https://example.org; me@example.org)", "scraper (+https://example.org; me@example.org)"),
        ("Refused: me@example.org asked", "Refused: me@example.org asked"),
        ("u:my word@h/", "***@h/"),
        ("u:p@w@h/", "***@h/"),
        ("h.example:80 is not me@example.org", "h.example:80 is not me@example.org"),
        ("'http:u @:p@h/'", "'http:***@h/'"),
        ("(mailto:me@example.org)", "(mailto:me@example.org)"),
    ],
)
def test_mask_secrets(text: str, shown: str) -> None:
    """User and password go, whatever the URL looks like round them; nothing else changes."""
    assert mask_secrets(text) == shown
    assert mask_secrets(shown) == shown


_WHITE = st.text("\t\n\r", max_size=2)
_SPELLED = st.builds(
    "{}{}h{}tt{}p{}:{}{}u {}:SECRET{}@h/{}".format,
    st.sampled_from(["", " ", "\x00 ", "\n"]),
    _WHITE,
    _WHITE,
    _WHITE,
    st.sampled_from(["", "s", "S\t"]),
    _WHITE,
    st.text("/\\\t", max_size=5),
    st.text("ab@:\t %'|", max_size=4),
    st.text("ab@:\t %'|", max_size=4),
    st.sampled_from(["", "@", "x@y", "?a:b@c", "#@"]),
)


@given(_SPELLED)
def test_whatever_is_dialled_with_a_password_is_masked(text: str) -> None:
    """However oddly a URL is spelled: where a password would be sent, it is hidden, on its own and in prose."""
    assert "SECRET" in (check(text).password or "")
    for said in (text, f"asking {text} failed, tell me@example.org", f"'{text}'"):
        assert "SECRET" not in mask_secrets(said)
        assert mask_secrets(mask_secrets(said)) == mask_secrets(said)


@pytest.mark.parametrize("odd", ["http:", "a@/", "://a:b", "http:/", "http: a@/", "@", "@:"])
def test_masking_takes_no_time(odd: str) -> None:
    """A text made to be slow costs about as much as any other: every piece is looked at once."""
    began = time.perf_counter()
    mask_secrets("@" + odd * (MAX_LENGTH // len(odd)) + "/@")
    assert time.perf_counter() - began < 5.0  # milliseconds here; quadratic searches took minutes
