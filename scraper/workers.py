"""A worker process, seen from the loop: one process behind one executor, started warm, watched, and replaceable.

Batches of parcels come in, lists of answers go out. When the process dies its batches are lost, and nobody
else's: the standard executor cannot go on, so a worker has one of its own, and ``scraper.pool`` starts another.

Must never: leave a process behind; leave a caller waiting for an answer that cannot come.

Five things about ``ProcessPoolExecutor`` shape this file:

- It starts its process inside ``submit``, on the caller's thread. So it is started and warmed first, elsewhere.
- A worker killed while it writes an answer leaves the executor's thread reading the rest of that message for
  ever if anybody else holds the writing end. So the parent's own copy is closed at once: the reader sees the end.
- The same with the pipe to the worker: the thread that fills it goes on for ever (before Python 3.11.5) if
  anybody else holds the reading end. So that copy is closed at once as well.
- Its futures must not be cancelled: in several releases a cancelled one stops its thread when a worker dies.
- ``max_tasks_per_child`` dead-locks in most releases, so it is not used: see ``Worker.is_spent``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path

from scraper.config import PoolConfig
from scraper.errors import InternalFault, RunStopped, UsageError
from scraper.memory import Shared
from scraper.protocols import Transform
from scraper.spawning import WorkerContext, main_left_out, start_servers
from scraper.worker import BATCHES, ITEMS, READY, STACKS_SIGNAL, Answer, Parcel, run_batch, start_worker

_START_S = 60.0
"""The longest a worker may take until it is warm: imports from a cold disk included."""

_CLOSE_S = 0.5
"""How long an idle worker may take to leave by itself before it is killed."""

UNKNOWN_EXIT = 255
"""What multiprocessing says of an end it has not heard of: the fork server was killed, its workers with it."""

_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, UNKNOWN_EXIT)
"""Ends that the kernel's memory killer or an operator brings: no proof against an item."""

_PIPE_BYTES = 65536


class WorkerLost(Exception):
    """The worker died, or was killed for taking too long; this batch has no answers.

    Between this module and ``scraper.pool`` only.

    Attributes:
        begun: whether the worker had begun with this batch: if not, it cannot have been the cause.
    """

    def __init__(self, message: str, begun: bool = False) -> None:
        super().__init__(message)
        self.begun = begun


class NoDescriptors(RunStopped):
    """This process, or this machine, may not open what a worker needs: about seven descriptors each."""

    def __init__(self, error: OSError) -> None:
        what = "this machine" if error.errno == errno.ENFILE else "this process"
        super().__init__(
            f"A worker process could not start: {what} has too many files open. Raise the limit (ulimit -n), or "
            "have fewer --workers, and run the same command again, it resumes."
        )


