"""The built-in sub-commands: what each takes. Pipelines are not here: they come by entry point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scraper.options.built_in import OriginOptions, ResultsOptions


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command, for the parser and the help.

    Attributes:
        name: what one types.
        summary: one line.
        operands: what stands for the arguments without a name; empty if there are none.
        kinds: the options dataclasses, each with the heading of those of its options that have none.
        examples: command lines that work.
        about: what else there is to know, in the help.
    """

    name: str
    summary: str
    operands: str = ""
    kinds: Sequence[tuple[str, type]] = ()
    examples: Sequence[str] = ()
    about: str = ""


BUILT_IN: dict[str, Command] = {
    each.name: each
    for each in (
        Command(
            "resume",
            "Go on with an interrupted run, with the options it had.",
            "OUT [OPTIONS]",
            examples=(
                "scraper resume photos",
                "scraper resume photos --concurrency 16",
                "scraper resume photos --retry-failed=timeout,http.429",
            ),
            about=(
                "Options of the run may be given anew, except those that shape the output. For a run of "
                "'scraper images', 'scraper images --help' lists them."
            ),
        ),
        Command(
            "report", "Show what happened, and write OUT/report.html.", "OUT", examples=("scraper report photos",)
        ),
        Command(
            "results",
            "Print how each row ended.",
            "OUT",
            (("Options", ResultsOptions),),
            ("scraper results photos --state failed", "scraper results photos --class http --format csv"),
        ),
        Command(
            "origin",
            "Serve photographs and pages from this machine, for trying things out.",
            "",
            (("Options", OriginOptions),),
            ("scraper origin --latency 50ms",),
        ),
    )
}
