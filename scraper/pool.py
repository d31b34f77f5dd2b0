"""The transform stage: batches of responses in, one answer each out, in order, whatever the transform does.

    engine ─batch─▶ Pool.run ─▶ inline: on the loop, or in a thread if there is much to hash
                            └─▶ workers: one batch to one process; lost ─▶ new workers + quarantine

Endings, and code that deviates is a bug:

- All is done: workers are idle, are told to leave, and leave within milliseconds.
- A worker dies or an item takes too long: everything in flight is lost with the generation. Another one is
  started, and the items that were in flight are tried again one at a time in a single worker. An item that
  ends that one as well is ``transform.crashed`` or ``transform.timeout``; the others are answered.
- The run is cancelled or fails: workers are killed; no process outlives ``async with``.

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
from scraper.errors import TransformFailed
from scraper.protocols import Transform
from scraper.records import Response, Transformed
from scraper.worker import Parcel, opened, pack, transformed
from scraper.workers import Workers, WorkersLost

_INLINE_BYTES = 1024 * 1024
"""Bodies that an inline transform may hash on the loop at once: half a millisecond. More goes to a thread."""

_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Ends that the kernel's memory killer or an operator brings: no proof against the item."""


class Pool:
    """Runs a transform over batches, in processes unless it is cheap enough to run inline.

    Use as ``async with``; workers are up and warm when it is entered.

    Args:
        transform: what to run.
        config: how many processes, how large the batches.

    Raises:
        InternalFault: from entering, and from ``run`` after a crash: workers cannot be started.
    """

    def __init__(self, transform: Transform, config: PoolConfig) -> None:
        self._transform = transform
        self._config = config
        self._costs = _Costs()
        self._workers: Workers | None = None  # None until entered, and for an inline transform
        self._replacing = asyncio.Lock()
        self._single: Workers | None = None  # for the items under suspicion
        self._quarantine = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<Pool {type(self._transform).__name__} {'inline' if self._transform.inline else self._workers}>"

    async def __aenter__(self) -> Self:
        if self._transform.inline:
            self._transform.warm_up()
            self._thread = ThreadPoolExecutor(1, "inline-transform")
        else:
            self._workers = await self._launch(self._config.workers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
        open_ = [workers for workers in (self._workers, self._single) if workers is not None]
        await asyncio.gather(*(workers.close() for workers in open_))

    async def _launch(self, count: int) -> Workers:
        return await Workers.launch(self._transform, count, self._config.item_timeout_s)

    async def run(self, batch: Sequence[Response]) -> list[Transformed]:
        """Transform a batch; one answer per response, in order. Never raises for an item."""
        answers = await (self._run_inline(batch) if self._transform.inline else self._run_in_workers(batch))
        for response, answer in zip(batch, answers, strict=True):
            self._costs.learn(response, answer.busy_s)
        return answers

    def cost(self, response: Response) -> float:
        """Seconds this response is expected to take, from those before it; for cutting batches."""
        return self._costs.predict(response)

    async def _run_inline(self, batch: Sequence[Response]) -> list[Transformed]:
        if sum(len(response.body) for response in batch) <= _INLINE_BYTES:
            return [transformed(self._transform, response) for response in batch]
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: [transformed(self._transform, response) for response in batch]
        )

    async def _run_in_workers(self, batch: Sequence[Response]) -> list[Transformed]:
        answers: dict[int, Transformed] = {}
        parcels: dict[int, Parcel] = {}
        for number, response in enumerate(batch):
            try:
                parcels[number] = pack(response)
            except TransformFailed as error:
                answers[number] = Transformed(error=error)
        if parcels:
            answers.update(zip(parcels, await self._answers(list(parcels.values())), strict=True))
        return [answers[number] for number in range(len(batch))]

    async def _answers(self, parcels: list[Parcel]) -> list[Transformed]:
        assert self._workers is not None, "run() outside of async with"
        while self._workers.lost:  # by other batches; these parcels were not in flight and are above suspicion
            await self._replace(self._workers)
        workers = self._workers
        try:
            return [opened(answer) for answer in await workers.ask(parcels)]
        except WorkersLost:
            await self._replace(workers)
        async with self._quarantine:
            return [await self._answer_alone(parcel) for parcel in parcels]

    async def _replace(self, lost: Workers) -> None:
        """Start a new generation; the first of those who notice does it for all."""
        async with self._replacing:
            if self._workers is lost:
                await lost.close()
                self._workers = await self._launch(self._config.workers)

    async def _answer_alone(self, parcel: Parcel) -> Transformed:
        """Try an item with nothing beside it. Twice, if its worker's end may have come from outside."""
        for last_try in (False, True):
            if self._single is None:
                self._single = await self._launch(1)
            single = self._single
            try:
                return opened((await single.ask([parcel]))[0])
            except WorkersLost as error:
                await single.close()
                self._single = None
                if not last_try and single.exit_code in _FROM_OUTSIDE and not single.timed_out:
                    continue
                return Transformed(error=self._verdict(single, error))
        raise AssertionError("the last try returns")

    def _verdict(self, single: Workers, error: WorkersLost) -> TransformFailed:
        code = single.exit_code
        if single.timed_out or code == -signal.SIGALRM:
            sentence = f"Not finished within {self._config.item_timeout_s:g} s, so its worker was killed."
            return TransformFailed("transform.timeout", sentence)
        if code < 0:
            return TransformFailed("transform.crashed", f"The worker process died of {_signal_name(-code)}.")
        return TransformFailed("transform.crashed", f"The worker process ended with exit code {code}.")


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
