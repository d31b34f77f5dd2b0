"""The habits of the house that a machine can check."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("scraper", "pipelines", "examples", "benchmarks", "tools")
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 400, 60, 8

TABLES = {"_table"}
"""Functions that are one literal: the closed list of outcome classes."""

OWN_TASKS = {
    "scraper/api.py": "the first row and the wish to stop race; both are cancelled once one has come",
    "scraper/engines/committer.py": "a commit that a cancellation must not tear; whoever began it awaits it",
    "scraper/progress.py": "drawn beside the engine's own group, whose end must not wait for a redraw",
}
"""Modules that make a task outside of a TaskGroup, and why: each holds on to it itself."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Every Python file of ours under the folders: environments that were made there begin with a dot."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file, parsed; once, for all tests that look at it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[_Function]:
    """Every function of a file, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, _Function):
            yield node


def _named(path: Path, what: object) -> str:
    return f"{path.relative_to(ROOT)}: {what}"


def test_files_are_short() -> None:
    """A file can be read in one sitting."""
    long = {_named(path, n) for path in sources(*CODE) if (n := len(path.read_text().splitlines())) > MAX_FILE}
    assert long == set()


def test_functions_are_short() -> None:
    """A function fits on a screen, its docstring not counted."""
    long = []
    for path in sources(*CODE):
        for each in functions(path):
            has_docstring = ast.get_docstring(each) is not None
            first = each.body[1] if has_docstring and len(each.body) > 1 else each.body[0]
            lines = (each.end_lineno or 0) - first.lineno + 1
            if lines > MAX_FUNCTION and each.name not in TABLES:
                long.append(_named(path, f"{each.name} has {lines} lines"))
    assert long == []


def test_functions_have_few_parameters() -> None:
    """More than eight parameters are a missing dataclass."""
    wide = []
    for path in sources(*CODE):
        for each in functions(path):
            said = each.args
            names = [one.arg for one in (*said.posonlyargs, *said.args, *said.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            # api.arun is the whole surface at once; each parameter there is a keyword with a default.
            if count > MAX_PARAMETERS:
                wide.append(_named(path, f"{each.name} has {count}"))
    assert wide == []


def test_every_module_says_what_it_is() -> None:
    """Each module begins with a docstring."""
    silent = [
        _named(path, "no docstring")
        for path in sources("scraper", "pipelines")
        if path.read_text().strip() and ast.get_docstring(tree(path)) is None
    ]
    assert silent == []


def test_every_test_says_what_it_promises() -> None:
    """Each test has a docstring."""
    silent = [
        _named(path, each.name)
        for path in sources("tests")
        for each in functions(path)
        if each.name.startswith("test_") and ast.get_docstring(each) is None
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("folders", "pattern", "why"),
    [
        (("tests",), r"unittest[.]mock|from unittest import mock", "fakes are in scraper.testing"),
        (("tests/unit",), r"\btime[.]sleep\(", "wait for an event, or use the virtual clock"),
    ],
)
def test_nobody_writes(folders: tuple[str, ...], pattern: str, why: str) -> None:
    """What has a better way here is not written."""
    me = Path(__file__)
    found = [
        _named(path, f"line {number}: {why}")
        for path in sources(*folders)
        if path != me
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def makes_own_task(module: ast.Module) -> bool:
    """Whether a module makes a task that is in no TaskGroup: by asyncio's own functions or by the loop's."""
    return any(
        isinstance(node, ast.Attribute)
        and (node.attr == "ensure_future" or (node.attr == "create_task" and _is_no_group(node.value)))
        for node in ast.walk(module)
    )


def _is_no_group(owner: ast.expr) -> bool:
    if isinstance(owner, ast.Call):  # asyncio.get_running_loop().create_task
        return True
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return name == "asyncio" or name.endswith("loop")


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("asyncio.create_task(f())", True),
        ("asyncio.ensure_future(f())", True),
        ("loop.create_task(f())", True),
        ("self._loop.create_task(f())", True),
        ("asyncio.get_running_loop().create_task(f())", True),
        ("group.create_task(f())", False),
        ("self._group.create_task(f())", False),
    ],
)
def test_a_task_of_ones_own_is_seen(source: str, own: bool) -> None:
    """Each way to make a task outside of a group is found, and a group's is none."""
    assert makes_own_task(ast.parse(source)) is own


def test_tasks_live_in_a_task_group() -> None:
    """A task that nobody waits for fails in silence; and no module is excused that makes none."""
    found = {str(path.relative_to(ROOT)) for path in sources("scraper", "pipelines") if makes_own_task(tree(path))}
    assert found == set(OWN_TASKS)


def test_only_the_command_line_prints() -> None:
    """A library that prints cannot be used by another program."""
    found = []
    for path in sources("scraper", "pipelines"):
        if path.is_relative_to(ROOT / "scraper" / "cli"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(_named(path, node.lineno))  # noqa: PERF401 - three conditions read better apart
    assert found == []


def test_only_the_command_line_touches_signals() -> None:
    """A library that takes signals cannot be used by another program; child processes are their own masters."""
    children = {"scraper/origin/__main__.py", "scraper/worker.py", "scraper/workers.py"}
    found = [
        _named(path, "signal")
        for path in sources("scraper", "pipelines")
        if not path.is_relative_to(ROOT / "scraper" / "cli")
        and str(path.relative_to(ROOT)) not in children
        and re.search(r"add_signal_handler|signal\.signal\(", path.read_text())
    ]
    assert found == []
