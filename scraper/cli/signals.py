"""Signals while something runs: the first asks it to end, the second ends the process; a hang-up is let pass.

In: SIGINT, SIGTERM and SIGHUP. Out: a set event, and which signal it was. Must never: outlive the block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Caught:
    """The signal that asked for the end, if any did."""

    number: int = 0

    @property
    def exit_code(self) -> int:
        """As shells give it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


@contextlib.contextmanager
def ending_on_signal(ask: Callable[[], None]) -> Iterator[Caught]:
    """Call ``ask`` in the event loop on the first SIGINT or SIGTERM; end the process at once on the second.

    Ending at once loses nothing: it is what a power cut would do, and the next run resumes from it. The SIGHUP of
    a terminal that is closed is ignored, as under ``nohup``: what is said from then on is said to nobody.
    """
    loop = asyncio.get_running_loop()
    caught = Caught()

    def on_signal(number: int) -> None:
        if caught.number:
            _end_at_once(number)
        caught.number = number
        ask()

    numbers = (signal.SIGINT, signal.SIGTERM)
    on_hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield caught
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, on_hang_up)


def silence_the_tracker() -> None:
    """Keep multiprocessing's resource tracker from warning after a run that was killed.

    It outlives us, cleans up what the worker processes' queues leave behind, as it should, and then says so over
    the user's prompt. It takes its filters from ours when it is started, before the first worker process.
    """
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


def _end_at_once(number: int) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        # The progress bar hides the cursor, and will not come to show it again.
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(128 + number)
