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
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from aiofiles.threadpool.binary import AsyncFileIO

from scraper.errors import SinkFailed
from scraper.protocols import Sink, SinkState
from scraper.records import Result
from scraper.sinks.disk import Disk, Tail
from scraper.testing.sink import MemoryLedger, SinkContract, files_in, sample_results

T = TypeVar("T")

Step = tuple[str, Path]
"""What was about to be done, and to which path."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run happens after it."""


class QuickDisk(Disk):
    """Does not wait for the device: what a killed process wrote is there, whether it was synced or not."""

    def fsync(self, fd: int) -> None:
        """Do nothing."""


class _AtOnce(ThreadPoolExecutor):
    """Does what it is given in the thread that gives it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it; what it raises, a kill too, is for whoever waits."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class OrderlyDisk(QuickDisk):
    """Makes one step after the other in the caller's thread, so that the n-th is the same one each time.

    A run in which every step is tried makes thousands; most of its time would go into waking threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pool = _AtOnce()


class RecordingDisk(OrderlyDisk):
    """Notes every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def step(self, name: str, path: Path, data: bytes | bytearray | memoryview = b"") -> None:
        """Note the step."""
        self.steps.append((name, path))
        self.reached(len(self.steps), name, path, data)

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


TAKES_SPACE = frozenset({"open", "write", "fsync", "syncfs", "close", "mkdir", "rename"})
CHANGES = TAKES_SPACE | {"truncate", "unlink", "rmdir"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a disk does wrong.

    Attributes:
        code: the ``errno``.
        says: what the user is to read.
        steps: names of the steps it may hit.
        once: only one step fails and later ones work again, as after a write-back error; else all do.
        every: of so many steps one is tried. 1 for all; more where another refusal goes the same way already:
            which error it was matters in one place, where it is put into words.
    """

    code: int
    says: str
    steps: frozenset[str]
    once: bool = False
    every: int = 1


REFUSALS = {
    "full": Refusal(errno.ENOSPC, "no space left", TAKES_SPACE, every=3),
    "quota": Refusal(errno.EDQUOT, "quota is used up", TAKES_SPACE, every=11),
    "read-only": Refusal(errno.EROFS, "read-only", CHANGES, every=7),
    "broken": Refusal(errno.EIO, "input/output error", CHANGES, once=True),
}


