"""Command line over ``--set`` over ``--config`` file over what an earlier run stored over default.

In: the layers as they were said. Out: one value an option, converted, and complaints that name the layer.
Must never: let a misspelt key pass in silence, in any layer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scraper.errors import UsageError
from scraper.options.near import nearest
from scraper.options.politeness import as_lines, over
from scraper.options.schema import Option, convert, find, names_of, options_of

HOSTS = "hosts"
"""The table of a file that belongs to no pipeline."""


@dataclass(frozen=True, slots=True)
class Layers:
    """All that was said about one run, unconverted.

    Attributes:
        typed: from the command line, by field name.
        sets: the ``key=value`` of each ``--set``.
        config: the ``--config`` file, if any.
        stored: what an earlier run of the same output was told.
    """

    typed: Mapping[str, object]
    sets: Sequence[str] = ()
    config: str | None = None
    stored: Mapping[str, object] | None = None


def merge(layers: Layers, kinds: Sequence[type], pipeline: str, others: Collection[str] = ()) -> dict[str, object]:
    """Put the layers on top of each other.

    Args:
        layers: what was said.
        kinds: the options dataclasses that are asked about.
        pipeline: name of the sub-command: its table in the TOML file counts, those of ``others`` do not.
        others: names of the other sub-commands.

    Returns:
        Field name → converted value, for what was said only.

    Raises:
        UsageError: a key, a value or the file is not what it should be.
    """
    known = names_of(each for kind in kinds for each in options_of(kind))
    values: dict[str, object] = {}
    if layers.stored:
        values = _taken(layers.stored, known, "{name}, as stored in the output folder,")
    if layers.config:
        path = Path(layers.config)
        said = _flattened(_read_toml(path), path.name, pipeline, others)
        values = _over(values, _taken(said, known, f"{{name}} in {path.name}", from_file=f" in {path.name}"))
    if layers.sets:
        values = _over(values, _taken(_pairs(layers.sets), known, "--set {name}", from_file=" for --set"))
    return _over(values, _taken(layers.typed, known, "--{name}"))


def _over(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """A layer on what lies below it. Limits of hosts are laid over those of the same hosts only."""
    values = {**before, **after}
    if HOSTS in before and HOSTS in after:
        values[HOSTS] = over(_listed_texts(before[HOSTS]), _listed_texts(after[HOSTS]))
    return values


def _listed_texts(value: object) -> list[str]:
    return list(map(str, value)) if isinstance(value, tuple) else []


def _taken(
    said: Mapping[str, object], known: Mapping[str, Option], where: str, from_file: str = ""
) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, raw in said.items():
        found = find(name, known, from_file)
        if from_file and found.typed_only:
            raise UsageError(f"{found.name} cannot stand{from_file}; type --{found.name} instead.")
        if found.field in values:
            raise UsageError(f"{found.name} is given twice{from_file}.")
        values[found.field] = convert(found, raw, where.format(name=found.name))
    return values


def _pairs(sets: Sequence[str]) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set wants key=value, not {text!r}.")
        name = key.strip()
        earlier = pairs.get(name)
        # A repeated option takes all its values, any other is refused by its type: a list is no number.
        pairs[name] = value.strip() if earlier is None else [*_listed(earlier), value.strip()]
    return pairs


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path} for --config.") from None
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is not valid TOML: {error}.") from error


def _flattened(
    document: Mapping[str, object], file: str, pipeline: str, others: Collection[str]
) -> dict[str, object]:
    """The top-level keys, with those of the pipeline's own table over them."""
    plain = {key: value for key, value in document.items() if not isinstance(value, dict)}
    for name, table in document.items():
        if not isinstance(table, dict):
            continue
        if name == HOSTS:
            plain[HOSTS] = as_lines(table, f"[{HOSTS}] in {file}")
            continue
        if name == pipeline:
            own = {_spelled(key): value for key, value in table.items()}
            plain = {key: value for key, value in plain.items() if _spelled(key) not in own} | table
        elif name not in others:
            near = nearest(name, [pipeline, *others, HOSTS])
            hint = f"; did you mean [{near}]?" if near else "."
            raise UsageError(f"There is no pipeline [{name}] for the table in {file}{hint}")
    return plain


def _spelled(key: str) -> str:
    return key.replace("-", "_")
