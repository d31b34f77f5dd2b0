"""Errors of aiohttp, of sockets and of TLS, turned into ours: the one place where that is done.

In: a foreign error, and the hop it ended. Out: FetchFailed with the outcome class and one sentence.
Must never: let one through unnamed; blame a row for what this machine lacks.
"""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp
from aiohttp import http_exceptions

from scraper.connector import AddressBlocked, Hop
from scraper.errors import FetchFailed, OutOfResources
from scraper.framing import ResponseProtocol
from scraper.policies.secrets import mask_secrets
from scraper.resolver import LACKING, HostNotFound

CLASS_OF: dict[type[BaseException], str] = {
    aiohttp.ClientError: "protocol.malformed",
    aiohttp.ClientPayloadError: "body.truncated",
    aiohttp.ClientResponseError: "protocol.malformed",
    aiohttp.InvalidURL: "url.invalid",
    aiohttp.NonHttpUrlClientError: "url.scheme",
    aiohttp.ClientConnectionError: "connect.reset",
    aiohttp.ConnectionTimeoutError: "connect.timeout",
    aiohttp.ClientConnectorError: "connect.refused",
    aiohttp.ClientProxyConnectionError: "connect.refused",
    aiohttp.ClientHttpProxyError: "protocol.malformed",  # unless the proxy says which status it is; see below
    aiohttp.ClientSSLError: "tls.handshake",
    aiohttp.ClientConnectorCertificateError: "tls.verify",
    http_exceptions.HttpProcessingError: "protocol.malformed",
    TimeoutError: "connect.timeout",
    OSError: "connect.reset",
    ValueError: "url.invalid",  # what aiohttp and yarl find wrong with a request
    RuntimeError: "connect.reset",  # aiohttp's "Connection closed."; uvloop's, for a socket that went away
}
"""What each foreign error means, by the nearest of its bases.

What aiohttp raises only for what it is never asked for has no entry: redirects, timeouts, fingerprints.
"""

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


def failure_of(error: BaseException, hop: Hop) -> FetchFailed:
    """The outcome class and sentence for a foreign error."""
    ours = _own_failure(error, hop)
    if ours is not None:
        return ours
    if hop.to_proxy:
        return _proxy_failure(error, hop)
    return _failure_of(error, hop)


def _failure_of(error: BaseException, hop: Hop) -> FetchFailed:
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


def _own_failure(error: BaseException, hop: Hop) -> FetchFailed | None:
    """For what nobody else did: we refused the address, or this machine had no socket. None for anything else."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, AddressBlocked):
        return FetchFailed("address.blocked", str(inner))
    lacking = hop.lacking or _number(error)
    if lacking in LACKING:
        return OutOfResources("connect.reset", f"This machine is out of {LACKING[lacking]}.")
    return None


def _proxy_failure(error: BaseException, hop: Hop) -> FetchFailed:
    """On the way to the proxy, or what that said to CONNECT: an answer of its own, as to a request for http."""
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status >= 300:
        remedy = "; --proxy http://USER:PASSWORD@HOST says who asks" if error.status == 407 else ""
        sentence = f"The proxy did not let us through: status {error.status}{remedy}."
        return FetchFailed(f"http.{error.status}", sentence, status=error.status)
    failed = _failure_of(error, hop)
    # Whether the host exists was never asked.
    class_ = "dns.temporary" if failed.class_ == "dns.not_found" else failed.class_
    return FetchFailed(class_, f"On the way to the proxy: {failed.message}")


def _number(error: BaseException) -> int:
    return (error.errno if isinstance(error, OSError) else None) or 0


def _connect_failure(error: BaseException, class_: str, hop: Hop) -> FetchFailed:
    if hop.shaking or isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return FetchFailed("tls.handshake", f"The TLS handshake failed: {_sentence(error)}.")
    made = "The connection broke"
    if isinstance(error, aiohttp.ClientConnectorError):
        made = f"No connection to {error.host}:{error.port}"
    return FetchFailed(_BY_ERRNO.get(_number(error), class_), f"{made}: {_sentence(error)}.")


def ending_failure(protocol: object) -> FetchFailed | None:
    """How a connection broke in the middle of a body; None if it did not, or ended in order."""
    if not isinstance(protocol, ResponseProtocol):
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
    class_ = "dns.not_found" if isinstance(error, HostNotFound) else "dns.temporary"
    return FetchFailed(class_, f"{_sentence(error)}.")


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
    line = mask_secrets("".join(letter if letter.isprintable() else "?" for letter in line))
    return (line if len(line) <= 160 else line[:157] + "...").rstrip(".:") or type(error).__name__
