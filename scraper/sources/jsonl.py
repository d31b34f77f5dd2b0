"""A JSON object a line, by msgspec. Blank lines are no rows.

Objects need not have the same keys: a row without a caption or a further column has none there. A column that
no object near the list's beginning has is taken for a slip of the pen and refused. Must never fail on a line:
what is no object with a URL is that row's ``input.invalid``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec

from scraper.config import SourceConfig
from scraper.records import Outcome, Request
from scraper.sources.columns import invalid, others_of, pick, request, shown
from scraper.sources.lines import BadLine, Line, line_blocks
from scraper.sources.reading import Reading

_parsed = msgspec.json.Decoder(dict[str, object]).decode

_NOT_JSON = (msgspec.DecodeError, RecursionError)


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: unreadable, or lacks a column; before the first row.
        RunStopped: the list breaks off after its first row.
    """
    name, line = reading.listed.name, 0
    unchecked = True
    for block in line_blocks(reading.chunks()):
        if unchecked and (keys := _keys(block)):
            pick(config, keys, name)
            unchecked = False
        for text in block:
            line += 1
            if not isinstance(text, BadLine) and (not text or text.isspace()):
                continue
            if row < first:
                pass
            elif isinstance(text, BadLine):
                yield invalid(row, line, text.start, f"Line {line} of {name} {text.why}.")
            else:
                entry = _request(text, config, row, line)
                if isinstance(entry, str):
                    yield invalid(row, line, text, f"Line {line} of {name} {entry}.")
                else:
                    yield entry
            row += 1
    return row


def _request(text: str, config: SourceConfig, row: int, line: int) -> Request | str:
    """The row, or why it is none."""
    try:
        entry = _parsed(text)
    except msgspec.ValidationError:
        return "is not a JSON object"
    except _NOT_JSON as error:
        return f"is not JSON ({shown(str(error))})"
    caption = None if config.caption_col is None else entry.get(config.caption_col)
    return request(row, line, entry.get(config.url_col), caption, others_of(entry, config))


def _keys(block: Sequence[Line]) -> list[str]:
    """Every key of the objects in the first block, in order of appearance."""
    keys: dict[str, None] = {}
    for text in block:
        if isinstance(text, str):
            try:
                keys.update(dict.fromkeys(_parsed(text)))
            except _NOT_JSON:
                continue  # told when its turn comes
    return list(keys)
