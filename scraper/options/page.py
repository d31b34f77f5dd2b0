"""Writes docs/options.md. In: options dataclasses. Out: Markdown. Must never: say what a field does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scraper.options.schema import Option, options_of

_HEAD = """\
# Options

Generated from the options' own fields and docstrings by `make docs`; a test fails when this page lags.

Where an option can be said, the strongest first: on the command line as `--name value`, as `--set name=value`, as
`name = value` in the TOML file that `--config` names, at top level or in a table called like the pipeline
(`[images]`). What is said nowhere has its default. Dashes and underscores are the same everywhere, in names and in
choices. A name that does not exist is refused in every layer.

Sizes take `k`, `M`, `G`, `T`, which are steps of 1024; a plain number is bytes. Times take `ms`, `s`, `m`, `h`,
`d`; a plain number is seconds. A switch is given as `--name`, or as `--name=true`, `--name=false`.
"""


def page(sections: Iterable[tuple[str, Sequence[Option]]]) -> str:
    """The whole page: a heading and a table for each section."""
    return _HEAD + "".join(_section(title, options) for title, options in sections)


def by_group(kind: type, title: str) -> dict[str, list[Option]]:
    """The options of a dataclass under their headings, in the order they are written."""
    groups: dict[str, list[Option]] = {}
    for each in options_of(kind):
        groups.setdefault(each.group or title, []).append(each)
    return groups


def _section(title: str, options: Sequence[Option]) -> str:
    rows = "".join(
        f"| `--{each.name}{_value(each)}`{_aliases(each)} "
        f"| {_cell(each.shown) or '-'} | {_cell(each.help)}{_note(each)} |\n"
        for each in options
    )
    return f"\n## {title}\n\n| option | default | meaning |\n|---|---|---|\n{rows}"


def _value(each: Option) -> str:
    space = "" if each.bare or not each.metavar else " "
    return space + _cell(each.metavar)


def _aliases(each: Option) -> str:
    names = [*([each.short] if each.short else []), *(f"--{alias}" for alias in each.aliases)]
    return "".join(f"<br>`{name}`" for name in names)


def _note(each: Option) -> str:
    return " Command line only." if each.typed_only else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
