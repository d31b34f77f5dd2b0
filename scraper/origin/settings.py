"""What the origin needs to know before it serves. Imports nothing heavy, so that the CLI may read it."""

from __future__ import annotations

from dataclasses import dataclass

from scraper.errors import UsageError

HOST = "127.0.0.1"
"""The only address the origin listens on."""

DEFAULT_PORT = 8765
"""The port of ``scraper origin`` when none is given, and the one that the lists in urls/ name."""

BASE = f"http://{HOST}:{DEFAULT_PORT}"


@dataclass(frozen=True, slots=True)
class OriginConfig:
    """How the origin behaves.

    Attributes:
        port: where to listen; 0 takes any free port.
        latency_s: seconds every answer waits before its headers. 0: as fast as it can.
        jitter_s: seconds by which the latency strays, up or down, never below zero. A URL strays by the
            same amount each time, so that what is compared waits equally long.
        seed: another seed strays differently.
    """

    port: int = 0
    latency_s: float = 0.0
    jitter_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port must be from 0 to 65535, not {self.port}.")
        if not (0 <= self.latency_s < 3600 and 0 <= self.jitter_s < 3600):
            raise UsageError("--latency and --jitter must be from 0 to an hour.")
