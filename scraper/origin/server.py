"""The origin's server: requests in on loopback, replies out, and a record of who asked for what and when.

Endings: when ``stop`` is set the port closes first, open answers get a tenth of a second, then
connections are cut. Must never listen on any address but 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from aiohttp import web

from scraper.errors import UsageError
from scraper.origin import faults, pages
from scraper.origin.pictures import CONTENT_TYPES, SIZES, Album, Key, cache_folder, fingerprint, key_of, stamped
from scraper.origin.reply import LAST_MODIFIED, Ending, Reply, text
from scraper.origin.settings import HOST, OriginConfig

MAX_COUNTED = 1_000_000
"""Different URLs counted one by one; further ones count in the total only."""

MAX_LOGGED = 200_000
"""Requests whose times are kept, the latest ones."""

DRIP_TICK_S = 0.1
_WRITE_BYTES = 256 * 1024
_GRACE_S = 0.1
_PICTURE = re.compile(r"/img/(thumb|photo|large)/(\d{1,12})\.(jpg|png|webp|gif)")
_RST = struct.pack("ii", 1, 0)


class Record:
    """Who asked for what and when. Times are of the monotonic clock, which processes of a machine share."""

    def __init__(self) -> None:
        self.connections = 0
        self.in_flight = 0
        self.forget()

    def forget(self) -> None:
        """Start counting again; connections that are open stay open, and are not counted again."""
        self.connections = 0
        self.robots = 0
        self.total = 0
        self.peak = self.in_flight
        self.by_url: Counter[str] = Counter()
        self.log: deque[tuple[str, float, float]] = deque(maxlen=MAX_LOGGED)

    def begin(self, url: str) -> int:
        """Count a request; returns how often this URL has been asked, this time included."""
        self.total += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if url in self.by_url or len(self.by_url) < MAX_COUNTED:
            self.by_url[url] += 1
        return self.by_url[url]

    def end(self, url: str, started: float) -> None:
        """Note that the answer is over, however it ended."""
        self.in_flight -= 1
        self.log.append((url, started, time.monotonic()))

    def summary(self) -> dict[str, object]:
        """What ``/_stats`` shows."""
        return {
            "total": self.total,
            "robots": self.robots,
            "connections": self.connections,
            "in_flight": self.in_flight,
            "in_flight_peak": self.peak,
            "requests": dict(self.by_url),
        }


class Origin:
    """Answers requests."""

    def __init__(self, config: OriginConfig, album: Album, painters: ThreadPoolExecutor) -> None:
        self._config = config
        self._album = album
        self._painters = painters
        self._developing: dict[Key, asyncio.Future[bytes]] = {}
        self._record = Record()
        self._own = {"/_stats": self._stats, "/_log": self._log, "/_reset": self._reset}

    def connected(self) -> None:
        """Count a connection."""
        self._record.connections += 1

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; what happens on the wire has happened when this returns."""
        url = request.raw_path
        if url.startswith("/_"):
            if request.headers.get("Connection") == "close":
                # A look at the counts from outside must not change them.
                self._record.connections -= 1
            return _whole(await self._own_answer(url))
        if url == "/robots.txt":
            # Every run begins with it: counted apart, so that what is counted is what the rows asked for.
            self._record.robots += 1
            return await send(request, await self._reply(request, url, self._record.robots))
        started = time.monotonic()
        count = self._record.begin(url)
        try:
            reply = await self._reply(request, url, count)
            return await send(request, reply)
        finally:
            self._record.end(url, started)

    async def _reply(self, request: web.BaseRequest, url: str, count: int) -> Reply:
        if request.method not in {"GET", "HEAD"}:
            return text("Only GET and HEAD are answered here.\n", status=405)
        path, _, query = url.partition("?")
        try:
            pairs = faults.parse(query) if query else ()
            reply = await self._content(path, f"http://{request.host}")
            if _is_current(request, reply):
                reply = Reply(status=304, headers=reply.headers)
            if pairs:
                visit = faults.Visit(path, pairs, count, self._chance(f"{url} {count}"))
                reply = faults.bend(reply, visit)
        except faults.BadFault as bad:
            return text(f"{bad}\n", status=400)
        if self._config.latency_s or self._config.jitter_s:
            stray = self._config.jitter_s * (2 * self._chance(url) - 1)
            reply.wait_s += max(0.0, self._config.latency_s + stray)
        return reply

    def _chance(self, about: str) -> float:
        """0 to 1, the same for the same words and seed."""
        return zlib.crc32(f"{self._config.seed} {about}".encode()) / 0xFFFFFFFF

    async def _content(self, path: str, base: str) -> Reply:
        found = _PICTURE.fullmatch(path)
        if found:
            return await self._picture(found[1], int(found[2]), found[3])
        return pages.page(unquote(path), base) or text("There is nothing at this path.\n", status=404)

    async def _picture(self, size: str, number: int, ext: str) -> Reply:
        key = key_of(size, number, ext)
        data = self._album.held(key) or await self._developed(key)
        headers = {
            "Content-Type": CONTENT_TYPES[ext],
            "ETag": f'"{fingerprint()}-{size}-{number}-{ext}"',
            "Last-Modified": LAST_MODIFIED,
        }
        return Reply(stamped(data, number, ext), headers=headers)

    async def _developed(self, key: Key) -> bytes:
        """A scene that is not in memory; asked for twice at once, it is painted once."""
        future = self._developing.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._developing[key] = loop.run_in_executor(self._painters, self._album.develop, key)
            future.add_done_callback(lambda _: self._developing.pop(key, None))
        # Shielded, so that a client which goes away does not take the picture from the others.
        data = await asyncio.shield(future)
        self._album.hold(key, data)
        return data

    async def _own_answer(self, url: str) -> Reply:
        path = url.partition("?")[0]
        if path.startswith("/_warm/"):
            return await self._warm(path.removeprefix("/_warm/"))
        maker = self._own.get(path)
        return maker() if maker else text("Known are: /_stats, /_log, /_reset, /_warm/SIZE.EXT\n", status=404)

    def _stats(self) -> Reply:
        return text(json.dumps(self._record.summary()), "application/json")

    def _log(self) -> Reply:
        return text(json.dumps(list(self._record.log)), "application/json")

    def _reset(self) -> Reply:
        self._record.forget()
        return text("{}", "application/json")

    async def _warm(self, name: str) -> Reply:
        """Paint every scene of a size and format now, so that no measurement pays for it."""
        size, _, ext = name.partition(".")
        if size not in SIZES or ext not in CONTENT_TYPES:
            return text(f"Sizes are {', '.join(SIZES)}; formats {', '.join(CONTENT_TYPES)}.\n", status=404)
        keys = [Key(size, scene, ext) for scene in range(SIZES[size].scenes)]
        await asyncio.gather(*(self._developed(key) for key in keys if self._album.held(key) is None))
        return text(json.dumps({"pictures": len(keys)}), "application/json")


