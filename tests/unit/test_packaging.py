"""What is installed is what is in the tree, and what the tree needs is declared."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scraper._version import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _name(requirement: str) -> str:
    """The distribution that a requirement names, in one spelling."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def requirements() -> set[str]:
    """Every distribution that the package or one of its extras asks for."""
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return {_name(each) for one in lists for each in one}


def pinned() -> dict[str, str]:
    """Name → version of the constraints file."""
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def test_every_package_is_listed() -> None:
    """A folder that the wheel would leave out is noticed here, not by a user."""
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("scraper", "pipelines")
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_every_requirement_is_pinned() -> None:
    """The constraints name a version for whatever is asked for, in bare lines, sorted."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert requirements() <= set(pinned())
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.+]*", line)] == []
    assert list(pinned()) == sorted(pinned())


def test_the_pins_are_installed() -> None:
    """What is tested is what the constraints say: `make setup` after changing them."""
    command = [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this environment was made without pip")
    have = dict(line.lower().replace("_", "-").split("==") for line in listed.stdout.splitlines() if "==" in line)
    assert {name: have.get(name) for name in pinned() if name in have and have[name] != pinned()[name]} == {}


def test_every_dependency_is_explained() -> None:
    """docs/dependencies.md has a row for each direct dependency."""
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert [each for each in sorted(requirements()) if f"| {each} " not in page] == []


def test_the_changelog_knows_this_version() -> None:
    """The newest entry is for the version that the code says."""
    first = re.search(r"^## \[?([^\] ]+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert first is not None
    assert first[1] in (__version__, "Unreleased")


def test_the_makefile_explains_itself() -> None:
    """`make` alone lists every target with what it does."""
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    )
    for target in ("setup", "demo", "test", "check", "fix", "smoke", "bench", "wc", "docs"):
        assert re.search(rf"^  make {target} +\w", shown.stdout, flags=re.MULTILINE), target


def test_types_are_shipped() -> None:
    """Both packages carry the marker that they are typed."""
    assert all((ROOT / package / "py.typed").is_file() for package in ("scraper", "pipelines"))


def test_scripts_are_valid_shell() -> None:
    """The scripts that set up and check parse, and may be executed."""
    for script in (*sorted((ROOT / "tools").glob("*.sh")), ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert script.stat().st_mode & 0o111, script
