"""The documentation says what the program does."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest

from scraper.cli.job import understand
from scraper.cli.parse import parse
from scraper.cli.table import BUILT_IN
from scraper.options.__main__ import text
from scraper.options.found import installed, load

ROOT = Path(__file__).resolve().parents[2]
TOPS = (ROOT, ROOT / "scraper")
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def test_the_options_page_is_current() -> None:
    """docs/options.md is what the options generate: after a change, `make docs`."""
    assert (ROOT / "docs" / "options.md").read_text() == text()


def test_the_outcomes_page_is_current() -> None:
    """docs/outcomes.md is what the closed list of classes generates: after a change, `make docs`."""
    page = runpy.run_path(str(ROOT / "tools" / "outcomes_page.py"))["page"]
    assert (ROOT / "docs" / "outcomes.md").read_text() == page()


def test_every_option_has_a_help() -> None:
    """No row of the options page is without a meaning."""
    rows = [line for line in text().splitlines() if line.startswith("| `--")]
    assert len(rows) > 25
    assert [row for row in rows if not row.rsplit("|", 2)[1].strip()] == []


def _fences(page: Path, *kinds: str) -> list[str]:
    """The code blocks of a page that are of one of the kinds."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [body for kind, body in found if kind in kinds]


def commands() -> list[str]:
    """Each line of the README and the docs that runs `scraper`, its comment and its pipes cut off."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [
        line.partition("  #")[0]
        for page in pages
        for block in _fences(page, "sh", "bash", "console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part.strip().removeprefix("$ ") for line in lines for part in line.split(" | ")]
    return sorted({part for part in parts if part.startswith("scraper ")})


def test_the_readme_has_commands() -> None:
    """The search for commands finds the README's."""
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_documented_commands_parse(command: str) -> None:
    """Whatever the documentation tells people to type is accepted, and complete."""
    words = shlex.split(command.partition(" >")[0])[1:]
    if words in (["--version"], ["--help"]):
        return
    name, rest = words[0], words[1:]
    if name == "resume":
        assert rest
        assert not rest[0].startswith("-")
    elif name in BUILT_IN:
        assert parse(BUILT_IN[name], rest) is not None
    elif "--config" not in rest:  # the file is not there
        job = understand(load(name), rest, list(installed()))
        assert job is not None
        assert job.out or job.run.dry_run


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each link to a file of ours points to one."""
    path = ROOT / page
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def paths_named(page: str) -> list[str]:
    """What a page puts in backticks and begins with a folder of ours, told from the root or from the package.

    What begins with a dot further down is made by whoever uses it.
    """
    named = re.findall(r"`([a-z]+/(?:[\w-][\w.-]*/?)*)`", page)
    return [each for each in named if any((top / each.partition("/")[0]).is_dir() for top in TOPS)]


def test_a_path_in_backticks_is_seen() -> None:
    """Folders and files of ours are found, and nobody else's."""
    page = (
        "`scraper/gone.py`, `policies/`; not `items/`, `OUT/x`, `benchmarks/.peers/`, docs/x.md, `scraper images`"
    )
    assert paths_named(page) == ["scraper/gone.py", "policies/"]


@pytest.mark.parametrize("page", PAGES)
def test_paths_named_in_the_text_exist(page: str) -> None:
    """Each file or folder of ours that a page names is there."""
    named = paths_named((ROOT / page).read_text())
    assert [each for each in named if not any((top / each).exists() for top in TOPS)] == []


def test_python_in_the_readme_is_python() -> None:
    """Each Python block can be compiled."""
    for block in _fences(ROOT / "README.md", "python"):
        ast.parse(block)
