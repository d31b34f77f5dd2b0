"""Numbers of several runs → what is printed: medians with their spread, ratios, tables, what to plot. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bars:
    """A plot of groups of bars.

    Attributes:
        name: of its file, without the extension.
        title: what is shown.
        unit: along the axis of values.
        groups: what stands side by side.
        series: name → the runs of each group; the bar is their median, its whisker the least and the most.
            No runs, no bar.
    """

    name: str
    title: str
    unit: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Lines:
    """A plot of lines.

    Attributes:
        name: of its file, without the extension.
        title: what is shown.
        across: the unit along the horizontal axis.
        unit: along the vertical one.
        series: name → its points.
    """

    name: str
    title: str
    across: str
    unit: str
    series: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a benchmark found.

    Attributes:
        title: what was measured.
        head: the table's column names.
        rows: its cells.
        notes: what one should know to read it.
        verdict: a line for each goal: the figure against it.
        is_valid: all was done that the figures stand on; otherwise they say nothing. A peer that fails is no
            reason: the table and the verdict say so.
        plots: to stand beside the table.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    verdict: str
    is_valid: bool
    plots: Sequence[Bars | Lines] = ()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """``12.3 (11.0-14.2)``: median, least and most; the value alone if there is one; a dash if there is none."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, run by run: the two of a pair had the same neighbours on the machine."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def steps(points: Points) -> list[tuple[float, float]]:
    """Of a figure that grows in steps, as a file written in pieces does: its beginning, and when it had grown."""
    grown = [now for before, now in itertools.pairwise(points) if now[1] > before[1]]
    return [*points[:1], *grown]


def reached(points: Points, value: float) -> float | None:
    """When a growing figure came by a value, taking it to grow evenly from point to point; None if it did not."""
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        if y <= value <= next_y and next_y > y:
            return x + (next_x - x) * (value - y) / (next_y - y)
    return None


def steady(points: Points, amount: float, part: tuple[float, float] = (0.25, 0.9)) -> float | None:
    """What was done in a second while the work went from a quarter to nine tenths of its end; None if not known.

    Start-up, the filling of queues and the end, with its report, are left out.

    Args:
        points: seconds, and how much there was by then, in any unit.
        amount: how much all of it is, in the unit of the answer.
        part: from which share of the end to which.
    """
    seen = steps(points)
    if not seen:
        return None
    first, last = (reached(seen, share * seen[-1][1]) for share in part)
    if first is None or last is None or last <= first:
        return None
    return amount * (part[1] - part[0]) / (last - first)


def slope(points: Points) -> float:
    """Least squares: by how much y grows with x. 0 for fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def verdict(name: str, found: str, goal: str, met: bool | None, *, is_valid: bool) -> str:
    """The one-line summary. ``met`` is None where nothing could be compared."""
    word = {True: "met", False: "MISSED", None: "not compared"}[met]
    return f"{name:<10} {found}; goal {goal}: {word if is_valid else 'INVALID, rows are missing'}"


def judged(values: Sequence[float], test: Callable[[float], bool]) -> bool | None:
    """Whether the median passes; None if there is none."""
    return test(statistics.median(values)) if values else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also pleasant as plain text."""
    widths = [max(len(line[at]) for line in (head, *rows)) for at in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def shown(finding: Finding, plots: str = "") -> str:
    """A finding as Markdown, with its plots between the table and the notes where there is a folder of them."""
    notes = "".join(f"- {note}\n" for note in finding.notes)
    pictures = "".join(f"![{plot.title}]({plots}/{plot.name}.svg)\n\n" for plot in finding.plots if plots)
    return f"### {finding.title}\n\n{table(finding.head, finding.rows)}\n\n{pictures}{notes}"


def replaced(page: str, name: str, measured: str) -> str:
    """``page`` with what stands between the two marks of a benchmark replaced.

    Raises:
        ValueError: the page has no such marks.
    """
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"The page needs the marks {first} and {last}.")
    return f"{before}{first}\n\n{measured.strip()}\n\n{last}{after}"
