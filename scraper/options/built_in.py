"""The options of the built-in commands, beside the pipelines'. On the command line only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scraper.options.schema import option
from scraper.origin.settings import DEFAULT_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsOptions:
    """Which rows, and how.

    Attributes:
        state: Only rows that ended so.
        class_: Only rows of this class or family: http.404, http, timeout.
        format: JSON lines or CSV.
    """

    state: Literal["ok", "failed", "skipped"] | None = option(None)
    class_: str | None = option(None)
    format: Literal["jsonl", "csv"] = option("jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginOptions:
    """The local web server.

    Attributes:
        port: Port on the loopback address; 0 for any that is free.
        latency: What every answer waits.
        jitter: By how much that strays, up or down, the same for the same URL.
    """

    port: int = option(DEFAULT_PORT)
    latency: float = option(0.0, unit="time")
    jitter: float = option(0.0, unit="time")
