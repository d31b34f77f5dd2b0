"""``scraper images LIST -o OUT`` and its like, and going on with one: options → RunConfig → run → exit code.

In: a pipeline and the arguments after its name. Out: the report on stdout, progress and messages on stderr.
Must never: fetch or write anything for --dry-run; leave a user guessing how to go on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scraper.cli import voice
from scraper.cli.interrupts import raise_interrupts
from scraper.cli.parse import parse
from scraper.cli.signals import Caught, ending_on_signal, silence_the_tracker
from scraper.cli.table import Command
from scraper.config import Pipeline, RunConfig
from scraper.errors import RunStopped, SinkFailed, UsageError
from scraper.options.again import check_again
from scraper.options.found import FoundPipeline, installed, load
from scraper.options.img2dataset import ported
from scraper.options.layers import Layers, merge
from scraper.options.requests import listed, masked, storable
from scraper.options.schema import Option, options_of, shown_value, taken
from scraper.options.shared import SHARED, PlaceOptions, RunOptions, resolve

if TYPE_CHECKING:  # loaded late: the refusal of a misspelt option needs none of it
    from scraper.report import Report

_AGAIN = {"retry_failed", "refresh"}
_OF_THE_MOMENT = _AGAIN | {"out", "url_list", "progress", "log_format", "dry_run", "overwrite", "config", "set"}
"""Options that say nothing about what the output holds: ``resume`` does not need them. What is to be asked again
it finds in the ledger, which knows whether that was done."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command line, understood and checked.

    Attributes:
        pipeline: what is done with each URL.
        config: the run's settings.
        inputs: the lists.
        out: the output folder; empty if none was named.
        run: how it is done.
        stored: what ``resume`` needs, as JSON values.
        settings: every option and its value as one types it, for ``--dry-run``.
    """

    pipeline: Pipeline
    config: RunConfig
    inputs: Sequence[str]
    out: str
    run: RunOptions
    stored: Mapping[str, object]
    settings: Mapping[str, str]


def run(
    found: FoundPipeline,
    arguments: Sequence[str],
    others: Sequence[str],
    stored: Mapping[str, object] | None = None,
) -> int:
    """Run a pipeline.

    Args:
        found: the pipeline.
        arguments: what was typed after its name.
        others: names of the pipelines whose tables may stand in the same TOML file.
        stored: options of an earlier run, below all that was typed.
    """
    job = understand(found, arguments, others, stored)
    if job is None:
        return 0
    voice.speak(job.run.log_format)
    if not job.out and not job.run.dry_run:
        raise UsageError(f"Say where the results go: scraper {found.name} LIST -o OUT.")
    if "-" in job.inputs and sys.stdin is not None and sys.stdin.isatty():
        voice.say("Reading the list from the terminal; end it with Ctrl-D.")
    if job.run.dry_run:
        from scraper.cli.dry import dry_run

        raise_interrupts()
        return dry_run(job.pipeline, job.inputs, job.config, job.settings, job.out, job.run.overwrite)
    from scraper.api import loop_factory

    silence_the_tracker()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_run(job))
    except Exception as error:
        return voice.explain(error, Path(job.out, ".scraper", "log.jsonl"))


def understand(
    found: FoundPipeline,
    arguments: Sequence[str],
    others: Sequence[str],
    stored: Mapping[str, object] | None = None,
) -> Job | None:
    """What was typed → a job; None if it was a cry for help, which has been answered.

    Raises:
        UsageError: something typed, set, stored or in a file is not what it should be.
    """
    command = Command(
        found.name,
        found.summary,
        "LIST...",
        (
            (found.name.capitalize(), found.options),
            *(("List and output", kind) for kind in SHARED),
        ),
        (f"scraper {found.name} urls.txt -o out", f"scraper {found.name} list.csv -o out --url-col link"),
    )
    kinds = (found.options, *SHARED)
    _refuse_hidden(found)
    parsed = parse(command, ported(arguments) if found.name == "images" else arguments)
    if parsed is None:
        return None
    values = merge(_layers(parsed.typed, stored), kinds, found.name, others)
    place, run = taken(PlaceOptions, values), taken(RunOptions, values)
    options: object = taken(found.options, values)
    shared: list[object] = [taken(kind, values) for kind in SHARED]
    pipeline = found.build(options)
    lists = [*parsed.operands, *place.url_list]
    if not lists:
        raise UsageError(f"Name a list: scraper {found.name} LIST -o OUT; - reads standard input.")
    known = {each.field: (each, one) for one in (options, *shared) for each in options_of(type(one))}
    every = {field: getattr(one, field) for field, (_, one) in known.items()}
    config = resolve(*shared)
    check_again(config.again, pipeline, run.overwrite)
    effective = every | _effective(every, pipeline, config)
    return Job(
        pipeline,
        config,
        lists,
        place.out or "",
        run,
        _to_store(every, lists),
        {each.name: _shown(each, effective[f]) for f, (each, _) in known.items() if f not in _OF_THE_MOMENT},
    )


def _layers(typed: Mapping[str, object], stored: Mapping[str, object] | None) -> Layers:
    sets, config = typed.get("set"), typed.get("config")
    if stored and typed.keys() & {*_AGAIN, "overwrite"}:  # said anew: what a run was at before is another matter
        stored = {name: value for name, value in stored.items() if name not in _AGAIN}
    return Layers(
        typed,
        [str(each) for each in sets] if isinstance(sets, list) else [],
        None if config is None else str(config),
        stored,
    )


def _refuse_hidden(found: FoundPipeline) -> None:
    """A pipeline's own option may not take the name of one that every pipeline has."""
    shared = {each.name for kind in SHARED for each in options_of(kind)}
    for each in options_of(found.options):
        if each.name in shared:
            raise UsageError(
                f"The pipeline {found.name!r} has an option --{each.name}, which is taken; rename it."
            )


