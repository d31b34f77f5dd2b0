"""Group G of docs/faults.md: signals, terminals that go away, and a second run; each through the whole command.

What a signal does is tried in all four ways: on uvloop and on asyncio's own loop, sent to the process and to its
whole group. That another run then does the rest is the ledger's doing and not the loop's, so that run is made in
this process, where nothing has to be loaded for it.

Row G5, a run that is killed again and again, is in tests/integration/test_kill_loop.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import signal
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines import images
from scraper import arun
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.testing.server import LOOPBACK, Pause, Script, ScriptedServer, reply

pytestmark = pytest.mark.slow  # all of them start the command

ROWS = 12
HELD = 4
"""Rows from this one on are answered only when the test says so."""

AT_ONCE = 2
"""Fetches at once: so many rows are in flight while the server holds its answers back."""

WITHIN_S = 25.0
"""However broken the product is, a test ends; the slowest takes 4 s."""

QUIET = ("--progress", "none")
POLITE = ("--allow-net", LOOPBACK, "--robots", "ignore", "--pace", "fixed", "--per-host", str(AT_ONCE))
"""What is asked and when is what the tests say, and nothing beside it."""

PATIENT = ("--timeout", "1h", "--header-timeout", "1h", "--stall-timeout", "1h")

_PICTURE = io.BytesIO()
Image.new("RGB", (40, 30), "teal").save(_PICTURE, "JPEG")

ON_BOTH_LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
TO_BOTH = pytest.mark.parametrize("whom", ["process", "group"])
BOTH_SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@dataclass
class Work:
    """A list, where it is served, and where its results go."""

    server: ScriptedServer
    release: asyncio.Event
    folder: Path

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "out"

    @property
    def outcomes(self) -> list[Outcome]:
        """What the ledger holds; every row once, since the row is its key."""
        with LedgerReader(self.out / ".scraper" / "ledger.sqlite") as reader:
            return [recorded.outcome for recorded in reader.rows()]

    async def hold(self, count: int = AT_ONCE) -> None:
        """Wait until so many requests are held back."""
        await until(lambda: len(self.server.requests) >= HELD + count)

    def whole_files(self) -> set[str]:
        """What stands under a final name: pictures of rows that are ok, each of them whole."""
        found = {str(path.relative_to(self.out)) for path in self.out.glob("0*/*.jpg")}
        assert found <= {outcome.path for outcome in self.outcomes if outcome.class_ == "ok"}
        for name in found:
            with Image.open(self.out / name) as picture:
                picture.load()  # raises for a picture that is cut off
        return found

    def check_complete(self) -> None:
        """Every row has ended well, and every picture is there."""
        assert Counter(outcome.class_ for outcome in self.outcomes) == {"ok": ROWS}
        assert len(self.whole_files()) == ROWS


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[Work]:
    """Pictures of which the later ones are held back until ``release`` is set."""
    release = asyncio.Event()
    at_once: Script = [reply("200 OK", _PICTURE.getvalue())]
    scripts = {f"/{row}": at_once if row < HELD else [Pause(release), *at_once] for row in range(ROWS)}
    async with ScriptedServer(scripts) as server:
        urls = "".join(f"{server.url(path)}\n" for path in scripts)
        (tmp_path / "urls.txt").write_text(urls)
        yield Work(server, release, tmp_path)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    while not happened():  # noqa: ASYNC110 - no event of ours tells of it
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def started(
    work: Work, *options: str, loop: str = "uvloop", **how: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in a process group of its own; nothing of it is left when the block is."""
    fetches = ("--concurrency", str(AT_ONCE), "--workers", "1", "--retries", "0", *POLITE)
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "scraper", "images", str(work.folder / "urls.txt"), "-o", str(work.out), *fetches, *options),
        env=environment(loop, work.folder),
        **{"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE}
        | {"stderr": asyncio.subprocess.PIPE, "start_new_session": True}
        | how,
    )
    try:
        async with asyncio.timeout(WITHIN_S):  # here, in the test's own task: a fixture has another
            yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        await run.wait()


