"""Group X of docs/faults.md: who may lie to us, through the whole product.

What is open, as the public internet is, is 127.0.0.1 or what a test says; what is inside is a listener that counts
who comes. The rules behind each row have tests of their own; here it is whole runs that count.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import re
import sqlite3
import ssl
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trustme
from PIL import Image

from pipelines import files
from scraper import Pipeline, UsageError, Watch, arun
from scraper.cli import main
from scraper.ledger import LedgerReader
from scraper.policies import secrets
from scraper.records import Outcome
from scraper.resolver import Answer, HostNotFound, Resolver
from scraper.testing.server import CLOSE, LOOPBACK, Script, ScriptedServer, Turns, reply

pytestmark = pytest.mark.slow  # all of them look at whole runs

HERE = "127.0.0.1"
INSIDE = "127.0.0.2"
GOOD: Script = [reply("200 OK", b"good")]
HUSH = "hush-hush"
STATUSES = (301, 302, 303, 307, 308)
WITHIN_S = 40.0

Names = Mapping[str, tuple[str, ...]]


async def run(
    urls: Sequence[str | Mapping[str, object]], out: Path, pipeline: Pipeline | None = None, **settings: Any
) -> list[Outcome]:
    """Run the whole product; every row ends once, and nothing is written beside OUT."""
    beside = _files_beside(out)
    usual: dict[str, Any] = {"allow_net": HERE, "robots": "ignore", "retries": 0, "retry_wait": 0, "workers": 1}
    async with asyncio.timeout(WITHIN_S):
        await arun(pipeline or files.build(), urls=urls, out=out, **usual | settings)
    assert _files_beside(out) == beside
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(urls)))
    assert all((out / (each.shard or each.path)).is_file() for each in outcomes if each.path)
    return outcomes


def _files_beside(out: Path) -> set[Path]:
    return {path for path in out.parent.rglob("*") if not path.is_relative_to(out)}


def classes(outcomes: Sequence[Outcome]) -> list[str]:
    """The class of each row."""
    return [each.class_ for each in outcomes]


class Listener:
    """Counts who comes to an address of this machine, and answers them."""

    def __init__(self) -> None:
        self.port = self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one answer."""
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply("200 OK", b"inside", "Connection: close"))
        writer.close()


