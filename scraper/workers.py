"""One generation of worker processes behind one executor: started together, warm together, lost together.

Batches of parcels come in, lists of answers go out. When any worker dies the whole generation is lost: the
standard executor cannot go on, and its pipes may hold half a message. ``scraper.pool`` then starts another.

Must never: leave a process behind; leave a caller waiting for an answer that cannot come.

Four things about ``ProcessPoolExecutor`` shape this file:

- It starts processes inside ``submit``, on the caller's thread. So all are started and warmed first, elsewhere.
- A worker killed while it writes a result leaves the executor's thread reading the rest of that message for
  ever, since other processes hold the writing end too. So the loop watches the processes itself, kills all when
  one dies, and the parent's own copy of the writing end is closed at once: then the reader sees the end.
- Its futures must not be cancelled: in several releases a cancelled one stops its thread when a worker dies.
- ``max_tasks_per_child`` dead-locks in most releases, so it is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from scraper.errors import InternalFault, UsageError
from scraper.protocols import Transform
from scraper.worker import READY, Answer, Parcel, run_batch, start_worker

_CLOSE_S = 0.5
"""How long idle workers may take to leave by themselves before they are killed."""

_SLACK_S = 2.0
"""The workers' own time limit comes first; ours is for a worker that is stopped or has disarmed its timer."""

_main_swap = threading.Lock()


class WorkersLost(Exception):
    """A worker of this generation died, or was killed for taking too long; its batches have no answers.

    Between this module and ``scraper.pool`` only.
    """