def environment(loop: str, folder: Path) -> Mapping[str, str]:
    """As most users have it, streams buffered; and uvloop cannot be imported if it is to be asyncio's own loop."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if loop == "uvloop":
        return plain
    stub = folder / "stub"
    stub.mkdir(exist_ok=True)
    (stub / "uvloop.py").write_text("raise ImportError('left out by the test')\n")
    return {**plain, "PYTHONPATH": os.pathsep.join(filter(None, [str(stub), os.environ.get("PYTHONPATH")]))}


async def line_of(run: asyncio.subprocess.Process, words: str) -> str:
    """The next line on stderr, which has these words in it."""
    assert run.stderr is not None
    line = (await run.stderr.readline()).decode()
    assert words in line
    return line


async def said(run: asyncio.subprocess.Process) -> str:
    """The rest of stderr; it ends when the last process that could write there has gone."""
    assert run.stderr is not None
    return (await run.stderr.read()).decode()


async def complete(work: Work) -> None:
    """The same job once more, left to itself."""
    work.release.set()
    async with asyncio.timeout(WITHIN_S):
        report = await arun(
            images.build(),
            inputs=work.folder / "urls.txt",
            out=work.out,
            workers=1,
            retries=0,
            allow_net=LOOPBACK,
            robots="ignore",
        )
    assert report.exit_code(0) == 0
    work.check_complete()


def send(run: asyncio.subprocess.Process, number: int, whom: str) -> None:
    """To the process, as ``kill`` does, or to its group, as a terminal and a service manager do."""
    if whom == "group":
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)


async def interrupted_and_resumed(work: Work, number: int, whom: str, loop: str) -> None:
    """What is in flight at the first signal ends well, in the workers too; the rest is asked once, later."""
    async with started(work, *QUIET, loop=loop) as run:
        await work.hold()
        send(run, number, whom)
        await line_of(run, "ends at once")
        work.release.set()
        rest = await said(run)
        assert await run.wait() == 128 + number
    assert f"scraper resume {work.out}" in rest
    assert rest.count("\n") == 1  # nothing else is said: no traceback, from whichever process
    assert {outcome.class_ for outcome in work.outcomes} == {"ok"}
    assert len(work.outcomes) == len(work.whole_files()) == HELD + AT_ONCE
    await complete(work)
    assert set(work.server.asked.values()) == {1}


@ON_BOTH_LOOPS
async def test_g1_after_sigint_what_is_in_flight_ends_and_the_rest_waits(work: Work, loop: str) -> None:
    """No new row is begun, exit 130, how to resume is said, and resuming asks nothing twice."""
    await interrupted_and_resumed(work, signal.SIGINT, "process", loop)


@ON_BOTH_LOOPS
@TO_BOTH
async def test_g3_sigterm_is_an_interrupt_too(work: Work, whom: str, loop: str) -> None:
    """As SIGINT, with exit 143, also where a service manager sends it to the workers as well."""
    await interrupted_and_resumed(work, signal.SIGTERM, whom, loop)


@ON_BOTH_LOOPS
async def test_g4_ctrl_c_reaches_the_workers_and_they_go_on(work: Work, loop: str) -> None:
    """A terminal sends SIGINT to the whole group: no worker dies of it, none says a word."""
    await interrupted_and_resumed(work, signal.SIGINT, "group", loop)


@ON_BOTH_LOOPS
@TO_BOTH
@BOTH_SIGNALS
async def test_g2_a_second_signal_ends_at_once_and_tears_nothing(
    work: Work, number: signal.Signals, whom: str, loop: str
) -> None:
    """Nobody waits for what is in flight; what is there is whole, and only what was in flight is asked again."""
    async with started(work, *QUIET, *PATIENT, loop=loop) as run:
        await work.hold()
        send(run, number, whom)
        await line_of(run, "ends at once")
        send(run, number, whom)
        assert await said(run) == ""  # from no process, and this ends with the last of them
        assert await run.wait() == 128 + number
    recorded = {outcome.row for outcome in work.outcomes}
    assert recorded <= set(range(HELD))
    work.whole_files()
    await complete(work)
    assert all(work.server.asked[f"/{row}"] == 1 for row in recorded)
    assert max(work.server.asked.values()) <= 2


@ON_BOTH_LOOPS
@TO_BOTH
async def test_g6_sighup_ends_nothing(work: Work, whom: str, loop: str) -> None:
    """A terminal that was closed does not take the run with it, nor its workers."""
    async with started(work, *QUIET, *PATIENT, loop=loop) as run:
        await work.hold()
        send(run, signal.SIGHUP, whom)
        work.release.set()
        _, errors = await run.communicate()
    assert (run.returncode, errors) == (0, b"")
    work.check_complete()
    assert set(work.server.asked.values()) == {1}


@pytest.mark.parametrize("progress", ["bar", "plain"])
async def test_g6_a_terminal_that_goes_away_is_not_missed(work: Work, progress: str) -> None:
    """The window is closed in the middle: every write to it fails from then on, and the run comes to its end."""
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)  # the group's own, so that its end is a SIGHUP

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    async with started(work, *PATIENT, "--progress", progress, preexec_fn=take_terminal, **streams) as run:
        os.close(theirs)
        await work.hold()
        os.close(ours)
        work.release.set()
        assert await run.wait() == 0
    work.check_complete()
    assert set(work.server.asked.values()) == {1}


@pytest.mark.parametrize("progress", ["json", "plain"])
async def test_g6_readers_that_go_away_are_not_missed(work: Work, progress: str) -> None:
    """Whoever read stdout and stderr ends (``| head``): the run goes on, and its exit code says how it went."""
    reads, writes = os.pipe()
    async with started(work, *PATIENT, "--progress", progress, stdout=writes, stderr=writes) as run:
        os.close(writes)
        await work.hold()
        os.close(reads)
        work.release.set()
        assert await run.wait() == 0
    work.check_complete()


async def test_g6_an_interrupt_whose_reader_has_gone_is_heeded(work: Work) -> None:
    """The exit code is right and the run resumable, though what is said about it reaches nobody."""
    reads, writes = os.pipe()
    async with started(work, *QUIET, stdout=writes, stderr=writes) as run:
        os.close(writes)
        await work.hold()
        os.close(reads)
        run.send_signal(signal.SIGTERM)
        work.release.set()
        assert await run.wait() == 143
    assert HELD <= len(work.outcomes) == len(work.whole_files()) < ROWS
    await complete(work)
    assert set(work.server.asked.values()) == {1}


@ON_BOTH_LOOPS
async def test_g6_standing_still_costs_no_row(work: Work, loop: str) -> None:
    """Stopped for longer than every limit, and continued, with rows in flight and no retries: none has failed."""
    limits = [f"--{name}=2s" for name in ("connect-timeout", "header-timeout", "stall-timeout", "timeout")]
    async with started(work, *QUIET, *limits, loop=loop) as run:
        await work.hold()
        os.killpg(run.pid, signal.SIGSTOP)
        await asyncio.sleep(2.5)  # what must pass is time: the limits are of that
        os.killpg(run.pid, signal.SIGCONT)
        work.release.set()
        _, errors = await run.communicate()
    assert (run.returncode, errors) == (0, b"")
    work.check_complete()
    assert set(work.server.asked.values()) == {1}


async def test_g7_a_second_run_is_refused_and_names_the_first(work: Work) -> None:
    """Exit 4 with one sentence; the first goes on unharmed. A run that was killed holds nothing any more."""
    async with started(work, *QUIET, *PATIENT) as first:
        await work.hold()
        async with started(work, *QUIET) as second:
            _, errors = await second.communicate()
        assert second.returncode == 4
        assert f"process {first.pid}" in errors.decode()
        assert errors.count(b"\n") == 1
        assert first.returncode is None
        os.killpg(first.pid, signal.SIGKILL)
        assert await first.wait() == -signal.SIGKILL
    await complete(work)
