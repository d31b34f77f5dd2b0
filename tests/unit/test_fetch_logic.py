"""What foreign errors become, without a network."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses

from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.connector import CLASS_OF, FOREIGN, Hop, failure_of
from scraper.deadline import Watchdog
from scraper.errors import outcome_class
from scraper.fetch import Failed, Fetched, Fetcher, Redirected
from scraper.records import Request
from scraper.resolver import HostNotFound, LookupFailed
from scraper.testing.clock import run_virtual

KEY = ConnectionKey("a.example", 80, False, True, None, None, None)


def class_of(error: BaseException, *, shaking: bool = False) -> str:
    """The class an error becomes, with a sentence that ends as one."""

    async def judge() -> str:
        hop = Hop(Watchdog(FetchConfig("test")))
        hop.shaking = shaking
        failed = failure_of(error, hop)
        assert failed.message.endswith(".")
        assert failed.message.isprintable()
        assert len(failed.message) < 250
        return failed.class_

    return run_virtual(judge())


def descendants(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """All subclasses, at any depth."""
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_client_error_is_mapped() -> None:
    """Each of aiohttp's client errors has a meaning, its own or a near base's, and it is on the closed list."""
    never = {"UploadAbortedError"}  # nothing is uploaded
    kinds = [kind for kind in descendants(aiohttp.ClientError) if kind.__module__ == client_exceptions.__name__]
    assert len(kinds) > 20
    unmapped = [
        kind.__name__
        for kind in kinds
        if next(base for base in kind.__mro__ if base in CLASS_OF) is aiohttp.ClientError
    ]
    assert set(unmapped) <= never
    assert all(outcome_class(name) for name in CLASS_OF.values())


def test_whatever_is_caught_is_mapped() -> None:
    """Every type that fetch catches, and whatever derives from it, finds an entry."""
    for kind in FOREIGN:
        for child in (kind, *descendants(kind)):
            assert any(base in CLASS_OF for base in child.__mro__), child


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        (aiohttp.ClientConnectorDNSError(KEY, HostNotFound(None, "no such host")), "dns.not_found"),
        (aiohttp.ClientConnectorDNSError(KEY, LookupFailed(None, "timed out")), "dns.temporary"),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "x")), "dns.not_found"),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "x")), "dns.temporary"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "x")), "connect.refused"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "x")), "connect.refused"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ETIMEDOUT, "x")), "connect.timeout"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNRESET, "x")), "connect.reset"),
        (aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: a, b")), "connect.refused"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL] handshake failure")), "tls.handshake"),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("expired")),
            "tls.verify",
        ),
        (aiohttp.ServerDisconnectedError(), "connect.reset"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "x"), "connect.reset"),
        (aiohttp.ClientOSError(errno.EPIPE, "x"), "connect.reset"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connect.reset"),
        (ssl.SSLError(1, "[SSL] bad record"), "tls.handshake"),
        (TimeoutError(), "connect.timeout"),
        (aiohttp.InvalidURL("http://x"), "url.invalid"),
        (aiohttp.NonHttpUrlClientError("ftp://x"), "url.scheme"),
        (http_exceptions.BadHttpMessage("not a header"), "protocol.malformed"),
        (RuntimeError("Connection closed."), "connect.reset"),
        (aiohttp.ClientError("\x1b[31m\n" + "long " * 90), "protocol.malformed"),
        (ValueError(""), "url.invalid"),
    ],
)
def test_what_an_error_becomes(error: BaseException, class_: str) -> None:
    """Each error becomes the class that says what happened, in one printable sentence."""
    assert class_of(error) == class_


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_running_out_is_our_own_doing(number: int) -> None:
    """When this machine is out of something, the sentence says so and what to do; it is retried."""

    async def judge() -> tuple[str, str]:
        error = aiohttp.ClientConnectorError(KEY, OSError(number, "x"))
        failed = failure_of(error, Hop(Watchdog(FetchConfig("test"))))
        return failed.class_, failed.message

    class_, message = run_virtual(judge())
    assert outcome_class(class_).retry
    assert message.startswith("This machine is out of ")
    assert "--concurrency" in message


def test_a_reset_in_the_handshake_is_a_failed_handshake() -> None:
    """What breaks between TCP and TLS is the handshake's fault, whatever error says so."""
    error = aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNRESET, "x"))
    assert class_of(error, shaking=True) == "tls.handshake"


async def test_above_the_socket(answers: aioresponses) -> None:
    """With answers that are faked above the socket, hops end as with real ones."""
    base = "http://photos.test"
    answers.get(f"{base}/a.jpg", body=b"picture", headers={"Content-Type": "image/jpeg"})
    answers.get(f"{base}/gone", status=410, body=b"gone")
    answers.get(f"{base}/moved", status=301, headers={"Location": "/a.jpg"})
    answers.get(f"{base}/broken", exception=aiohttp.ClientPayloadError("cut"))
    arena = Arena(1_000)
    async with Fetcher(FetchConfig("test"), arena) as fetcher:
        whole, gone, moved, broken = [
            await fetcher.fetch(Request(row, base + path))
            for row, path in enumerate(("/a.jpg", "/gone", "/moved", "/broken"))
        ]
    assert isinstance(whole, Fetched)
    assert (whole.response.body, whole.response.headers["content-type"]) == (b"picture", "image/jpeg")
    whole.slot.release()
    assert isinstance(gone, Failed)
    assert gone.error.class_ == "http.410"
    assert isinstance(moved, Redirected)
    assert moved.request.asked == f"{base}/a.jpg"
    assert isinstance(broken, Failed)
    assert broken.error.class_ == "body.truncated"
    assert arena.held == 0
