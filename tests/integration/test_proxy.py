"""Through a proxy: what reaches the proxy and what the origin, what is verified, and what a failure is called."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import trustme
import uvloop

from scraper.answers import Failed, Fetched
from scraper.arena import Arena
from scraper.config import FetchConfig, TlsConfig
from scraper.fetch import Fetcher
from scraper.records import Request, Timings
from scraper.resolver import Answer, HostNotFound, Resolver
from scraper.testing.server import HANG, ScriptedServer, reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]

TARGET = "target.example"
PASSED = "Basic " + base64.b64encode("usér:Z8-secret".encode()).decode()
VARIABLES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


class Proxy:
    """A proxy on loopback. It looks no name up: every host is the machine it runs on.

    Args:
        answer: what to say to every request instead of passing it on; empty to close without a word.
        tls: speak TLS to clients with this context.

    Attributes:
        connections: accepted so far.
        heads: what was asked of it, as it came.
    """

    def __init__(self, answer: bytes | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._answer, self._tls = answer, tls
        self._serving: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.heads: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, userinfo: str = "") -> str:
        """What to give ``--proxy``."""
        return f"{'https' if self._tls else 'http'}://{userinfo}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self._next(reader)
        if self._answer is not None:
            writer.write(self._answer)
            await writer.drain()
            return
        method, target, _ = head.split(b" ", 2)
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        back, out = await asyncio.open_connection("127.0.0.1", int(place.rpartition(b":")[2]))
        try:
            async with asyncio.TaskGroup() as group:
                if method == b"CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    group.create_task(_copy(reader, out))
                else:
                    group.create_task(self._pass_on(head, reader, out))
                group.create_task(_copy(back, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one of the two went away, as they may
        finally:
            out.transport.abort()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        """Requests in the form for an origin, without what was for the proxy (RFC 9110 11.7.2)."""
        while True:
            first, *fields = head.split(b"\r\n")
            method, target, version = first.split(b" ")
            first = b" ".join((method, b"/" + target.split(b"/", 3)[3], version))
            kept = [field for field in fields if not field.lower().startswith(b"proxy-")]
            out.write(b"\r\n".join((first, *kept)))
            head = await self._next(reader)

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def unknown(host: str, family: int) -> Answer:
    """A name server that has never heard of anybody."""
    raise HostNotFound(None, f"{host} does not exist")


async def endings(
    urls: list[str], proxy: str, tls: TlsConfig | None = None, *, allow_net: tuple[str, ...] = (), **more: Any
) -> list[str]:
    """The body of each, or the class and sentence of the failure. We ourselves find no name."""
    config = FetchConfig("test", proxy=proxy, tls=tls or TlsConfig(), allow_net=allow_net, **more)
    said = []
    async with Fetcher(config, Arena(10_000), resolver=Resolver(unknown)) as fetcher:
        for url in urls:
            result = await fetcher.fetch(Request(0, url))
            if isinstance(result, Failed):
                said.append(str(result.error))
                continue
            assert isinstance(result, Fetched)
            said.append(bytes(result.response.body).decode())
            result.slot.release()
    return said


def fields(head: bytes) -> dict[str, str]:
    """The header fields of a request, by their names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom the client believes, where it is told to."""
    return trustme.CA()


@pytest.fixture(scope="module")
def believing(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TlsConfig:
    """Believes the authority."""
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return TlsConfig(ca_file=str(file))


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """What a server of these names needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine of the tests goes through is of no interest."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@LOOPS
def test_http_through_a_proxy(run: Run) -> None:
    """The proxy is asked with the whole URL and looks the name up; both connections serve again.

    The proxy's password goes to the proxy and no further, the origin's is the origin's.
    """

    async def main() -> None:
        async with ScriptedServer([reply("200 OK", b"body")]) as origin, Proxy() as proxy:
            url = f"http://me:pw@{TARGET}:{origin.port}/path?query"
            through = proxy.url("us%C3%A9r:Z8-secret@")
            assert await endings([url, url], through) == ["body", "body"]
            assert (proxy.connections, origin.connections) == (1, 1)
            for head in proxy.heads:
                assert head.startswith(f"GET http://{TARGET}:{origin.port}/path?query HTTP/1.1\r\n".encode())
                assert fields(head)["proxy-authorization"] == PASSED
            assert len(origin.requests) == 2
            for head in origin.requests:
                assert "proxy-authorization" not in fields(head)
                assert fields(head)["host"] == f"{TARGET}:{origin.port}"
                assert fields(head)["authorization"] == "Basic bWU6cHc="

    run(main())


