"""Progress: shows the meter, costs little, never hurts the run."""

import asyncio
import contextlib
import io
import json
import os
import time
from pathlib import Path

import pytest

from scraper.channel import ChannelStatistics
from scraper.meter import HostMeter, Meter
from scraper.progress import json_line, plain_line, progress
from scraper.snapshot import HOSTS_LOOKED_AT, Watcher


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def busy(now: float = 100.0) -> Meter:
    """A meter in the middle of a run; ``now`` by the clock that is used with it."""
    meter = Meter(rows_read=3_000, rows_before=1_000, rows_total=10_000, in_flight=64, transforming=16, retries=3)
    meter.by_class.update({"ok": 900, "duplicate.url": 20, "http.404": 70, "dns.not_found": 10})
    meter.fetched_bytes = 50_000_000
    meter.channels = lambda: [ChannelStatistics("fetched", 12, 128, 40, 900, 0.5, 0.1)]
    meter.hosts = {
        "slow.example.org": HostMeter(8, 10, 55.0, begun=8 * (now - 1)),
        "quick.example.org": HostMeter(2, 100, 1.0, begun=2 * now),
        "idle.example.org": HostMeter(0, 1, 60.0),
    }
    return meter


def test_rates_are_of_late_and_of_this_run() -> None:
    """Rates look at the last seconds; rows that an earlier run had finished say nothing about pace."""
    meter, clock = Meter(rows_total=10_000), Clock()
    watcher = Watcher(meter, clock)
    meter.rows_before = 5_000
    for _ in range(60):
        clock.now += 1
        meter.by_class["ok"] += 10
        watcher.look()
    for _ in range(20):
        clock.now += 1
        meter.by_class["ok"] += 50
        meter.fetched_bytes += 1_000
        now = watcher.look()
    assert now.rows_per_s == pytest.approx(50)
    assert now.bytes_per_s == pytest.approx(1_000)
    assert now.done == 6_600
    assert now.eta_s == pytest.approx(3_400 / 50)
    assert now.elapsed_s == 80


@pytest.mark.parametrize(
    ("meter", "total", "is_estimate"),
    [
        (Meter(rows_read=50), None, False),
        (Meter(rows_read=50, fraction=0.0), None, False),
        (Meter(rows_read=50, fraction=0.25), 200, True),
        (Meter(rows_read=50, fraction=1.0), 50, True),
        (Meter(rows_read=50, fraction=0.25, rows_total=60), 60, False),
        (Meter(rows_read=0, rows_total=0), 0, False),
    ],
)
def test_the_total_is_known_estimated_or_open(meter: Meter, total: int | None, is_estimate: bool) -> None:
    """Before the list is read to its end, the share that has been read stands for its length."""
    now = Watcher(meter, Clock()).look()
    assert (now.total, now.is_estimate) == (total, is_estimate)
    assert plain_line(now)
    assert json.loads(json_line(now))["total"] == total


def test_a_plain_line_says_it_all() -> None:
    """Done of total, rate, time to go, what is in flight, and failures by class, the most frequent first."""
    clock = Clock()
    meter = busy()
    watcher = Watcher(meter, clock)
    clock.now += 10
    meter.by_class["ok"] += 1_000
    assert plain_line(watcher.look()) == (
        "3,000 of 10,000 rows (30 %), 100 rows/s, 0 B/s, 10 s so far, 1:10 to go, 64 in flight, "
        "this run: 20 skipped, 80 failed (http.404 70, dns.not_found 10)"
    )


def test_a_json_line_is_an_object() -> None:
    """A program that watches gets numbers under names."""
    line = json.loads(json_line(Watcher(busy(), Clock()).look()))
    assert (line["event"], line["done"], line["total"], line["failed"]) == ("progress", 2_000, 10_000, 80)
    assert line["failures"] == {"http.404": 70, "dns.not_found": 10}
    assert line["queues"] == {"fetched": {"size": 12, "bound": 128}}
    assert line["slow_hosts"] == {"slow.example.org": 5_500.0, "quick.example.org": 10.0}


def test_a_host_that_hangs_is_seen_before_anything_of_it_ends() -> None:
    """It is the one somebody is looking for; what it takes so far counts."""
    meter, clock = busy(), Clock()
    meter.hosts["hanging.example.org"] = HostMeter(3, 0, 0.0, begun=3 * 90.0)
    assert Watcher(meter, clock).look().slow_hosts[0] == ("hanging.example.org", 3, 10.0)
    clock.now += 5
    assert Watcher(meter, clock).look().slow_hosts[0] == ("hanging.example.org", 3, 15.0)


def test_a_pause_is_shown_with_its_reason() -> None:
    """Nobody takes a run that waits for the network for one that hangs."""
    meter = busy()
    meter.paused["network"] = "no network"
    now = Watcher(meter, Clock()).look()
    assert "64 in flight, paused: no network" in plain_line(now)
    assert now.eta_s is None
    assert json.loads(json_line(now))["paused"] == ["no network"]


