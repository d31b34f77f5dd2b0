"""One hop of a fetch. In: a Request. Out: one of ``scraper.answers``: Fetched, Redirected, NotModified or Failed.

How a hop ends. Code here that deviates from this is a bug.

The response is whole: its connection has gone back to the pool. Enough of the body is there (a robots.txt): the
connection is aborted, and what came counts as whole. The body is not wanted (a redirect, a 304, an error status):
the answer stands at once; a short rest of the body is read to keep the connection, and whatever happens to that
changes nothing. Anything breaks, or a deadline passes: the connection is aborted, the slot released, and Failed
returned. Cancelled from outside: the same, and CancelledError raised.

Must never: trust Content-Length; follow a redirect; read without a cap; run without a deadline; raise for a row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from scraper.answers import Answer, Failed, Fetched, NotModified, Redirected
from scraper.arena import Arena, Slot
from scraper.asking import Asking, Terms
from scraper.bodies import abort, decode, drain, piece
from scraper.config import FetchConfig
from scraper.connector import HOP, AddressBlocked, Connector, Hop
from scraper.deadline import Watchdog
from scraper.decoding import Decoder
from scraper.errors import FetchFailed
from scraper.failures import FOREIGN, FOREIGN_ASKING, ending_failure, failure_of, payload_failure
from scraper.policies.addresses import AddressRule
from scraper.policies.headers import plain
from scraper.policies.optout import opted_out
from scraper.policies.pace import Throttle
from scraper.policies.redirects import FOLLOWED, follow
from scraper.policies.retry import parse_retry_after
from scraper.policies.robots import MAX_BYTES, token_of
from scraper.policies.urls import check
from scraper.records import NO_TIMINGS, Request, Response
from scraper.resolver import LACKING, Resolver

READ_BUFFER = 64 * 1024
"""aiohttp stops reading from a socket once twice this waits for us: the bytes held outside the arena's budget."""

RESERVE_BYTES = 1024 * 1024
"""Most of the budget that is taken on a server's word. What is more is taken as it comes, or a few servers that
promise much and send little would hold up all the others. A room for all of it is looked for: that is free."""

HEADER_LINE = 32 * 1024
"""Longest header field. Content-Security-Policy and cookies go over aiohttp's 8,190 in the wild."""

HEADER_FIELDS = 256

REACH_S = 3.0
"""How long a server that answered a moment ago may take to accept a connection: two retransmissions."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a body is read: at whose pace, and how many bytes of it are enough; 0 for the whole."""

    throttles: Sequence[Throttle]
    enough: int


