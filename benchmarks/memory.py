"""What the process with the event loop holds in memory while it works through a list of a million rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import peers
from benchmarks.figures import Finding, judged, slope, spread, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import Setting, empty, write_list

GOAL_MB = 200
ROWS = 1_000_000
QUICK_S = 20.0
INTERRUPTED = 130


def measure(setting: Setting) -> Finding:
    """Bodies of a kilobyte, into tar shards: a million small files would measure the file system."""
    listed = write_list(setting.folder / "million.txt", (setting.server.tiny(row) for row in range(ROWS)))
    out = setting.folder / "out"
    stop = QUICK_S if setting.quick else None
    print(f"  {'some seconds' if setting.quick else 'several minutes'} …", flush=True)
    done = run(
        peers.files_command(listed, out, "--output-format", "webdataset"), folder=setting.folder, stop_after_s=stop
    )
    empty(out)
    return _finding(setting, done)


def _finding(setting: Setting, done: Run) -> Finding:
    is_valid = done.status == (INTERRUPTED if setting.quick else 0)
    status = f"exit status {done.status}" if done.status else "to the end"
    how = f"interrupted after {QUICK_S:.0f} s" if setting.quick else status
    return Finding(
        f"memory: a list of {ROWS:,} rows, {how}",
        ["", "scraper"],
        [
            ["most of the loop process (VmHWM), MB", f"{done.rss_mb:.0f}"],
            [
                "at a quarter, half, the end, MB",
                ", ".join(f"{_at(done.rss, part):.0f}" for part in (0.25, 0.5, 1)),
            ],
            ["growth from a half to nine tenths, MB a minute", f"{60 * slope(settled(done.rss)):.1f}"],
            ["seconds", f"{done.seconds:.0f}"],
            ["all processes (PSS), MB", f"{done.pss_mb:.0f}"],
        ],
        [f"bodies of 1 KB, one host, {peers.CONCURRENCY} at once; server: {setting.server.name}"],
        verdict(
            "memory",
            f"{spread([done.rss_mb], 0)} MB",
            f"at most {GOAL_MB} MB",
            judged([done.rss_mb], lambda it: it <= GOAL_MB),
            is_valid=is_valid,
        ),
        is_valid,
    )


def _at(points: Sequence[tuple[float, float]], part: float) -> float:
    """Memory when a share of the samples had been taken."""
    return points[max(0, round(part * len(points)) - 1)][1] if points else 0.0


def settled(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """The later samples without the last: what a run fills once is filled by then, and the report is not begun."""
    return points[len(points) // 2 : len(points) * 9 // 10]
