"""The ledger's rows as JSON lines or CSV: what ``scraper results`` prints.

In: a ledger. Out: one object a row, on a text stream, in the order of the list.
Must never: hold more than a row and its past; raise because the reader of the stream has gone.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import Literal, TextIO

from scraper.errors import State
from scraper.ledger import LedgerReader, Recorded
from scraper.ledger_reader import Earlier

ResultsFormat = Literal["jsonl", "csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet run a cell (OWASP: CSV injection). URLs and messages come from strangers."""

COLUMNS = (
    "row", "key", "url", "state", "class", "status", "attempts", "bytes", "sha256", "path", "shard", "ms",
    "message", "final_url", "line", "at", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms",
    "earlier",
)  # fmt: skip
"""The keys of each object and the columns of the CSV, in this order. New ones are only ever added at the end.
``earlier`` is a key only of rows that were asked again, and in the CSV the classes of what it holds."""


def as_object(recorded: Recorded, earlier: Sequence[Earlier] = ()) -> dict[str, object]:
    """One row as the JSON object of DESIGN 4. Times are milliseconds, ``at`` is seconds since the epoch."""
    outcome, at = recorded
    times = outcome.timings
    found: dict[str, object] = {
        "row": outcome.row,
        "key": outcome.key,
        "url": outcome.url,
        "state": outcome.state.value,
        "class": outcome.class_,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "bytes": outcome.bytes,
        "sha256": outcome.sha256,
        "path": outcome.path,
        "shard": outcome.shard,
        "ms": times.total_ms,
        "message": outcome.message,
        "final_url": outcome.final_url,
        "line": outcome.line,
        "at": round(at, 3),
        "dns_ms": times.dns_ms,
        "connect_ms": times.connect_ms,
        "tls_ms": times.tls_ms,
        "first_byte_ms": times.first_byte_ms,
    }
    if earlier:
        found["earlier"] = [
            {"class": one.class_, "status": one.status, "at": round(one.at, 3), "message": one.message}
            for one in earlier
        ]
    return found


def write_results(
    reader: LedgerReader,
    stream: TextIO,
    format_: ResultsFormat = "jsonl",
    state: State | None = None,
    class_prefix: str | None = None,
) -> int:
    """Write the rows of one state, and of one class or family such as ``http``, or all of them.

    Returns:
        How many were written. Fewer than there are if whoever reads ``stream`` went away (``| head``).
    """
    written = 0
    try:
        write = _csv_writer(stream) if format_ == "csv" else _json_writer(stream)
        for recorded, earlier in reader.with_earlier(state, class_prefix):
            write(recorded, earlier)
            written += 1
        stream.flush()
    except BrokenPipeError:
        pass
    return written


def _json_writer(stream: TextIO) -> Callable[[Recorded, Sequence[Earlier]], object]:
    # All ASCII: whatever a stranger's URL holds, a terminal sees an escape and any locale can encode it.
    encode = json.JSONEncoder(separators=(", ", ": ")).encode
    return lambda recorded, earlier: stream.write(encode(as_object(recorded, earlier)) + "\n")


def _csv_writer(stream: TextIO) -> Callable[[Recorded, Sequence[Earlier]], object]:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)

    def write(recorded: Recorded, earlier: Sequence[Earlier]) -> None:
        row = as_object(recorded) | {"earlier": " ".join(one.class_ for one in earlier)}
        writer.writerow([_cell(row[name]) for name in COLUMNS])

    return write


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
