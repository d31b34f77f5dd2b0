"""The virtual clock: time jumps, executors do not, and waiting for ever is an error."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scraper.testing.clock import DeadLock, run_virtual


def test_a_day_passes_at_once() -> None:
    """Sleeping costs virtual time only, and exactly as much as was asked for."""

    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    since = time.monotonic()
    assert run_virtual(main()) == 86_400
    assert time.monotonic() - since < 600


def test_timers_fire_in_order_of_time() -> None:
    """Sleepers wake in the order of their times, whatever the order of going to sleep."""

    async def main() -> list[tuple[int, float]]:
        woken: list[tuple[int, float]] = []

        async def sleeper(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woken.append((seconds, asyncio.get_running_loop().time()))

        async with asyncio.TaskGroup() as group:
            for seconds in (30, 10, 20):
                group.create_task(sleeper(seconds))
        return woken

    assert run_virtual(main()) == [(10, 10.0), (20, 20.0), (30, 30.0)]


def test_timeouts_work() -> None:
    """asyncio.timeout ends a wait in virtual time."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 60


def test_the_clock_stands_still_while_an_executor_works() -> None:
    """A result from a thread comes before a timer that is set for any time later."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            async with asyncio.timeout(0.001):  # virtual; the work takes 20 ms of real time
                await loop.run_in_executor(threads, time.sleep, 0.02)
        assert loop.time() == 0
        return await asyncio.to_thread(str, 7)  # the default executor is shut down with the loop

    assert run_virtual(main()) == "7"


def test_a_dead_lock_is_an_error_that_names_the_waiters() -> None:
    """Waiting for what cannot come raises, and says which task waits where."""

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait(), name="the-waiter")

    with pytest.raises(DeadLock, match=r"the-waiter waits at .*\.py:\d+"):
        run_virtual(main())


def test_an_executor_that_never_ends_is_an_error() -> None:
    """Patience with threads is bounded."""
    release = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            try:
                await loop.run_in_executor(threads, release.wait)
            finally:
                release.set()

    with pytest.raises(DeadLock, match=r"at work for 0\.05 s"):
        run_virtual(main(), patience_s=0.05)
