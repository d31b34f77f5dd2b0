"""A file for each item: ``NNNNN/KEY.ext`` in the output folder.

Beside it stand ``KEY.txt``, the caption, and ``KEY.json``, what is known of the row, where there is a caption, a
further column or a field.

A row that was asked again, and ended in items again, takes the place of what it was: a file that has another name
now goes away once the new ones stand (``scraper.sinks.leftovers`` says which).

In: Results. Out: files, and Outcomes that know their paths.
Must never: let anything stand under a final name that is incomplete or that the ledger does not know of; write
through a symbolic link; remove what is not the row's own, or before what replaces it is there.

    write      OUT/.scraper/staged/files-G/NNNNN/KEY.ext     G is the generation: the number of the flush to come
    flush      the same, durable, and in files-G/replaced the paths that go; the state says G
    [ledger]   commits the state
    publish    OUT/NNNNN/KEY.ext                          by rename; then what is replaced is removed

So whoever enters with a state knows from the folder's name alone what to do with what a killed run left there:
generations up to the state's are committed and get their final names, later ones are removed.

The folder is not ``.scraper/tmp``: what is there need not outlive a run, and this must.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast

from scraper.errors import SinkRejected
from scraper.policies import names
from scraper.protocols import SinkState
from scraper.records import Item, Outcome, Result
from scraper.sinks import rows
from scraper.sinks.disk import Disk, mode_of
from scraper.sinks.leftovers import Leftovers, is_plain, row_of
from scraper.sinks.syncfs import WholeSync, whole_sync

_GENERATION = re.compile(r"files-(\d+)")

REPLACED = "replaced"
"""The file of a generation that lists what it takes the place of, a path to a line."""

SPLIT_FROM = 16
"""Results from which on a write is split over the disk's threads; below, a second hop costs more than it gains."""


@dataclass(frozen=True, slots=True)
class FilesOutput:
    """Makes the sink; see ``Pipeline.open_sink``.

    Attributes:
        replaces: a row that is asked again takes the place of what it was.
    """

    replaces: ClassVar[bool] = True

    def __call__(self, out: Path, state: SinkState) -> FilesSink:
        """A sink that goes on from ``state``."""
        return FilesSink(out, state)


@dataclass(frozen=True, slots=True)
class _Generation:
    """What one flush made durable: relative paths of files to be named, and of those that then go."""

    number: int
    written: Sequence[str]
    replaced: Sequence[str]


