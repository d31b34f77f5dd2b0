"""What of the list is still to be asked. In: rows of the list. Out: those to ask, those that have ended.

Must never: ask a row that has ended and is not to be asked again; hold more than the chunk in hand.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from scraper.engines import endings
from scraper.engines.job import Job
from scraper.policies.urls import sameness
from scraper.records import Held, Outcome, Request, Result
from scraper.seen import Seen


class Sorted(NamedTuple):
    """A chunk of the list, by what becomes of its rows; those that ended in an earlier run are in neither list."""

    fresh: list[Request]
    ended: list[Result]


def _that_are_there(out: Path, held: Mapping[int, Held]) -> dict[int, Held]:
    """A copy that somebody removed, emptied or replaced by something else is asked for as if it had never been."""

    def checked(copy: Held) -> Held:
        if not (copy.etag or copy.last_modified):
            return copy
        try:
            about = (out / (copy.path or "")).lstat()
        except OSError:
            about = None
        is_there = about is not None and stat.S_ISREG(about.st_mode) and about.st_size > 0
        return copy if is_there else replace(copy, etag="", last_modified="")

    return {row: checked(copy) for row, copy in held.items()}


class Intake:
    """Sorts the rows of one run: chunk by chunk, in order. An asynchronous context manager."""

    def __init__(self, job: Job) -> None:
        self._job = job
        is_wanted = job.config.dedupe.url
        self._seen = Seen(job.state / "seen.sqlite", job.identity) if is_wanted else None
        self.first = 0
        """Number of the first row that ``rows`` gives."""

    async def __aenter__(self) -> Self:
        if self._seen is not None:
            await self._seen.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._seen is not None:
            await self._seen.__aexit__(kind, error, trace)

    async def rows(self) -> Iterator[Request | Outcome]:
        """The rows of the list, but for what is known of its beginning to have ended, and is not even read.

        Raises:
            SinkFailed: the ledger cannot be read.
        """
        job, seen = self._job, self._seen
        known = await job.ledger.beginning()
        if seen is not None:  # it has to see each row once, those that have ended as well
            known = min(known, seen.entered)
        if known == 0:
            return job.rows
        # The last of them is read all the same: a list that lacks it has become shorter, and that shows.
        self.first = job.meter.rows_read = job.meter.rows_before = known - 1
        return job.source.starting_at(self.first)

    async def sort(self, chunk: Sequence[Request | Outcome]) -> Sorted:
        """What becomes of the next rows of the list, which are numbered without gaps.

        Raises:
            UsageError: a row that has ended was another URL then: this is another list.
            SinkFailed: our own files cannot be read or written.
        """
        job = self._job
        first, end = chunk[0].row, chunk[-1].row + 1
        done = await job.ledger.finished(first, end)
        # Rows that are to be asked again have ended as well, though not all of them in this pass.
        known = chunk if job.config.again else [row for row in chunk if row.row in done] if done else []
        await job.ledger.compare([(row.row, row.url) for row in known])
        earlier = await self._earlier(chunk, done)
        job.meter.rows_read += len(chunk)
        job.meter.rows_before += len(done)
        job.meter.fraction = job.source.fraction()
        fresh: list[Request] = []
        ended: list[Result] = []
        if len(done) == len(chunk):
            return Sorted(fresh, ended)
        held = await self._held(first, end) if job.config.again else {}
        for row in chunk:
            if row.row in done:
                continue
            if not isinstance(row, Request):
                ended.append(endings.of_bad_row(row))
            elif row.row in held:  # a duplicate too, if it was fetched before duplicates were left out
                fresh.append(replace(row, held=held[row.row]))
            elif row.row in earlier:
                ended.append(endings.of_duplicate(row, earlier[row.row]))
            else:
                fresh.append(row)
        return Sorted(fresh, ended)

    async def _held(self, first: int, end: int) -> dict[int, Held]:
        """What earlier runs have of the rows that are asked again, without what is no longer there."""
        held = await self._job.ledger.held(first, end)
        return await asyncio.to_thread(_that_are_there, self._job.out, held)

    async def _earlier(self, chunk: Sequence[Request | Outcome], done: Collection[int]) -> dict[int, int]:
        """Rows of the chunk that ask for what an earlier row asks for, and which that is."""
        seen = self._seen
        if seen is None or (len(done) == len(chunk) and chunk[-1].row < seen.entered):
            return {}
        keys = [
            (row.row, key)
            for row in chunk
            # A row that has ended is given all the same until it is known: it may be the first of others.
            if isinstance(row, Request) and (row.row >= seen.entered or row.row not in done)
            if (key := sameness(row.url, row.caption, row.columns)) is not None
        ]
        firsts = zip(keys, await seen.firsts(keys), strict=True)
        return {row: first for (row, _), first in firsts if first is not None}
