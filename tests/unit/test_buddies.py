"""The arena's rooms: nobody's byte is another's, and what is given back is whole again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.buddies import LARGEST, SMALLEST, Buddies, room_for

SIZE = 3 * LARGEST
ROOMS = [SMALLEST << n for n in range(11)]


@pytest.mark.parametrize(
    ("total", "room"),
    [
        (0, SMALLEST),
        (1, SMALLEST),
        (SMALLEST, SMALLEST),
        (SMALLEST + 1, 2 * SMALLEST),
        (36_000, 64 * 1024),
        (LARGEST, LARGEST),
        (LARGEST + 1, 2 * LARGEST),
    ],
)
def test_a_room_is_the_next_power_of_two(total: int, room: int) -> None:
    """It holds what it is for, and is none too large."""
    assert room_for(total) == room


def test_the_lowest_free_room_is_given_first() -> None:
    """What is used stays together at the lower end, so that few pages are ever touched."""
    buddies = Buddies(SIZE)
    places = [buddies.take(SMALLEST) for _ in range(4)]
    assert places == [0, SMALLEST, 2 * SMALLEST, 3 * SMALLEST]
    buddies.give(SMALLEST, SMALLEST)
    assert buddies.take(SMALLEST) == SMALLEST


def test_nothing_is_left_at_the_end() -> None:
    """Every byte can be given, and then there is none."""
    buddies = Buddies(SIZE)
    assert [buddies.take(LARGEST) for _ in range(4)] == [0, LARGEST, 2 * LARGEST, None]
    assert buddies.take(SMALLEST) is None
    assert repr(buddies) == f"<Buddies 0 of {SIZE} bytes free>"
    assert buddies.give(LARGEST, LARGEST) == (LARGEST, LARGEST)
    assert buddies.take(SMALLEST) == LARGEST


def test_a_room_grows_where_it_is_if_what_is_behind_it_is_free() -> None:
    """The first half of a free whole becomes the whole; a second half, or one with a neighbour, does not."""
    buddies = Buddies(SIZE)
    first, second = buddies.take(SMALLEST), buddies.take(SMALLEST)
    assert (first, second) == (0, SMALLEST)
    assert not buddies.double(0, SMALLEST)
    assert not buddies.double(SMALLEST, SMALLEST)
    buddies.give(SMALLEST, SMALLEST)
    assert buddies.double(0, SMALLEST)
    assert buddies.take(SMALLEST) == 2 * SMALLEST
    assert not buddies.double(LARGEST, LARGEST)


def test_a_second_half_does_not_grow_into_what_belongs_to_another() -> None:
    """What is behind it may be free, and of its size; together they would be no room."""
    buddies = Buddies(SIZE)
    assert [buddies.take(SMALLEST) for _ in range(4)] == [0, SMALLEST, 2 * SMALLEST, 3 * SMALLEST]
    buddies.give(2 * SMALLEST, SMALLEST)
    assert not buddies.double(SMALLEST, SMALLEST)
    assert buddies.take(SMALLEST) == 2 * SMALLEST


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "give", "double"]), st.sampled_from(ROOMS), st.integers(0, 1_000)),
    max_size=120,
)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_rooms_never_overlap_and_become_one_again(steps: list[Step]) -> None:
    """Whatever is taken, grown and given back in any order: nothing twice, nothing lost, nothing in pieces."""
    buddies, held = Buddies(SIZE), []
    for what, room, which in steps:
        if what == "take":
            place = buddies.take(room)
            if place is not None:
                held.append((place, room))
        elif held:
            mine, size = held.pop(which % len(held))
            if what == "give":
                buddies.give(mine, size)
            else:
                held.append((mine, 2 * size if buddies.double(mine, size) else size))
        held.sort()
        assert all(place + room <= after for (place, room), (after, _) in itertools.pairwise(held))
        assert all(place % room == 0 and 0 <= place <= SIZE - room for place, room in held)
        assert buddies.free + sum(room for _, room in held) == SIZE
    for place, room in held:
        buddies.give(place, room)
    assert [buddies.take(LARGEST) for _ in range(3)] == [0, LARGEST, 2 * LARGEST]
