"""Row P5 of docs/faults.md, and X-Robots-Tag, through the whole product: what is asked for, and what is not.

Each site is a server of its own, since robots.txt holds for an origin; one run asks all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import scraper.robots
from pipelines import files
from scraper import RunConfig, arun
from scraper.config import Again, FetchConfig, HealthConfig, HostLimits, PolitenessConfig, PoolConfig, RetryConfig
from scraper.ledger import LedgerReader
from scraper.records import Outcome
from scraper.testing.server import HANG, LOOPBACK, RESET, Script, ScriptedServer, Turns, reply

pytestmark = pytest.mark.slow  # all of them look at whole runs

RULES = b"User-agent: *\nDisallow: /closed\n"
FILLER = b"Disallow: /filler/with/some/length\n"
PAGES = ("/open", "/closed")
PAGE: dict[str, Script] = {path: [reply("200 OK", path.encode())] for path in PAGES}
WITHIN_S = 40.0

OPEN, KEPT_OUT, REFUSED = ("ok", "ok"), ("ok", "robots.disallowed"), ("robots.unreachable",) * 2
"""How the two pages of a site end, by what its robots.txt comes to."""


def config(retries: int = 0, **changes: Any) -> RunConfig:
    """Limits that end a test soon; no pauses for a network, and hosts that fail are not given up."""
    limits = {"timeout_s": 20.0, "connect_timeout_s": 10.0, "header_timeout_s": 1.0, "stall_timeout_s": 1.0}
    return RunConfig(
        FetchConfig("test/1", allow_net=(LOOPBACK,), **limits),
        politeness=PolitenessConfig(**{"host_failures": 1_000} | changes),
        retry=RetryConfig(retries=retries, wait_s=0.0),
        pool=PoolConfig(workers=1),
        health=HealthConfig(wait_s=0),
    )


async def outcomes_of(urls: Sequence[str], out: Path, run: RunConfig) -> list[Outcome]:
    """Run the whole product; every row ends once."""
    async with asyncio.timeout(WITHIN_S):
        await arun(files.build(), urls, out=out, config=run)
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        outcomes = [recorded.outcome for recorded in reader.rows()]
    assert [each.row for each in outcomes] == list(range(len(urls)))
    return outcomes


def moved(hops: int) -> dict[str, Script]:
    """A robots.txt that so many redirects lead to."""
    chain = ["/robots.txt", *(f"/{n}" for n in range(1, hops)), "/rules"]
    scripts: dict[str, Script] = {
        here: [reply("301 Moved Permanently", b"", f"Location: {there}")]
        for here, there in itertools.pairwise(chain)
    }
    return scripts | {"/rules": [reply("200 OK", RULES)]}


@dataclass(frozen=True, slots=True)
class Site:
    """What a site serves beside its two pages, and how these end."""

    scripts: dict[str, Script]
    ends: tuple[str, ...]


def robots(script: Script, ends: tuple[str, ...]) -> Site:
    """A site with this robots.txt."""
    return Site({"/robots.txt": script}, ends)


SITES = {
    "none": Site({}, OPEN),
    "404": robots([reply("404 Not Found")], OPEN),
    "401": robots([reply("401 Unauthorized")], OPEN),
    "403": robots([reply("403 Forbidden", RULES)], OPEN),
    "410": robots([reply("410 Gone")], OPEN),
    "429": robots([reply("429 Too Many Requests")], REFUSED),
    "500": robots([reply("500 Internal Server Error")], REFUSED),
    "503": robots([reply("503 Service Unavailable")], REFUSED),
    "hang": robots([HANG], REFUSED),
    "reset": robots([RESET], REFUSED),
    "plain": robots([reply("200 OK", RULES)], KEPT_OUT),
    "us": robots([reply("200 OK", b"User-agent: test\nDisallow: /closed\n")], KEPT_OUT),
    "others": robots([reply("200 OK", b"User-agent: test2\nDisallow: /\n")], OPEN),
    "600 kB, within": robots([reply("200 OK", RULES + FILLER * 18_000)], KEPT_OUT),
    "600 kB, beyond": robots([reply("200 OK", b"User-agent: *\n" + FILLER * 18_000 + RULES)], OPEN),
    "5 redirects": Site(moved(5), KEPT_OUT),
    "6 redirects": Site(moved(6), OPEN),
    "redirect to file:": robots([reply("302 Found", b"", "Location: file:///etc/passwd")], REFUSED),
    "HTML": robots([reply("200 OK", b"<html>\nDisallow: /\n</html>")], OPEN),
    "mark": robots([reply("200 OK", b"\xef\xbb\xbf" + RULES)], KEPT_OUT),
    "CRLF": robots([reply("200 OK", RULES.replace(b"\n", b"\r\n"))], KEPT_OUT),
    "CR": robots([reply("200 OK", RULES.replace(b"\n", b"\r"))], KEPT_OUT),
    "empty": robots([reply("200 OK")], OPEN),
    "204": robots([b"HTTP/1.1 204 No Content\r\n\r\n"], OPEN),
    "opts out itself": robots([reply("200 OK", RULES, "X-Robots-Tag: noindex")], KEPT_OUT),
}


async def test_p5_what_robots_txt_says_is_heeded(tmp_path: Path) -> None:
    """P5: what robots.txt forbids is not asked for; where it cannot be read nothing is; else all is, after it."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedServer(site.scripts | PAGE)) for site in SITES.values()]
        urls = [server.url(path) for server in servers for path in PAGES]
        outcomes = await outcomes_of(urls, tmp_path / "out", config())
    twos = zip(outcomes[::2], outcomes[1::2], strict=True)
    for (name, site), server, two in zip(SITES.items(), servers, twos, strict=True):
        assert tuple(each.class_ for each in two) == site.ends, (name, two)
        for path, end in zip(PAGES, site.ends, strict=True):
            assert server.asked[path] == (end == "ok"), name
        assert server.asked["/robots.txt"] + server.robots == 1, name
    for each in outcomes:
        assert bool(each.message) == (each.class_ != "ok")