def test_hosts_cost_the_same_however_many() -> None:
    """Only so many hosts are looked at in one redraw."""

    class Counted(dict[str, HostMeter]):
        seen = 0

        def items(self):  # type: ignore[no-untyped-def] # a dict's
            for item in super().items():
                Counted.seen += 1
                yield item

    meter = busy()
    meter.hosts = Counted({f"h{n}": HostMeter(1, 1, float(n)) for n in range(10_000)})
    now = Watcher(meter, Clock()).look()
    assert Counted.seen <= HOSTS_LOOKED_AT + 1
    assert len(now.slow_hosts) == 3


class Counting(io.StringIO):
    """A stream that says when the third line is there."""

    def __init__(self) -> None:
        super().__init__()
        self.third = asyncio.Event()

    def flush(self) -> None:
        """Called after each line."""
        if self.getvalue().count("\n") >= 3:
            self.third.set()


@pytest.mark.parametrize("kind", ["plain", "json"])
async def test_lines_come_by_interval_and_at_the_end(kind: str) -> None:
    """A line whenever the interval has passed, and a last one with the final numbers."""
    stream = Counting()
    meter = busy()
    async with progress(kind, meter, stream, interval_s=0.001):  # type: ignore[arg-type] # a parameter
        async with asyncio.timeout(5):
            await stream.third.wait()
        meter.by_class["ok"] += 7_000
    last = stream.getvalue().splitlines()[-1]
    assert ("9,000 of 10,000" in last) if kind == "plain" else (json.loads(last)["done"] == 9_000)


async def test_none_says_nothing() -> None:
    """``none`` writes not a byte, not even at the end."""
    stream = io.StringIO()
    async with progress("none", busy(), stream, interval_s=0.0):
        await asyncio.sleep(0)
    assert stream.getvalue() == ""


async def test_auto_is_plain_off_a_terminal() -> None:
    """Into a file or a pipe go lines without any control sequence."""
    stream = io.StringIO()
    async with progress("auto", busy(), stream):
        pass
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("columns", ["20", "40", "200"])
async def test_the_bar_fits_any_width(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The display is five lines at any width, each within it."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "30")
    stream = io.StringIO()
    async with progress("bar", busy(time.monotonic()), stream, interval_s=60):
        pass
    from rich.text import Text

    drawn = Text.from_ansi(stream.getvalue()).plain
    lines = [line for line in drawn.split("\n") if line.strip()]
    assert max(map(len, lines)) <= int(columns)
    if columns == "200":
        assert "2,000 of 10,000 rows (20 %)" in drawn
        assert "this run: ok 900" in drawn
        assert "failed 80: http.404 70, dns.not_found 10" in drawn
        assert "fetched 12/128" in drawn
        assert "slow.example.org 5,500 ms x8" in drawn


async def test_a_first_run_needs_no_telling_apart() -> None:
    """Where nothing ended in an earlier run, the counts are not said to be this run's."""
    meter = busy()
    meter.rows_before = 0
    stream = io.StringIO()
    for kind in ("bar", "plain"):
        async with progress(kind, meter, stream, interval_s=60):  # type: ignore[arg-type] # a parameter
            pass
    assert "failed" in stream.getvalue()
    assert "this run" not in stream.getvalue()


class Broken(io.StringIO):
    """A stream whose other end has gone."""

    writes = 0

    def write(self, text: str) -> int:
        """Fail, and count."""
        self.writes += 1
        raise BrokenPipeError


@pytest.mark.parametrize("kind", ["plain", "json", "bar", "auto"])
async def test_a_broken_stream_costs_the_display_only(kind: str) -> None:
    """With stderr gone the run goes on, and the display is not tried again."""
    stream = Broken()
    async with progress(kind, busy(), stream, interval_s=0.0):  # type: ignore[arg-type] # a parameter
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert 1 <= stream.writes <= 3


async def test_a_closed_stream_costs_the_display_only() -> None:
    """A stream that is closed already is no reason not to run."""
    stream = io.StringIO()
    stream.close()
    for kind in ("auto", "plain", "bar", "json"):
        async with progress(kind, busy(), stream, interval_s=0.0):  # type: ignore[arg-type] # a parameter
            await asyncio.sleep(0)


async def test_a_broken_meter_costs_the_display_only() -> None:
    """A fault in what feeds the display does not reach the run."""
    meter = busy()
    meter.channels = lambda: 1 // 0  # type: ignore[assignment,return-value] # broken on purpose
    async with progress("plain", meter, io.StringIO(), interval_s=0.0):
        await asyncio.sleep(0)


async def test_the_run_keeps_its_own_errors() -> None:
    """What the block raises comes out as it is, not wrapped in a group."""
    with pytest.raises(KeyError, match="mine"):
        async with progress("plain", busy(), io.StringIO()):
            raise KeyError("mine")
    assert [task for task in asyncio.all_tasks() if task.get_name() == "progress" and not task.cancelling()] == []


async def test_a_full_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody reads loses lines; it does not stop the loop."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writing, b"x" * 4096):
                pass
        os.set_blocking(writing, True)
        with os.fdopen(writing, "w", closefd=False) as stream:
            async with asyncio.timeout(5), progress("plain", busy(), stream, interval_s=0.0):
                await asyncio.sleep(0.01)
    finally:
        os.close(reading)
        os.close(writing)