class FilesSink:
    """Implements the Sink protocol.

    Args:
        out: the output folder.
        state: what the last committed flush returned; empty for a new folder.
        disk: the file system.
    """

    def __init__(self, out: Path, state: SinkState, *, disk: Disk | None = None) -> None:
        self._out = out
        self._staged = out / ".scraper" / "staged"
        self._disk = disk or Disk()
        self._flushed = cast("int", state.get("generation", 0))
        self._whole: WholeSync | None = None
        self._written: list[str] = []  # relative paths of the generation being written
        self._replaced: list[str] = []
        self._unpublished: list[_Generation] = []
        self._leftovers = Leftovers(out)
        self._folders: dict[str, bool] = {}  # final folders: may they be written to
        self._made: set[Path] = set()  # folders of the generation being written

    def __repr__(self) -> str:
        return f"<FilesSink {self._out} generation {self._flushed}, {len(self._written)} files to flush>"

    async def __aenter__(self) -> Self:
        try:
            await self._disk.run(self._out, self._recover)
        except BaseException:
            await self._disk.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disk.close()
        if self._whole is not None:
            self._whole.close()
            self._whole = None

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Write the items of a batch under temporary names."""
        if len(batch) < SPLIT_FROM:
            return await self._disk.run(self._staged, self._put_all, batch)
        size = -(-len(batch) // self._disk.threads)
        parts = (
            self._disk.run(self._staged, self._put_all, batch[start : start + size])
            for start in range(0, len(batch), size)
        )
        # All of them end before an error is raised: no thread of ours writes behind the caller's back.
        outcomes: list[Outcome] = []
        for answer in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            outcomes += answer
        return outcomes

    async def flush(self) -> SinkState:
        """Make the generation durable."""
        if self._written:
            await self._disk.run(self._staged, self._sync)
            self._flushed += 1
            self._unpublished.append(_Generation(self._flushed, self._written, self._replaced))
            self._written, self._replaced, self._made = [], [], set()
        return {"generation": self._flushed}

    async def publish(self) -> None:
        """Give the flushed generations their final names."""
        while self._unpublished:
            await self._disk.run(self._out, self._publish, self._unpublished[0])
            del self._unpublished[0]

    async def finish(self) -> SinkState:
        """Nothing is open between flushes: the same as a flush."""
        return await self.flush()

    # --- in the disk's threads ---

    def _folder_of(self, number: int) -> Path:
        return self._staged / f"files-{number}"

    def _recover(self) -> None:
        self._disk.claim(self._out, self._staged)
        found = [named for path in self._staged.iterdir() if (named := _GENERATION.fullmatch(path.name))]
        for number in sorted(int(named[1]) for named in found):
            if number <= self._flushed:
                self._publish(self._found(number))
            else:
                self._disk.remove_tree(self._folder_of(number))
        self._whole = whole_sync(self._staged)

    def _found(self, number: int) -> _Generation:
        """A committed generation as a killed run left it."""
        folder = self._folder_of(number)
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
        replaced = (folder / REPLACED).read_text().splitlines() if REPLACED in files else []
        return _Generation(number, sorted(files - {REPLACED}), replaced)

    def _put_all(self, batch: Sequence[Result]) -> list[Outcome]:
        outcomes = []
        for result in batch:
            try:
                outcomes.append(self._put(result) if result.items else result.outcome)
            except SinkRejected as error:
                outcomes.append(result.outcome.rejected(error))
        return outcomes

    def _put(self, result: Result) -> Outcome:
        folder = names.folder_name(result.outcome.row)
        files = [
            (f"{folder}/{name}", data)
            for index, item in enumerate(result.items)
            for name, data in self._files_of(result, item, index)
        ]
        for path, _ in files:
            self._check(folder, path)
        temporary = self._folder_of(self._flushed + 1)
        if temporary / folder not in self._made:
            self._disk.make_folder(temporary / folder)
            self._made |= {temporary, temporary / folder}
        for path, data in files:
            self._disk.put(temporary / path, data)
            self._written.append(path)
        if result.request.held is not None:
            before = self._leftovers.of(result.outcome.row, result.request.held.path)
            self._replaced += sorted(before - {path for path, _ in files})
        return result.outcome.placed(files[0][0])

    def _files_of(self, result: Result, item: Item, index: int) -> list[tuple[str, bytes]]:
        row, request = result.outcome.row, result.request
        has_more = request.caption is not None or bool(request.columns) or bool(item.fields)
        files = [(names.item_name(row, item.extension, index, sidecars=has_more), item.data)]
        if request.caption is not None:
            name = f"{names.stem(row, index)}.{names.CAPTION_EXTENSION}"
            files.append((name, rows.text_bytes(request.caption)))
        if has_more:
            name = f"{names.stem(row, index)}.{names.METADATA_EXTENSION}"
            files.append((name, rows.pretty(rows.metadata(request, result.outcome, item, index))))
        return files

    def _check(self, folder: str, path: str) -> None:
        """See that the final name is free, or taken by a file that may be replaced.

        Raises:
            SinkRejected: something else is there.
        """
        there = self._folders.get(folder)
        if there is None:
            mode = mode_of(self._out / folder)
            there = mode is None or stat.S_ISDIR(mode)
            self._folders[folder] = there
        if not there:
            raise SinkRejected("sink.rejected", f"{self._out / folder} is in the way: it is not a folder.")
        mode = mode_of(self._out / path)
        if mode is not None and not stat.S_ISREG(mode):
            raise SinkRejected("sink.rejected", f"{self._out / path} is in the way: it is not a file.")

    def _sync(self) -> None:
        temporary = self._folder_of(self._flushed + 1)
        files = [temporary / path for path in self._written]
        if self._replaced:
            files.append(temporary / REPLACED)
            self._disk.put(files[-1], "".join(f"{path}\n" for path in self._replaced).encode())
        folders = sorted(self._made, reverse=True)
        self._disk.sync_all([*files, *folders, self._staged, self._staged.parent], self._whole)

    def _publish(self, generation: _Generation) -> None:
        temporary = self._folder_of(generation.number)
        touched: set[Path] = set()
        for path in generation.written:
            final = self._out / path
            if final.parent not in touched:
                self._disk.make_folder(final.parent)
                if stat.S_ISLNK(mode_of(final.parent) or 0):  # put there since the row was written
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(final.parent))
                touched.add(final.parent)
            self._disk.rename(temporary / path, final)
        self._sync_names(touched)
        self._remove(generation.replaced)
        # Only now, or a power cut could take the old names and not give the new ones.
        self._disk.remove_tree(temporary)

    def _remove(self, replaced: Sequence[str]) -> None:
        """Remove what a generation takes the place of, as far as that is still there and the row's own."""
        gone = [self._out / path for path in replaced if row_of(path) is not None and is_plain(self._out, path)]
        for path in gone:
            self._disk.remove(path)
        if gone:
            self._sync_names({path.parent for path in gone})

    def _sync_names(self, folders: set[Path]) -> None:
        """Make the lists of names of some folders of ours durable, and the list of these folders."""
        for folder in sorted(folders):
            self._disk.sync(folder)
        self._disk.sync(self._out)
