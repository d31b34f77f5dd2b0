"""Group N of docs/faults.md: what networks do, through the whole product. Rows N14 and N15 are elsewhere."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from pipelines import files
from scraper import RunConfig, arun
from scraper.config import FetchConfig, HealthConfig, PermitConfig, PoolConfig, RetryConfig
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.resolver import Answer, AresLookup, Resolver
from scraper.testing.engine import at_once
from scraper.testing.server import (
    CLOSE,
    HANG,
    LOOPBACK,
    RESET,
    Drip,
    Forever,
    Script,
    ScriptedServer,
    Turns,
    reply,
)

pytestmark = pytest.mark.slow  # all of them look at whole runs

GOOD = reply("200 OK", b"good")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


def config(concurrency: int = 8, **limits: Any) -> RunConfig:
    """Limits that a busy machine keeps, but for those under test; one retry, at once."""
    usual = {"timeout_s": 60.0, "connect_timeout_s": 30.0, "header_timeout_s": 30.0, "stall_timeout_s": 30.0}
    return RunConfig(
        FetchConfig("test", allow_net=(LOOPBACK, "::1"), **usual | {"max_bytes": 1_000_000} | limits),
        permits=PermitConfig(concurrency=concurrency),
        politeness=at_once(concurrency),
        retry=RetryConfig(retries=1, wait_s=0.0),
        pool=PoolConfig(workers=1),
        health=HealthConfig(wait_s=0),
    )


async def run(urls: Sequence[str], out: Path, run_config: RunConfig) -> list[Outcome]:
    """Run the whole product; check what holds for every run; the outcomes by row."""
    await arun(files.build(), urls, out=out, config=run_config)
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(urls)))
    found = {each for each in out.glob("0*/**/*") if each.is_file()}
    assert found == {out / each.path for each in outcomes if each.path}
    assert all((each.class_ == "ok") == bool(each.path) for each in outcomes)
    return outcomes


def ends(outcomes: Sequence[Outcome]) -> list[tuple[str, int]]:
    """Class and attempts of each row."""
    return [(each.class_, each.attempts) for each in outcomes]


@contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that takes no further connection and refuses none: its queue of one is full. Yields the port."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def book(monkeypatch: pytest.MonkeyPatch, **known: Sequence[str]) -> None:
    """Have the product look these names up in here."""

    async def lookup(host: str, family: int) -> Answer:
        return Answer(tuple(known[host]), 60.0)

    monkeypatch.setattr("scraper.fetch.Resolver", lambda: Resolver(lookup))


async def test_n1_a_refused_port_is_retried_and_then_fails(tmp_path: Path) -> None:
    """Nobody listens: connect.refused after the retries."""
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    outcomes = await run([f"http://127.0.0.1:{port}/"], tmp_path / "out", config())
    assert ends(outcomes) == [("connect.refused", 2)]


async def test_n2_a_black_hole_costs_a_permit_for_at_most_the_connect_limit(tmp_path: Path) -> None:
    """SYNs that nobody answers: connect.timeout after the retries; with one permit, the others still end."""
    with black_hole() as port:
        async with ScriptedServer([GOOD]) as server:
            urls = [f"http://127.0.0.1:{port}/", server.url("/other")]
            outcomes = await run(urls, tmp_path / "out", config(1, connect_timeout_s=0.1))
    assert ends(outcomes) == [("connect.timeout", 2), ("ok", 1)]


class NameServer(asyncio.DatagramProtocol):
    """Answers over UDP as its table says: a code (RFC 1035 4.1.1), an address, or once something has happened."""

    def __init__(self, zone: dict[str, int | str], released: asyncio.Event) -> None:
        self.zone, self.released = zone, released
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by the loop."""
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        name, kind, question = ".".join(labels).lower(), data[at + 2], data[12 : at + 5]
        self.asked.append(name)
        known = self.zone.get(name)
        if known is None:
            return  # never answered
        answer = b""
        if isinstance(known, str) and kind == 1:
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(known)
        code = known if isinstance(known, int) else 0
        flags = bytes((0x81, 0x80 | code))
        packet = data[:2] + flags + b"\0\1" + bytes((0, int(bool(answer)))) + b"\0\0\0\0" + question + answer
        if name.startswith("later"):
            task = asyncio.get_running_loop().create_task(self._later(packet, addr))
            task.add_done_callback(lambda _: None)
            self.waiting = task
        else:
            self.transport.sendto(packet, addr)

    async def _later(self, packet: bytes, addr: tuple[str, int]) -> None:
        await self.released.wait()
        self.transport.sendto(packet, addr)


