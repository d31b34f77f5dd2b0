"""The output folder: whose it is, who writes to it, and where in it our own files are.

In: a path. Out: a locked folder, or one sentence why not. Layout: DESIGN 5.
Must never: write into a folder that holds something else, or through a symbolic link in it; delete what no run of
ours wrote; wait for a lock.

    OUT/.scraper/lock           one line of JSON, held by flock while the run lives
    OUT/.scraper/ledger.sqlite  what has ended
    OUT/.scraper/log.jsonl      what was worth saying
    OUT/.scraper/tmp/           files that do not outlive the run
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from scraper.errors import OutputLocked, ScraperError, SinkFailed, UsageError

STATE_DIR = ".scraper"
LOCK = "lock"

NOT_OURS_NOR_ANYBODYS = frozenset({"lost+found", ".DS_Store", "Thumbs.db"})
"""What file systems and desktops put into a folder by themselves."""

OURS = re.compile(
    r"\d{5,}(_stats\.json|\.(tar|parquet|jsonl|csv))?(\.part|\.tmp)?|items\.[a-z0-9.]+"
    r"|report\.html|\.report\.html\.\d+\.tmp|\.scraper"
)
"""Names at the top of an output folder that our sinks and reports make: what ``--overwrite`` may delete."""

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class OutputFolder:
    """OUT, held by one run: a context manager.

    Entering makes the folder if it is missing, takes the lock, and empties ``tmp_dir``. Leaving gives the lock
    back; so does the death of the process, whatever killed it.

    Args:
        path: the folder.
        overwrite: delete what former runs wrote. Refused if the folder holds anything that they did not.

    Raises:
        UsageError: on entering, the folder cannot be used; says why and what to do.
        OutputLocked: on entering, another run is writing to it.
        SinkFailed: on entering, the disk is full or broken, or what is ours in it is a symbolic link.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.root = Path(path)
        self._overwrite = overwrite
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"<OutputFolder {self.root}: {'locked by us' if self._lock is not None else 'not locked'}>"

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> OutputFolder:
        """The folder of a run that was, for reading; not locked, and not to be entered for that.

        Raises:
            UsageError: no run has written there.
        """
        folder = cls(path)
        if not folder.ledger_path.is_file():
            raise UsageError(f"There is no run in {folder.root}: give the -o folder of a run.")
        return folder

    @property
    def state_dir(self) -> Path:
        """Where what is ours alone lies."""
        return self.root / STATE_DIR

    @property
    def ledger_path(self) -> Path:
        """The ledger."""
        return self.state_dir / "ledger.sqlite"

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.state_dir / "log.jsonl"

    @property
    def tmp_dir(self) -> Path:
        """For files that do not outlive the run; on the same file system as the results. Empty at the start."""
        return self.state_dir / "tmp"

    @property
    def report_path(self) -> Path:
        """The page that shows what happened."""
        return self.root / "report.html"

    def is_held(self) -> bool:
        """Whether a run is writing to the folder now, in any process. Leaves nothing behind."""
        try:
            lock = os.open(self.state_dir / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            # An empty file was given back: it need not be tried, which a run that begins just now might notice.
            return bool(os.pread(lock, 1, 0)) and not _is_free(lock)
        finally:
            os.close(lock)

    def check(self) -> None:
        """See whether a run may use the folder, as far as that shows without touching anything.

        Raises:
            UsageError: as on entering.
            OutputLocked: as on entering.
        """
        try:
            self._refuse_what_is_not_ours()
            if self.is_held():
                raise _locked(self.root, self.state_dir / LOCK)
            if self._overwrite and self.root.is_dir():
                self._names_to_clear()
            there = next(each for each in (self.root, *self.root.absolute().parents) if each.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise _refusal(self.root, error) from error

    def __enter__(self) -> Self:
        try:
            self._claim()
            self._lock = _lock(self.state_dir / LOCK, self.root)
            try:
                if self._overwrite:
                    self._clear()
                self._empty_tmp()
            except BaseException:
                self._release()
                raise
        except OSError as error:
            raise _refusal(self.root, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _claim(self) -> None:
        """Make OUT and its ``.scraper``, unless OUT holds something else."""
        self._refuse_what_is_not_ours()
        self.state_dir.mkdir(parents=True, exist_ok=True)

    def _refuse_links(self) -> None:
        """See that nothing of ours in OUT leads anywhere else. OUT itself may: that is the user's own word.

        Looked for once, before anything is opened: SQLite, for one, cannot be told not to follow a link.

        Raises:
            SinkFailed: something does.
        """
        ours = [self.state_dir]
        if self.state_dir.is_dir() and not self.state_dir.is_symlink():
            ours += [self.state_dir / name for name in _names(self.state_dir) if name != self.tmp_dir.name]
        for path in ours:
            if path.is_symlink():
                raise SinkFailed(
                    f"{path} cannot be written to: it is a symbolic link, and those are not followed inside the "
                    "output folder. Put what it stands for in its place, or choose another folder with -o."
                )

    def _refuse_what_is_not_ours(self) -> None:
        if not self.root.exists():
            return
        self._refuse_links()
        if not self.root.is_dir():
            raise UsageError(f"{self.root} is a file: give a folder with -o.")
        if not self.state_dir.is_dir():
            other = next((name for name in _names(self.root) if name not in NOT_OURS_NOR_ANYBODYS), None)
            if other is not None:
                raise UsageError(
                    f"{self.root} holds something else ({other}): choose another, or an empty, folder with -o."
                )

    def _names_to_clear(self) -> list[str]:
        """What ``--overwrite`` would delete; all or nothing."""
        names = [name for name in _names(self.root) if name not in NOT_OURS_NOR_ANYBODYS]
        for name in names:
            if not OURS.fullmatch(name) or (self.root / name).is_symlink():
                raise UsageError(
                    f"{self.root} also holds {name}, which is not known to come from a run: "
                    "move it away before --overwrite, or choose another -o OUT."
                )
        return names

    def _clear(self) -> None:
        """Delete what former runs wrote."""
        self._names_to_clear()
        # The ledger goes first: a run that is killed here must not leave rows "done" whose files are gone.
        for place in (self.state_dir, self.root):
            for name in _names(place):
                if name not in {LOCK, STATE_DIR} and name not in NOT_OURS_NOR_ANYBODYS:
                    _delete(place / name)

    def _empty_tmp(self) -> None:
        if self.tmp_dir.is_symlink() or self.tmp_dir.exists():
            _delete(self.tmp_dir)
        self.tmp_dir.mkdir()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            # Emptied, not deleted: a new run may hold the file open already, and must not lock a nameless one.
            os.ftruncate(lock, 0)
            os.close(lock)


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - the names are wanted, not paths


def _delete(path: Path) -> None:
    """Delete a file or a folder; a link is deleted itself, never what it points to."""
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _lock(path: Path, root: Path) -> int:
    """Take the lock; the number of the open file. The kernel lets go of it when its process dies."""
    # O_CLOEXEC is Python's default: worker processes must not keep the lock of a run that has died.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(root, path) from None
        os.ftruncate(lock, 0)
        held = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        os.pwrite(lock, json.dumps(held).encode() + b"\n", 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _is_free(lock: int) -> bool:
    """Whether nobody has locked the open file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _locked(root: Path, lock: Path) -> OutputLocked:
    return OutputLocked(f"Another run is writing to {root}{_holder(lock)}: let it finish, or stop it.")


def _holder(lock: Path) -> str:
    """Who has it, as far as the file says; it may be read while it is being written."""
    try:
        held = json.loads(lock.read_bytes())
        pid, host = int(held["pid"]), str(held["host"])
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(held["started"])))
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return ""
    elsewhere = "" if host == socket.gethostname() else f" on {host}"
    return f" (process {pid}{elsewhere}, since {since})"


def _refusal(root: Path, error: OSError) -> ScraperError:
    why = error.strerror or str(error)
    if error.errno in _DISK:
        return SinkFailed(f"{root} cannot be written to ({why}): make room, then run the same command again.")
    if (
        error.errno == errno.EROFS and (root / STATE_DIR).is_dir()
    ):  # not a place badly chosen: it was writable once
        return SinkFailed(
            f"{root} cannot be written to any more ({why}): mount its disk for writing, then run the same command "
            "again; it resumes."
        )
    return UsageError(f"{root} cannot be written to ({why}): choose another folder with -o.")
