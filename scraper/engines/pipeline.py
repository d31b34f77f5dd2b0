"""The product: one event loop that fetches, worker processes that transform, one writer.

    feed ─▶ frontier ─▶ fetch (concurrency) ─▶ fetched ─▶ transform (2 a worker) ─▶ ended ─▶ write ─▶ ledger
      └─ rows that are no rows ────────────────────────────────────────────────────▶┘
                          └─ rows that failed ─────────────────────────────────────▶┘

How it ends. Code here that deviates from this is a bug.

All is done.
    feed: the list is read; the frontier is closed. fetch: the frontier is drained, so each worker gets None for
    a lease and leaves; the last one closes ``fetched``. transform: ``fetched`` is closed and empty; the last one
    closes ``ended``. write: ``ended`` is closed and empty: commit, finish the sink, commit.

A stage fails.
    The task group cancels the others. feed: its reading thread is a daemon and is left to itself. fetch: permits
    and bytes go back as the blocks are left. transform: goes with the pool. write: completes the batch in hand
    and commits what was written, unless it was the sink or the ledger that failed.

The user interrupts.
    feed ends at once. fetch: no new lease; what is in flight goes on for ``grace_s``, then it is put back, which
    means that it has no outcome and the next run asks for it again. transform and write: as when all is done,
    but the sink is not finished, so that the next run goes on with it, unless every row has ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from scraper.arena import Arena, Slot
from scraper.backlog import Backlog
from scraper.channel import Channel
from scraper.engines.job import Job
from scraper.engines.reader import Reader
from scraper.errors import InternalFault, RowFailed, ScraperError
from scraper.fetch import Failed, Fetched, Fetcher, Redirected
from scraper.frontier import Frontier
from scraper.ledger import Ledger
from scraper.meter import HostMeter
from scraper.policies import retry
from scraper.pool import Pool
from scraper.protocols import Sink
from scraper.records import Outcome, Request, Response, Result, Timings, Transformed

READ_AHEAD = 2_000
"""Rows the reading thread may be ahead of the frontier: some milliseconds of work, well under a megabyte."""

WRITE_BATCH = 256
"""Most results in one write: at 5,000 rows a second that is a write every 50 ms."""

HOSTS_METERED = 1_000
"""Hosts that progress can tell apart; a broad crawl has more, and nobody reads more."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A response on its way to the workers, with the slot that accounts for its bytes."""

    response: Response
    slot: Slot


@dataclass(frozen=True, slots=True)
class _Ended:
    """A row on its way to the sink, with the slot that accounts for its bytes, where it has any."""

    result: Result
    slot: Slot | None = None


async def run(job: Job) -> None:
    """Run ``job`` on this event loop. See ``scraper.engines.job`` for what that means."""
    try:
        await _Run(job).go()
    except BaseExceptionGroup as group:
        raise _first_cause(group) from group


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user of: an interrupt before a fault of the run before anything else."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    for leaf in leaves:
        if not isinstance(leaf, Exception):
            return leaf
    for leaf in leaves:
        if isinstance(leaf, ScraperError):
            return leaf
    fault = InternalFault(f"An internal error ended the run: {leaves[0]!r}. What was written is kept.")
    fault.__cause__ = leaves[0]
    return fault


