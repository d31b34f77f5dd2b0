"""Parquet, by pyarrow: the columns asked for, some thousand rows at a time. The only module that reads it.

``line`` of a row is its 1-based position in the file. Must never hold a row group, let alone a file: pages are
read through a small buffer and decoded batch by batch. Parquet is read from its end, so what is compressed as a
whole, or comes from a pipe, is first unpacked into a temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from scraper.config import SourceConfig
from scraper.errors import MissingExtra, UsageError
from scraper.records import Outcome, Request
from scraper.sources.columns import as_json, invalid, pick, request
from scraper.sources.reading import Reading

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtra("parquet", "Reading a parquet list") from error

BATCH = 4096
"""Rows decoded at once: enough to make per-batch work vanish, a few MB with long captions."""

_BUFFER = 1024 * 1024
"""Bytes of a column read ahead. Without it pyarrow reads a row group's column whole."""


def read(
    reading: Reading, config: SourceConfig, row: int, first: int = 0
) -> Generator[Request | Outcome, None, int]:
    """Yield the list's rows, numbered from ``row``, but none before ``first``; return the number after the last.

    Raises:
        UsageError: no parquet file, or it lacks a column; before the first row.
        RunStopped: the file is damaged after its first row.
    """
    name, position = reading.listed.name, 0
    with ExitStack() as stack:
        file = stack.enter_context(_opened(reading, stack))
        schema = file.schema_arrow
        picked = pick(config, schema.names, name)
        _require_text(schema, picked.url, name)
        for batch in _batches(file, reading, list(picked.all)):
            if row + batch.num_rows <= first:
                row, position = row + batch.num_rows, position + batch.num_rows
                continue
            cells = {column: _values(batch.column(batch.schema.names.index(column))) for column in picked.all}
            captions = [None] * batch.num_rows if picked.caption is None else cells[picked.caption]
            others = [[as_json(value) for value in cells[column]] for column in picked.others]
            for at, (url, caption) in enumerate(zip(cells[picked.url], captions, strict=True)):
                position += 1
                if row < first:
                    row += 1
                    continue
                columns = {column: values[at] for column, values in zip(picked.others, others, strict=True)}
                entry = request(row, position, url, caption, columns)
                if isinstance(entry, str):
                    yield invalid(row, position, url or "", f"Row {position} of {name} {entry}.")
                else:
                    yield entry
                row += 1
    return row


def _opened(reading: Reading, stack: ExitStack) -> Any:
    listed = reading.listed
    place: Path | IO[bytes] | None = listed.path
    try:
        if listed.codec or listed.size is None:
            place = stack.enter_context(tempfile.TemporaryFile(prefix="scraper-list-"))  # noqa: SIM115 - the stack closes it
            for piece in reading.pieces():
                place.write(piece)
            place.seek(0)
            reading.moved_to(0)  # of the rows none has been read
        # Without pre_buffer=False and a buffer, a row group's columns are taken into memory whole.
        return pq.ParquetFile(place, buffer_size=_BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise reading.broken("cannot be read as parquet", error) from error


def _require_text(schema: Any, column: str, name: str) -> None:
    kind = schema.types[schema.names.index(column)]
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_kind = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,  # how old writers store text
        pa.types.is_large_binary,
        pa.types.is_null,  # every row is bad, but the column is no mistake
    )
    if not any(test(kind) for test in is_kind):
        raise UsageError(
            f"Column {column} of {name} holds {kind}, not text: name the URLs' column with --url-col."
        )


def _batches(file: Any, reading: Reading, columns: list[str]) -> Iterator[Any]:
    total, size, done = file.metadata.num_rows, reading.listed.size or 0, 0
    batches = file.iter_batches(batch_size=BATCH, columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise reading.broken("is damaged", error) from error
        if batch is None:
            return
        done += batch.num_rows
        reading.moved_to(max(1, size * done // max(1, total)))
        yield batch


def _values(column: Any) -> list[Any]:
    """The cells as Python values; text that is no UTF-8 as bytes."""
    column = _in_microseconds(column)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return [_value(cell) for cell in _as_binary(column)]
    except (ValueError, OverflowError, TypeError):  # dates that Python has no type for
        return [_value(cell) for cell in column]
    return values


def _in_microseconds(column: Any) -> Any:
    """Times as Python can hold them: no nanoseconds, and no time zone that this machine might not know."""
    kind = column.type
    unit = getattr(kind, "unit", "")
    if pa.types.is_timestamp(kind):
        kind = pa.timestamp("us" if unit == "ns" else unit, None if kind.tz is None else "UTC")
    elif pa.types.is_time64(kind) and unit == "ns":
        kind = pa.time64("us")
    elif pa.types.is_duration(kind) and unit == "ns":
        kind = pa.duration("us")
    return column if kind == column.type else column.cast(kind, safe=False)


def _as_binary(column: Any) -> Any:
    plain = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.cast(pa.large_binary()) if plain else column


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, TypeError):
        return pa.array([cell]).to_string(skip_new_lines=True)
