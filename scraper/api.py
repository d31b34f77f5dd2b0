"""The way in for programs: ``run`` and ``arun``. Puts a job together, has an engine run it, reports.

In: a pipeline, a list, an output folder, settings. Out: a Report, made from the ledger.
Must never: touch signals, print, or leave the output folder locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, BinaryIO, TextIO

from scraper._version import __version__
from scraper.allocator import tune_allocator
from scraper.config import Pipeline, RunConfig
from scraper.engines import Job, engine_named
from scraper.engines.reader import in_daemon_thread
from scraper.errors import MissingExtra, ScraperError, UsageError
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.log import LogFormat, logging_to
from scraper.meter import Meter
from scraper.options import from_settings
from scraper.outdir import OutputFolder
from scraper.progress import Progress, progress
from scraper.protocols import Source
from scraper.records import Outcome, Request
from scraper.report import Report, write_html
from scraper.sinks.readback import read_items
from scraper.sources import iterable_source, open_source

log = logging.getLogger("scraper")

INTERRUPTED = 130
"""What the ledger notes as the exit of a run that was stopped before its end."""

Urls = Iterable[str | Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a run is followed and ended from outside.

    Attributes:
        stop: set it to end the run early: nothing new is begun, and what is done is kept.
        progress: what to show on ``stream`` while it runs; see ``--progress``.
        stream: where that goes; stderr if None.
        log_format: how warnings are written to stderr; None for not at all.
        options: what ``scraper resume`` needs to run the same command; kept with the output.
    """

    stop: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    progress: Progress = "none"
    log_format: LogFormat | None = None
    stream: TextIO | None = None
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


def run(
    pipeline: Pipeline,
    urls: Urls | None = None,
    *,
    inputs: Sequence[str | PathLike[str]] = (),
    out: str | PathLike[str],
    overwrite: bool = False,
    config: RunConfig | None = None,
    **settings: Any,
) -> Report:
    """Run a pipeline over a list and wait for its end. The same call again goes on where this one stopped.

    Args:
        pipeline: what to do with each URL, e.g. ``pipelines.images.build(image_size=256)``.
        urls: the list: strings, or mappings with a column named ``url``.
        inputs: the list as files instead, as on the command line.
        out: the output folder.
        overwrite: start over: delete what an earlier run left there.
        config: all settings at once, for those who have resolved them.
        settings: the options of the command line by name: ``concurrency=128``, ``timeout=30.0``, …

    Raises:
        UsageError: the list, the folder or a setting is wrong; the message says what to do.
        OutputLocked: another run holds the folder.
        RunStopped: the disk or an internal fault ended the run; the same call resumes.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise UsageError("run() cannot be called while an event loop is running; use: await arun(...)")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(
            arun(pipeline, urls, inputs=inputs, out=out, overwrite=overwrite, config=config, **settings)
        )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop: uvloop where there is one, asyncio's own elsewhere."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def arun(
    pipeline: Pipeline,
    urls: Urls | None = None,
    *,
    inputs: Sequence[str | PathLike[str]] = (),
    stdin: BinaryIO | None = None,
    out: str | PathLike[str],
    overwrite: bool = False,
    config: RunConfig | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Report:
    """As ``run``, inside a running event loop. ``watch`` follows the run and can end it; ``stdin`` feeds ``-``."""
    watch = watch or Watch()
    config = _resolved(pipeline, config, settings)
    source = _opened(urls, inputs, stdin, config)
    rows = await _with_first_row(source, watch.stop)
    tune_allocator()
    with (
        OutputFolder(out, overwrite=overwrite) as folder,
        logging_to(folder.log_path, watch.log_format, watch.stream),
    ):
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(
                RunMeta(
                    pipeline=pipeline.name,
                    settings=pipeline.settings,
                    inputs=[str(each) for each in inputs],
                    fingerprint=source.fingerprint(),
                    options=watch.options,
                    version=__version__,
                    started_at=time.time(),
                )
            )
            meter = Meter()
            job = Job(
                pipeline=pipeline,
                source=source,
                rows=rows,
                config=config,
                ledger=ledger,
                sink=pipeline.open_sink(folder.root, ledger.sink_state),
                scratch=folder.tmp_dir,
                meter=meter,
                stop=watch.stop,
            )
            await _run_to_end(job, watch)
        with LedgerReader(folder.ledger_path) as reader:
            report = Report.from_ledger(reader, folder.root)
        if meter.by_class or not folder.report_path.exists():
            write_page(report, folder)
    return report


async def _run_to_end(job: Job, watch: Watch) -> None:
    """Have the engine run the job, and record how that ended."""
    log.info("run started", extra={"pipeline": job.pipeline.name, "source": job.source.name})
    try:
        async with progress(watch.progress, job.meter, watch.stream):
            await engine_named("pipeline")(job)
    except ScraperError as error:
        log.error("run stopped", exc_info=True)
        with contextlib.suppress(ScraperError):  # a full disk has no room for this either
            await job.ledger.end(error.exit_code)
        raise
    complete = job.meter.rows_done == job.meter.rows_total
    exit_code = INTERRUPTED if job.stop.is_set() and not complete else 0
    await job.ledger.end(exit_code)
    log.info("run ended", extra={"exit": exit_code, "classes": dict(job.meter.by_class)})


@contextlib.contextmanager
def _prompt_threads() -> Iterator[None]:
    """Let the threads of the ledger and the sinks have the interpreter within a millisecond.

    With Python's 5 ms a thread that commits waits for a busy loop again and again: measured, a batch of 1,000 rows
    took up to 8 s beside a loop that spun for 3 ms a turn, and 0.1 s with 1 ms.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def write_page(report: Report, folder: OutputFolder) -> MissingExtra | None:
    """Write OUT/report.html; the answer is what is missing, if the extra for it is not installed."""
    try:
        write_html(report, folder.report_path, read_items)
    except MissingExtra as error:
        log.info("report.html was not written", extra={"reason": str(error)})
        return error
    return None


def _resolved(pipeline: Pipeline, config: RunConfig | None, settings: Mapping[str, object]) -> RunConfig:
    if config is None:
        return from_settings(settings, pipeline)
    if settings:
        raise UsageError(f"Give either config= or single settings, not both: {', '.join(settings)}.")
    return config


def _opened(
    urls: Urls | None, inputs: Sequence[str | PathLike[str]], stdin: BinaryIO | None, config: RunConfig
) -> Source:
    if (urls is None) == (not inputs):
        raise UsageError("Give the list once: as urls= or as inputs=.")
    if urls is None:
        return open_source(inputs, config.source, stdin)
    if isinstance(urls, str):
        raise UsageError(
            "urls= wants a list of URLs; for a single one write urls=[url], for a file inputs=[path]."
        )
    return iterable_source(urls, config.source)


async def _with_first_row(source: Source, stop: asyncio.Event) -> Iterator[Request | Outcome]:
    """The rows, the first of them read already, so that what is wrong with a list is said before OUT is touched.

    Raises:
        UsageError: there is no row.
    """
    rows = iter(source)
    reading = asyncio.ensure_future(in_daemon_thread(lambda: next(rows, None)))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            return iter(())
        first = reading.result()
    finally:
        reading.cancel()
        stopping.cancel()
    if first is None:
        raise UsageError(f"{source.name} has no rows.")
    return itertools.chain([first], rows)
