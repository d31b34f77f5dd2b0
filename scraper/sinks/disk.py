"""The steps on disk, one method each: where they may fail, in which thread they run, and what the user is told.

In: paths and bytes. Out: SinkFailed with one sentence for whatever the operating system says no to.
Must never: block the event loop; follow a symbolic link to a file; go on after a step has failed.

Where whole trees of folders are written, ``scraper.sinks.tree`` holds the folders open, and the steps get their
descriptors as ``at``: then no part of a path is walked again, and no link can have taken its place.

Every step announces itself through ``Disk.step`` before it is made. That does nothing here; the Disk of
``scraper.testing.disk`` fails, or stops the world, at the n-th of them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import aiofiles
import aiofiles.os
from aiofiles.threadpool.binary import AsyncFileIO

from scraper.errors import SinkFailed
from scraper.sinks.syncfs import WholeSync

T = TypeVar("T")

SYNC_WHOLE_FROM = 32
"""Files from which on one ``syncfs`` is cheaper than an ``fsync`` each (20 against 100-300 µs a file)."""

_SAYINGS = {
    errno.ENOSPC: "there is no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EIO: "the device reports an input/output error",
    errno.EFBIG: "the file would be larger than the file system allows",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
    errno.ELOOP: "it is a symbolic link, and those are not written through",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.EISDIR: "a folder is in its place",
    errno.ESTALE: "the network file system has gone away",
    errno.ENXIO: "a pipe or a device is in its place",
    errno.ENAMETOOLONG: "the path is longer than the file system allows",
}


def sink_failed(error: OSError, path: Path) -> SinkFailed:
    """The one sentence for an error of the operating system at ``path``, which the error may know better."""
    at = error.filename2 or error.filename  # of a rename's two names the final one means something to the user
    named = os.fsdecode(at) if isinstance(at, str | bytes) else str(path)
    why = _SAYINGS.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).lower()
    return SinkFailed(
        f"Cannot write {named}: {why}. What was committed is kept; put this right and run the same command "
        "again, it resumes."
    )


class Disk:
    """The file system, as sinks use it. Methods without ``async`` block: they run inside ``run``.

    Args:
        threads: of our own, so that a slow disk does not hold up whoever shares asyncio's default executor. Four
            hide the latency of a network file system; on a local disk they cost nothing and gain little.
    """

    def __init__(self, threads: int = 4) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scraper-sink")
        self._tails: set[Tail] = set()
        self._failed: SinkFailed | None = None

    def __repr__(self) -> str:
        return f"<Disk {self.threads} threads{', failed' if self._failed else ''}>"

    def step(self, name: str, path: Path, data: bytes | bytearray | memoryview = b"") -> None:
        """Called before each step with its name, its path and, for a write, what is about to be written."""

    # --- the bridge to the event loop ---

    async def run(self, path: Path, work: Callable[..., T], *args: object) -> T:
        """Run blocking ``work`` in one thread hop.

        Args:
            path: what to name in an error that names nothing itself.
            work: what to run, with ``args``.
            args: for ``work``.

        Raises:
            SinkFailed: the operating system refused, now or earlier: after a failure nothing is known about
                what is on disk beyond the last commit, so nothing more may be added to it.
        """
        with self.guarded(path):
            hop: Callable[..., Awaitable[T]] = aiofiles.os.wrap(work)
            return await hop(*args, executor=self._pool)

    @contextmanager
    def guarded(self, path: Path) -> Iterator[None]:
        """Turn the first OSError inside into a SinkFailed, and let nothing in after it."""
        if self._failed is not None:
            raise SinkFailed(str(self._failed)) from self._failed
        try:
            yield
        except OSError as error:
            self._failed = sink_failed(error, path)
            raise self._failed from error

    async def open_tail(self, path: Path) -> Tail:
        """Open a file to append to, made if it is missing.

        Raises:
            SinkFailed: it cannot be had, or something that is no file is in its place.
        """
        with self.guarded(path):
            self.step("open", path)
            handle = await aiofiles.open(path, "ab", buffering=0, opener=_open_plain, executor=self._pool)
            tail = Tail(self, path, handle, await handle.seek(0, os.SEEK_END))
            self._tails.add(tail)
            return tail

    async def close_tail(self, tail: Tail) -> None:
        """Close a file that is complete, and synced.

        Raises:
            SinkFailed: the operating system took the last chance to say that something is wrong. After an fsync
                nothing can be lost any more, but a device that errs is not one to go on with.
        """
        with self.guarded(tail.path):
            self.step("close", tail.path)
            self._tails.discard(tail)
            await tail.handle.close()

    async def close(self) -> None:
        """Let go of all files and threads. Nothing is written; what waits is dropped: it was never promised.

        An error of closing is not passed on: what is committed was synced before, and what is not is undone.
        """
        for tail in self._tails:
            with suppress(OSError):
                await tail.handle.close()
        self._tails.clear()
        await asyncio.to_thread(self._pool.shutdown)

    # --- the steps ---

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it; it may exist. A symbolic link to a folder counts as one."""
        if path.is_dir():
            return
        if path.parent != path:
            self.make_folder(path.parent)
        self.step("mkdir", path)
        with suppress(FileExistsError):
            path.mkdir()
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))

    def make_name(self, path: Path, at: int) -> None:
        """Make a folder in an open one; another thread may have made it meanwhile."""
        self.step("mkdir", path)
        with naming(path), suppress(FileExistsError):
            os.mkdir(path.name, dir_fd=at)

    def put(self, path: Path, data: bytes | memoryview, *, durable: bool = False, at: int | None = None) -> None:
        """Write a whole new file, under a name that nobody else reads yet.

        Args:
            path: of the file.
            data: what it is to hold.
            durable: wait for the device.
            at: descriptor of the folder it is in.
        """
        with naming(path):
            self.step("open", path)
            # Never into a file that is there: it might be another name of one outside.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            fd = _open_plain(str(path) if at is None else path.name, flags, at)
            try:
                self.step("write", path, data)
                left = memoryview(data)
                while left:  # the operating system may take less than it was given
                    left = left[self.write(fd, left) :]
                if durable:
                    self.step("fsync", path)
                    self.fsync(fd)
                self.step("close", path)
            finally:
                os.close(fd)  # a network file system says here what it could not write

    def write(self, fd: int, data: memoryview) -> int:
        """Hand bytes to the operating system; how many it took. A signal in between is no error (PEP 475)."""
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        """Wait until what was written to an open file is durable."""
        os.fsync(fd)

    def sync(self, path: Path) -> None:
        """Make a file, or a folder's list of names, durable."""
        with naming(path):
            self.step("fsync", path)
            # OUT itself may be a link to a folder; a pipe in a file's place would be waited for for ever.
            kind = os.O_DIRECTORY if path.is_dir() else os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | kind)
            try:
                self.fsync(fd)
                self.step("close", path)
            finally:
                os.close(fd)

    def sync_all(self, paths: Sequence[Path], whole: WholeSync | None) -> None:
        """Make many files and folders durable, by one ``syncfs`` if that is worth it and can be trusted."""
        if whole is not None and len(paths) >= SYNC_WHOLE_FROM:
            self.step("syncfs", whole.root)
            with suppress(OSError):  # of whichever file on this disk: fsync below says if it is one of ours
                whole()
                return
        for path in paths:
            self.sync(path)

    def rename(self, old: Path, new: Path, at: tuple[int, int] | None = None) -> None:
        """Give a complete file its final name; a file that has it already is replaced.

        Args:
            old: what it is called.
            new: what it is to be called.
            at: descriptors of the folders of both.
        """
        with naming(new):
            self.step("rename", new)
            if at is None:
                old.replace(new)
            else:
                os.replace(old.name, new.name, src_dir_fd=at[0], dst_dir_fd=at[1])

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file back to ``size`` bytes.

        Raises:
            SinkFailed: it is missing, shorter or no file, so it is not the one that was committed.
        """
        mode = mode_of(path)
        present = path.lstat().st_size if mode is not None and stat.S_ISREG(mode) else -1
        if present < size:
            state = "is missing" if present < 0 else f"has {present} bytes of the {size} that were committed"
            raise SinkFailed(
                f"{path} {state}: something else changed it. Put it back, or start over with --overwrite."
            )
        if present > size:
            with naming(path):
                self.step("truncate", path)
                fd = _open_plain(str(path), os.O_WRONLY)
                try:
                    os.ftruncate(fd, size)
                finally:
                    os.close(fd)

    def remove(self, path: Path, at: int | None = None) -> None:
        """Remove a file, from the folder with the descriptor ``at`` if that is open; it may be gone."""
        self.step("unlink", path)
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path if at is None else path.name, dir_fd=at)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and what is in it; symbolic links, this one too, are removed, not followed."""
        if not stat.S_ISDIR(mode_of(path) or 0):
            self.remove(path)
            return
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                self.remove_tree(Path(entry.path))
            else:
                self.remove(Path(entry.path))
        self.step("rmdir", path)
        path.rmdir()

    def claim(self, out: Path, *below: Path) -> None:
        """Make the output folder, whose name is made durable, and ours below it; see that it can be written to."""
        self.make_folder(out)
        for folder in below:
            # OUT itself may be a link, by the user's wish; what is ours in it may not lead out of it.
            for part in (*reversed(folder.relative_to(out).parents[:-1]), folder.relative_to(out)):
                if stat.S_ISLNK(mode_of(out / part) or 0):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(out / part))
            self.make_folder(folder)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))
        self.sync(out)
        # No step of ours: the folder above may be one that we may not list, or that knows no fsync.
        with suppress(OSError):
            fd = os.open(out.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            try:
                self.fsync(fd)
            finally:
                os.close(fd)


class Tail:
    """A file that only grows: one long-lived aiofiles handle, fed with few and large writes."""

    def __init__(self, disk: Disk, path: Path, handle: AsyncFileIO, size: int) -> None:
        self.path = path
        self.size = size
        """Bytes, those that still wait in memory included."""
        self._disk = disk
        self.handle = handle
        self._waiting = bytearray()
        self._is_named = False  # durably, in its folder

    def __repr__(self) -> str:
        return f"<Tail {self.path.name} {self.size} bytes, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """Bytes in memory only."""
        return len(self._waiting)

    def add(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Copy bytes to the end. They are not on their way to disk yet."""
        for piece in pieces:
            self._waiting += piece
            self.size += len(piece)

    async def push(self) -> None:
        """Hand what waits to the operating system."""
        if not self._waiting:
            return
        with self._disk.guarded(self.path):
            self._disk.step("write", self.path, self._waiting)
            left = memoryview(self._waiting)
            while left:  # the operating system may take less than it was given
                left = left[await self.handle.write(left) :]
        self._waiting = bytearray()

    async def sync(self) -> None:
        """Make everything that was added durable, and the file's name."""
        await self.push()
        await self._disk.run(self.path, self._sync)

    def _sync(self) -> None:
        self._disk.step("fsync", self.path)
        self._disk.fsync(self.handle.fileno())
        if not self._is_named:
            self._disk.sync(self.path.parent)
            self._is_named = True


def mode_of(path: Path) -> int | None:
    """The type and mode of what is at ``path`` itself, symbolic links not followed; None if nothing is."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def refuse_foreign(final: Path) -> None:
    """See that a final name is free before a file is begun that is to have it.

    Raises:
        SinkFailed: something is there.
    """
    if mode_of(final) is not None:
        raise SinkFailed(f"{final} is there already, and not from this run: choose another output folder.")


def _open_plain(path: str, flags: int, at: int | None = None) -> int:
    # O_NONBLOCK means nothing to a file; a pipe in its place is an error, where it would be waited for for ever.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=at)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of calls that only know a descriptor, or a name in an open folder, get the path."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
