"""How a worker process comes about: by the fork server, without the user's script, deaf to others' signals.

In: nothing but this process. Out: the context for an executor, and the servers of ``multiprocessing`` running.

What a terminal or a service manager sends to the whole group must end neither the workers nor the two servers,
which by themselves know only some of these signals. They are started with all of them blocked, which a process
inherits; a worker ignores them before it unblocks them.

Python starts these servers with ``-c``, and so would look for their modules in the current folder first: a
``socket.py`` that somebody left there would be run. They are told not to.

Must never: run what merely lies in the current folder; take a signal from this process's own threads for longer
than a start takes; leave semaphores of a worker that runs under a name, where nobody would clear them away once
all our processes are killed at a blow.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import BoundedSemaphore, Lock, SemLock
from multiprocessing.util import Finalize
from typing import Any

from scraper.worker import UNHEEDED

_main_swap = threading.Lock()

_SAFE_PATH = "PYTHONSAFEPATH"
"""Set, Python puts no folder of its own choice before the others on ``sys.path``, as by its option ``-P``."""


class WorkerContext(ForkServerContext):
    """The forkserver context, which remembers the process it made: it is ours to watch and to kill.

    It remembers the five semaphores of an executor's queues as well. They have names, in /dev/shm on Linux, by
    which the worker finds them. Who has found one needs its name no more (sem_unlink(3)).
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: ForkServerProcess | None = None
        self._named: list[SemLock] = []

    def Lock(self) -> Lock:  # noqa: N802
        """Make a lock, as the base does."""
        self._named.append(lock := super().Lock())
        return lock

    def BoundedSemaphore(self, value: int = 1) -> BoundedSemaphore:  # noqa: N802
        """Make a semaphore, as the base does."""
        self._named.append(semaphore := super().BoundedSemaphore(value))
        return semaphore

    def drop_names(self) -> None:
        """Take the semaphores' names away; for when the process runs, and no other will be made."""
        named, self._named = self._named, []
        for each in named:
            # What multiprocessing would do once nobody refers to the semaphore any more: once only.
            for reference in weakref.getweakrefs(each):
                if isinstance(reference.__callback__, Finalize):
                    reference.__callback__()

    def Process(self, *args: Any, **kwargs: Any) -> ForkServerProcess:  # type: ignore[override]  # noqa: N802
        """Make the process. A class attribute in the base; the executor only ever calls it."""
        self.made = ForkServerProcess(*args, **kwargs)
        return self.made


@contextlib.contextmanager
def main_left_out(needed: bool) -> Iterator[None]:
    """Keep multiprocessing from importing the user's script in each worker, unless the transform lives there.

    It spares every worker that import, and a script that calls us without ``if __name__ == "__main__"`` works.
    """
    if needed:
        yield
        return
    with _main_swap:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Processes started within look for modules where they are installed, and what they start does as well.

    A worker still finds what this process finds: it is sent this process's ``sys.path``.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def start_servers() -> None:
    """Start the fork server and the resource tracker, unless they run, with signals blocked in both."""
    # One by one: starting the tracker unblocks two of the signals in this thread.
    for server in (resource_tracker, forkserver):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEEDED)
        try:
            with _safe_path():
                server.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