@asynccontextmanager
async def inside(*addresses: str) -> AsyncIterator[Listener]:
    """A listener at each address that this machine has; ``port`` is the first one's."""
    listener = Listener()
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            with contextlib.suppress(OSError):  # no IPv6 here, or the port is somebody else's there
                server = await asyncio.start_server(listener.serve, address, listener.port)
                listener.port = server.sockets[0].getsockname()[1]
                stack.callback(server.close)
        yield listener


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has runs ask a name server that knows these names alone, and this machine for the rest, if it is to."""

    def installed(names: Names, others: tuple[str, ...] = ()) -> None:
        async def lookup(host: str, family: int) -> Answer:
            if found := names.get(host, others):
                return Answer(found, 300.0)
            raise HostNotFound(None, f"{host} does not exist")

        monkeypatch.setattr("scraper.fetch.Resolver", lambda: Resolver(lookup))

    return installed


def received(server: ScriptedServer, name: str) -> list[tuple[str, str]]:
    """The path of each request, in order, and its header of that name, empty for none."""
    pattern = re.compile(rb"^%s: (.*?)\r$" % name.encode(), re.MULTILINE | re.IGNORECASE)
    heads = server.requests
    return [(head.split(b" ")[1].decode(), b"|".join(pattern.findall(head)).decode("latin-1")) for head in heads]


def moved(to: str, status: int = 302, *headers: str) -> Script:
    """A redirect."""
    return [reply(f"{status} Moved", b"", f"Location: {to}", *headers)]


LITERALS = [
    "127.0.0.1", "127.255.255.254", "127.1", "127.1.", "0x7f.1", "0x7f000001", "0177.1", "2130706433",
    "%31%32%37.1", "\uff11\uff12\uff17.0.0.1", "8.8.8.8@127.1", "0.0.0.0", "0", "10.0.0.1", "10.1", "012.1",
    "172.16.0.1", "192.168.1", "100.64.0.1", "169.254.169.254", "0xA9FEA9FE", "2852039166", "224.0.0.1",
    "[::1]", "[::]", "[::127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[64:ff9b::a00:1]",
    "[64:ff9b::7f00:1]", "[2002:c0a8::]", "[2002:7f00:1::]", "[2001::1]", "[fe80::1]", "[fc00::1]",
    "[fd00:ec2::254]", "localhost", "any.localhost",
]  # fmt: skip
"""Hosts as lists write them; none is public."""


async def test_x1_addresses_inside_are_not_dialled(tmp_path: Path, dialled: list[str]) -> None:
    """However a list spells them, for the row as for robots.txt; where they are opened they are reached."""
    async with inside(HERE, "::1") as trap:
        urls = [f"http://{host}:{trap.port}/{row}" for row, host in enumerate(LITERALS)]
        outcomes = await run(urls, tmp_path / "out", allow_net=(), robots="obey", retries=1)
        assert classes(outcomes) == ["address.blocked"] * len(urls)
        assert (trap.connections, dialled) == (0, [])
        assert classes(await run(urls[2:8], tmp_path / "opened", allow_net=HERE)) == ["ok"] * 6
        assert trap.connections == 6


async def test_x2_names_that_lead_inside_are_not_dialled(
    tmp_path: Path, dialled: list[str], name_server: Callable[..., None]
) -> None:
    """One answer of many that is not public refuses the name; the addresses checked are all that is dialled."""
    names: Names = {
        "loopback.example": (INSIDE,),
        "six.example": ("::1",),
        "mapped.example": ("::ffff:127.0.0.2",),
        "metadata.example": ("169.254.169.254",),
        "mixed.example": (HERE, INSIDE),
        "both-families.example": (HERE, "::1"),
        "spelled.example": ("0x7f.2",),
    }
    name_server({**names, "public.example": (HERE,)})
    async with inside(INSIDE, "::1") as trap, ScriptedServer(GOOD) as server:
        for port in (trap.port, server.port):
            urls = [f"http://{name}:{port}/" for name in names]
            outcomes = await run(urls, tmp_path / f"{port}", robots="obey", retries=1)
            assert classes(outcomes) == ["address.blocked"] * len(names)
        assert (trap.connections, server.connections, dialled) == (0, 0, [])
        assert classes(await run([server.url("/", "public.example")], tmp_path / "public")) == ["ok"]
        assert dialled == [HERE]


@pytest.mark.parametrize("allow_net", [HERE, LOOPBACK], ids=["guarded", "opened"])
async def test_x3_a_name_that_changes_its_mind_gains_nothing(
    tmp_path: Path, allow_net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when it is asked first, inside after that: each dial has one look-up, which is what is checked."""
    asked = 0
    clock = itertools.count(0, 7200)  # no answer is kept

    async def lookup(host: str, family: int) -> Answer:
        nonlocal asked
        asked += 1
        return Answer((HERE if asked == 1 else INSIDE,), 0.0)

    monkeypatch.setattr("scraper.fetch.Resolver", lambda: Resolver(lookup, now=lambda: float(next(clock))))
    async with (
        inside(INSIDE) as trap,
        ScriptedServer([reply("200 OK", b"x", "Connection: close"), CLOSE]) as server,
    ):
        urls = [server.url("/", "rebinding.example"), f"http://rebinding.example:{trap.port}/"]
        outcomes = await run(urls, tmp_path / "out", concurrency=1, allow_net=allow_net)
        opened = allow_net == LOOPBACK
        assert classes(outcomes) == ["ok", "ok" if opened else "address.blocked"]
        assert (trap.connections, server.connections, asked) == (int(opened), 1, 2)


async def test_x4_redirects_inside_are_not_followed(
    tmp_path: Path, dialled: list[str], name_server: Callable[..., None]
) -> None:
    """To an address in any spelling, to a name, to another port: the row ends with the request that led there."""
    name_server({"public.example": (HERE,), "inside.example": (INSIDE,), "mixed.example": (HERE, INSIDE)})
    hosts = [
        "127.0.0.2",
        "127.2",
        "0x7f.2",
        "2130706434",
        "[::1]",
        "[::ffff:7f00:2]",
        "inside.example",
        "mixed.example",
    ]
    async with inside(INSIDE, "::1") as trap:
        targets = [f"http://{host}:{trap.port}/" for host in hosts]
        targets += [f"//127.2:{trap.port}/", "http://169.254.169.254/latest/meta-data/", "http:\\\\10.0.0.1"]
        scripts = {f"/{n}": moved(target) for n, target in enumerate(targets)}
        async with ScriptedServer(scripts) as server:
            urls = [server.url(path, "public.example") for path in scripts]
            outcomes = await run(urls, tmp_path / "out", robots="obey", retries=1)
            assert server.asked == dict.fromkeys(scripts, 1)
    assert classes(outcomes) == ["address.blocked"] * len(targets)
    assert (trap.connections, set(dialled)) == (0, {HERE})


