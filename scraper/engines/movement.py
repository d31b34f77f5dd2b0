"""What the pipeline engine shows to ``engines.stuck``: whether it moves, what it waits for, how to free it.

In: the stages' own counts. Out: a few numbers, a word, a description. Costs nothing per row but one entry for each
fetch under way. Must never: take part in the run's decisions before the run is stuck.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from scraper.answers import Answer, Ask, Failed, Fetched
from scraper.arena import Arena
from scraper.engines.committer import Committer
from scraper.engines.permits import Permits
from scraper.engines.reader import Reader
from scraper.engines.stuck import Wait
from scraper.errors import FetchFailed
from scraper.frontier import Frontier
from scraper.meter import Meter
from scraper.pool import Pool
from scraper.records import NO_TIMINGS, Outcome, Request


class Movement:
    """One run's. Implements ``scraper.engines.stuck.Watched``.

    Attributes:
        pool: the workers, once there are any.
        breaks: how to free what is stuck, by what is waited for.
    """

    def __init__(
        self,
        meter: Meter,
        rows: Reader[Request | Outcome],
        frontier: Frontier,
        committer: Committer,
        permits: Permits,
        arena: Arena,
    ) -> None:
        self._meter = meter
        self._rows = rows
        self._frontier = frontier
        self._committer = committer
        self._permits = permits
        self._arena = arena
        self._asking: dict[asyncio.Task[object], None] = {}
        self._given_up: set[asyncio.Task[object]] = set()
        self.pool: Pool | None = None
        self.breaks: Mapping[Wait, Callable[[], None]] = {
            Wait.SERVERS: self._give_up_fetches,
            Wait.WORKERS: self._give_up_items,
        }

    def moved(self) -> object:
        """Every count that an event of the run changes."""
        meter = self._meter
        counts = (meter.rows_read, meter.rows_done, meter.asked, meter.fetched_bytes, meter.retries)
        answered = self.pool.answered if self.pool else 0
        return (*counts, answered, self._committer.calls, self._arena.held, self._frontier.statistics())

    def waits_for(self) -> Wait:
        """What a row that has come furthest waits for."""
        meter, frontier = self._meter, self._frontier.statistics()
        if self._committer.is_busy:
            return Wait.DISK
        if meter.transforming:
            return Wait.WORKERS
        if meter.in_flight:
            return Wait.SERVERS
        if meter.paused:
            return Wait.PAUSE
        if frontier.queued == 0 and self._rows.is_wanted:
            return Wait.LIST
        return Wait.TIME if frontier.waits else Wait.UNKNOWN

    async def state(self) -> Mapping[str, object]:
        """Queues, permits and workers as they are."""
        return {
            "frontier": repr(self._frontier),
            "permits": repr(self._permits),
            "arena": repr(self._arena),
            "paused": dict(self._meter.paused),
            "fetching": self._meter.in_flight,
            "transforming": self._meter.transforming,
            "channels": [repr(each) for each in self._meter.channels()],
            "workers": await self.pool.stacks() if self.pool else "none",
        }

    async def fetch(self, hop: Ask, request: Request) -> Fetched | Answer:
        """Make a hop. One that was given up ends as ``timeout.total``."""
        task = asyncio.current_task()
        assert task is not None
        self._asking[task] = None
        self._meter.asked += 1
        self._meter.in_flight += 1
        try:
            return await hop(request)
        except asyncio.CancelledError:
            if task not in self._given_up or task.uncancel():  # the run's end is no end of a row's
                raise
            error = FetchFailed("timeout.total", "Given up: no limit of its own has ended it.")
            return Failed(error, NO_TIMINGS, request.asked)
        finally:
            self._meter.in_flight -= 1
            del self._asking[task]
            self._given_up.discard(task)

    def _give_up_fetches(self) -> None:
        for task in self._asking:
            self._given_up.add(task)
            task.cancel()

    def _give_up_items(self) -> None:
        assert self.pool is not None
        self.pool.break_jam()
