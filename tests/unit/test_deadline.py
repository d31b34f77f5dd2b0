"""Deadlines, in virtual time: what ends a fetch, when, and what must not."""

from __future__ import annotations

import asyncio

import pytest

from scraper.config import FetchConfig
from scraper.connector import Hop
from scraper.deadline import Watch, Watchdog
from scraper.errors import FetchFailed
from scraper.testing.clock import run_virtual

CONFIG = FetchConfig(
    "test", timeout_s=60, connect_timeout_s=10, header_timeout_s=30, stall_timeout_s=15, stall_bytes=1024
)


def ended(config: FetchConfig, *, feed: list[tuple[float, int]] | None = None, spent_s: float = 0.0) -> str:
    """Class and time at which a fetch ends that waits for ever.

    ``feed``: wait so long, then receive so many bytes; the first entry also makes the connection, and the second
    completes the headers.
    """

    async def fetch() -> str:
        dog = Watchdog(config)
        loop = asyncio.get_running_loop()
        try:
            with Watch(dog, spent_s) as watch:
                for number, (wait_s, size) in enumerate(feed or []):
                    await asyncio.sleep(wait_s)
                    if number == 0:
                        watch.connected()
                    elif number == 1:
                        watch.answered()
                    watch.received += size
                await loop.create_future()
        except FetchFailed as failed:
            return f"{failed.class_} {loop.time():g}"
        finally:
            dog.close()
        return "nothing"

    return run_virtual(fetch())


@pytest.mark.parametrize(
    ("feed", "end"),
    [
        ([], "connect.timeout 10"),
        ([(9.5, 0)], "timeout.stall 39.5"),
        ([(0.0, 0)], "timeout.stall 30"),
        ([(0.0, 0), (29.0, 0)], "timeout.stall 44"),
        ([(0.0, 0), (0.0, 0), (14.0, 5_000)], "timeout.stall 29"),
        ([(0.0, 0), (0.0, 0), (14.0, 1_023)], "timeout.stall 15"),
        ([(0.0, 0)] + [(9.0, 1)] * 50, "timeout.stall 24"),
        ([(0.0, 0)] + [(14.0, 1_024)] * 50, "timeout.total 60"),
        ([(0.0, 0)] + [(0.5, 90_000)] * 900, "timeout.total 60"),
    ],
)
def test_what_ends_a_fetch_and_when(feed: list[tuple[float, int]], end: str) -> None:
    """Each limit ends a fetch with its own class, to within a tick of its time."""
    class_, when = end.split()
    class_seen, when_seen = ended(CONFIG, feed=feed).split()
    assert class_seen == class_
    assert float(when) <= float(when_seen) <= float(when) + 0.25


def test_a_limit_says_which_it_was() -> None:
    """Silence before the headers is told from silence after them, in words that name the limit."""

    async def main(phases: int) -> str:
        dog = Watchdog(CONFIG)
        try:
            with Watch(dog) as watch:
                for step in (watch.connected, watch.answered)[:phases]:
                    step()
                await asyncio.get_running_loop().create_future()
        except FetchFailed as failed:
            return str(failed)
        finally:
            dog.close()
        return "nothing"

    assert [run_virtual(main(phases)) for phases in range(3)] == [
        "connect.timeout: No connection within 10 s.",
        "timeout.stall: No response headers within 30 s.",
        "timeout.stall: Fewer than 1024 bytes in 15 s.",
    ]


def test_a_connection_sought_once_more_has_its_limits_anew() -> None:
    """What a stale connection took is not taken from the one that replaces it, nor from its response."""

    async def main() -> float:
        dog = Watchdog(CONFIG)
        try:
            with Watch(dog) as watch:
                watch.connected()
                await asyncio.sleep(9.0)
                watch.connecting()
                await asyncio.sleep(9.0)
                watch.connected()
                await asyncio.get_running_loop().create_future()
        except FetchFailed:
            return asyncio.get_running_loop().time()
        finally:
            dog.close()
        return -1.0

    assert 48.0 <= run_virtual(main()) <= 48.25


def test_earlier_hops_count_towards_the_total() -> None:
    """The deadline is that of the attempt, redirects included."""
    assert ended(CONFIG, spent_s=55.0) == "timeout.total 5"
    assert ended(CONFIG, spent_s=70.0).startswith("timeout.total 0")


def test_short_limits_are_kept_finely() -> None:
    """A limit is kept to within a quarter of itself."""
    config = FetchConfig("test", stall_timeout_s=0.02)
    name, _, when = ended(config, feed=[(0.0, 0)] * 2).partition(" ")
    assert name == "timeout.stall"
    assert 0.02 <= float(when) <= 0.026


def test_waiting_for_us_counts_towards_nothing() -> None:
    """Held time moves every limit; it is no part of the time the fetch took."""

    async def fetch() -> tuple[str, float]:
        dog = Watchdog(CONFIG)
        watch = Watch(dog)
        try:
            with watch:
                watch.answered()
                watch.hold()
                await asyncio.sleep(1_000.0)
                watch.go_on()
                await asyncio.get_running_loop().create_future()
        except FetchFailed as failed:
            return f"{failed.class_} {asyncio.get_running_loop().time():g}", watch.elapsed_s()
        finally:
            dog.close()
        return "nothing", 0.0

    assert run_virtual(fetch()) == ("timeout.stall 1015", 15.0)


