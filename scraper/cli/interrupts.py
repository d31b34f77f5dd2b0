"""SIGINT before anything is under way: it ends the process at once, quietly.

In: an interrupt in the half second in which modules are imported. Out: exit code 130. Otherwise it would come out
of somebody's module as a traceback, or as the RuntimeError that Python makes of it inside a class statement.
Must never: touch a handler that is not ours, or a SIGINT that is ignored, as under ``nohup`` and ``&``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Have an interrupt end the process, until ``raise_interrupts`` or an event loop has it otherwise."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _set(_leave)
    try:
        yield
    finally:
        raise_interrupts()


def raise_interrupts() -> None:
    """From now on, have an interrupt raise KeyboardInterrupt again, for the sake of what has to clean up."""
    if signal.getsignal(signal.SIGINT) is _leave:
        _set(signal.default_int_handler)


def _set(do: object) -> None:
    with contextlib.suppress(ValueError):  # in a thread, which has no part in signals
        signal.signal(signal.SIGINT, do)  # type: ignore[arg-type] # one of the two


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)
