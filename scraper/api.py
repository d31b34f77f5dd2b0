"""The way in for programs: ``run`` and ``arun``. Puts a job together, has an engine run it, reports.

In: a pipeline, a list, an output folder, settings. Out: a Report, made from the ledger.
Must never: touch signals, print, or leave the output folder locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, BinaryIO, TextIO

from scraper._version import __version__
from scraper.allocator import tune_allocator
from scraper.asking import Asking
from scraper.config import Pipeline, RunConfig, SourceConfig
from scraper.descriptors import room_for
from scraper.engines import Job, engine_named
from scraper.engines.reader import in_daemon_thread
from scraper.errors import MissingExtra, RunStopped, ScraperError, SinkFailed, State, UsageError, outcome_class
from scraper.ledger import Ledger, RunMeta
from scraper.log import LogFormat, logging_to
from scraper.meter import Meter
from scraper.options import from_settings
from scraper.options.again import check_again
from scraper.outdir import OutputFolder
from scraper.policies.guards import lowered
from scraper.policies.secrets import hide_parameters
from scraper.progress import Progress, progress
from scraper.protocols import Source
from scraper.records import Outcome, Request
from scraper.report import Report, warm_up, write_html
from scraper.shaping import shaped, with_columns
from scraper.sinks.readback import read_items
from scraper.sources import iterable_source, open_source

log = logging.getLogger("scraper")

INTERRUPTED = 130
"""What the ledger notes as the exit of a run that was stopped before its end."""

LAST_RESORT_S = 10.0
"""For a run that is stuck to end all the same: what is not stuck ends within moments."""

Urls = Iterable[str | Mapping[str, object]]
Lists = str | PathLike[str] | Sequence[str | PathLike[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a run is followed and ended from outside.

    Attributes:
        stop: set it to end the run early: nothing new is begun, and what is done is kept.
        progress: what to show on ``stream`` while it runs; see ``--progress``.
        stream: where that goes; stderr if None.
        log_format: how warnings are written there; None for not at all.
        on_report: called with the report before the page is written, which takes a second.
        options: what ``scraper resume`` needs to run the same command; kept with the output.
        last_resort: told why, when a run that is stuck was told to end and has not within 10 s; it may end the
            process. Called in a thread.
    """

    stop: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    progress: Progress = "none"
    stream: TextIO | None = None
    log_format: LogFormat | None = None
    on_report: Callable[[Report], None] | None = None
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    last_resort: Callable[[RunStopped], None] = lambda _: None


