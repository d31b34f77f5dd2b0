"""aiohttp's side of a fetch: connections that note what they cost, and bound what comes before a body.

In: what aiohttp asks its connector for. Out: connections, with their times noted on the hop that asked. aiohttp's
own tracing would do the same for 16 µs a request; this costs nothing on a connection that is reused.

Must never: take what came after one response for the answer to the next request; hold headers without a bound.
"""

from __future__ import annotations

import contextvars
import socket
import time
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import AddrInfoType, client_proto, http_exceptions
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http import RawResponseMessage

from scraper.deadline import Watch, Watchdog
from scraper.descriptors import idle_hosts
from scraper.records import Timings
from scraper.resolver import LACKING, Resolver

if TYPE_CHECKING:
    from aiohttp.connector import Connection


KEEP_ALIVE_S = 15.0
"""How long an idle connection is kept: longer than polite pauses between requests, less than servers wait."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

IDLE_HOSTS = 256
"""Most hosts whose idle connections are kept; a broad crawl meets thousands while the keep-alive time lasts."""

HEAD_BYTES = 256 * 1024
"""Most that is read before a body: the headers, and all interim responses before them (RFC 9110 15.2), of which a
server may send as many as it likes. curl's limit is 300 KB (CURLE_TOO_LARGE)."""

FRAMING_BYTES = 512 * 1024
"""Most that chunked framing may add to a body, beside eight times its size: extensions of chunks, and trailers,
which nobody reads and aiohttp keeps. A chunk of one byte needs five more; what is not yet parsed counts, too."""

_END_OF_HEAD = b"\r\n\r\n"

_INTERIM = frozenset(range(100, 200)) - {101}
"""Responses after which the one that counts is still to come."""


class Hop(Watch):
    """One hop in flight: its deadlines, and where its time went. Seconds; zero for what was not needed.

    Attributes:
        reused: the connection had served before.
        fresh_only: do not reuse a connection again; the last one was stale.
        lacking: errno for what this machine had none left of for a socket; 0 for nothing.
        shaking: in the middle of a TLS handshake.
        status: of the response, 0 before there is one.
    """

    __slots__ = (
        "_began",
        "_headers_s",
        "_held_from",
        "_held_more_s",
        "_usable_at",
        "connect_s",
        "dns_s",
        "fresh_only",
        "lacking",
        "reused",
        "shaking",
        "status",
        "tls_s",
    )

    def __init__(self, dog: Watchdog, spent_s: float = 0.0) -> None:
        super().__init__(dog, spent_s)
        self.dns_s = self.connect_s = self.tls_s = 0.0
        self.reused = self.fresh_only = self.shaking = False
        self.status = self.lacking = 0
        # Not the loop's clock: uvloop's has whole milliseconds and stands still within a turn.
        self._began = self._usable_at = self._held_from = time.perf_counter()
        self._headers_s = 0.0
        self._held_more_s = 0.0  # than ``held_s``, which is by that clock

    def usable(self, reused: bool) -> None:
        """A connection is there."""
        self.reused = reused
        self.lacking = 0
        self.connected()
        self._usable_at = time.perf_counter()

    def once_more(self) -> None:
        """The connection was stale; another is needed, and one that no one has used."""
        self.fresh_only = True
        self.connecting()

    def headed(self, status: int) -> None:
        """The response's headers are there."""
        self.status = status
        self.answered()
        self._headers_s = time.perf_counter() - self._usable_at

    def hold(self) -> None:
        """From now on it is us who keep the fetch waiting."""
        super().hold()
        self._held_from = time.perf_counter()

    def go_on(self) -> None:
        """The end of ``hold``."""
        before = self.held_s
        super().go_on()
        self._held_more_s += time.perf_counter() - self._held_from - (self.held_s - before)

    def timings(self, spent_s: float = 0.0) -> Timings:
        """For the records; ``spent_s`` is what earlier hops took."""
        held_s = self.held_s + self._held_more_s
        return Timings(
            self.dns_s * 1e3,
            self.connect_s * 1e3,
            self.tls_s * 1e3,
            self._headers_s * 1e3,
            (spent_s + time.perf_counter() - self._began - held_s) * 1e3,
        )


HOP: contextvars.ContextVar[Hop] = contextvars.ContextVar("hop")
"""The hop that the running task is making."""


