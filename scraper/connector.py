"""aiohttp's side of a fetch: connections that note what they cost, and its errors turned into ours.

In: what aiohttp asks its connector for. Out: connections, with their times noted on the hop that asked. aiohttp's
own tracing would do the same for 16 µs a request; this costs nothing on a connection that is reused.

Must never: let an error of aiohttp's, of a socket or of TLS through unnamed.
"""

from __future__ import annotations

import contextvars
import errno
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import client_proto, http_exceptions
from aiohttp.abc import AbstractResolver, ResolveResult

from scraper.deadline import Watch, Watchdog
from scraper.errors import FetchFailed
from scraper.records import Timings
from scraper.resolver import HostNotFound, Resolver

if TYPE_CHECKING:
    from aiohttp.connector import Connection


KEEP_ALIVE_S = 15.0
"""How long an idle connection is kept: longer than polite pauses between requests, less than servers wait."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

IDLE_HOSTS = 256
"""Hosts whose idle connections are kept; a broad crawl meets thousands while the keep-alive time lasts, and a
process has 1,024 descriptors."""


class Hop(Watch):
    """One hop in flight: its deadlines, and where its time went. Seconds; zero for what was not needed.

    Attributes:
        reused: the connection had served before.
        fresh_only: do not reuse a connection again; the last one was stale.
        shaking: in the middle of a TLS handshake.
        status: of the response, 0 before there is one.
    """

    __slots__ = (
        "_began",
        "_headers_s",
        "_usable_at",
        "connect_s",
        "dns_s",
        "fresh_only",
        "reused",
        "shaking",
        "status",
        "tls_s",
    )

    def __init__(self, dog: Watchdog, spent_s: float = 0.0) -> None:
        super().__init__(dog, spent_s)
        self.dns_s = self.connect_s = self.tls_s = 0.0
        self.reused = self.fresh_only = self.shaking = False
        self.status = 0
        # Not the loop's clock: uvloop's has whole milliseconds and stands still within a turn.
        self._began = self._usable_at = time.perf_counter()
        self._headers_s = 0.0

    def usable(self, reused: bool) -> None:
        """A connection is there."""
        self.reused = reused
        self.connected()
        self._usable_at = time.perf_counter()

    def once_more(self) -> None:
        """The connection was stale; another is needed, and one that no one has used."""
        self.fresh_only = True
        self.connecting()

    def headed(self, status: int) -> None:
        """The response's headers are there."""
        self.status = status
        self.progressed()
        self._headers_s = time.perf_counter() - self._usable_at

    def timings(self, spent_s: float = 0.0) -> Timings:
        """For the records; ``spent_s`` is what earlier hops took."""
        return Timings(
            self.dns_s * 1e3,
            self.connect_s * 1e3,
            self.tls_s * 1e3,
            self._headers_s * 1e3,
            (spent_s + time.perf_counter() - self._began - self.held_s) * 1e3,
        )


HOP: contextvars.ContextVar[Hop] = contextvars.ContextVar("hop")
"""The hop that the running task is making."""


class Protocol(client_proto.ResponseHandler):
    """Remembers how the connection ended, which aiohttp does not say where the body just stops.

    Attributes:
        lost: why the connection broke; None while it stands and after an orderly end.
        malformed: what of the response is not HTTP, if anything.
    """

    lost: BaseException | None = None
    malformed: BaseException | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport."""
        self.lost = exc
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Called for what ends the response early."""
        if isinstance(exc, http_exceptions.HttpProcessingError):
            self.malformed = exc_cause or exc
            # aiohttp tells only whoever waits for headers; whoever reads the body would wait for ever.
            if self._payload is not None and not self._payload.is_eof():
                self._payload.set_exception(aiohttp.ClientPayloadError("Malformed body"))
        super().set_exception(exc, exc_cause or exc)


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
        )

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
        while len(self._conns) > IDLE_HOSTS:
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.abort()
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

        def protocol() -> Protocol:
            # The loop calls this once TCP is connected and before the TLS handshake.
            nonlocal since
            now = time.perf_counter()
            hop.connect_s += now - since
            since, hop.shaking = now, bool(kwargs.get("ssl"))
            return Protocol(loop=self._loop)

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


