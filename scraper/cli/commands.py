"""The sub-commands: which there are, and what each does. In: argv. Out: an exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scraper.cli.parse import Parsed, parse
from scraper.cli.table import BUILT_IN
from scraper.errors import State, UsageError
from scraper.options.again import check_class
from scraper.options.built_in import OriginOptions, ResultsOptions
from scraper.options.layers import Layers, merge
from scraper.options.near import nearest
from scraper.options.schema import taken

T = TypeVar("T")


def execute(arguments: Sequence[str]) -> int:
    """Run the sub-command that ``arguments`` begin with.

    Raises:
        ScraperError: it cannot be done; the message says why.
    """
    name, rest = arguments[0], list(arguments[1:])
    if name == "help":
        name, rest = rest[0], ["--help"]
    if name in BUILT_IN:
        return _HANDLERS[name](rest)
    from scraper.cli import job
    from scraper.options.found import installed, load

    pipelines = installed()
    if name not in pipelines:
        raise UsageError(_no_such(name, [*pipelines, *BUILT_IN]))
    return job.run(load(name), rest, others=list(pipelines))


def _no_such(name: str, known: Sequence[str]) -> str:
    if name.startswith("-"):
        return f"There is no option {name} before the command; 'scraper --help' lists the commands."
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"there is: {', '.join(known)}."
    return f"There is no command {name!r}; {hint}"


def _options(kind: type[T], parsed: Parsed) -> T:
    """The options of a command that has no other layers than the command line."""
    return taken(kind, merge(Layers(parsed.typed), [kind], ""))


def _the_out(name: str, parsed: Parsed) -> str:
    if len(parsed.operands) != 1:
        raise UsageError(f"Give one output folder: scraper {name} OUT.")
    return parsed.operands[0]


def _resume(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        if "--help" in arguments or "-h" in arguments:
            parse(BUILT_IN["resume"], ["--help"])
            return 0
        raise UsageError("Give the output folder first: scraper resume OUT.")
    from scraper.cli import job

    return job.resume(arguments[0], arguments[1:])


def _report(arguments: list[str]) -> int:
    parsed = parse(BUILT_IN["report"], arguments)
    if parsed is None:
        return 0
    from scraper.cli import job

    return job.report(_the_out("report", parsed))


def _results(arguments: list[str]) -> int:
    parsed = parse(BUILT_IN["results"], arguments)
    if parsed is None:
        return 0
    from scraper.cli import voice
    from scraper.cli.interrupts import raise_interrupts
    from scraper.ledger import LedgerReader
    from scraper.outdir import OutputFolder
    from scraper.results import write_results

    raise_interrupts()
    out = _the_out("results", parsed)
    options = _options(ResultsOptions, parsed)
    state = None if options.state is None else State(options.state)
    if options.class_ is not None:
        check_class(options.class_)
    with LedgerReader(OutputFolder.existing(out).ledger_path) as ledger, voice.to_stdout() as stdout:
        write_results(ledger, stdout, options.format, state, options.class_)
    return 0


def _origin(arguments: list[str]) -> int:
    parsed = parse(BUILT_IN["origin"], arguments)
    if parsed is None:
        return 0
    from scraper.cli import serving
    from scraper.origin.settings import OriginConfig

    options = _options(OriginOptions, parsed)
    return serving.serve(OriginConfig(options.port, options.latency, options.jitter))


_HANDLERS: dict[str, Callable[[list[str]], int]] = {
    "resume": _resume,
    "report": _report,
    "results": _results,
    "origin": _origin,
}
