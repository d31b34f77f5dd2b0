"""What an engine is given, and what it must keep. Every engine runs the same Job to the same Outcomes.

An engine decides how the work is scheduled, and nothing else: the source, the policies, the transform, the sink
and the ledger are the job's. ``scraper.testing.engine.EngineContract`` holds it to the rules below.

1. Every row the source gives, and that the ledger does not hold yet or is to ask again, ends as exactly one
   Outcome in the ledger, unless the run stops before.
2. ``sink.flush`` comes before ``ledger.commit`` comes before ``sink.publish``: "done" is durable.
3. When ``stop`` is set no new row is begun; what is in flight has ``config.grace_s`` to end, then it is put back.
4. ``sink.finish`` is called if and only if every row of the list has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scraper.config import Pipeline, RunConfig
from scraper.errors import RunStopped
from scraper.ledger import Ledger
from scraper.meter import Meter
from scraper.protocols import Sink, Source
from scraper.records import Outcome, Request


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        pipeline: what is done with each response.
        source: the list; asked only for how far it has been read.
        identity: tells this list, as it is read, from any other; empty where that cannot be known.
        rows: the list's rows, from row 0. Blocking: iterate it in one thread of its own.
        config: the run's settings.
        ledger: open, and begun for this pipeline and list.
        sink: not entered yet; the engine enters it.
        out: the output folder; the paths of outcomes are relative to it.
        state: a folder for files that outlive the run, as the output does.
        scratch: a folder for files that do not outlive it.
        meter: where the engine counts.
        stop: set by whoever wants the run to end early.
        last_resort: told why, before the engine raises the error of a run that is stuck: it may be unable to end,
            and then somebody has to end the process.
    """

    pipeline: Pipeline
    source: Source
    identity: str
    rows: Iterator[Request | Outcome]
    config: RunConfig
    ledger: Ledger
    sink: Sink
    out: Path
    state: Path
    scratch: Path
    meter: Meter
    stop: asyncio.Event
    last_resort: Callable[[RunStopped], None] = lambda _: None


class Engine(Protocol):
    """Runs a job to its end."""

    async def __call__(self, job: Job) -> None:
        """Return when every row has ended, or when ``job.stop`` was set and what was in flight is dealt with.

        Raises:
            ScraperError: the run cannot go on; what was committed stays committed.
        """
