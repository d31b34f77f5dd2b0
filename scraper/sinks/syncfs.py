"""One wait for all that was written to a file system, where that system can be trusted to tell of a loss.

In: a folder. Out: a call that waits for its file system, or None where that cannot be trusted.
Must never: say "durable" on a file system that may keep an error to itself.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path

_SYNCFS_TELLS = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994})
"""File systems whose ``syncfs`` waits for data and reports its loss: ext4, xfs, btrfs, f2fs, tmpfs.

Left out on purpose: overlayfs (errors of the layer below are not passed on), FUSE (may not wait), network ones.
"""


class WholeSync:
    """``syncfs`` on the file system of a folder. Open it before the writes whose loss it is to report.

    Since Linux 5.8 a descriptor learns of every write-back error on its file system since it was opened.
    """

    def __init__(self, root: Path, syncfs: Callable[[int], int]) -> None:
        self.root = root
        self._syncfs = syncfs
        self._fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> None:
        """Wait until everything written to this file system so far is durable.

        Raises:
            OSError: something on it is not.
        """
        if self._syncfs(self._fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(self.root))

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)


def whole_sync(root: Path) -> WholeSync | None:
    """A WholeSync for ``root``, or None where ``syncfs`` is missing or cannot be trusted with errors."""
    calls = _linux_calls()
    if calls is None:
        return None
    syncfs, statfs = calls
    answer = (ctypes.c_long * 64)()  # struct statfs is smaller; its first word is the type
    if statfs(os.fsencode(root), answer) != 0 or (answer[0] & 0xFFFFFFFF) not in _SYNCFS_TELLS:
        return None
    return WholeSync(root, syncfs)


@functools.cache
def _linux_calls() -> tuple[Callable[[int], int], Callable[[bytes, object], int]] | None:
    if platform.system() != "Linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    try:
        release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        library = ctypes.CDLL(None, use_errno=True)
        if release >= (5, 8):
            return library.syncfs, library.statfs
    except (ValueError, OSError, AttributeError):  # an unusual release name, or a C library without these
        pass
    return None
