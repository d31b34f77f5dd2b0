"""The origin's process: it starts, answers, ends, and never stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from scraper.errors import InternalFault
from scraper.origin.process import OriginProcess

WAIT_S = 10.0

LEFT_BEHIND = """
import sys
from scraper.origin.process import OriginProcess
with OriginProcess() as origin:
    print(origin.port, flush=True)
    sys.stdin.read()
"""


def fetched(url: str) -> bytes:
    """The body at a URL."""
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
        body: bytes = answer.read()
    return body


def listens(port: int) -> bool:
    """Whether anything accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_two_origins_paint_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that share no cache serve the same bytes for the same path, and other bytes for others."""
    served = []
    for name in ("a", "b"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        with OriginProcess() as origin:
            served.append(
                [fetched(origin.url(f"/img/thumb/{n}.{ext}")) for n in (2, 130) for ext in ("jpg", "png")]
            )
        assert len(list((tmp_path / name).glob("scraper/origin-*/thumb-2.*"))) == 2
    assert served[0] == served[1]
    assert len(set(served[0])) == 4


def test_it_leaves_nothing_behind() -> None:
    """After the block the process is reaped, the port free, and no descriptor is open, also after an error."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with contextlib.suppress(ZeroDivisionError), OriginProcess() as origin:
        assert repr(origin) == f"<OriginProcess pid {origin.pid}, http://127.0.0.1:{origin.port}>"
        pid, port = origin.pid, origin.port
        assert listens(port)
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not listens(port)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert repr(origin) == "<OriginProcess not running>"
    origin.stop()


async def test_async_use_and_latency() -> None:
    """It works in an async with, and every answer waits for the latency."""
    async with OriginProcess(latency_s=0.1, jitter_s=0.01) as origin:
        started = time.monotonic()
        fetched(origin.url("/bytes/1"))
        assert time.monotonic() - started >= 0.05
        assert origin.log()[0][2] - origin.log()[0][1] >= 0.05


def test_an_answer_under_way_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a client that waits for ever it still ends by itself, and need not be killed."""
    monkeypatch.setattr("scraper.origin.process.STOP_S", WAIT_S)
    with OriginProcess() as origin, socket.create_connection(("127.0.0.1", origin.port)) as hanging:
        hanging.sendall(b"GET /bytes/1?hang HTTP/1.1\r\nHost: here\r\n\r\n")
        deadline = time.monotonic() + WAIT_S
        while not origin.stats()["in_flight"]:
            assert time.monotonic() < deadline, "the origin never took the request"
        child = origin._child
        assert child is not None
        origin.stop()
    assert child.returncode == 0


def test_it_dies_with_its_parent() -> None:
    """When the process that started it is killed, it goes too."""
    with subprocess.Popen(
        [sys.executable, "-c", LEFT_BEHIND], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while listens(port):
        assert time.monotonic() < deadline, "the origin outlived its parent"
        time.sleep(0.01)


def test_it_survives_a_stranger_named_scraper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file scraper.py in the working folder is not taken for this package."""
    (tmp_path / "scraper.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with OriginProcess() as origin:
        assert fetched(origin.url("/bytes/3"))


def test_a_taken_port_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A start that fails says so at once, in one sentence, and leaves no process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        origin = OriginProcess(port=port)
        with pytest.raises(InternalFault, match="did not start"), origin:
            pytest.fail("it started")
    assert origin.pid == 0
    assert capfd.readouterr().err.strip().splitlines() == [
        f"Port {port} cannot be had: address already in use. Try --port 0."
    ]
