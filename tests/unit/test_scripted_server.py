"""The scripted server, where other tests rely on what it counts."""

from __future__ import annotations

import asyncio

from scraper.testing.server import ROBOTS, Script, ScriptedServer, Turns, reply

FINE = reply("200 OK", b"fine")


async def answers(server: ScriptedServer, *paths: str) -> list[bytes]:
    """What it answers to these requests, over one connection: the status lines and bodies."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    got = []
    for path in paths:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        got.append(head.split(b"\r\n")[0] + b" " + await reader.readexactly(length))
    writer.close()
    return got


async def test_a_robots_txt_that_no_script_names_is_missing_and_counted_apart() -> None:
    """A bare script does not serve it; the connection stays open for the rows, and they are what is counted."""
    for script in ([FINE], {"/": [FINE]}):
        async with ScriptedServer(script) as server:
            assert await answers(server, ROBOTS, "/") == [b"HTTP/1.1 404 Not Found ", b"HTTP/1.1 200 OK fine"]
            assert (server.robots, dict(server.asked), server.connections) == (1, {"/": 1}, 1)
            assert len(server.requests) == len(server.asked_at) == 1


async def test_a_robots_txt_of_a_script_is_served_and_counted_as_any_path() -> None:
    """For tests that are about it: in turns, too."""
    scripts: dict[str, Script | Turns] = {
        ROBOTS: Turns(([reply("503 Busy")], [reply("200 OK", b"User-agent: *")]))
    }
    async with ScriptedServer(scripts) as server:
        got = await answers(server, ROBOTS, ROBOTS)
        assert got == [b"HTTP/1.1 503 Busy ", b"HTTP/1.1 200 OK User-agent: *"]
        assert (server.robots, dict(server.asked), len(server.requests)) == (0, {ROBOTS: 2}, 2)