class Fetcher:
    """Makes hops, any number at once, over one pool of connections. An asynchronous context manager.

    How many at once, and at which host, is for the caller to bound.

    Args:
        config: headers to send, deadlines and caps.
        accept: Accept header to send, unless the user gave one.
        accept_encoding: the same for Accept-Encoding.
        opt_outs: directives of X-Robots-Tag that are taken as a no.
        arena: where bodies go; a hop waits while its budget is spent, and that counts towards no deadline.
        resolver: looks host names up, and is ``names`` while the block is open; by default one over aiodns.
    """

    def __init__(
        self,
        config: FetchConfig,
        arena: Arena,
        accept: str = "*/*",
        accept_encoding: str = "gzip, deflate, br, zstd",
        *,
        opt_outs: Collection[str] = (),
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._asking = Asking(config, accept, accept_encoding)
        self._token = token_of(config.user_agent)
        self._opt_outs = frozenset(opt_outs)
        self._arena = arena
        self._given_resolver = resolver

    async def __aenter__(self) -> Self:
        config = self._config
        self.names = self._given_resolver or Resolver()
        self._connector = Connector(self.names, AddressRule(config.allow_net), self._asking.tls_of)
        self._watchdog = Watchdog(config)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers=self._asking.always,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            read_bufsize=READ_BUFFER,
            max_line_size=HEADER_LINE,
            max_field_size=HEADER_LINE,
            max_headers=HEADER_FIELDS,
        )
        # aiohttp would ask again whatever connection broke; we do so only where it was a stale one.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.close()
        await self._session.close()
        if self._given_resolver is None:
            await self.names.close()

    async def fetch_robots(self, request: Request, *, send: Callable[[], float] | None = None) -> Fetched | Answer:
        """The same for a robots.txt: of a long one the beginning, whatever ``max_bytes`` and X-Robots-Tag say.

        That header is often sent with it, and keeps it out of search results; what it says holds all the same.
        """
        return await self.fetch(request, send=send, enough=MAX_BYTES + 1)

    async def fetch(
        self,
        request: Request,
        throttles: Sequence[Throttle] = (),
        *,
        send: Callable[[], float] | None = None,
        enough: int = 0,
    ) -> Fetched | Answer:
        """Make one hop: ask for ``request.asked``.

        Args:
            request: what to ask.
            send: see ``Hop.send``.
            throttles: say how long to wait for each piece of the body; that counts towards no deadline.
            enough: see ``fetch_robots``: bytes of a body after which the rest is not read; 0 for the whole.
        """
        hop = Hop(self._watchdog, request.spent_s)
        hop.send = send
        HOP.set(hop)
        try:
            url = check(request.asked)
        except FetchFailed as error:
            return Failed(error, NO_TIMINGS, request.asked)
        answer: list[Answer] = []
        try:
            with hop:
                return await self._ask(request, url, hop, answer, _Reading(throttles, enough))
        except FetchFailed as error:
            failed = error
        except FOREIGN as error:
            failed = failure_of(error, hop)
        if answer:  # what went wrong after it was only the draining
            return answer[0]
        failed.status = failed.status or hop.status
        return Failed(failed, hop.timings(request.spent_s), request.asked)

    def address(self) -> str:
        """Where the connection led that the running task's last hop was made on; empty if there was none."""
        hop = HOP.get(None)
        return hop.address if hop else ""

    async def reaches(self, url: str) -> bool:
        """Whether somebody takes a connection where ``url`` leads; nothing is asked there."""
        try:
            at = check(url)
            proxy = self._asking.proxy_of(at)
            async with asyncio.timeout(min(REACH_S, self._config.connect_timeout_s)):
                if proxy is None:
                    address, *_ = await self._connector.addresses(at.raw_host or "")
                else:  # the user's own word, wherever it is
                    address, *_ = await self.names.addresses(proxy.raw_host or "")
                _, writer = await asyncio.open_connection(address, (proxy or at).port)
        except AddressBlocked:
            return True  # nobody was asked, so nothing is known
        except (OSError, FetchFailed) as error:  # a timeout is an OSError
            return getattr(error, "errno", None) in LACKING  # then nothing is known
        writer.transport.abort()
        return True

    async def _ask(
        self, request: Request, url: URL, hop: Hop, answer: list[Answer], reading: _Reading
    ) -> Fetched | Answer:
        terms = self._asking.terms(request, url)
        response = await self._respond(url.with_user(None), terms, hop)
        try:
            hop.headed(response.status)
            if set_cookie := response.headers.getall("Set-Cookie", ()):
                self._asking.heard(url, set_cookie)
            if 200 <= response.status < 300:
                if not reading.enough:
                    self._heed_opt_out(response)
                if response.status == 206 and not terms.wants_part:
                    raise FetchFailed("http.206", "The server sent a part, and the whole was asked for.")
                return await self._take(request, response, hop, reading)
            if response.status == 304 and terms.asks_for_change:
                self._heed_opt_out(response)
                timings = hop.timings(request.spent_s)
                answer.append(NotModified(plain(response.headers), timings, request.asked))
            else:
                answer.append(self._judge(request, response, hop))
            await drain(response, hop)
            return answer[0]
        except BaseException:
            abort(response)
            raise

    def _heed_opt_out(self, response: aiohttp.ClientResponse) -> None:
        said = response.headers.getall("X-Robots-Tag", ())
        if said and (found := opted_out(said, self._token, self._opt_outs)):
            raise FetchFailed("optout.header", f"The response opts out: X-Robots-Tag says {found}.")

    async def _respond(self, url: URL, terms: Terms, hop: Hop) -> aiohttp.ClientResponse:
        """The response, as far as its headers."""

        async def respond() -> aiohttp.ClientResponse:
            return await self._session.get(
                url, headers=terms.headers, allow_redirects=False, ssl=terms.ssl, proxy=terms.proxy
            )

        try:
            try:
                return await respond()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientResponseError):
                if not hop.reused:
                    raise
            # The server closed an idle connection just as it was used again, or what it still sent of the last
            # response came in front of this one: no attempt of the row's.
            hop.once_more()
            return await respond()
        except FOREIGN_ASKING as error:
            raise failure_of(error, hop) from error
        except AttributeError as error:  # asyncio's until Python 3.11.4, for a bad certificate within a tunnel
            if terms.proxy is None:
                raise
            raise FetchFailed("tls.handshake", "The TLS handshake failed in the proxy's tunnel.") from error

    async def _take(
        self, request: Request, response: aiohttp.ClientResponse, hop: Hop, reading: _Reading
    ) -> Fetched:
        """A 2xx response → its body, whole and decoded."""
        cap = 2 * reading.enough or self._config.max_bytes
        length = response.content_length
        if response.status in (204, 205):
            raise FetchFailed("body.empty", f"Status {response.status}, which has no body.")
        if length is not None and length > cap and not reading.enough:
            raise FetchFailed("body.too_large", f"The body has {length} bytes; the cap is {cap}.")
        codings = response.headers.getall("Content-Encoding", ())
        decoder = Decoder(", ".join(codings), cap) if codings else None
        hop.hold()
        slot = await self._arena.reserve(min(length or 0, RESERVE_BYTES), claimed=length or 0)
        hop.go_on()
        try:
            wire_bytes = await self._read(response, decoder or None, slot, hop, reading)
            if slot.size == 0:
                raise FetchFailed("body.empty", f"Status {response.status} with an empty body.")
            body = slot.body()
        except BaseException:
            slot.release()
            raise
        whole = Response(
            request=request,
            url=request.asked,
            status=response.status,
            headers=plain(response.headers),
            body=body,
            wire_bytes=wire_bytes,
            timings=hop.timings(request.spent_s),
            place=slot.place,
        )
        return Fetched(whole, slot)

    async def _read(
        self,
        response: aiohttp.ClientResponse,
        decoder: Decoder | None,
        slot: Slot,
        hop: Hop,
        reading: _Reading,
    ) -> int:
        """Body → slot. Returns the bytes on the wire."""
        cap = 2 * reading.enough or self._config.max_bytes
        content = response.content
        protocol = getattr(response, "_protocol", None)  # faked responses have none
        received = 0
        try:
            while chunk := await piece(content):
                received += len(chunk)
                hop.received = received
                if received > cap:
                    raise FetchFailed("body.too_large", f"The body has more than {cap} bytes, the cap.")
                hop.hold()
                for throttle in reading.throttles:
                    await asyncio.sleep(throttle.spend(len(chunk), asyncio.get_running_loop().time()))
                if decoder is None:
                    await slot.append(chunk)
                else:
                    await decode(decoder, chunk, slot, reading.enough)
                hop.go_on()
                if 0 < reading.enough <= slot.size:
                    abort(response)
                    return received
        except aiohttp.ClientPayloadError as error:
            raise payload_failure(error, protocol) from error
        # Without a length and without chunks the body ends with the connection, and a broken one looks the same.
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if "Content-Length" not in response.headers and not chunked:
            failed = ending_failure(protocol)
            if failed is not None:
                raise failed
        if decoder is not None and received:
            decoder.finish()
        return received

    def _judge(self, request: Request, response: aiohttp.ClientResponse, hop: Hop) -> Redirected | Failed:
        """What a status other than 2xx amounts to."""
        status, config = response.status, self._config
        try:
            if status < 100:
                raise FetchFailed("protocol.malformed", f"Status {status} is none (RFC 9110 15).")
            if status in FOLLOWED:
                targets = response.headers.getall("Location", ())
                if len(set(targets)) > 1:
                    raise FetchFailed("protocol.malformed", "Redirected to two places at once.", status=status)
                spent_s = request.spent_s + hop.elapsed_s()
                location = targets[0] if targets else None
                to = follow(request, status, location, config.max_redirects, spent_s, downgrade=config.downgrade)
                return Redirected(to)
            wait = response.headers.get("Retry-After")
            raise FetchFailed(
                f"http.{status}",
                f"The server answered {_status_line(status)}.",
                status=status,
                retry_after_s=None if wait is None else parse_retry_after(wait, time.time()),
            )
        except FetchFailed as error:
            return Failed(error, hop.timings(request.spent_s), request.asked)


def _status_line(status: int) -> str:
    """The status with its standard phrase; the server's own could say anything."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
