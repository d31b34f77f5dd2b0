"""Names on disk are plain, bounded and never shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.policies import names


@pytest.mark.parametrize(
    ("row", "extension", "index", "expected"),
    [
        (0, "jpg", 0, "000000000.jpg"),
        (17, "JPG", 0, "000000017.jpg"),
        (17, "jpg", 1, "000000017_1.jpg"),
        (17, "jpg", 12, "000000017_12.jpg"),
        (1_234_567_890, "png", 0, "1234567890.png"),
        (1, "", 0, "000000001.bin"),
        (1, "../../etc/passwd", 0, "000000001.etcpassw"),
        (1, "tar.gz", 0, "000000001.targz"),
        (1, "j\u202egp\x00", 0, "000000001.jgp"),
        (1, "ﬁle", 0, "000000001.le"),
    ],
)
def test_an_items_name_is_its_key_and_a_plain_extension(
    row: int, extension: str, index: int, expected: str
) -> None:
    """KEY.ext, KEY_1.ext …, whatever the extension holds."""
    assert names.item_name(row, extension, index) == expected


@pytest.mark.parametrize(("extension", "expected"), [("json", "data.json"), ("TXT", "data.txt"), ("jpg", "jpg")])
def test_an_item_never_takes_a_sidecars_name(extension: str, expected: str) -> None:
    """Where KEY.txt and KEY.json are taken, items of these types step aside."""
    assert names.item_name(5, extension, sidecars=True) == f"000000005.{expected}"


@pytest.mark.parametrize(
    ("row", "expected"), [(0, "00000"), (9_999, "00000"), (10_000, "00001"), (10**9, "100000")]
)
def test_a_folder_holds_ten_thousand_rows(row: int, expected: str) -> None:
    """NNNNN is the row's number over ten thousand, five digits or more."""
    assert names.folder_name(row) == expected


def test_shards_are_numbered_with_five_digits_or_more() -> None:
    """Names sort as numbers do, up to a billion rows."""
    assert [names.shard_name(number) for number in (0, 42, 123_456)] == ["00000", "00042", "123456"]


@given(st.text(max_size=30))
def test_any_extension_becomes_a_safe_one(extension: str) -> None:
    """One to eight characters of a-z and 0-9, from any text at all."""
    assert re.fullmatch("[a-z0-9]{1,8}", names.clean_extension(extension))


@given(
    st.lists(
        st.tuples(st.integers(0, 10**10), st.sampled_from(["jpg", "png", "json", "txt"]), st.integers(0, 20)),
        unique=True,
    )
)
def test_two_items_never_share_a_name(items: list[tuple[int, str, int]]) -> None:
    """Row, place and extension decide the name, and the name tells them apart; sidecars included."""
    taken = {names.item_name(row, extension, index, sidecars=True) for row, extension, index in items}
    assert len(taken) == len(items)
    sidecars = {f"{names.stem(row, index)}.{kind}" for row, _, index in items for kind in ("txt", "json")}
    assert not taken & sidecars
