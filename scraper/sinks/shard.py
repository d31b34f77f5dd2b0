"""The last step of a webdataset shard: its table, its statistics, its final name.

In: a sealed shard, whose archive and row log are complete and durable. Out: ``NNNNN.parquet`` (``NNNNN.jsonl``
where pyarrow is not installed), ``NNNNN_stats.json``, and last of all ``NNNNN.tar``.
Must never: give another result the second time. A run may be killed inside, and the next one does it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from scraper.policies import names
from scraper.sinks import rows
from scraper.sinks.disk import Disk

PART = ".tar.part"
ROWS_PART = ".rows.jsonl.part"
TEMPORARY_PREFIX = "shard-"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A shard to which nothing will be added.

    Attributes:
        number: of the shard.
        start: seconds since the epoch, when the shard before it was full, or the run began.
        end: seconds since the epoch, of its last row.
        duration_s: seconds of work on it; less than from start to end if the run was stopped in between.
        kinds: state of the Kinds as they were.
    """

    number: int
    start: float
    end: float
    duration_s: float
    kinds: Mapping[str, object]

    def state(self) -> dict[str, object]:
        """JSON values to make an equal one from."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, object]) -> Self:
        """The shard that ``state`` was taken from."""
        return cls(**state)  # type: ignore[arg-type]  # written by ``state`` above


def archive_path(out: Path, number: int, *, part: bool = False) -> Path:
    """Where the archive is, before and after it is complete."""
    return out / f"{names.shard_name(number)}{PART if part else '.tar'}"


def rows_path(out: Path, number: int) -> Path:
    """Where the log of a shard's rows is, until its table is made."""
    return out / ".scraper" / f"{names.shard_name(number)}{ROWS_PART}"


def publish_shard(disk: Disk, out: Path, sealed: Sealed) -> None:
    """Make the table and statistics, and give all three their final names. Done before: does nothing."""
    log = rows_path(out, sealed.number)
    if not log.exists():
        return  # it goes last, so the rest is there
    written = log.read_bytes()
    table = [rows.decode(line) for line in written.splitlines()]
    name = names.shard_name(sealed.number)
    parquet = _parquet(table, rows.Kinds(sealed.kinds).schema())
    if parquet is None:
        _place(disk, out, f"{name}.jsonl", written)
    else:
        _place(disk, out, f"{name}.parquet", parquet)
    _place(disk, out, f"{name}_stats.json", rows.pretty(_statistics(table, sealed)))
    part = archive_path(out, sealed.number, part=True)
    if part.exists():
        disk.rename(part, archive_path(out, sealed.number))
    disk.sync(out)
    disk.remove(log)


def _place(disk: Disk, out: Path, name: str, data: bytes | memoryview) -> None:
    temporary = out / ".scraper" / "staged" / f"{TEMPORARY_PREFIX}{name}"
    disk.put(temporary, data, durable=True)
    disk.rename(temporary, out / name)


def _statistics(table: Sequence[rows.Row], sealed: Sealed) -> rows.Row:
    """img2dataset's numbers, and how many rows were skipped, so that they add up."""
    statuses = Counter(str(row["status"]) for row in table)
    reasons = Counter(rows.SUCCESS if row["status"] == rows.SUCCESS else str(row["class"]) for row in table)
    return {
        "count": len(table),
        "successes": statuses[rows.SUCCESS],
        "failed_to_download": statuses[rows.FAILED_TO_DOWNLOAD],
        "failed_to_resize": statuses[rows.FAILED_TO_RESIZE],
        "skipped": statuses[rows.SKIPPED],
        "duration": sealed.duration_s,
        "start_time": sealed.start,
        "end_time": sealed.end,
        "status_dict": dict(reasons.most_common()),
    }


def _parquet(table: Sequence[rows.Row], schema: Mapping[str, rows.Kind]) -> memoryview | None:
    """The rows as a Parquet file, or None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    types = {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "int32": pa.int32(),
        "float": pa.float64(),
        "text": pa.string(),
    }
    # As the lines have them: the name of a column may hold half a character, which UTF-8 cannot.
    columns = {rows.text_bytes(name).decode(): kind for name, kind in schema.items()}
    arrays = [
        pa.array([rows.as_kind(row.get(name), kind) for row in table], types[kind])
        for name, kind in columns.items()
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=list(columns)), sink)
    return memoryview(sink.getvalue())
