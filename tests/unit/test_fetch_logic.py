"""What foreign errors become, without a network."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import NoReturn

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses

from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.connector import Hop
from scraper.deadline import Watchdog
from scraper.decoding import Decoder
from scraper.errors import FetchFailed, OutOfResources, outcome_class
from scraper.failures import CLASS_OF, FOREIGN, FOREIGN_ASKING, failure_of
from scraper.fetch import Fetcher
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
    never = {"UploadAbortedError", "RedirectClientError"}  # it is given nothing to upload, and follows nothing
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
    for kind in (*FOREIGN, *FOREIGN_ASKING):
        for child in (kind, *descendants(kind)):
            assert any(base in CLASS_OF for base in child.__mro__), child


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        (aiohttp.ClientConnectorDNSError(KEY, HostNotFound(None, "no such host")), "dns.not_found"),
        (aiohttp.ClientConnectorDNSError(KEY, LookupFailed(None, "timed out")), "dns.temporary"),
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

    async def judge() -> FetchFailed:
        error = aiohttp.ClientConnectorError(KEY, OSError(number, "x"))
        return failure_of(error, Hop(Watchdog(FetchConfig("test"))))

    failed = run_virtual(judge())
    assert isinstance(failed, OutOfResources)
    assert outcome_class(failed.class_).retry
    assert failed.message.startswith("This machine is out of ")
    assert "--concurrency" in failed.message


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: refused, too many open files")),
        aiohttp.ClientConnectorDNSError(KEY, LookupFailed(errno.EMFILE, "a.example could not be looked up")),
    ],
)
def test_running_out_is_seen_behind_other_errors(error: Exception) -> None:
    """Where one of several addresses, or the look-up, lacked a descriptor, that is the reason and no other."""

    async def judge() -> FetchFailed:
        hop = Hop(Watchdog(FetchConfig("test")))
        if not isinstance(error, aiohttp.ClientConnectorDNSError):
            hop.lacking = errno.EMFILE
        return failure_of(error, hop)

    assert isinstance(run_virtual(judge()), OutOfResources)


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
    async with Fetcher(FetchConfig("test", allow_net=("127.0.0.0/8",)), arena) as fetcher:
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


@pytest.mark.parametrize(
    ("error", "class_"), [(RuntimeError("gone"), "connect.reset"), (ValueError("odd"), "url.invalid")]
)
async def test_what_cannot_be_asked_for_is_the_rows_end(
    answers: aioresponses, error: Exception, class_: str
) -> None:
    """The plain errors that aiohttp and uvloop have for a request they cannot make end its row."""
    answers.get("http://photos.test/a", exception=error)
    async with Fetcher(FetchConfig("test", allow_net=("127.0.0.0/8",)), Arena(1_000)) as fetcher:
        failed = await fetcher.fetch(Request(0, "http://photos.test/a"))
    assert isinstance(failed, Failed)
    assert failed.error.class_ == class_


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug")])
async def test_a_fault_of_ours_is_no_rows_end(
    answers: aioresponses, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What our own code raises while a body is taken stops whoever asked, and gives the bytes back."""

    def broken(self: Decoder, data: bytes) -> NoReturn:
        raise error

    monkeypatch.setattr(Decoder, "feed", broken)
    answers.get("http://photos.test/a", body=b"x", headers={"Content-Encoding": "br"})
    arena = Arena(1_000)
    async with Fetcher(FetchConfig("test", allow_net=("127.0.0.0/8",)), arena) as fetcher:
        with pytest.raises(type(error), match="a bug"):
            await fetcher.fetch(Request(0, "http://photos.test/a"))
        assert "0 in flight" in repr(fetcher._watchdog)
    assert arena.held == 0


async def test_a_body_whose_connection_has_gone(answers: aioresponses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading where the connection has closed already, which aiohttp has a plain error for, is a reset."""

    async def gone(self: aiohttp.StreamReader) -> bytes:
        raise RuntimeError("Connection closed.")

    monkeypatch.setattr(aiohttp.StreamReader, "readany", gone)
    answers.get("http://photos.test/a", body=b"x")
    async with Fetcher(FetchConfig("test", allow_net=("127.0.0.0/8",)), Arena(1_000)) as fetcher:
        failed = await fetcher.fetch(Request(0, "http://photos.test/a"))
    assert isinstance(failed, Failed)
    assert str(failed.error) == "connect.reset: The connection broke: Connection closed."


def test_waiting_for_the_budget_ends_no_row(answers: aioresponses) -> None:
    """A fetch that waits for the byte budget longer than every limit allows still succeeds."""
    for _ in range(2):
        answers.get("http://photos.test/a", body=b"x" * 900, headers={"Content-Length": "900"})

    async def main() -> None:
        config, budget = FetchConfig("test", allow_net=("127.0.0.0/8",)), Arena(1_000)
        async with Fetcher(config, budget) as fetcher:
            first = await fetcher.fetch(Request(0, "http://photos.test/a"))
            assert isinstance(first, Fetched)
            elder = await budget.reserve(1)  # the oldest that is filling may always go on; this one is it
            task = asyncio.ensure_future(fetcher.fetch(Request(1, "http://photos.test/a")))
            await asyncio.sleep(3 * config.timeout_s)
            assert "1 waiting" in repr(budget)
            first.slot.release()
            second = await task
            assert isinstance(second, Fetched), second
            second.slot.release()
            elder.release()

    run_virtual(main())
