"""What ``scraper`` exports, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scraper

INIT = Path(scraper.__file__)


@pytest.mark.parametrize("name", scraper.__all__)
def test_every_exported_name_resolves(name: str) -> None:
    """Each name of ``__all__`` is there, and is found by ``dir``."""
    assert getattr(scraper, name) is not None
    assert name in dir(scraper)


def test_no_exported_name_is_private() -> None:
    """What is exported is public, but for the version."""
    assert [name for name in scraper.__all__ if name.startswith("_")] == ["__version__"]


def test_the_names_are_sorted() -> None:
    """Sorted as ruff sorts: constants, classes, functions."""
    assert len(set(scraper.__all__)) == len(scraper.__all__)
    assert scraper.__all__[-3:] == sorted(scraper.__all__[-3:])


def test_type_checkers_and_the_interpreter_see_the_same() -> None:
    """The imports for type checkers and the table for lookups name the same things in the same homes."""
    told = {
        (alias.name, node.module)
        for node in ast.walk(ast.parse(INIT.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "__future__")
        for alias in node.names
    }
    found = {(name, home) for name, home in scraper._HOME_OF.items()} | {("__version__", "scraper._version")}
    assert told == found
    assert {name for name, _ in told} == set(scraper.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as on any module."""
    with pytest.raises(AttributeError, match="no attribute 'ruin'"):
        scraper.ruin  # noqa: B018 - looking is what is tested


def _loaded_by(code: str) -> set[str]:
    """Foreign libraries that are loaded after running ``code`` in a fresh interpreter."""
    ask = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize(
    "code",
    [
        "import scraper",
        "import scraper.cli; scraper.cli.main(['--version'])",
        "from scraper import Pipeline, Response, UsageError, option",
        "from scraper.options import RunOptions",
    ],
)
def test_light_imports_stay_light(code: str) -> None:
    """What needs no library loads none."""
    heavy = {
        "aiohttp",
        "aiofiles",
        "uvloop",
        "cyclopts",
        "rich",
        "PIL",
        "pyarrow",
        "matplotlib",
        "msgspec",
        "yarl",
    }
    assert _loaded_by(code) & heavy == set()


def test_a_refusal_loads_no_engine() -> None:
    """A misspelt option is refused before anything that fetches or decodes is imported."""
    loaded = _loaded_by("from scraper.cli import main; main(['images', 'x', '--concurency', '3'])")
    assert "cyclopts" in loaded
    assert loaded & {"aiohttp", "PIL", "uvloop", "pyarrow", "matplotlib"} == set()