def test_a_loop_that_stood_still_blames_nobody() -> None:
    """After the process was stopped for a minute, fetches in flight go on as if it had not been."""

    async def fetch() -> str:
        loop = asyncio.get_running_loop()
        dog = Watchdog(CONFIG)
        try:
            with Watch(dog) as watch:
                watch.answered()
                await asyncio.sleep(1.0)
                loop._now += 70.0  # type: ignore[attr-defined]  # as SIGSTOP and SIGCONT do
                await loop.create_future()
        except FetchFailed as failed:
            return f"{failed.class_} {loop.time():g}"
        finally:
            dog.close()
        return "nothing"

    name, _, when = run_virtual(fetch()).partition(" ")
    assert name == "timeout.stall"
    assert 84.75 <= float(when) <= 86.0  # 15 s, and the 70 less the tick they began in


def test_the_ticker_is_idle_when_nothing_is_in_flight() -> None:
    """Without a fetch in flight there is no timer; the next fetch starts it again."""

    async def look() -> list[str]:
        dog = Watchdog(CONFIG)
        seen = [repr(dog)]
        for _ in range(2):
            with Watch(dog):
                seen.append(repr(dog))
                await asyncio.sleep(1.0)
            await asyncio.sleep(1.0)
            seen.append(repr(dog))
        return seen

    idle, busy = "<Watchdog idle, 0 in flight>", "<Watchdog every 0.25 s, 1 in flight>"
    assert run_virtual(look()) == [idle, busy, idle, busy, idle]


def test_a_cancellation_from_outside_wins() -> None:
    """Cancelled from outside in the very turn in which a limit fires, the task is cancelled, not failed."""

    async def fetch(dog: Watchdog) -> None:
        with Watch(dog) as watch:
            watch.connected()
            await asyncio.get_running_loop().create_future()

    async def main() -> list[bool]:
        results = []
        for outside_first in (True, False):
            dog = Watchdog(CONFIG)
            task = asyncio.create_task(fetch(dog))
            await asyncio.sleep(0)
            (watch,) = dog._watches
            late = asyncio.get_running_loop().time() + 100.0
            if outside_first:
                task.cancel()
            watch.look(late)
            if not outside_first:
                task.cancel()
            await asyncio.wait([task])
            results.append(task.cancelled())
            dog.close()
        return results

    assert run_virtual(main()) == [True, True]


def test_a_limit_leaves_the_task_uncancelled() -> None:
    """Once a limit has ended a fetch, the task can go on and be cancelled as if nothing had been."""

    async def main() -> int:
        dog = Watchdog(CONFIG)
        with pytest.raises(FetchFailed):
            await wait_for_ever(dog)
        dog.close()
        await asyncio.sleep(1.0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    async def wait_for_ever(dog: Watchdog) -> None:
        with Watch(dog):
            await asyncio.get_running_loop().create_future()

    assert run_virtual(main()) == 0


def test_what_a_limit_makes_others_raise_is_still_the_limit() -> None:
    """Where a library turns our cancellation into an error of its own, the limit is what is reported."""

    async def main() -> None:
        dog = Watchdog(CONFIG)
        try:
            with Watch(dog):
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    raise OSError("socket closed") from None
        finally:
            dog.close()

    with pytest.raises(FetchFailed, match=r"connect\.timeout"):
        run_virtual(main())


def test_hurry_only_shortens() -> None:
    """Hurrying brings the end nearer and never puts it off."""

    async def main(within_s: float) -> float:
        dog = Watchdog(CONFIG)
        try:
            with Watch(dog, 50.0) as watch:
                watch.connected()
                watch.hurry(within_s)
                await asyncio.get_running_loop().create_future()
        except FetchFailed:
            return asyncio.get_running_loop().time()
        finally:
            dog.close()
        return -1.0

    assert run_virtual(main(1.0)) == 1.0
    assert run_virtual(main(100.0)) == 10.0


def test_repr_says_what_is_waited_for() -> None:
    """The watch's repr names its phase, time and bytes."""

    async def main() -> list[str]:
        dog = Watchdog(CONFIG)
        with Watch(dog) as watch:
            seen = [repr(watch)]
            watch.connected()
            seen.append(repr(watch))
            watch.answered()
            watch.received = 7
            seen.append(repr(watch))
            watch.hold()
            seen.append(repr(watch))
        dog.close()
        return seen

    assert run_virtual(main()) == [
        "<Watch connecting, 0.000 s, 0 bytes>",
        "<Watch asking, 0.000 s, 0 bytes>",
        "<Watch reading, 0.000 s, 7 bytes>",
        "<Watch held, 0.000 s, 7 bytes>",
    ]


def test_times_told_do_not_come_from_the_loops_coarse_clock() -> None:
    """That of uvloop stands still and then jumps a millisecond, by which a wait could seem longer than its hop."""

    async def main() -> None:
        dog = Watchdog(CONFIG)
        with Hop(dog) as hop:
            hop.hold()
            await asyncio.sleep(5.0)  # by the loop's clock, and no time at all by the process's
            hop.go_on()
            assert hop.elapsed_s() == 0.0
            assert 0.0 <= hop.timings().total_ms < 5_000.0

    run_virtual(main())
