"""A file for each item: ``NNNNN/KEY.ext`` in the output folder, or what a template makes of the row instead.

Beside it stand ``KEY.txt``, the caption, and ``KEY.json``, what is known of the row, where there is a caption, a
further column or a field.

A row that was asked again, and ended in items again, takes the place of what it was: a file that has another name
now goes away once the new ones stand (``scraper.sinks.leftovers`` says which).

In: Results. Out: files, and Outcomes that know their paths.
Must never: let anything stand under a final name that is incomplete or that the ledger does not know of; write
through a symbolic link, or into a file; remove what is not the row's own, or before what replaces it is there.

    write      OUT/.scraper/staged/files-G/NNNNN/KEY.ext     G is the generation: the number of the flush to come
    flush      the same, durable, and in files-G/.replaced the paths that go; the state says G
    [ledger]   commits the state
    publish    OUT/NNNNN/KEY.ext                          by rename; then what is replaced is removed

So whoever enters with a state knows from the folder's name alone what to do with what a killed run left there:
generations up to the state's are committed and get their final names, later ones are removed.

The folder is not ``.scraper/tmp``: what is there need not outlive a run, and this must.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import re
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast

from scraper.errors import SinkRejected
from scraper.policies import names
from scraper.policies.templates import DEFAULT, Template
from scraper.protocols import SinkState
from scraper.records import Item, Outcome, Result
from scraper.sinks import rows
from scraper.sinks.disk import Disk, mode_of
from scraper.sinks.leftovers import Leftovers, is_plain
from scraper.sinks.syncfs import WholeSync, whole_sync
from scraper.sinks.tree import Place, Tree

_GENERATION = re.compile(r"files-(\d+)")

REPLACED = ".replaced"
"""The file of a generation that lists what it takes the place of, a path to a line. No item is called so."""

_STAGED = ".scraper/staged"

_FOLDERS = 4096
"""Folders of which it is remembered whether they may be written to: a template may make one for each row."""

SPLIT_FROM = 16
"""Results from which on a write is split over the disk's threads; below, a second hop costs more than it gains."""