async def test_x5_redirects_to_other_schemes_are_not_followed(tmp_path: Path) -> None:
    """Nothing is read, run or dialled; the row is not asked again."""
    secret = tmp_path / "secret.txt"
    secret.write_text(HUSH)
    async with inside(HERE) as trap:
        at = f"{HERE}:{trap.port}"
        targets = [secret.as_uri(), "file:///etc/passwd", f"ftp://{at}/", f"gopher://{at}/_x", "data:text/plain,x"]
        targets += ["javascript:alert(1)", f"ws://{at}/", f"blob:http://{at}/", "about:blank"]
        scripts = {f"/{n}": moved(target) for n, target in enumerate(targets)}
        async with ScriptedServer(scripts) as server:
            outcomes = await run([server.url(path) for path in scripts], tmp_path / "out", retries=2)
            assert server.asked == dict.fromkeys(scripts, 1)
        assert trap.connections == 0
    assert classes(outcomes) == ["redirect.blocked"] * len(targets)
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and HUSH in path.read_text("latin-1")
    ]


BASIC = "Basic " + base64.b64encode(f"me:{HUSH}".encode()).decode()

KINDS: Mapping[str, tuple[str, str]] = {
    "header Authorization": ("authorization", f"Bearer {HUSH}"),
    "header Cookie": ("cookie", f"s={HUSH}"),
    "header X-Api-Key": ("x-api-key", HUSH),
    "auth": ("authorization", BASIC),
    "netrc": ("authorization", BASIC),
    "cookies": ("cookie", f"s={HUSH}"),
    "userinfo": ("authorization", BASIC),
}
"""How a user gives a secret → the header that has it, and what it says."""


def given(kind: str, origins: Sequence[str], folder: Path) -> dict[str, Any]:
    """The settings that say so, for as many hosts and origins as they can."""
    header, value = KINDS[kind]
    if kind.startswith("header"):
        return {"header": (f"{header.title()}: {value}",)}
    if kind == "auth":
        return {"auth": tuple(f"{origin}=me:{HUSH}" for origin in origins)}
    if kind == "netrc":
        return {"auth": ("netrc",)}
    (folder / "cookies.txt").write_text(f"{HERE}\tFALSE\t/\tFALSE\t0\ts\t{HUSH}\n")
    return {"cookies": str(folder / "cookies.txt")} if kind == "cookies" else {}