async def test_p5_a_host_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A row whose host cannot be reached ends by what is the matter with the host, not with its robots.txt."""
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port = plug.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/a", "http://10.0.0.1/a", "ftp://127.0.0.1/a"]
    outcomes = await outcomes_of(urls, tmp_path / "out", config())
    assert [each.class_ for each in outcomes] == ["connect.refused", "address.blocked", "url.scheme"]


async def test_p5_a_fault_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A robots.txt that cannot be read at first is asked for anew before the rows are, and then heeded."""
    monkeypatch.setattr(scraper.robots, "FIRST_WAIT_S", 0.2)
    turns = Turns(([reply("503 Service Unavailable")], [RESET], [reply("200 OK", RULES)]))
    async with ScriptedServer(PAGE | {"/robots.txt": turns}) as server:  # type: ignore[operator]
        outcomes = await outcomes_of([server.url(path) for path in PAGES], tmp_path / "out", config(retries=2))
    assert [each.class_ for each in outcomes] == list(KEPT_OUT)
    assert (server.asked["/robots.txt"], server.asked["/open"], server.asked["/closed"]) == (3, 1, 0)


async def test_p5_it_is_asked_for_once(tmp_path: Path) -> None:
    """A hundred rows of a site ask for its robots.txt once, before any of them, and the next run does not."""
    scripts: dict[str, Script] = {f"/{n}": [reply("404 Not Found")] for n in range(100)}
    scripts["/robots.txt"] = [reply("200 OK", RULES)]
    async with ScriptedServer(scripts) as server:
        urls = [server.url(f"/{n}") for n in range(100)]
        first = await outcomes_of(urls, tmp_path / "out", config())
        assert server.requests[0].startswith(b"GET /robots.txt ")
        again = await outcomes_of(urls, tmp_path / "out", replace(config(), again=Again(failed=())))
    assert {each.class_ for each in (*first, *again)} == {"http.404"}
    assert (server.asked["/robots.txt"], server.asked["/7"]) == (1, 2)


