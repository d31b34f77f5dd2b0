"""``scraper origin``: serve until told to stop. In: an OriginConfig. Out: the address on stdout, an exit code."""

from __future__ import annotations

import asyncio

from scraper.api import loop_factory
from scraper.cli.signals import ending_on_signal
from scraper.origin.settings import HOST, OriginConfig


def serve(config: OriginConfig) -> int:
    """Serve until SIGINT or SIGTERM, which are how this is meant to end: exit code 0."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config))


async def _serve(config: OriginConfig) -> int:
    from scraper.origin import server

    stop = asyncio.Event()
    with ending_on_signal(stop.set):
        await server.serve(config, _ready, stop)
    return 0


def _ready(port: int) -> None:
    print(f"Serving photographs and pages at http://{HOST}:{port}; stop with Ctrl-C.", flush=True)