@contextlib.contextmanager
def _opening() -> Iterator[None]:
    """For what opens descriptors.

    Raises:
        NoDescriptors: there are none left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise NoDescriptors(error) from error
        raise


def _pickled(transform: Transform) -> bytes:
    try:
        return pickle.dumps(transform)
    except Exception as error:
        kind = type(transform).__name__
        raise UsageError(
            f"The transform {kind} cannot be sent to worker processes ({error}); "
            "make it a frozen dataclass at the top level of a module, with plain fields."
        ) from error


class Worker:
    """One worker process. ``start`` it, ``ask`` it, ``close`` it.

    Args:
        transform: what it runs; goes there once.
        config: its limits.
        shared: memory with bodies; None if they come with their parcels.

    Attributes:
        is_warm: it has started.
        lost: no further batch can be answered.
        timed_out: it was us who killed it, for taking too long over an item.
        fault: why what it sent was no answer, though it was well; empty otherwise.
        batches: in flight.
        resident: bytes of memory it held when it was looked at last.

    Raises:
        UsageError: the transform cannot be pickled.
        NoDescriptors: there are none left.
    """

    def __init__(self, transform: Transform, config: PoolConfig, shared: Shared | None = None) -> None:
        self.is_warm = False
        self.lost = False
        self.timed_out = False
        self.fault = ""
        self.batches = 0
        self.resident = 0
        self._given = 1  # batches handed over; the first is an empty one, at the start
        self._items = 0  # handed over
        self._config = config
        self._shared = shared
        self._transform = _pickled(transform)
        # Imported once, in the fork server, and then shared by all workers; unknown names are skipped there.
        self._preload = (type(transform).__module__, *getattr(transform, "preload", ()))
        self._context = WorkerContext()
        with _opening():
            self._progress = self._context.RawArray("Q", 2)  # shared with the worker; see scraper.worker.ITEMS
            self._report, self._their_report = self._context.Pipe(duplex=False)
        self._executor: ProcessPoolExecutor | None = None
        self._ending: asyncio.Future[None] | None = None
        self._gone = asyncio.get_running_loop().create_future()
        self._seen_items = 0
        self._seen_s = 0.0
        self._resident_warm = 0

    def __repr__(self) -> str:
        state = "lost" if self.lost else "up" if self.is_warm else "starting"
        return f"<Worker {self.pid} {state}, {self.batches} batches in flight>"

    @property
    def pid(self) -> int:
        """0 before there is a process."""
        return (self._context.made.pid or 0) if self._context.made else 0

    # ---- its start ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process, and return when it is warm.

        Raises:
            InternalFault: it cannot start; the message says why.
            NoDescriptors: there are none left.
            WorkerLost: it died or took too long, through no fault that it could name. Another one may do better.
        """
        starting = asyncio.get_running_loop().run_in_executor(None, self._start)
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.shield(starting)
        except BaseException as error:
            self.kill()
            await asyncio.wait([starting])
            starting.exception()  # seen; that it was killed is no news
            if isinstance(error, TimeoutError):
                raise WorkerLost(f"it was not ready within {_START_S:g} s") from error
            raise
        process = self._context.made
        assert process is not None
        asyncio.get_running_loop().add_reader(process.sentinel, self._died)
        self._resident_warm = _resident(self.pid)
        self.is_warm = True

    def _start(self) -> None:
        """Blocking part of ``start``, in a thread."""
        try:
            with _opening():
                self._spawn()
        except (BrokenExecutor, OSError, EOFError) as error:
            raise WorkerLost(f"{type(error).__name__}: {error}") from error
        finally:
            self._their_report.close()  # the worker holds the other copy: when that goes, recv ends
        if self.lost:  # abandoned meanwhile; the process may have been on its way when it was to be killed
            self._kill_process()
            raise WorkerLost("it was killed while it started")
        try:
            report = self._report.recv()
        except EOFError as error:
            raise WorkerLost("it died while warming up") from error
        if report != READY:
            raise InternalFault(f"A worker process could not start: {report}.")
        self._context.drop_names()
        os.set_blocking(self._report.fileno(), False)  # from now on stacks come through it, or nothing

    def _spawn(self) -> None:
        self._context.set_forkserver_preload(["concurrent.futures.process", "scraper.worker", *self._preload])
        with main_left_out(needed=b"__main__" in self._transform):
            start_servers()
            self._executor = ProcessPoolExecutor(
                1,
                mp_context=self._context,
                initializer=start_worker,
                initargs=(
                    self._transform,
                    self._config.memory_bytes,
                    self._shared,
                    self._progress,
                    self._their_report,
                ),
            )
            self._executor.submit(run_batch, ())
        # The process is there, so nobody will need the parent's ends again: see the module's text.
        self._executor._result_queue._writer.close()  # type: ignore[attr-defined]
        self._executor._call_queue._reader.close()  # type: ignore[attr-defined]

    # ---- its work ----------------------------------------------------------------------------------------

    async def ask(self, parcels: Sequence[Parcel]) -> list[Answer]:
        """Have a batch answered, after those that were given before.

        Raises:
            WorkerLost: there is no answer, and there will be no other from this worker.
        """
        self._given += 1
        number = self._given
        try:
            answers = self._submit(parcels)
            await asyncio.wait([answers, self._gone], return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                # What it had sent before it died is read to the end first. Not for ever: a process that the
                # transform has started may hold the pipe open.
                await asyncio.wait([answers], timeout=_CLOSE_S)
            return answers.result()
        except Exception as error:  # the executor is broken or shut down, or what came was no answer
            if isinstance(error, BrokenExecutor):
                await asyncio.wait([self._gone], timeout=_CLOSE_S)  # its own end says more than ours
            elif not self.lost:
                self.fault = f"{type(error).__name__}: {error}"
            self.kill()
            raise WorkerLost(str(error), begun=self._progress[BATCHES] >= number) from error

    def _submit(self, parcels: Sequence[Parcel]) -> asyncio.Future[list[Answer]]:
        future = asyncio.get_running_loop().run_in_executor(self._executor, run_batch, parcels)
        self.batches += 1
        self._items += len(parcels)

        # Not in ``ask``: when its caller is cancelled, the worker is as busy as before.
        def landed(future: asyncio.Future[list[Answer]]) -> None:
            self.batches -= 1
            if not future.cancelled():
                future.exception()  # seen, even when nobody waits any more

        future.add_done_callback(landed)
        return future

    def look(self, period_s: float) -> None:
        """Kill the worker if its item is over the limit. To be called every ``period_s``.

        What counts is the looks at which the worker was seen where it had been, whatever holds it there: native
        code, a timer it has disarmed, SIGSTOP. While the loop stands still nothing counts: nobody may be to blame.
        """
        items = self._progress[ITEMS]
        if not self.batches or items != self._seen_items:
            self._seen_items, self._seen_s = items, 0.0
        else:
            self._seen_s += period_s
        if self.is_late and not self.lost:
            self.timed_out = True
            self.kill()
        if self._items and not self.lost:
            self.resident = _resident(self.pid)

    @property
    def is_late(self) -> bool:
        """Whether its item is over the limit."""
        return self._seen_s >= self._config.item_timeout_s

    @property
    def is_spent(self) -> bool:
        """Whether it is time for a fresh one: what a transform leaks has an end."""
        # Twice what it began with, so that one whose models are larger than the limit does not start for ever.
        too_much = max(self._config.recycle_bytes, 2 * self._resident_warm)
        return self._items >= self._config.recycle_items or self.resident > too_much

    def ask_stacks(self) -> None:
        """Have the worker write down where its threads are, even in native code that holds the GIL.

        Not before it is warm: until then the signal would end it.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, STACKS_SIGNAL)

    def read_stacks(self) -> str:
        """What it has written down since."""
        try:
            return os.read(self._report.fileno(), _PIPE_BYTES).decode("utf-8", "replace")
        except OSError:  # nothing yet
            return ""

    # ---- its end -----------------------------------------------------------------------------------------

    def _died(self) -> None:
        assert self._context.made is not None
        asyncio.get_running_loop().remove_reader(self._context.made.sentinel)
        self.lost = True
        if not self._gone.done():
            self._gone.set_result(None)

    def kill(self) -> None:
        """End the process now. Answers under way are lost."""
        self.lost = True
        self._kill_process()
        if not self._gone.done():
            self._gone.set_result(None)

    def _kill_process(self) -> None:
        if self._context.made is not None and self._context.made.pid is not None:
            self._context.made.kill()

    async def close(self) -> None:
        """Let the worker go: by itself if it is idle, by SIGKILL if it is busy or too slow."""
        if self.batches:
            self.kill()
        self.lost = True
        if self._ending is None and self._executor is not None:
            self._ending = asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)
        try:
            if self._ending is not None:
                async with asyncio.timeout(_CLOSE_S):
                    await asyncio.shield(self._ending)
        except BaseException as error:
            self.kill()
            assert self._ending is not None
            wait_s = _CLOSE_S
            while not (await asyncio.wait([self._ending], timeout=wait_s))[0]:
                wait_s = 0.01
                self._free_threads()
            if not isinstance(error, TimeoutError):
                raise
        finally:
            if self._context.made is not None and self._context.made.pid is not None:
                self._died()
            self._report.close()
            self._their_report.close()

    def _free_threads(self) -> None:
        """Help the executor's threads out of the pipes, where a process that the transform forked holds them.

        One thread may wait for the rest of an answer: it gets zeros, with which no pickle ends, so it is refused.
        The other may wait for room: it gets some.
        """
        # AttributeError: the executor has put its pipes away this moment.
        with contextlib.suppress(OSError, AttributeError):
            answers = self._executor._result_queue._reader.fileno()  # type: ignore[union-attr]
            _through(answers, os.O_WRONLY, lambda pipe: os.write(pipe, bytes(_PIPE_BYTES)))
        with contextlib.suppress(OSError, AttributeError):
            parcels = self._executor._call_queue._writer.fileno()  # type: ignore[union-attr]
            _through(parcels, os.O_RDONLY, lambda pipe: os.read(pipe, _PIPE_BYTES))

    @property
    def ended_from_outside(self) -> bool:
        """Whether its end, or that it never began, may be no doing of its items. For after ``close``."""
        by_us = self.timed_out or bool(self.fault)
        return (self.exit_code in _FROM_OUTSIDE or not self.pid) and not by_us

    @property
    def exit_code(self) -> int:
        """How it ended: the negative signal, or its exit code. For after ``close``."""
        return (self._context.made and self._context.made.exitcode) or 0


def _through(pipe: int, mode: int, do: Callable[[int], object]) -> None:
    """Use the other end of a pipe of which this process has one only, without waiting. On Linux."""
    other = os.open(f"/proc/self/fd/{pipe}", mode | os.O_NONBLOCK)
    try:
        do(other)
    finally:
        os.close(other)


def _resident(pid: int) -> int:
    """Bytes of memory the process holds for itself; 0 where there is no /proc to ask, or no process any more."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
