"""aiohttp's side of a fetch: connections to where we may go, that note what they cost.

In: what aiohttp asks its connector for. Out: connections, with their times noted on the hop that asked. aiohttp's
own tracing would do the same for 16 µs a request; this costs nothing on a connection that is reused.

    host ─ look-up, or itself where it is an address ─▶ every address checked ─▶ sorted ─▶ raced ─▶ connection
                                                                    each checked again as its socket is made

There is one look-up, and what it says is both checked and dialled: a name server that answers otherwise a moment
later changes nothing. Each redirect is a request of its own, and comes by here like any other. A connection that
is used again still goes where it went when that was checked, and serves the same host and port only.

Must never: connect to an address that ``AddressRule`` refuses; take what came after one response for the answer to
the next request.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import AddrInfoType, client_proto
from aiohttp.abc import AbstractResolver, ResolveResult

from scraper.deadline import Watch, Watchdog
from scraper.descriptors import idle_hosts
from scraper.errors import FetchFailed
from scraper.framing import ResponseProtocol
from scraper.policies.addresses import AddressRule, is_address, opening
from scraper.policies.races import End, Races
from scraper.records import Timings
from scraper.resolver import LACKING, Resolver

if TYPE_CHECKING:
    from aiohttp.connector import Connection


KEEP_ALIVE_S = 15.0
"""How long an idle connection is kept: longer than polite pauses between requests, less than servers wait."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

IDLE_HOSTS = 256
"""Most hosts whose idle connections are kept; a broad crawl meets thousands while the keep-alive time lasts."""


class Hop(Watch):
    """One hop in flight: its deadlines, and where its time went. Seconds; zero for what was not needed.

    Attributes:
        address: where the connection leads; empty for none yet, and for a proxy.
        reused: the connection had served before.
        fresh_only: do not reuse a connection again; the last one was stale.
        lacking: errno for what this machine had none left of for a socket; 0 for nothing.
        looking_up: in the middle of a look-up of the host's addresses.
        send: asked once there is a connection: seconds to wait before the request is sent; None to ask nobody.
        shaking: in the middle of a TLS handshake.
        status: of the response, 0 before there is one.
        to_proxy: on the way to the user's proxy, until that has let us through to the host.
        tried: address and port of the sockets made for the connection that is being made.
    """

    __slots__ = (
        "_began",
        "_headers_s",
        "_held_from",
        "_held_more_s",
        "_usable_at",
        "address",
        "connect_s",
        "dns_s",
        "fresh_only",
        "lacking",
        "looking_up",
        "reused",
        "send",
        "shaking",
        "status",
        "tls_s",
        "to_proxy",
        "tried",
    )

    def __init__(self, dog: Watchdog, spent_s: float = 0.0) -> None:
        super().__init__(dog, spent_s)
        self.dns_s = self.connect_s = self.tls_s = 0.0
        self.reused = self.fresh_only = self.looking_up = self.shaking = self.to_proxy = False
        self.status = self.lacking = 0
        self.address = ""
        self.send: Callable[[], float] | None = None
        self.tried: list[tuple[str, int]] = []
        # Not the loop's clock: uvloop's has whole milliseconds and stands still within a turn.
        self._began = self._usable_at = self._held_from = time.perf_counter()
        self._headers_s = 0.0
        self._held_more_s = 0.0  # than ``held_s``, which is by that clock

    def usable(self, reused: bool, address: str) -> None:
        """A connection is there."""
        self.reused = reused
        self.address = address
        self.lacking = 0
        self.connected()
        self._usable_at = time.perf_counter()

    async def depart(self, let_go: Callable[[], object]) -> None:
        """Wait for as long as the request, which has its connection, is not to be sent. That counts for nothing.

        Raises:
            Postponed: it is not to be sent at all now. As after any error, the connection has been let go of.
        """
        try:
            while self.send is not None and (wait_s := self.send()) > 0:
                self.hold()
                await asyncio.sleep(wait_s)
                self.go_on()
        except BaseException:
            let_go()
            raise

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

    def _judge(self, now: float) -> FetchFailed | None:
        failed = super()._judge(now)
        if failed is not None and self.looking_up and failed.class_ == "connect.timeout":
            return FetchFailed("dns.temporary", f"{failed.message[:-1]}: its name was still being looked up.")
        return failed

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


