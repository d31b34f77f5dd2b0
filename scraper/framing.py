"""aiohttp's reading of a response, with bounds on what it holds besides the body.

In: bytes from the transport. Out: aiohttp's responses, and how the connection ended, which aiohttp does not say.
Must never: hold headers, trailers or chunk framing without a bound; take what is no HTTP/1 for a response.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import client_proto, http_exceptions
from aiohttp.http import RawResponseMessage

HEAD_BYTES = 256 * 1024
"""Most that is read before a body: the headers, and all interim responses before them (RFC 9110 15.2), of which a
server may send as many as it likes. curl's limit is 300 KB (CURLE_TOO_LARGE)."""

FRAMING_BYTES = 512 * 1024
"""Most that chunked framing may add to a body, beside eight times its size: extensions of chunks, and trailers,
which nobody reads and aiohttp keeps. A chunk of one byte needs five more; what is not yet parsed counts, too."""

_END_OF_HEAD = b"\r\n\r\n"

_INTERIM = frozenset(range(100, 200)) - {101}
"""Responses after which the one that counts is still to come."""


class ResponseProtocol(client_proto.ResponseHandler):
    """Bounds what comes before a body, and remembers how the connection ended.

    The latter aiohttp does not say where a body just stops.

    Attributes:
        lost: why the connection broke; None while it stands and after an orderly end.
        peer: the address at the other end; empty where that is not the host's.
        malformed: what of the response is not HTTP, if anything.
    """

    lost: BaseException | None = None
    malformed: BaseException | None = None
    peer = ""
    _head_left = -1  # bytes that may still come before the body; -1 where they have come
    _chunked = -1  # bytes of a chunked body so far, as they came; -1 for any other body
    _piece = b""  # what is being parsed, while a head is awaited

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])

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