class ResponseProtocol(client_proto.ResponseHandler):
    """Bounds what comes before a body, and remembers how the connection ended.

    The latter aiohttp does not say where a body just stops.

    Attributes:
        lost: why the connection broke; None while it stands and after an orderly end.
        malformed: what of the response is not HTTP, if anything.
    """

    lost: BaseException | None = None
    malformed: BaseException | None = None
    _head_left = -1  # bytes that may still come before the body; -1 where they have come
    _chunked = -1  # bytes of a chunked body so far, as they came; -1 for any other body
    _piece = b""  # what is being parsed, while a head is awaited

    def set_response_params(self, **kwargs: Any) -> None:
        """Called before a request is written."""
        self._head_left, self._chunked = HEAD_BYTES, -1
        self._params = kwargs
        super().set_response_params(**kwargs)

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._head_left >= 0:
            self._receive_head(data)
        elif self._exception is None:
            super().data_received(data)
            if self._chunked >= 0:
                self._chunked += len(data)
                self._weigh()

    def _receive_head(self, data: bytes) -> None:
        if self._head_left == HEAD_BYTES and data[:1] in (b"I", b"R"):
            self._refuse("ICE or RTSP")  # which the parser speaks, too
            return
        left = self._head_left - len(data)
        # Only from the very beginning: parsed by itself, the rest of a head that is too long looks like no HTTP.
        self._piece = data if self._head_left == HEAD_BYTES else b""
        super().data_received(data)
        self._piece = b""
        if self._head_left < 0:
            return
        self._head_left = max(0, left)
        if left < 0:
            self._refuse(f"Too many headers: more than {HEAD_BYTES} bytes before the body")

    def _receive_apart(self) -> bool:
        """Parse a piece again, each head by itself; say whether that has come to an end of its own.

        What follows a response may be no HTTP, such as the body that a 304 must not have. The parser then gives
        nothing of what came in one piece with it; the response stands all the same.
        """
        data, self._piece = self._piece, b""
        if _END_OF_HEAD not in data:
            return False
        super().set_response_params(**self._params)
        while self._head_left >= 0 and _END_OF_HEAD in data:
            end = data.index(_END_OF_HEAD) + len(_END_OF_HEAD)
            super().data_received(data[:end])
            data = data[end:]
        if self._exception is None:
            super().data_received(data)
        return self._exception is not None

    def _weigh(self) -> None:
        payload = self._payload
        if payload is not None and self._chunked > FRAMING_BYTES + 9 * payload.total_bytes:
            self._refuse(f"Too many headers: more than {FRAMING_BYTES} bytes of chunk extensions and trailers")

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Called for each response, interim ones too."""
        message = data[0]
        if message.code not in _INTERIM:
            self._head_left = -1
            self._chunked = 0 if message.chunked else -1
        wrong = _wrong(message)
        if wrong:
            self._refuse(wrong)
        else:
            super().feed_data(data, size)

    def _refuse(self, what: str) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(http_exceptions.BadHttpMessage(what))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport."""
        self.lost = exc
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Called for what ends the response early."""
        if self._receive_apart():
            return
        self._head_left = -1
        if isinstance(exc, http_exceptions.HttpProcessingError):
            self.malformed = exc_cause or exc
            # aiohttp tells only whoever waits for headers; whoever reads the body would wait for ever.
            if self._payload is not None and not self._payload.is_eof():
                self._payload.set_exception(aiohttp.ClientPayloadError("Malformed body"))
        super().set_exception(exc, exc_cause or exc)


def _wrong(message: RawResponseMessage) -> str:
    """What of a response the parser takes, and we do not; empty for nothing."""
    if message.version.major != 1:
        return f"HTTP/{message.version.major}.{message.version.minor} in answer to HTTP/1.1"
    # Any other coding would reach the file undone: we never say that we take one (RFC 9112 7.4).
    if message.headers.get("Transfer-Encoding", "chunked").lower() not in ("chunked", "identity"):
        return f"Transfer-Encoding {message.headers['Transfer-Encoding']}"
    return ""


class _Addresses(AbstractResolver):
    """Our resolver as aiohttp wants one."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=_NUMERIC,
            )
            for address in await self._resolver.addresses(host, family)
        ]

    async def close(self) -> None:
        """Left to whoever made the resolver."""


class Connector(aiohttp.TCPConnector):
    """Makes connections, and notes on the current hop what they cost.

    Who may connect when is decided before this is asked, so it has no limits of its own. They would cost, too:
    aiohttp scans all that wait for each response.

    Args:
        resolver: looks host names up; it keeps answers, so aiohttp does not.
    """

    def __init__(self, resolver: Resolver) -> None:
        super().__init__(
            resolver=_Addresses(resolver),
            use_dns_cache=False,
            limit=0,
            limit_per_host=0,
            keepalive_timeout=KEEP_ALIVE_S,
            socket_factory=self._socket,
        )
        self._keep_hosts = idle_hosts(IDLE_HOSTS)

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            # Noted here: with several addresses only a text of all their errors is left.
            HOP.get().lacking = error.errno if error.errno in LACKING else 0
            self._let_go_of_idle(keep=0)
            raise

    def _let_go_of_idle(self, keep: int) -> None:
        while len(self._conns) > keep:
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.abort()

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        hop = HOP.get()
        if hop.fresh_only:
            return None
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                hop.usable(reused=True)
                return connection
            # More came after the last response: it would be taken for the answer to this request.
            connection.close()
        return None

    async def _create_connection(self, *args: Any, **kwargs: Any) -> client_proto.ResponseHandler:
        self._let_go_of_idle(keep=self._keep_hosts)
        protocol = await super()._create_connection(*args, **kwargs)
        HOP.get().usable(reused=False)
        return protocol

    async def _resolve_host(self, *args: Any, **kwargs: Any) -> Any:
        hop = HOP.get()
        since = time.perf_counter()
        try:
            return await super()._resolve_host(*args, **kwargs)
        finally:
            hop.dns_s += time.perf_counter() - since

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        hop = HOP.get()
        since = time.perf_counter()

        def protocol() -> ResponseProtocol:
            # The loop calls this once TCP is connected and before the TLS handshake.
            nonlocal since
            now = time.perf_counter()
            hop.connect_s += now - since
            since, hop.shaking = now, bool(kwargs.get("ssl"))
            return ResponseProtocol(loop=self._loop)

        try:
            made = await super()._wrap_create_connection(protocol, *args[1:], **kwargs)
        except BaseException:
            if not hop.shaking:
                hop.connect_s += time.perf_counter() - since
            raise
        finally:
            if hop.shaking:
                hop.tls_s += time.perf_counter() - since
        hop.shaking = False
        return made