class AddressBlocked(OSError):
    """An address that is not dialled; says so in a sentence for the row."""


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
    """Makes connections where the rule lets it, and notes on the current hop what they cost.

    Who may connect when is decided before this is asked, so it has no limits of its own. They would cost, too:
    aiohttp scans all that wait for each response.

    Addresses of a name are raced (RFC 8305). Those that lost are tried last for a while, so that a dead one costs
    its host the race's head start once and not for each connection.

    Args:
        resolver: looks host names up; it keeps answers, so aiohttp does not.
        rule: which addresses may be dialled.
        tls_of: what to speak TLS with to a proxy, by its host; requests bring what is for their own. By default
            it is verified.
    """

    def __init__(
        self,
        resolver: Resolver,
        rule: AddressRule,
        tls_of: Callable[[str], ssl.SSLContext | bool] = lambda host: True,
    ) -> None:
        super().__init__(
            resolver=_Addresses(resolver),
            use_dns_cache=False,
            limit=0,
            limit_per_host=0,
            keepalive_timeout=KEEP_ALIVE_S,
            socket_factory=self._socket,
        )
        # What aiohttp makes by itself: the protocol of TLS inside a proxy's tunnel.
        self._factory = functools.partial(  # type: ignore[assignment]  # mypy: a partial is invariant
            ResponseProtocol, loop=self._loop
        )
        self._names = resolver
        self._rule = rule
        self._tls_of = tls_of
        self._races = Races()
        self._keep_hosts = idle_hosts(IDLE_HOSTS)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, which may be one itself, for somebody who dials by himself.

        Raises:
            AddressBlocked: one of them may not be dialled.
            HostNotFound: it has none.
            LookupFailed: nobody could say.
        """
        found = (host,) if is_address(host) else await self._names.addresses(host)
        self._check(host, found)
        return found

    def _check(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a host of whose addresses any is refused: one that points inside is not trusted with the rest.

        Raises:
            AddressBlocked: it is.
        """
        refused = [address for address in addresses if self._rule.refusal(address)]
        if refused:
            reason = self._rule.refusal(refused[0])
            what = reason if refused[0] == host else f"{refused[0]}, {reason}"
            opens = dict.fromkeys(map(opening, refused))
            remedy = f"; --allow-net {','.join(opens)} opens it" if all(opens) and len(opens) <= 3 else ""
            raise AddressBlocked(f"{host} is {what}: not dialled{remedy}.")

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (host, port, *_) = address
        hop = HOP.get()
        if not hop.to_proxy:
            self._check(str(host), (str(host),))  # has been; but this is what is really dialled
        hop.tried.append((str(host), int(port)))
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            # Noted here: with several addresses only a text of all their errors is left.
            hop.lacking = error.errno if error.errno in LACKING else 0
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
                hop.usable(reused=True, address=_peer(protocol))
                await hop.depart(connection.release)
                return connection
            # More came after the last response: it would be taken for the answer to this request.
            connection.close()
        return None

    async def _create_connection(self, *args: Any, **kwargs: Any) -> client_proto.ResponseHandler:
        hop = HOP.get()
        hop.to_proxy = False  # where the way to a proxy failed it stands, and it opens every address
        self._let_go_of_idle(keep=self._keep_hosts)
        protocol = await super()._create_connection(*args, **kwargs)
        hop.usable(reused=False, address=_peer(protocol))
        await hop.depart(protocol.close)
        return protocol

    async def _create_proxy_connection(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        """The proxy is the user's own word, wherever it is; an address it is asked for is still a stranger's.

        Any other host is the proxy's to look up, and to refuse.
        """
        host = req.url.raw_host.rstrip(".")
        is_loopback = host == "localhost" or host.endswith(".localhost")  # RFC 6761 6.3
        if is_loopback or is_address(host):
            try:
                self._check(host, ("127.0.0.1" if is_loopback else host,))
            except AddressBlocked as error:
                raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        hop = HOP.get()
        hop.to_proxy = True  # and so it stays where this fails: the proxy is to blame
        transport, protocol = await super()._create_proxy_connection(req, *args, **kwargs)
        hop.to_proxy = False
        if isinstance(protocol, ResponseProtocol):
            protocol.peer = ""
        return transport, protocol

    def _update_proxy_auth_header_and_build_proxy_req(self, req: Any) -> Any:
        # aiohttp would speak to the proxy as to the host: unverified, or showing it a certificate for the host.
        to_proxy = super()._update_proxy_auth_header_and_build_proxy_req(req)
        to_proxy._ssl = self._tls_of(to_proxy.url.raw_host or "")
        return to_proxy

    async def _start_tls_connection(self, underlying_transport: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        """The handshake with the host, through the proxy's tunnel."""
        hop = HOP.get()
        since = time.perf_counter()
        hop.to_proxy, hop.shaking = False, True
        # In a tunnel, and only there, aiohttp would look for a name's last dot in the certificate as well.
        req.server_hostname = req.url.raw_host.rstrip(".")
        try:
            made = await super()._start_tls_connection(underlying_transport, req, *args, **kwargs)
        finally:
            hop.tls_s += time.perf_counter() - since
        hop.shaking = False
        return made

    async def _resolve_host(self, host: str, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        hop = HOP.get()
        since = time.perf_counter()
        hop.looking_up = True
        try:
            found = await super()._resolve_host(host, *args, **kwargs)
        finally:
            hop.looking_up = False
            hop.dns_s += time.perf_counter() - since
        if not hop.to_proxy:
            self._check(host, (each["host"] for each in found))
        now = self._loop.time()
        return sorted(found, key=lambda each: self._races.lost_at((each["host"], each["port"]), now))

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        hop = HOP.get()
        hop.tried.clear()
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
                self._races.ended(hop.tried, None, self._loop.time())
            raise
        finally:
            if hop.shaking:
                hop.tls_s += time.perf_counter() - since
        hop.shaking = False
        self._races.ended(hop.tried, _end(made[0]), self._loop.time())
        return made


def _end(transport: asyncio.Transport) -> End | None:
    """What a transport is connected to; None where it is no longer."""
    name = transport.get_extra_info("peername")
    return (name[0], name[1]) if name else None


def _peer(protocol: object) -> str:
    return protocol.peer if isinstance(protocol, ResponseProtocol) else ""
