"""argv → options → run → exit code. The only package that prints, or touches signals.

In: what was typed. Out: results on stdout; progress, messages and refusals on stderr; an exit code:
0 done, 1 more rows failed than --max-failed, 2 usage, 3 stopped by disk, sink or our own fault, 4 OUT is locked,
130/143 interrupted and resumable.
Must never: show a traceback for a user's mistake; import what `scraper --version` does not need.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from scraper._version import __version__
from scraper.cli.interrupts import EXIT_INTERRUPTED, leaving_at_once


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the console script.

    Args:
        argv: the arguments, without the program's name; those of the process by default.
    """
    with leaving_at_once():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> int:
    _take_hold_of_the_streams()
    code = 0
    try:
        if arguments[:1] in (["--version"], ["-V"]):
            print(f"scraper {__version__}")
        else:
            code = _dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:  # stdout's: the dispatcher has explained all others
        from scraper.cli import voice

        if isinstance(error, BrokenPipeError):  # whoever read it has gone (`| head`)
            voice.give_up(sys.stdout)
        else:
            code = voice.explain(voice.stdout_refused(error))
    finally:
        _let_go_of_stderr()
    return code


def _let_go_of_stderr() -> None:
    """See that what waits for a reader that has gone does not become the exit code: Python would end with 120."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        from scraper.cli import voice

        voice.give_up(sys.stderr)


def _take_hold_of_the_streams() -> None:
    """See that no socket becomes descriptor 0, 1 or 2, and that no name is beyond what a terminal can show."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by whoever started us
            # Takes the lowest that is free: this one. Inheritable, as the three are: in a worker process that was
            # started without one of them a pipe of ours would take its number, and be written over.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    from scraper.cli import voice

    try:
        if arguments in ([], ["help"]) or arguments[0] in ("-h", "--help"):
            from scraper.cli.overview import overview

            with voice.to_stdout() as stdout:
                print(overview(), file=stdout)
            return 0
        from scraper.cli.commands import execute

        return execute(arguments)
    except KeyboardInterrupt:
        voice.say("Interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # the last line of defence: one sentence, whatever it was
        return voice.explain(error)
