"""What is not public is not dialled: counted where it would arrive, and where sockets are made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop

from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.connector import HOP, AddressBlocked, Connector, Hop
from scraper.deadline import Watchdog
from scraper.failures import failure_of
from scraper.fetch import Fetcher
from scraper.policies.addresses import AddressRule
from scraper.records import Request
from scraper.resolver import Answer, Resolver
from scraper.testing.server import reply

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, Any]], Any]

STAND_IN = "127.0.0.9"
"""What is open in these tests, as the public internet is."""

INSIDE = ("127.0.0.1", "127.0.0.2", "::1")

TARGETS = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.8",
    "127.0.0.10",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0X7F.0x0.0x0.0x1",
    "0x7f000001",
    "0x7F000001",
    "0177.0.0.1",
    "0177.1",
    "017700000001",
    "000000177.0.0.01",
    "2130706433",
    "2130706434",
    "127.0x0.0.1",
    "127.0.0.1.",
    "127.1.",
    "0x7f.1.",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "127\uff0e0\uff0e0\uff0e1",
    "\u2460\u2461\u2466.0.0.1",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "%30x7f.1",
    "127.0.0.%31",
    "user@127.0.0.1",
    "8.8.8.8@127.0.0.1",
    "8.8.8.8:80@127.1",
    "0",
    "0.0.0.0",
    "0x0",
    "00.0",
    "0.0.0.1",
    "10.0.0.1",
    "10.1",
    "0xa.1",
    "012.1",
    "167772161",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.43518",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "2852039166",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.0.1",
    "192.168.1",
    "0xc0a80001",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "4294967295",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[2002:c0a8:1::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[3fff::1]",
]
"""Hosts as lists write them; each is an address that is not public."""

NAMES = {
    "loopback": ("127.0.0.1",),
    "other-loopback": ("127.0.0.2",),
    "six": ("::1",),
    "mapped": ("::ffff:127.0.0.1",),
    "compatible": ("::127.0.0.1",),
    "unspecified": ("0.0.0.0",),
    "unspecified-six": ("::",),
    "private": ("10.0.0.1",),
    "metadata": ("169.254.169.254",),
    "nat64": ("64:ff9b::7f00:1",),
    "6to4": ("2002:7f00:1::1",),
    "first-public": (STAND_IN, "127.0.0.1"),
    "last-public": ("127.0.0.1", STAND_IN),
    "mixed-families": (STAND_IN, "::1"),
    "mixed-mapped": (STAND_IN, "::ffff:127.0.0.1"),
    "one-of-many": (*(STAND_IN,) * 5, "127.0.0.2"),
    "short": ("127.1",),
    "octal": ("0177.0.0.1",),
    "number": ("2130706433",),
    "zone": ("fe80::1%lo",),
    "name": ("localhost",),
}
"""What a name server that lies may answer."""


class Place:
    """A server on one port of several addresses. Answers 302 to ``location`` if there is one, else 200.

    Attributes:
        connections: accepted so far.
        requests: heads so far.
        is_brief: close each connection after its response.
    """

    def __init__(self) -> None:
        self.port = self.connections = 0
        self.requests: list[bytes] = []
        self.location = ""
        self.is_brief = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                headers = ["Connection: close"] if self.is_brief else []
                if self.location:
                    writer.write(reply("302 Found", b"", f"Location: {self.location}", *headers))
                else:
                    writer.write(reply("200 OK", b"hello", *headers))
                if self.is_brief:
                    break
        writer.close()


@asynccontextmanager
async def place(*addresses: str) -> AsyncIterator[Place]:
    """A server at these addresses, as far as this machine has them."""
    here = Place()
    sockets: list[socket.socket] = []
    while not sockets:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family == socket.AF_INET6 and not _has_ipv6():
                continue
            try:
                sockets.append(socket.create_server((address, here.port), family=family))
            except OSError as error:  # the port that was free at the first address is taken at this one
                if error.errno != errno.EADDRINUSE:
                    raise
                while sockets:
                    sockets.pop().close()
                here.port = 0
                break
            here.port = sockets[0].getsockname()[1]
    servers = [await asyncio.start_server(here.serve, sock=each) for each in sockets]
    try:
        yield here
    finally:
        for server in servers:
            server.close()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def config(*opened: str) -> FetchConfig:
    """Only the stand-in is open, unless more is said."""
    return FetchConfig("test", timeout_s=5.0, connect_timeout_s=2.0, allow_net=opened or (STAND_IN,))


def pretend(names: Mapping[str, tuple[str, ...]]) -> Resolver:
    """A resolver of these names under .example; all others are the stand-in."""

    async def lookup(host: str, family: int) -> Answer:
        return Answer(names.get(host.removesuffix(".example"), (STAND_IN,)), 0.0)

    return Resolver(lookup)


async def outcome(fetcher: Fetcher, url: str) -> str:
    """The body, or the class and sentence of the failure; redirects are followed as a run does."""
    request = Request(0, url)
    while True:
        answer = await fetcher.fetch(request)
        if isinstance(answer, Redirected):
            request = answer.request
        elif isinstance(answer, Fetched):
            with answer.slot:
                return bytes(answer.response.body).decode()
        else:
            assert isinstance(answer, Failed)
            return str(answer.error)


@LOOPS
def test_literals(run: Run, dialled: list[str]) -> None:
    """An address that is not public is refused however it is spelled, and no connection is made."""

    async def main() -> None:
        async with place(*INSIDE) as inside, Fetcher(config(), Arena(10_000)) as fetcher:
            said = {host: await outcome(fetcher, f"http://{host}:{inside.port}/") for host in TARGETS}
            assert {host: each for host, each in said.items() if not each.startswith("address.blocked: ")} == {}
            assert inside.connections == 0
            assert dialled == []

    run(main())
    assert len(TARGETS) >= 60


async def test_the_stand_in_is_reached(dialled: list[str]) -> None:
    """What is open is dialled, however it is spelled: the tests here do not pass for want of any connection."""
    async with place(STAND_IN) as outside, Fetcher(config(), Arena(10_000)) as fetcher:
        for host in (STAND_IN, "127.9", "0x7f.9", "2130706441", "127.0.0.9."):
            assert await outcome(fetcher, f"http://{host}:{outside.port}/") == "hello"
        assert len(outside.requests) == 5
        assert set(dialled) == {STAND_IN}


@LOOPS
def test_names(run: Run, dialled: list[str]) -> None:
    """A name with any address that is not public is refused as a whole, whatever else it leads to."""

    async def main() -> None:
        async with (
            place(*INSIDE) as inside,
            place(STAND_IN) as outside,
            Fetcher(config(), Arena(10_000), resolver=pretend(NAMES)) as fetcher,
        ):
            for there in (inside, outside):
                for name in NAMES:
                    said = await outcome(fetcher, f"http://{name}.example:{there.port}/")
                    assert said.startswith(f"address.blocked: {name}.example is "), (name, said)
            assert (inside.connections, outside.connections, dialled) == (0, 0, [])

    run(main())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "any.localhost", "loc%61lhost"])
async def test_the_name_of_this_machine(host: str, dialled: list[str]) -> None:
    """The name localhost is no way round, with the resolver that runs have."""
    async with place(*INSIDE) as inside, Fetcher(config(), Arena(10_000)) as fetcher:
        said = await outcome(fetcher, f"http://{host}:{inside.port}/")
        assert said.startswith("address.blocked: ")
        assert (inside.connections, dialled) == (0, [])


@LOOPS
def test_redirects(run: Run, dialled: list[str]) -> None:
    """A redirect to an address or to a name that is not public ends there, whatever led to it."""

    async def main() -> None:
        async with (
            place(*INSIDE) as inside,
            place(STAND_IN) as outside,
            Fetcher(config(), Arena(10_000), resolver=pretend(NAMES)) as fetcher,
        ):
            targets = [host for host in TARGETS if host.isascii() and "@" not in host]
            for host in (*targets, *(f"{name}.example" for name in NAMES)):
                outside.location = f"http://{host}:{inside.port}/"
                said = await outcome(fetcher, f"http://public.example:{outside.port}/")
                assert said.startswith("address.blocked: "), (host, said)
            assert inside.connections == 0
            assert set(dialled) == {STAND_IN}

    run(main())


@LOOPS
def test_rebinding(run: Run, dialled: list[str]) -> None:
    """A name that is public first and private then leads nowhere the second time; one look-up serves each dial."""

    async def main() -> None:
        asked = 0
        now = 0.0

        async def lookup(host: str, family: int) -> Answer:
            nonlocal asked
            asked += 1
            return Answer((STAND_IN if asked == 1 else "127.0.0.1",), 0.0)

        async with (
            place(*INSIDE) as inside,
            Fetcher(config(), Arena(10_000), resolver=Resolver(lookup, now=lambda: now)) as fetcher,
            place(STAND_IN) as outside,
        ):
            url = f"http://rebinding.example:{outside.port}/"
            outside.is_brief = True
            assert await outcome(fetcher, url) == "hello"
            assert await outcome(fetcher, url) == "hello"  # of the answer that is kept
            assert asked == 1
            now = 61.0
            said = await outcome(fetcher, url)
            assert said.startswith("address.blocked: rebinding.example is 127.0.0.1, loopback: not dialled")
            assert (asked, outside.connections, inside.connections) == (2, 2, 0)
            assert (await outcome(fetcher, f"http://rebinding.example:{inside.port}/")).startswith("address.")
            assert (inside.connections, set(dialled)) == (0, {STAND_IN})

    run(main())


async def test_a_connection_that_is_kept(dialled: list[str]) -> None:
    """One that is used again leads where it led when it was checked, whatever the name has come to mean."""
    now = 0.0
    answers = iter((STAND_IN, "127.0.0.1"))

    async def lookup(host: str, family: int) -> Answer:
        return Answer((next(answers),), 0.0)

    async with (
        place(STAND_IN) as outside,
        Fetcher(config(), Arena(10_000), resolver=Resolver(lookup, now=lambda: now)) as fetcher,
    ):
        for _ in range(2):
            assert await outcome(fetcher, f"http://kept.example:{outside.port}/") == "hello"
            assert HOP.get().address == STAND_IN
            now = 61.0
        assert (outside.connections, len(outside.requests), dialled) == (1, 2, [STAND_IN])


@pytest.mark.parametrize(
    ("opened", "host", "says"),
    [
        ("10.0.0.0/8", "127.0.0.1", "127.0.0.1 is loopback: not dialled; --allow-net 127.0.0.0/8 opens it."),
        (
            "10.0.0.0/8",
            "a.example",
            "a.example is 127.0.0.1, loopback: not dialled; --allow-net 127.0.0.0/8 opens it.",
        ),
        ("127.0.0.2/32", "127.0.0.1", "127.0.0.1 is loopback: not dialled; --allow-net 127.0.0.0/8 opens it."),
        (
            "127.0.0.0/8",
            "b.example",
            "b.example is ::1, loopback: not dialled; --allow-net ::1 opens it.",
        ),
        (
            "10.0.0.0/8",
            "b.example",
            "b.example is 127.0.0.1, loopback: not dialled; --allow-net 127.0.0.0/8,::1 opens it.",
        ),
        (
            "127.0.0.0/8",
            "[::ffff:10.0.0.1]",
            "::ffff:a00:1 is IPv4-mapped 10.0.0.1 (private): not dialled; --allow-net 10.0.0.1 opens it.",
        ),
        ("::1", "c.example", "c.example is zone, no address: not dialled."),
    ],
)
async def test_what_is_said(opened: str, host: str, says: str, dialled: list[str]) -> None:
    """The sentence names the address, why, and all that would have to be opened."""
    names = {"a": ("127.0.0.1",), "b": ("127.0.0.1", "::1"), "c": ("zone",)}
    async with Fetcher(config(opened), Arena(10_000), resolver=pretend(names)) as fetcher:
        assert await outcome(fetcher, f"http://{host}:1/") == f"address.blocked: {says}"
    assert dialled == []


@LOOPS
def test_the_second_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the first check to fail, the address is refused as its socket is made."""

    async def main() -> None:
        async with place(*INSIDE) as inside, Fetcher(config(), Arena(10_000)) as fetcher:
            check = Connector._check

            def lenient(self: Connector, host: str, addresses: Any) -> None:
                if not isinstance(addresses, tuple):  # the first look's
                    return
                check(self, host, addresses)

            monkeypatch.setattr(Connector, "_check", lenient)
            said = await outcome(fetcher, f"http://127.0.0.1:{inside.port}/")
            assert said == "address.blocked: 127.0.0.1 is loopback: not dialled; --allow-net 127.0.0.0/8 opens it."
            assert inside.connections == 0

    run(main())


