"""Names on disk are plain, bounded and never shared."""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import PureWindowsPath

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


@pytest.mark.parametrize(
    ("extension", "expected"),
    [("1024.jpg", "000000005.1024.jpg"), ("a.b.c", "000000005.ab.c"), ("../x/..y", "000000005.x.y"), ("jpg", None),
     (".jpg", None), ("data.txt", None), ("..", None)],
)  # fmt: skip
def test_an_extension_of_two_parts_names_a_part(extension: str, expected: str | None) -> None:
    """KEY.PART.ext, of plain characters; None where there is no such part, or its name is another item's."""
    assert names.part_name(5, extension) == expected


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("photo-1.tar", "photo-1.tar"),
        ("Grüße 图", "Grüße 图"),
        ("", "_"),
        (".", "_"),
        ("..", "__"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("..\\..\\x", "_._.._x"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\x", "C__x"),
        ("\\\\srv\\share", "__srv_share"),
        ("a\x00b\x1bc\x7fd\x85e", "a_b_c_d_e"),
        ("a\r\nb\tc", "a__b_c"),
        (".bashrc", "_bashrc"),
        ("-rf", "_rf"),
        ("$Mft", "_Mft"),
        ("a.", "a_"),
        ("a ", "a_"),
        ("a. .", "a. _"),
        (" a", "_a"),
        ("\u00a0a\u3000", "_a_"),
        ("a:b::$DATA", "a_b__$DATA"),
        ('<>:"/\\|?*', "_________"),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("a\u200bb\ufeffc\u2066d\u061ce", "a_b_c_d_e"),
        ("\U000e0041x\ue000\U000f0000", "_x__"),
        ("\udc80\ud83d", "__"),
        ("cafe\u0301", "café"),
        ("\u212b\u212a", "ÅK"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1", "_Com1"),
        ("LPT¹", "_LPT¹"),
        ("COM².tar.gz", "_COM².tar.gz"),
        ("aux .c", "_aux .c"),
        ("PRN ", "_PRN_"),
        ("conin$", "_conin$"),
        ("CONSOLE", "CONSOLE"),
        ("com10", "com10"),
    ],
)
def test_any_text_becomes_a_name_that_is_harmless_everywhere(text: str, expected: str) -> None:
    """Separators, controls, what turns text round, devices, streams, hidden files, options: one rule for all."""
    assert names.safe_segment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * 300, "x" * 255),
        ("ü" * 200, "ü" * 127),
        ("图" * 100, "图" * 85),
        ("a" * 254 + ".b", "a" * 254 + "_"),
        ("con." + "x" * 300, "_con." + "x" * 250),
    ],
)
def test_a_long_name_is_cut_between_two_characters(text: str, expected: str) -> None:
    """255 bytes of UTF-8, and still safe where the cut is."""
    assert names.safe_segment(text) == expected


@pytest.mark.slow
def test_nothing_that_is_not_seen_comes_through() -> None:
    """Of all of Unicode only these of its format characters stay: signs of four scripts that are seen."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}
    hidden = [char for code in range(sys.maxunicode + 1) if unicodedata.category(char := chr(code)) in kinds]
    left = {char for char in hidden if f"x{char}x" == names.safe_segment(f"x{char}x")}
    assert {unicodedata.name(char).split()[0] for char in left} == {"SPACE", "ARABIC", "SYRIAC", "KAITHI"}


@given(st.text(max_size=40), st.integers(8, 255))
def test_a_safe_name_is_safe_on_every_system(text: str, most: int) -> None:
    """Whatever the text: not empty, short, in NFC, of no form that any system takes for more than a name."""
    name = names.safe_segment(text, most)
    assert 0 < len(name.encode()) <= most
    assert names.safe_segment(name, most) == name
    assert unicodedata.is_normalized("NFC", name)
    assert not set(name) & set('<>:"/\\|?*')
    assert name[0] not in ".-$ "
    assert name[-1] not in ". "
    assert PureWindowsPath(name).name == name
    assert not PureWindowsPath(name).is_reserved()
