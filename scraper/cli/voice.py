"""What is said: sentences and errors on stderr, reports on stdout. Must never: raise because nobody listens."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from scraper.errors import InternalFault, ScraperError, SinkFailed, UsageError
from scraper.log import LogFormat, escaped, logging_to
from scraper.policies.secrets import mask_secrets

_format: LogFormat = "text"


def speak(log_format: LogFormat) -> None:
    """From now on, write in this form: ``--log-format``."""
    global _format  # noqa: PLW0603 - stderr is one for the process, and so is the form of what stands on it
    _format = log_format


def say(sentence: str, level: str = "info") -> None:
    """One line on stderr."""
    line = escaped(mask_secrets(sentence))
    if _format == "json":
        line = json.dumps({"level": level, "event": line})
    elif level == "error":
        line = f"scraper: {line}"
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed
        print(line, file=sys.stderr, flush=True)


def show(text: str) -> bool:
    """Text on stdout, or a sentence on stderr and False where there is no room for it.

    Nothing if whoever read stdout has gone (``| head``) or closed it, which must not change the exit code.
    """
    if sys.stdout is None:
        return True
    try:
        with contextlib.suppress(BrokenPipeError), to_stdout() as stdout:
            print(text, file=stdout)
    except SinkFailed as error:
        say(str(error), "error")
        return False
    return True


@contextlib.contextmanager
def to_stdout() -> Iterator[TextIO]:
    """Stdout, for what the block writes; all of it is written when the block has been left.

    Raises:
        SinkFailed: it cannot be written, for want of room most of the time.
        BrokenPipeError: whoever read it has gone.
    """
    if sys.stdout is None:
        raise SinkFailed("Standard output is closed: send it somewhere.")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        give_up(sys.stdout)
        raise
    except OSError as error:
        if error.errno == errno.EIO and stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode):
            give_up(sys.stdout)
            raise BrokenPipeError(*error.args) from error  # a terminal that was closed, and not a bad disk
        raise stdout_refused(error) from error


def stdout_refused(error: OSError) -> SinkFailed:
    """What to say when stdout cannot be written, which is not tried again."""
    give_up(sys.stdout)
    return SinkFailed(f"Standard output cannot be written: {error.strerror or error}.")


def give_up(stream: TextIO) -> None:
    """Send the rest of a stream nowhere: Python would complain once more while closing it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def explain(error: BaseException, log: Path | None = None) -> int:
    """Say what went wrong, in one sentence, and give the exit code.

    Args:
        error: a mistake of the user's, a stop, or a fault of ours.
        log: where the traceback of a fault of ours goes, if that file's folder is there.
    """
    causes = list(_leaves(error))
    known = next((each for each in causes if isinstance(each, ScraperError)), None)
    if isinstance(known, UsageError) or (known is not None and not isinstance(known, InternalFault)):
        say(str(known), "error")
        return known.exit_code
    first = known or causes[0]
    if os.environ.get("SCRAPER_DEBUG"):
        traceback.print_exception(error)
    where = "set SCRAPER_DEBUG=1 to see where"
    if log is not None and log.parent.is_dir():
        with contextlib.suppress(ScraperError), logging_to(log) as logger:
            logger.critical("internal fault", exc_info=error)
            where = f"the details are in {log}"
    say(f"An internal fault stopped the run ({type(first).__name__}: {first}); {where}.", "error")
    return InternalFault.exit_code


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a task group's group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
