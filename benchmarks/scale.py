"""A million tiny rows end to end: what a row costs beside one of ten thousand, and whether memory stays flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Finding, Lines, Points, judged, slope, spread, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import LIMIT_S, Done, Setting, Side, in_turn, is_whole, write_list
from scraper.errors import UsageError
from scraper.ledger import LedgerReader

GOAL_COST = 0.10
GOAL_SLOPE = 0.02
"""Most that memory may grow over a run, by its slope: a fiftieth is what samples stray."""

GOAL_MB = 200
SIZES = ((1_000_000, 10_000), (40_000, 4_000))
START_ROWS = 10
POINTS = 200
"""Most points of a line in the plot."""


def measure(setting: Setting) -> Finding:
    """Bodies of a kilobyte, into tar shards: a million small files would measure the file system."""
    many, few = SIZES[setting.quick]
    small = [_side(setting, rows) for rows in (START_ROWS, few)]
    done = in_turn(setting, small)
    print(f"  {many:,} rows, once …", flush=True)
    large = in_turn(replace(setting.below("once"), repeat=1), [_side(setting, many)])
    return _finding(setting, (many, few), done[small[0]], done[small[1]], next(iter(large.values()))[0])


def _side(setting: Setting, rows: int) -> Side:
    listed = write_list(setting.folder / f"rows-{rows}.txt", (setting.server.tiny(row) for row in range(rows)))
    return Side("scraper", rows, partial(_go, setting.folder, listed), count)


def _go(folder: Path, listed: Path, out: Path) -> Run:
    command = peers.files_command(listed, out, "--output-format", "webdataset")
    return run(command, folder=folder, stop_after_s=LIMIT_S)


def count(out: Path) -> int:
    """Rows that ended well, by the ledger."""
    try:
        with LedgerReader(out / ".scraper" / "ledger.sqlite") as ledger:
            return ledger.counts()["ok"]
    except UsageError:  # the run did not come so far
        return 0


def settled(points: Points) -> Points:
    """What memory was from the first tenth to the last: queues are filled by then, and the report is not begun."""
    return points[len(points) // 10 : len(points) * 9 // 10]


def growth(points: Points) -> float:
    """By how much memory grows over a run at the slope it settles on, as a share of what it is in the middle."""
    seen = settled(points)
    if len(seen) < 2:
        return 0.0
    return slope(seen) * (points[-1][0] - points[0][0]) / statistics.median(y for _, y in seen)


def per_row(start: Sequence[float], whole: Sequence[float], rows: int) -> list[float]:
    """Milliseconds of a row, start-up taken out, run by run."""
    return [1e3 * (each - begin) / (rows - START_ROWS) for begin, each in zip(start, whole, strict=True)]


def _finding(
    setting: Setting, sizes: tuple[int, int], start: Sequence[Done], few: Sequence[Done], many: Done
) -> Finding:
    figures = {}
    for name, of in (("seconds", _seconds), ("CPU", _cpu)):
        begun = [of(each) for each in start]
        small = per_row(begun, [of(each) for each in few], sizes[1])
        (large,) = per_row([statistics.median(begun)], [of(many)], sizes[0])
        figures[name] = (small, large, [large / each for each in small])
    grown = growth(many.run.rss)
    is_valid = is_whole([few], sizes[1]) and many.ok == sizes[0]
    over = max(statistics.median(ratios) - 1 for _, _, ratios in figures.values())
    goals = [
        (f"cost of a row {over:+.1%} of that at {sizes[1]:,}", f"at most {GOAL_COST:+.0%}", over <= GOAL_COST),
        (f"memory grows by {grown:+.1%} over the run", f"0, at most {GOAL_SLOPE:+.0%}", grown <= GOAL_SLOPE),
        (
            f"loop process {many.run.rss_mb:.0f} MB",
            f"at most {GOAL_MB} MB",
            judged([many.run.rss_mb], lambda it: it <= GOAL_MB),
        ),
    ]
    thin = many.run.rss[:: -(-len(many.run.rss) // POINTS) or 1]
    return Finding(
        f"scale: {sizes[0]:,} rows of 1 KB beside {sizes[1]:,}",
        ["", f"{sizes[1]:,} rows", f"{sizes[0]:,} rows", "ratio"],
        [
            *(
                [f"{name} of a row, ms, start-up taken out", spread(small, 3), f"{large:.3f}", spread(ratios, 2)]
                for name, (small, large, ratios) in figures.items()
            ),
            ["seconds", spread([each.run.seconds for each in few], 1), f"{many.run.seconds:.0f}", ""],
            [
                "most of the loop process (VmHWM), MB",
                *_both([each.run.rss_mb for each in few], many.run.rss_mb),
                "",
            ],
            ["most of all processes (PSS), MB", *_both([each.run.pss_mb for each in few], many.run.pss_mb), ""],
            ["growth of the loop process over the run", "", f"{grown:+.1%}", ""],
            ["rows that ended well", f"{min(each.ok for each in few):,}", f"{many.ok:,}", ""],
        ],
        [
            f"into tar shards, one host, {peers.CONCURRENCY} at once; server: {setting.server.name}",
            f"start-up: runs of {START_ROWS} rows in turn with those of {sizes[1]:,}; the long run goes once",
            "growth: the slope of resident memory from the first tenth of the run to the last, times its time",
        ],
        "\n".join(verdict("scale", found, goal, met, is_valid=is_valid) for found, goal, met in goals),
        is_valid,
        plots=[Lines("scale", f"memory of the loop process over {sizes[0]:,} rows", "seconds", "MB", {"": thin})],
    )


def _both(few: Sequence[float], many: float) -> list[str]:
    return [spread(few, 0), f"{many:.0f}"]


def _seconds(done: Done) -> float:
    return done.run.seconds


def _cpu(done: Done) -> float:
    return done.run.cpu_s
