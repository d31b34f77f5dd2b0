"""The product: one event loop that fetches, worker processes that transform, one writer.

    feed ─▶ frontier ─▶ fetch (concurrency) ─▶ fetched ─▶ transform (2 a worker) ─▶ ended ─▶ write ─▶ ledger
      └─ rows that are no rows ────────────────────────────────────────────────────▶┘
                          └─ rows that failed ─────────────────────────────────────▶┘

How it ends. Code here that deviates from this is a bug.

All is done.
    feed: the list is read; the frontier is closed. fetch: the frontier is drained, so each worker gets None for
    a lease and leaves; after them ``fetched`` is closed. transform: ``fetched`` is closed and empty; after that
    ``ended`` is closed. write: ``ended`` is closed and empty: commit, finish the sink, commit.

The list ends in an error.
    As when all is done, for the rows before it, but the sink is not finished; then the error is raised.

A stage fails.
    The task group cancels the others. feed: its reading thread is a daemon and is left to itself. fetch: permits
    and bytes go back as the blocks are left. transform: goes with the pool. write: completes the batch in hand
    and commits what was written, unless it was the sink or the ledger that failed.

Nothing moves any more, though it should.
    ``scraper.engines.stuck`` says so in the log, ends what is stuck by its class, and if that does not help fails
    the run like a stage would.

The user interrupts.
    feed ends at once. fetch: no new lease; what is in flight goes on for ``grace_s``, then it is cancelled, which
    means that it has no outcome and the next run asks for it again. transform and write: as when all is done,
    but the sink is not finished, so that the next run goes on with it, unless every row has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext

from scraper.answers import Fetched
from scraper.arena import Arena
from scraper.backlog import Backlog
from scraper.channel import Channel
from scraper.config import MIB, RunConfig
from scraper.engines import endings
from scraper.engines.committer import Committer
from scraper.engines.fetching import Ended, Fetching
from scraper.engines.intake import Intake
from scraper.engines.job import Job
from scraper.engines.manners import Manners
from scraper.engines.movement import Movement
from scraper.engines.permits import Permits
from scraper.engines.reader import Reader
from scraper.engines.space import watch_space
from scraper.engines.stuck import watch_movement
from scraper.engines.treatment import Treatment
from scraper.engines.weather import Weather
from scraper.errors import InternalFault, RunStopped, ScraperError, UsageError, leaves
from scraper.fetch import Fetcher
from scraper.frontier import Frontier
from scraper.memory import shared_memory
from scraper.policies.robots import token_of
from scraper.pool import Pool
from scraper.records import Outcome, Request
from scraper.robots import Robots

READ_AHEAD = 2_000
"""Rows the reading thread may be ahead of the frontier: some milliseconds of work, well under a megabyte."""

WRITE_BATCH = 256
"""Most results in one write: at 5,000 rows a second that is a write every 50 ms."""

WRITE_BYTES = 8 * MIB
"""Most bytes of one write, or little more: a disk of 30 KB a second is still seen to move by ``engines.stuck``."""


async def run(job: Job) -> None:
    """Run ``job`` on this event loop. See ``scraper.engines.job`` for what that means."""
    try:
        it = _Run(job)
        with it.arena:
            await it.go()
    except BaseExceptionGroup as group:
        cause = _first_cause(group)
        raise cause from cause.__cause__


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user of: an interrupt before a fault of the run before anything else."""
    causes = list(leaves(group))
    for kind in (KeyboardInterrupt, SystemExit, asyncio.CancelledError, ScraperError):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    fault = InternalFault(f"An internal error ended the run: {causes[0]!r}. What was written is kept.")
    fault.__cause__ = causes[0]
    return fault


def _bytes_of(ended: Ended) -> float:
    return sum(len(item.data) for item in ended.result.items)


def _stuck_after_s(config: RunConfig) -> float:
    """As said, but not before what has a limit of its own has had its time twice over."""
    return max(config.stuck_s, 2 * config.fetch.timeout_s, 2 * config.pool.item_timeout_s)


