"""Where results go: one table, name → the factory that makes the sink. Each fits ``Pipeline.open_sink``.

A new sink is one file, its line in the table, and its name in ``OutputFormat``. Nothing is imported before it is
asked for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from scraper.errors import UsageError
from scraper.protocols import Sink, SinkState

OutputFormat = Literal["files", "webdataset", "jsonl"]
"""The names in the table, for the ``Options`` of a pipeline: a choice of these."""

SINKS = {
    "files": "scraper.sinks.files:FilesOutput",
    "webdataset": "scraper.sinks.webdataset:WebdatasetOutput",
    "jsonl": "scraper.sinks.jsonl:JsonlOutput",
}

__all__ = ["SINKS", "OutputFormat", "output_of", "sink_named"]


def output_of(name: str, rows_per_shard: int) -> Callable[[Path, SinkState], Sink]:
    """What a Pipeline opens its sink with.

    Args:
        name: one of the table.
        rows_per_shard: for those that have shards; the others have no use for it.

    Raises:
        UsageError: there is no such name, or the number is out of range.
    """
    if rows_per_shard < 1:
        raise UsageError("--number-sample-per-shard must be at least 1.")
    factory = sink_named(name)
    has_shards = "rows_per_shard" in inspect.signature(factory).parameters
    return factory(rows_per_shard=rows_per_shard) if has_shards else factory()


def sink_named(name: str) -> Callable[..., Callable[[Path, SinkState], Sink]]:
    """The factory class of that name: call it with the sink's own settings, and give the result to a Pipeline.

    Raises:
        UsageError: there is none.
    """
    if name not in SINKS:
        raise UsageError(f"There is no output format {name!r}; there is: {', '.join(SINKS)}.")
    module, _, attribute = SINKS[name].partition(":")
    factory: Callable[..., Callable[[Path, SinkState], Sink]] = getattr(importlib.import_module(module), attribute)
    return factory