@dataclass(frozen=True, slots=True)
class FilesOutput:
    """Makes the sink; see ``Pipeline.open_sink``.

    Attributes:
        template: what files are called; see ``scraper.policies.templates``.
        replaces: a row that is asked again takes the place of what it was.

    Raises:
        UsageError: the template is none.
    """

    template: str = DEFAULT
    replaces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Template(self.template)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of the list that names are made of."""
        return Template(self.template).columns

    def __call__(self, out: Path, state: SinkState) -> FilesSink:
        """A sink that goes on from ``state``."""
        return FilesSink(out, state, template=self.template)


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
        template: see FilesOutput.
        disk: the file system.
    """

    def __init__(self, out: Path, state: SinkState, *, template: str = DEFAULT, disk: Disk | None = None) -> None:
        self._out = out
        self._staged = out / _STAGED
        self._template = Template(template)
        self._disk = disk or Disk()
        self._tree: Tree | None = None
        self._flushed = cast("int", state.get("generation", 0))
        self._whole: WholeSync | None = None
        self._written: list[str] = []  # relative paths of the generation being written
        self._replaced: list[str] = []
        self._unpublished: list[_Generation] = []
        self._leftovers = Leftovers(out, self._template)
        self._obstacle = functools.lru_cache(maxsize=_FOLDERS)(self._find_obstacle)
        self._made: set[str] = set()  # folders of the generation being written, and those above them

    def __repr__(self) -> str:
        return f"<FilesSink {self._out} generation {self._flushed}, {len(self._written)} files to flush>"

    async def __aenter__(self) -> Self:
        try:
            await self._disk.run(self._out, self._recover)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        await self._disk.close()
        if self._tree is not None:
            self._tree.close()
            self._tree = None
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

    def _folder_of(self, number: int) -> str:
        return f"{_STAGED}/files-{number}"

    def _opened(self) -> Tree:
        assert self._tree is not None, "the sink has not been entered"
        return self._tree

    def _recover(self) -> None:
        self._disk.claim(self._out, self._staged)
        self._tree = Tree(self._disk, self._out)
        found = [named for path in self._staged.iterdir() if (named := _GENERATION.fullmatch(path.name))]
        for number in sorted(int(named[1]) for named in found):
            if number <= self._flushed:
                self._publish(self._found(number))
            else:
                self._disk.remove_tree(self._out / self._folder_of(number))
        self._whole = whole_sync(self._staged)

    def _found(self, number: int) -> _Generation:
        """A committed generation as a killed run left it."""
        folder = self._folder_of(number)
        if not stat.S_ISDIR(mode_of(self._out / folder) or 0):
            return _Generation(number, (), ())
        files = set(self._opened().files(folder))
        replaced = (self._out / folder / REPLACED).read_text().splitlines() if REPLACED in files else []
        written = sorted(path for path in files if self._template.row_of(path) is not None)
        return _Generation(number, written, replaced)

    def _put_all(self, batch: Sequence[Result]) -> list[Outcome]:
        outcomes = []
        with closing(Place(self._opened(), self._folder_of(self._flushed + 1))) as place:
            for result in batch:
                try:
                    outcomes.append(self._put(result, place) if result.items else result.outcome)
                except SinkRejected as error:
                    outcomes.append(result.outcome.rejected(error))
        return outcomes

    def _put(self, result: Result, place: Place) -> Outcome:
        stem = self._template.stem(result.request, result.items[0].extension, result.disposition)
        folder, _, base = stem.rpartition("/")
        files = [
            (f"{folder}/{name}" if folder else name, data)
            for index, item in enumerate(result.items)
            for name, data in self._files_of(result, item, index, base)
        ]
        self._write(folder, files, place)
        if folder not in self._made:
            self._made.update(_with_those_above(folder))
        if result.request.held is not None:
            before = self._leftovers.of(result.outcome.row, result.request.held.path)
            self._replaced += sorted(before - {path for path, _ in files})
        return result.outcome.placed(files[0][0])

    def _write(self, folder: str, files: Sequence[tuple[str, bytes | memoryview]], place: Place) -> None:
        """Write the files of a row, all of them or none."""
        temporary = self._out / self._folder_of(self._flushed + 1)
        written: list[str] = []
        try:
            for path, _ in files:
                self._check(folder, path)
            at = place.of(folder)
            for path, data in files:
                self._disk.put(temporary / path, data, at=at)
                written.append(path)
        except OSError as error:
            # OUT may be deep already, or its file system narrow: a name that a list asks for stops no run.
            if error.errno != errno.ENAMETOOLONG:
                raise
            for path in written:
                self._disk.remove(temporary / path, at)
            sentence = f"{files[0][0]} is longer than the file system of {self._out} allows."
            raise SinkRejected("sink.rejected", sentence) from None
        self._written += written

    def _files_of(self, result: Result, item: Item, index: int, base: str) -> list[tuple[str, bytes | memoryview]]:
        request = result.request
        stem = f"{base}_{index}" if index else base
        has_more = request.caption is not None or bool(request.columns) or bool(item.fields)
        files: list[tuple[str, bytes | memoryview]] = [
            (f"{stem}.{names.item_suffix(item.extension, index, sidecars=has_more)}", item.data)
        ]
        if request.caption is not None:
            files.append((f"{stem}.{names.CAPTION_EXTENSION}", rows.text_bytes(request.caption)))
        if has_more:
            about = rows.pretty(rows.metadata(request, result.outcome, item, index))
            files.append((f"{stem}.{names.METADATA_EXTENSION}", about))
        return files

    def _check(self, folder: str, path: str) -> None:
        """See that the final name is free, or taken by a file that may be replaced.

        This spares the other rows: what comes in the way later stops the run when names are given.

        Raises:
            SinkRejected: something else is there.
        """
        obstacle = self._obstacle(folder)
        if obstacle is not None:
            raise SinkRejected("sink.rejected", f"{self._out / obstacle} is in the way: it is not a folder.")
        mode = mode_of(self._out / path)
        if mode is not None and not stat.S_ISREG(mode):
            raise SinkRejected("sink.rejected", f"{self._out / path} is in the way: it is not a file.")

    def _find_obstacle(self, folder: str) -> str | None:
        """What of a folder's path is there and is no folder, a link to one included."""
        for above in _with_those_above(folder)[1:]:
            mode = mode_of(self._out / above)
            if mode is None:
                return None
            if not stat.S_ISDIR(mode):
                return above
        return None

    def _sync(self) -> None:
        temporary = self._out / self._folder_of(self._flushed + 1)
        files = [temporary / path for path in self._written]
        if self._replaced:
            files.append(temporary / REPLACED)
            with closing(Place(self._opened())) as place:
                at = place.of(self._folder_of(self._flushed + 1))
                self._disk.put(files[-1], "".join(f"{path}\n" for path in self._replaced).encode(), at=at)
        folders = [temporary / folder for folder in sorted(self._made, reverse=True)]
        self._disk.sync_all([*files, *folders, self._staged, self._staged.parent], self._whole)

    def _publish(self, generation: _Generation) -> None:
        temporary = self._folder_of(generation.number)
        touched: set[str] = set()
        with closing(Place(self._opened(), temporary)) as staged, closing(Place(self._opened())) as final:
            # By folders: a template may scatter the rows of a generation over very many.
            for path in sorted(generation.written):
                folder = path.rpartition("/")[0]
                at = staged.of(folder), final.of(folder)
                self._disk.rename(self._out / temporary / path, self._out / path, at)
                touched.add(folder)
        self._sync_names(touched)
        self._remove(generation.replaced)
        # Only now, or a power cut could take the old names and not give the new ones.
        self._disk.remove_tree(self._out / temporary)

    def _remove(self, replaced: Sequence[str]) -> None:
        """Remove what a generation takes the place of, as far as that is still there and the row's own."""
        touched: set[str] = set()
        with closing(Place(self._opened())) as place:
            for path in replaced:
                if self._template.row_of(path) is not None and is_plain(self._out, path):
                    folder = path.rpartition("/")[0]
                    self._disk.remove(self._out / path, place.of(folder))
                    touched.add(folder)
        if touched:
            self._sync_names(touched)

    def _sync_names(self, folders: set[str]) -> None:
        """Make the lists of names of some folders of ours durable, and of all those above them."""
        named = sorted({above for folder in folders for above in _with_those_above(folder)}, reverse=True)
        self._disk.sync_all([self._out / folder for folder in named], self._whole)


def _with_those_above(folder: str) -> list[str]:
    """A relative path, and every beginning of it, the empty one first."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]
