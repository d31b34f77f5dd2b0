"""Numbers of several runs → what is printed: medians with their spread, ratios, tables. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What a benchmark found.

    Attributes:
        title: what was measured.
        head: the table's column names.
        rows: its cells.
        notes: what one should know to read it.
        verdict: one line: the figure against its goal.
        is_valid: every side did all of its work; otherwise the figures say nothing.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    verdict: str
    is_valid: bool


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


def steady(rows: tuple[int, int], seconds: Sequence[tuple[float, float]]) -> list[float]:
    """Rows per second without start and end: what a longer run had more, over the time it took more.

    Args:
        rows: of the short run and of the long one.
        seconds: of each pair of runs. A pair whose long run was not longer says nothing and is left out.
    """
    return [(rows[1] - rows[0]) / (long - short) for short, long in seconds if long > short]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: by how much y grows with x. 0 for fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def verdict(name: str, found: str, goal: str, met: bool | None, *, is_valid: bool) -> str:
    """The one-line summary. ``met`` is None where nothing could be compared."""
    word = {True: "met", False: "MISSED", None: "not compared"}[met]
    return f"{name:<7} {found}; goal {goal}: {word if is_valid else 'INVALID, rows are missing'}"


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


def shown(finding: Finding) -> str:
    """A finding as Markdown."""
    notes = "".join(f"- {note}\n" for note in finding.notes)
    return f"### {finding.title}\n\n{table(finding.head, finding.rows)}\n\n{notes}"


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
