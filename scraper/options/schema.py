"""A dataclass becomes options: its fields give names, types and defaults, its docstring gives the help.

In: a dataclass with an ``Attributes:`` section. Out: ``Option`` records, and instances filled from raw values.
Must never: know which front end asks. The command line, TOML files, ``resume`` and Python calls all convert here,
so that a value means the same and is refused with the same sentence wherever it is said.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from scraper.errors import UsageError
from scraper.options.near import either, likely, nearest
from scraper.options.units import format_size, format_time, parse_size, parse_time

T = TypeVar("T")
Unit = Literal["", "size", "time"]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def option(
    default: object,
    *,
    unit: Unit = "",
    alias: Sequence[str] = (),
    short: str = "",
    group: str = "",
    shown: str | None = None,
    split: bool | Literal["bare"] = False,
    typed_only: bool = False,
) -> Any:  # what dataclasses.field returns, to a type checker, is the field's own type
    """A dataclass field with what its type cannot say.

    Args:
        default: its value when nothing is said.
        unit: ``size`` for bytes that may be typed as 64M, ``time`` for seconds that may be typed as 2m.
        alias: other names it answers to.
        short: its one-letter form, as ``-o``.
        group: heading in the help; the dataclass's own where empty.
        shown: what the help shows as default, where the value itself says nothing.
        split: a repeated option whose values may also be joined by commas, or be a JSON list; ``bare`` for one
            that may stand without a value, and takes one only as ``--name=value``.
        typed_only: belongs to one command line; refused in a file.
    """
    metadata = {
        "unit": unit,
        "alias": tuple(alias),
        "short": short,
        "group": group,
        "shown": shown,
        "split": split,
        "typed_only": typed_only,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, as every front end sees it.

    Attributes:
        field: the dataclass's attribute.
        kind: str, int, float or bool.
        help: what it does, from the docstring.
        default: its value when nothing is said.
        shown: that value as help and docs show it.
        repeated: may be given more than once.
        optional: None is a value.
        choices: all values there are, if they are few.
        unit: see ``option``.
        aliases: other names, with dashes.
        short: see ``option``.
        group: heading in the help.
        split: see ``option``.
        bare: its ``split`` is that.
        typed_only: see ``option``.
    """

    field: str
    kind: type
    help: str
    default: object
    shown: str
    repeated: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    unit: Unit = ""
    aliases: tuple[str, ...] = ()
    short: str = ""
    group: str = ""
    split: bool = False
    bare: bool = False
    typed_only: bool = False

    @property
    def name(self) -> str:
        """As one types it, without the two dashes."""
        return dashed(self.field)

    @property
    def metavar(self) -> str:
        """What stands for the value in the help; empty for a switch."""
        if self.kind is bool:
            return ""
        if self.bare:
            return "[=TEXT]"
        if self.choices:
            return "|".join(self.choices)
        return {"size": "SIZE", "time": "TIME"}.get(self.unit, "TEXT" if self.kind is str else "N")


def dashed(field: str) -> str:
    """``image_size`` → ``image-size``; a trailing underscore, which keeps ``class_`` legal, goes."""
    return field.rstrip("_").replace("_", "-")


def options_of(kind: type) -> list[Option]:
    """The options of a dataclass, in the order of its fields."""
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    helps = _attribute_help(inspect.getdoc(kind) or "")
    return [_option_of(field, hints[field.name], helps) for field in dataclasses.fields(kind) if field.init]


def _option_of(field: dataclasses.Field[Any], hint: Any, helps: Mapping[str, str]) -> Option:
    arguments = typing.get_args(hint)
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in arguments
    if optional:
        hint = next(each for each in arguments if each is not type(None))
    repeated = typing.get_origin(hint) is tuple
    if repeated:
        hint = typing.get_args(hint)[0]
    choices = tuple(str(each) for each in typing.get_args(hint)) if typing.get_origin(hint) is Literal else ()
    said = field.metadata
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    unit: Unit = said.get("unit", "")
    shown = said.get("shown")
    return Option(
        field=field.name,
        kind=str if choices else hint,
        help=helps.get(field.name, ""),
        default=default,
        shown=shown_value(default, unit) if shown is None else shown,
        repeated=repeated,
        optional=optional,
        choices=choices,
        unit=unit,
        aliases=tuple(dashed(each) for each in said.get("alias", ())),
        short=said.get("short", ""),
        group=said.get("group", ""),
        split=bool(said.get("split", False)),
        bare=said.get("split") == "bare",
        typed_only=said.get("typed_only", False),
    )


