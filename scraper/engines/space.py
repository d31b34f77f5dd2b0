"""The output's disk, watched: paused before it is full, stopped when it stays full, stopped when OUT is gone.

In: what is free and what is on its way, ten times a second. Out: the frontier paused and resumed, or SinkFailed.
Must never: block the event loop for a slow disk; let what is in flight fill the last bytes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

from scraper.arena import Arena
from scraper.config import MIB, SpaceConfig
from scraper.errors import SinkFailed, State
from scraper.frontier import Frontier
from scraper.meter import Meter
from scraper.units import show_bytes

log = logging.getLogger("scraper")

SPACE = "space"
"""Why the frontier is paused."""

RESERVE = 64 * MIB
"""What is left free where nothing was said: room for the ledger to note how it ended, many times over."""

SHARE = 20
"""On a small disk that is at most one of so many parts of it."""

GUESS = 100_000
"""What a row is taken to write before one has: a picture. Bodies that are larger show in the arena by then."""

RECENT = 100
"""Rows that the mean is taken over, or little more: a list of thumbnails may go on with films."""

MORE = 1.1
"""How much of what it takes has to be free to go on: a little room alone would soon be a pause again."""


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


def needed(room: Room, min_free: int | None, in_flight: float) -> float:
    """What has to be free, in bytes: the reserve, and what is in flight. Nothing where there is no reserve."""
    left = reserve(room, min_free)
    return left and left + in_flight


def is_short(room: Room, min_free: int | None, in_flight: int) -> bool:
    """Whether what is in flight could use up the reserve. Never if there is to be none."""
    return room.free < needed(room, min_free, in_flight)


class Flow(NamedTuple):
    """What a run takes in and writes, at one moment.

    Attributes:
        held: bytes received and not written yet.
        out: fetches under way.
        ended: rows that ended with bytes, in this run.
        written: bytes these have.
        to_come: rows of the list that have not ended; None while the list has not been read to its end.
    """

    held: int
    out: int
    ended: int
    written: int
    to_come: int | None


def mean_size(before: float, last: Flow, now: Flow) -> float:
    """Bytes a row writes, over the latest rows: the mean at the look ``last``, and what has ended since."""
    rows = now.ended - last.ended
    if rows == 0:
        return before
    share = min(1.0, rows / min(now.ended, RECENT))
    return before + share * ((now.written - last.written) / rows - before)


def rest(mean: float, now: Flow) -> float:
    """The bytes that the rows may write that have not ended, what is held among them. Infinite if unknown."""
    return math.inf if now.to_come is None else max(now.held, now.to_come * mean)


def in_flight(mean: float, last: Flow, now: Flow) -> int:
    """The bytes that may still be written if there is a pause at the next look, not earlier.

    What is held; what the fetches under way may bring; and those begun until the next look: twice as much as came
    in since the last one, for a look that is late. No more than the rest of the list, so that one that fits on a
    small disk is not held up near its end.
    """
    came_in = max(0, now.held + now.written - last.held - last.written)
    return int(min(now.held + now.out * mean + 2 * came_in, rest(mean, now)))


class _Estimate:
    """What is in flight, look by look."""

    def __init__(self, arena: Arena, frontier: Frontier, meter: Meter) -> None:
        self._arena = arena
        self._frontier = frontier
        self._meter = meter
        self._mean = float(GUESS)
        self._last = self._flow()

    def look(self) -> tuple[int, float]:
        """What is in flight, and the rest of the list, in bytes, by what has happened since the last look."""
        last, self._last = self._last, self._flow()
        self._mean = mean_size(self._mean, last, self._last)
        return in_flight(self._mean, last, self._last), rest(self._mean, self._last)

    def _flow(self) -> Flow:
        meter = self._meter
        to_come = None if meter.rows_total is None else meter.rows_total - meter.rows_done
        ended = meter.by_class[str(State.OK)]  # those whose copy is still current bring nothing
        return Flow(self._arena.held, self._frontier.statistics().out, ended, meter.written_bytes, to_come)


class _Pause:
    """Pauses the frontier, resumes it, and gives up."""

    def __init__(self, out: Path, config: SpaceConfig, frontier: Frontier) -> None:
        self._out = out
        self._config = config
        self._frontier = frontier
        self._since: float | None = None
        self._enough = 0.0

    def judge(self, room: Room, coming: int, at_most: float, now: float) -> None:
        """What to do.

        Args:
            room: what the disk has.
            coming: bytes in flight.
            at_most: bytes that can ever come.
            now: the time, by the loop's clock.

        Raises:
            SinkFailed: the pause has been long enough.
        """
        min_free, wait_s = self._config.min_free, self._config.wait_s
        if self._since is None:
            if is_short(room, min_free, coming):
                # Kept: what is in flight ends now, and would be there again as soon as it went on.
                self._enough = MORE * needed(room, min_free, coming)
                self._since = now
                self._frontier.pause(SPACE, "disk nearly full")
                log.warning(
                    "Only %s are left on the disk of %s, where --min-free keeps %s and what is under way may take "
                    "%s: waiting up to %g s for %s.",
                    *(show_bytes(room.free), self._out, show_bytes(reserve(room, min_free)), show_bytes(coming)),
                    *(wait_s, show_bytes(self._enough)),
                )
        elif room.free >= min(self._enough, MORE * needed(room, min_free, at_most)):
            log.warning("There is space again: going on.")
            self._since = None
            self._frontier.resume(SPACE)
        elif now - self._since >= wait_s:
            raise SinkFailed(
                f"Only {show_bytes(room.free)} are left on the disk of {self._out}, and going on takes "
                f"{show_bytes(self._enough)}: free some, ask for less at once with --concurrency, or allow less "
                "with --min-free, then run the same command again; it resumes."
            )


def _ask(folder: Path) -> tuple[Room, object]:
    """The room there is, and which folder it is: another of the same name is another."""
    about = folder.stat()
    return room_at(folder), (about.st_dev, about.st_ino)


async def watch_space(folder: Path, config: SpaceConfig, arena: Arena, frontier: Frontier, meter: Meter) -> None:
    """Look every ``config.every_s`` seconds. Runs until it is cancelled.

    Args:
        folder: where the run writes, two levels below OUT; it must stay there.
        config: what to leave free, and how long to wait for it.
        arena: how much is held.
        frontier: how much is out, and what to pause.
        meter: how much was written.

    Raises:
        SinkFailed: the folder is gone, or space has not come back within ``config.wait_s``.
    """
    loop = asyncio.get_running_loop()
    estimate, pause = _Estimate(arena, frontier, meter), _Pause(folder.parent.parent, config, frontier)
    began_in: object = None
    while True:
        # Before the disk is asked: what is written just then counts twice, and never not at all.
        coming, at_most = estimate.look()
        try:
            room, is_in = await asyncio.to_thread(_ask, folder)
        except FileNotFoundError:
            raise SinkFailed(f"{folder} was removed while the run went on; what it held is gone.") from None
        except OSError as error:
            raise SinkFailed(f"{folder} cannot be looked at any more: {error.strerror}.") from error
        began_in = began_in or is_in
        if is_in != began_in:
            raise SinkFailed(f"{folder} was replaced while the run went on; what this run wrote is elsewhere.")
        pause.judge(room, coming, at_most, loop.time())
        await asyncio.sleep(config.every_s)