@asynccontextmanager
async def through(proxy: Place) -> AsyncIterator[Callable[[str], Any]]:
    """Asks for URLs through the proxy, with nothing opened."""
    connector = Connector(pretend({}), AddressRule())
    watchdog = Watchdog(FetchConfig("test"))

    async def ask(url: str) -> str:
        HOP.set(Hop(watchdog))
        async with session.get(url, proxy=f"http://127.0.0.1:{proxy.port}") as response:
            return await response.text()

    async with aiohttp.ClientSession(connector=connector) as session:
        yield ask


async def test_a_proxy_is_the_users_own_word() -> None:
    """A proxy that the user named is dialled wherever it is; what is asked of it is not where the hop leads."""
    async with place("127.0.0.1") as proxy, through(proxy) as ask:
        for _ in range(2):
            assert await ask("http://public.example/") == "hello"
            assert HOP.get().address == ""
        assert proxy.connections == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:7f00:1]", "169.254.169.254", "localhost", "a.localhost."]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_is_no_way_round(host: str, scheme: str) -> None:
    """An address that is not public is not asked for through a proxy either."""
    async with place("127.0.0.1") as proxy, through(proxy) as ask:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await ask(f"{scheme}://{host}/")
        assert failure_of(caught.value, HOP.get()).class_ == "address.blocked"
        assert proxy.connections == 0


