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


def output_of(name: str, rows_per_shard: int, template: str | None = None) -> Callable[[Path, SinkState], Sink]:
    """What a Pipeline opens its sink with.

    Args:
        name: one of the table.
        rows_per_shard: for those that have shards; the others have no use for it.
        template: what files are called, for those that write files; None for what they are called by default.

    Raises:
        UsageError: there is no such name, the number is out of range, or the template is none or not for this one.
    """
    if rows_per_shard < 1:
        raise UsageError("--number-sample-per-shard must be at least 1.")
    factory = sink_named(name)
    settings = inspect.signature(factory).parameters
    said: dict[str, object] = {"rows_per_shard": rows_per_shard} if "rows_per_shard" in settings else {}
    if template is not None:
        if "template" not in settings:
            raise UsageError(f"--name is for --output-format files: what {name} writes has names of its own.")
        said["template"] = template
    return factory(**said)


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
