"""What to plot → SVG text, the same for the same figures: no date, no random names. The only one with matplotlib.

Must never: fail a benchmark for want of matplotlib; the page then keeps the plots it has.
"""

from __future__ import annotations

import io
import statistics
from typing import Any

from benchmarks.figures import Bars, Lines

COLOURS = ("#2f6f9f", "#c4823a", "#5b8c5a", "#9a5b8c")
"""Told apart on white and on black."""

GREY = "#808080"
INCHES = (7.5, 2.8)

# Any: matplotlib spells the type of these out as every key there is.
_STYLE: Any = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
}


def drawn(plot: Bars | Lines) -> str:
    """The plot as SVG.

    Raises:
        ImportError: matplotlib is not installed (the extra ``report``).
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot()
        if isinstance(plot, Bars):
            _bars(axes, plot)
        else:
            for colour, (name, points) in zip(COLOURS, plot.series.items(), strict=False):
                axes.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=1.2)
            axes.set_xlabel(plot.across)
            axes.set_ylabel(plot.unit)
            axes.set_ylim(bottom=0)
        axes.set_title(plot.title, loc="left", fontsize=10)
        if any(plot.series) and len(plot.series) > 1:
            axes.legend()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _bars(axes: Any, plot: Bars) -> None:
    """Lying, so that names of any length can be read; the first group on top."""
    height = 0.8 / max(1, len(plot.series))
    for number, (colour, (name, groups)) in enumerate(zip(COLOURS, plot.series.items(), strict=False)):
        for at, runs in enumerate(groups):
            if not runs:
                continue
            middle = statistics.median(runs)
            place = at + (number - (len(plot.series) - 1) / 2) * height
            whiskers = [[middle - min(runs)], [max(runs) - middle]]
            label = name if at == next(n for n, each in enumerate(groups) if each) else None
            axes.barh(place, middle, height * 0.9, color=colour, label=label, xerr=whiskers, ecolor=GREY)
            axes.annotate(
                f"{middle:,.0f}" if middle >= 10 else f"{middle:,.2f}",
                (max(runs), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
            )
    axes.set_yticks(range(len(plot.groups)), plot.groups)
    axes.invert_yaxis()
    axes.set_xlabel(plot.unit)
    axes.margins(x=0.12)
