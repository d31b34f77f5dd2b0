"""The pipelines that are installed, ours and strangers', by the same door: the entry-point group.

In: what ``importlib.metadata`` finds under ``scraper.pipelines``: modules with an ``Options`` dataclass and a
``build(options)``. Out: those two and a summary. Must never: import a pipeline that was not asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from scraper.config import Pipeline
from scraper.errors import ScraperError, UsageError
from scraper.options.near import nearest

GROUP = "scraper.pipelines"


@dataclass(frozen=True, slots=True)
class FoundPipeline:
    """A pipeline module, loaded.

    Attributes:
        name: the sub-command.
        options: its Options dataclass.
        build: Options → Pipeline.
        summary: first line of the module's docstring.
    """

    name: str
    options: type
    build: Callable[[object], Pipeline]
    summary: str


def installed() -> dict[str, EntryPoint]:
    """Name → entry point, sorted by name. 30 ms, which is why the built-in sub-commands do not ask.

    Raises:
        UsageError: two packages claim one name.
    """
    found: dict[str, EntryPoint] = {}
    for each in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        known = found.setdefault(each.name, each)
        if known.value != each.value:
            raise UsageError(
                f"Two installed packages have a pipeline {each.name!r} ({known.value} and {each.value}); "
                "uninstall one of them."
            )
    return found


def load(name: str) -> FoundPipeline:
    """Import one pipeline.

    Raises:
        UsageError: there is none of that name, or it is no pipeline.
    """
    known = installed()
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there is: {', '.join(known)}."
        raise UsageError(f"There is no pipeline {name!r}; {hint}")
    try:
        module = known[name].load()
    except ScraperError:
        raise
    except Exception as error:  # a stranger's module may fail in any way
        raise UsageError(f"The pipeline {name!r} ({known[name].value}) cannot be loaded: {error}") from error
    options, build = getattr(module, "Options", None), getattr(module, "build", None)
    if not (isinstance(options, type) and dataclasses.is_dataclass(options) and callable(build)):
        raise UsageError(f"The pipeline {name!r} ({known[name].value}) lacks an Options dataclass or a build().")
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return FoundPipeline(name, options, build, summary)
