"""Bodies in shared memory: whole wherever they are, out of one another's way, and gone when they are given up."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import scraper.memory
from scraper.arena import Arena, Slot
from scraper.buddies import LARGEST, SMALLEST
from scraper.memory import BodyKept, Memory, Shared, shared_memory
from scraper.testing.clock import run_virtual
from scraper.testing.transform import garbage, response
from scraper.transforms.image import ImageTransform
from scraper.worker import transformed

MIB = 1 << 20
MAPPED = 2 * LARGEST
"""What is mapped for a small budget: the least there is."""


@pytest.fixture
def memory() -> Iterator[Memory]:
    """The least there is: room for one body of the largest size, and one that goes back to the kernel."""
    made = shared_memory(1)
    assert made is not None
    with Arena(1, made):
        yield made


def arena(memory: Memory) -> Arena:
    """A budget that is never spent."""
    return Arena(1 << 40, memory)


async def filled(arena: Arena, body: bytes, pieces: int = 1, claimed: int = 0) -> Slot:
    """A slot with a body that came in pieces."""
    slot = await arena.reserve(claimed=claimed)
    step = -(-len(body) // pieces)
    for at in range(0, len(body), step):
        await slot.append(body[at : at + step])
    return slot


def lent(memory: Memory, slot: Slot) -> bytes:
    """What a worker sees of a body."""
    shared = Shared(memory._fd, MAPPED)
    assert shared.attach() == MAPPED
    assert slot.place is not None
    with shared.lent(slot.place) as body:
        return bytes(body)


async def test_a_body_is_where_a_worker_finds_it(memory: Memory) -> None:
    """The loop has a view that cannot be written to; the worker has the same bytes at the same place."""
    with await filled(arena(memory), b"a picture") as slot:
        body = slot.body()
        assert isinstance(body, memoryview)
        assert body.readonly
        assert body == b"a picture"
        assert slot.place == (0, 9)
        assert slot.body() is body
        assert lent(memory, slot) == b"a picture"


async def test_an_empty_body_takes_no_room(memory: Memory) -> None:
    """What promises much and sends nothing gets nothing."""
    with await arena(memory).reserve(claimed=MIB) as slot:
        assert repr(memory) == "<Memory 0 bytes in rooms, 0 spilled>"
        assert slot.body() == b""
        assert slot.place is None


@pytest.mark.parametrize("size", [1, SMALLEST, SMALLEST + 1, 350_000, LARGEST, LARGEST + 1])
@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("claim", [0.0, 0.3, 1.0, 50.0])
async def test_a_body_is_whole_however_it_came(memory: Memory, size: int, pieces: int, claim: float) -> None:
    """In pieces or at once, as large as was claimed or not, in a room, in larger and larger ones, or beyond."""
    body = random.Random(size).randbytes(size)
    with await filled(arena(memory), body, pieces, int(size * claim)) as slot:
        assert slot.body() == body
        assert lent(memory, slot) == body
    assert repr(memory) == "<Memory 0 bytes in rooms, 0 spilled>"


async def test_a_body_moves_up_past_its_neighbour(memory: Memory) -> None:
    """It grows where it is while it can, and is copied to a larger room where it cannot."""
    mine = arena(memory)
    with await filled(mine, b"a" * SMALLEST) as first, await filled(mine, b"b" * SMALLEST) as second:
        await first.append(b"A")
        await second.append(b"B" * SMALLEST)
        assert first.body() == b"a" * SMALLEST + b"A"
        assert second.body() == b"b" * SMALLEST + b"B" * SMALLEST
        assert first.place is not None
        assert second.place is not None
        assert first.place[0] != second.place[0]


async def test_what_finds_no_room_has_a_stretch_of_its_own(memory: Memory) -> None:
    """When all rooms are taken a body goes beyond them, and its memory goes back at once when it is given up."""
    mine = arena(memory)
    rooms = [await filled(mine, b"x", claimed=LARGEST) for _ in range(2)]
    before = memory.resident
    with await filled(mine, b"spilled" * 100_000, 3) as slot, await filled(mine, b"another") as other:
        assert repr(memory) == f"<Memory {2 * LARGEST} bytes in rooms, 2 spilled>"
        assert slot.body() == b"spilled" * 100_000
        assert other.body() == b"another"
        assert lent(memory, slot) == b"spilled" * 100_000
        assert lent(memory, other) == b"another"
        assert memory.resident > before
    assert memory.resident == before
    for room in rooms:
        room.release()


async def test_a_stretch_is_used_again(memory: Memory) -> None:
    """The lowest one that is free; the file does not grow with the number of large bodies."""
    mine, large = arena(memory), LARGEST + 1
    first, second = await filled(mine, b"1", claimed=large), await filled(mine, b"2", claimed=large)
    first.body()
    place = first.place
    first.release()
    third = await filled(mine, b"3", claimed=large)
    assert third.body() == b"3"
    assert second.body() == b"2"
    assert third.place == place
    second.release()
    third.release()


async def test_the_upper_half_gives_its_pages_back(memory: Memory) -> None:
    """What the budget alone would not need is kept only while it is used."""
    mine, body = arena(memory), bytes(range(256)) * (LARGEST // 256)
    first, second = await filled(mine, body, 4), await filled(mine, body, 4)
    assert memory.resident == 2 * LARGEST
    second.release()
    assert memory.resident == LARGEST
    first.release()
    assert memory.resident == LARGEST


async def test_one_after_another_take_the_memory_of_one(memory: Memory) -> None:
    """Memory is touched as it is needed, and used again: a thousand bodies take no more than one."""
    mine = arena(memory)
    assert memory.resident == 0
    for _ in range(1_000):
        (await filled(mine, b"x" * 36_000)).release()
    assert memory.resident <= 48 * 1024


async def test_a_view_is_gone_with_its_body(memory: Memory) -> None:
    """Who still has the view of a body that was given up gets an error, and not another body's bytes."""
    slot = await filled(arena(memory), b"secret")
    body = slot.body()
    slot.shrink(100)
    with pytest.raises(ValueError, match="released"):
        bytes(body)
    assert slot.place is None
    slot.release()