async def test_only_the_way_to_the_proxy_is_open() -> None:
    """That one request goes through a proxy here opens nothing for the next one without."""
    async with (
        place("127.0.0.1") as proxy,
        Fetcher(config(), Arena(10_000)) as fetcher,
        through(proxy) as ask,
    ):
        await ask("http://public.example/")
        assert (await outcome(fetcher, f"http://127.0.0.1:{proxy.port}/")).startswith("address.blocked: ")
        assert proxy.connections == 1


async def test_a_proxy_that_fails_opens_nothing() -> None:
    """Nor does it for the same hop, should that be made without it then."""
    connector = Connector(pretend({}), AddressRule())
    async with place("127.0.0.1") as inside, aiohttp.ClientSession(connector=connector) as session:
        HOP.set(Hop(Watchdog(FetchConfig("test"))))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(aiohttp.ClientProxyConnectionError):
                await session.get("http://a.example/", proxy=f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://127.0.0.1:{inside.port}/")
        assert isinstance(caught.value.os_error, AddressBlocked)
        assert inside.connections == 0


async def test_whoever_dials_by_himself() -> None:
    """The connector looks up and checks for others, too."""
    connector = Connector(pretend(NAMES), AddressRule((STAND_IN,)))
    assert await connector.addresses("public.example") == (STAND_IN,)
    assert await connector.addresses(STAND_IN) == (STAND_IN,)
    with pytest.raises(AddressBlocked):
        await connector.addresses("first-public.example")
    await connector.close()


@LOOPS
def test_a_dead_address_costs_its_host_once(run: Run, dialled: list[str]) -> None:
    """The address that lost to another one of its name is tried last from then on."""

    async def main() -> None:
        names = {"half-dead": ("127.0.0.8", STAND_IN)}
        async with (
            place(STAND_IN) as outside,
            Fetcher(config(STAND_IN, "127.0.0.8"), Arena(10_000), resolver=pretend(names)) as fetcher,
        ):
            outside.is_brief = True
            for _ in range(3):
                assert await outcome(fetcher, f"http://half-dead.example:{outside.port}/") == "hello"
                assert HOP.get().address == STAND_IN
            assert dialled == ["127.0.0.8", STAND_IN, STAND_IN, STAND_IN]

    run(main())


async def test_a_hanging_address_costs_its_host_once(dialled: list[str]) -> None:
    """The same where nothing comes back from the dead one: the race starts the next, which wins."""
    names = {"half-dead": ("127.0.0.8", STAND_IN)}
    async with (
        place(STAND_IN) as outside,
        full("127.0.0.8", outside.port),
        Fetcher(config(STAND_IN, "127.0.0.8"), Arena(10_000), resolver=pretend(names)) as fetcher,
    ):
        outside.is_brief = True
        fetcher._session.connector._happy_eyeballs_delay = 0.01  # type: ignore[union-attr]
        for _ in range(3):
            assert await outcome(fetcher, f"http://half-dead.example:{outside.port}/") == "hello"
        assert dialled == ["127.0.0.8", STAND_IN, STAND_IN, STAND_IN]


@asynccontextmanager
async def full(address: str, port: int) -> AsyncIterator[None]:
    """A port whose backlog is full: connections are neither taken nor refused."""
    waiting = []
    with socket.socket() as listening:
        listening.bind((address, port))
        listening.listen(0)
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                waiting.append(one)
                one.connect_ex((address, port))
            yield
        finally:
            for one in waiting:
                one.close()
