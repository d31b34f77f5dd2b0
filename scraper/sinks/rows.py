"""A row as others read it: the columns, words and types of img2dataset's metadata, and one column of our own.

In: a Request and the Outcome it ended as. Out: a mapping in column order, as JSON; what is known of its types.
Must never: fail on a value that a list can hold; let a column of the list take the place of one of ours; publish a
password that a URL holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from scraper.errors import State
from scraper.policies import names
from scraper.policies.secrets import mask_secrets
from scraper.records import Item, Outcome, Request

INT_FIELDS = ("width", "height", "original_width", "original_height")
"""Fields of an image, stored as int32."""

_OURS = frozenset(names.COLUMNS)

SUCCESS = "success"
SKIPPED = "skipped"
FAILED_TO_DOWNLOAD = "failed_to_download"
FAILED_TO_RESIZE = "failed_to_resize"

_AFTER_DOWNLOAD = frozenset({"image", "page", "transform", "sink"})
"""Families of outcome classes that end a row after its bytes had arrived."""

_INT32 = 2**31
_INT64 = 2**63

Row = dict[str, object]
Kind = str
"""What a column holds: "bool", "int", "int32", "float", "text", or "" while it held nothing but nulls."""


def status_of(outcome: Outcome) -> str:
    """img2dataset's word for how a row ended; ``skipped`` is ours, for rows that a rule left out."""
    if outcome.state is State.OK:
        return SUCCESS
    if outcome.state is State.SKIPPED:
        return SKIPPED
    return FAILED_TO_RESIZE if outcome.class_.partition(".")[0] in _AFTER_DOWNLOAD else FAILED_TO_DOWNLOAD


def metadata(request: Request, outcome: Outcome, item: Item | None, index: int = 0) -> Row:
    """The row's columns by name: those of the list, ours, then the item's further fields.

    Sources send no column that is called like one of ours; one that came all the same is left out.
    """
    row: Row = {name: value for name, value in request.columns.items() if name not in _OURS}
    status = status_of(outcome)
    fields: Mapping[str, object] = item.fields if item is not None else {}
    row["url"] = mask_secrets(request.url)
    if request.caption is not None:
        row["caption"] = request.caption
    row["key"] = names.stem(outcome.row, index)
    row["status"] = status
    row["error_message"] = None if status == SUCCESS else (outcome.message or outcome.class_)
    for name in INT_FIELDS:
        row[name] = _int32(fields.get(name))
    row["exif"] = _text(fields.get("exif"))
    row["sha256"] = outcome.sha256
    row["class"] = outcome.class_
    for name, value in fields.items():
        if name not in _OURS:  # what was found out goes before what the list says by that name
            row[name] = value
    return row


class Kinds:
    """The columns beside ours that rows have had so far, and what they hold. Grows; never forgets.

    Kept from shard to shard, so that a column that is all nulls in one of them keeps its type.

    Args:
        state: what ``state`` returned.
    """

    def __init__(self, state: Mapping[str, object] | None = None) -> None:
        known = state or {}
        self._caption = bool(known.get("caption"))
        self._inputs = dict(cast("Sequence[tuple[str, Kind]]", known.get("inputs", ())))
        self._fields = dict(cast("Sequence[tuple[str, Kind]]", known.get("fields", ())))

    def __repr__(self) -> str:
        return f"<Kinds {self.schema()}>"

    def see(self, request: Request, item: Item | None) -> None:
        """Take note of a row. Most bring nothing new."""
        if request.caption is not None:
            self._caption = True
        for name, value in request.columns.items():
            if name not in _OURS:
                _note(self._inputs, name, value)
        if item is not None:
            for name, value in item.fields.items():
                if name not in _OURS:
                    _note(self._fields, name, value)

    def state(self) -> dict[str, object]:
        """JSON values to make an equal one from. Lists of pairs, since order counts and mappings may lose it."""
        return {
            "caption": self._caption,
            "inputs": [list(pair) for pair in self._inputs.items()],
            "fields": [list(pair) for pair in self._fields.items()],
        }

    def schema(self) -> dict[str, Kind]:
        """Every column and its kind, in order. A column that held nothing but nulls is taken for text."""
        schema = {name: kind or "text" for name, kind in self._inputs.items()}
        for name in names.COLUMNS:
            if name != "caption" or self._caption:
                schema[name] = "int32" if name in INT_FIELDS else "text"
        for name, kind in self._fields.items():
            schema[name] = _wider(self._inputs.get(name, ""), kind) or "text"
        return schema


def _note(kinds: dict[str, Kind], name: str, value: object) -> None:
    kind = _kind_of(value)
    known = kinds.get(name)
    if kind != known:
        kinds[name] = _wider(known or "", kind)


def as_kind(value: object, kind: Kind) -> object:
    """A JSON value as a column of that kind stores it."""
    if value is None:
        return None
    if kind == "text":
        return _text(value)
    if kind == "float":
        return float(cast("float", value))
    return int(cast("int", value)) if kind == "int" else value


def line(row: Row) -> bytes:
    """The row as one line of JSON."""
    return encode(row) + b"\n"


def pretty(row: Row) -> bytes:
    """The row as JSON for people, indented by four as img2dataset does."""
    return msgspec.json.format(encode(row), indent=4)


def encode(value: object) -> bytes:
    """UTF-8 JSON of anything: what JSON cannot hold becomes text, NaN becomes null, half a character a "?"."""
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
        plain = json.dumps(_plain(value), ensure_ascii=False)
        return msgspec.json.encode(msgspec.json.decode(plain.encode("utf-8", "replace")))


def decode(data: bytes) -> Row:
    """A line of ``line``."""
    return cast("Row", msgspec.json.decode(data))


def text_bytes(text: str) -> bytes:
    """UTF-8 of a caption; half a surrogate pair, which lists do hold, becomes "?"."""
    return text.encode("utf-8", "replace")


def _plain(value: object, depth: int = 0) -> object:
    """The value with only what ``json`` can hold, for the rare row on which the fast way stumbled."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if depth < 50 and isinstance(value, Mapping):
        return {str(name): _plain(inner, depth + 1) for name, inner in value.items()}
    if depth < 50 and isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    return str(value)


def _int32(value: object) -> int | None:
    return value if type(value) is int and -_INT32 <= value < _INT32 else None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return encode(value).decode()


def _kind_of(value: object) -> Kind:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "text"
    return "float" if isinstance(value, float) else "text"


def _wider(one: Kind, other: Kind) -> Kind:
    """The narrowest kind that holds both."""
    if one == other or not one or not other:
        return one or other
    return "float" if {one, other} == {"int", "float"} else "text"
