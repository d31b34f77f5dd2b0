"""The output's disk, watched: paused before it is full, stopped when it stays full, stopped when OUT is gone.

In: what is free, once a second. Out: the frontier paused and resumed, or SinkFailed.
Must never: block the event loop for a slow disk; let what is in flight fill the last bytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import NamedTuple

from scraper.arena import Arena
from scraper.config import MIB, SpaceConfig
from scraper.errors import SinkFailed
from scraper.frontier import Frontier
from scraper.units import show_bytes

log = logging.getLogger("scraper")

SPACE = "space"
"""Why the frontier is paused."""

RESERVE = 64 * MIB
"""What is left free where nothing was said: room for the ledger to note how it ended, many times over."""

SHARE = 20
"""On a small disk that is at most one of so many parts of it."""


class Room(NamedTuple):
    """What a file system has, in bytes."""

    free: int
    total: int


def room_at(folder: Path) -> Room:
    """What the file system of ``folder`` has for us.

    Raises:
        OSError: it cannot be asked; FileNotFoundError if the folder is gone.
    """
    about = os.statvfs(folder)
    return Room(about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize)


def reserve(room: Room, min_free: int | None) -> int:
    """What is to be left free, in bytes: as said, and if nothing was, what suits the disk."""
    return min(RESERVE, room.total // SHARE) if min_free is None else min_free


def is_short(room: Room, min_free: int | None, in_flight: int) -> bool:
    """Whether what is in flight could use up the reserve. Never if there is to be none."""
    left = reserve(room, min_free)
    return left > 0 and room.free < left + in_flight


def _identity(folder: Path) -> object:
    about = folder.stat()
    return about.st_dev, about.st_ino


async def watch_space(folder: Path, config: SpaceConfig, arena: Arena, frontier: Frontier) -> None:
    """Look every ``config.every_s`` seconds. Runs until it is cancelled.

    Args:
        folder: where the run writes; it must stay there.
        config: what to leave free, and how long to wait for it.
        arena: how much is in flight.
        frontier: what to pause.

    Raises:
        SinkFailed: the folder is gone, or space has not come back within ``config.wait_s``.
    """
    loop = asyncio.get_running_loop()
    short_since: float | None = None
    began_in: object = None
    while True:
        try:
            room = await asyncio.to_thread(room_at, folder)
            is_in = await asyncio.to_thread(_identity, folder)
        except FileNotFoundError:
            raise SinkFailed(f"{folder} was removed while the run went on; what it held is gone.") from None
        except OSError as error:
            raise SinkFailed(f"{folder} cannot be looked at any more: {error.strerror}.") from error
        began_in = began_in or is_in
        if is_in != began_in:
            raise SinkFailed(f"{folder} was replaced while the run went on; what this run wrote is elsewhere.")
        if not is_short(room, config.min_free, arena.held):
            if short_since is not None:
                log.warning("There is space again: going on.")
                frontier.resume(SPACE)
            short_since = None
        elif short_since is None:
            log.warning(
                "Only %s are left on the disk of %s, where --min-free keeps %s: waiting up to %g s for more.",
                show_bytes(room.free),
                folder.parent.parent,
                show_bytes(reserve(room, config.min_free)),
                config.wait_s,
            )
            short_since = loop.time()
            frontier.pause(SPACE, "disk nearly full")
        elif loop.time() - short_since >= config.wait_s:
            raise SinkFailed(
                f"Only {show_bytes(room.free)} are left on the disk of {folder.parent.parent}: free some, or "
                "allow less with --min-free, then run the same command again; it resumes."
            )
        await asyncio.sleep(config.every_s)
