"""Where results go: one table, name → the factory that makes the sink. Each fits ``Pipeline.open_sink``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from scraper.errors import UsageError
from scraper.protocols import Sink, SinkState

SINKS = {
    "files": "scraper.sinks.files:FilesOutput",
    "webdataset": "scraper.sinks.webdataset:WebdatasetOutput",
}

__all__ = ["SINKS", "sink_named"]


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
