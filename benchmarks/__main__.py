"""``python -m benchmarks [NAME...]``: measure, print tables and ratios, and a line for each goal."""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    durability,
    figures,
    files,
    frontier,
    guards,
    images,
    kills,
    memory,
    murder,
    peers,
    resume,
    start,
)
from benchmarks.figures import Finding
from benchmarks.serving import serving
from benchmarks.setting import Setting
from scraper import __version__

BENCHMARKS: Mapping[str, Callable[[Setting], Finding]] = {
    "start": start.measure,
    "files": files.measure,
    "far": files.measure_far,
    "images": images.measure,
    "frontier": frontier.measure,
    "guards": guards.measure,
    "memory": memory.measure,
    "durability": durability.measure,
    "resume": resume.measure,
    "kills": kills.measure,
    "murder": murder.measure,
}

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    """Nothing here fails for being slow: the exit status is 0 once everything has run."""
    said = _arguments()
    print(_machine())
    findings: dict[str, Finding] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=said.folder) as name:
        folder = Path(name)
        (folder / "server").mkdir()
        print("Starting the server; the first time ever its pictures are painted, which takes some seconds.")
        with serving(folder / "server") as server:
            for each in said.names or BENCHMARKS:
                print(f"\n{each}", flush=True)
                work = folder / each
                work.mkdir()
                findings[each] = BENCHMARKS[each](Setting(work, server, said.repeat, said.quick))
                print(f"\n{figures.shown(findings[each])}", flush=True)
    print("\n".join(finding.verdict for finding in findings.values()))
    if said.write:
        _write(findings)
    return 0


def _write(findings: Mapping[str, Finding]) -> None:
    """Put the tables of what was measured into the page; the others stay."""
    page = PAGE.read_text(encoding="utf-8")
    for name, finding in findings.items():
        if not finding.is_valid:
            print(f"{name} is not written: rows are missing.")
            continue
        page = figures.replaced(page, name, f"{figures.shown(finding)}- {_machine()}")
    PAGE.write_text(page, encoding="utf-8")
    print(f"Written to {PAGE.name}.")


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
    for name in said.names:
        if name not in BENCHMARKS:
            parser.error(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
    if said.repeat < 1:
        parser.error("--repeat must be at least 1.")
    if sys.platform != "linux":
        parser.error("Memory is read from /proc: this runs on Linux only.")
    return said


def _machine() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}: scraper {__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {peers.cores()} cores, {peers.curl_version()}, img2dataset {peers.IMG2DATASET}"
    )


if __name__ == "__main__":
    sys.exit(main())
