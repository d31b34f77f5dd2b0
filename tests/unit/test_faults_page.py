"""docs/faults.md against the tests: every row of the catalogue is there, and names a test that is there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from scraper.errors import outcome_class

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")

GROUPS = {"N": 15, "H": 25, "T": 10, "C": 5, "D": 7, "W": 9, "G": 7, "U": 9, "X": 17}
"""Rows of the catalogue in each group."""

ROWS = [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)] + ["P5"]
"""Of group P, pages, robots.txt alone is a matter of every run."""

_ROW = re.compile(r"^\| ([NHTCDWGUXP]\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@functools.cache
def _table() -> dict[str, tuple[str, str, str]]:
    found = _ROW.findall(PAGE)
    assert len(found) == len({row for row, *_ in found}), "a row stands there twice"
    return {row: (promise, classes, test) for row, promise, classes, test in found}


@functools.cache
def _tests() -> dict[str, set[str]]:
    """The test functions of each file, by its path in the repository."""
    return {
        str(path.relative_to(ROOT)): {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def test_every_row_of_the_catalogue_is_promised_or_explained() -> None:
    """No fault is passed over in silence."""
    assert sorted(_table()) == sorted(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_test_that_a_row_names_exists(row: str) -> None:
    """Where a row does not apply, the page says why instead."""
    _, _, named = _table()[row]
    if named == "-":
        return
    tests = _tests()
    for each in re.findall(r"`(.+?)`", named):
        path, _, name = each.partition("::")
        assert any(test.startswith(name) for test in tests[f"tests/{path}"]), each
        assert name.startswith(f"test_{row.lower()}_"), f"{each} does not say that it is about {row}"


@pytest.mark.parametrize("row", ROWS)
def test_the_classes_that_a_row_names_exist(row: str) -> None:
    """Each is on the closed list, or a family of it."""
    _, classes, _ = _table()[row]
    for name in re.findall(r"`([a-z_.0-9]+)`", classes):
        if name != "http.<status>":
            outcome_class(name)
