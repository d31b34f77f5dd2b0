"""A file of records: ``items.jsonl``, one JSON object on a line for each item, in the order the rows ended.

For items that are what is known, and not bytes: records taken from pages. For pictures it is the table without the
pictures. A line is what the other outputs have as ``KEY.json``; its ``key`` is how to find it, since there is one
line with it. Rows without items, failed or skipped, have no line: ``scraper results`` lists them.

In: Results. Out: ``items.jsonl``, and Outcomes that name it. The items' bytes are written nowhere.
Must never: let the file have its final name while rows are missing in it; add a line to a file that is not as it
was committed.

    write      OUT/items.jsonl.part grows; is OUT/items.jsonl by its name again, if an earlier run had finished it
    flush      the same, durable; the state holds its size
    [ledger]   commits the state
    finish     the state says that it is complete
    [ledger]   commits the state
    publish    OUT/items.jsonl                            by rename

A state that says complete goes with either name, any other only with ``.part``: the file has it, durably, before
such a state can be committed. So whoever enters cuts ``.part`` back to the state's size, and, if the state says
complete, gives it its final name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast

from scraper.errors import SinkFailed
from scraper.policies import names
from scraper.protocols import SinkState
from scraper.records import Outcome, Result
from scraper.sinks import rows
from scraper.sinks.disk import Disk, Tail, mode_of, refuse_foreign

PART = f"{names.RECORDS}.part"

WRITE_SIZE = 1024 * 1024
"""Bytes collected for one write: some thousand lines, so that the thread hop of 0.1 ms is shared by many."""


@dataclass(frozen=True, slots=True)
class JsonlOutput:
    """Makes the sink; see ``Pipeline.open_sink``.

    Attributes:
        replaces: a row that is asked again cannot take the place of its line: the file only grows.
    """

    replaces: ClassVar[bool] = False

    def __call__(self, out: Path, state: SinkState) -> JsonlSink:
        """A sink that goes on from ``state``."""
        return JsonlSink(out, state)


class JsonlSink:
    """Implements the Sink protocol.

    Args:
        out: the output folder.
        state: what the last committed flush returned; empty for a new folder.
        disk: the file system.
    """

    def __init__(self, out: Path, state: SinkState, *, disk: Disk | None = None) -> None:
        self._out = out
        self._part = out / PART
        self._final = out / names.RECORDS
        self._disk = disk or Disk()
        self._size = cast("int", state.get("bytes", 0))
        self._is_complete = cast("bool", state.get("complete", False))
        self._tail: Tail | None = None

    def __repr__(self) -> str:
        return f"<JsonlSink {self._out} {'complete' if self._is_complete else 'open'}, {self._size} bytes durable>"

    async def __aenter__(self) -> Self:
        try:
            await self._disk.run(self._out, self._recover)
        except BaseException:
            await self._disk.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disk.close()

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Append a line for each item of a batch."""
        outcomes = []
        for result in batch:
            outcome = result.outcome
            if result.items:
                outcome = outcome.placed(names.RECORDS)
                tail = self._tail or await self._open()
                tail.add(
                    rows.line(rows.metadata(result.request, outcome, item, index))
                    for index, item in enumerate(result.items)
                )
                if tail.waiting >= WRITE_SIZE:
                    await tail.push()
            outcomes.append(outcome)
        return outcomes

    async def flush(self) -> SinkState:
        """Make all that was added durable."""
        if self._tail is not None:
            await self._tail.sync()
            self._size = self._tail.size
        return {"bytes": self._size, "complete": self._is_complete}

    async def publish(self) -> None:
        """Give the file its final name, if it is complete and has it not yet."""
        if self._is_complete:
            await self._disk.run(self._final, self._publish)

    async def finish(self) -> SinkState:
        """Say that the file is complete. Where no row had an item there is none."""
        await self.flush()
        if self._tail is not None:
            await self._disk.close_tail(self._tail)
            self._tail = None
        self._is_complete = self._size > 0
        return await self.flush()

    async def _open(self) -> Tail:
        """The file, under the name of one that is not complete."""
        if self._is_complete:
            await self._disk.run(self._final, self._take_back)
            self._is_complete = False
        self._tail = await self._disk.open_tail(self._part)
        return self._tail

    # --- in the disk's threads ---

    def _recover(self) -> None:
        self._disk.claim(self._out)
        if self._size == 0:
            self._disk.remove(self._part)
            refuse_foreign(self._final)
        elif not self._is_complete:
            self._disk.truncate(self._part, self._size)
        elif mode_of(self._part) is not None:
            self._disk.truncate(self._part, self._size)
            self._publish()

    def _publish(self) -> None:
        if mode_of(self._part) is None:
            return  # has its name already
        refuse_foreign(self._final)
        self._disk.rename(self._part, self._final)
        self._disk.sync(self._out)

    def _take_back(self) -> None:
        """Let a complete file be one that grows. A killed run may leave it so: see ``_recover``."""
        size = self._final.lstat().st_size
        if size != self._size:
            raise SinkFailed(
                f"{self._final} has {size} bytes and not the {self._size} that were committed: something else "
                "changed it. Put it back, or start over with --overwrite."
            )
        self._disk.rename(self._final, self._part)