def shown_value(value: object, unit: Unit = "") -> str:
    """A value as one types it; empty for a switch and where there is nothing to type."""
    if value is None or value == () or isinstance(value, bool) or value is dataclasses.MISSING:
        return ""
    if isinstance(value, int | float) and unit:
        return format_size(value) if unit == "size" else format_time(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _attribute_help(docstring: str) -> dict[str, str]:
    """The ``Attributes:`` section of a Google style docstring: name → text on one line."""
    _, _, section = docstring.partition("Attributes:\n")
    helps: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            helps[name] = entry[2]
        elif name and line.startswith(" " * 8):
            helps[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            break
    return helps


def convert(option: Option, raw: object, where: str) -> object:
    """A value as it was said → the value the dataclass holds.

    Args:
        option: what it is for.
        raw: a string, or a value of a TOML file or a Python call.
        where: what to call it in the refusal: ``--timeout``, ``timeout in run.toml``.

    Raises:
        UsageError: it is not a value of this option.
    """
    if raw is None and option.optional:
        return None
    if option.bare and isinstance(raw, bool):  # a program says it so
        return () if raw else option.default
    if option.repeated:
        return tuple(_convert_one(option, each, where) for each in _several(option, raw))
    return _convert_one(option, raw, where)


def _several(option: Option, raw: object) -> Iterable[object]:
    values: list[object] = list(raw) if isinstance(raw, list | tuple) else [raw]
    if not option.split:
        return values
    return [part for value in values for part in (_split(value) if isinstance(value, str) else [value])]


def _split(value: str) -> list[object]:
    if value.lstrip().startswith("["):
        try:
            return list(json.loads(value))
        except ValueError:
            raise UsageError(f'{value!r} is no list; write a,b or ["a","b"].') from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _convert_one(option: Option, raw: object, where: str) -> object:
    if option.kind is bool:
        return _convert_bool(raw, where)
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise UsageError(f"{where} wants {_noun(option)}, not {_as_written(raw)}.")
    text = str(raw)
    if option.choices:
        return _convert_choice(option, text, where)
    try:
        if option.unit == "size":
            return parse_size(text)
        if option.unit == "time":
            return parse_time(text)
        return option.kind(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except ValueError:
        raise UsageError(f"{where} wants {_noun(option)}, not {text!r}.") from None


def _noun(option: Option) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    if option.unit:
        return f"a {option.unit}"
    return {int: "a whole number", float: "a number"}.get(option.kind, "text")


def _as_written(raw: object) -> str:
    """A value as the file or the program that holds it spells it."""
    return str(raw).lower() if isinstance(raw, bool) else repr(raw)


def _convert_bool(raw: object, where: str) -> bool:
    if isinstance(raw, bool):
        return raw
    text = str(raw).lower()
    if text not in _TRUE + _FALSE:
        raise UsageError(f"{where} is a switch: it wants true or false, not {raw!r}.")
    return text in _TRUE


def _convert_choice(option: Option, text: str, where: str) -> str:
    """Dashes, underscores and case do not matter: ``keep-ratio`` is ``keep_ratio``."""
    by_plain = {_plain(each): each for each in option.choices}
    found = by_plain.get(_plain(text))
    if found is None:
        near = nearest(_plain(text), by_plain)
        hint = f" Did you mean {by_plain[near]}?" if near else ""
        raise UsageError(f"{where} is one of {', '.join(option.choices)}; {text!r} is not.{hint}")
    return found


def _plain(text: str) -> str:
    return text.lower().replace("-", "_")


def taken(kind: type[T], values: Mapping[str, object]) -> T:
    """An instance of an options dataclass from those of the converted values that are its own."""
    own = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type] # every T is a dataclass
    return kind(**{name: value for name, value in values.items() if name in own})


def filled(kind: type[T], options: T | None, settings: Mapping[str, object]) -> T:
    """What a pipeline's ``build(options, **settings)`` was asked for: ``settings`` over ``options`` over defaults.

    Raises:
        UsageError: a setting does not exist, or its value is none; the nearest right name is given.
    """
    known = names_of(options_of(kind))
    values = {(each := find(name, known)).field: convert(each, raw, name) for name, raw in settings.items()}
    base = kind() if options is None else options
    return dataclasses.replace(base, **values)  # type: ignore[type-var] # every T is a dataclass


def names_of(options: Iterable[Option]) -> dict[str, Option]:
    """Every name and alias, with dashes → its option."""
    return {name: each for each in options for name in (each.name, *each.aliases)}


def find(name: str, known: Mapping[str, Option], where: str = "") -> Option:
    """The option of that name, dashes and underscores alike.

    Raises:
        UsageError: there is none; the nearest right one is named.
    """
    found = known.get(dashed(name))
    if found is None:
        near = likely(dashed(name), known)
        hint = f"; did you mean {either(near)}?" if near else "."
        raise UsageError(f"There is no option {name!r}{where}{hint}")
    return found
