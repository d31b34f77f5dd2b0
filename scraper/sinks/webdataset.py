"""Archives of samples, in the order they ended: ``NNNNN.tar``, as the webdataset reader takes them.

In: Results. Out: ``NNNNN.tar``, ``NNNNN.parquet`` (or .jsonl) and ``NNNNN_stats.json``; Outcomes that know their
member and shard. A shard is the next ``rows_per_shard`` rows, those without a sample included.
Must never: let a shard stand under its final name before the ledger knows all of its rows.

    write      OUT/NNNNN.tar.part and OUT/.scraper/NNNNN.rows.jsonl.part grow, with one line in the latter for
               each row. A full shard is sealed: its archive gets its end, and the next one is begun.
    flush      the same, durable; the state holds both sizes, and the sealed shards
    [ledger]   commits the state
    publish    sealed shards get their table, their statistics and their final names

Whoever enters with a state cuts both files back to their sizes, removes those of later shards, and publishes the
sealed shards, as far as that has not been done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast

from scraper.errors import SinkRejected, UsageError
from scraper.policies import names
from scraper.protocols import SinkState
from scraper.records import Outcome, Result
from scraper.sinks import rows, tar
from scraper.sinks.disk import Disk, Tail, refuse_foreign
from scraper.sinks.shard import (
    PART,
    ROWS_PART,
    TEMPORARY_PREFIX,
    Sealed,
    archive_path,
    publish_shard,
    rows_path,
)

WRITE_SIZE = 2 * 1024 * 1024
"""Bytes collected for one write: a thread hop (0.1 ms) is then under 5 % of it, and memory stays small."""

_NUMBERED = re.compile(r"(\d{5,})(?:" + re.escape(PART) + "|" + re.escape(ROWS_PART) + ")")


@dataclass(frozen=True, slots=True)
class WebdatasetOutput:
    """Makes the sink; see ``Pipeline.open_sink``.

    Attributes:
        rows_per_shard: rows of a shard, failures included. 10,000 pictures of 256 px are 150 MB.
        replaces: a row that is asked again cannot take the place of its sample: archives only grow.
    """

    rows_per_shard: int = 10_000
    replaces: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise UsageError("A shard must hold at least 1 row.")

    def __call__(self, out: Path, state: SinkState) -> WebdatasetSink:
        """A sink that goes on from ``state``."""
        return WebdatasetSink(out, state, rows_per_shard=self.rows_per_shard)


class _Shard:
    """The shard that is being written."""

    def __init__(
        self, number: int, archive: Tail, log: Tail, kinds: rows.Kinds, start: float, since: float
    ) -> None:
        self.number = number
        self.archive = archive
        self.log = log
        self.rows = 0
        self.start = start
        self.spent_s = 0.0
        """Seconds that earlier runs worked on it."""
        self._since = since
        self._kinds = kinds
        self._header = tar.Headers(int(start))

    def __repr__(self) -> str:
        return f"<_Shard {self.number}: {self.rows} rows, {self.archive!r}>"

    def duration_s(self) -> float:
        """Seconds of work on this shard, in this run and before."""
        return round(self.spent_s + time.monotonic() - self._since, 3)

    def add(self, result: Result) -> Outcome:
        """Add a row: its samples to the archive, its line to the log."""
        request, outcome = result.request, result.outcome
        first = result.items[0] if result.items else None
        if result.items:
            try:
                outcome = self._add_samples(result)
            except SinkRejected as error:
                outcome, first = outcome.rejected(error), None
        self._kinds.see(request, first)
        self.log.add((rows.line(rows.metadata(request, outcome, first)),))
        self.rows += 1
        return outcome

    def _add_samples(self, result: Result) -> Outcome:
        request, row = result.request, result.outcome.row
        for item in result.items:
            if len(item.data) > tar.MAX_MEMBER:
                raise SinkRejected("sink.rejected", f"{len(item.data)} bytes are more than a tar member holds.")
        outcome = result.outcome.placed(
            names.item_name(row, result.items[0].extension, sidecars=True),
            f"{names.shard_name(self.number)}.tar",
        )
        parts: set[str] = set()
        for index, item in enumerate(result.items):
            part = names.part_name(row, item.extension) if index else None
            if part is not None and part not in parts:
                parts.add(part)
                self._add_member(part, item.data)
                continue
            self._add_member(names.item_name(row, item.extension, index, sidecars=True), item.data)
            stem = names.stem(row, index)
            if request.caption is not None:
                self._add_member(f"{stem}.{names.CAPTION_EXTENSION}", rows.text_bytes(request.caption))
            about = rows.pretty(rows.metadata(request, outcome, item, index))
            self._add_member(f"{stem}.{names.METADATA_EXTENSION}", about)
        return outcome

    def _add_member(self, name: str, data: bytes | memoryview) -> None:
        self.archive.add((self._header(name, len(data)), data, tar.padding(len(data))))

    def seal(self) -> Sealed:
        """Give the archive its end."""
        self.archive.add((tar.ending(self.archive.size),))
        return Sealed(self.number, self.start, time.time(), self.duration_s(), self._kinds.state())


class WebdatasetSink:
    """Implements the Sink protocol.

    Args:
        out: the output folder.
        state: what the last committed flush returned; empty for a new folder.
        rows_per_shard: see WebdatasetOutput.
        disk: the file system.
    """

    def __init__(
        self, out: Path, state: SinkState, *, rows_per_shard: int = 10_000, disk: Disk | None = None
    ) -> None:
        self._out = out
        self._ours = out / ".scraper"
        self._disk = disk or Disk()
        self._rows_per_shard = rows_per_shard
        self._state = state
        self._number = cast("int", state.get("shard", 0))
        self._kinds = rows.Kinds(cast("dict[str, object] | None", state.get("kinds")))
        self._shard: _Shard | None = None
        self._full: list[tuple[_Shard, Sealed]] = []  # sealed, not durable yet
        self._sealed: list[Sealed] = []  # durable; published once the ledger knows
        self._begun = (0.0, 0.0)  # wall and monotonic time since when rows of the next shard have been fetched

    def __repr__(self) -> str:
        return f"<WebdatasetSink {self._out} shard {self._number}, {self._shard!r}>"

    async def __aenter__(self) -> Self:
        self._begun = (time.time(), time.monotonic())
        try:
            await self._disk.run(self._out, self._recover)
            if self._state.get("rows"):
                self._shard = await self._reopen()
        except BaseException:
            await self._disk.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disk.close()

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Append the samples and rows of a batch, beginning new shards as they fill."""
        outcomes = []
        for result in batch:
            if result.request.held is not None and not result.items:
                outcomes.append(result.outcome)  # asked again in vain: an earlier shard lists it
                continue
            shard = self._shard
            if shard is None:
                shard = self._shard = await self._begin()
            outcomes.append(shard.add(result))
            if shard.rows >= self._rows_per_shard:
                await self._seal(shard)
            elif shard.archive.waiting >= WRITE_SIZE:
                await shard.archive.push()
        return outcomes

    async def flush(self) -> SinkState:
        """Make all that was added durable."""
        for shard, sealed in self._full:
            await _sync(shard)
            await self._disk.close_tail(shard.archive)
            await self._disk.close_tail(shard.log)
            self._sealed.append(sealed)
        self._full = []
        shard_state: dict[str, object] = {}
        if self._shard is not None:
            await _sync(self._shard)
            shard_state = {
                "archive_bytes": self._shard.archive.size,
                "log_bytes": self._shard.log.size,
                "rows": self._shard.rows,
                "start": self._shard.start,
                "spent_s": self._shard.duration_s(),
            }
        return {
            "shard": self._number,
            "kinds": self._kinds.state(),
            "sealed": [sealed.state() for sealed in self._sealed],
            **shard_state,
        }

    async def publish(self) -> None:
        """Give sealed shards their table, statistics and final names."""
        while self._sealed:
            await self._disk.run(self._out, publish_shard, self._disk, self._out, self._sealed[0])
            del self._sealed[0]

    async def finish(self) -> SinkState:
        """Seal the last shard, however few rows it has."""
        if self._shard is not None:
            await self._seal(self._shard)
        return await self.flush()

    async def _begin(self) -> _Shard:
        await self._disk.run(self._out, refuse_foreign, archive_path(self._out, self._number))
        return await self._open(self._begun[0])

    async def _reopen(self) -> _Shard:
        shard = await self._open(cast("float", self._state["start"]))
        shard.rows = cast("int", self._state["rows"])
        shard.spent_s = cast("float", self._state["spent_s"])
        return shard

    async def _open(self, start: float) -> _Shard:
        archive = await self._disk.open_tail(archive_path(self._out, self._number, part=True))
        log = await self._disk.open_tail(rows_path(self._out, self._number))
        return _Shard(self._number, archive, log, self._kinds, start, self._begun[1])

    async def _seal(self, shard: _Shard) -> None:
        sealed = shard.seal()
        await shard.archive.push()
        await shard.log.push()
        self._full.append((shard, sealed))
        self._shard = None
        self._number += 1
        self._begun = (time.time(), time.monotonic())

    # --- in the disk's threads ---

    def _recover(self) -> None:
        disk = self._disk
        disk.claim(self._out, self._ours / "staged")
        for stale in sorted((self._ours / "staged").glob(f"{TEMPORARY_PREFIX}*")):
            disk.remove(stale)
        sealed = [Sealed.from_state(one) for one in cast("list[dict[str, object]]", self._state.get("sealed", []))]
        kept = {one.number for one in sealed}
        begun = bool(self._state.get("rows"))
        for path in sorted((*self._out.iterdir(), *self._ours.iterdir())):
            named = _NUMBERED.fullmatch(path.name)
            if named is None or int(named[1]) in kept or (begun and int(named[1]) == self._number):
                continue
            disk.remove(path)
        if begun:
            archive = archive_path(self._out, self._number, part=True)
            disk.truncate(archive, cast("int", self._state["archive_bytes"]))
            disk.truncate(rows_path(self._out, self._number), cast("int", self._state["log_bytes"]))
        for one in sealed:
            publish_shard(disk, self._out, one)
        refuse_foreign(archive_path(self._out, self._number))


async def _sync(shard: _Shard) -> None:
    await shard.archive.sync()
    await shard.log.sync()