def _effective(every: Mapping[str, object], pipeline: Pipeline, config: RunConfig) -> dict[str, object]:
    """What the run uses where nothing, or not all, was said."""
    return {name: value for name, value in pipeline.settings.items() if name in every} | {
        "workers": config.pool.workers,
        "user_agent": config.fetch.user_agent,
        "opt_outs": config.politeness.opt_outs or ("off",),
        "connect_timeout": config.fetch.connect_timeout_s,
        "header_timeout": config.fetch.header_timeout_s,
        "stall_timeout": config.fetch.stall_timeout_s,
    }


def _shown(each: Option, value: object) -> str:
    """A setting as one types it, without credentials."""
    if isinstance(value, bool):
        return str(value).lower()
    return shown_value(masked(each.field, value), each.unit) or each.shown or "-"


def _to_store(every: Mapping[str, object], lists: Sequence[str]) -> dict[str, object]:
    """What ``resume`` needs. Credentials stay out of the output folder: of them only the names are kept."""
    kept, left_out = storable({name: value for name, value in every.items() if name not in _OF_THE_MOMENT})
    for name in ("cookies", "ca_file"):
        kept[name] = _absolute(str(kept[name])) if kept[name] else ""
    kept["client_cert"] = tuple(_absolute_cert(each) for each in listed(kept["client_cert"]))
    return {"inputs": [_absolute(each) for each in lists], "left_out": left_out, "options": kept}


def _absolute_cert(given: str) -> str:
    """``HOST=FILE[,KEYFILE]``, to be found from anywhere."""
    host, _, files = given.partition("=")
    return f"{host}={','.join(_absolute(each) for each in files.split(','))}"


def _absolute(given: str) -> str:
    try:
        return given if given == "-" or "://" in given else os.path.abspath(given)  # noqa: PTH100 - keeps globs and links
    except FileNotFoundError:
        raise UsageError("The current folder was removed: change to one that is there.") from None


async def _run(job: Job) -> int:
    from scraper.api import Watch, arun
    from scraper.report import render_summary

    stop = asyncio.Event()
    printed = True

    def summarise(report: Report) -> None:
        nonlocal printed
        printed = voice.show(render_summary(report, _width()))

    def end_the_process(why: RunStopped) -> None:
        voice.say(str(why), "error")
        os._exit(why.exit_code)  # threads that wait for that disk would keep the interpreter from ending

    watch = Watch(
        stop=stop,
        progress=job.run.progress,
        log_format=job.run.log_format,
        on_report=summarise,
        last_resort=end_the_process,
        options=job.stored,
    )

    def ask() -> None:
        grace = job.config.grace_s
        stop.set()  # first: a stderr that blocks must not hold it up
        voice.say(f"Stopping: what is in flight has {grace:g} s to finish; the same signal again ends at once.")

    with ending_on_signal(ask) as caught:
        report = await arun(
            job.pipeline,
            inputs=job.inputs,
            out=job.out,
            overwrite=job.run.overwrite,
            config=job.config,
            watch=watch,
        )
    code = _ending(report, caught, job.config.max_failed)
    return code if printed or code not in (0, 1) else SinkFailed.exit_code


