"""Names → addresses: against a name server on loopback, and with a look-up of our own for the cache."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvloop

from scraper.config import FetchConfig
from scraper.resolver import (
    FAILED_S,
    LOOKUP_S,
    LOOKUPS,
    NOT_FOUND_S,
    SHORTEST_S,
    SLOW_S,
    UNANSWERED,
    Answer,
    AresLookup,
    HostNotFound,
    LookupFailed,
    Resolver,
)
from scraper.testing.clock import run_virtual

NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5
A, AAAA = 1, 28
Zone = dict[str, list[tuple[int, str, int]] | int | None]


class NameServer(asyncio.DatagramProtocol):
    """Answers from a zone: records as (type, address, ttl), a failure code, or None for silence (RFC 1035 4).

    Attributes:
        drops: queries for each name that are lost before one is answered.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: Counter[str] = Counter()
        self.drops = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.DatagramTransport", transport)  # each loop has a class of its own

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a query with one question."""
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        kind = struct.unpack_from("!H", data, at + 1)[0]
        question = data[12 : at + 5]
        name = ".".join(labels).lower()
        self.asked[name] += 1
        entry = self.zone.get(name, NXDOMAIN)
        if entry is None or self.asked[name] <= self.drops:
            return
        records = [] if isinstance(entry, int) else [record for record in entry if record[0] == kind]
        code = entry if isinstance(entry, int) else 0
        answer = b""
        for record_kind, address, ttl in records:
            packed = socket.inet_pton(socket.AF_INET if record_kind == A else socket.AF_INET6, address)
            answer += struct.pack("!HHHIH", 0xC00C, record_kind, 1, ttl, len(packed)) + packed
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        self.transport.sendto(head + question + answer, addr)


@asynccontextmanager
async def asking(
    zone: Zone, *, timeout_s: float = 0.2, tries: int = 1
) -> AsyncIterator[tuple[AresLookup, NameServer]]:
    """A look-up that asks a server with this zone."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(zone), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    lookup = AresLookup((f"127.0.0.1:{port}",), timeout_s=timeout_s, tries=tries)
    try:
        yield lookup, server
    finally:
        await lookup.close()
        transport.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_addresses_of_both_families(run: Callable[..., set[str]]) -> None:
    """All addresses of a name are found, and the shortest time to live is kept."""

    async def main() -> set[str]:
        zone: Zone = {"two.example": [(A, "192.0.2.1", 300), (A, "192.0.2.2", 200), (AAAA, "2001:db8::1", 900)]}
        async with asking(zone) as (lookup, _):
            answer = await lookup("two.example", socket.AF_UNSPEC)
            assert answer.ttl_s == 200
            only = await lookup("two.example", socket.AF_INET)
            assert set(only.addresses) == {"192.0.2.1", "192.0.2.2"}
            return set(answer.addresses)

    assert run(main()) == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (NXDOMAIN, HostNotFound),
        ([], HostNotFound),
        (SERVFAIL, LookupFailed),
        (REFUSED, LookupFailed),
        (None, LookupFailed),
    ],
    ids=["no such name", "no address", "server fails", "server refuses", "server is silent"],
)
async def test_why_there_is_no_address(
    entry: list[tuple[int, str, int]] | int | None, error: type[OSError]
) -> None:
    """A name that does not exist is told from a server that does not work."""
    async with asking({"odd.example": entry}) as (lookup, _):
        with pytest.raises(error, match=r"odd\.example"):
            await lookup("odd.example", socket.AF_UNSPEC)


@pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example"])
async def test_names_that_cannot_be_asked(host: str) -> None:
    """A name that breaks the rules does not exist."""
    async with asking({}) as (lookup, server):
        with pytest.raises(HostNotFound):
            await lookup(host, socket.AF_UNSPEC)
        assert not server.asked


async def test_localhost_needs_no_server() -> None:
    """The name localhost and names under it are this machine (RFC 6761 6.3), and nobody is asked."""
    async with asking({}) as (lookup, server):
        for host in ("localhost", "any.localhost"):
            assert "127.0.0.1" in (await lookup(host, socket.AF_UNSPEC)).addresses
        assert not server.asked


async def test_a_slow_server_does_not_hold_the_loop() -> None:
    """While one name is not answered, others are, and the loop turns."""
    async with asking({"slow.example": None, "fast.example": [(A, "192.0.2.1", 60)]}, timeout_s=1.0) as (
        lookup,
        _,
    ):
        slow = asyncio.ensure_future(lookup("slow.example", socket.AF_INET))
        assert (await lookup("fast.example", socket.AF_INET)).addresses == ("192.0.2.1",)
        assert not slow.done()
        with pytest.raises(LookupFailed):
            await slow