@asynccontextmanager
async def name_server(
    monkeypatch: pytest.MonkeyPatch, zone: dict[str, int | str], released: asyncio.Event
) -> AsyncIterator[NameServer]:
    """Have the product ask this name server."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(zone, released), ("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    lookup = AresLookup((f"127.0.0.1:{port}",), timeout_s=0.3, tries=1)
    monkeypatch.setattr("scraper.fetch.Resolver", lambda: Resolver(lookup))
    try:
        yield server
    finally:
        await lookup.close()
        transport.close()


async def test_n3_names_that_cannot_be_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NXDOMAIN is final; SERVFAIL and silence are asked again; and each costs none but its own row."""
    zone: dict[str, int | str] = {"gone.example": 3, "broken.example": 2, "here.example": "127.0.0.1"}
    async with ScriptedServer([GOOD]) as server, name_server(monkeypatch, zone, asyncio.Event()) as names:
        hosts = ("gone.example", "broken.example", "silent.example", "here.example")
        outcomes = await run([server.url("/", host) for host in hosts], tmp_path / "out", config())
    assert ends(outcomes) == [("dns.not_found", 1), ("dns.temporary", 2), ("dns.temporary", 2), ("ok", 1)]
    assert names.asked.count("broken.example") >= 2


async def test_n3_a_slow_name_server_does_not_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a name is looked up, other rows are fetched: the answer comes only after another row was asked for."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/now" in await reader.readuntil(b"\r\n\r\n"):
            released.set()
        writer.write(GOOD)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    urls = [f"http://later.example:{port}/then", f"http://127.0.0.1:{port}/now"]
    async with server, name_server(monkeypatch, {"later.example": "127.0.0.1"}, released):
        outcomes = await run(urls, tmp_path / "out", config(2))
    assert [each.class_ for each in outcomes] == ["ok", "ok"]


async def test_n4_a_dead_first_address_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose first address refuses is reached by its second, in the same attempt (RFC 8305)."""
    async with ScriptedServer([GOOD]) as server:
        book(monkeypatch, **{"two.example": ("::1", "127.0.0.2", "127.0.0.1")})
        outcomes = await run([server.url("/", "two.example")], tmp_path / "out", config())
    assert ends(outcomes) == [("ok", 1)]


async def test_n4_a_silent_first_address_is_not_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose first address swallows SYNs is reached by its second long before the connect limit."""
    async with ScriptedServer([GOOD]) as server:
        with black_hole("127.0.0.2", server.port):
            book(monkeypatch, **{"two.example": ("127.0.0.2", "127.0.0.1")})
            outcomes = await run([server.url("/", "two.example")], tmp_path / "out", config())
    assert ends(outcomes) == [("ok", 1)]
    assert outcomes[0].timings.connect_ms < 15_000


async def test_n5_a_server_that_never_answers_costs_a_permit_for_at_most_the_header_limit(tmp_path: Path) -> None:
    """Accepted and left alone: timeout.stall after the retries; with one permit, the others still end."""
    async with ScriptedServer({"/never": [HANG], "/other": [GOOD]}) as server:
        urls = [server.url("/never"), server.url("/other")]
        outcomes = await run(urls, tmp_path / "out", config(1, header_timeout_s=0.1))
        assert server.asked == {"/never": 2, "/other": 1}
    assert ends(outcomes) == [("timeout.stall", 2), ("ok", 1)]


async def test_n6_a_dripping_body_costs_a_permit_for_at_most_the_stall_limit(tmp_path: Path) -> None:
    """A byte now and then is no progress: timeout.stall after the retries; the others still end."""
    async with ScriptedServer({"/drip": [HEAD, Drip(b"x" * 100_000, 0.005)], "/other": [GOOD]}) as server:
        urls = [server.url("/drip"), server.url("/other")]
        outcomes = await run(urls, tmp_path / "out", config(1, stall_timeout_s=0.1))
        assert server.asked == {"/drip": 2, "/other": 1}
    assert ends(outcomes) == [("timeout.stall", 2), ("ok", 1)]


async def test_n6_a_slow_body_that_gets_on_is_waited_for(tmp_path: Path) -> None:
    """The stall limit is of progress, not of the whole: a body that takes many times as long arrives."""
    slow: Script = [reply("200 OK", b"x" * 400)[:-400], Drip(b"x" * 400, 0.001)]
    async with ScriptedServer(slow) as server:
        limits = config(stall_timeout_s=0.1)
        object.__setattr__(limits.fetch, "stall_bytes", 1)
        outcomes = await run([server.url("/")], tmp_path / "out", limits)
    assert ends(outcomes) == [("ok", 1)]


async def test_n7_dripping_headers_cost_a_permit_for_at_most_the_header_limit(tmp_path: Path) -> None:
    """Header lines that come for ever: timeout.stall after the retries; with one permit, the others still end."""
    drip: Script = [b"HTTP/1.1 200 OK\r\n", Drip(b"X: 1\r\n" * 10_000, 0.005)]
    async with ScriptedServer({"/drip": drip, "/other": [GOOD]}) as server:
        urls = [server.url("/drip"), server.url("/other")]
        outcomes = await run(urls, tmp_path / "out", config(1, header_timeout_s=0.1))
        assert server.asked == {"/drip": 2, "/other": 1}
    assert ends(outcomes) == [("timeout.stall", 2), ("ok", 1)]
    assert outcomes[0].message == "No response headers within 0.1 s."


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]
)
async def test_n8_an_endless_body_is_cut_at_the_cap(tmp_path: Path, head: bytes) -> None:
    """Announced or not, a body over the cap is body.too_large at once: cut, and not asked again."""
    async with ScriptedServer({"/endless": [head, Forever(b"x" * 65_536)], "/other": [GOOD]}) as server:
        urls = [server.url("/endless"), server.url("/other")]
        outcomes = await run(urls, tmp_path / "out", config(1))
        assert server.asked == {"/endless": 1, "/other": 1}
        assert server.connections == 2
    assert ends(outcomes) == [("body.too_large", 1), ("ok", 1)]


