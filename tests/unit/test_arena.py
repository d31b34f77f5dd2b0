"""The byte budget: bounded, fair enough, never dead-locked, and always paid back."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.arena import Arena, Slot
from scraper.testing.clock import run_virtual


def started(coroutine) -> asyncio.Task:  # type: ignore[no-untyped-def,type-arg]  # a shorthand
    """A task."""
    return asyncio.ensure_future(coroutine)


async def turn() -> None:
    """Let the others run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_slot_holds_what_was_reserved_and_gives_it_back() -> None:
    """The account follows a body from reservation to release."""
    arena = Arena(100)
    with await arena.reserve(40) as slot:
        assert arena.held == 40
        await slot.append(b"x" * 30)
        assert arena.held == 40
        await slot.append(b"y" * 30)
        assert (arena.held, slot.size) == (60, 60)
        assert slot.body() == b"x" * 30 + b"y" * 30
        assert repr(slot) == "<Slot 60 bytes, 60 held>"
        slot.shrink(5)
        assert arena.held == 5
        slot.release()
        assert arena.held == 0
    assert (arena.held, arena.peak) == (0, 60)
    assert repr(arena) == "<Arena 0/100 bytes, 0 filling, 0 waiting>"


async def test_an_empty_body_is_a_body() -> None:
    """A slot that got no bytes gives empty bytes."""
    arena = Arena(100)
    with await arena.reserve() as slot:
        assert slot.body() == b""


async def test_who_does_not_fit_waits() -> None:
    """A reservation beyond the budget waits until bytes come back, first come, first served."""
    arena = Arena(100)
    a = await arena.reserve(60)
    b = started(arena.reserve(50))
    c = started(arena.reserve(10))  # would fit, but b was first
    await turn()
    assert not b.done()
    assert not c.done()
    assert repr(arena) == "<Arena 60/100 bytes, 3 filling, 2 waiting>"
    a.body()
    a.release()
    (await b).release()
    (await c).release()
    assert arena.held == 0


async def test_the_oldest_may_always_grow() -> None:
    """A body larger than the whole budget completes, if it alone goes over."""
    arena = Arena(100)
    old = await arena.reserve(10)
    young = await arena.reserve(90)
    await old.append(b"x" * 500)
    assert arena.held == 590
    growing = started(young.append(b"y" * 91))
    await turn()
    assert not growing.done()
    old.body()
    old.release()
    await growing
    young.release()
    assert arena.held == 0


async def test_only_one_body_at_a_time_goes_over_the_budget() -> None:
    """The next oldest waits until the body that went over is out: the bound is the budget plus one body."""
    arena = Arena(100)
    slots = [await arena.reserve(1) for _ in range(10)]
    for slot in slots:
        growing = started(slot.append(b"x" * 1_000))
        await turn()
        if not growing.done():
            break
        slot.body()  # complete, and on its way through the transforms
    assert slot is slots[1]
    assert arena.peak <= 1_100
    slots[0].release()
    await growing
    for slot in slots:
        slot.release()
    assert arena.held == 0


async def test_the_end_of_the_oldest_makes_another_the_oldest() -> None:
    """Whoever becomes the oldest while it waits goes on, though no byte came back."""
    arena = Arena(100)
    old, young = await arena.reserve(50), await arena.reserve(50)
    growing = started(young.append(b"x" * 80))
    await turn()
    assert not growing.done()
    old.body()
    await growing
    assert arena.held == 130


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    """Giving up a reservation lets the next one go on and holds nothing."""
    arena = Arena(100)
    first = await arena.reserve(60)
    second, third = started(arena.reserve(90)), started(arena.reserve(40))
    await turn()
    second.cancel()
    slot = await third
    assert second.cancelled()
    slot.release()
    first.release()
    assert arena.held == 0
    assert repr(arena) == "<Arena 0/100 bytes, 0 filling, 0 waiting>"


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_granted_and_cancelled_in_one_turn(cancel_first: bool) -> None:
    """Cancelling a waiter in the turn in which its bytes come free neither leaks nor doubles them."""
    arena = Arena(100)
    first = await arena.reserve(100)
    second = started(arena.reserve(80))
    await turn()
    if cancel_first:
        second.cancel()
        first.release()
    else:
        first.release()
        second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert arena.held == 0
    (await arena.reserve(100)).release()
    assert arena.held == 0


