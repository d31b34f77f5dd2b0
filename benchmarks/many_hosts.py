"""``python -m benchmarks.many_hosts SIZE``: a server at every address of 127.0.0.0/8, while stdin is open.

Prints its port. Any path is a body of SIZE bytes, but /robots.txt, which is not there. It is bound to the
interface of loopback, so that it listens to nothing else. Must never: cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

from scraper.api import loop_factory

_ROBOTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_END = b"\r\n\r\n"


class _Answers(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *requests, self._held = (self._held + data).split(_END)
        for request in requests:
            self._transport.write(_ROBOTS if request.startswith(b"GET /robots.txt") else self._answer)


async def _serve(size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listening.bind(("0.0.0.0", 0))  # of that one interface
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answers(answer), sock=listening, backlog=4096)
    print(listening.getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(int(sys.argv[1])))