@LOOPS
def test_https_through_a_proxy(run: Run, authority: trustme.CA, believing: TlsConfig) -> None:
    """The proxy is told host and port, and gets its own password; all else is between us and the origin."""

    async def main() -> None:
        tls = server_tls(authority, TARGET)
        async with ScriptedServer([reply("200 OK", b"body")], tls=tls) as origin, Proxy() as proxy:
            url = f"https://me:pw@{TARGET}:{origin.port}/path?query"
            through, secret = proxy.url("us%C3%A9r:Z8-secret@"), {"x-api-key": "mine"}
            said = await endings([url, url], through, believing, headers=secret)
            assert said == ["body", "body"]
            assert (proxy.connections, origin.connections) == (1, 1)
            (head,) = proxy.heads
            assert head.startswith(f"CONNECT {TARGET}:{origin.port} HTTP/1.1\r\n".encode())
            assert fields(head)["proxy-authorization"] == PASSED
            assert {"authorization", "x-api-key", "cookie"}.isdisjoint(fields(head))
            for head in origin.requests:
                assert head.startswith(b"GET /path?query HTTP/1.1\r\n")
                assert "proxy-authorization" not in fields(head)
                assert fields(head)["authorization"] == "Basic bWU6cHc="
                assert fields(head)["x-api-key"] == "mine"

    run(main())


@LOOPS
def test_timings_through_a_proxy(run: Run, authority: trustme.CA, believing: TlsConfig) -> None:
    """Connecting to the proxy and the handshake with the host are timed as without one, and spared when warm."""

    async def main() -> None:
        tls = server_tls(authority, TARGET)
        async with ScriptedServer([reply("200 OK", b"body")], tls=tls) as origin, Proxy() as proxy:
            config = FetchConfig("test", proxy=proxy.url(), tls=believing)
            timings: list[Timings] = []
            async with Fetcher(config, Arena(10_000), resolver=Resolver(unknown)) as fetcher:
                for _ in range(2):
                    result = await fetcher.fetch(Request(0, f"https://{TARGET}:{origin.port}/"))
                    assert isinstance(result, Fetched), result
                    timings.append(result.response.timings)
                    result.slot.release()
            cold, warm = timings
            assert cold.connect_ms > 0
            assert cold.tls_ms > 0
            assert cold.connect_ms + cold.tls_ms + cold.first_byte_ms <= cold.total_ms
            assert (warm.connect_ms, warm.tls_ms) == (0, 0)

    run(main())


@LOOPS
@pytest.mark.parametrize("names", [("other.example",), ("127.0.0.1", "localhost")], ids=["another", "the proxy's"])
def test_a_tunnel_is_verified_to_its_end(
    run: Run, authority: trustme.CA, believing: TlsConfig, names: tuple[str, ...]
) -> None:
    """It is the host's name that the certificate must have, and not a byte is sent to who cannot show it."""

    async def main() -> None:
        tls = server_tls(authority, *names)
        async with ScriptedServer([reply("200 OK", b"x")], tls=tls) as origin, Proxy() as proxy:
            (said,) = await endings([f"https://{TARGET}:{origin.port}/"], proxy.url(), believing)
            assert said.startswith("tls.verify: The certificate is not accepted: ")
            assert TARGET in said
            assert origin.requests == []

    run(main())


