"""Run a command and say what it cost.

A command line comes in, wall and CPU seconds, memory and exit status go out, its processes' children included.
Must never: leave one of those processes behind; count anything that is not the command's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.2
WATCH_S = 0.05
END_S = 30.0
"""How long a command may take to end after SIGINT, and its orphans after the command, before they are killed."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


@dataclass(frozen=True, slots=True)
class Run:
    """What a command cost.

    Attributes:
        seconds: from start to exit of the command.
        cpu_s: user and system time of all its processes.
        pss_mb: the most memory that all its processes held at once, shared pages counted once (sum of PSS).
        rss_mb: the most that the first process held resident (VmHWM).
        rss: resident megabytes of the first process at each sample, with the seconds since the start.
        status: exit status; negative for a signal.
        watched: seconds since the start, and what ``watch`` said then.
    """

    seconds: float
    cpu_s: float
    pss_mb: float
    rss_mb: float
    rss: Sequence[tuple[float, float]]
    status: int
    watched: Sequence[tuple[float, float]] = ()


def run(
    command: Sequence[str | Path],
    *,
    folder: Path,
    stop_after_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], float] | None = None,
) -> Run:
    """Run ``command`` in ``folder``; after ``stop_after_s`` seconds interrupt it as Ctrl-C would.

    What it prints goes to ``folder/said.log``. What earlier runs left to be written is written before it starts.
    ``watch`` is asked twenty times a second.
    """
    _adopt_orphans()
    os.sync()
    with (folder / "said.log").open("ab") as said:
        since = time.monotonic()
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, "NO_PROXY": "*", **(environment or {})},
        )
    ended = threading.Event()
    sampler = _Sampler(child.pid, since, ended)
    watcher = _Watcher(watch or float, since, ended)
    sampler.start()
    watcher.start()
    timers = []
    if stop_after_s is not None:
        timers.append(threading.Timer(stop_after_s, _signal, (child.pid, signal.SIGINT)))
        timers.append(threading.Timer(stop_after_s + END_S, _signal, (child.pid, signal.SIGKILL)))
    for timer in timers:
        timer.start()
    try:
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - since
    except BaseException:
        _end_group(child.pid)
        raise
    finally:
        ended.set()
        for timer in timers:
            timer.cancel()
            timer.join()
        sampler.join()
        watcher.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime + _reap_orphans(child.pid)
    return Run(seconds, cpu_s, sampler.pss_mb, sampler.rss_mb, sampler.rss, child.returncode, watcher.seen)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _adopt_orphans() -> None:
    """Processes that outlive their parent become ours, so that their CPU time is counted too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _reap_orphans(group: int) -> float:
    """Wait for what is left of a process group; the CPU seconds it took."""
    cpu_s = 0.0
    patience = time.monotonic() + END_S
    while True:
        try:
            pid, _, used = os.wait4(-group, os.WNOHANG)
        except ChildProcessError:
            return cpu_s
        if pid:
            cpu_s += used.ru_utime + used.ru_stime
        elif time.monotonic() > patience:
            _end_group(group)
        else:
            time.sleep(0.01)


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Sampler(threading.Thread):
    """Reads the memory of a session's processes until told that it has ended."""

    def __init__(self, session: int, since: float, ended: threading.Event) -> None:
        super().__init__(name="memory-sampler", daemon=True)
        self._session = session
        self._since = since
        self._ended = ended
        self.pss_mb = 0.0
        self.rss_mb = 0.0
        self.rss: list[tuple[float, float]] = []

    def run(self) -> None:
        first = Path("/proc", str(self._session))
        while not self._ended.wait(SAMPLE_S):
            self.pss_mb = max(self.pss_mb, sum(_field(pid / "smaps_rollup", "Pss:") for pid in self._processes()))
            self.rss_mb = max(self.rss_mb, _field(first / "status", "VmHWM:"))
            now = _field(first / "status", "VmRSS:")
            if now:
                self.rss.append((time.monotonic() - self._since, now))

    def _processes(self) -> list[Path]:
        return [
            path for path in Path("/proc").iterdir() if path.name.isdigit() and _session_of(path) == self._session
        ]


class _Watcher(threading.Thread):
    """Asks the same thing again and again until told that it has ended, and once more then."""

    def __init__(self, ask: Callable[[], float], since: float, ended: threading.Event) -> None:
        super().__init__(name="watcher", daemon=True)
        self._ask = ask
        self._since = since
        self._ended = ended
        self.seen: list[tuple[float, float]] = []

    def run(self) -> None:
        while True:
            is_last = self._ended.wait(WATCH_S)
            self.seen.append((time.monotonic() - self._since, self._ask()))
            if is_last:
                return


def _session_of(process: Path) -> int:
    try:
        stat = (process / "stat").read_text(errors="replace")
    except OSError:  # it has ended
        return 0
    return int(stat.rpartition(")")[2].split()[3])  # proc(5): the name, in brackets, may hold anything


def memory_of(process: int) -> float:
    """The most that a process has held resident so far (VmHWM), in megabytes; 0 when it has ended."""
    return _field(Path("/proc", str(process), "status"), "VmHWM:")


def processes_cpu(process: int) -> float:
    """CPU seconds that a process and its children have taken so far (proc(5): utime and stime)."""
    seconds = 0.0
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if process in (int(path.name), int(fields[1])):
                    seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def _field(path: Path, name: str) -> float:
    """A line ``Name:  123 kB`` of a /proc file, in megabytes; 0 when the process has ended."""
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
