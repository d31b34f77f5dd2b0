"""What a run came to: as an object, as text for a terminal, as a page to look at.

    data.py      the ledger → Report: sums made by SQLite, a few sampled rows
    terminal.py  Report → text
    page.py      Report → report.html, with plots.py and thumbnails.py; needs the extra ``report``

Must never: hold all rows in memory; trust a URL or a message with anything but being shown.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

from scraper.errors import MissingExtra
from scraper.report.data import Failure, Picture, RateSlot, ReadItems, Report, TimeMeans, started_by
from scraper.report.terminal import render_summary, render_terminal, render_where

__all__ = [
    "Failure",
    "Picture",
    "RateSlot",
    "ReadItems",
    "Report",
    "TimeMeans",
    "render_summary",
    "render_terminal",
    "render_where",
    "started_by",
    "warm_up",
    "write_html",
]


def warm_up() -> None:
    """Import what the page needs, which takes a third of a second; nothing where the extra is not installed."""
    with contextlib.suppress(MissingExtra):
        importlib.import_module("scraper.report.page")


def write_html(report: Report, path: Path, read_items: ReadItems | None = None) -> None:
    """Write the page; a single file that asks for no other, under its name only when it is complete.

    Args:
        report: what to show.
        path: the page.
        read_items: gives back the bytes of written items, for the contact sheet; None for no pictures.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed. The run is none the worse for it.
        SinkFailed: the page cannot be written.
    """
    # Late, because these libraries take half a second to import.
    from scraper.report.page import write_page

    write_page(report, path, read_items)