@pytest.mark.parametrize("kind", KINDS)
async def test_x6_secrets_go_to_their_own_origin_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another origin gets none, nor the own one after that (A, B, A), nor robots.txt; a retry has them again."""
    (tmp_path / "netrc").write_text(f"machine {HERE} login me password {HUSH}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    a_scripts: dict[str, Script | Turns] = {"/robots.txt": [reply("404 No")], "/back": GOOD, "/near": GOOD}
    b_scripts: dict[str, Script | Turns] = {"/robots.txt": [reply("404 No")]}
    async with ScriptedServer(a_scripts) as a, ScriptedServer(b_scripts) as b:
        a_scripts |= {"/here": moved("/near"), "/away": moved(b.url("/there"))}
        b_scripts["/there"] = Turns(([reply("503 Busy")], moved(a.url("/back"), 307)))
        user = f"me:{HUSH}@" if kind == "userinfo" else ""
        urls = [f"http://{user}{HERE}:{a.port}{path}" for path in ("/here", "/away")]
        said = given(kind, [a.url(""), b.url("")], tmp_path)
        outcomes = await run(urls, tmp_path / "out", robots="obey", retries=1, **said)
        header, value = KINDS[kind]
        sent = {*received(a, header)}
        assert sorted(received(b, header)) == [("/robots.txt", ""), ("/there", ""), ("/there", "")]
    at_home = {(path, value) for path in ("/here", "/near", "/away")}
    assert sent == at_home | {("/robots.txt", ""), ("/back", "")}
    assert classes(outcomes) == ["ok", "ok"]


def test_x6_duplicate_headers_are_refused(tmp_path: Path) -> None:
    """A header that is given twice, or is meant for a proxy, is sent to nobody; what it says is not repeated."""
    for headers in (("X-Key: hush", "x-key: hush"), ("Proxy-Authorization: hush",)):
        with pytest.raises(UsageError) as refused:
            asyncio.run(run(["http://a.example/"], tmp_path / "out", header=headers))
        assert "hush" not in str(refused.value)


async def test_x7_another_port_or_scheme_is_another_origin(tmp_path: Path) -> None:
    """The same host, by http or at another port, gets no secret; --downgrade refuse does not even go there."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HERE).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    scripts: dict[str, Script] = {}
    said: dict[str, Any] = {"header": (f"X-Api-Key: {HUSH}",), "ca_file": str(tmp_path / "ca.pem")}
    async with (
        ScriptedServer(scripts, tls=context) as home,
        ScriptedServer(GOOD, tls=context) as port,
        ScriptedServer(GOOD) as plain,
    ):
        scripts |= {"/port": moved(port.url("/p")), "/plain": moved(plain.url("/c"))}
        urls = [home.url(path) for path in scripts]
        assert classes(await run(urls, tmp_path / "out", **said)) == ["ok", "ok"]
        assert sorted(received(home, "x-api-key")) == [("/plain", HUSH), ("/port", HUSH)]
        assert [*received(port, "x-api-key"), *received(plain, "x-api-key")] == [("/p", ""), ("/c", "")]
        refusing = await run(urls, tmp_path / "refusing", downgrade="refuse", **said)
        assert classes(refusing) == ["ok", "redirect.blocked"]
        assert len(plain.requests) == 1


async def test_x8_redirects_are_followed_with_get_and_no_body(tmp_path: Path) -> None:
    """Whatever the status: nothing but GET is ever sent, so there is no body that could travel."""
    async with ScriptedServer(GOOD) as other:
        scripts = {f"/{status}": moved(other.url(f"/{status}"), status) for status in STATUSES}
        async with ScriptedServer(scripts) as server:
            outcomes = await run([server.url(path) for path in scripts], tmp_path / "out")
        heads = [*server.requests, *other.requests]
    assert classes(outcomes) == ["ok"] * len(STATUSES)
    assert len(heads) == 2 * len(STATUSES)
    assert all(head.startswith(b"GET /") and b"content-" not in head.lower() for head in heads)


WAYS_OUT = [
    "../../../../x", "..%2f..%2f..%2fx", "%2e%2e/%2e%2e/x", "..%5c..%5cx", "%2fetc%2fpasswd", "C:%5cx",
    "%5c%5csrv%5cx", "a%00b", ".bashrc", "-rf", "~", ".scraper/ledger.sqlite", "%0d%0a", "x" * 400,
    "%F0%9F%98%80" * 100,
]  # fmt: skip
"""Paths of URLs; decoded, what servers and lists call files."""

UNSAFE = re.compile(r'^[.\-$ ]|[. ]$|[\x00-\x1f\x7f<>:"\\|?*]')


async def test_x9_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    """From URL, Content-Disposition or column: each file is inside OUT, none hidden, cut off or another's."""
    said = [
        unquote(way).replace("\\", "\\\\").encode().replace(b"\r\n", b"").decode("latin-1") for way in WAYS_OUT
    ]
    scripts = {
        f"/{n}": [reply("200 OK", b"x", f'Content-Disposition: attachment; filename="{name}"')]
        for n, name in enumerate(said)
        if "\0" not in name  # which no header can say
    }
    async with ScriptedServer(GOOD) as server, ScriptedServer(scripts) as naming:
        urls = [server.url(f"/{way}") for way in WAYS_OUT] + [naming.url(path) for path in scripts]
        rows = [{"url": url, "c": unquote(way)} for url, way in zip(urls, itertools.cycle(WAYS_OUT), strict=False)]
        template = files.build(name="{path}/{column:c}/{filename}")
        outcomes = await run(rows, tmp_path / "out", template, save_additional_columns=("c",))
    assert classes(outcomes) == ["ok"] * len(rows)
    paths = [str(each.path) for each in outcomes]
    assert len({path.casefold() for path in paths}) == len(rows)
    for path in paths:
        assert (tmp_path / "out" / path).resolve().is_relative_to((tmp_path / "out").resolve())
        assert [part for part in path.split("/") if UNSAFE.search(part) or len(part.encode()) > 255] == []


