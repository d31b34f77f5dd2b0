"""``python -m scraper.options``: docs/options.md on stdout. Our own pipelines only, whatever else is installed."""

from __future__ import annotations

import sys

from scraper.options import img2dataset
from scraper.options.built_in import OriginOptions, ResultsOptions
from scraper.options.found import load
from scraper.options.page import by_group, page
from scraper.options.shared import SHARED

OURS = ("images", "files")


def text() -> str:
    """The page as it should stand in docs/."""
    shared = list(zip(SHARED, ("List and output", "Input", "Results", *4 * ["Run"]), strict=True))
    commands = [(ResultsOptions, "`scraper results`"), (OriginOptions, "`scraper origin`")]
    kinds = [*((load(name).options, f"`scraper {name}`") for name in OURS), *shared, *commands]
    tables = page(section for kind, title in kinds for section in by_group(kind, title).items())
    return tables + img2dataset.section()


if __name__ == "__main__":
    sys.stdout.write(text())