async def test_a_result_may_be_larger_than_its_input() -> None:
    """Shrinking to more than was held is accounted, in the peak as well."""
    arena = Arena(100)
    with await arena.reserve(10) as slot:
        slot.shrink(70)
        assert (arena.held, arena.peak) == (70, 70)
    assert arena.held == 0


async def test_release_twice_is_release_once() -> None:
    """A second release does nothing to the account of others."""
    arena = Arena(100)
    other = await arena.reserve(30)
    slot = await arena.reserve(20)
    slot.release()
    slot.release()
    assert arena.held == 30
    other.release()


Body = tuple[int, list[int], int, int, int, int | None]
BODY = st.tuples(
    st.integers(0, 60),  # expected
    st.lists(st.integers(0, 40), max_size=5),  # chunks
    st.integers(0, 3),  # seconds between chunks
    st.integers(0, 5),  # seconds in the transform
    st.integers(0, 30),  # bytes of the result
    st.sampled_from([None, None, None, 0, 1, 2, 3, 5, 8]),  # cancelled after so many seconds
)


class Load:
    """Workers that fetch bodies into an arena, some cancelled, and one that transforms what is complete."""

    def __init__(self, budget: int, bodies: list[Body]) -> None:
        self.arena = Arena(budget)
        self.todo = list(bodies)
        largest = max((max(sum(chunks), expected) for expected, chunks, *_ in bodies), default=0)
        results = sum(body[4] for body in bodies)  # results may be larger than what they are made from
        self.bound = budget + largest + results
        self.complete: asyncio.Queue[tuple[Slot, int, int]] = asyncio.Queue()

    async def fetch(self, expected: int, chunks: list[int], pause: int, work: int, result: int) -> None:
        """One body, chunk by chunk; nothing stays held if it is cancelled."""
        slot = await self.arena.reserve(expected)
        try:
            for chunk in chunks:
                await slot.append(b"x" * chunk)
                await asyncio.sleep(pause)
            assert len(slot.body()) == sum(chunks) == slot.size <= slot.held
        except BaseException:
            slot.release()
            raise
        self.complete.put_nowait((slot, work, result))

    async def worker(self) -> None:
        """One body after another, each within its time limit."""
        while self.todo:
            *what, limit = self.todo.pop(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self.fetch(*what)

    async def transform(self) -> None:
        """Complete bodies become results, which are then written."""
        while True:
            slot, work, result = await self.complete.get()
            with slot:
                await asyncio.sleep(work)
                slot.shrink(result)
                await asyncio.sleep(0)
            self.complete.task_done()

    async def run(self, workers: int) -> None:
        """All of it."""
        transforming = asyncio.create_task(self.transform())
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self.worker())
        await self.complete.join()
        transforming.cancel()


@settings(max_examples=100, deadline=None)
@given(budget=st.integers(1, 80), workers=st.integers(1, 5), bodies=st.lists(BODY, max_size=12))
def test_it_never_dead_locks_and_the_account_returns_to_zero(
    budget: int, workers: int, bodies: list[Body]
) -> None:
    """Any load, with bodies over the budget and fetches cancelled anywhere, ends, within the bound, at zero."""

    async def main() -> None:
        load = Load(budget, bodies)
        await load.run(workers)
        assert load.arena.peak <= load.bound
        assert repr(load.arena) == f"<Arena 0/{budget} bytes, 0 filling, 0 waiting>"

    run_virtual(main())
