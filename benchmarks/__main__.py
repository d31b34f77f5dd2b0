"""``python -m benchmarks [NAME...]``: measure, print tables and ratios, and a line for each goal."""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    durability,
    figures,
    files,
    frontier,
    guards,
    handoff,
    images,
    kills,
    murder,
    peers,
    plots,
    prints,
    quality,
    resume,
    scale,
    stages,
    start,
)
from benchmarks.figures import Finding
from benchmarks.serving import serving
from benchmarks.setting import Setting, empty
from scraper import __version__

BENCHMARKS: Mapping[str, Callable[[Setting], Finding]] = {
    "start": start.measure,
    "files": files.measure,
    "far": files.measure_far,
    "images": images.measure,
    "quality": quality.measure,
    "stages": stages.measure,
    "handoff": handoff.measure,
    "frontier": frontier.measure,
    "guards": guards.measure,
    "scale": scale.measure,
    "durability": durability.measure,
    "resume": resume.measure,
    "prints": prints.measure,
    "kills": kills.measure,
    "murder": murder.measure,
}

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
PLOTS = PAGE.parent / "benchmarks"


def main() -> int:
    """Nothing here fails for being slow: the exit status is 0 once everything has run, 1 if something broke."""
    said = _arguments()
    print(_machine())
    findings: dict[str, Finding] = {}
    began = time.monotonic()
    names = said.names or list(BENCHMARKS)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=said.folder) as name:
        folder = Path(name)
        (folder / "server").mkdir()
        print("Starting the server; the first time ever its pictures are painted, which takes some seconds.")
        with serving(folder / "server") as server:
            for each in names:
                finding = _measured(each, Setting(folder / each, server, said.repeat, said.quick))
                if finding is None:
                    continue
                findings[each] = finding
                if said.write:
                    _write(each, finding, f"{_machine()}; {said.repeat} runs of each side")
    took = (
        f"{len(names)} benchmarks with {said.repeat} runs of each side took {_minutes(time.monotonic() - began)}"
    )
    print("\n".join([*(finding.verdict for finding in findings.values()), f"{took}."]))
    if said.write and not said.names:
        _replace("duration", f"{took}{', --quick' if said.quick else ''}: {_machine()}.")
    return 0 if len(findings) == len(names) else 1


def _measured(name: str, setting: Setting) -> Finding | None:
    """One benchmark; None if it broke, which must not cost the others an hour's work."""
    print(f"\n{name}", flush=True)
    began = time.monotonic()
    setting.folder.mkdir()
    try:
        finding = BENCHMARKS[name](setting)
    except Exception:
        traceback.print_exc()
        print(f"{name} broke; going on with the next.", flush=True)
        return None
    finally:
        empty(setting.folder)
    print(f"\n{figures.shown(finding)}{_minutes(time.monotonic() - began)}", flush=True)
    return finding


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


def _write(name: str, finding: Finding, measured: str) -> None:
    """Put what was measured into the page, at once; the rest of it stays."""
    if not finding.is_valid:
        print(f"{name} is not written: rows are missing.")
        return
    for plot in finding.plots:
        try:
            svg = plots.drawn(plot)
        except ImportError:
            print("The plots stay as they are: they need matplotlib (pip install 'scraper-pipelines[report]').")
            break
        PLOTS.mkdir(exist_ok=True)
        (PLOTS / f"{plot.name}.svg").write_text(svg, encoding="utf-8")
    drawn = all((PLOTS / f"{plot.name}.svg").exists() for plot in finding.plots)
    _replace(name, f"{figures.shown(finding, PLOTS.name if drawn else '')}- {measured}")
    print(f"Written to {PAGE.name}.")


def _replace(name: str, text: str) -> None:
    PAGE.write_text(figures.replaced(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure against other downloaders on this machine. Prints ratios, asserts nothing.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each side (5)")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write; its disk is measured")
    parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{PAGE.name}")
    said = parser.parse_args()
    if said.quick and said.write:
        parser.error("--write puts figures into the page that others rely on: leave out --quick")
    for name in said.names:
        if name not in BENCHMARKS:
            parser.error(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
    if said.repeat < 1:
        parser.error("--repeat must be at least 1.")
    if said.write:
        page = PAGE.read_text(encoding="utf-8")
        for name in said.names or (*BENCHMARKS, "duration"):
            figures.replaced(page, name, "")  # said now, not after an hour: its marks are missing
    if sys.platform != "linux":
        parser.error("Memory is read from /proc: this runs on Linux only.")
    return said


def _machine() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}: scraper {__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {peers.cores()} cores"
    )


if __name__ == "__main__":
    sys.exit(main())
