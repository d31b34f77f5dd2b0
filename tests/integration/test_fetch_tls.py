"""https: who is believed, what a broken handshake is called, and that a cut is noticed under TLS as well."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig, TlsConfig
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.testing.server import CLOSE, HANG, RESET, Script, ScriptedServer, reply
from scraper.tls import Contexts

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]

OK = b"HTTP/1.1 200 OK\r\n"
LOOPBACK = ("127.0.0.0/8", "::1")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody has heard of, made anew each time."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What the server needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client believes the authority. aiohttp makes its context once, at import."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)


async def ending(url: str, tls: TlsConfig | None = None) -> str:
    """The body, or the class and sentence of the failure."""
    config = FetchConfig("test", allow_net=LOOPBACK, connect_timeout_s=1.0, tls=tls or TlsConfig())
    async with Fetcher(config, Arena(10_000)) as fetcher:
        return await ending_by(fetcher, Request(0, url))


async def ending_by(fetcher: Fetcher, request: Request) -> str:
    """The same by a fetcher that is there, redirects followed."""
    result = await fetcher.fetch(request)
    while isinstance(result, Redirected):
        result = await fetcher.fetch(result.request)
    if isinstance(result, Failed):
        return str(result.error)
    assert isinstance(result, Fetched)
    body = bytes(result.response.body).decode()
    result.slot.release()
    return body


def server_side(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """What a server with a certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def days(count: int) -> datetime.datetime:
    """So many days from now."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count)


def self_signed() -> ssl.SSLContext:
    """What a server with a certificate of its own making needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), days(-1), days(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    raw, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    context = server_side()
    both = trustme.Blob(key.private_bytes(pem, raw, bare) + certificate.public_bytes(pem))
    with both.tempfile() as file:
        context.load_cert_chain(file)
    return context


@LOOPS
def test_t5_nobody_unknown_is_believed(run: Run, tls: ssl.SSLContext) -> None:
    """A certificate from nobody we trust ends the row, and not a byte of the request is sent."""

    async def main() -> str:
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            said = await ending(server.url())
            assert server.requests == []
            return said

    said = run(main())
    assert said == "tls.verify: The certificate is not accepted: unable to get local issuer certificate."


def is_refused(run: Run, certificate: ssl.SSLContext, says: str) -> None:
    """The row ends with that reason before a byte of the request is sent; the host alone can be excused."""

    async def main(insecure: str) -> tuple[str, int]:
        async with ScriptedServer([reply("200 OK", b"x")], tls=certificate) as server:
            config = TlsConfig(insecure=frozenset({insecure}))
            return await ending(server.url(), config), len(server.requests)

    said, requests = run(main("localhost"))
    assert said.lower() == f"tls.verify: the certificate is not accepted: {says}.".lower()
    assert requests == 0
    assert run(main("127.0.0.1")) == ("x", 1)


@LOOPS
@pytest.mark.usefixtures("trusted")
def test_t1_self_signed(run: Run) -> None:
    """Nobody vouches for the server but itself."""
    is_refused(run, self_signed(), "self-signed certificate")


@LOOPS
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("first", "last", "says"),
    [(-2, -1, "certificate has expired"), (1, 2, "certificate is not yet valid")],
    ids=["expired", "not yet valid"],
)
def test_t2_expired(run: Run, authority: trustme.CA, first: int, last: int, says: str) -> None:
    """Of the right host and from the right authority, but not today's."""
    leaf = authority.issue_cert("127.0.0.1", not_before=days(first), not_after=days(last))
    is_refused(run, server_side(leaf), says)


@LOOPS
@pytest.mark.usefixtures("trusted")
def test_t4_no_alternative_name(run: Run, authority: trustme.CA) -> None:
    """The host stands in the common name only, where nothing is looked for any more (RFC 9525 6.4)."""
    leaf = authority.issue_cert(common_name="127.0.0.1")
    is_refused(run, server_side(leaf), "IP address mismatch, certificate is not valid for '127.0.0.1'")