def _is_current(request: web.BaseRequest, reply: Reply) -> bool:
    """Whether the client's copy is current: the ETag decides, and only without one the date (RFC 9110 13.2.2)."""
    tags = request.headers.get("If-None-Match")
    if tags is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "ETag" in reply.headers and (reply.headers["ETag"] in known or "*" in known)
    # Every date we send is the same one, so only that one needs recognising.
    return request.headers.get("If-Modified-Since") == reply.headers.get("Last-Modified", "")


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Put a reply on the wire the way it says."""
    if reply.wait_s:
        await asyncio.sleep(reply.wait_s)
    if reply.is_plain or (request.method == "HEAD" and reply.has_headers):
        return _whole(reply)
    transport = request.transport
    if transport is None:  # the client has gone
        return web.Response()
    if reply.ending is Ending.HANG:
        # Cancelled when the client gives up or the server stops.
        await asyncio.Event().wait()
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    if reply.has_headers:
        if reply.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(reply.body)
        await response.prepare(request)
        stop = int(len(reply.body) * reply.stop_at)
        await _write(response, reply.body[:stop], reply.drip)
        if reply.stall_s:
            await asyncio.sleep(reply.stall_s)
        if reply.ending is Ending.COMPLETE:
            await _write(response, reply.body[stop:], reply.drip)
            return response
    if reply.ending is Ending.RESET:
        _linger_no_longer(transport)
        transport.abort()
    else:
        transport.close()
    return response


def _whole(reply: Reply) -> web.Response:
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers)


async def _write(response: web.StreamResponse, body: bytes, drip: int) -> None:
    if not drip:
        for at in range(0, len(body), _WRITE_BYTES):
            await response.write(body[at : at + _WRITE_BYTES])
        return
    # A slow drip sends single bytes further apart; a fast one sends more of them each tick.
    step = max(1, int(drip * DRIP_TICK_S))
    for at in range(0, len(body), step):
        await response.write(body[at : at + step])
        await asyncio.sleep(step / drip)


def _linger_no_longer(transport: asyncio.BaseTransport) -> None:
    """Make the coming close an RST: linger on, for zero seconds."""
    plug: socket.socket = transport.get_extra_info("socket")
    with socket.socket(fileno=os.dup(plug.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)


async def serve(config: OriginConfig, ready: Callable[[int], None], stop: asyncio.Event | None = None) -> None:
    """Serve until ``stop`` is set, or until cancelled where there is none.

    Args:
        config: how to behave.
        ready: called with the port once the server answers.
        stop: set it to end the serving.

    Raises:
        UsageError: the port cannot be had.
    """
    # Pillow lets go of the interpreter while it resizes, blends and encodes: threads paint in parallel.
    painters = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="paint")
    origin = Origin(config, Album(cache_folder()), painters)
    protocols = web.Server(origin.answer, handler_cancellation=True, access_log=None)

    def connect() -> asyncio.BaseProtocol:
        origin.connected()
        return protocols()

    loop = asyncio.get_running_loop()
    try:
        listening = await loop.create_server(connect, HOST, config.port, backlog=1024)
    except OSError as error:
        painters.shutdown(wait=False)
        why = os.strerror(error.errno or 0).lower()
        raise UsageError(f"Port {config.port} cannot be had: {why}. Try --port 0.") from error
    try:
        ready(listening.sockets[0].getsockname()[1])
        await (stop or asyncio.Event()).wait()
    finally:
        listening.close()
        await protocols.shutdown(_GRACE_S)
        painters.shutdown(wait=False, cancel_futures=True)


def run(config: OriginConfig, ready: Callable[[int], None], stop_on: int | None = None) -> None:
    """Serve in this process, on uvloop where there is one, until interrupted.

    Args:
        config: how to behave.
        ready: called with the port once the server answers.
        stop_on: a file descriptor; when its other end closes, the serving ends.
    """
    try:
        import uvloop
    except ImportError:  # Windows
        factory = None
    else:
        factory = uvloop.new_event_loop

    async def until_closed() -> None:
        stop = asyncio.Event()
        if stop_on is not None:
            asyncio.get_running_loop().add_reader(stop_on, stop.set)
        await serve(config, ready=ready, stop=stop)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(until_closed())
