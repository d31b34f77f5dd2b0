"""Cookies and credentials on the wire: what comes back from a jar, and that nothing of a user's adds a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from pipelines import files
from scraper import UsageError, arun
from scraper.answers import Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.config import FetchConfig, SecretsConfig
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.resolver import Answer, Resolver
from scraper.testing.server import LOOPBACK, Script, ScriptedServer, reply

OK = (reply("200 OK", b"x"),)


async def everybody_is_here(host: str, family: int) -> Answer:
    """Names that lead to this machine."""
    return Answer(("127.0.0.1",), 300.0)


def fetcher_with(cookies: str = "", cookie_jar: Literal["none", "per-host"] = "none", **more: Any) -> Fetcher:
    """A client with these cookies, to which every name is this machine."""
    secrets = SecretsConfig(cookies=cookies, cookie_jar=cookie_jar, auth=more.pop("auth", {}))
    config = FetchConfig("test", allow_net=(LOOPBACK,), secrets=secrets, **more)
    return Fetcher(config, Arena(100_000), resolver=Resolver(everybody_is_here))


async def fetch(fetcher: Fetcher, url: str) -> Fetched | Failed:
    """All hops of an attempt."""
    request = Request(0, url)
    while isinstance(result := await fetcher.fetch(request), Redirected):
        request = result.request
    assert isinstance(result, Fetched | Failed), result
    if isinstance(result, Fetched):
        result.slot.release()
    return result


def sent(server: ScriptedServer) -> list[str]:
    """The Cookie header of each request, empty for none."""
    found = [re.findall(rb"^Cookie: (.*)\r$", head, re.MULTILINE | re.IGNORECASE) for head in server.requests]
    assert all(len(each) <= 1 for each in found)
    return [each[0].decode() if each else "" for each in found]


async def test_a_session_comes_back() -> None:
    """What a response sets, a redirect too, goes with the next request to that host, and to no other."""
    scripts: dict[str, Script] = {"/in": OK, "/out": OK}
    async with ScriptedServer(scripts) as server, fetcher_with(cookie_jar="per-host") as fetcher:
        one, two = (f"http://{host}:{server.port}" for host in ("one.example", "two.example"))
        scripts["/login"] = (reply("302 Found", b"", f"Location: {one}/in", "Set-Cookie: id=1; Path=/"),)
        scripts["/away"] = (reply("302 Found", b"", f"Location: {two}/out", "Set-Cookie: id=3"),)
        for url in (f"{one}/login", f"{two}/out", f"{one}/away", f"{two}/login"):
            await fetch(fetcher, url)
    assert [head.split(b" ")[1] for head in server.requests] == [
        *(b"/login", b"/in"),  # of one.example
        b"/out",
        *(b"/away", b"/out"),  # from one to two
        *(b"/login", b"/in"),  # from two to one
    ]
    assert sent(server) == ["", "id=1", "", "id=1", "", "", "id=3"]


async def test_who_else_is_led_there() -> None:
    """A host's own session is its own whoever leads there; the user's cookie for it stays away."""
    scripts: dict[str, Script] = {"/set": (reply("200 OK", b"x", "Set-Cookie: own=1; Path=/"),), "/end": OK}
    async with ScriptedServer(scripts) as server, fetcher_with(cookie_jar="per-host") as fetcher:
        two = f"http://two.example:{server.port}"
        scripts["/lead"] = (reply("302 Found", b"", f"Location: {two}/end"),)
        await fetch(fetcher, f"{two}/set")
        await fetch(fetcher, f"http://one.example:{server.port}/lead")
    assert sent(server) == ["", "", "own=1"]


async def test_neighbours_share_nothing() -> None:
    """A cookie for a public suffix, for somebody else or for a whole network of addresses is not kept."""
    hosts = [
        "one.blogspot.com",
        "two.blogspot.com",
        "a.co.uk",
        "b.co.uk",
        "a.com",
        "b.com",
        "127.0.0.1",
        "127.0.0.2",
    ]
    domains = ["blogspot.com", "co.uk", ".com", "com", "b.com", "two.blogspot.com", "127.0.0.2", "0.0.1", "1"]
    script = [reply("200 OK", b"x", *(f"Set-Cookie: evil{n}=1; Domain={each}" for n, each in enumerate(domains)))]
    async with ScriptedServer(script) as server, fetcher_with(cookie_jar="per-host") as fetcher:
        for _ in range(2):
            for host in hosts:
                if host != "127.0.0.2":  # where no one listens
                    assert isinstance(await fetch(fetcher, f"http://{host}:{server.port}/"), Fetched)
    # b.com and two.blogspot.com may speak for themselves.
    assert [cookies for cookies in sent(server) if cookies] == ["evil5=1", "evil4=1"]


async def test_what_servers_set_that_is_none() -> None:
    """Junk, bytes that are no text and thousands of cookies do no harm to the row, nor to what is asked next."""
    junk = [
        "",
        ";",
        "=",
        "a",
        "a=\tb",
        "a=1\x01",
        "a=caf\xe9",
        "a=1; Path=/; Expires=Thu, 99 Foo 9999",
        "=;=;=",
        "ok=1",
    ]
    scripts: dict[str, Script] = {"/junk": (reply("200 OK", b"x", *(f"Set-Cookie: {each}" for each in junk)),)}
    for n in range(8):
        many = (f"Set-Cookie: n{n}-{m}=1; Path=/" for m in range(250))
        scripts[f"/many{n}"] = (reply("200 OK", b"x", *many),)
    scripts["/huge"] = (reply("200 OK", b"x", "Set-Cookie: huge=" + "x" * 30_000),)
    async with ScriptedServer(scripts) as server, fetcher_with(cookie_jar="per-host") as fetcher:
        at = f"http://a.example:{server.port}"
        for path in ("junk", "huge", *(f"many{n}" for n in range(8)), "many7"):
            assert isinstance(await fetch(fetcher, f"{at}/{path}"), Fetched)
    assert sent(server)[1:3] == ["a=1; ok=1", "a=1; ok=1"]
    assert sent(server)[-1].split("; ") == [f"n7-{m}=1" for m in range(200, 250)]


@pytest.mark.parametrize(
    ("userinfo", "auth", "cookie"),
    [
        ("", "", 'a"b, c\\d=e\u00e9 '),
        ("u%0d%0aX-Evil:%201:p%0a%00", "", ""),
        ("%0d%0a%0d%0aGET%20%2fevil%20HTTP%2f1.1%0d%0a:p", "", ""),
        ("", "p\r\nX-Evil: 1\0", ""),
        ("", "p\u2028X-Evil: 1\x85", "x\u2028X-Evil: 1\x85"),
    ],
)
async def test_nothing_adds_a_line(userinfo: str, auth: str, cookie: str, tmp_path: Path) -> None:
    """Whatever a list, a file or the user puts into a secret, it stays within its own line of the request."""
    path = ""
    if cookie:
        (tmp_path / "c").write_bytes(f"127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t{cookie}\n".encode())
        path = str(tmp_path / "c")
    async with ScriptedServer(OK) as server:
        given = {server.url(""): ("u", auth)} if auth else {}
        async with fetcher_with(path, auth=given) as fetcher:
            await fetch(fetcher, f"http://{userinfo}@127.0.0.1:{server.port}/")
    assert len(server.requests) == 1
    names = [line.partition(b":")[0] for line in server.requests[0].split(b"\r\n")[1:-2]]
    more = [b"Authorization"] * bool(userinfo or auth) + [b"Cookie"] * bool(cookie)
    assert sorted(names) == sorted([b"Accept", b"Accept-Encoding", b"Host", b"User-Agent", *more])
    assert server.requests[0].count(b"\n") == len(names) + 2


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"cookies": "nowhere.txt"}, "--cookies nowhere.txt cannot be read"),
        ({"header": ("Cookie: a=1",), "cookie_jar": "per-host"}, "leave out --cookies and --cookie-jar"),
        ({"header": ("Proxy-Authorization: Basic x",)}, "--proxy"),
    ],
)
@pytest.mark.slow
async def test_what_cannot_be_sent_is_said_first(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    """A run whose secrets cannot be used asks for nothing, and says why in one sentence."""
    async with ScriptedServer(OK) as server:
        with pytest.raises(UsageError) as refused:
            await arun(files.build(), [server.url()], out=tmp_path / "out", allow_net=LOOPBACK, **settings)
    assert why in str(refused.value)
    assert server.connections == 0