@LOOPS
@pytest.mark.usefixtures("trusted")
def test_t6_missing_intermediate(run: Run, authority: trustme.CA) -> None:
    """The certificate is good, but whoever signed it is not shown, and only who signed that is known."""
    leaf = authority.create_child_ca().issue_cert("127.0.0.1")
    alone = server_side()
    with leaf.private_key_pem.tempfile() as key, leaf.cert_chain_pems[0].tempfile() as certificate:
        alone.load_cert_chain(certificate, key)
    is_refused(run, alone, "unable to get local issuer certificate")


@LOOPS
@pytest.mark.usefixtures("trusted")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("insecure", [(), ("127.0.0.1",)], ids=["verified", "insecure"])
@pytest.mark.parametrize("old", [True, False], ids=["TLS 1.0", "no common cipher"])
def test_t9_what_no_longer_protects_is_not_spoken(
    run: Run, tls: ssl.SSLContext, old: bool, insecure: tuple[str, ...]
) -> None:
    """Versions before TLS 1.2, and ciphers that hide nothing, are refused, to an insecure host as well."""
    tls.set_ciphers("ALL:@SECLEVEL=0" if old else "aNULL:eNULL:@SECLEVEL=0")
    if old:
        tls.minimum_version = ssl.TLSVersion.TLSv1
    tls.maximum_version = ssl.TLSVersion.TLSv1 if old else ssl.TLSVersion.TLSv1_2

    async def main() -> str:
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            return await ending(server.url(), TlsConfig(insecure=frozenset(insecure)))

    assert run(main()).startswith("tls.handshake: The TLS handshake failed: ")


@LOOPS
def test_insecure_ends_where_the_host_does(run: Run, tls: ssl.SSLContext) -> None:
    """It holds for all ports of the host, and not for another that a redirect leads to."""

    async def main() -> None:
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as last:
            to_other = reply("302 Found", b"", f"Location: {last.url(host='localhost')}")
            to_port = reply("302 Found", b"", f"Location: {last.url()}")
            async with ScriptedServer({"/port": [to_port], "/other": [to_other]}, tls=tls) as first:
                config = TlsConfig(insecure=frozenset({"127.0.0.1"}))
                assert await ending(first.url("/port"), config) == "x"
                assert (await ending(first.url("/other"), config)).startswith("tls.verify: ")
            assert len(last.requests) == 1

    run(main())


@LOOPS
@pytest.mark.parametrize("turned", [False, True])
def test_connections_are_kept_apart(run: Run, tls: ssl.SSLContext, turned: bool) -> None:
    """A connection that was made without a look at the certificate never serves where such a look is wanted.

    One host is never both within a run; here it is, so that nothing but the pool is left to tell them apart.
    """

    async def main() -> None:
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            lenient, strict = Contexts(TlsConfig(insecure=frozenset({"127.0.0.1"}))), Contexts(TlsConfig())
            async with Fetcher(FetchConfig("test", allow_net=LOOPBACK), Arena(10_000)) as fetcher:
                for contexts, end in ((strict, "tls.verify"), (lenient, "x"), (strict, "tls.verify"))[turned:]:
                    fetcher._asking._contexts = contexts
                    said = await ending_by(fetcher, Request(0, server.url()))
                    assert said.partition(":")[0] == end
            assert len(server.requests) == 1

    run(main())


