"""Where pixels go: each mode by example, and what holds for every size."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.policies.resize import HEADROOM, RESIZE_MODES, SHRINKS, Placement, filter_of, place, shrink_of

sides = st.integers(1, 20_000)
sizes = st.integers(1, 2_000)
modes = st.sampled_from(RESIZE_MODES)


@pytest.mark.parametrize(
    ("width", "height", "mode", "size", "canvas", "offset"),
    [
        (400, 300, "no", 256, (400, 300), (0, 0)),
        (400, 300, "border", 256, (256, 192), (0, 32)),
        (300, 400, "border", 256, (192, 256), (32, 0)),
        (100, 50, "border", 256, (256, 128), (0, 64)),
        (256, 255, "border", 256, (256, 255), (0, 0)),
        (400, 300, "keep_ratio", 256, (341, 256), (0, 0)),
        (300, 400, "keep_ratio", 256, (256, 341), (0, 0)),
        (400, 300, "keep_ratio_largest", 256, (256, 192), (0, 0)),
        (400, 300, "center_crop", 256, (256, 256), (0, 0)),
        (10_000, 1, "keep_ratio_largest", 256, (256, 1), (0, 0)),
        (1, 10_000, "border", 256, (1, 256), (127, 0)),
        (1, 1, "border", 1, (1, 1), (0, 0)),
    ],
)
def test_each_mode_by_example(
    width: int, height: int, mode: str, size: int, canvas: tuple[int, int], offset: tuple[int, int]
) -> None:
    """The scaled size and its place are those img2dataset gives."""
    placement = place(width, height, mode, size)
    assert (placement.size, placement.offset) == (canvas, offset)
    assert placement.canvas == ((size, size) if mode == "border" else canvas)


@pytest.mark.parametrize(
    ("width", "height", "mode", "stays"),
    [
        (300, 200, "border", False),
        (256, 200, "border", True),
        (300, 200, "keep_ratio", True),
        (300, 257, "keep_ratio", False),
        (300, 200, "center_crop", True),
        (300, 257, "center_crop", False),
        (300, 200, "keep_ratio_largest", False),
        (256, 256, "keep_ratio_largest", True),
    ],
)
def test_only_if_bigger_goes_by_the_deciding_side(width: int, height: int, mode: str, stays: bool) -> None:
    """A picture that is not bigger than asked for is not scaled, cropped or padded."""
    placement = place(width, height, mode, 256, only_if_bigger=True)
    same = Placement((0, 0, width, height), (width, height), (width, height))
    assert (placement == same) is stays


@given(sides, sides, modes, sizes, st.booleans())
def test_the_result_is_a_picture(width: int, height: int, mode: str, size: int, only_if_bigger: bool) -> None:
    """No side is empty, the used part lies within the picture, the scaled part within the canvas."""
    p = place(width, height, mode, size, only_if_bigger=only_if_bigger)
    left, upper, right, lower = p.box
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    for axis in (0, 1):
        assert p.size[axis] >= 1
        assert 0 <= p.offset[axis] <= p.canvas[axis] - p.size[axis]
    if only_if_bigger:
        assert not p.enlarges


@given(sides, sides, modes, sizes)
def test_the_aspect_is_kept_within_a_pixel(width: int, height: int, mode: str, size: int) -> None:
    """Both sides of the used part are scaled by the same factor, but for rounding to whole pixels."""
    p = place(width, height, mode, size)
    used = (Fraction(p.box[2]) - Fraction(p.box[0]), Fraction(p.box[3]) - Fraction(p.box[1]))
    assert abs(p.size[0] - used[0] * p.size[1] / used[1]) <= max(1, used[0] / used[1]) or p.size[1] == 1
    assert abs(p.size[1] - used[1] * p.size[0] / used[0]) <= max(1, used[1] / used[0]) or p.size[0] == 1


@given(sides, sides, sizes)
def test_the_deciding_side_is_exact(width: int, height: int, size: int) -> None:
    """The side a mode names comes out as asked for, the other one on its proper side of it."""
    assert min(place(width, height, "keep_ratio", size).size) == size
    assert max(place(width, height, "keep_ratio_largest", size).size) == size
    assert place(width, height, "center_crop", size).size == (size, size)
    border = place(width, height, "border", size)
    assert border.canvas == (size, size)
    assert max(border.size) == size


@given(sides, sides, modes, sizes)
def test_turning_first_or_last_is_the_same(width: int, height: int, mode: str, size: int) -> None:
    """A placement for a picture on its side is the placement of that picture stood up."""
    turned = place(width, height, mode, size).transposed()
    upright = place(height, width, mode, size)
    assert turned == upright
    assert turned.transposed() == place(width, height, mode, size)


@given(sides, sides, modes, sizes)
def test_shrinking_leaves_enough_pixels(width: int, height: int, mode: str, size: int) -> None:
    """The factor is the largest the decoder knows that leaves the headroom on both sides."""
    p = place(width, height, mode, size)
    factor = shrink_of([p])
    fits = [
        each
        for each in SHRINKS
        if (p.box[2] - p.box[0]) / p.size[0] / each >= HEADROOM
        and (p.box[3] - p.box[1]) / p.size[1] / each >= HEADROOM
    ]
    assert factor == max([*fits, 1])


def test_several_sizes_share_what_the_largest_needs() -> None:
    """Decoded once, a picture must do for each of its sizes; nearest needs all pixels of it."""
    small, large = (place(4000, 3000, "keep_ratio", size) for size in (100, 900))
    assert (shrink_of([small]), shrink_of([large]), shrink_of([small, large])) == (8, 2, 2)
    assert shrink_of([small], "nearest") == 1


@pytest.mark.parametrize(
    ("width", "shrink", "filter_"),
    [
        (256, 1, "hamming"), (700, 1, "hamming"), (800, 2, "bicubic"), (900, 2, "hamming"), (1700, 4, "bicubic"),
        (4096, 8, "hamming"),
        (255, 1, "lanczos"),
    ],
)  # fmt: skip
def test_the_cheaper_filter_is_taken_where_it_is_good_enough(width: int, shrink: int, filter_: str) -> None:
    """What is left to merge decides, and whether the decoder has shrunk; enlarging is a matter of its own."""
    placement = place(width, width, "keep_ratio", 256)
    assert filter_of(placement, shrink) == filter_
    assert filter_of(placement, shrink, downscale="area", upscale="linear") == (
        "linear" if width < 256 else "area"
    )


def test_an_unknown_mode_is_refused() -> None:
    """A name that is none of the five does not pass as one of them."""
    with pytest.raises(ValueError, match="stretch"):
        place(1, 1, "stretch", 1)