@LOOPS
@pytest.mark.parametrize(
    ("host", "shown", "end"),
    [
        ("faß.example", "xn--fa-hia.example", "body"),
        ("faß.example", "fass.example", "tls.verify"),  # as the older IDNA, that of the ssl module, reads it
        (f"{TARGET}.", TARGET, "body"),
    ],
)
def test_a_host_with_two_spellings(
    run: Run, authority: trustme.CA, believing: TlsConfig, host: str, shown: str, end: str
) -> None:
    """The name that is verified in the tunnel is the one that is dialled, but for a dot at its end."""

    async def main() -> str:
        tls = server_tls(authority, shown)
        async with ScriptedServer([reply("200 OK", b"body")], tls=tls) as origin, Proxy() as proxy:
            return (await endings([f"https://{host}:{origin.port}/"], proxy.url(), believing))[0]

    assert run(main()).partition(":")[0] == end


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f000001", "localhost", "a.localhost", "10.0.0.1", "[::1]"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_forbidden_addresses_are_not_asked_for(scheme: str, host: str) -> None:
    """What may not be dialled is not asked of the proxy either: it may stand where those lead somewhere."""
    async with Proxy(reply("200 OK", b"x")) as proxy:
        (said,) = await endings([f"{scheme}://{host}:1/"], proxy.url())
        assert said.startswith("address.blocked: ")
        assert (proxy.connections, proxy.heads) == (0, [])


async def test_opened_addresses_go_through_the_proxy() -> None:
    """This machine's own servers too: only the environment's no_proxy makes exceptions."""
    async with ScriptedServer([reply("200 OK", b"body")]) as origin, Proxy() as proxy:
        assert await endings([origin.url()], proxy.url(), allow_net=("127.0.0.0/8",)) == ["body"]
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("upper", [False, True])
async def test_x17_the_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch, upper: bool) -> None:
    """Nobody said ``--proxy env``: however the variables are set, nothing goes where they lead."""
    async with ScriptedServer([reply("200 OK", b"body")]) as origin, Proxy() as trap:
        for name in VARIABLES[:-1]:
            monkeypatch.setenv(name.upper() if upper else name, trap.url())
        assert await endings([origin.url()], "", allow_net=("127.0.0.0/8",)) == ["body"]
        assert trap.connections == 0