@pytest.mark.slow  # c-ares asks again after a quarter of a second at the earliest
async def test_what_a_name_server_drops_is_asked_again() -> None:
    """A name server that loses packets, as busy ones do, costs time and no name."""
    hosts = [f"h{n}.example" for n in range(40)]
    async with asking({host: [(A, "192.0.2.1", 60)] for host in hosts}, timeout_s=0.05, tries=3) as (
        lookup,
        server,
    ):
        server.drops = 1
        resolver = Resolver(lookup)
        found = await asyncio.gather(*(resolver.addresses(host, socket.AF_INET) for host in hosts))
        assert set(found) == {("192.0.2.1",)}
        assert set(server.asked.values()) == {2}
        assert resolver.unanswered == {}


class Book:
    """A look-up that counts, answers from a dict, and waits for ``open`` first."""

    def __init__(self, **known: Answer | OSError) -> None:
        self.known = known
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, host: str, family: int) -> Answer:
        """Look it up."""
        self.asked[host] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        answer = self.known.get(host, Answer(("192.0.2.9",), 300.0))
        if isinstance(answer, OSError):
            raise answer
        return answer


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.mark.parametrize(
    ("ttl_s", "kept_s"),
    [(0.0, SHORTEST_S), (30.0, SHORTEST_S), (300.0, 300.0), (86_400.0, 3_600.0)],
)
async def test_how_long_an_answer_is_kept(ttl_s: float, kept_s: float) -> None:
    """An answer is kept for its time to live, at least a minute and at most an hour."""
    clock, book = Clock(), Book(a=Answer(("192.0.2.1",), ttl_s))
    resolver = Resolver(book, now=clock)
    assert await resolver.addresses("a") == ("192.0.2.1",)
    clock.now = kept_s - 0.001
    await resolver.addresses("A")
    assert book.asked["a"] == 1
    clock.now = kept_s
    await resolver.addresses("a")
    assert book.asked["a"] == 2


@pytest.mark.parametrize(("error", "kept_s"), [(HostNotFound, NOT_FOUND_S), (LookupFailed, 1.0)])
async def test_failures_are_kept_briefly(error: type[OSError], kept_s: float) -> None:
    """A failure answers for a moment, so that ten thousand rows of one dead host ask once, and not for longer."""
    clock, book = Clock(), Book(a=error(None, "no a"))
    resolver = Resolver(book, now=clock)
    for moment, asked in ((0.0, 1), (kept_s - 0.001, 1), (kept_s, 2)):
        clock.now = moment
        with pytest.raises(error, match="no a"):
            await resolver.addresses("a")
        assert book.asked["a"] == asked


async def test_one_look_up_serves_all_who_wait() -> None:
    """A name that many want at once is looked up once per family."""
    book = Book()
    book.open.clear()
    resolver = Resolver(book)
    waiting = [asyncio.ensure_future(resolver.addresses("a")) for _ in range(50)]
    waiting.append(asyncio.ensure_future(resolver.addresses("a", socket.AF_INET)))
    await asyncio.sleep(0)
    assert repr(resolver) == "<Resolver 0 kept, 2 being looked up>"
    book.open.set()
    assert set(await asyncio.gather(*waiting)) == {("192.0.2.9",)}
    assert book.asked["a"] == 2


