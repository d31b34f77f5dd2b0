"""Plots as SVG to stand inside the page. The only module that knows matplotlib.

In: a Report. Out: SVG text, the same for the same report. Colours are the page's own, so that dark mode is one
stylesheet and not a second set of plots. Must never: put a URL or a message into a plot.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from typing import Any

from scraper.errors import MissingExtra, State, outcome_class
from scraper.report.data import Report
from scraper.units import show_bytes, show_count, show_ms, show_seconds

_matplotlib_log = logging.getLogger("matplotlib")

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
except ImportError as error:
    raise MissingExtra("report", "The report page") from error

# matplotlib wants colours, the page wants names: each stands for a variable of the page's stylesheet.
INK, LINE, OK, SKIPPED, FAILED = "#010203", "#010204", "#010205", "#010206", "#010207"
PARTS = ("#010208", "#010209", "#01020a", "#01020b", "#01020c")
_VARIABLES = {
    INK: "var(--soft)",
    LINE: "var(--line)",
    OK: "var(--ok)",
    SKIPPED: "var(--skipped)",
    FAILED: "var(--failed)",
    **{colour: f"var(--part{n})" for n, colour in enumerate(PARTS)},
}
_OF_STATE = {State.OK: OK, State.SKIPPED: SKIPPED, State.FAILED: FAILED}

MOST_CLASSES = 8
"""Bars; beyond that the last one stands for the rest, and the tables below have them one by one."""

_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
"""Distances between marks on an axis of time, in steps that clocks have."""

# Any: matplotlib spells the type of these out as every key there is.
_STYLE: Any = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9.0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
}


def rate(report: Report) -> str:
    """Rows ended per second, over running time."""

    def draw(axes: Axes) -> None:
        slots = report.slots
        seconds = [slot.start_s for slot in slots] + [slots[-1].start_s + slots[-1].seconds]
        bottom = [0.0] * len(slots)
        for state, colour in _OF_STATE.items():
            top = [
                below + getattr(slot, state.value) / slot.seconds
                for below, slot in zip(bottom, slots, strict=True)
            ]
            axes.stairs(top, seconds, baseline=bottom, fill=True, color=colour, linewidth=0)
            bottom = top
        axes.set_xlim(0, seconds[-1])
        axes.set_ylim(0, max(bottom) * 1.08 or 1)
        axes.set_ylabel("rows/s")
        tick_s = next((s for s in _TICKS_S if 7 * s >= seconds[-1]), None)
        axes.xaxis.set_major_locator(MultipleLocator(tick_s) if tick_s else MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: _clock(s) if seconds[-1] >= 60 else f"{s:g} s"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")

    return _svg("rate", draw) if report.slots else ""


def sizes(report: Report) -> str:
    """How many bodies are how large."""

    def draw(axes: Axes) -> None:
        places = range(len(report.sizes))
        axes.bar(places, [rows for _, rows in report.sizes], width=0.86, color=PARTS[3])
        beside = max(0.7, (7 - len(places)) / 2)
        axes.set_xlim(-beside, len(places) - 1 + beside)
        every = -(-len(places) // 7)
        axes.set_xticks([*places][::every], [_power(size) for size, _ in report.sizes][::every])
        axes.set_ylabel("rows")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rows, _: show_count(rows)))
        axes.grid(axis="y")

    return _svg("sizes", draw) if report.sizes else ""


def time_split(report: Report) -> str:
    """Where the time of an average row went."""
    means = report.means
    parts = {
        "DNS": means.dns_ms,
        "connect": means.connect_ms,
        "TLS": means.tls_ms,
        "first byte": means.first_byte_ms,
        "body": means.body_ms,
    }

    def draw(axes: Axes) -> None:
        names = [*parts][::-1]
        axes.barh(names, [parts[name] for name in names], height=0.62, color=PARTS[::-1])
        for place, name in enumerate(names):
            axes.annotate(
                show_ms(parts[name]), (parts[name], place), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.set_xlim(0, max(parts.values()) * 1.2)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g} ms"))
        axes.grid(axis="x")

    return _svg("time", draw) if any(parts.values()) else ""


def classes(report: Report) -> str:
    """How many rows ended how; on a scale that shows one row beside a million."""

    def draw(axes: Axes) -> None:
        every = [(name, rows, _OF_STATE[outcome_class(name).state]) for name, rows in report.by_class.items()]
        if len(every) > MOST_CLASSES:
            rest = every[MOST_CLASSES - 1 :]
            every[MOST_CLASSES - 1 :] = [(f"{len(rest)} more classes", sum(rows for _, rows, _ in rest), INK)]
        names, counts, colours = zip(*reversed(every), strict=True)
        axes.barh(names, counts, height=0.62, color=colours)
        axes.set_ylim(min(-0.6, len(names) - 5.6), len(names) - 0.4)  # a few bars are not thicker than many
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(0.7, max(counts) * 4)
        for place, rows in enumerate(counts):
            axes.annotate(show_count(rows), (rows, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: show_count(rows)))
        axes.grid(axis="x")

    return _svg("classes", draw) if report.by_class else ""


def _svg(name: str, draw: Callable[[Axes], None]) -> str:
    """Draw and make the result fit to stand in a page beside others."""
    level = _matplotlib_log.level
    _matplotlib_log.setLevel(logging.ERROR)  # about fonts and caches: nothing a reader of reports can act on
    try:
        with rc_context(_STYLE | {"svg.hashsalt": name}):
            figure = Figure(figsize=(5.6, 2.4), layout="constrained")
            draw(figure.add_subplot())
            written = io.StringIO()
            figure.savefig(written, format="svg", metadata={"Date": None})
    finally:
        _matplotlib_log.setLevel(level)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"^<svg[^>]*>", lambda tag: re.sub(r' (width|height)="[^"]*"', "", tag[0]), svg)
    # An id is the page's, not the plot's: four figures may not all be "figure_1".
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _clock(seconds: float) -> str:
    return show_seconds(seconds) if seconds >= 60 else f"0:{seconds:02.0f}"


def _power(size: int) -> str:
    """A power of two, in the units it is one in."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return show_bytes(size * 1024**4)