async def test_x17_the_environment_is_heard_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proxy is used, but for what it names; what is asked directly is sent nothing of the proxy's."""
    async with ScriptedServer([reply("200 OK", b"body")]) as origin, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url("user:Z8-secret@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        urls = [f"http://{TARGET}:{origin.port}/", origin.url()]
        assert await endings(urls, "env", allow_net=("127.0.0.0/8",)) == ["body", "body"]
        assert len(proxy.heads) == 1
        assert all(b"proxy-authorization" not in head.lower() for head in origin.requests)


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("answer", "class_", "says"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "http.407", "407"),
        (b"HTTP/1.1 403 Go away\r\nContent-Length: 0\r\n\r\n", "http.403", "403"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\nbody", "http.502", "502"),
        (b"", "connect.reset", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol.malformed", "HTTP"),
    ],
    ids=["407", "403", "502", "closes", "no HTTP"],
)
def test_n15_a_proxy_that_does_not_let_us_through(
    run: Run, scheme: str, answer: bytes, class_: str, says: str
) -> None:
    """Its answer is the row's, whether it is asked for a page or for a tunnel; its password is not repeated."""

    async def main() -> str:
        async with Proxy(answer) as proxy:
            return (await endings([f"{scheme}://{TARGET}/"], proxy.url("user:Z8-secret@")))[0]

    said = run(main())
    assert said.partition(":")[0] == class_
    assert says in said
    assert "Z8-secret" not in said
    if scheme == "https":
        assert "proxy" in said


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_n15_a_proxy_that_is_not_there(run: Run, scheme: str) -> None:
    """The sentence names the proxy, which is what has to be mended, and not its password."""

    async def main() -> tuple[str, int]:
        async with Proxy() as proxy:
            pass
        return (await endings([f"{scheme}://{TARGET}/"], proxy.url("user:Z8-secret@")))[0], proxy.port

    said, port = run(main())
    assert said == (
        f"connect.refused: On the way to the proxy: No connection to 127.0.0.1:{port}: Connection refused."
    )


async def test_a_proxy_that_nobody_knows() -> None:
    """No host of the list is called non-existent because the proxy is: the rows are asked again."""
    (said,) = await endings([f"http://{TARGET}/"], "http://proxy.example:3128")
    assert said == "dns.temporary: On the way to the proxy: proxy.example does not exist."


@LOOPS
def test_a_proxy_that_says_nothing(run: Run) -> None:
    """Waiting for a tunnel is part of connecting, and ends with it."""

    async def main() -> str:
        async with ScriptedServer([HANG], greet=True) as silent:
            proxy = f"http://127.0.0.1:{silent.port}"
            return (await endings([f"https://{TARGET}/"], proxy, connect_timeout_s=0.05))[0]

    assert run(main()).partition(":")[0] == "connect.timeout"


@LOOPS
def test_no_handshake_inside_a_tunnel(run: Run) -> None:
    """A host that speaks no TLS is told from a proxy that fails, and from a connection that breaks."""

    async def main() -> str:
        async with ScriptedServer([b"HTTP/1.1 400 Bad Request\r\n\r\n"], greet=True) as origin, Proxy() as proxy:
            return (await endings([f"https://{TARGET}:{origin.port}/"], proxy.url()))[0]

    said = run(main())
    assert said.startswith("tls.handshake: The TLS handshake failed: ")


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_behind_tls(run: Run, authority: trustme.CA, believing: TlsConfig, scheme: str) -> None:
    """The way to the proxy is verified by the proxy's name, and the tunnel inside by the host's."""

    async def main() -> None:
        tls = server_tls(authority, TARGET) if scheme == "https" else None
        async with (
            ScriptedServer([reply("200 OK", b"body")], tls=tls) as origin,
            Proxy(tls=server_tls(authority, "127.0.0.1")) as proxy,
        ):
            url = f"{scheme}://{TARGET}:{origin.port}/"
            assert await endings([url, url], proxy.url(), believing) == ["body", "body"]
            assert proxy.connections == 1

    run(main())


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_verified_whatever_the_host_is_excused(run: Run, authority: trustme.CA, scheme: str) -> None:
    """``--insecure HOST`` is for that host: nobody else may stand between it and us because of it."""

    async def main(insecure: set[str]) -> tuple[str, int]:
        tls = server_tls(authority, "other.example") if scheme == "https" else None
        config = TlsConfig(insecure=frozenset(insecure))
        async with (
            ScriptedServer([reply("200 OK", b"body")], tls=tls) as origin,
            Proxy(tls=server_tls(authority, "127.0.0.1")) as proxy,
        ):
            url = f"{scheme}://{TARGET}:{origin.port}/"
            return (await endings([url], proxy.url("user:Z8-secret@"), config))[0], len(proxy.heads)

    said, heads = run(main({TARGET}))
    assert said.startswith("tls.verify: On the way to the proxy: The certificate is not accepted: ")
    assert heads == 0
    assert run(main({TARGET, "127.0.0.1"})) == ("body", 1)
    said, heads = run(main({"127.0.0.1"}))
    # Of TLS inside TLS, asyncio of Python 3.11 says only that there was no handshake.
    assert said.partition(":")[0] in (("tls.verify", "tls.handshake") if scheme == "https" else ("body",))
    assert "On the way to the proxy" not in said
    assert "Z8-secret" not in said


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_hosts_certificate_is_not_shown_to_the_proxy(
    authority: trustme.CA, believing: TlsConfig, scheme: str, tmp_path: Path
) -> None:
    """A proxy that wants to know who we are learns nothing from what we are to somebody else."""
    mine = tmp_path / "mine.pem"
    authority.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(str(mine))
    wanting = server_tls(authority, "127.0.0.1")
    authority.configure_trust(wanting)
    wanting.verify_mode = ssl.CERT_REQUIRED
    for host, shown in ((TARGET, 0), ("127.0.0.1", 1)):
        config = TlsConfig(ca_file=believing.ca_file, client={host: (str(mine), "")})
        async with Proxy(reply("403 Forbidden"), tls=wanting) as proxy:
            await endings([f"{scheme}://{TARGET}/"], proxy.url(), config)
            assert len(proxy.heads) == shown
