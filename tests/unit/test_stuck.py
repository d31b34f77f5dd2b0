"""A run that stands still: told from one that is patient, described, broken by class, and at last ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import pytest

from scraper.engines.stuck import Wait, tasks_described, threads_described, watch_movement
from scraper.errors import InternalFault, RunStopped, SinkFailed
from scraper.testing.clock import run_virtual


class Stage:
    """A run that moves, or not, as told."""

    def __init__(self, wait: Wait) -> None:
        self.wait = wait
        self.count = 0

    def moved(self) -> object:
        """What has moved so far."""
        return self.count

    def waits_for(self) -> Wait:
        """As told."""
        return self.wait

    async def state(self) -> Mapping[str, object]:
        """Something to find in the log."""
        return {"frontier": "as it was"}


async def _watched(
    stage: Stage, seconds: float, breaks: Mapping[Wait, Callable[[], None]] | None = None
) -> tuple[BaseException | None, float]:
    """Watch for so long with a limit of 80 s; what was raised, and when."""
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(watch_movement(stage, 80.0, breaks or {}, lambda _: None))
    await asyncio.wait([watching], timeout=seconds)
    if watching.done():
        return watching.exception(), loop.time()
    watching.cancel()
    await asyncio.wait([watching])
    return None, loop.time()


@pytest.mark.parametrize("wait", [Wait.LIST, Wait.TIME, Wait.PAUSE])
def test_patience_has_no_limit(wait: Wait) -> None:
    """A pipe that is slow, a time that is far, a pause: a day of that is no fault."""
    assert run_virtual(_watched(Stage(wait), 86_400.0))[0] is None


@pytest.mark.parametrize("wait", [Wait.SERVERS, Wait.WORKERS, Wait.DISK, Wait.UNKNOWN])
def test_what_moves_now_and_then_is_not_stuck(wait: Wait) -> None:
    """A change within the limit begins the time anew."""

    async def main() -> None:
        stage = Stage(wait)

        async def move() -> None:
            for _ in range(50):
                await asyncio.sleep(60.0)
                stage.count += 1

        moving = asyncio.create_task(move())
        assert (await _watched(stage, 2_900.0))[0] is None
        moving.cancel()

    run_virtual(main())


def test_a_jam_with_no_remedy_ends_the_run_and_says_what_was_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Within two looks of the limit, with every task and thread in the log."""
    with caplog.at_level(logging.ERROR, "scraper"):
        error, at = run_virtual(_watched(Stage(Wait.UNKNOWN), 1_000.0))
    assert isinstance(error, InternalFault)
    assert "Nothing has moved for 80 s" in str(error)
    assert 80.0 <= at <= 100.0
    (record,) = caplog.records
    found = record.stuck  # type: ignore[attr-defined] # a field of the event
    assert found["frontier"] == "as it was"
    assert any("watch_movement" in where for where in found["tasks"].values())
    assert any("MainThread" in name for name in found["threads"])


def test_a_remedy_is_given_once_and_the_time_to_help() -> None:
    """Then it is over: a remedy that changes nothing is no reason to go on for ever."""
    given: list[float] = []

    async def main() -> tuple[BaseException | None, float]:
        loop = asyncio.get_running_loop()
        return await _watched(Stage(Wait.WORKERS), 1_000.0, {Wait.WORKERS: lambda: given.append(loop.time())})

    error, at = run_virtual(main())
    assert isinstance(error, InternalFault)
    assert len(given) == 1
    assert given[0] + 80.0 <= at <= given[0] + 100.0


def test_a_remedy_that_helps_can_be_given_again_later() -> None:
    """Movement in between makes the next jam a new one."""
    stage, given = Stage(Wait.SERVERS), list[int]()

    def free() -> None:
        given.append(1)
        stage.count += 1

    assert run_virtual(_watched(stage, 1_000.0, {Wait.SERVERS: free}))[0] is None
    assert len(given) >= 5


def test_a_disk_that_never_answers_is_a_last_resort() -> None:
    """The run cannot be ended from within, so whoever can is told why first."""
    told: list[RunStopped] = []

    async def main() -> None:
        await watch_movement(Stage(Wait.DISK), 80.0, {}, told.append)

    with pytest.raises(SinkFailed, match="has not answered for 80 s"):
        run_virtual(main())
    assert len(told) == 1


def test_time_in_which_we_stood_still_ourselves_does_not_count() -> None:
    """A process that was stopped, or a machine that slept, is not stuck when it comes to."""

    async def main() -> tuple[BaseException | None, float]:
        loop = asyncio.get_running_loop()
        # An hour passes between two looks, and nothing of ours has run in it.
        loop.call_at(35.0, lambda: setattr(loop, "_now", loop.time() + 3_600.0))
        return await _watched(Stage(Wait.SERVERS), 3_650.0)

    assert run_virtual(main())[0] is None


async def test_a_task_is_described_by_all_its_awaits() -> None:
    """From the outermost call to what is waited for."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def inner() -> None:
        await never

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer(), name="nested")
    await asyncio.sleep(0)
    (where,) = [text for name, text in tasks_described().items() if name.startswith("nested")]
    task.cancel()
    assert where.index("outer") < where.index("inner") < where.index("Future")
    assert any("test_a_task_is_described" in stack for stack in threads_described().values())
