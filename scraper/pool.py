"""The transform stage: batches of responses in, one answer each out, in order, whatever the transform does.

    engine ─batch─▶ Pool.run ─▶ inline: on the loop, or in a thread if there is much to hash
                            └─▶ the worker with the least in hand; lost ─▶ quarantine

Endings, and code that deviates is a bug:

- All is done: workers are idle, are told to leave, and leave within milliseconds.
- A worker dies or an item takes too long: what the worker had in hand is lost, and nothing else. A batch it had
  not begun with goes to another worker. The items of the one it was at are tried again one at a time, in a worker
  that does nothing else. An item that ends that one as well is ``transform.crashed`` or ``transform.timeout``;
  the others are answered.
- A worker has done its share, or has grown: a fresh one is started, takes its place, and then it leaves.
- The run is cancelled or fails: workers are killed; no process outlives ``async with``.

Whoever needs a worker that is not there starts it; so nothing runs in the background but one timer.

Must never: raise into the engine for an item; hang; hand over anything but plain records.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from scraper.config import PoolConfig
from scraper.errors import InternalFault, TransformFailed
from scraper.memory import Memory
from scraper.protocols import Transform
from scraper.records import Response, Transformed
from scraper.worker import Answer, Parcel, failed, opened, pack, transformed
from scraper.workers import UNKNOWN_EXIT, NoDescriptors, Worker, WorkerLost

_INLINE_BYTES = 1024 * 1024
"""Bodies that an inline transform may hash on the loop at once: half a millisecond. More goes to a thread."""

_LOOK_S = 0.5
"""Between looks at the workers; the limit of an item is kept to within as much."""

_TRIES_ALONE = 3
"""Tries of an item that has a worker of its own, where each end may have come from outside.

