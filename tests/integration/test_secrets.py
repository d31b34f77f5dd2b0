"""Secrets go to the origin they were given for: what each server received is what counts.

The servers are two names and several ports of this machine, so that scheme, host and port change one at a time.
"""

from __future__ import annotations

import base64
import io
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme

from pipelines import files
from scraper import Watch, arun
from scraper.answers import Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig, SecretsConfig, TlsConfig
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.resolver import Answer, Resolver
from scraper.testing.server import LOOPBACK, Script, ScriptedServer, Turns, reply

A, B = "a.example", "b.example"
HUSH = "hush-hush"
ENCODED = base64.b64encode(f"me:{HUSH}".encode())
YOURS = base64.b64encode(f"you:{HUSH}-row".encode())
NAMES = (b"-header", b"-cookie", ENCODED, YOURS)
STATUSES = (301, 302, 303, 307, 308)

# A hop: scheme, host, which of the servers with that scheme. The first hop is the row's own URL.
Place = tuple[str, str, int]
WAYS: dict[str, tuple[Place, ...]] = {
    "same origin": (("https", A, 0), ("https", A, 0)),
    "other port": (("https", A, 0), ("https", A, 1)),
    "other host": (("https", A, 0), ("https", B, 0)),
    "https to http": (("https", A, 0), ("http", A, 0)),
    "http to https": (("http", A, 0), ("https", A, 0)),
    "and back": (("https", A, 0), ("https", B, 1), ("https", A, 0)),
    "port and back": (("https", A, 0), ("https", A, 1), ("https", A, 0)),
    "down and up": (("https", A, 0), ("http", A, 0), ("https", A, 0)),
}


@dataclass(frozen=True)
class Kind:
    """A secret, as a user gives it, and what of it a server would see.

    Attributes:
        headers: ``--header``.
        auth: ``--auth``, for every origin that there is.
        netrc: the same by netrc, for every host.
        cookies: ``--cookies``, for every host.
        cookie_jar: ``--cookie-jar``; every response sets a cookie.
        userinfo: in the row's URL.
        seen: bytes that tell of it.
        times: how often they stand in a request at home.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    auth: bool = False
    netrc: bool = False
    cookies: bool = False
    cookie_jar: Literal["none", "per-host"] = "none"
    userinfo: str = ""
    seen: bytes = HUSH.encode()
    times: int = 1


KINDS = {
    "header Authorization": Kind({"authorization": f"Bearer {HUSH}"}),
    "header Cookie": Kind({"cookie": f"s={HUSH}"}),
    "header X-Api-Key": Kind({"x-api-key": HUSH}),
    "odd spellings": Kind(
        {"aUTHORIZATION": HUSH, "COOKIE": HUSH, "PROXY-Thing": HUSH, "X-API-key": HUSH}, times=4
    ),
    "cookies": Kind(cookies=True),
    "cookies and a jar": Kind(cookies=True, cookie_jar="per-host"),
    "auth": Kind(auth=True, seen=ENCODED),
    "netrc": Kind(netrc=True, seen=ENCODED),
    "userinfo": Kind(userinfo=f"me:{HUSH}@", seen=ENCODED),
}


class Servers:
    """Two servers for each scheme; any host is at each of them."""

    def __init__(self, authority: trustme.CA) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(A, B).configure_cert(context)
        self._scripts: dict[tuple[str, int], dict[str, Script]] = {}
        self.servers: dict[tuple[str, int], ScriptedServer] = {}
        for scheme, tls in (("http", None), ("https", context)):
            for number in (0, 1):
                scripts: dict[str, Script] = {}
                self._scripts[scheme, number] = scripts
                self.servers[scheme, number] = ScriptedServer(scripts, tls=tls)

    def url(self, place: Place, path: str, userinfo: str = "") -> str:
        """The URL of a path there."""
        scheme, host, number = place
        return f"{scheme}://{userinfo}{host}:{self.servers[scheme, number].port}{path}"

    def lead(self, status: int, way: tuple[Place, ...]) -> None:
        """Each place of a way redirects to the next, and the last answers."""
        for step, (scheme, _, number) in enumerate(way):
            last = step == len(way) - 1
            to = () if last else (f"Location: {self.url(way[step + 1], f'/{status}/{step + 1}')}",)
            status_line = "200 OK" if last else f"{status} Moved"
            script = reply(status_line, b"x" if last else b"", *to, "Set-Cookie: own=1; Path=/")
            self._scripts[scheme, number][f"/{status}/{step}"] = (script,)

    def received(self) -> dict[str, bytes]:
        """What came, by path; each path is asked for once."""
        heads = [head for server in self.servers.values() for head in server.requests]
        found = {head.split(b" ")[1].decode(): head for head in heads}
        assert len(found) == len(heads)
        return found


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that only this test believes."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
async def servers(authority: trustme.CA) -> AsyncIterator[Servers]:
    """All of them, listening."""
    found = Servers(authority)
    async with AsyncExitStack() as stack:
        for server in found.servers.values():
            await stack.enter_async_context(server)
        yield found


async def everybody_is_here(host: str, family: int) -> Answer:
    """Names that lead to this machine."""
    return Answer(("127.0.0.1",), 300.0)


def settings(kind: Kind, servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the user says of secrets, as parts of a FetchConfig."""
    origins = [
        servers.url((scheme, host, n), "") for scheme in ("http", "https") for host in (A, B) for n in (0, 1)
    ]
    cookies, netrc = folder / "cookies.txt", folder / "netrc"
    cookies.write_text("".join(f"{host}\tTRUE\t/\tFALSE\t0\ts\t{HUSH}\n" for host in (A, B)))
    netrc.write_text("".join(f"machine {host} login me password {HUSH}\n" for host in (A, B)))
    monkeypatch.setenv("NETRC", str(netrc))
    secrets = SecretsConfig(
        auth=dict.fromkeys(origins, ("me", HUSH)) if kind.auth else {},
        netrc=kind.netrc,
        cookies=str(cookies) if kind.cookies else "",
        cookie_jar=kind.cookie_jar,
    )
    return {"headers": kind.headers, "secrets": secrets}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", KINDS)