async def test_a_body_that_is_an_item_stays_until_the_release(memory: Memory) -> None:
    """What is written as it came stays where it is, and the account goes on."""
    mine = arena(memory)
    slot = await filled(mine, b"as it came")
    body = slot.body()
    slot.shrink(10, keep_body=True)
    with await filled(mine, b"another") as other:
        assert other.body() == b"another"
        assert body == b"as it came"
        assert mine.held == 17
    slot.release()
    assert mine.held == 0


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_where_no_memory_can_be_had_a_body_is_ordinary_bytes(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A stretch that the kernel refuses, at its beginning or later, costs nothing but the way round."""
    calls = 0
    real = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with await filled(arena(memory), b"0123456789" * 100, 10, claimed=LARGEST + 1) as slot:
        assert type(slot.body()) is bytes
        assert slot.body() == b"0123456789" * 100
        assert slot.place is None
    assert repr(memory) == "<Memory 0 bytes in rooms, 0 spilled>"


async def test_a_body_that_cannot_move_up_is_not_lost(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is neither a larger room nor more memory, what was there goes on as ordinary bytes."""

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    mine = arena(memory)
    rooms = [await filled(mine, b"x", claimed=LARGEST)]
    monkeypatch.setattr(os, "pwrite", full)
    with await filled(mine, b"a" * LARGEST) as slot:
        await slot.append(b"b")
        assert slot.body() == b"a" * LARGEST + b"b"
        assert slot.place is None
        assert repr(memory) == f"<Memory {LARGEST} bytes in rooms, 0 spilled>"
    rooms[0].release()


async def test_a_stretch_that_cannot_be_mapped_is_read(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for the view the body is ordinary bytes."""

    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    with await filled(arena(memory), b"large", claimed=LARGEST + 1) as slot:
        monkeypatch.setattr(scraper.memory.mmap, "mmap", none_left)
        assert slot.body() == b"large"
        assert slot.place is None


async def test_a_worker_that_cannot_map_reads(memory: Memory) -> None:
    """A worker without the address space, or that was refused it, copies each body out."""
    with await filled(arena(memory), b"a picture") as slot:
        slot.body()
        assert slot.place is not None
        with Shared(memory._fd, MAPPED).lent(slot.place) as body:
            assert body == b"a picture"
        with pytest.raises(OSError, match="less in the file"), Shared(memory._fd, 0).lent((1 << 60, 5)):
            pass


def test_no_address_space_is_no_error() -> None:
    """Where the mapping is refused, a worker is told so by a zero."""
    made = Shared(-1, MAPPED)
    assert made.attach() == 0


def test_where_there_is_none_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system, with strict accounts, or under ulimit -f, bodies stay ordinary bytes."""
    with monkeypatch.context() as patch:
        patch.setattr(scraper.memory.sys, "platform", "darwin")
        assert shared_memory(1) is None
    with monkeypatch.context() as patch:
        patch.setattr(scraper.memory, "_overcommit", lambda: "2")
        assert shared_memory(1) is None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fds = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        assert shared_memory(1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


async def test_what_is_kept_beyond_the_item_is_noticed(memory: Memory) -> None:
    """The view itself is taken away from who keeps it; a part of it cannot be, so that is an error."""
    with await filled(arena(memory), b"0123456789") as slot:
        slot.body()
        assert slot.place is not None
        shared = Shared(memory._fd, MAPPED)
        shared.attach()
        with shared.lent(slot.place) as kept:
            assert isinstance(kept, memoryview)
        with pytest.raises(ValueError, match="released"):
            bytes(kept)
        parts = []
        with pytest.raises(BodyKept, match="keep a copy"), shared.lent(slot.place) as body:
            parts.append(body[2:4])
        assert parts == [b"23"]
        with shared.lent(slot.place) as body, contextlib.suppress(ValueError):
            circle = ValueError(body[1:])
            circle.__context__ = RuntimeError(circle)
            del circle


@pytest.mark.slow
@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"])
async def test_decoders_keep_nothing(memory: Memory, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of no picture, whole or damaged, is a part kept: not even in circles, which would cost a collection each."""
    transform, mine, coded = ImageTransform(), arena(memory), io.BytesIO()
    Image.effect_noise((160, 120), 50).convert("RGB").save(coded, name)
    transform.warm_up()
    shared = Shared(memory._fd, MAPPED)
    shared.attach()
    collected = []
    monkeypatch.setattr(scraper.memory.gc, "collect", lambda: collected.append(1))
    for body in (coded.getvalue(), *garbage(coded.getvalue())):
        with await filled(mine, body or b" ") as slot:
            slot.body()
            assert slot.place is not None
            with shared.lent(slot.place) as view:
                answer = transformed(transform, response(view), (BaseException,))
        assert answer.items or body != coded.getvalue()
    assert collected == []


async def test_closing_takes_no_view_away_at_its_end() -> None:
    """A run that is cut short may still have views; they fall with their owners, and nothing else does."""
    made = shared_memory(1)
    assert made is not None
    mine = Arena(1 << 40, made)
    with mine:
        slot, large = await filled(mine, b"late"), await filled(mine, b"later", claimed=LARGEST + 1)
        late = slot.body()
        large.body()
    assert late == b"late"
    slot.release()
    large.release()


Body = tuple[int, int, int, bool]
BODIES = st.lists(
    st.tuples(
        st.sampled_from([1, 100, SMALLEST, SMALLEST + 1, 40_000, 300_000, 2 * MIB]),
        st.integers(1, 5),
        st.integers(0, 20 * MIB),
        st.booleans(),
    ),
    max_size=10,
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(bodies=BODIES)
def test_bodies_keep_out_of_one_anothers_way(bodies: list[Body]) -> None:
    """Any bodies that come at once, some given up on the way: each is what was sent, and all memory comes back."""

    async def main() -> None:
        made = shared_memory(1)
        assert made is not None
        with Arena(1 << 40, made) as mine:
            slots = [await mine.reserve(claimed=claimed) for _, _, claimed, _ in bodies]
            sent = [bytes([number + 1]) * size for number, (size, *_) in enumerate(bodies)]
            for turn in range(5):
                for slot, body, (size, pieces, _, is_kept) in zip(slots, sent, bodies, strict=True):
                    step = -(-size // pieces)
                    if turn < 2 or is_kept:
                        await slot.append(body[turn * step : (turn + 1) * step])
                    else:
                        slot.release()
            for slot, body, (*_, is_kept) in zip(slots, sent, bodies, strict=True):
                assert not is_kept or slot.body() == body
                slot.release()
            assert repr(made) == "<Memory 0 bytes in rooms, 0 spilled>"
            assert made.resident <= LARGEST

    run_virtual(main())
