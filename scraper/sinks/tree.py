"""A folder that is held open, and the folders below it: written to without a path being walked a second time.

In: a folder, and relative names. Out: descriptors of open folders, made where they are missing.
Must never: go through a symbolic link below the folder; leave a descriptor open.

Paths are checked by the operating system as they are opened, part by part (openat with O_NOFOLLOW). Looking first
and opening then would leave a moment in which a link could take a folder's place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from scraper.sinks.disk import Disk, naming

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Tree:
    """A folder and what is below it. Thread-safe, but for ``close``.

    Args:
        disk: whose steps are made.
        path: the folder. It may be a link, or be reached by one.

    Raises:
        OSError: it is not there, or no folder.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self.path = path
        self._disk = disk
        self._fd = os.open(path, _FOLDER)

    def __repr__(self) -> str:
        return f"<Tree {self.path}>"

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)

    def open(self, below: str, *, make: bool = False) -> int:
        """A descriptor, to be closed, of a folder below.

        Args:
            below: its relative path, parted by ``/``; empty for the folder itself.
            make: make what is missing of it.

        Raises:
            OSError: it is not there, or a part of it is a link or no folder.
        """
        fd, names = os.dup(self._fd), below.split("/") if below else []
        try:
            for depth, name in enumerate(names, 1):
                try:
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                except OSError as error:
                    inner = self._make(fd, self.path.joinpath(*names[:depth]), error, make=make)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd

    def files(self, below: str) -> Iterator[str]:
        """Relative paths of the files below a folder, links and whatever else is no file left out, sorted."""
        top = self.open(below)
        try:
            for folder, folders, names, fd in os.fwalk(dir_fd=top):
                folders.sort()
                for name in sorted(names):
                    if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        yield os.path.normpath(f"{folder}/{name}")
        finally:
            os.close(top)

    def _make(self, fd: int, path: Path, error: OSError, *, make: bool) -> int:
        """The folder that could not be opened for ``error``, made if that is all there is to it."""
        with naming(path):
            # ENOTDIR is what Linux says of a link; others say ELOOP.
            if isinstance(error, NotADirectoryError) and _is_link(path.name, fd):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            if not make or not isinstance(error, FileNotFoundError):
                raise error
            self._disk.make_name(path, fd)
            return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)


def _is_link(name: str, fd: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


class Place:
    """The folder of a Tree that was asked for last, kept open: nearly always the next one is the same.

    For one thread.

    Args:
        tree: the whole.
        below: where in it the folders are.
    """

    def __init__(self, tree: Tree, below: str = "") -> None:
        self._tree = tree
        self._below = f"{below}/" if below else ""
        self._folder: str | None = None
        self._fd = -1

    def __repr__(self) -> str:
        return f"<Place {self._folder} of {self._tree}>"

    def of(self, folder: str) -> int:
        """A descriptor of that folder, made where it is missing; good until another is asked for."""
        if folder != self._folder:
            self.close()
            self._fd = self._tree.open(f"{self._below}{folder}".rstrip("/"), make=True)
            self._folder = folder
        return self._fd

    def close(self) -> None:
        """Let go of the folder, if there is one."""
        if self._folder is not None:
            self._folder = None
            os.close(self._fd)