async def test_secrets_stay_at_home(
    name: str, way: str, servers: Servers, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever redirects say, each secret reaches the row's own origin, and nobody after the first step away."""
    kind, places = KINDS[name], WAYS[way]
    said = settings(kind, servers, tmp_path, monkeypatch)
    config = FetchConfig("test", allow_net=(LOOPBACK,), tls=TlsConfig(ca_file=ca_file), **said)
    async with Fetcher(config, Arena(100_000), resolver=Resolver(everybody_is_here)) as fetcher:
        for status in STATUSES:
            servers.lead(status, places)
            request = Request(status, servers.url(places[0], f"/{status}/0", kind.userinfo))
            while isinstance(result := await fetcher.fetch(request), Redirected):
                request = result.request
            assert isinstance(result, Fetched), result
            result.slot.release()
    received = servers.received()
    assert len(received) == len(STATUSES) * len(places)
    arrives = kind.times if not kind.netrc or places[0][0] == "https" else 0  # netrc is not sent in clear
    at_home = 1 + (set(places) == {places[0]})
    for path, head in received.items():
        step = int(path.rpartition("/")[2])
        assert head.count(kind.seen) == (arrives if step < at_home else 0), head
        assert HUSH.encode() not in head or kind.seen == HUSH.encode()


def found_in(folder: Path, needles: tuple[bytes, ...]) -> list[str]:
    """Files below a folder that hold one of these, or are named so."""
    files_there = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / ".scraper/ledger.sqlite" in files_there
    return [
        f"{path}: {needle!r}"
        for path in files_there
        for needle in needles
        if needle in path.read_bytes() or needle in str(path).encode()
    ]


@pytest.mark.slow
async def test_a_whole_run_tells_nobody(tmp_path: Path) -> None:
    """The same of a run: what goes where, a retry begins at home, and nothing of it is left in OUT or the log."""
    there: dict[str, Script | Turns] = {}
    elsewhere: dict[str, Script | Turns] = {}
    async with ScriptedServer(there) as home, ScriptedServer(elsewhere) as away:
        there["/stay"] = (reply("301 Moved", b"", f"Location: {home.url('/stayed')}"),)
        there["/leave"] = (reply("302 Found", b"", f"Location: {away.url('/left')}"),)
        elsewhere["/left"] = (reply("307 Temporary", b"", f"Location: {home.url('/back')}"),)
        there["/again"] = (reply("302 Found", b"", f"Location: {away.url('/broken')}"),)
        elsewhere["/broken"] = (reply("503 Service Unavailable"),)
        there["/stayed"] = there["/back"] = (reply("200 OK", b"x", f"Set-Cookie: jar={HUSH}-jar"),)
        cookies = tmp_path / "cookies.json"
        cookies.write_text(
            json.dumps([{"name": "c", "value": f"{HUSH}-cookie", "domain": "127.0.0.1", "path": "/"}])
        )
        stream = io.StringIO()
        report = await arun(
            files.build(),
            [
                *(home.url(path) for path in ("/stay", "/leave", "/again", "/missing")),
                f"http://you:{HUSH}-row@127.0.0.1:{home.port}/userinfo",
                f"http://y:z:{HUSH}-odd@127.0.0.1:{home.port}:x/",
            ],
            out=tmp_path / "out",
            header=(f"X-Api-Key: {HUSH}-header",),
            auth=(f"{home.url('')}=me:{HUSH}",),
            cookies=str(cookies),
            retries=1,
            retry_wait=0,
            allow_net=LOOPBACK,
            robots="ignore",
            watch=Watch(stream=stream, log_format="text", progress="plain"),
        )
    assert (report.ok, report.failed) == (2, 4)
    sent = {name: [head.split(b" ")[1] for head in home.requests if name in head] for name in NAMES}
    at_home = [b"/again", b"/again", b"/leave", b"/missing", b"/stay", b"/stayed"]
    assert {name: sorted(paths) for name, paths in sent.items()} == {
        b"-header": sorted([*at_home, b"/userinfo"]),
        b"-cookie": sorted([*at_home, b"/userinfo"]),
        ENCODED: at_home,
        YOURS: [b"/userinfo"],
    }
    assert away.requests
    assert not [head for head in away.requests if any(name in head for name in (*NAMES, HUSH.encode()))]
    assert HUSH not in stream.getvalue()
    assert found_in(tmp_path / "out", (HUSH.encode(), ENCODED, YOURS)) == []
