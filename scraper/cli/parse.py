"""A command line → what was typed, by field. The only module that knows cyclopts.

In: a Command and the arguments after its name. Out: operands, and raw values by field; or the help, printed.
Must never: convert a value; ``scraper.options`` does that for every front end alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts

from scraper.cli import voice
from scraper.cli.table import Command
from scraper.errors import UsageError
from scraper.options.near import either, likely
from scraper.options.page import by_group
from scraper.options.schema import Option, dashed, names_of

_STDIN = "\x00stdin"
"""Stands for ``-`` while cyclopts looks, which takes a lone dash for an option."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was typed. Only what was: defaults are not here.

    Attributes:
        operands: the arguments without a name.
        typed: field → the raw value, a list where the option was repeated.
    """

    operands: list[str]
    typed: dict[str, object]


def parse(command: Command, arguments: Sequence[str]) -> Parsed | None:
    """Read the arguments; None when they asked for help, which has been printed.

    Raises:
        UsageError: an option does not exist, or lacks its value.
    """
    groups = _grouped(command)
    options = [each for group in groups.values() for each in group]
    app = _app(command, groups)
    try:
        body, bound, _ = app.parse_args(
            _normal(arguments, options), exit_on_error=False, print_error=False, verbose=False
        )
    except cyclopts.CycloptsError as error:
        raise UsageError(_sentence(command, error, options)) from None
    if body is not app.default_command:
        with voice.to_stdout():
            try:
                app.help_print([])
            except SystemExit:  # rich's answer to a reader that has gone
                raise BrokenPipeError from None
        return None
    operands = [_undashed(each) for each in bound.args]
    typed = {name: _undashed(value) for name, value in bound.kwargs.items()}
    return Parsed([str(each) for each in operands], typed)


def _grouped(command: Command) -> dict[str, list[Option]]:
    groups: dict[str, list[Option]] = {}
    for title, kind in command.kinds:
        for heading, options in by_group(kind, title).items():
            groups.setdefault(heading, []).extend(options)
    return groups


def _app(command: Command, groups: dict[str, list[Option]]) -> cyclopts.App:
    app = cyclopts.App(
        name=f"scraper {command.name}",
        help="\n\n".join(filter(None, (command.summary, command.about))),
        help_format="plaintext",
        help_epilogue="\n".join(["Examples:", *(f"  {line}" for line in command.examples)]),
        usage=" ".join(["Usage: scraper", command.name, command.operands, *(["[OPTIONS]"] if groups else [])]),
        version_flags=[],
        result_action="return_value",
    )
    app["--help"].show = False

    def body(*operands: str, **typed: object) -> None:
        """Carry the signature; never called."""

    parameters = [] if not command.operands else [_operand(command.operands)]
    for order, (heading, options) in enumerate(groups.items()):
        group = cyclopts.Group(heading, sort_key=order)
        parameters += [_parameter(each, group) for each in options]
    signature = inspect.Signature(parameters)
    body.__signature__ = signature  # type: ignore[attr-defined] # functions may carry one; inspect looks for it
    body.__annotations__ = {each.name: each.annotation for each in parameters}
    app.default(body)
    return app


def _operand(name: str) -> inspect.Parameter:
    said = cyclopts.Parameter(name=name.removesuffix("..."), show=False)
    return inspect.Parameter("operands", inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[str, said])


def _parameter(each: Option, group: cyclopts.Group) -> inspect.Parameter:
    names = [f"--{each.name}", *([each.short] if each.short else [])]
    also = "".join(f" Also --{alias}." for alias in each.aliases)
    shown = each.shown
    said = cyclopts.Parameter(
        name=names,
        help=each.help + also,
        group=group,
        metavar=each.metavar or None,
        show_default=(lambda _: shown) if shown else False,
        # A switch that is on by default needs a way to say no.
        negative=None if each.kind is bool and each.default is True else "",
    )
    kind: object = bool if each.kind is bool else list[str] if each.repeated else str
    return inspect.Parameter(
        each.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, said],  # type: ignore[operator] # an annotation made at run time
    )


def _normal(arguments: Sequence[str], options: Iterable[Option]) -> list[str]:
    """Spell options one way: underscores and aliases of img2dataset's, and its ``--switch True``."""
    known = names_of(options)
    normal: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*normal, argument, *rest]
        if argument == "-":
            argument = _STDIN
        elif argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            found = known.get(dashed(name))
            if found is not None and found.kind is bool and not equals and rest[:1] and _is_switched(rest[0]):
                equals, value = "=", rest.pop(0)
            if found is not None and found.bare:
                if equals and not value.strip():  # a shell variable that is not set, and would mean all
                    raise UsageError(f"--{found.name}= names nothing: name something, or leave out the =.")
                equals = "="  # or what follows would be taken for its value
            argument = f"--{found.name if found else dashed(name)}{equals}{value}"
        normal.append(argument)
    return normal


def _is_switched(word: str) -> bool:
    """Whether what follows a switch is its value: img2dataset's words, or ours if no list is called so."""
    return word in ("True", "False") or (word in ("true", "false") and not Path(word).exists())


def _undashed(value: object) -> object:
    if isinstance(value, list):
        return [_undashed(each) for each in value]
    return "-" if value == _STDIN else value


def _sentence(command: Command, error: cyclopts.CycloptsError, options: Iterable[Option]) -> str:
    """One sentence, and what to do next."""
    see = f"'scraper {command.name} --help' lists the options."
    if isinstance(error, cyclopts.UnknownOptionError):
        token = error.token.keyword or error.token.value
        name = token.partition("=")[0]
        near = [f"--{each}" for each in likely(name.lstrip("-"), names_of(options))]
        hint = f"did you mean {either(near)}?" if near else see
        return f"There is no option {name}; {hint}"
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        return f"{error.keyword or error.argument.name} needs a value; {see}"
    if isinstance(error, cyclopts.RepeatArgumentError):
        return f"{error.token.keyword} is given more than once."
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"scraper {command.name} takes no list, only options; {see}"
    return " ".join(str(error).split()).rstrip(".") + f"; {see}"
