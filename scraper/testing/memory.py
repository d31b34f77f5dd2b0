"""A sink that keeps everything in memory, and says in which order it was called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from scraper.errors import SinkFailed
from scraper.protocols import SinkState
from scraper.records import Item, Outcome, Result


class MemorySink:
    """A sink that keeps everything in memory and says in which order it was called.

    Args:
        state: as any sink gets it: what the last commit held.
        fail_at: number of the write at which to fail, from 1; 0 for never.
    """

    def __init__(self, state: SinkState, fail_at: int = 0) -> None:
        self.state = state
        self.fail_at = fail_at
        self.calls: list[str] = []
        self.items: dict[int, Sequence[Item]] = {}
        self.results: list[Result] = []
        self.writes = 0
        self._awaited: list[tuple[int, asyncio.Event]] = []

    async def written(self, results: int) -> None:
        """Return once so many results have been written."""
        if len(self.results) >= results:
            return
        reached = asyncio.Event()
        self._awaited.append((results, reached))
        await reached.wait()

    async def __aenter__(self) -> Self:
        self.calls.append("enter")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.calls.append("exit")

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Remember the batch."""
        self.calls.append("write")
        self.writes += 1
        if self.writes == self.fail_at:
            raise SinkFailed("The sink was told to fail here.")
        self.results.extend(batch)
        for result in batch:
            if result.items:
                self.items[result.request.row] = result.items
        for results, reached in self._awaited:
            if len(self.results) >= results:
                reached.set()
        return [
            each.outcome.placed(f"memory/{each.outcome.key}") if each.items else each.outcome for each in batch
        ]

    async def flush(self) -> SinkState:
        """Say how many results there have been."""
        self.calls.append("flush")
        return {"results": len(self.results)}

    async def publish(self) -> None:
        """Nothing waits for a name."""
        self.calls.append("publish")

    async def finish(self) -> SinkState:
        """The end."""
        self.calls.append("finish")
        return {"results": len(self.results), "finished": True}
