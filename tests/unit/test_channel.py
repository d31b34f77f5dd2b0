"""The channel: bounded, ends once, loses nothing, and says where a run waits."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.channel import Channel
from scraper.testing.clock import run_virtual


async def drain(channel: Channel[int], limit: int = 1) -> list[int]:
    """Read to the end."""
    got: list[int] = []
    while (batch := await channel.take(limit)) is not None:
        got += batch
    return got


def test_a_channel_has_a_bound() -> None:
    """There is no channel without room, and none without a bound."""
    with pytest.raises(ValueError, match="at least one"):
        Channel("x", 0)


async def test_readers_get_what_is_left_then_none() -> None:
    """Closing keeps what is in the channel; after that every take is None."""
    channel: Channel[int] = Channel("x", 10)
    with channel.producer():
        for n in range(5):
            await channel.put(n)
    assert await channel.take(3) == [0, 1, 2]
    assert await channel.take(3) == [3, 4]
    assert await channel.take(3) is None
    assert await channel.take(3) is None


async def test_the_last_of_several_producers_closes() -> None:
    """A channel is open as long as one producer is."""
    channel: Channel[int] = Channel("x", 10)
    with channel.producer():
        with channel.producer():
            await channel.put(1)
        assert await channel.take(9) == [1]
        assert await channel.take(9, wait_s=0.0) == []
    assert await channel.take(9) is None


async def test_nothing_enters_a_closed_channel() -> None:
    """Putting and producing after the end are mistakes that are named."""
    channel: Channel[int] = Channel("x", 10)
    with channel.producer():
        pass
    with pytest.raises(RuntimeError, match="x is closed"):
        await channel.put(1)
    with pytest.raises(RuntimeError, match="x is closed"), channel.producer():
        pass


@pytest.mark.parametrize("bound", [1, 2, 3, 10])
@pytest.mark.parametrize("readers", [1, 2, 4, 8])
@pytest.mark.parametrize("items", [0, 1, 2, 3, 10])
async def test_every_waiting_reader_learns_of_the_end(bound: int, readers: int, items: int) -> None:
    """However many readers wait and however full the channel is when it closes, each of them ends."""
    channel: Channel[int] = Channel("x", bound)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(drain(channel)) for _ in range(readers)]
        await asyncio.sleep(0)  # all of them wait now
        with channel.producer():
            for n in range(items):
                await channel.put(n)
    assert sorted(n for task in tasks for n in task.result()) == list(range(items))


async def test_a_reader_that_leaves_does_not_take_the_end_along() -> None:
    """A reader waits on though the one who got the last item does not come back."""
    channel: Channel[int] = Channel("x", 1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        once = group.create_task(channel.take(1))
        stays = group.create_task(drain(channel))
        await asyncio.sleep(0)
        with channel.producer():
            await channel.put(7)
    assert once.result() == [7]
    assert stays.result() == []


async def test_a_crash_is_not_the_end() -> None:
    """A producer that left by an exception keeps the channel from ever closing, whoever leaves after it."""
    channel: Channel[int] = Channel("x", 10)
    with channel.producer(), pytest.raises(ZeroDivisionError), channel.producer():
        raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await channel.take(1)


async def test_a_full_channel_blocks_its_producers() -> None:
    """``put`` waits for room, and goes on as soon as there is some."""
    channel: Channel[int] = Channel("x", 2)
    with channel.producer():
        await channel.put(1)
        await channel.put(2)
        third = asyncio.create_task(channel.put(3))
        await asyncio.sleep(0)
        assert not third.done()
        assert await channel.take(1) == [1]
        await third
        assert await channel.take(9) == [2, 3]


async def test_a_cancelled_put_puts_nothing() -> None:
    """A producer that is cancelled while it waits leaves neither its item nor its place."""
    channel: Channel[int] = Channel("x", 1)
    with channel.producer():
        await channel.put(1)
        waiting = [asyncio.create_task(channel.put(n)) for n in (2, 3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await channel.take(9) == [1]
        await waiting[1]
        assert await channel.take(9) == [3]
    assert await channel.take(9) is None


async def test_a_reader_cancelled_as_an_item_comes_loses_nothing() -> None:
    """The item that woke a cancelled reader goes to the next one."""
    channel: Channel[int] = Channel("x", 1)
    with channel.producer():
        first, second = (asyncio.create_task(channel.take(1)) for _ in range(2))
        await asyncio.sleep(0)
        await channel.put(7)  # wakes the first
        first.cancel()
        assert await second == [7]


async def test_an_item_and_the_deadline_at_once_lose_nothing() -> None:
    """An item that arrives in the very turn in which ``wait_s`` passes is taken now or next time."""
    channel: Channel[int] = Channel("x", 1)
    with channel.producer():
        reader = asyncio.create_task(channel.take(1, wait_s=0.0))
        await asyncio.sleep(0)  # it waits, and its time is up with the next turn
        await channel.put(7)
        assert (await reader or await channel.take(1)) == [7]


def test_wait_s_gives_an_empty_list_in_time() -> None:
    """Nothing within ``wait_s`` is an empty list, not the end; the time is measured."""

    async def main() -> None:
        channel: Channel[int] = Channel("x", 1)
        loop = asyncio.get_running_loop()
        with channel.producer():
            assert await channel.take(1, wait_s=2.5) == []
            assert loop.time() == 2.5

    run_virtual(main())


async def test_cost_bounds_a_batch() -> None:
    """A batch ends once it costs enough, and is never empty though one item may cost more than that."""
    channel: Channel[int] = Channel("x", 10)
    with channel.producer():
        for n in (9, 1, 1, 1, 9):
            await channel.put(n)
        assert await channel.take(9, cost=float, most=2.0) == [9]
        assert await channel.take(9, cost=float, most=2.0) == [1, 1]
        assert await channel.take(9, cost=float, most=2.0) == [1, 9]


async def test_statistics_say_where_it_waits() -> None:
    """Size, peak, passed and the waiting on both sides are counted."""
    channel: Channel[int] = Channel("x", 2)
    assert repr(channel) == "<Channel x: 0/2 waiting, 0 producers>"
    with channel.producer():
        reader = asyncio.create_task(channel.take(1))
        await asyncio.sleep(0)
        await channel.put(0)
        assert await reader == [0]
        assert channel.statistics().blocked_get_s > 0
        assert channel.statistics().blocked_put_s == 0
        await channel.put(1)
        await channel.put(2)
        writer = asyncio.create_task(channel.put(3))
        await asyncio.sleep(0)
        assert repr(channel) == "<Channel x: 2/2 waiting, 1 producers>"
        assert await channel.take(1) == [1]
        await writer
        assert channel.statistics().blocked_put_s > 0
    for size in (2, 1, 0):
        statistics = channel.statistics()
        assert (statistics.size, statistics.peak, statistics.passed) == (size, 2, 4 - size)
        await channel.take(1)
    assert repr(channel) == "<Channel x: 0/2 waiting, closed>"


@pytest.mark.parametrize("bound", [1, 2])
async def test_the_end_is_never_counted(bound: int) -> None:
    """An empty closed channel has size 0, also when the mark of the end fills it."""
    channel: Channel[int] = Channel("x", bound)
    with channel.producer():
        pass
    assert channel.statistics().size == 0
    assert await channel.take(1) is None
    assert channel.statistics().size == 0


@settings(max_examples=80, deadline=None)
@given(
    bound=st.integers(1, 4),
    producers=st.lists(st.lists(st.integers(0, 2), max_size=8), min_size=1, max_size=4),
    readers=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=4),
    cancelled=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=3),
)
def test_no_item_is_lost_or_doubled(
    bound: int,
    producers: list[list[int]],
    readers: list[tuple[int, int]],
    cancelled: list[tuple[int, int]],
) -> None:
    """Any mix of slow and fast producers and readers, some of them cancelled, moves each item exactly once."""

    async def main() -> None:
        channel: Channel[tuple[int, int]] = Channel("x", bound)
        got: list[tuple[int, int]] = []

        async def produce(name: int, pauses: list[int]) -> None:
            with channel.producer():
                for n, pause in enumerate(pauses):
                    await asyncio.sleep(pause)
                    await channel.put((name, n))

        async def read(limit: int, pause: int) -> None:
            while (batch := await channel.take(limit, wait_s=1.0)) is not None:
                got.extend(batch)
                await asyncio.sleep(pause)

        async def murder(task: asyncio.Task[None], after: int) -> None:
            await asyncio.sleep(after)
            task.cancel()

        async with asyncio.TaskGroup() as group:
            for name, pauses in enumerate(producers):
                group.create_task(produce(name, pauses))
            with channel.producer():
                await asyncio.sleep(0)  # until each has entered its own block
            tasks = [group.create_task(read(*reader)) for reader in readers]
            group.create_task(read(2, 1))  # one that lives
            for reader, after in cancelled:
                if reader < len(tasks):
                    group.create_task(murder(tasks[reader], after))
        assert sorted(got) == [(name, n) for name, pauses in enumerate(producers) for n in range(len(pauses))]
        assert channel.statistics().passed == len(got)
        assert channel.statistics().peak <= bound

    run_virtual(main())