class _Run:
    """The parts of one run, and its stages as methods in the order of the data's way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.meter = job.meter
        permits = job.config.permits
        self.permits = asyncio.BoundedSemaphore(permits.concurrency)
        self.arena = Arena(permits.byte_budget)
        self.fetched: Channel[_Parcel] = Channel("fetched", bound=2 * permits.concurrency)
        self.ended: Channel[_Ended] = Channel("ended", bound=2 * WRITE_BATCH)
        self.meter.channels = lambda: [self.fetched.statistics(), self.ended.statistics()]
        self.is_work: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.fetching: list[asyncio.Task[None]] = []
        self.abandoning = False

    async def go(self) -> None:
        job = self.job
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(job.sink)
            backlog = await stack.enter_async_context(Backlog(job.scratch / "backlog.sqlite"))
            rows = await stack.enter_async_context(Reader(job.rows, READ_AHEAD))
            frontier = Frontier(job.config.permits, backlog)
            async with asyncio.TaskGroup() as stages:
                writing = stages.create_task(self.write(sink), name="write")
                heeding = stages.create_task(self.heed_stop(rows, frontier), name="heed-stop")
                with self.fetched.producer(), self.ended.producer():
                    stages.create_task(self.feed(rows, frontier), name="feed")
                    if await self.is_work:
                        pool = await stack.enter_async_context(Pool(job.pipeline.transform, job.config.pool))
                        fetcher = await stack.enter_async_context(Fetcher(job.config.fetch, self.arena))
                        self.start(stages, frontier, fetcher, pool)
                    # Each stage must have entered its own block before these are left, or a short list could
                    # close a channel before its producers have seen it.
                    await asyncio.sleep(0)
                await writing
                heeding.cancel()

    def start(self, stages: asyncio.TaskGroup, frontier: Frontier, fetcher: Fetcher, pool: Pool) -> None:
        """Begin to fetch and transform, now that there is something to, and the workers are warm."""
        for n in range(self.job.config.permits.concurrency):
            task = stages.create_task(self.fetch(frontier, fetcher), name=f"fetch-{n}")
            self.fetching.append(task)
        for n in range(self.job.config.pool.workers * self.job.config.pool.in_flight):
            stages.create_task(self.transform(pool), name=f"transform-{n}")

    async def feed(self, rows: Reader[Request | Outcome], frontier: Frontier) -> None:
        """List → frontier, without the rows that have an outcome already."""
        with self.ended.producer():
            while not self.job.stop.is_set() and (chunk := await rows.take()):
                done = await self.job.ledger.finished(chunk[0].row, chunk[-1].row + 1)
                fresh: list[Request] = []
                for row in chunk:
                    if row.row in done:
                        continue
                    if isinstance(row, Request):
                        fresh.append(row)
                    else:
                        await self.ended.put(_Ended(Result(Request(row.row, row.url, line=row.line), row)))
                self.meter.rows_read += len(chunk)
                self.meter.rows_before += len(done)
                self.meter.fraction = self.job.source.fraction()
                if fresh and not self.is_work.done():
                    self.is_work.set_result(True)
                await frontier.admit(fresh)
            if not self.job.stop.is_set():
                self.meter.rows_total = self.meter.rows_read
            frontier.close()
            if not self.is_work.done():
                self.is_work.set_result(False)

    async def fetch(self, frontier: Frontier, fetcher: Fetcher) -> None:
        """Frontier → ``fetched``, or back to the frontier, or → ``ended``. One of ``concurrency`` workers."""
        with self.fetched.producer(), self.ended.producer():
            try:
                while await self.fetch_next(frontier, fetcher):
                    pass
            except asyncio.CancelledError:
                if not self.abandoning:
                    raise

    async def fetch_next(self, frontier: Frontier, fetcher: Fetcher) -> bool:
        """One hop of one row. False when there is no more to do."""
        onward: _Parcel | _Ended | None
        async with self.permits:
            async with frontier.lease() as request:
                if request is None:
                    return False
                onward = await self.ask(request, frontier, fetcher)
            # The host's permit is given back: what waits from here on, waits for us and not for the host.
            if isinstance(onward, _Parcel):
                await self.fetched.put(onward)
            elif onward is not None:
                await self.ended.put(onward)
        return True

    async def ask(self, request: Request, frontier: Frontier, fetcher: Fetcher) -> _Parcel | _Ended | None:
        """What becomes of a request: None when it went back to the frontier."""
        host = self.host_meter(request.host)
        self.meter.in_flight += 1
        host.in_flight += 1
        since = asyncio.get_running_loop().time()
        try:
            answer = await fetcher.fetch(request)
        finally:
            now = asyncio.get_running_loop().time()
            self.meter.in_flight -= 1
            host.in_flight -= 1
            host.done += 1
            host.seconds += now - since
        match answer:
            case Fetched(response, slot):
                self.meter.fetched_bytes += response.wire_bytes
                return _Parcel(response, slot)
            case Redirected(next_hop):
                frontier.readmit(next_hop, front=True)
                return None
            case Failed(error, timings, url):
                wait = retry.decide(error, request.attempt, self.job.config.retry, random.random())
                if wait is not None:
                    self.meter.retries += 1
                    frontier.readmit(request.again(), not_before=now + wait)
                    return None
                return _Ended(Result(request, _failed(request, error, timings, url, error.status)))

    def host_meter(self, host: str) -> HostMeter:
        """The host's counts; those beyond the first thousand share nothing and are forgotten."""
        hosts = self.meter.hosts
        found = hosts.get(host)
        if found is None:
            found = HostMeter()
            if len(hosts) < HOSTS_METERED:
                hosts[host] = found
        return found

    async def transform(self, pool: Pool) -> None:
        """``fetched`` → workers → ``ended``. As many of these as batches may be in flight."""
        limits = self.job.config.pool

        def cost(parcel: _Parcel) -> float:
            return pool.cost(parcel.response)

        with self.ended.producer():
            while (
                batch := await self.fetched.take(limits.batch_items, cost=cost, most=limits.batch_s)
            ) is not None:
                self.meter.transforming += len(batch)
                try:
                    answers = await pool.run([parcel.response for parcel in batch])
                finally:
                    self.meter.transforming -= len(batch)
                for parcel, answer in zip(batch, answers, strict=True):
                    parcel.slot.shrink(sum(len(item.data) for item in answer.items))
                    await self.ended.put(_Ended(_transformed(parcel.response, answer), parcel.slot))

    async def write(self, sink: Sink) -> None:
        """``ended`` → sink → ledger, in batches that are made durable by time and by count."""
        loop = asyncio.get_running_loop()
        commit = self.job.config.commit
        committer = _Committer(sink, self.job.ledger)
        due = loop.time() + commit.every_s
        try:
            while (batch := await self.ended.take(WRITE_BATCH, wait_s=max(0.0, due - loop.time()))) is not None:
                if batch:
                    await _whole(self.write_batch(batch, sink, committer))
                if loop.time() >= due or len(committer.pending) >= commit.every_rows:
                    await _whole(committer.commit())
                    due = loop.time() + commit.every_s
        except asyncio.CancelledError:
            await committer.commit()  # another stage failed; what is written here is good
            raise
        await committer.commit()
        if self.meter.rows_total == self.meter.rows_done:
            await committer.finish()

    async def write_batch(self, batch: Sequence[_Ended], sink: Sink, committer: _Committer) -> None:
        with ExitStack() as slots:
            for ended in batch:
                if ended.slot is not None:
                    slots.enter_context(ended.slot)
            outcomes = await sink.write([ended.result for ended in batch])
        committer.pending.extend(outcomes)
        for ended, outcome in zip(batch, outcomes, strict=True):
            self.meter.by_class[outcome.class_] += 1
            self.meter.written_bytes += sum(len(item.data) for item in ended.result.items)

    async def heed_stop(self, rows: Reader[Request | Outcome], frontier: Frontier) -> None:
        """Interrupt → stop the intake, and after the grace period end what is still in flight."""
        await self.job.stop.wait()
        rows.stop()
        frontier.stop()
        if self.fetching:
            _, late = await asyncio.wait(self.fetching, timeout=self.job.config.grace_s)
            self.abandoning = True
            for task in late:
                task.cancel()


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Await ``work`` to its end, even when cancelled meanwhile: half a write is worse than a late one."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _Committer:
    """Write → fsync → ledger → final names, in that order."""

    def __init__(self, sink: Sink, ledger: Ledger) -> None:
        self.sink = sink
        self.ledger = ledger
        self.pending: list[Outcome] = []

    async def commit(self) -> None:
        if not self.pending:
            return
        state = await self.sink.flush()
        outcomes, self.pending = self.pending, []
        await self.ledger.commit(outcomes, state)
        await self.sink.publish()

    async def finish(self) -> None:
        await self.ledger.commit([], await self.sink.finish())
        await self.sink.publish()


def _failed(request: Request, error: RowFailed, timings: Timings, url: str, status: int) -> Outcome:
    return Outcome(
        row=request.row,
        url=request.url,
        class_=error.class_,
        status=status,
        attempts=request.attempt,
        timings=timings,
        final_url=url if url != request.url else None,
        message=error.message,
        line=request.line,
    )


def _transformed(response: Response, answer: Transformed) -> Result:
    request = response.request
    error = answer.error
    outcome = Outcome(
        row=request.row,
        url=request.url,
        class_=error.class_ if error else "ok",
        status=response.status,
        attempts=request.attempt,
        bytes=len(response.body),
        sha256=answer.sha256,
        timings=response.timings,
        final_url=response.url if response.url != request.url else None,
        message=error.message if error else "",
        line=request.line,
    )
    return Result(request, outcome, answer.items)