async def test_who_asks_may_be_cancelled() -> None:
    """Cancelling the one that asks makes the next of those who wait ask; none of them is cancelled with it."""
    book = Book()
    book.open.clear()
    resolver = Resolver(book)
    first, *others = [asyncio.ensure_future(resolver.addresses("a")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    book.open.set()
    assert await asyncio.gather(*others) == [("192.0.2.9",)] * 2
    assert first.cancelled()
    assert book.asked["a"] == 2


async def test_look_ups_are_bounded() -> None:
    """However many hosts a list begins with, only so many are looked up at once."""
    book = Book()
    book.open.clear()
    resolver = Resolver(book)
    waiting = [asyncio.ensure_future(resolver.addresses(f"h{n}")) for n in range(LOOKUPS + 50)]
    await asyncio.sleep(0)
    assert book.at_once == LOOKUPS
    book.open.set()
    await asyncio.gather(*waiting)
    assert book.most_at_once == LOOKUPS


async def test_the_cache_is_bounded() -> None:
    """The oldest answers make room for new ones."""
    book = Book()
    resolver = Resolver(book, size=3)
    for host in "abcd":
        await resolver.addresses(host)
    assert repr(resolver) == "<Resolver 3 kept, 0 being looked up>"
    for host in "bcda":
        await resolver.addresses(host)
    assert book.asked == {"a": 2, "b": 1, "c": 1, "d": 1}


SILENT = LookupFailed(None, "nobody answers")


async def fails(resolver: Resolver, *hosts: str) -> None:
    """Look each up, in vain."""
    for host in hosts:
        with pytest.raises(OSError, match=r"nobody|no such"):
            await resolver.addresses(host)


def names(resolver: Resolver) -> list[str]:
    """Those looked up in vain."""
    return [host for host, _ in resolver.unanswered]


async def test_names_looked_up_in_vain_are_counted() -> None:
    """Each name once, however often it is asked for."""
    clock, book = Clock(), Book(a=SILENT, b=SILENT)
    resolver = Resolver(book, now=clock)
    for _ in range(3):
        await fails(resolver, "a", "A", "b")
        clock.now += FAILED_S
    assert names(resolver) == ["a", "b"]


@pytest.mark.parametrize("answer", [Answer(("192.0.2.1",), 60.0), HostNotFound(None, "no such name")])
async def test_any_answer_begins_the_count_anew(answer: Answer | OSError) -> None:
    """That there is no such name is an answer as well: some name server gave it."""
    clock, book = Clock(), Book(a=SILENT, b=SILENT, c=answer)
    resolver = Resolver(book, now=clock)
    await fails(resolver, "a", "b")
    await asyncio.gather(resolver.addresses("c"), return_exceptions=True)
    assert resolver.unanswered == {}
    await fails(resolver, "a", "b")
    assert resolver.unanswered == {}, "names that failed before prove nothing"


async def test_an_answer_lets_the_others_be_asked_at_once() -> None:
    """Names that were not answered for are not taken for lost a moment longer once some other one is."""
    book = Book(a=SILENT)
    resolver = Resolver(book, now=Clock())
    await fails(resolver, "a", "a")
    del book.known["a"]
    await fails(resolver, "a")
    await resolver.addresses("b")
    assert await resolver.addresses("a") == ("192.0.2.9",)
    assert book.asked == {"a": 2, "b": 1}


async def test_a_name_that_was_found_before_counts() -> None:
    """A known name that cannot be looked up any more says as much as a new one."""
    clock, book = Clock(), Book(a=Answer(("192.0.2.1",), 60.0))
    resolver = Resolver(book, now=clock)
    await resolver.addresses("a")
    clock.now += 60.0
    book.known["a"] = SILENT
    await fails(resolver, "a")
    assert names(resolver) == ["a"]


async def test_this_machines_own_want_is_no_silence() -> None:
    """Without descriptors nobody was asked; and what is remembered is bounded."""
    resolver = Resolver(Book(a=LookupFailed(errno.EMFILE, "nobody was asked")))
    with pytest.raises(LookupFailed):
        await resolver.addresses("a")
    assert resolver.unanswered == {}
    many = [f"h{n}" for n in range(2 * UNANSWERED)]
    resolver = Resolver(Book(**dict.fromkeys(many, SILENT)))
    await fails(resolver, *many)
    assert len(resolver.unanswered) == UNANSWERED


async def test_name_servers_are_asked_whether_they_answer() -> None:
    """By the names they did not answer for, in turn; not where another look-up has shown it."""
    clock, book = Clock(), Book(a=SILENT, b=SILENT)
    resolver = Resolver(book, now=clock)
    assert await resolver.is_answered()
    assert not book.asked
    await fails(resolver, "a", "b")
    for _ in range(3):
        clock.now += FAILED_S
        assert not await resolver.is_answered()
    assert book.asked == {"a": 3, "b": 2}
    clock.now += FAILED_S
    del book.known["b"]
    assert await resolver.is_answered()
    assert resolver.unanswered == {}
    assert await resolver.addresses("b") == ("192.0.2.9",)
    assert book.asked == {"a": 3, "b": 3}


def test_a_look_up_ends() -> None:
    """One that name servers let hang ends before whoever waits for a connection has gone, and counts."""

    async def main() -> None:
        book = Book()
        book.open.clear()
        resolver = Resolver(book)
        with pytest.raises(LookupFailed, match=r"a could not be looked up: no answer within 8 s"):
            await resolver.addresses("a")
        assert asyncio.get_running_loop().time() == LOOKUP_S < FetchConfig("test").connect_timeout_s
        assert names(resolver) == ["a"]

    run_virtual(main())


@pytest.mark.parametrize(("after_s", "counted"), [(SLOW_S / 2, []), (SLOW_S, ["a"])])
def test_a_look_up_that_was_given_up(after_s: float, counted: list[str]) -> None:
    """It counts as one in vain only if there was time for an answer."""

    async def main() -> None:
        book = Book()
        book.open.clear()
        resolver = Resolver(book)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after_s):
                await resolver.addresses("a")
        assert names(resolver) == counted

    run_virtual(main())
