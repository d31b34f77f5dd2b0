"""What politeness and safety cost a whole run: 100,000 rows of 10,000 hosts, with the guards and without.

Without them: no robots.txt is asked for, no X-Robots-Tag read, and hosts are asked at full speed from the first
moment. What cannot be turned off stays: URLs, addresses and limits are checked on both sides.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Finding, judged, ratios, spread, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import Setting, Side, in_turn, is_whole, write_list
from scraper.ledger import LedgerReader

GOAL = 0.95
ROWS, HOSTS = (100_000, 5_000), (10_000, 500)
BODY = 36 * 1024

ON, OFF = "guards on", "guards off"
_OFF = ("--robots", "ignore", "--opt-outs", "off", "--pace", "fixed")


def measure(setting: Setting) -> Finding:
    """Both sides in turn."""
    rows, hosts = ROWS[setting.quick], HOSTS[setting.quick]
    with _serving() as port:
        urls = (f"http://{_host(row % hosts)}:{port}/{row}" for row in range(rows))
        listed = write_list(setting.folder / "hosts.txt", urls)
        sides = [Side(name, rows, _go(setting, listed, more), _count) for name, more in ((ON, ()), (OFF, _OFF))]
        done = in_turn(setting, sides)
    seconds = {side.name: [each.run.seconds for each in runs] for side, runs in done.items()}
    cpu = {side.name: [each.run.cpu_s / rows * 1e3 for each in runs] for side, runs in done.items()}
    # Rates, so that less than one is a loss.
    speed = ratios(seconds[OFF], seconds[ON])
    is_valid = is_whole(done.values(), rows)
    return Finding(
        f"guards: {rows:,} rows of {hosts:,} hosts, {BODY // 1024} KB each, into tar shards",
        ["", "rows/s", "CPU ms a row"],
        [[name, spread([rows / each for each in seconds[name]], 0), spread(cpu[name], 3)] for name in (ON, OFF)],
        [
            f"rate with guards over rate without: {spread(speed, 3)}",
            "the server, on the same cores, is a loop of Python; robots.txt is a request for each host",
        ],
        verdict(
            "guards",
            f"{spread(speed, 3)} of the rate without",
            f"at least {GOAL}",
            judged(speed, lambda it: it >= GOAL),
            is_valid=is_valid,
        ),
        is_valid,
    )


def _host(number: int) -> str:
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


def _go(setting: Setting, listed: Path, more: Sequence[str]) -> Callable[[Path], Run]:
    def go(out: Path) -> Run:
        command = peers.files_command(listed, out, "--output-format", "webdataset", *more)
        return run(command, folder=setting.folder)

    return go


def _count(out: Path) -> int:
    with LedgerReader(out / ".scraper" / "ledger.sqlite") as ledger:
        return ledger.counts()["ok"]


@contextlib.contextmanager
def _serving() -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.many_hosts", str(BODY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()
