"""Disks that fail on purpose, and the contract suite for sinks that make all their steps on one.

    class TestMySink(DiskSinkContract):
        def make_on(self, disk, out, state):
            return MySink(out, state, disk=disk)

        def read_back(self, out):
            return [(row, data), ...]

Must never: know a sink's format; be kinder to our own sinks than to others.
"""

from __future__ import annotations

import errno
import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pytest

from scraper.errors import SinkFailed
from scraper.protocols import Sink, SinkState
from scraper.records import Result
from scraper.sinks.disk import Disk
from scraper.testing.sink import MemoryLedger, SinkContract, files_in, sample_results

Step = tuple[str, Path]
"""What was about to be done, and to which path."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run happens after it."""


class QuickDisk(Disk):
    """Does not wait for the device: what a killed process wrote is there, whether it was synced or not."""

    def fsync(self, fd: int) -> None:
        """Do nothing."""


class RecordingDisk(QuickDisk):
    """Notes every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._lock = threading.Lock()

    def step(self, name: str, path: Path, data: bytes | bytearray | memoryview = b"") -> None:
        """Note the step."""
        with self._lock:
            self.steps.append((name, path))
            count = len(self.steps)
        self.reached(count, name, path, data)

    def reached(self, count: int, name: str, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Called with the number of the step, from 1."""


class KillingDisk(RecordingDisk):
    """Stops the world at the n-th step: a write is torn in the middle, and no step is made after it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def reached(self, count: int, name: str, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Die at the n-th step and at every later one."""
        if count < self.at:
            return
        if count == self.at and name == "write":
            with path.open("ab") as file:
                file.write(data[: len(data) // 2])
        raise Killed


class FullDisk(RecordingDisk):
    """Has no space left from the n-th step on; what frees space still works."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.refused = False

    def reached(self, count: int, name: str, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Refuse whatever takes space."""
        if count >= self.at and name in ("open", "write", "fsync", "syncfs", "mkdir", "rename"):
            self.refused = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class DiskSinkContract(SinkContract):
    """More, for a sink that makes all its steps on a Disk: it is killed at each of them, and refused space."""

    @abstractmethod
    def make_on(self, disk: Disk, out: Path, state: SinkState) -> Sink:
        """A sink for ``out`` that goes on from ``state`` and touches the file system through ``disk`` alone."""

    def make(self, out: Path, state: SinkState) -> Sink:
        """See SinkContract."""
        return self.make_on(QuickDisk(), out, state)

    async def run_disk(self, disk: Disk, out: Path, ledger: MemoryLedger, results: Sequence[Result]) -> None:
        """Write what the ledger does not hold yet, on that disk."""
        await self.run_on(self.make_on(disk, out, ledger.state), ledger, results)

    async def test_a_run_without_rows_leaves_no_file(self, tmp_path: Path) -> None:
        """An empty list makes no empty shard."""
        await self.run(tmp_path, MemoryLedger(), [])
        assert files_in(tmp_path) == {}

    async def test_finishing_again_changes_no_byte(self, tmp_path: Path) -> None:
        """The same command on a finished output leaves each file as it is."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run(tmp_path, ledger, results)
        before = files_in(tmp_path)
        await self.run(tmp_path, ledger, results)
        assert files_in(tmp_path) == before

    async def test_a_device_that_is_waited_for_makes_no_difference(self, tmp_path: Path) -> None:
        """On a disk that does sync, a run ends as on those of the other tests, which do not."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run_disk(Disk(), tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    async def test_a_kill_at_any_step_loses_doubles_and_tears_nothing(self, tmp_path: Path) -> None:
        """Killed at the 1st, 2nd, … step until a run completes: the next run ends with exactly every row."""
        results = sample_results(self.rows)
        for at in range(1, 2_000):
            out, ledger = tmp_path / f"{at}", MemoryLedger()
            try:
                await self.run_disk(KillingDisk(at), out, ledger, results)
            except Killed:
                self.check_torn(out, results)
                await self.run_disk(QuickDisk(), out, ledger, results)
                self.check_all(out, ledger, results)
            else:
                assert at > 10
                return
        pytest.fail("the run never completed")

    async def test_a_second_kill_while_recovering_is_survived(self, tmp_path: Path) -> None:
        """Undoing what a killed run left may be killed as well, at any step."""
        results = sample_results(self.rows)
        steps = RecordingDisk()
        await self.run_disk(steps, tmp_path / "whole", MemoryLedger(), results)
        for first in range(2, len(steps.steps), max(1, len(steps.steps) // 4)):
            for second in range(1, 6):
                out, ledger = tmp_path / f"{first}-{second}", MemoryLedger()
                for disk in (KillingDisk(first), KillingDisk(second), QuickDisk()):
                    try:
                        await self.run_disk(disk, out, ledger, results)
                    except Killed:
                        self.check_torn(out, results)
                self.check_all(out, ledger, results)

    async def test_a_full_disk_stops_the_run_and_space_completes_it(self, tmp_path: Path) -> None:
        """No space from the n-th step on: one sentence that names a path, nothing torn, and it resumes."""
        results = sample_results(self.rows)
        for at in range(1, 2_000, 3):
            out, ledger = tmp_path / f"{at}", MemoryLedger()
            disk = FullDisk(at)
            failure = ""
            try:
                await self.run_disk(disk, out, ledger, results)
            except SinkFailed as error:
                failure = str(error)
            if not disk.refused:
                assert not failure
                return
            assert "no space left" in failure
            assert str(out) in failure
            self.check_torn(out, results)
            await self.run_disk(QuickDisk(), out, ledger, results)
            self.check_all(out, ledger, results)
        pytest.fail("the run never completed")

    async def test_after_a_failure_nothing_more_is_promised(self, tmp_path: Path) -> None:
        """Once a step has failed, a flush fails too, even if the disk has recovered meanwhile."""
        disk = FullDisk(1_000_000)
        async with self.make_on(disk, tmp_path, {}) as sink:
            await sink.write(sample_results(4))
            disk.at = 1
            with pytest.raises(SinkFailed):
                await sink.flush()
            disk.at = 1_000_000
            with pytest.raises(SinkFailed):
                await sink.flush()

    async def test_bytes_are_durable_before_a_flush_returns(self, tmp_path: Path) -> None:
        """After the last write of a flush, each file that was written is synced before the flush returns."""
        disk = RecordingDisk()
        async with self.make_on(disk, tmp_path, {}) as sink:
            await sink.write(sample_results(4))
            await sink.flush()
        unsynced: set[Path] = set()
        for name, path in disk.steps:
            if name == "write":
                unsynced.add(path)
            elif name == "fsync":
                unsynced.discard(path)
            elif name == "syncfs":
                unsynced.clear()
        assert any(name == "write" for name, _ in disk.steps)
        assert unsynced == set()