Killing a random one of three workers twice a second hits the one that is at an item of 10 ms with a chance of
2/s x 10 ms / 3 = 0.7 %: three times in a row is one item in three million, of the sixteen that a kill puts there.
"""

_UNBEGUN = 3
"""Times a batch goes to another worker because its own died before it came to it. Then it is under suspicion too:
a transform may have threads that end a worker between batches."""

_STARTS = 5
"""Starts of a worker, where each dies of what may have come from outside; odds as above, of a start of 50 ms: one
in a hundred million."""

_PAUSE_S = 0.05
"""Before the second start, and so much more before each further one: descriptors and memory come back."""

_STACKS_S = 2.0
_STACKS_LOOKS = 20


class Pool:
    """Runs a transform over batches, in processes unless it is cheap enough to run inline.

    Use as ``async with``; workers are up and warm when it is entered.

    Args:
        transform: what to run.
        config: how many processes, how large the batches, what limits.
        memory: where responses with a ``place`` have their bodies; None to send all of them through pipes.

    Attributes:
        answered: items answered so far.

    Raises:
        InternalFault: from entering, and from ``run`` after a crash: workers cannot be started.
        NoDescriptors: the same, for want of descriptors.
        UsageError: from entering: the transform cannot be sent to workers.
    """

    def __init__(self, transform: Transform, config: PoolConfig, memory: Memory | None = None) -> None:
        self.answered = 0
        self._transform = transform
        self._config = config
        self._shared = memory.shared if memory else None
        self._costs = _Costs()
        self._workers: list[Worker] = []  # in service
        self._open: set[Worker] = set()  # with those that start, leave, or are in quarantine
        self._filling = asyncio.Lock()
        self._look_s = min(_LOOK_S, config.item_timeout_s / 4)
        self._looking: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        name = type(self._transform).__name__
        return f"<Pool {name} inline>" if self._transform.inline else f"<Pool {name} {list(self._open)}>"

    async def __aenter__(self) -> Self:
        if self._transform.inline:
            self._transform.warm_up()
            self._thread = ThreadPoolExecutor(1, "inline-transform")
            return self
        try:
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(self._started()) for _ in range(self._config.workers)]
        except BaseException as error:
            await self._close_all()
            raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None
        self._workers = [start.result() for start in starts]
        self._looking = asyncio.get_running_loop().call_later(self._look_s, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
        if self._looking is not None:
            self._looking.cancel()
        await self._close_all()

    async def run(self, batch: Sequence[Response]) -> list[Transformed]:
        """Transform a batch; one answer per response, in order. Never raises for an item."""
        answers = await (self._run_inline(batch) if self._transform.inline else self._run_in_workers(batch))
        for response, answer in zip(batch, answers, strict=True):
            self._costs.learn(response, answer.busy_s)
        return answers

    def cost(self, response: Response) -> float:
        """Seconds this response is expected to take, from those before it; for cutting batches."""
        return self._costs.predict(response)

    async def stacks(self) -> str:
        """What each worker's threads are doing, for a log. Takes two seconds at most."""
        stacks = {worker: "" for worker in self._open if worker.is_warm and not worker.lost}
        for worker in stacks:
            worker.ask_stacks()
        for _ in range(_STACKS_LOOKS):
            await asyncio.sleep(_STACKS_S / _STACKS_LOOKS)
            for worker in stacks:
                stacks[worker] += worker.read_stacks()
            if all(stacks.values()):
                break
        return "\n".join([repr(self), *(f"{worker}\n{text or 'no answer'}" for worker, text in stacks.items())])

    def break_jam(self) -> None:
        """Kill the workers whose item is over its limit; if none is, all. What they had is tried again."""
        for worker in [each for each in self._open if each.is_late] or self._open:
            worker.kill()

    # ---- a batch -----------------------------------------------------------------------------------------

    async def _run_inline(self, batch: Sequence[Response]) -> list[Transformed]:
        if sum(len(response.body) for response in batch) <= _INLINE_BYTES:
            answers = [transformed(self._transform, response) for response in batch]
        else:
            answers = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: [transformed(self._transform, response) for response in batch]
            )
        self.answered += len(batch)
        return answers

    async def _run_in_workers(self, batch: Sequence[Response]) -> list[Transformed]:
        answers: dict[int, Answer] = {}
        parcels: dict[int, Parcel] = {}
        for number, response in enumerate(batch):
            try:
                parcels[number] = pack(response, is_shared=self._shared is not None)
            except TransformFailed as error:
                answers[number] = failed(error)
        if parcels:
            answers.update(zip(parcels, await self._answers(list(parcels.values())), strict=True))
        return [opened(answers[number], response.body) for number, response in enumerate(batch)]

    async def _answers(self, parcels: list[Parcel]) -> list[Answer]:
        for _ in range(_UNBEGUN):
            worker = await self._least_busy()
            try:
                answers = await worker.ask(parcels)
            except WorkerLost as lost:
                await self._close(worker)
                if lost.begun:
                    break
                continue
            self.answered += len(parcels)
            if worker.is_spent:
                await self._renew(worker)
            return answers
        return await self._answers_alone(parcels)

    async def _answers_alone(self, parcels: Sequence[Parcel]) -> list[Answer]:
        """Quarantine: each with nothing beside it, in a worker that does nothing else.

        Each batch has its own, so that none waits for another's; it takes three times the limit an item at most.
        """
        answers: list[Answer] = []
        tries = 0
        worker = await self._started()
        try:
            while len(answers) < len(parcels):
                tries += 1
                try:
                    answers += await worker.ask([parcels[len(answers)]])
                except WorkerLost:
                    await self._close(worker)
                    lost, worker = worker, await self._started()
                    if lost.ended_from_outside and tries < _TRIES_ALONE:
                        continue
                    answers.append(failed(self._verdict(lost)))
                tries = 0
                self.answered += 1
        finally:
            await self._close(worker)
        return answers

    def _verdict(self, worker: Worker) -> TransformFailed:
        """What to say of an item that ended this worker."""
        code = worker.exit_code
        if worker.timed_out:
            sentence = f"Not finished within {self._config.item_timeout_s:g} s, so its worker was killed."
            return TransformFailed("transform.timeout", sentence)
        if worker.fault:
            return TransformFailed("transform.error", f"Its answer cannot be sent back: {worker.fault}")
        if code == UNKNOWN_EXIT:
            return TransformFailed("transform.crashed", "The worker process ended, and how is not known.")
        if code < 0:
            return TransformFailed("transform.crashed", f"The worker process died of {_signal_name(-code)}.")
        return TransformFailed("transform.crashed", f"The worker process ended with exit code {code}.")

    # ---- the workers -------------------------------------------------------------------------------------

    async def _least_busy(self) -> Worker:
        """A worker for the next batch: one with room, or a new one if one is missing, or else the least busy."""
        while True:
            alive = [worker for worker in self._workers if not worker.lost]
            worker = min(alive, key=lambda each: each.batches, default=None)
            is_complete = len(alive) >= self._config.workers
            if worker is not None and (is_complete or worker.batches < self._config.in_flight):
                return worker
            await self._fill_a_place()

    async def _fill_a_place(self) -> None:
        async with self._filling:
            for worker in [each for each in self._workers if each.lost]:
                self._workers.remove(worker)
                await self._close(worker)
            if len(self._workers) < self._config.workers:  # others may have filled it meanwhile
                self._workers.append(await self._started())

    async def _renew(self, worker: Worker) -> None:
        """Put a fresh worker in the place of one that is spent, which goes on until that is warm."""
        async with self._filling:
            if worker in self._workers:
                fresh = await self._started()
                self._workers[self._workers.index(worker)] = fresh
        if not worker.batches:
            await self._close(worker)

    async def _started(self) -> Worker:
        """A new worker, warm. One that dies of what may come from outside is followed by another."""
        failure: WorkerLost | NoDescriptors | None = None
        for tries in range(_STARTS):
            await asyncio.sleep(tries * _PAUSE_S)
            try:
                worker = Worker(self._transform, self._config, self._shared)
            except NoDescriptors as error:
                failure = error
                continue
            self._open.add(worker)
            try:
                await worker.start()
                return worker
            except (WorkerLost, NoDescriptors) as error:
                failure = error
                await self._close(worker)
                if not worker.ended_from_outside:
                    break
            except BaseException:
                await self._close(worker)
                raise
        if isinstance(failure, NoDescriptors):
            raise failure
        raise InternalFault(f"A worker process could not start: {failure}.")

    async def _close(self, worker: Worker) -> None:
        try:
            await worker.close()
        finally:
            self._open.discard(worker)

    async def _close_all(self) -> None:
        await asyncio.gather(*(self._close(worker) for worker in list(self._open)))

    def _look(self) -> None:
        for worker in self._open:
            worker.look(self._look_s)
        self._looking = asyncio.get_running_loop().call_later(self._look_s, self._look)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Costs:
    """Predicts the seconds an item takes, by its size to a power of two and the family of its content type."""

    _WEIGHT = 0.1  # of the newest: the last 20 or so items decide
    _FAMILIES = frozenset({"image", "text", "application", "audio", "video"})
    _FIRST_GUESS_S = 0.005  # before anything is known, batches of four

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], float] = {}

    def _kind(self, response: Response) -> tuple[str, int]:
        family = response.headers.get("content-type", "").partition("/")[0]
        # Servers choose the header, so only known families are kept apart: the table stays small.
        return (family if family in self._FAMILIES else "", len(response.body).bit_length())

    def predict(self, response: Response) -> float:
        return self._seconds.get(self._kind(response), self._FIRST_GUESS_S)

    def learn(self, response: Response, busy_s: float) -> None:
        if busy_s > 0:
            kind = self._kind(response)
            before = self._seconds.get(kind, busy_s)
            self._seconds[kind] = before + self._WEIGHT * (busy_s - before)
