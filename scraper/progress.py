"""What is happening now, on stderr: a display on a terminal, a line now and then elsewhere.

In: the run's Meter. Out: text on a stream. The only module that knows rich.
Must never: raise into the run, wait for a terminal that is stopped or a pipe that is full, or take a hundredth of
the loop's time: work per redraw does not grow with rows or hosts.

    async with progress("auto", meter):
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal, Protocol, TextIO

from scraper.log import escaped
from scraper.meter import Meter
from scraper.snapshot import Snapshot, Watcher
from scraper.units import show_bytes, show_count, show_ms, show_rate, show_seconds

Progress = Literal["auto", "bar", "plain", "json", "none"]

BAR_S = 0.25
"""Between redraws: four a second look alive, and cost a few thousandths of a core."""

LINE_S = 10.0
"""Between lines: an hour of log is 360 of them."""

_log = logging.getLogger("scraper.progress")


def plain_line(now: Snapshot) -> str:
    """One line for a log file."""
    parts = [
        _of_total(now),
        f"{show_rate(now.rows_per_s)} rows/s",
        f"{show_bytes(now.bytes_per_s)}/s",
        f"{show_seconds(now.elapsed_s)} so far",
    ]
    if now.eta_s is not None and now.done != now.total:
        parts.append(f"{show_seconds(now.eta_s)} to go")
    if now.in_flight:
        parts.append(f"{now.in_flight} in flight")
    parts += [f"paused: {why}" for why in now.paused] + ([escaped(now.waiting)] if now.waiting else [])
    ends = [f"{show_count(now.skipped)} skipped"] if now.skipped else []
    if now.failed:
        ends.append(f"{show_count(now.failed)} failed ({_failures(now)})")
    return ", ".join(parts) + (f", {_this_run(now)}{', '.join(ends)}" if ends else "")


def json_line(now: Snapshot) -> str:
    """One JSON object for a program that watches."""
    return json.dumps(
        {
            "event": "progress",
            "elapsed_s": round(now.elapsed_s, 3),
            "done": now.done,
            "total": now.total,
            "total_is_estimate": now.is_estimate,
            "rows_per_s": round(now.rows_per_s, 3),
            "bytes_per_s": round(now.bytes_per_s),
            "eta_s": None if now.eta_s is None else round(now.eta_s, 1),
            "in_flight": now.in_flight,
            "transforming": now.transforming,
            "retries": now.retries,
            "ok": now.ok,
            "skipped": now.skipped,
            "failed": now.failed,
            "failures": dict(now.failures),
            "queues": {one.name: {"size": one.size, "bound": one.bound} for one in now.channels},
            "paused": list(now.paused),
            "waiting": now.waiting,
            "slow_hosts": {name: round(1000 * mean_s, 1) for name, _, mean_s in now.slow_hosts},
        }
    )


def _of_total(now: Snapshot) -> str:
    if now.total is None:
        return f"{show_count(now.done)} rows"
    # Rounded down: 100 % is said when it is so.
    percent = f" ({100 * now.done // now.total} %)" if now.total else ""
    return f"{show_count(now.done)} of {'about ' if now.is_estimate else ''}{show_count(now.total)} rows{percent}"


def _this_run(now: Snapshot) -> str:
    """Tells counts of this run from those that hold earlier ones too, where there were any."""
    return "this run: " if now.done > now.ok + now.skipped + now.failed else ""


def _failures(now: Snapshot) -> str:
    said = ", ".join(f"{name} {show_count(rows)}" for name, rows in now.failures)
    return said if now.failed == sum(rows for _, rows in now.failures) else f"{said}, ..."


class _Display(Protocol):
    interval_s: float

    def draw(self, now: Snapshot) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A line now and then."""

    def __init__(self, stream: TextIO, line: Callable[[Snapshot], str]) -> None:
        self.interval_s = LINE_S
        self._stream = stream
        self._line = line

    def draw(self, now: Snapshot) -> None:
        self._stream.write(self._line(now) + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class _Bar:
    """A few lines that are drawn anew in place."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.interval_s = BAR_S

        class _Console(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # rich's own would end the process, and take stdout with it

        self._live = Live(
            console=_Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False),
            auto_refresh=False,
            redirect_stdout=False,  # results go there
            redirect_stderr=stream is sys.stderr,  # what others write there appears above the display
        )
        self._live.start()

    def draw(self, now: Snapshot) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        def line(*parts: tuple[str, str]) -> Text:
            return Text.assemble(*parts, no_wrap=True, overflow="crop")

        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(ratio=1, min_width=8)
        head.add_column(no_wrap=True, overflow="crop")
        bar = ProgressBar(now.total, now.done, pulse=now.total is None, animation_time=now.elapsed_s)
        eta = f", {show_seconds(now.eta_s)} to go" if now.eta_s is not None and now.done != now.total else ""
        head.add_row(bar, Text(_of_total(now) + eta))
        rows = [
            line(("  ", ""), (_pace(now), "cyan")),
            line(
                (f"  {_this_run(now)}", "dim"),
                (f"ok {show_count(now.ok)}", "green"),
                (f"   skipped {show_count(now.skipped)}", "yellow" if now.skipped else "dim"),
                (f"   failed {show_count(now.failed)}", "red" if now.failed else "dim"),
                (f": {_failures(now)}" if now.failures else "", "red"),
            ),
        ]
        queues = "   ".join(f"{one.name} {one.size}/{one.bound}" for one in now.channels)
        hosts = "   ".join(
            f"{escaped(name)[:40]} {show_ms(1000 * mean_s)} x{in_flight}"
            for name, in_flight, mean_s in now.slow_hosts
        )
        rows += [
            line((f"  {name:<8}{what}", "dim")) for name, what in (("queues", queues), ("slowest", hosts)) if what
        ]
        self._live.update(Group(head, *rows), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _pace(now: Snapshot) -> str:
    parts = [
        f"{show_rate(now.rows_per_s)} rows/s",
        f"{show_bytes(now.bytes_per_s)}/s",
        f"{now.in_flight} in flight",
        f"{now.transforming} in transform",
    ]
    if now.retries:
        parts.append(f"{show_count(now.retries)} retries")
    parts += [f"paused: {why}" for why in now.paused] + ([escaped(now.waiting)] if now.waiting else [])
    return "   ".join(parts)


def _display(kind: Progress, stream: TextIO) -> _Display:
    if kind == "auto":
        kind = "bar" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    if kind == "bar":
        return _Bar(stream)
    return _Lines(stream, json_line if kind == "json" else plain_line)


def _has_room(stream: TextIO) -> bool:
    """Whether writing would not wait: not so for a terminal stopped by Ctrl-S, or a pipe that nobody reads."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return True  # no file behind it, such as a StringIO
    asked = select.poll()
    asked.register(number, select.POLLOUT)
    return bool(asked.poll(0))


class _Guarded:
    """A display that is given up for good at its first error, and that skips what its stream has no room for."""

    def __init__(self, kind: Progress, watcher: Watcher, stream: TextIO) -> None:
        self._watcher = watcher
        self._stream = stream
        self._display: _Display | None = None
        with self._giving_up():
            self._display = _display(kind, stream)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a closed stderr, an odd terminal: none of them is worth a row
            self._display = None
            _log.debug("the progress display gave up", extra={"reason": str(error)})

    @property
    def interval_s(self) -> float | None:
        return self._display.interval_s if self._display is not None else None

    def draw(self) -> None:
        with self._giving_up():
            if self._display is not None and _has_room(self._stream):
                self._display.draw(self._watcher.look())

    def close(self) -> None:
        self.draw()
        display = self._display
        with self._giving_up():
            if display is not None and _has_room(self._stream):
                display.close()


@contextlib.asynccontextmanager
async def progress(
    kind: Progress, meter: Meter, stream: TextIO | None = None, *, interval_s: float | None = None
) -> AsyncIterator[None]:
    """Show ``meter`` on a stream while the block runs, and once more at its end.

    Args:
        kind: ``auto`` is ``bar`` on a terminal and ``plain`` elsewhere.
        meter: what to show.
        stream: stderr if None.
        interval_s: seconds between draws; each kind's own if None.
    """
    stream = stream if stream is not None else sys.stderr
    if kind == "none" or stream is None:
        yield
        return
    display = _Guarded(kind, Watcher(meter), stream)

    async def keep_drawing() -> None:
        while (own_s := display.interval_s) is not None:
            await asyncio.sleep(interval_s if interval_s is not None else own_s)
            display.draw()

    # No task group: it would wrap what the run raises. This task cannot fail, and never outlives the block.
    drawing = asyncio.create_task(keep_drawing(), name="progress")
    try:
        yield
    finally:
        drawing.cancel()
        display.close()
