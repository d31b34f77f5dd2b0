"""Which columns travel, and what a row that cannot be read looks like: what all formats share.

In: column names and cells. Out: the columns picked, cells as JSON values, ``input.invalid`` Outcomes. Must
never let a cell through that cannot be written down again as UTF-8 JSON.
"""

from __future__ import annotations

import base64
import datetime
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scraper.config import SourceConfig
from scraper.errors import UsageError
from scraper.policies.names import COLUMNS
from scraper.records import Outcome, Request

ALL = "*"
"""In ``save_additional_columns``: every column but the URL's, the caption's and those with reserved names."""

_SHOWN = 200
"""Characters of a row that a message shows: a URL whole, a caption in part."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The columns to take, by the names they have in the list."""

    url: str
    caption: str | None
    others: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Each name once, the URL's first."""
        caption = () if self.caption is None else (self.caption,)
        return tuple(dict.fromkeys((self.url, *caption, *self.others)))


def refuse_reserved(config: SourceConfig) -> None:
    """Refuse columns whose names the output uses itself.

    Raises:
        UsageError: one of ``save_additional_columns`` is reserved.
    """
    taken = sorted(set(COLUMNS).intersection(config.save_additional_columns) - {config.hash_col})
    if taken:
        raise UsageError(
            f"--save-additional-columns cannot take {', '.join(taken)}: the output has columns of its own by that "
            f"name; rename them in the list or leave them out."
        )


def pick(config: SourceConfig, names: Sequence[str], where: str) -> Picked:
    """Choose from the columns a list has.

    Raises:
        UsageError: a column that was asked for is not there.
    """
    _require(config.url_col, "--url-col", names, where)
    if config.caption_col is not None:
        _require(config.caption_col, "--caption-col", names, where)
    others = [name for name in config.save_additional_columns if name != ALL]
    for name in others:
        option = "--verify-hash" if name == config.hash_col else "--save-additional-columns"
        _require(name, option, names, where)
    if ALL in config.save_additional_columns:
        own = {config.url_col, config.caption_col, *COLUMNS}
        others += [name for name in names if name not in own]
    return Picked(config.url_col, config.caption_col, tuple(dict.fromkeys(others)))


def _require(name: str, option: str, names: Sequence[str], where: str) -> None:
    if name in names:
        return
    shown_names = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    by_lower_case = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f" Did you mean {option} {by_lower_case[near[0]]}?" if near else f" Name one of them with {option}."
    raise UsageError(f"{where} has no column {name}; its columns are: {shown(shown_names, 600)}.{hint}")


def invalid(row: int, line: int, text: str | bytes, message: str) -> Outcome:
    """The end of a row that is none: as much of it as can be shown, and why."""
    return Outcome(row, shown(text), "input.invalid", message=message, line=line)


def shown(text: str | bytes, width: int = _SHOWN) -> str:
    """The start of any text or bytes, safe to print: what is not printable is escaped."""
    if isinstance(text, bytes):
        text = text[: 4 * width].decode("utf-8", "backslashreplace")
    begin = text[: width + 1]
    if not begin.isprintable():
        begin = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in begin
        )
    return begin if len(begin) <= width else begin[: width - 1] + "…"


def request(row: int, line: int, url: object, caption: object, columns: Mapping[str, object]) -> Request | str:
    """A row of typed cells, or the end of a sentence that says why it is none.

    Text may come as bytes. A caption that is no text becomes its ``str``.
    """
    if url is None:
        return "has no URL"
    if not isinstance(url, str | bytes):
        return "has a URL that is no text"
    try:
        url = _utf8(url).strip()
        caption = None if caption is None else _utf8(caption if isinstance(caption, str | bytes) else str(caption))
    except UnicodeError:
        return "is not UTF-8 text"
    if not url:
        return "has an empty URL"
    return Request(row, url, caption, columns, line)


def _utf8(text: str | bytes) -> str:
    """Text that can be written as UTF-8, which lone surrogates cannot."""
    if isinstance(text, bytes):
        return text.decode()
    if not text.isascii():
        text.encode()
    return text


def as_json(value: object) -> object:
    """A cell as a JSON value.

    Dates and times become ISO 8601 text, durations seconds, decimals text with all their digits, bytes base64;
    a float that JSON has no word for becomes None; what is none of these becomes its ``str``.
    """
    made: object = str(value)  # decimals, UUIDs, and what we do not know
    if value is None or isinstance(value, bool | int):
        made = value
    elif isinstance(value, float):
        made = value if math.isfinite(value) else None
    elif isinstance(value, bytes | bytearray | memoryview):
        made = base64.b64encode(value).decode("ascii")
    elif isinstance(value, datetime.datetime | datetime.date | datetime.time):
        made = value.isoformat()
    elif isinstance(value, datetime.timedelta):
        made = value.total_seconds()
    elif isinstance(value, Mapping):
        made = {str(as_json(key)): as_json(inner) for key, inner in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        made = [as_json(inner) for inner in value]
    if isinstance(made, str) and not made.isascii():
        made = made.encode("utf-8", "backslashreplace").decode()  # lone surrogates cannot be written
    return made


def others_of(entry: Mapping[str, object], config: SourceConfig) -> dict[str, object]:
    """The further columns of an entry whose columns are its own: None for what was named and is not there."""
    wanted = config.save_additional_columns
    if ALL not in wanted:
        return {name: entry.get(name) for name in wanted}
    left_out = (config.url_col, config.caption_col)
    return {
        name: value for name, value in entry.items() if name in wanted or not (name in left_out or name in COLUMNS)
    }