def run(
    pipeline: Pipeline,
    urls: Urls | None = None,
    *,
    out: str | PathLike[str],
    inputs: Lists = (),
    stdin: BinaryIO | None = None,
    overwrite: bool = False,
    config: RunConfig | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Report:
    """Run a pipeline over a list and wait for its end. The same call again goes on where this one stopped.

    Args:
        pipeline: what to do with each URL, e.g. ``pipelines.images.build(image_size=256)``.
        urls: the list: strings, or mappings with a column named ``url``.
        out: the output folder.
        inputs: the list as files instead: one or several, as on the command line.
        stdin: what ``-`` among the inputs reads.
        overwrite: start over: delete what an earlier run left there.
        config: all settings at once, for those who have resolved them.
        watch: follows the run, and can end it.
        settings: the options of the command line by name: ``concurrency=128``, ``timeout="30s"``,
            ``retry_failed=True`` or ``retry_failed="dns,timeout"``, ``transform=a_function_of_mine``, …

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
    job = arun(
        pipeline,
        urls,
        out=out,
        inputs=inputs,
        stdin=stdin,
        overwrite=overwrite,
        config=config,
        watch=watch,
        **settings,
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(job)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop: uvloop where there is one, asyncio's own elsewhere."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def arun(
    pipeline: Pipeline,
    urls: Urls | None = None,
    *,
    out: str | PathLike[str],
    inputs: Lists = (),
    stdin: BinaryIO | None = None,
    overwrite: bool = False,
    config: RunConfig | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Report:
    """As ``run``, inside a running event loop, which it does not block."""
    if not isinstance(pipeline, Pipeline):
        raise UsageError("The first argument must be a pipeline, as pipelines.images.build() makes one.")
    watch = watch or Watch()
    config = _resolved(config, settings)
    hide_parameters(config.mask_params)
    check_again(config.again, pipeline, overwrite)
    config = with_columns(pipeline, config)
    pipeline = await asyncio.to_thread(shaped, pipeline, config)
    # Said now, while nothing has been begun: what is wrong with cookies and certificates.
    await asyncio.to_thread(Asking, config.fetch, pipeline.accept, pipeline.accept_encoding)
    lists = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    source = await asyncio.to_thread(_opened, urls, lists, stdin, config)
    rows = await _with_first_row(source, urls is not None, watch.stop)
    meta = await asyncio.to_thread(run_meta, pipeline, source, lists, config, watch)
    tune_allocator()
    async with AsyncExitStack() as stack:
        last_resort = stack.enter_context(_in_the_end(watch.last_resort))
        folder = OutputFolder(out, overwrite=overwrite)
        stack.push(folder.__exit__)
        await asyncio.to_thread(folder.__enter__)
        stack.enter_context(logging_to(folder.log_path, watch.log_format, watch.stream))
        config = _that_fits(config)
        ledger = await stack.enter_async_context(Ledger.open(folder.ledger_path))
        await ledger.begin(meta, config.again)
        job = Job(
            pipeline=pipeline,
            source=source,
            identity=_identity(meta, config),
            rows=rows,
            config=config,
            ledger=ledger,
            sink=pipeline.open_sink(folder.root, ledger.sink_state),
            out=folder.root,
            state=folder.state_dir,
            scratch=folder.tmp_dir,
            meter=Meter(),
            stop=watch.stop,
            last_resort=last_resort,
        )
        # While the network is waited for, rather than at the end; a run that finds nothing to do writes no page.
        warming = asyncio.ensure_future(asyncio.to_thread(_warm_up)) if ledger.is_empty else None
        await _run_to_end(job, watch)
        if not await asyncio.to_thread(folder.ledger_path.exists):
            raise SinkFailed(f"{folder.root} was removed while the run went on; what it held is gone.")
        report = await asyncio.to_thread(Report.of, folder.root)
        if watch.on_report is not None:
            watch.on_report(report)
        if job.meter.by_class or not await asyncio.to_thread(folder.report_path.exists):
            await asyncio.to_thread(write_page, report, folder)
        if warming is not None:
            await warming
    return report


@contextlib.contextmanager
def _in_the_end(do: Callable[[RunStopped], None]) -> Iterator[Callable[[RunStopped], None]]:
    """What calls ``do`` with an error once 10 s have passed since, unless the block has been left by then."""
    timers: list[threading.Timer] = []

    def arm(why: RunStopped) -> None:
        timer = threading.Timer(LAST_RESORT_S, do, (why,))
        timer.daemon = True
        timers.append(timer)
        timer.start()

    try:
        yield arm
    finally:
        for timer in timers:
            timer.cancel()


def _warm_up() -> None:
    """Import what the report needs; whatever hinders that is said by the report, if it still does then."""
    with contextlib.suppress(Exception):
        warm_up()


def _that_fits(config: RunConfig) -> RunConfig:
    """The settings, with no more fetches at once than this process may have open files for."""
    wanted = config.permits.concurrency
    room = room_for(wanted)
    if room == wanted:
        return config
    log.warning(
        "--concurrency %d is more than this process may have open files for: going on with %d. "
        "To have more, raise the limit with ulimit -n.",
        wanted,
        room,
    )
    return replace(config, permits=replace(config.permits, concurrency=room))


async def _run_to_end(job: Job, watch: Watch) -> None:
    """Have the engine run the job, and record how that ended."""
    log.info("run started", extra={"pipeline": job.pipeline.name, "source": job.source.name})
    try:
        with _prompt_threads():
            async with progress(watch.progress, job.meter, watch.stream):
                await engine_named(job.config.engine)(job)
    except ScraperError as error:
        log.info("run stopped", exc_info=True)
        with contextlib.suppress(ScraperError):  # a full disk has no room for this either
            await job.ledger.end(error.exit_code)
        raise
    exit_code = INTERRUPTED
    if not job.stop.is_set() or job.meter.rows_done == job.meter.rows_total:
        counts = await job.ledger.counts()
        failed = sum(n for name, n in counts.items() if outcome_class(name).state is State.FAILED)
        exit_code = 0 if failed <= job.config.max_failed else 1
    await job.ledger.end(exit_code, job.meter.rows_total)
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


def _resolved(config: RunConfig | None, settings: Mapping[str, object]) -> RunConfig:
    for name in ("progress", "log_format"):
        if name in settings:
            raise UsageError(f"{name} is said by watch=Watch({name}={settings[name]!r}).")
    if config is None:
        return from_settings(settings)
    if settings:
        raise UsageError(f"Give either config= or single settings, not both: {', '.join(settings)}.")
    return config


def _opened(
    urls: Urls | None, lists: Sequence[str | PathLike[str]], stdin: BinaryIO | None, config: RunConfig
) -> Source:
    if (urls is None) == (not lists):
        raise UsageError("Give the list once: as urls= or as inputs=.")
    if urls is None:
        return open_source(lists, config.source, stdin)
    if isinstance(urls, str):
        raise UsageError("urls= wants a list of URLs; for a single one write urls=[url], for a file inputs=path.")
    return iterable_source(urls, config.source)


def run_meta(
    pipeline: Pipeline, source: Source, lists: Sequence[str | PathLike[str]], config: RunConfig, watch: Watch
) -> RunMeta:
    """What makes this run the same as an earlier one, or another."""
    columns = {
        "caption_col": config.source.caption_col,
        "save_additional_columns": list(config.source.save_additional_columns),
    }
    # Only where it is not the default: outputs made before there was a choice are those of the default.
    chosen = {} if config.source.url_col == SourceConfig().url_col else {"url_col": config.source.url_col}
    return RunMeta(
        pipeline=pipeline.name,
        settings={**pipeline.settings, **columns, **chosen},
        inputs=[_absolute(os.fspath(each)) for each in lists],
        fingerprint=source.fingerprint(),
        options=watch.options,
        version=__version__,
        started_at=time.time(),
        guards=lowered(config),
    )


def _identity(meta: RunMeta, config: RunConfig) -> str:
    """What tells this list, as it is read, from any other; empty where that cannot be known."""
    return json.dumps([meta.fingerprint, dataclasses.astuple(config.source)]) if meta.fingerprint else ""


def _absolute(given: str) -> str:
    """A list's path as it can be found again from another folder; globs and links stay what they are."""
    return given if given == "-" else os.path.abspath(given)  # noqa: PTH100 - resolves neither


async def _with_first_row(source: Source, is_given: bool, stop: asyncio.Event) -> Iterator[Request | Outcome]:
    """The rows, the first of them read already, so that what is wrong with a list is said before OUT is touched.

    Args:
        source: the list.
        is_given: it was made by the caller, whose errors are the caller's.
        stop: no more waiting.

    Raises:
        UsageError: there is no row.
    """
    rows = _blaming_the_caller(source) if is_given else iter(source)
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
        name = "urls=" if is_given else "Standard input" if source.name == "-" else source.name
        raise UsageError(f"{name} has no rows.")
    return itertools.chain([first], rows)


def _blaming_the_caller(source: Source) -> Iterator[Request | Outcome]:
    """The rows of an iterable of the caller's; what it raises is no fault of ours."""
    try:
        yield from source
    except ScraperError:
        raise
    except Exception as error:
        raise RunStopped(f"urls= raised {type(error).__name__}: {error}") from error
