r"""A server that does exactly what its script says, however wrong: for tests of whatever speaks HTTP.

In: a script per path, made of raw bytes and of the things servers do to clients. Out: the URL to ask, and counts
of connections and requests. It listens on loopback, port 0, and never interprets what it is told to send.

    script = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE]
    async with ScriptedServer({"/cut": script}) as server:
        ... server.url("/cut") ...

A script that ends without CLOSE or RESET leaves the connection open for the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

LOOPBACK: Final = "127.0.0.0/8"
"""What a run must be told to open, with ``allow_net``, before it asks a server here."""

ROBOTS: Final = "/robots.txt"
"""Where a site says what it does not want asked (RFC 9309 2.3)."""


class _Ending:
    """What happens to the connection; a mark, compared by identity."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name  # unpickled, it is the same mark


CLOSE: Final = _Ending("CLOSE")
"""Close the connection as a server does that is done: FIN."""
RESET: Final = _Ending("RESET")
"""Cut the connection: RST, whatever was still under way is lost."""
HANG: Final = _Ending("HANG")
"""Send nothing more and keep the connection open."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on once the event is set."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Drip:
    """Send ``data`` one byte at a time."""

    data: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Forever:
    """Send ``data`` again and again until the client goes away."""

    data: bytes


Step = bytes | Pause | Drip | Forever | _Ending
Script = Sequence[Step]


@dataclass(frozen=True, slots=True)
class Turns:
    """The first request gets the first script, and so on; the last script serves all that follow."""

    scripts: tuple[Script, ...]


def reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A correct response with its Content-Length: ``reply("200 OK", b"hello", "Content-Type: text/plain")``."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class ScriptedServer:
    """Serves scripts. A bare script serves every path.

    Every run asks for ``/robots.txt`` first, unless told not to. Where the scripts do not name that path it gets a
    plain 404, which allows all, from the bare script too; and it is counted apart, so that what is counted is what
    the rows asked for. The connection it came over stays open for them, and is among ``connections``.

    Args:
        scripts: what each path answers. Other paths get a plain 404.
        tls: serve https with this context.
        greet: run the script as soon as a client connects, without waiting for a request.

    Attributes:
        connections: accepted so far.
        requests: the request heads so far, oldest first, as they came.
        asked: requests by path.
        asked_at: when each request came, by the loop's clock in seconds; as ``requests``.
        robots: requests for a ``/robots.txt`` that no script names.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script | Turns] | Script,
        *,
        tls: ssl.SSLContext | None = None,
        greet: bool = False,
    ) -> None:
        self._scripts = scripts if isinstance(scripts, Mapping) else None
        self._only: Script = () if isinstance(scripts, Mapping) else scripts
        self._tls = tls
        self._greet = greet
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.requests: list[bytes] = []
        self.asked: Counter[str] = Counter()
        self.asked_at: list[float] = []
        self.robots = 0
        self.port = 0

    def __repr__(self) -> str:
        return f"<ScriptedServer port {self.port}: {self.connections} connections, {len(self.requests)} requests>"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The absolute URL of a path here."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            # OSError: the client went away, as it may.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = "/"
            if not self._greet:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode("latin-1")
                if path == ROBOTS and ROBOTS not in (self._scripts or ()):
                    self.robots += 1
                    writer.write(reply("404 Not Found"))
                    continue
                self.requests.append(head)
                self.asked_at.append(asyncio.get_running_loop().time())
            self.asked[path] += 1
            if await self._play(self._script(path), reader, writer):
                return

    def _script(self, path: str) -> Script:
        if self._scripts is None:
            return self._only
        script = self._scripts.get(path, (reply("404 Not Found"),))
        if isinstance(script, Turns):
            return script.scripts[min(self.asked[path], len(script.scripts)) - 1]
        return script

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Run one script; say whether the connection is over."""
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, Pause):
                await step.event.wait()
            elif isinstance(step, Drip):
                for byte in step.data:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(step.every_s)
            elif isinstance(step, Forever):
                while True:
                    writer.write(step.data)
                    await writer.drain()
            elif step is HANG:
                await reader.read()  # until the client gives up
                return True
            else:
                await _end(step, writer)
                return True
        return self._greet


async def _end(ending: _Ending, writer: asyncio.StreamWriter) -> None:
    if ending is RESET:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.close()
    await writer.wait_closed()
