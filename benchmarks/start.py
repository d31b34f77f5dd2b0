"""How long ``scraper --version`` takes."""

from __future__ import annotations

import subprocess
import time

from benchmarks import peers
from benchmarks.figures import Finding, judged, spread, verdict
from benchmarks.setting import Setting

GOAL_S = 0.15
RUNS = 20


def measure(setting: Setting) -> Finding:
    """Wall time of the command, and beside it that of Python doing nothing."""
    runs = 5 if setting.quick else RUNS
    command = [str(peers.scraper()), "--version"]
    nothing = [str(peers.scraper().with_name("python")), "-c", ""]
    _seconds(command)  # the first reads it all from the disk
    pairs = [(_seconds(command), _seconds(nothing)) for _ in range(runs)]
    ours = [one for one, _ in pairs]
    return Finding(
        "start: `scraper --version`",
        ["", "scraper --version", "python -c ''"],
        [["seconds", spread(ours, 3), spread([other for _, other in pairs], 3)]],
        [f"{runs} runs, from warm caches"],
        verdict(
            "start",
            f"{spread(ours, 3)} s",
            f"at most {GOAL_S} s",
            judged(ours, lambda it: it <= GOAL_S),
            is_valid=True,  # each run is checked
        ),
        is_valid=True,
    )


def _seconds(command: list[str]) -> float:
    since = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - since