async def test_n9_a_reset_in_the_middle_is_asked_again(tmp_path: Path) -> None:
    """RST in the body: asked again; connect.reset if it stays so, and the whole body if it does not."""
    half: Script = [HEAD + b"x" * 50_000, RESET]
    whole = [reply("200 OK", b"x" * 100_000)]
    async with ScriptedServer({"/always": half, "/once": Turns((half, whole))}) as server:
        outcomes = await run([server.url("/always"), server.url("/once")], tmp_path / "out", config())
        assert server.asked == {"/always": 2, "/once": 2}
    assert ends(outcomes) == [("connect.reset", 2), ("ok", 2)]
    assert outcomes[1].bytes == 100_000


async def test_n10_no_answer_at_all_is_asked_again(tmp_path: Path) -> None:
    """FIN or RST before any byte, on a new connection: asked again, and connect.reset if it stays so."""
    scripts: dict[str, Script | Turns] = {"/fin": [CLOSE], "/rst": [RESET], "/once": Turns(([CLOSE], [GOOD]))}
    async with ScriptedServer(scripts) as server:
        # One connection each: on one that was used before, the first failure would not count.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scraper.connector.KEEP_ALIVE_S", -1.0)
            outcomes = await run([server.url(path) for path in scripts], tmp_path / "out", config(1))
        assert server.asked == {"/fin": 2, "/rst": 2, "/once": 2}
    assert ends(outcomes) == [("connect.reset", 2), ("connect.reset", 2), ("ok", 2)]


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=repr)
async def test_n11_a_connection_closed_while_idle_is_replaced_and_not_counted(tmp_path: Path, ending: Any) -> None:
    """A kept connection that the server closes as it is used again: asked anew, as the first attempt."""
    paths = [f"/{n}" for n in range(6)]
    stale = {path: Turns(([ending], [GOOD])) for path in paths[1:]}
    async with ScriptedServer({"/0": [GOOD], **stale}) as server:
        outcomes = await run([server.url(path) for path in paths], tmp_path / "out", config(1))
        assert server.asked == {path: 1 if path == "/0" else 2 for path in paths}
    assert ends(outcomes) == [("ok", 1)] * 6


async def test_n11_a_connection_closed_right_after_its_answer(tmp_path: Path) -> None:
    """A server that keeps no connection, and does not say so, costs no attempt however the closing falls."""
    async with ScriptedServer([GOOD, CLOSE]) as server:
        urls = [server.url(f"/{n}") for n in range(40)]
        outcomes = await run(urls, tmp_path / "out", config(2))
    assert ends(outcomes) == [("ok", 1)] * 40


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts what is open


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
async def test_n12_half_closed_connections_are_closed(tmp_path: Path) -> None:
    """A server that shuts its side down and never closes: rows end as ever, and no descriptor stays open."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            answers: dict[bytes, bytes] = {b"/whole": GOOD, b"/half": HEAD + b"half", b"/none": b""}
            writer.write(answers[head.split()[1].partition(b"?")[0]])
            writer.write_eof()
            await reader.read()  # the client must close: this side never does
            return

    await run(["http://127.0.0.1:1/"], tmp_path / "warm", config())  # what is opened once and kept
    before = _descriptors()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    paths = ["/whole", "/half", "/none"] * 10
    urls = [f"http://127.0.0.1:{port}{path}?{n}" for n, path in enumerate(paths)]
    outcomes = await run(urls, tmp_path / "out", config())
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)
    assert [each.class_ for each in outcomes] == ["ok", "body.truncated", "connect.reset"] * 10
    assert await _settles(before)


async def _settles(wanted: int) -> bool:
    """Whether as few descriptors are open, once the loop has closed what it was told to."""
    for _ in range(200):
        if _descriptors() <= wanted:
            return True
        await asyncio.sleep(0.01)
    return False


_FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pipelines import files
from scraper import run
urls = [f"{sys.argv[1]}?{n}" for n in range(500)]
report = run(files.build(), urls, out=sys.argv[2], allow_net=sys.argv[3], pace="fixed", per_host=64)
print(report.ok, report.failed)
"""


async def test_n13_few_descriptors_shrink_the_run(tmp_path: Path) -> None:
    """With 64 descriptors allowed and 64 fetches wanted, 500 rows are ok: fewer are made at a time."""
    async with ScriptedServer([GOOD]) as server:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _FEW, server.url("/"), str(tmp_path / "out"), LOOPBACK), stdout=subprocess.PIPE
        )
        said, _ = await child.communicate()
        assert server.connections < 64
    assert said.split() == [b"500", b"0"]
