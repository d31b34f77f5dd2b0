"""A run that stands still though it should not: noticed, described, and ended by class rather than left to hang.

In: whether anything has moved, and what is being waited for. Out: a description in the log; fetches and items
that are given up; at last an error. It should never come to that: every wait has a limit of its own, and this is
for the fault nobody has thought of.

    what is waited for                          what is done
    the list, a time, a pause                   nothing: these may take as long as they take
    servers                                     the fetches under way end as ``timeout.total``
    workers                                     the workers are killed; their items are tried anew, alone
    the disk                                    the run stops
    nothing that we know of, or still the same  the run stops

A run that stops may be unable to: a thread that waits for a dead disk cannot be ended. See ``Job.last_resort``.

Must never: take a process that was stopped, or a machine that slept, for one that is stuck.
"""

from __future__ import annotations

import asyncio
import enum
import io
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Protocol

from scraper.errors import InternalFault, RunStopped, SinkFailed

log = logging.getLogger("scraper")

LOOKS = 8
"""Looks in the time after which a run is stuck."""


class Wait(enum.Enum):
    """What a run waits for at one moment."""

    LIST = "the list"
    TIME = "a time"
    PAUSE = "the end of a pause"
    SERVERS = "servers"
    WORKERS = "workers"
    DISK = "the disk"
    UNKNOWN = "nothing that is known"


PATIENT = frozenset({Wait.LIST, Wait.TIME, Wait.PAUSE})
"""What may take as long as it takes."""


class Watched(Protocol):
    """A run, as far as it is watched."""

    def moved(self) -> object:
        """Equal to what it was last time if, and only if, nothing has moved since."""

    def waits_for(self) -> Wait:
        """What is being waited for, what is nearest to the output first."""

    async def state(self) -> Mapping[str, object]:
        """Queues, permits and workers, for the log."""


async def watch_movement(
    run: Watched,
    limit_s: float,
    breaks: Mapping[Wait, Callable[[], None]],
    last_resort: Callable[[RunStopped], None],
) -> None:
    """Watch until cancelled.

    Args:
        run: what to watch.
        limit_s: seconds without movement after which something is done.
        breaks: how to break a jam at that place; where there is no way, the run stops.
        last_resort: see ``Job.last_resort``.

    Raises:
        SinkFailed: the disk has not answered for so long.
        InternalFault: nothing else has helped.
    """
    loop = asyncio.get_running_loop()
    period = limit_s / LOOKS
    seen, since, is_broken = run.moved(), loop.time(), False
    while True:
        before = loop.time()
        await asyncio.sleep(period)
        late = loop.time() - before - period
        if late > period:
            since += late  # we stood still ourselves
        now, wait = run.moved(), run.waits_for()
        if now != seen or wait in PATIENT:
            seen, since, is_broken = now, loop.time(), False
        elif loop.time() - since >= limit_s:
            await _describe(run, wait, limit_s)
            if is_broken or wait not in breaks:
                fault = _fault(wait, limit_s)
                last_resort(fault)
                raise fault
            breaks[wait]()
            since, is_broken = loop.time(), True


def _fault(wait: Wait, limit_s: float) -> RunStopped:
    if wait is Wait.DISK:
        return SinkFailed(
            f"The disk of the output has not answered for {limit_s:g} s. What was committed is kept; run the same "
            "command again when it does."
        )
    return InternalFault(
        f"Nothing has moved for {limit_s:g} s while waiting for {wait.value}. What was committed is kept, and the "
        "same command goes on; .scraper/log.jsonl in the output folder says what was waited for: please report it."
    )


async def _describe(run: Watched, wait: Wait, limit_s: float) -> None:
    described: dict[str, object] = dict(await run.state())
    described |= {"tasks": tasks_described(), "threads": threads_described()}
    log.error("Nothing has moved for %g s; waiting for %s.", limit_s, wait.value, extra={"stuck": described})


def tasks_described() -> dict[str, str]:
    """Each task of the running loop by its name: where it stands, outermost call first, and what it awaits."""
    return {f"{task.get_name()} {id(task):x}": _awaits(task) for task in asyncio.all_tasks()}


def _awaits(task: asyncio.Task[object]) -> str:
    """The chain of awaits; a task's own stack shows the first link only."""
    places: list[str] = []
    link: object = task.get_coro()
    while link is not None:
        frame: FrameType | None = getattr(link, "cr_frame", None) or getattr(link, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            places.append(f"{code.co_qualname} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})")
        elif not hasattr(link, "cr_frame") and not hasattr(link, "gi_frame"):
            places.append(repr(link)[:200])
        link = getattr(link, "cr_await", None) or getattr(link, "gi_yieldfrom", None)
    return " > ".join(places)


def threads_described() -> dict[str, str]:
    """Each thread of this process by its name, with its stack."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    described = {}
    for number, frame in sys._current_frames().items():
        text = io.StringIO()
        traceback.print_stack(frame, limit=12, file=text)
        described[f"{names.get(number, '?')} {number}"] = text.getvalue()
    return described