class _Context(ForkServerContext):
    """The forkserver context, which remembers the processes it made: they are ours to watch and to kill."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[ForkServerProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> ForkServerProcess:  # type: ignore[override]  # noqa: N802
        # A class attribute in the base, named by the standard library; the executor only ever calls it.
        process = ForkServerProcess(*args, **kwargs)
        self.made.append(process)
        return process


@contextlib.contextmanager
def _main_left_out(needed: bool) -> Iterator[None]:
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


def _pickled(transform: Transform) -> bytes:
    try:
        return pickle.dumps(transform)
    except Exception as error:
        kind = type(transform).__name__
        raise UsageError(
            f"The transform {kind} cannot be sent to worker processes ({error}); "
            "make it a frozen dataclass at the top level of a module, with plain fields."
        ) from error


class Workers:
    """Worker processes, all with the same transform.

    Args:
        transform: what they run; goes to each once.
        count: how many processes.
        item_timeout_s: the longest one item may take.
    """

    def __init__(self, transform: Transform, count: int, item_timeout_s: float) -> None:
        self.lost = False
        """No further batch can be answered."""
        self.timed_out = False
        """It was us who killed them, for taking too long."""
        self._count = count
        self._item_timeout_s = item_timeout_s
        self._in_flight = 0
        self._moved_at = 0.0  # when a batch last came back, or the first went out
        self._watched: list[int] = []
        self._transform = _pickled(transform)
        self._context = _Context()
        # Imported once, in the fork server, and then shared by all workers; unknown names are skipped there.
        preload = (type(transform).__module__, *getattr(transform, "preload", ()))
        self._context.set_forkserver_preload(["concurrent.futures.process", "scraper.worker", *preload])
        self._ready, report = self._context.Pipe(duplex=False)
        self._report: Connection = report
        self._executor = ProcessPoolExecutor(
            count,
            mp_context=self._context,
            initializer=start_worker,
            initargs=(self._transform, item_timeout_s, report),
        )

    def __repr__(self) -> str:
        state = "lost" if self.lost else "up"
        return f"<Workers {state}, {self._count} processes, {self._in_flight} items in flight>"

    @classmethod
    async def launch(cls, transform: Transform, count: int, item_timeout_s: float) -> Workers:
        """Start ``count`` processes, and return when every one of them is warm.

        Raises:
            InternalFault: a worker could not start; the message says why.
            UsageError: the transform cannot be pickled.
        """
        workers = cls(transform, count, item_timeout_s)
        starting = asyncio.get_running_loop().run_in_executor(None, workers._start)
        try:
            await asyncio.shield(starting)
        except BaseException:
            workers.kill()
            await asyncio.wait([starting])
            await workers.close()
            raise
        workers._watch()
        return workers

    def _start(self) -> None:
        """Blocking part of ``launch``, in a thread."""
        try:
            with _main_left_out(needed=b"__main__" in self._transform):
                # Each submit starts a process unless one has fallen idle already, hence the loop.
                while len(self._context.made) < self._count and not self.lost:
                    self._executor.submit(run_batch, ())
        except BrokenExecutor:
            pass  # one has died already; its report, or the lack of it, is read below
        finally:
            self._report.close()  # the workers hold the other copies: when the last of them goes, recv ends
        if self.lost:  # abandoned meanwhile; a process may have been on its way when the others were killed
            self.kill()
            return
        # Every process is there, so nobody will need the parent's end again: see the module's text.
        self._executor._result_queue._writer.close()  # type: ignore[attr-defined]
        for _ in range(self._count):
            try:
                report = self._ready.recv()
            except EOFError:
                report = "it died while warming up"
            if report != READY:
                raise InternalFault(f"A worker process could not start: {report}.")

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        for process in self._context.made:
            loop.add_reader(process.sentinel, self.kill)
            self._watched.append(process.sentinel)

    async def ask(self, parcels: Sequence[Parcel]) -> list[Answer]:
        """Have one worker answer a batch.

        Raises:
            WorkersLost: there is no answer, and there will be none from this generation.
        """
        loop = asyncio.get_running_loop()
        if not self._in_flight:
            self._moved_at = loop.time()
        answers = self._submit(parcels)
        # While other batches come back, this one's turn will come: the clock runs from the last that did.
        limit_s = len(parcels) * self._item_timeout_s + _SLACK_S
        try:
            while not answers.done():
                left_s = self._moved_at + limit_s - loop.time()
                if left_s <= 0:
                    self.timed_out = True
                    raise TimeoutError
                await asyncio.wait([answers], timeout=left_s)
            return answers.result()
        except Exception as error:  # too late, broken, shut down, an answer that cannot be pickled: the same to us
            self.kill()
            raise WorkersLost from error

    def _submit(self, parcels: Sequence[Parcel]) -> asyncio.Future[list[Answer]]:
        future = asyncio.get_running_loop().run_in_executor(self._executor, run_batch, parcels)
        self._in_flight += len(parcels)

        # Not in ``ask``: when its caller is cancelled, the worker is as busy as before.
        def landed(future: asyncio.Future[list[Answer]]) -> None:
            self._in_flight -= len(parcels)
            self._moved_at = future.get_loop().time()
            if not future.cancelled():
                future.exception()  # seen, even when nobody waits any more

        future.add_done_callback(landed)
        return future

    def kill(self) -> None:
        """End every process now. Answers under way are lost."""
        self.lost = True
        self._unwatch()
        for process in self._context.made:
            if process.pid is not None:
                process.kill()

    def _unwatch(self) -> None:
        while self._watched:
            asyncio.get_running_loop().remove_reader(self._watched.pop())

    async def close(self) -> None:
        """Let the workers go: by themselves if they are idle, by SIGKILL if they are busy or too slow."""
        if self._in_flight:
            self.kill()
        self.lost = True
        self._unwatch()
        self._ready.close()
        ending = asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.shield(ending)
        except TimeoutError:
            await self._end(ending)
            await ending
        except asyncio.CancelledError:
            await self._end(ending)
            raise

    async def _end(self, ending: asyncio.Future[None]) -> None:
        """Kill what is left, and see the executor's own threads out."""
        self.kill()
        _, waiting = await asyncio.wait([ending], timeout=_CLOSE_S)
        if waiting:
            # Before Python 3.11.5 a thread that was writing into the full pipe to the workers goes on for ever:
            # the executor has kept the reading end open. Not sooner, since a thread that is well closes it itself.
            self._executor._call_queue._reader.close()  # type: ignore[attr-defined]
            await asyncio.wait([ending])

    @property
    def exit_code(self) -> int:
        """How the first worker that died ended: the negative signal, or its exit code. For after ``close``."""
        return next((code for process in self._context.made if (code := process.exitcode)), 0)