CLASS_OF: dict[type[BaseException], str] = {
    aiohttp.ClientError: "protocol.malformed",
    aiohttp.ClientPayloadError: "body.truncated",
    aiohttp.ClientResponseError: "protocol.malformed",
    aiohttp.ContentTypeError: "protocol.malformed",
    aiohttp.WSServerHandshakeError: "protocol.malformed",
    aiohttp.ClientHttpProxyError: "connect.refused",
    aiohttp.TooManyRedirects: "redirect.loop",
    aiohttp.InvalidURL: "url.invalid",
    aiohttp.InvalidUrlClientError: "url.invalid",
    aiohttp.NonHttpUrlClientError: "url.scheme",
    aiohttp.RedirectClientError: "redirect.blocked",
    aiohttp.InvalidUrlRedirectClientError: "redirect.blocked",
    aiohttp.NonHttpUrlRedirectClientError: "redirect.blocked",
    aiohttp.ClientConnectionError: "connect.reset",
    aiohttp.ClientConnectionResetError: "connect.reset",
    aiohttp.ServerConnectionError: "connect.reset",
    aiohttp.ServerDisconnectedError: "connect.reset",
    aiohttp.ServerTimeoutError: "timeout.stall",
    aiohttp.SocketTimeoutError: "timeout.stall",
    aiohttp.ConnectionTimeoutError: "connect.timeout",
    aiohttp.ServerFingerprintMismatch: "tls.verify",
    aiohttp.ClientSSLError: "tls.handshake",
    aiohttp.ClientConnectorSSLError: "tls.handshake",
    aiohttp.ClientConnectorCertificateError: "tls.verify",
    aiohttp.ClientConnectorDNSError: "dns.temporary",
    aiohttp.ClientConnectorError: "connect.refused",
    aiohttp.ClientProxyConnectionError: "connect.refused",
    aiohttp.ClientOSError: "connect.reset",
    http_exceptions.HttpProcessingError: "protocol.malformed",
    TimeoutError: "connect.timeout",
    OSError: "connect.reset",
    ValueError: "url.invalid",  # what aiohttp and yarl find wrong with a request
    RuntimeError: "connect.reset",  # aiohttp's "Connection closed."; uvloop's, for a socket that went away
}
"""What each foreign error means, by the nearest of its bases."""

FOREIGN = (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError)
"""What aiohttp raises for the network's or the server's sake."""

FOREIGN_ASKING = (ValueError, RuntimeError)
"""What it may raise as well until it has a response. Anywhere else these are a fault of ours, and no row's end."""

_BY_ERRNO = {
    errno.ECONNREFUSED: "connect.refused",
    errno.EHOSTUNREACH: "connect.refused",
    errno.EHOSTDOWN: "connect.refused",
    errno.ENETUNREACH: "connect.refused",
    errno.ENETDOWN: "connect.refused",
    errno.EADDRNOTAVAIL: "connect.refused",
    errno.EACCES: "connect.refused",
    errno.EPERM: "connect.refused",
    errno.ETIMEDOUT: "connect.timeout",
    errno.ECONNRESET: "connect.reset",
    errno.ECONNABORTED: "connect.reset",
    errno.EPIPE: "connect.reset",
    errno.ENOTCONN: "connect.reset",
}

# Ours and not the server's; as passing as a reset, and retried like one.
_OUT_OF = {
    errno.EMFILE: "file descriptors: raise the limit (ulimit -n) or lower --concurrency",
    errno.ENFILE: "file descriptors, on the whole machine: lower --concurrency",
    errno.ENOBUFS: "network buffers: lower --concurrency",
    errno.ENOMEM: "memory: lower --concurrency",
}

