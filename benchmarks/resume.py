"""Going on with a half-done list of a million rows: how long to the first request, and in how much memory?

The output of the killed run is made by hand: its ledger, and what is remembered of the rows that were read.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Finding, judged, spread, verdict
from benchmarks.measuring import memory_of
from benchmarks.setting import Setting, empty
from pipelines import files
from scraper import api
from scraper.ledger import Ledger
from scraper.options import from_settings
from scraper.outdir import OutputFolder
from scraper.policies.urls import sameness
from scraper.records import Outcome
from scraper.seen import Seen
from scraper.sources import open_source

GOAL_S = 3.0
GOAL_MB = 250
ROWS = 1_000_000
LATER_S = 10.0
"""When memory is looked at again: by then there is work in every queue."""

PATIENCE_S = 120.0
_CHUNK = 10_000
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + bytes(range(256)) * 4

HALVES = {"the first half": range(ROWS // 2), "every other row": range(0, ROWS, 2)}
"""Which rows the killed run has recorded."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that went on.

    Attributes:
        seconds: from the start of the command to the first request at the server.
        first_mb: the most memory that the loop process had held by then.
        later_mb: the same, ten seconds later.
    """

    seconds: float
    first_mb: float
    later_mb: float


@dataclass(slots=True)
class _Server:
    """Answers everything with a kilobyte, and knows when it was first asked."""

    port: int = 0
    asked: threading.Event = field(default_factory=threading.Event)
    asked_at: float = 0.0

    def note(self) -> None:
        """Somebody has asked."""
        if not self.asked.is_set():
            self.asked_at = time.monotonic()
            self.asked.set()

    def forget(self) -> None:
        """From now on the next request is the first."""
        self.asked.clear()


class _Answering(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._server.note()
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        self._transport.write(_ANSWER * len(heads))


@contextmanager
def _serving() -> Iterator[_Server]:
    """A server in a thread, for the length of the block."""
    server = _Server()
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(loop.create_server(lambda: _Answering(server), "127.0.0.1", 0))
    server.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.close()


def measure(setting: Setting) -> Finding:
    """Two formats of list, and two ways of being half done."""
    found: dict[str, list[Resumed]] = {}
    with _serving() as server:
        urls = [f"http://127.0.0.1:{server.port}/{row}" for row in range(ROWS)]
        for listed in (_as_txt(setting.folder, urls), _as_csv(setting.folder, urls)):
            for name, done in HALVES.items():
                made = setting.folder / f"made-{listed.name}-{done.step}"
                asyncio.run(make_half_done(made, listed, urls, done))
                runs = found[f"{listed.name}, {name}"] = []
                for number in range(1 if setting.quick else setting.repeat):
                    out = setting.folder / f"out-{listed.name}-{done.step}-{number}"
                    shutil.copytree(made, out)
                    runs.append(_resumed(server, listed, out, setting.folder))
                    empty(out)
                    now = runs[-1]
                    print(
                        f"  {listed.name}, {name}: {now.seconds:.2f} s to the first request, "
                        f"{now.first_mb:.0f} MB by then, {now.later_mb:.0f} MB after {LATER_S:.0f} s more",
                        flush=True,
                    )
                empty(made)
    return _finding(found)


def _as_txt(folder: Path, urls: Sequence[str]) -> Path:
    path = folder / "list.txt"
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def _as_csv(folder: Path, urls: Sequence[str]) -> Path:
    path = folder / "list.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("id,url\n")
        file.writelines(f"{row},{url}\n" for row, url in enumerate(urls))
    return path


async def make_half_done(out: Path, listed: Path, urls: Sequence[str], done: range) -> None:
    """What a run over ``listed`` leaves that was killed when the rows ``done`` had ended."""
    pipeline, config = files.build(output_format="webdataset"), from_settings({})
    source = open_source([str(listed)], config.source)
    meta = api.run_meta(pipeline, source, [str(listed)], config, api.Watch())
    with OutputFolder(out) as folder:
        async with Ledger.open(folder.ledger_path) as ledger:
            await ledger.begin(meta)
            for at in range(0, len(done), _CHUNK):
                await ledger.commit([_ok(row, urls[row]) for row in done[at : at + _CHUNK]], {})
        async with Seen(folder.state_dir / "seen.sqlite", api._identity(meta, config)) as seen:
            for at in range(0, done[-1] + 1, _CHUNK):
                keys = ((row, sameness(urls[row], None, {})) for row in range(at, min(at + _CHUNK, len(urls))))
                await seen.firsts([(row, key) for row, key in keys if key is not None])


def _ok(row: int, url: str) -> Outcome:
    return Outcome(
        row, url, "ok", status=200, attempts=1, bytes=1024, sha256=f"{row:064x}", shard="00000.tar", line=row + 1
    )


def _resumed(server: _Server, listed: Path, out: Path, folder: Path) -> Resumed:
    """Run the command until ten seconds after its first request."""
    command = [*peers.files_command(listed, out, "--output-format", "webdataset")]
    server.forget()
    with (folder / "said.log").open("ab") as said:
        begun = time.monotonic()
        run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    try:
        if not server.asked.wait(PATIENCE_S):
            raise SystemExit(f"Nothing was asked within {PATIENCE_S:.0f} s: see {folder / 'said.log'}.")
        first_mb = memory_of(run.pid)
        seconds = server.asked_at - begun
        time.sleep(LATER_S)
        return Resumed(seconds, first_mb, memory_of(run.pid))
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def _finding(found: dict[str, list[Resumed]]) -> Finding:
    def row(what: str, digits: int, figure: Callable[[Resumed], float]) -> list[str]:
        return [what, *(spread([figure(each) for each in runs], digits) for runs in found.values())]

    every = [each for runs in found.values() for each in runs]
    slowest = max(
        (runs for runs in found.values()), key=lambda runs: sorted(r.seconds for r in runs)[len(runs) // 2]
    )
    seconds, largest = [each.seconds for each in slowest], max(each.later_mb for each in every)
    met = judged(seconds, lambda it: it <= GOAL_S) and largest <= GOAL_MB
    return Finding(
        f"resume: a list of {ROWS:,} rows, half of them done",
        ["", *found],
        [
            row("seconds to the first request", 2, lambda each: each.seconds),
            row("loop process by then (VmHWM), MB", 0, lambda each: each.first_mb),
            row(f"{LATER_S:.0f} s later, MB", 0, lambda each: each.later_mb),
        ],
        ["from the start of the command; lists and ledger in the file cache; bodies of 1 KB, into tar shards"],
        verdict(
            "resume",
            f"{spread(seconds, 2)} s and {largest:.0f} MB",
            f"at most {GOAL_S:.0f} s and {GOAL_MB} MB",
            met,
            is_valid=True,
        ),
        is_valid=True,  # a run that never asks ends the benchmark
    )
