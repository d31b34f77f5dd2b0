"""A Report as one HTML file. Needs the extra ``report``.

In: a Report. Out: a page that asks for nothing from anywhere: styles, plots and pictures are inside it.
Must never: let a URL or a message act as anything but text; leave half a page under the final name.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from urllib.parse import urlsplit

from scraper._version import __version__
from scraper.errors import MissingExtra, SinkFailed, State, outcome_class
from scraper.log import escaped
from scraper.policies.secrets import mask_secrets
from scraper.report import plots
from scraper.report.data import ReadItems, Report
from scraper.report.thumbnails import thumbnails
from scraper.units import show_bytes, show_count, show_ms, show_rate, show_seconds, show_share

try:
    import jinja2
except ImportError as error:
    raise MissingExtra("report", "The report page") from error


def write_page(report: Report, path: Path, read_items: ReadItems | None) -> None:
    """See ``scraper.report.write_html``."""
    html = render_page(report, read_items)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            part.unlink(missing_ok=True)
            with part.open("x", encoding="utf-8", errors="backslashreplace") as file:  # through no planted link
                file.write(html)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SinkFailed(
            f"{path} cannot be written ({error.strerror}), though the results are: make room, then run "
            f"`scraper report {shlex.quote(str(report.out))}`."
        ) from error


def render_page(report: Report, read_items: ReadItems | None = None) -> str:
    """The page's text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scraper"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bytes=show_bytes,
        count=show_count,
        ms=show_ms,
        rate=show_rate,
        seconds=show_seconds,
        said=_said,
        moment=_moment,
    )
    environment.tests["link"] = _is_link
    return environment.get_template("report.html.j2").render(
        report=report,
        version=report.version or __version__,
        status=_status(report),
        shares=[(state, share) for state in State if (share := _share(report, state))],
        share=show_share,
        plots=[
            (title, note, plot)
            for title, note, plot in (
                ("Rate over time", "rows ended per second of running time", plots.rate(report)),
                ("How rows ended", "rows by class, logarithmic", plots.classes(report)),
                ("Time of an average row", "last attempt, by part", plots.time_split(report)),
                ("Sizes", "of bodies, in steps of two", plots.sizes(report)),
            )
            if plot
        ],
        sheet=thumbnails(report.out, report.pictures, read_items) if read_items else [],
        ended_classes=[(outcome_class(name), rows) for name, rows in report.by_class.items()],
        out=shlex.quote(str(report.out)),
    )


def _share(report: Report, state: State) -> float:
    rows: int = getattr(report, state.value)
    return 100 * rows / report.rows if report.rows else 0.0


def _status(report: Report) -> str:
    """How the last run ended, in a word or two."""
    if not report.runs:
        return "not begun"
    match report.runs[-1].exit:
        case None:
            return "running" if report.is_running else "killed"
        case 0 | 1:
            return "complete"
        case 130 | 143:
            return "interrupted"
        case _:
            return "stopped by an error"


def _said(text: object, limit: int = 300) -> str:
    """A stranger's text: on one line, without control characters or passwords, not too long."""
    shown = escaped(mask_secrets(str(text)))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _is_link(url: str) -> bool:
    """Whether a URL may be offered for a click: http and https go somewhere, the rest may do something."""
    try:
        return urlsplit(url).scheme in {"http", "https"} and "\\" not in url and url.isprintable()
    except ValueError:
        return False


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
