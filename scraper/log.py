"""Where the ``scraper`` logger's lines go while a run lasts: OUT/.scraper/log.jsonl, and stderr if asked.

In: log records of the ``scraper`` logger and those below it. Out: one line each, JSON or text.
Must never: touch the root logger or anybody else's; stop a run because a line cannot be written; print a
password, or a control character that a list or a server chose.

Fields travel as ``logger.info("robots.txt unreachable", extra={"host": host})``. One that is a mapping, such as
the description of a run that is stuck, stands in the file only; on stderr the line says where it is.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from scraper.errors import SinkFailed
from scraper.policies.secrets import mask_secrets

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; the rest are the fields of the event."""


def escaped(text: str) -> str:
    """``text`` on one line: whatever is not printable, as a backslash escape.

    Not printable is what moves the cursor, turns the writing direction, breaks the line, cannot be encoded, or
    looks like a space and is none (Unicode's categories C and Z).
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 0x7F else f"\\x{ord(char):02x}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, event, then the fields of the event.

    Args:
        details: the file that has the fields which take more than a word; None to write them here.
    """

    def __init__(self, details: Path | None = None) -> None:
        super().__init__()
        self._details = details

    def format(self, record: logging.LogRecord) -> str:
        """The line, all ASCII: whatever else there is stands there as a JSON escape."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields, is_whole = _fields(record, self._details is None)
        line.update(fields)
        if not is_whole:
            line["details"] = str(self._details)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # Masked value by value: in the finished line a URL could run into what follows it.
        return json.dumps(_masked(line), default=_text)


class TextLines(logging.Formatter):
    """One line for people: time of day, level, event, fields.

    Args:
        details: as for JsonLines.
    """

    def __init__(self, details: Path | None = None) -> None:
        super().__init__()
        self._details = details

    def format(self, record: logging.LogRecord) -> str:
        """The line, with nothing in it that a terminal would obey."""
        fields, is_whole = _fields(record, self._details is None)
        words = [
            datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S"),
            record.levelname.lower(),
            mask_secrets(record.getMessage()),  # each by itself, or one could run into the next
            *(f"{name}={_text(_masked(value))}" for name, value in fields.items()),
        ]
        if not is_whole:
            words.append(f"(details in {self._details})")
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            # The traceback is in log.jsonl.
            words.append(f"({type(error).__name__}: {_text(error)})")
        return escaped(" ".join(words))


def _fields(record: logging.LogRecord, whole: bool) -> tuple[dict[str, object], bool]:
    """The fields of the event, and whether these are all: those that hold others only if ``whole``."""
    every = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    fields = every if whole else {name: value for name, value in every.items() if not isinstance(value, Mapping)}
    return fields, len(fields) == len(every)


def _masked(value: object) -> object:
    """The same value without userinfo, however deep in it."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, Mapping):
        return {mask_secrets(str(name)): _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, (list, tuple)) else value


def _text(value: object) -> str:
    return mask_secrets(str(value))


class _Quiet:
    """A full disk or a closed stderr costs log lines, not the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name for it
        """Let the line go."""


class _FileHandler(_Quiet, logging.FileHandler):
    """Appends to a plain file: not through a link that leads out of OUT, and not to a pipe that nobody reads."""

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_opened)


def _opened(path: str, flags: int) -> int:
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is no file", path)
    return number


class _StreamHandler(_Quiet, logging.StreamHandler[TextIO]):
    """Writes to a stream; to what ``sys.stderr`` is at that moment, which a progress display may have replaced."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._follows_stderr = stream is None

    def emit(self, record: logging.LogRecord) -> None:
        if self._follows_stderr:
            self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def logging_to(
    path: Path | None, form: LogFormat | None = None, stream: TextIO | None = None, *, level: int = logging.INFO
) -> Iterator[logging.Logger]:
    """Send the ``scraper`` logger's lines to a file, appended, and to a stream; leaves the logger as it was.

    Args:
        path: the file; None for no file.
        form: of the lines on the stream; None for none there.
        stream: stderr if None. It gets warnings and worse, nothing less: progress and report say the rest.
        level: what is worth a line in the file.

    Raises:
        SinkFailed: the file cannot be opened.
    """
    logger = logging.getLogger("scraper")
    handlers: list[logging.Handler] = []
    if path is not None:
        try:
            file = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SinkFailed(
                f"{path} cannot be written to ({error.strerror}); give it room, or rights."
            ) from error
        file.setFormatter(JsonLines())
        handlers.append(file)
    if form is not None:
        shown = _StreamHandler(stream)
        # A line of several KB, such as a description of a run that is stuck, would bury what is said around it.
        shown.setFormatter(JsonLines(path) if form == "json" else TextLines(path))
        shown.setLevel(max(level, logging.WARNING))
        handlers.append(shown)
    was = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.setLevel(was)
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # the last lines, on a full disk
                handler.close()
