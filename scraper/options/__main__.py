"""``python -m scraper.options``: docs/options.md on stdout. Our own pipelines only, whatever else is installed."""

from __future__ import annotations

import sys

from scraper.options import img2dataset
from scraper.options.built_in import OriginOptions, ResultsOptions
from scraper.options.found import load
from scraper.options.page import by_group, page
from scraper.options.shared import InputOptions, PlaceOptions, RunOptions

OURS = ("images", "files")


def text() -> str:
    """The page as it should stand in docs/."""
    shared = [(PlaceOptions, "List and output"), (InputOptions, "Input"), (RunOptions, "Run")]
    commands = [(ResultsOptions, "`scraper results`"), (OriginOptions, "`scraper origin`")]
    kinds = [*((load(name).options, f"`scraper {name}`") for name in OURS), *shared, *commands]
    tables = page(section for kind, title in kinds for section in by_group(kind, title).items())
    return tables + img2dataset.section()


if __name__ == "__main__":
    sys.stdout.write(text())
