"""The origin in a process of its own: a config in, a URL out, nothing left behind.

Must never leave the process running: it is stopped on the way out of the ``with`` block, ends when
its pipe to us closes, and on Linux is killed when we die.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from scraper.errors import InternalFault
from scraper.origin.settings import HOST, OriginConfig

START_S = 20.0
"""Patience with a start on a busy machine; it takes about half a second."""

STOP_S = 2.0


class OriginProcess:
    """A running origin, for the length of a ``with`` or ``async with`` block.

    Enter it from a thread that lives as long as the block: on Linux the child dies with that thread.

    Args:
        port: where to listen; 0 takes a free port.
        latency_s: seconds every answer waits.
        jitter_s: seconds by which that strays.
        seed: another seed strays differently.
    """

    def __init__(self, *, port: int = 0, latency_s: float = 0.0, jitter_s: float = 0.0, seed: int = 0) -> None:
        self.config = OriginConfig(port, latency_s, jitter_s, seed)
        self.port = 0
        self._child: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self._child.pid}, {self.base}" if self._child else "not running"
        return f"<OriginProcess {state}>"

    @property
    def base(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id; 0 when it does not run."""
        return self._child.pid if self._child else 0

    def url(self, path: str = "/") -> str:
        """The URL of a path, with its query if it has one."""
        return f"{self.base}{path}"

    # Asking it about itself; these block for a moment.

    def stats(self) -> dict[str, Any]:
        """``total``, ``connections``, ``in_flight``, ``in_flight_peak``, and ``requests`` by path and query."""
        stats: dict[str, Any] = self._ask("/_stats")
        return stats

    def log(self) -> list[tuple[str, float, float]]:
        """Path and query, start and end of each request, by the monotonic clock, in the order they ended."""
        return [(url, start, end) for url, start, end in self._ask("/_log")]

    def reset(self) -> None:
        """Forget the counts, the log, and how often flaky URLs have failed."""
        self._ask("/_reset")

    def warm(self, size: str, ext: str = "jpg") -> None:
        """Paint every picture of a size now; a first time takes seconds, later ones read them from the cache."""
        self._ask(f"/_warm/{size}.{ext}")

    def _ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise InternalFault(f"The origin answered {path} with {answer.status}: {body.decode().strip()}")
        return json.loads(body)

    # Its life.

    def __enter__(self) -> Self:
        self._start()
        try:
            self._await_port()
        except BaseException:  # Ctrl-C too: nobody will leave a block that was never entered
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        # Started here and not in the executor: the child lives no longer than the thread that made it.
        self._start()
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._await_port)
        except BaseException:  # cancellation too
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.stop)

    def _start(self) -> None:
        told = json.dumps({**asdict(self.config), "parent": os.getpid()})
        # -P: a file scraper.py in the working folder must not be taken for this package.
        command = [sys.executable, "-P", "-m", "scraper.origin", told]
        self._child = subprocess.Popen(  # noqa: S603  our own module, no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _await_port(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        heard = b""
        deadline = time.monotonic() + START_S
        while not heard.endswith(b"\n"):
            patience = deadline - time.monotonic()
            readable, _, _ = select.select([self._child.stdout], [], [], max(0.0, patience))
            piece = os.read(self._child.stdout.fileno(), 64) if readable else b""
            if not piece:
                raise InternalFault("The built-in origin did not start; its own message is above.")
            heard += piece
        self.port = int(heard)

    def stop(self) -> None:
        """Stop it, by force if it takes more than two seconds; once stopped, do nothing."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