class _Run:
    """The parts of one run, and its stages as methods in the order of the data's way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.meter = job.meter
        permits = job.config.permits
        self.permits = Permits(permits.concurrency)
        # What runs on this loop shares its memory with nobody.
        is_inline = job.pipeline.transform.inline
        self.arena = Arena(permits.byte_budget, None if is_inline else shared_memory(permits.byte_budget))
        self.fetched: Channel[Fetched] = Channel("fetched", bound=2 * permits.concurrency)
        self.ended: Channel[Ended] = Channel("ended", bound=2 * WRITE_BATCH)
        self.meter.channels = lambda: [self.fetched.statistics(), self.ended.statistics()]
        self.is_work: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.fetchers: list[asyncio.Task[None]] = []
        self.list_error: ScraperError | None = None

    async def go(self) -> None:
        """Run the stages, each group of tasks inside the one that reads what it makes."""
        job = self.job
        async with (
            job.sink,
            Backlog(job.scratch / "backlog.sqlite") as backlog,
            Intake(job) as intake,
            Reader(await intake.rows(), READ_AHEAD) as rows,
            asyncio.TaskGroup() as group,
        ):
            frontier = Frontier(job.config.permits, job.config.politeness, backlog)
            self.meter.paused, self.meter.waiting = frontier.paused, frontier.waits_for
            treatment = Treatment(frontier)
            committer = Committer(job.sink, job.ledger, treatment, job.config.dedupe)
            weather = Weather(job.config.health, frontier, self.permits)
            self.movement = Movement(job.meter, rows, frontier, committer, self.permits, self.arena)
            writing = group.create_task(self.write(committer), name="write")
            beside = (
                group.create_task(self.heed_stop(intake, rows, frontier), name="heed-stop"),
                group.create_task(weather.watch(), name="weather"),
                group.create_task(
                    watch_space(job.scratch, job.config.space, self.arena, frontier, job.meter), name="space"
                ),
                group.create_task(
                    watch_movement(
                        self.movement, _stuck_after_s(job.config), self.movement.breaks, job.last_resort
                    ),
                    name="movement",
                ),
            )
            with self.ended.producer():
                await self.fetch_and_transform(intake, rows, frontier, weather, treatment)
            await writing
            for task in beside:
                task.cancel()
        if self.list_error is not None:
            raise self.list_error

    async def fetch_and_transform(
        self,
        intake: Intake,
        rows: Reader[Request | Outcome],
        frontier: Frontier,
        weather: Weather,
        treatment: Treatment,
    ) -> None:
        """List → ``ended``. Workers are started, and warm, before the first fetch, and only if there is one."""
        job, limits = self.job, self.job.config
        async with asyncio.TaskGroup() as feeding:
            feeding.create_task(self.feed(intake, rows, frontier), name="feed")
            if not await self.is_work:
                return
            async with (
                Pool(job.pipeline.transform, limits.pool, self.arena.memory) as pool,
                self.fetcher() as fetcher,
                self.robots() as robots,
                asyncio.TaskGroup() as transforming,
            ):
                self.movement.pool = pool
                weather.names = fetcher.names
                manners = Manners(limits.politeness, frontier, robots, treatment, await job.ledger.holds())
                fetching = Fetching(limits.retry, frontier, fetcher, weather, manners, self.movement, self.meter)
                for n in range(limits.pool.workers * limits.pool.in_flight):
                    transforming.create_task(self.transform(pool), name=f"transform-{n}")
                with self.fetched.producer():
                    async with asyncio.TaskGroup() as asking:
                        for n in range(limits.permits.concurrency):
                            task = asking.create_task(self.fetch(frontier, fetching), name=f"fetch-{n}")
                            self.fetchers.append(task)

    def fetcher(self) -> Fetcher:
        """What makes hops, for this pipeline."""
        config, pipeline = self.job.config, self.job.pipeline
        return Fetcher(
            config.fetch,
            self.arena,
            pipeline.accept,
            pipeline.accept_encoding,
            opt_outs=config.politeness.opt_outs,
        )

    def robots(self) -> AbstractAsyncContextManager[Robots | None]:
        """What sites say in robots.txt, unless nobody is to be asked."""
        config = self.job.config
        if config.politeness.robots == "ignore":
            return nullcontext()
        return Robots(self.job.state / "robots.sqlite", token_of(config.fetch.user_agent))

    async def feed(self, intake: Intake, rows: Reader[Request | Outcome], frontier: Frontier) -> None:
        """List → frontier, without the rows that have an outcome already."""
        try:
            while chunk := await rows.take():
                fresh, ended = await intake.sort(chunk)
                for result in ended:
                    await self.ended.put(Ended(result))
                if fresh and not self.is_work.done():
                    self.is_work.set_result(True)
                if not await frontier.admit(fresh):
                    break
        except RunStopped as error:
            self.list_error = error  # the rows before it are good
        else:
            if not self.job.stop.is_set():
                self.meter.rows_total = self.meter.rows_read
                self.list_error = self.too_short()
        frontier.close()
        if not self.is_work.done():
            self.is_work.set_result(False)

    def too_short(self) -> UsageError | None:
        """What is wrong with a list that ends before rows that have ended: a pipe that broke, most likely."""
        held = self.job.ledger.last_row + 1
        if self.meter.rows_read >= held:
            return None
        return UsageError(
            f"The list has fewer than the {held} rows that have ended: it is another list, or was cut short. "
            "Give the whole list again, choose another -o OUT, or start over with --overwrite."
        )

    async def fetch(self, frontier: Frontier, fetching: Fetching) -> None:
        """Frontier → ``fetched``, or back to the frontier, or → ``ended``. One of ``concurrency`` workers."""
        while True:
            async with self.permits:
                async with frontier.lease() as request:
                    if request is None:
                        return
                    onward = await fetching.ask(request)
                # The host's permit is given back: what waits from here on, waits for us and not for the host.
                if isinstance(onward, Fetched):
                    await self.fetched.put(onward)
                elif onward is not None:
                    await self.ended.put(onward)
                # Its body is another stage's now: kept by each worker until the next, bodies would go uncounted.
                onward = None

    async def transform(self, pool: Pool) -> None:
        """``fetched`` → workers → ``ended``. As many of these as batches may be in flight."""
        limits = self.job.config.pool

        def cost(fetched: Fetched) -> float:
            return pool.cost(fetched.response)

        while (batch := await self.fetched.take(limits.batch_items, cost=cost, most=limits.batch_s)) is not None:
            self.meter.transforming += len(batch)
            answers = await pool.run([fetched.response for fetched in batch])
            self.meter.transforming -= len(batch)
            for fetched, answer in zip(batch, answers, strict=True):
                result = endings.of_answer(fetched.response, answer)  # asks the body for its length
                is_kept = any(item.data is fetched.response.body for item in answer.items)
                fetched.slot.shrink(sum(len(item.data) for item in answer.items), keep_body=is_kept)
                await self.ended.put(Ended(result, fetched.slot))
            del batch, answers, fetched, answer, result  # as in ``fetch``

    async def write(self, committer: Committer) -> None:
        """``ended`` → sink → ledger, in batches that are made durable by time and by count."""
        loop = asyncio.get_running_loop()
        commit = self.job.config.commit
        due = loop.time() + commit.every_s
        try:
            while True:
                wait_s = max(0.0, due - loop.time())
                batch = await self.ended.take(WRITE_BATCH, wait_s=wait_s, cost=_bytes_of, most=WRITE_BYTES)
                if batch is None:
                    break
                if batch:
                    await self.write_batch(batch, committer)
                del batch  # as in ``fetch``
                if loop.time() >= due or len(committer.pending) >= commit.every_rows:
                    await committer.commit()
                    due = loop.time() + commit.every_s
        except asyncio.CancelledError:
            await committer.commit()  # another stage failed; what is written here is good
            raise
        await committer.commit()
        if self.meter.rows_total == self.meter.rows_done:
            await committer.finish()

    async def write_batch(self, batch: Sequence[Ended], committer: Committer) -> None:
        """Some results → sink; their bytes are nobody's after that."""
        with ExitStack() as slots:
            for ended in batch:
                if ended.slot is not None:
                    slots.enter_context(ended.slot)
            outcomes = await committer.write([ended.result for ended in batch])
            for ended, outcome in zip(batch, outcomes, strict=True):
                self.meter.by_class[outcome.class_] += 1
                self.meter.written_bytes += sum(len(item.data) for item in ended.result.items)

    async def heed_stop(self, intake: Intake, rows: Reader[Request | Outcome], frontier: Frontier) -> None:
        """Interrupt → stop the intake, and after the grace period end what is still in flight."""
        await self.job.stop.wait()
        rows.stop()
        # A list of which nothing was read has not ended; and what interrupts us may have ended the program as well
        # that writes a list into our pipe, which then only looks as if it were at its end.
        is_whole = rows.is_at_end and rows.count > 0 and bool(self.job.identity)
        self.meter.rows_total = intake.first + rows.count if is_whole else None
        frontier.stop()
        if self.fetchers:
            _, late = await asyncio.wait(self.fetchers, timeout=self.job.config.grace_s)
            for task in late:
                task.cancel()