@LOOPS
def test_own_authorities(run: Run, authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path) -> None:
    """Those of ``--ca-file`` are believed; hosts are still asked for their names."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))

    async def main() -> None:
        config = TlsConfig(ca_file=str(file))
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            assert await ending(server.url(), config) == "x"
            assert (await ending(server.url(host="other.localhost"), config)).startswith("tls.verify: ")

    run(main())


@LOOPS
def test_a_client_certificate_is_shown_to_its_host_only(
    run: Run, authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """A server that wants one gets it if it is that host's; another, though it asks, does not."""
    known, mine = tmp_path / "authority.pem", tmp_path / "mine.pem"
    authority.cert_pem.write_to_path(str(known))
    authority.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(str(mine))
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def main() -> None:
        config = TlsConfig(ca_file=str(known), client={"127.0.0.1": (str(mine), "")})
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
            assert await ending(server.url(), config) == "x"
            assert await ending(server.url(host="localhost"), config) != "x"
            assert len(server.requests) == 1

    run(main())


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("downgrade", "end"), [(True, "x"), (False, "redirect.blocked")])
async def test_t10_from_https_to_http(tls: ssl.SSLContext, downgrade: bool, end: str) -> None:
    """Followed or not, as the user says; the other way it is always followed."""
    scripts: dict[str, Script] = {"/": [reply("200 OK", b"x")]}
    async with ScriptedServer(scripts) as plain:
        down = reply("302 Found", b"", f"Location: {plain.url()}")
        async with ScriptedServer({"/": [down], "/x": [reply("200 OK", b"x")]}, tls=tls) as secure:
            scripts["/up"] = [reply("302 Found", b"", f"Location: {secure.url('/x')}")]
            config = FetchConfig("test", allow_net=LOOPBACK, downgrade=downgrade)
            async with Fetcher(config, Arena(10_000)) as fetcher:
                said = await ending_by(fetcher, Request(0, secure.url()))
                assert said.partition(":")[0] == end
                assert len(plain.requests) == (end == "x")
                assert await ending_by(fetcher, Request(0, plain.url("/up"))) == "x"


@LOOPS
@pytest.mark.usefixtures("trusted")
def test_https_works_and_is_timed(run: Run, tls: ssl.SSLContext) -> None:
    """A trusted server is fetched from; the handshake is told from the connect, and both are spared when warm."""

    async def main() -> None:
        config = FetchConfig("test", allow_net=LOOPBACK)
        server = ScriptedServer([reply("200 OK", b"x")], tls=tls)
        async with server, Fetcher(config, Arena(10_000)) as fetcher:
            for warm in (False, True):
                result = await fetcher.fetch(Request(0, server.url()))
                assert isinstance(result, Fetched), result
                timings = result.response.timings
                assert (timings.tls_ms == 0) == (timings.connect_ms == 0) == warm
                result.slot.release()
            assert server.connections == 1

    run(main())


@pytest.mark.usefixtures("trusted")
async def test_t3_another_hosts_certificate(tls: ssl.SSLContext) -> None:
    """A valid certificate for another name is not accepted."""
    async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as server:
        said = await ending(server.url(host="other.localhost"))
    assert said.startswith("tls.verify: The certificate is not accepted: ")
    assert "other.localhost" in said


@LOOPS
@pytest.mark.parametrize(
    ("script", "class_"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE], "tls.handshake"),
        ([CLOSE], "tls.handshake"),
        ([RESET], "tls.handshake"),
        pytest.param([HANG], "connect.timeout", marks=pytest.mark.slow),
    ],
    ids=["plain HTTP", "closes", "resets", "says nothing"],
)
def test_t7_what_is_no_handshake(run: Run, script: Script, class_: str) -> None:
    """Whoever cannot shake hands is told from whoever does not answer."""

    async def main() -> str:
        async with ScriptedServer(script, greet=True) as server:
            return await ending(server.url().replace("http://", "https://"))

    assert run(main()).partition(":")[0] == class_


@LOOPS
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("script", "end"),
    [
        ([OK + b"Content-Length: 5\r\n\r\nwhole", RESET], "whole"),
        ([OK + b"\r\nwhole", CLOSE], "whole"),
        ([OK + b"\r\nhalf", RESET], "connect.reset"),
        ([OK + b"Content-Length: 9\r\n\r\nhalf", RESET], "connect.reset"),
        ([OK + b"Content-Length: 9\r\n\r\nhalf", CLOSE], "body.truncated"),
    ],
    ids=["whole, then cut", "until close", "until cut", "cut", "short"],
)
def test_t8_how_a_body_ends(run: Run, tls: ssl.SSLContext, script: Script, end: str) -> None:
    """A connection cut after the whole body does no harm; one cut before is never taken for an end."""

    async def main() -> str:
        async with ScriptedServer(script, tls=tls) as server:
            return await ending(server.url())

    assert run(main()).partition(":")[0] == end