ODD = {
    "CON": "_CON",
    "nul.txt": "_nul.txt",
    "COM1": "_COM1",
    "lpt\u00b9": "_lpt\u00b9",
    "a.": "a_",
    "a ": "a_",
    "a:b": "a_b",
    "a/b": "a_b",
    '<>"|?*': "______",
    "\u202egnp.exe": "_gnp.exe",
    "$Mft": "_Mft",
    "\x1b[2J": "_[2J",
    "A": "A",
    "a": "a",
    "e\u0301": "\u00e9",
}
"""What a list calls a thing → the folder it gets, on every system."""


async def test_x10_names_are_the_same_and_harmless_on_every_system(tmp_path: Path) -> None:
    """Devices, streams, ends that Windows drops, what turns text round: each run gives the same safe name."""
    async with ScriptedServer(GOOD) as server:
        rows = [{"url": server.url(f"/{n}"), "c": name} for n, name in enumerate(ODD)]
        for out in (tmp_path / "out", tmp_path / "again"):
            outcomes = await run(rows, out, files.build(name="{column:c}/{key}"), save_additional_columns=("c",))
            assert [str(each.path).partition("/")[0] for each in outcomes] == list(ODD.values())


async def test_x11_nothing_in_an_option_becomes_a_header(tmp_path: Path) -> None:
    """Line breaks in what the user says are refused before anything is asked; those of a row stay encoded."""
    evil = "x\r\nX-Evil: 1"
    (tmp_path / "cookies.txt").write_text(f"{HERE}\tFALSE\t/\tFALSE\t0\ta\tb\x0bX-Evil: 1\n")
    said: list[dict[str, Any]] = [
        {"user_agent": evil},
        {"contact": evil},
        {"header": (f"X-Key: {evil}",)},
        {"header": (f"{evil}: 1",)},
        {"auth": (f"http://{HERE}={evil}:p",)},
        {"cookies": str(tmp_path / "cookies.txt")},
    ]
    async with ScriptedServer(GOOD) as server:
        for each in said:
            with pytest.raises(UsageError):
                await run([server.url()], tmp_path / "refused", **each)
        assert (server.connections, (tmp_path / "refused").exists()) == (0, False)
        rows = [server.url("/", f"u%0d%0aX-Evil:1:p@{HERE}"), server.url("/?%0d%0aX-Evil:1")]
        assert classes(await run(rows, tmp_path / "out")) == ["ok", "ok"]
        assert [value for name in ("x-evil", "evil") for _, value in received(server, name) if value] == []


async def test_x12_cookies_for_others_are_not_kept(tmp_path: Path, name_server: Callable[..., None]) -> None:
    """For a public suffix or for somebody else they are refused, in heaps bounded; only a flood costs its row."""
    name_server({}, others=(HERE,))
    domains = ["co.uk", ".co.uk", "uk", ".com", "other.co.uk", HERE, "blogspot.com"]
    evil = [f"Set-Cookie: evil{n}=1; Domain={domain}" for n, domain in enumerate(domains)]
    scripts: dict[str, Script] = {
        "/evil": [reply("200 OK", b"x", *evil, "Set-Cookie: tab=a\tb", "Set-Cookie: good=1; Domain=shop.co.uk")],
        "/many": [reply("200 OK", b"x", *(f"Set-Cookie: n{n}=1" for n in range(250)))],
        "/more": [reply("200 OK", b"x", *(f"Set-Cookie: m{n}=1" for n in range(10_000)))],
        "/huge": [reply("200 OK", b"x", f"Set-Cookie: huge={'x' * 1_000_000}")],
        "/end": GOOD,
    }
    scripts |= {"/end?1": GOOD, "/end?2": GOOD}
    ways = ["/evil", "/end", "/end?1", "/many", "/more", "/huge", "/end?2"]
    async with ScriptedServer(scripts) as server:
        urls = [server.url(path, f"{'other' if path == '/end' else 'shop'}.co.uk") for path in ways]
        outcomes = await run(urls, tmp_path / "out", cookie_jar="per-host", concurrency=1, per_host=1)
    got = dict(received(server, "cookie"))
    assert classes(outcomes) == ["ok"] * 4 + ["protocol.header_too_large"] * 2 + ["ok"]
    assert (got["/evil"], got["/end"], got["/end?1"]) == ("", "", "good=1")
    assert len(got["/end?2"].split("; ")) == 50
    assert "n249=1" in got["/end?2"]