async def test_p5_ignored_it_is_not_asked_for(tmp_path: Path) -> None:
    """``--robots ignore`` asks for no robots.txt."""
    async with ScriptedServer(PAGE | {"/robots.txt": [reply("200 OK", RULES)]}) as server:
        urls = [server.url(path) for path in PAGES]
        outcomes = await outcomes_of(urls, tmp_path / "out", config(robots="ignore"))
    assert [each.class_ for each in outcomes] == ["ok", "ok"]
    assert server.asked["/robots.txt"] == 0


async def test_p5_a_redirect_is_heeded_where_it_leads(tmp_path: Path) -> None:
    """Each hop of a row is allowed by the site it goes to, or not made."""
    async with (
        ScriptedServer(PAGE | {"/robots.txt": [reply("200 OK", RULES)]}) as other,
        ScriptedServer(
            {path: [reply("302 Found", b"", f"Location: {other.url(path)}")] for path in PAGES}
        ) as server,
    ):
        outcomes = await outcomes_of([server.url(path) for path in PAGES], tmp_path / "out", config())
    assert [each.class_ for each in outcomes] == list(KEPT_OUT)
    assert (other.asked["/robots.txt"], other.asked["/open"], other.asked["/closed"]) == (1, 1, 0)
    assert server.robots == 1


async def test_p5_crawl_delay_is_kept(tmp_path: Path) -> None:
    """Between any two requests lies what the site asks for, from the first after its robots.txt on."""
    delay_s = 0.3
    scripts: dict[str, Script] = {f"/{n}": [reply("200 OK", b"x")] for n in range(4)}
    scripts["/robots.txt"] = [reply("200 OK", f"User-agent: *\nCrawl-delay: {delay_s}\n".encode())]
    async with ScriptedServer(scripts) as server:
        outcomes = await outcomes_of([server.url(f"/{n}") for n in range(4)], tmp_path / "out", config())
    assert {each.class_ for each in outcomes} == {"ok"}
    gaps = [later - earlier for earlier, later in itertools.pairwise(server.asked_at[1:])]
    assert len(gaps) == 3
    assert min(gaps) > delay_s - 0.1


async def test_p5_robots_takes_a_turn(tmp_path: Path) -> None:
    """The user's delay lies between robots.txt and the first row as well."""
    scripts = PAGE | {"/robots.txt": [reply("200 OK", b"")]}
    run = config(limits=HostLimits(delay_s=0.4))
    async with ScriptedServer(scripts) as server:
        await outcomes_of([server.url("/open")], tmp_path / "out", run)
    robots_at, row_at = server.asked_at
    assert row_at - robots_at > 0.3


async def test_opting_out(tmp_path: Path) -> None:
    """A response that opts out is not kept; the reason is in the row, and the row is never asked again."""
    tags = {"/all": "noai", "/us": "test: noindex", "/none": "None", "/others": "other: noai", "/fine": "nofollow"}
    scripts: dict[str, Script] = {
        path: [reply("200 OK", b"x", f"X-Robots-Tag: {tag}")] for path, tag in tags.items()
    }
    async with ScriptedServer(scripts) as server:
        urls = [server.url(path) for path in tags]
        outcomes = await outcomes_of(urls, tmp_path / "out", config(retries=2))
        await outcomes_of(urls, tmp_path / "out", replace(config(), again=Again(failed=())))
    assert [each.class_ for each in outcomes] == ["optout.header"] * 3 + ["ok"] * 2
    assert outcomes[0].message == "The response opts out: X-Robots-Tag says noai."
    assert server.asked == dict.fromkeys(tags, 1)
    assert not any(each.path for each in outcomes[:3])