def _ending(report: Report, caught: Caught, max_failed: int) -> int:
    """Print where to look and how to go on, once the page is there; the exit code."""
    from scraper.report import render_where

    if where := render_where(report):
        voice.show(f"\n{where}")
    if caught.number and not report.is_complete:
        voice.say(f"Interrupted; what is done is kept; {report.way_on}")
        return caught.exit_code
    return report.exit_code(max_failed)


def _width() -> int:
    """Columns to use: all of a terminal's; off a terminal as many as a line may need."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else 500


def resume(out: str, arguments: Sequence[str]) -> int:
    """Go on with the run that wrote ``out``; ``arguments`` go before the options it had.

    Raises:
        UsageError: there is no such run, or it cannot be repeated from here.
    """
    from scraper.ledger import LedgerReader
    from scraper.outdir import OutputFolder
    from scraper.report import started_by

    with LedgerReader(OutputFolder.existing(out).ledger_path) as ledger:
        meta, again = ledger.meta(), ledger.unfinished()
    if meta is None:
        raise UsageError(f"No run has begun in {out}; run the full command again.")
    stored, beginner = meta.options, started_by(meta)
    lists, options = stored.get("inputs"), stored.get("options")
    if beginner == "program" or not isinstance(lists, list) or not isinstance(options, dict):
        raise UsageError(f"The run in {out} was started by a program; start that program again to resume.")
    if beginner == "pipe":
        raise UsageError(
            f"The list of {out} came from a pipe: type the full command again, with the same list piped in."
        )
    _refuse_without_secrets(stored, arguments)
    _refuse_without_function(out, options, arguments)
    options = options | {"retry_failed": again.failed, "refresh": again.refresh}
    arguments = [*_beside_secrets(stored, options), *arguments]
    return run(load(meta.pipeline), [*lists, "-o", out, *arguments], list(installed()), options)


def _beside_secrets(stored: Mapping[str, object], options: Mapping[str, object]) -> list[str]:
    """What was kept of options of which a part is typed anew, as words of a command: typed goes before stored."""
    left_out = stored.get("left_out")
    names = [name for name in ("header", "auth") if isinstance(left_out, dict) and left_out.get(name)]
    return [f"--{name}={value}" for name in names for value in listed(options.get(name))]


def _refuse_without_secrets(stored: Mapping[str, object], arguments: Sequence[str]) -> None:
    """What the run had and is not kept must be typed again, or its rows would fail for want of it."""
    left_out = stored.get("left_out", {"header": stored.get("secret_headers")})  # as it was called before
    typed = " ".join(arguments).lower()
    for option, names in left_out.items() if isinstance(left_out, dict) else ():
        for name in names if isinstance(names, list) else []:
            if (option if option == "proxy" else str(name).lower()) not in typed:
                again = {"header": f"'{name}: …'", "auth": f"'{name}=USER:PASSWORD'"}.get(option, "URL")
                raise UsageError(
                    f"The run had a secret in --{option} {name}, which is not kept on disk; "
                    f"add --{option} {again} to resume."
                )


def _refuse_without_function(out: str, options: Mapping[str, object], arguments: Sequence[str]) -> None:
    """Code is imported because a command names it, never because a file in an output folder does."""
    name = options.get("transform")
    if name and not any(each.partition("=")[0] == "--transform" for each in arguments):
        raise UsageError(
            f"The run had a function of yours, which is not kept with the output; name it again: "
            f"scraper resume {out} --transform {name}."
        )


def report(out: str) -> int:
    """Print the report of what ``out`` holds, and write its page anew.

    Raises:
        UsageError: no run has written there.
        SinkFailed: the page cannot be written; the report is printed all the same.
    """
    from scraper.api import write_page
    from scraper.outdir import OutputFolder
    from scraper.report import Report, render_terminal

    raise_interrupts()
    report = Report.of(out)
    try:
        missing = write_page(report, OutputFolder(out))
    except SinkFailed:
        voice.show(render_terminal(report, _width()))
        raise
    if missing is not None:
        voice.say(f"report.html was not written: {missing}", "warning")
    return 0 if voice.show(render_terminal(report, _width())) else SinkFailed.exit_code
