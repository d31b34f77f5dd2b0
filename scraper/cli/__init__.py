"""argv → options → run → exit code. The only package that prints, or touches signals.

In: what was typed. Out: results on stdout; progress, messages and refusals on stderr; an exit code:
0 done, 1 more rows failed than --max-failed, 2 usage, 3 stopped by disk, sink or our own fault, 4 OUT is locked,
130/143 interrupted and resumable.
Must never: show a traceback for a user's mistake; import what `scraper --version` does not need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from scraper._version import __version__

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the console script.

    Args:
        argv: the arguments, without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] in (["--version"], ["-V"]):
            print(f"scraper {__version__}")
            code = 0
        else:
            code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read stdout has gone (`| head`). Python would complain again while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _dispatch(arguments: list[str]) -> int:
    from scraper.cli import voice

    try:
        if arguments in ([], ["help"]) or arguments[0] in ("-h", "--help"):
            from scraper.cli.overview import overview

            print(overview())
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