_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def failure_of(error: BaseException, hop: Hop) -> FetchFailed:
    """The outcome class and sentence for a foreign error: the one place where these are turned into ours."""
    class_ = next(CLASS_OF[kind] for kind in type(error).__mro__ if kind in CLASS_OF)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _dns_failure(error.os_error)
    if isinstance(error, aiohttp.ClientResponseError):
        return _malformed(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return FetchFailed(class_, "The server closed the connection without a complete response.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return FetchFailed(class_, f"The certificate is not accepted: {_sentence(error.certificate_error)}.")
    if class_ == "tls.handshake":
        return FetchFailed(class_, f"The TLS handshake failed: {_sentence(error)}.")
    if class_.startswith("connect."):
        return _connect_failure(error, class_, hop)
    return FetchFailed(class_, f"{_sentence(error)}.")


def _connect_failure(error: BaseException, class_: str, hop: Hop) -> FetchFailed:
    if hop.shaking or isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return FetchFailed("tls.handshake", f"The TLS handshake failed: {_sentence(error)}.")
    number = (error.errno if isinstance(error, OSError) else None) or 0
    if number in _OUT_OF:
        return FetchFailed("connect.reset", f"This machine is out of {_OUT_OF[number]}.")
    made = "The connection broke"
    if isinstance(error, aiohttp.ClientConnectorError):
        made = f"No connection to {error.host}:{error.port}"
    return FetchFailed(_BY_ERRNO.get(number, class_), f"{made}: {_sentence(error)}.")


def ending_failure(protocol: object) -> FetchFailed | None:
    """How a connection broke in the middle of a body; None if it did not, or ended in order."""
    if not isinstance(protocol, Protocol):
        return None
    if protocol.malformed is not None:
        return _malformed(protocol.malformed)
    if protocol.lost is not None:
        return FetchFailed("connect.reset", f"Cut off in the middle of the body: {_sentence(protocol.lost)}.")
    return None


def payload_failure(error: BaseException, protocol: object) -> FetchFailed:
    """Why a body broke off: aiohttp says "payload not completed" for malformed framing and for resets alike."""
    says = _sentence(error.__cause__ or error)
    return ending_failure(protocol) or FetchFailed(
        "body.truncated", f"The body is shorter than announced: {says}."
    )


def _dns_failure(error: OSError) -> FetchFailed:
    gone = isinstance(error, HostNotFound) or (isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST)
    return FetchFailed("dns.not_found" if gone else "dns.temporary", f"{_sentence(error)}.")


def _malformed(error: BaseException) -> FetchFailed:
    sentence = _sentence(error)
    # The parser has one class for "too many" and for "not a header"; its text tells them apart.
    if "Too many headers" in sentence:
        return FetchFailed("protocol.header_too_large", f"{sentence}.")
    if "Got more than" in sentence:
        return FetchFailed("protocol.header_too_large", f"{sentence.partition(' when reading')[0]} of one header.")
    return FetchFailed("protocol.malformed", f"Not HTTP: {sentence}.")


def _sentence(error: BaseException) -> str:
    """What the error says, in one printable line of bounded length, without its full stop."""
    if isinstance(error, aiohttp.ClientConnectorError):  # wraps, and pretends to be, what went wrong
        error = error.os_error
    if isinstance(error, ssl.SSLError):  # one that was not made by OpenSSL lacks what the others have
        says = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        says = says.replace("_", " ").lower()
    elif isinstance(error, OSError) and error.errno:
        says = os.strerror(error.errno)  # asyncio and uvloop word it differently
    else:
        says = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    line = " ".join(str(says).partition("\n\n")[0].split())  # the parser quotes what it read after a blank line
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return (line if len(line) <= 160 else line[:157] + "...").rstrip(".:") or type(error).__name__
