"""A row's metadata: img2dataset's columns, and types that hold whatever lists hold."""

from __future__ import annotations

import datetime
import decimal
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.policies import names
from scraper.records import Item, Outcome, Request
from scraper.sinks import rows

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.dates() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def _row_of(class_: str = "ok", message: str = "", item: Item | None = None, **columns: object) -> rows.Row:
    request = Request(7, "http://origin.test/7", columns=columns)
    return rows.metadata(request, Outcome(7, request.url, class_, message=message, sha256="ab"), item)


@pytest.mark.parametrize(
    ("class_", "expected"),
    [
        ("ok", "success"),
        ("ok.not_modified", "success"),
        ("http.404", "failed_to_download"),
        ("dns.not_found", "failed_to_download"),
        ("input.invalid", "failed_to_download"),
        ("body.truncated", "failed_to_download"),
        ("image.decode", "failed_to_resize"),
        ("transform.crashed", "failed_to_resize"),
        ("sink.rejected", "failed_to_resize"),
        ("filtered.size", "skipped"),
        ("robots.disallowed", "skipped"),
    ],
)
def test_each_class_has_one_of_four_words(class_: str, expected: str) -> None:
    """img2dataset's three words, and skipped for what a rule left out."""
    assert _row_of(class_)["status"] == expected


def test_columns_stand_in_img2datasets_order() -> None:
    """The list's columns, then ours, then further fields of the item."""
    request = Request(7, "http://origin.test/7", caption="c", columns={"license": "cc0"})
    item = Item(b"", "jpg", {"width": 2, "phash": "ff", "exif": {"a": 1}})
    assert list(rows.metadata(request, Outcome(7, request.url, "ok"), item).items()) == [
        ("license", "cc0"),
        ("url", "http://origin.test/7"),
        ("caption", "c"),
        ("key", "000000007"),
        ("status", "success"),
        ("error_message", None),
        ("width", 2),
        ("height", None),
        ("original_width", None),
        ("original_height", None),
        ("exif", '{"a":1}'),
        ("sha256", None),
        ("class", "ok"),
        ("phash", "ff"),
    ]


def test_a_failure_says_why_in_words_or_by_class() -> None:
    """error_message is the outcome's sentence, else its class; on success it is null."""
    assert _row_of("http.404", "Not there.")["error_message"] == "Not there."
    assert _row_of("http.404")["error_message"] == "http.404"
    assert _row_of("ok", "ignored")["error_message"] is None


def test_a_column_of_the_list_never_takes_the_place_of_ours() -> None:
    """A source that sends columns called like ours all the same changes neither a row nor its schema."""
    item = Item(b"", "jpg", {"width": 1})
    taken = dict.fromkeys(names.COLUMNS, "theirs")
    assert _row_of(item=item, **taken) == _row_of(item=item)
    kinds = rows.Kinds()
    kinds.see(Request(0, "u", columns=taken), item)
    assert kinds.schema() == rows.Kinds().schema()


@pytest.mark.parametrize("width", [2**31, "300", True, 1.5])
def test_a_width_that_is_no_int32_is_null(width: object) -> None:
    """The type of a column of ours is kept whatever a transform says."""
    assert _row_of(item=Item(b"", "jpg", {"width": width}))["width"] is None


@given(ANYTHING)
def test_any_value_becomes_strict_json(value: object) -> None:
    """Dates, bytes, NaN, huge numbers and half surrogate pairs included."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for written in (rows.line({"x": value}), rows.pretty({"x": value})):
        assert "x" in json.loads(written.decode("utf-8"), parse_constant=refuse)
    assert rows.line({"x": value}).count(b"\n") == 1


@given(st.lists(ANYTHING, max_size=6))
def test_any_column_can_be_stored_as_the_kind_it_was_seen_as(values: list[object]) -> None:
    """Each value, once through JSON, fits the type that its column was given."""
    kinds = rows.Kinds()
    for value in values:
        kinds.see(Request(0, "u", columns={"x": value}), None)
    kind = kinds.schema().get("x", "text")
    types = {"bool": bool, "int": int, "float": float, "text": str}
    for value in values:
        stored = rows.as_kind(rows.decode(rows.line({"x": value}))["x"], kind)
        assert stored is None or type(stored) is types[kind]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, None], "text"),
        ([1, None, 2], "int"),
        ([1, 2.5], "float"),
        ([True, False], "bool"),
        ([True, 1], "text"),
        ([1, "one"], "text"),
        ([[1, 2]], "text"),
        ([{"a": 1}], "text"),
        ([2**63], "text"),
        ([datetime.date(2024, 1, 1)], "text"),
        ([decimal.Decimal("1.5")], "text"),
    ],
)
def test_a_column_gets_the_narrowest_kind_that_holds_it(values: list[object], kind: str) -> None:
    """Numbers stay numbers; mixtures, lists and mappings become text."""
    kinds = rows.Kinds()
    for value in values:
        kinds.see(Request(0, "u", columns={"x": value}), Item(b"", "jpg", {"y": value}))
    assert (kinds.schema()["x"], kinds.schema()["y"]) == (kind, kind)


def test_kinds_survive_a_stop_in_their_order() -> None:
    """What was known of the columns goes through the state, even where mappings lose their order."""
    kinds = rows.Kinds()
    kinds.see(Request(0, "u", caption="c", columns={"z": 1, "a": None}), Item(b"", "jpg", {"q": 1.5}))
    again = rows.Kinds(json.loads(json.dumps(kinds.state(), sort_keys=True)))
    assert list(again.schema().items()) == list(kinds.schema().items())
    assert list(again.schema())[:4] == ["z", "a", "url", "caption"]
    assert list(again.schema())[-2:] == ["class", "q"]