async def test_x13_cookies_are_not_shared(tmp_path: Path, name_server: Callable[..., None]) -> None:
    """None are kept unless asked for; then each host has its own, while the run lasts, and OUT holds none."""
    name_server({}, others=(HERE,))
    for jar, comes_back in (("none", ""), ("per-host", f"s={HUSH}")):
        async with ScriptedServer([reply("200 OK", b"x", f"Set-Cookie: s={HUSH}; Path=/")]) as server:
            at = [("a.example", "/1"), ("b.example", "/2"), ("a.example", "/3")]
            urls = [server.url(path, host) for host, path in at]
            for _ in range(2):
                await run(urls, tmp_path / jar, cookie_jar=jar, overwrite=True, concurrency=1)
            found = [(path, cookie) for path, cookie in received(server, "cookie")]
            assert found == [("/1", ""), ("/2", ""), ("/3", comes_back)] * 2
        assert [
            each for each in (tmp_path / jar).rglob("*") if each.is_file() and HUSH in each.read_text("latin-1")
        ] == []


async def test_x14_parameters_are_masked_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in a query reaches the server, through redirects too, and no line and no file."""
    monkeypatch.setattr(secrets, "_hidden", set())
    monkeypatch.setattr(secrets, "_parameters", None)
    scripts = {f"/a?x=1&Token={HUSH}": [reply("200 OK", b"hello")], "/b": moved(f"/c?%74oken={HUSH};y=2")}
    scripts[f"/c?%74oken={HUSH};y=2"] = [reply("404 Not Found", b"")]
    async with ScriptedServer(scripts) as server:
        urls = [server.url(f"/a?x=1&Token={HUSH}"), server.url("/b"), f"ftp://h/?token={HUSH}#sig={HUSH}"]
        watch = Watch(stream=sys.stderr, log_format="text", progress="plain")
        outcomes = await run(urls, tmp_path / "out", watch=watch, mask_params="token,sig")
        assert await run(urls, tmp_path / "out", watch=watch, mask_params="token,sig") == outcomes
    assert [each.class_ for each in outcomes] == ["ok", "http.404", "url.scheme"]
    assert outcomes[0].url.endswith("/a?x=1&Token=***")
    for command in (["results"], ["report"]):
        await asyncio.to_thread(main, [*command, str(tmp_path / "out")])
    said = capsys.readouterr()
    assert "Token=***" in said.out
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert HUSH not in said.out + said.err
    assert [data for data in written if HUSH.encode() in data] == []


async def test_x14_nothing_of_a_list_or_server_acts_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escapes of a URL, a status line or a Location are shown, not sent; passwords are in no line and no file."""
    evil = "\x1b]0;title\x07\x1b[2J\u202e"
    scripts = {"/reason": [f"HTTP/1.1 404 {evil}\r\nContent-Length: 0\r\n\r\n".encode()], "/to": moved("ab\u00e9")}
    scripts["/coding"] = [reply("200 OK", b"x", "Content-Encoding: x\x9b31m")]
    scripts["/header"] = [f"HTTP/1.1 200 OK\r\nX: {evil}\r\nContent-Length: 0\r\n\r\n".encode()]
    scripts["/scheme"] = moved("x-\u00ab\u0085evil:y")
    async with ScriptedServer(scripts) as server:
        user = f"{HUSH}-user:{HUSH}"
        urls = [server.url(path, f"{user}@{HERE}") for path in (*scripts, f"/{evil}")]
        urls += [f"http://{user}@{evil}/", f"{evil}://{user}@h/", f"{user}@h/{evil}", f"ftp://{user}@h/"]
        watch = Watch(stream=sys.stderr, log_format="text", progress="plain")
        outcomes = await run(urls, tmp_path / "out", watch=watch)
    assert "body.encoding" in classes(outcomes)
    assert [each.message for each in outcomes if not each.message.isprintable()] == []
    for command in (["results"], ["report"], ["results", "--state", "failed"]):
        await asyncio.to_thread(main, [*command, str(tmp_path / "out")])
    said = capsys.readouterr()
    log = (tmp_path / "out/.scraper/log.jsonl").read_text()
    assert said.out
    assert [line for line in (said.out + said.err + log).split("\n") if not line.isprintable()] == []
    assert HUSH not in said.out + said.err
    found = [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and HUSH.encode() in path.read_bytes()
    ]
    assert found == []


