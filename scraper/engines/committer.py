"""Results → sink → ledger, in the order that makes "done" mean durable. Every engine writes through this.

In: batches of Results. Out: bytes at rest, and outcomes in the ledger.
Must never: commit an outcome whose bytes are not durable; leave half a batch behind when cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from scraper.config_results import DedupeConfig
from scraper.engines.duplicates import Duplicates
from scraper.engines.treatment import Treatment
from scraper.ledger import Ledger
from scraper.protocols import Sink
from scraper.records import Outcome, Result

T = TypeVar("T")


class Committer:
    """Used by one task.

    Args:
        sink: takes the items.
        ledger: takes the outcomes.
        treatment: what is to be kept of hosts.
        dedupe: which results are duplicates of others.

    Attributes:
        pending: outcomes written and not yet committed.
        is_busy: the sink or the ledger has been called and has not returned.
        calls: how often one of them has returned.
    """

    def __init__(self, sink: Sink, ledger: Ledger, treatment: Treatment, dedupe: DedupeConfig) -> None:
        self._sink = sink
        self._ledger = ledger
        self._treatment = treatment
        self._duplicates = Duplicates(dedupe, ledger) if dedupe.compares_results else None
        self.pending: list[Outcome] = []
        self.is_busy = False
        self.calls = 0

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Have the sink take a batch; its outcomes, in order.

        Raises:
            SinkFailed: the sink takes no more.
        """
        return await self._whole(self._write(batch))

    async def commit(self) -> None:
        """Make durable and record what was written since the last time: sink, then ledger, then final names.

        Raises:
            SinkFailed: it cannot be made durable, or not be recorded; the ledger does not claim it then.
        """
        if self.pending or self._treatment:
            await self._whole(self._commit())

    async def finish(self) -> None:
        """Every row of the list has ended: commit, and complete what the sink has open."""
        await self.commit()
        await self._whole(self._finish())

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """As ``_whole``, noting that it is under way."""
        self.is_busy = True
        try:
            return await _whole(work)
        finally:
            self.is_busy = False
            self.calls += 1

    async def _write(self, batch: Sequence[Result]) -> list[Outcome]:
        if self._duplicates is None:
            outcomes = await self._sink.write(batch)
        else:
            outcomes = await self._duplicates.write(batch, self._sink.write)
        self.pending.extend(outcomes)
        return outcomes

    async def _commit(self) -> None:
        state = await self._sink.flush()
        outcomes, self.pending = self.pending, []
        hosts, holds = self._treatment.taken()
        prints = None if self._duplicates is None else self._duplicates.taken()
        await self._ledger.commit(outcomes, state, hosts, holds, prints)
        await self._sink.publish()

    async def _finish(self) -> None:
        await self._ledger.commit([], await self._sink.finish())
        await self._sink.publish()


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end even when cancelled meanwhile: half a write is worse than a late one.

    Its own error goes before the cancellation: whoever cancels commits next, and must not after that.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if error := task.exception():
            raise error from None
        raise
