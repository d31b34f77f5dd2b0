"""The user's own function, run in the workers on each result: ``--transform my.module:function``.

In: the name of a plain Python function, and any transform. Out: that transform's items as the function keeps,
drops or changes them. Must never: import a module that the user did not name; let an error of the function's
cost another row its result.

The function gets a ``Sample`` and answers with True (keep), False or a text (leave out, for that reason), or
with an Item or a list of Items that take the place of what there was: docs/transforms.md.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scraper.errors import RowFailed, TransformFailed, UsageError
from scraper.policies.names import COLUMNS
from scraper.records import Item, Response
from scraper.transforms.around import Around

LEFT_OUT = "filtered.function"

_ANSWERS = "True, False, a text, an Item or a list of Items"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the user's function is given: one row that was fetched, and what has become of it so far.

    Everything in it is a copy, and may be kept.

    Attributes:
        url: as the list has it.
        items: what would be written; at least one.
        body: the bytes as they came.
        caption: the row's caption, if there is a ``--caption-col``.
        columns: the row's further columns: those of ``--save-additional-columns``.
        headers: of the response, names in lower case.
        final_url: where redirects led.
        row: the row's number.
    """

    url: str
    items: Sequence[Item]
    body: bytes = b""
    caption: str | None = None
    columns: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    final_url: str = ""
    row: int = 0

    @property
    def item(self) -> Item:
        """The first item; most rows have one."""
        return self.items[0]


OUTPUT_SHA256 = "output_sha256"
_OURS = frozenset(COLUMNS) - {"width", "height", "original_width", "original_height", "exif"}

Answer = bool | str | Item | Sequence[Item]
Function = Callable[[Sample], Answer]


@dataclass(frozen=True)
class UserTransform(Around):
    """A transform whose items go through the user's function.

    Attributes:
        inner: makes the items.
        name: ``module:function``.
        folder: where modules are looked for last, beside those that are installed.
    """

    name: str
    folder: str

    @property
    def inline(self) -> bool:
        """Never on the loop: nobody knows how long a function of the user's takes."""
        return False

    def warm_up(self) -> None:
        """As the transform does; and import the function, which each worker does for itself."""
        super().warm_up()
        function_of(self.name, self.folder)

    def __call__(self, response: Response) -> Sequence[Item]:
        """Transform, and do as the function says.

        Raises:
            TransformFailed: filtered.function, transform.error, or what the transform raises.
        """
        items = self.inner(response)
        function = function_of(self.name, self.folder)
        sample = _sample(response, items)
        try:
            answer = function(sample)
        except (RowFailed, MemoryError):
            raise
        except Exception as error:
            raise TransformFailed("transform.error", f"{self.name}: {_told(error, function)}") from error
        return self._decided(answer, items, sample)

    def _decided(self, answer: object, items: Sequence[Item], sample: Sample) -> Sequence[Item]:
        if type(answer).__module__ == "numpy" and hasattr(answer, "item"):
            answer = answer.item()  # its comparisons give truth values of its own
        if answer is True or answer is sample.items:
            return items
        if answer is False or isinstance(answer, str):
            raise TransformFailed(LEFT_OUT, answer or f"{self.name} leaves it out.")
        if isinstance(answer, Item):
            return [self._checked(answer, sample)]
        if isinstance(answer, list | tuple) and all(isinstance(each, Item) for each in answer):
            if not answer:
                raise TransformFailed(LEFT_OUT, f"{self.name} leaves no item of it.")
            return [self._checked(each, sample) for each in answer]
        what = "nothing" if answer is None else f"a {type(answer).__name__}"
        raise TransformFailed("transform.error", f"{self.name} returned {what}; it returns {_ANSWERS}.")

    def _checked(self, item: Item, sample: Sample) -> Item:
        """An item of the function's: what it says of itself is true, and none of it would be lost."""
        lost = sorted(_OURS.intersection(item.fields))
        if lost:
            raise TransformFailed(
                "transform.error",
                f"{self.name} sets the field {lost[0]!r}, which is a column of the row's own: use another name.",
            )
        if OUTPUT_SHA256 not in item.fields or any(item.data is each.data for each in sample.items):
            return item
        return replace(item, fields={**item.fields, OUTPUT_SHA256: hashlib.sha256(item.data).hexdigest()})


def _sample(response: Response, items: Sequence[Item]) -> Sample:
    body = bytes(response.body)

    def owned(item: Item) -> Item:
        if isinstance(item.data, bytes):
            return item
        return replace(item, data=body if item.data is response.body else bytes(item.data))

    request = response.request
    return Sample(
        url=request.url,
        items=[owned(item) for item in items],
        body=body,
        caption=request.caption,
        columns=request.columns,
        headers=response.headers,
        final_url=response.url,
        row=request.row,
    )


def _told(error: Exception, function: Function) -> str:
    """What went wrong, and where in the user's file."""
    file = getattr(inspect.unwrap(function), "__code__", None)
    lines = [
        each.lineno
        for each in traceback.extract_tb(error.__traceback__)
        if file and _is_in(each, file.co_filename)
    ]
    where = f" ({Path(file.co_filename).name}, line {lines[-1]})" if file and lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _is_in(frame: traceback.FrameSummary, file: str) -> bool:
    return frame.filename == file


def name_of(function: object) -> str:
    """The name by which worker processes find a function that a program gives.

    Raises:
        UsageError: they would not find it.
    """
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not callable(function) or not module or not name or "<" in name:
        shown = name if isinstance(name, str) else type(function).__name__
        raise UsageError(
            f"transform={shown} cannot be found by worker processes: give a function that is written at the top "
            "level of a module, not a lambda and not one inside another."
        )
    return f"{module}:{name}"


@functools.cache
def function_of(name: str, folder: str) -> Function:
    """Import the function.

    Args:
        name: ``module:function``.
        folder: appended to ``sys.path``, so that what is installed goes before what merely lies there.

    Raises:
        UsageError: there is none of that name, or it is none that can be called.
    """
    module_name, colon, path = name.partition(":")
    is_file = module_name.endswith(".py")
    if is_file or not colon or not path or not all(part.isidentifier() for part in module_name.split(".")):
        hint = " (without .py)" if is_file else ""
        raise UsageError(f"--transform wants module:function{hint}, as filters:is_bright, not {name!r}.")
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"--transform {name}: {_why_not(module_name, folder, error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UsageError(f"--transform {name}: {module_name} has no {part}{hint}")
        found = getattr(found, part)
    if not callable(found) or inspect.iscoroutinefunction(found):
        what = "an async function: write it with def" if callable(found) else f"of type {type(found).__name__}"
        raise UsageError(f"--transform {name} is no plain function, but {what}.")
    function: Function = found
    return function


def _why_not(module: str, folder: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        where = f"neither installed nor in {folder}"
        return f"there is no module {error.name}, {where}: change to its folder, or install it."
    return f"importing {module} failed: {type(error).__name__}: {error}"


def here() -> str:
    """The folder the command is given in."""
    return os.getcwd()  # noqa: PTH109 - text, for sys.path