_PICTURE = io.BytesIO()
Image.new("RGB", (40, 30), "teal").save(_PICTURE, "JPEG")

COMMAND = """
import sys
from scraper.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""
"""As the installed command is: Python puts its folder on sys.path, and not the current one."""

MODULES = ("socket", "selectors", "multiprocessing", "json", "pickle", "sqlite3", "sitecustomize", "evil")
"""What a process of ours that looked into the current folder would find there."""


async def command(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command in ``folder``: its exit code, and what it said."""
    script = folder.parent / "bin" / "command.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(COMMAND)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(2 * WITHIN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return await process.wait(), said.decode()


async def test_x15_what_lies_in_the_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Modules, pickles and names of pipelines in OUT are nothing but data, from within that folder too."""
    out, ran = tmp_path / "out", tmp_path / "ran"
    evil = f"open({str(ran)!r}, 'a').write(__file__ + chr(10))\n"
    busy = Turns(([reply("503 Busy")], [reply("200 OK", _PICTURE.getvalue())]))
    async with ScriptedServer({"/": busy}) as server:
        (tmp_path / "list.txt").write_text(server.url())
        settings = f"--allow-net {HERE} --robots ignore --retries 0 --workers 1 --progress none".split()
        code, said = await command(tmp_path, "images", "list.txt", "-o", "out", *settings)
        assert (code, server.asked) == (1, {"/": 1}), said
        for folder in (out, out / ".scraper"):
            for name in MODULES:
                (folder / f"{name}.py").write_text(evil)
            (folder / "scraper.toml").write_text("import evil")
            (folder / "state.pickle").write_bytes(f"cbuiltins\nexec\n(V{evil}\ntR.".encode())
        code, said = await command(out, "resume", ".", "--retry-failed")
        assert (code, server.asked) == (0, {"/": 2}), said
    monkeypatch.chdir(out)
    for pipeline in ("evil", "evil:build", "os:system"):
        with closing(sqlite3.connect(".scraper/ledger.sqlite")) as database, database:
            (text,) = database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
            changed = json.dumps(json.loads(text) | {"pipeline": pipeline})
            database.execute("UPDATE meta SET value = ? WHERE key = 'run'", (changed,))
        assert await asyncio.to_thread(main, ["resume", "."]) == 2
        assert f"There is no pipeline {pipeline!r}" in capsys.readouterr().err
    assert not ran.exists()


async def test_x16_members_of_archives_have_safe_names(tmp_path: Path) -> None:
    """Whatever URLs, headers and captions say: keys are row numbers, and a sample's members stand together."""
    async with ScriptedServer(
        [reply("200 OK", b"x", 'Content-Disposition: x; filename="../../evil.sh"')]
    ) as server:
        rows = [{"url": server.url(f"/{way}?{n}"), "caption": unquote(way)} for n, way in enumerate(WAYS_OUT)]
        pipeline = files.build(output_format="webdataset", number_sample_per_shard=4)
        outcomes = await run(rows, tmp_path / "out", pipeline, caption_col="caption")
    assert classes(outcomes) == ["ok"] * len(rows)
    keys: list[str] = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
                    assert tarfile.data_filter(member, str(tmp_path)).name == member.name
                assert re.fullmatch(r"[0-9]{9}(\.[a-z0-9]{1,8}){1,2}", member.name)
                assert member.isreg()
                keys.append(member.name.partition(".")[0])
    assert len(list(itertools.groupby(keys))) == len(rows)
    assert set(keys) == {f"{row:09d}" for row in range(len(rows))}


async def test_x17_proxies_of_the_environment_are_used_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its variables are set nothing goes there; with --proxy env it does, but for what no_proxy names."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with ScriptedServer(GOOD) as server, ScriptedServer(GOOD) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        assert classes(await run([server.url()], tmp_path / "out")) == ["ok"]
        assert (proxy.connections, server.connections) == (0, 1)
        assert classes(await run([server.url()], tmp_path / "asked", proxy="env")) == ["ok"]
        assert (proxy.asked, server.connections) == ({server.url(): 1}, 1)
        monkeypatch.setenv("no_proxy", HERE)
        assert classes(await run([server.url()], tmp_path / "excepted", proxy="env")) == ["ok"]
        assert (len(proxy.requests), len(server.requests)) == (1, 2)