class RefusingDisk(RecordingDisk):
    """Refuses the n-th step, or the first after it that the refusal is about."""

    def __init__(self, at: int, refusal: Refusal) -> None:
        super().__init__()
        self.at = at
        self.refusal = refusal
        self.refused = False

    def reached(self, count: int, name: str, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Raise what the operating system would."""
        if count < self.at or name not in self.refusal.steps or (self.refused and self.refusal.once):
            return
        self.refused = True
        raise OSError(self.refusal.code, os.strerror(self.refusal.code), str(path))


class FullDisk(RefusingDisk):
    """Has no space left from the n-th step on; what frees space still works."""

    def __init__(self, at: int) -> None:
        super().__init__(at, REFUSALS["full"])


class ShortDisk(QuickDisk):
    """Takes only half of what it is given at a time, as a disk may that is nearly full or interrupted."""

    def write(self, fd: int, data: memoryview) -> int:
        """Write half, at least a byte."""
        return super().write(fd, data[: (len(data) + 1) // 2])

    async def open_tail(self, path: Path) -> Tail:
        """As ever, with a handle that takes half."""
        tail = await super().open_tail(path)
        tail.handle = cast("AsyncFileIO", _HalfHandle(tail.handle))
        return tail


class _HalfHandle:
    """An aiofiles handle that writes half of what it is given."""

    def __init__(self, handle: AsyncFileIO) -> None:
        self._handle = handle
        self.fileno = handle.fileno
        self.close = handle.close

    async def write(self, data: memoryview) -> int:
        """Write half, at least a byte."""
        return await self._handle.write(data[: (len(data) + 1) // 2])


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

    async def test_nothing_has_a_final_name_before_the_ledger_knows_of_it(self, tmp_path: Path) -> None:
        """A flush and a finish make durable and no more: who dies before the commit has shown nobody a thing."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        async with self.make(tmp_path, {}) as sink:
            outcomes = await sink.write(results)
            await sink.flush()
            assert self.read_back(tmp_path) == []
            state = await sink.finish()
            assert self.read_back(tmp_path) == []
            ledger.commit(outcomes, state)
            await sink.publish()
        self.check_all(tmp_path, ledger, results)

    async def test_a_device_that_is_waited_for_makes_no_difference(self, tmp_path: Path) -> None:
        """On a disk that does sync, a run ends as on those of the other tests, which do not."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run_disk(Disk(), tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    @pytest.mark.slow
    async def test_a_kill_at_any_step_loses_doubles_and_tears_nothing(self, tmp_path: Path) -> None:
        """Killed at the 1st, 2nd, … step until a run completes: the next run ends with exactly every row."""
        results = sample_results(self.rows)
        for at in range(1, 2_000):
            out, ledger = tmp_path / f"{at}", MemoryLedger()
            try:
                await self.run_disk(KillingDisk(at), out, ledger, results)
            except Killed:
                self.check_torn(out, results)
                await self.run_disk(OrderlyDisk(), out, ledger, results)
                self.check_all(out, ledger, results)
            else:
                assert at > 10
                return
        pytest.fail("the run never completed")

    @pytest.mark.slow
    async def test_a_second_kill_while_recovering_is_survived(self, tmp_path: Path) -> None:
        """Undoing what a killed run left may be killed as well, at any step."""
        results = sample_results(self.rows)
        steps = RecordingDisk()
        await self.run_disk(steps, tmp_path / "whole", MemoryLedger(), results)
        for first in range(2, len(steps.steps), max(1, len(steps.steps) // 4)):
            for second in range(1, 6):
                out, ledger = tmp_path / f"{first}-{second}", MemoryLedger()
                for disk in (KillingDisk(first), KillingDisk(second), OrderlyDisk()):
                    try:
                        await self.run_disk(disk, out, ledger, results)
                    except Killed:
                        self.check_torn(out, results)
                self.check_all(out, ledger, results)

    @pytest.mark.slow
    async def test_a_kill_while_a_finished_output_grows_is_survived(self, tmp_path: Path) -> None:
        """What is complete is opened again for more rows: killed at any step of that, nothing is lost."""
        results = sample_results(self.rows)
        half = self.rows // 2
        for at in range(1, 2_000):
            out, ledger = tmp_path / f"{at}", MemoryLedger()
            await self.run_disk(OrderlyDisk(), out, ledger, results[:half])
            try:
                await self.run_disk(KillingDisk(at), out, ledger, results)
            except Killed:
                self.check_torn(out, results)
                # Killed before anything was committed, and then there is nothing to add: complete again.
                if len(ledger.outcomes) == half:
                    await self.run_disk(OrderlyDisk(), out, ledger, results[:half])
                    self.check_all(out, ledger, results[:half])
                await self.run_disk(OrderlyDisk(), out, ledger, results)
                self.check_all(out, ledger, results)
            else:
                assert at > 5
                return
        pytest.fail("the run never completed")

    @pytest.mark.slow
    @pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
    async def test_a_disk_that_refuses_stops_the_run_and_a_better_one_completes_it(
        self, tmp_path: Path, refusal: Refusal
    ) -> None:
        """Refused at the 1st, 2nd, … step until a run completes: a sentence that names a path, and it resumes."""
        results = sample_results(self.rows)
        for at in range(1, 2_000, refusal.every):
            out, ledger = tmp_path / f"{at}", MemoryLedger()
            disk = RefusingDisk(at, refusal)
            failure = ""
            try:
                await self.run_disk(disk, out, ledger, results)
            except SinkFailed as error:
                failure = str(error)
            if not disk.refused:
                assert not failure
                return
            assert refusal.says in failure
            assert str(out) in failure
            self.check_torn(out, results)
            await self.run_disk(OrderlyDisk(), out, ledger, results)
            self.check_all(out, ledger, results)
        pytest.fail("the run never completed")

    async def test_short_writes_are_completed(self, tmp_path: Path) -> None:
        """An operating system that takes half of each write, again and again, gets all of it in the end."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run_disk(ShortDisk(), tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

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
