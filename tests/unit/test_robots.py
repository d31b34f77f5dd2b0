"""robots.txt: what it says to us (RFC 9309), and in bounded time; then what is kept of it, how long and where."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protego import Protego

import scraper.robots
from scraper.answers import Answer, Failed, Fetched, Redirected
from scraper.arena import Arena
from scraper.errors import FetchFailed, OutOfResources, SinkFailed
from scraper.policies.robots import ANYTHING, MAX_BYTES, MAX_DELAY_S, after_status, beginning, parse, token_of
from scraper.policies.urls import check
from scraper.records import NO_TIMINGS, Request, Response
from scraper.robots import KEPT_S, LAST_WAIT_S, MARGIN_S, Robots, Verdict

EVERYBODY = "User-agent: *\n"


def allows(text: str | bytes, path: str, token: str = "scraper") -> bool:
    """Whether a robots.txt lets ``token`` ask for a path."""
    body = text if isinstance(text, bytes) else text.encode()
    return parse(body, token).allows(str(check(f"https://example.com{path}")))


# What a robots.txt says.


@pytest.mark.parametrize(
    ("text", "forbids_a", "why"),
    [
        ("User-agent: scraper\nDisallow: /a", True, "our name"),
        ("user-agent: SCRAPER\ndisallow: /a", True, "in any case"),
        ("User-agent: scraper/1.2\nDisallow: /a", True, "with a version"),
        ("User-agent: scraper (me)\nDisallow: /a", True, "with a remark"),
        ("User-agent: scraper*\nDisallow: /a", True, "with a star"),
        ("User-agent: *\nDisallow: /a", True, "everybody"),
        ("User-agent: scraperbot\nDisallow: /a", False, "a longer name"),
        ("User-agent: scrap\nDisallow: /a", False, "the beginning of ours"),
        ("User-agent: s\nDisallow: /a", False, "a letter of ours"),
        ("User-agent: my-scraper\nDisallow: /a", False, "the end of another"),
        ("User-agent: scraper2\nDisallow: /a", False, "ours with a digit"),
        ("User-agent: \nDisallow: /a", False, "no name"),
        ("User-agent\nDisallow: /a", False, "no name, and no colon"),
        ("Disallow: /a", False, "said to nobody"),
        ("User-agent: scraper\nDisallow:\n\nUser-agent: *\nDisallow: /a", False, "our group is empty"),
        ("User-agent: scraper\n\nUser-agent: *\nDisallow: /a", True, "two names of one group"),
        ("User-agent: *\nDisallow: /a\n\nUser-agent: scraper\nDisallow: /b", False, "ours, not everybody's"),
        ("User-agent: scrap\nAllow: /\n\nUser-agent: *\nDisallow: /a", True, "everybody's, not another's"),
        ("User-agent: x\nUser-agent: scraper\nDisallow: /a", True, "the second name of a group"),
        ("User-agent: scraper\nUser-agent: x\nDisallow: /a", True, "the first name of a group"),
        ("User-agent: scraper\nDisallow: /b\nUser-agent: x\nDisallow: /a", False, "the next group begins"),
        ("User-agent: scraper\nDisallow: /b\nUser-agent: scraper\nDisallow: /a", True, "groups are merged"),
        ("User-agent: *\nDisallow: /b\nUser-agent: *\nDisallow: /a", True, "everybody's too"),
        ("User-agent: scraper\nSitemap: /s\nUser-agent: x\nDisallow: /a", True, "a sitemap ends no group"),
        ("User-agent: scraper\nCrawl-delay: 1\nUser-agent: x\nDisallow: /a", False, "a rule does"),
        ("User-agent: scraper\n\n\nDisallow: /a", True, "an empty line does not"),
        ("User-agent: scraper # us\nDisallow: /a # all", True, "remarks"),
        ("User-agent : scraper\nDisallow : /a", True, "spaces"),
        ("  User-Agent:scraper\n\tDisallow:/a", True, "tabs"),
        ("useragent scraper\nDisalow /a", True, "misspelt"),
        ("User agent: x\nDisallow: /a", False, "misspelt, another's"),
        ("User \t agent x\nDisallow: /a", False, "misspelt more, another's"),
        ("\ufeffUser-agent: *\nDisallow: /a", True, "a byte order mark"),
        ("User-agent: *\r\nDisallow: /a\r\n", True, "CRLF"),
        ("User-agent: *\rDisallow: /a\r", True, "CR"),
        ("User-agent: *\r\r\nDisallow: /a", True, "both"),
        ("", False, "empty"),
        ("\n\n\r\n", False, "empty lines"),
        ("<!DOCTYPE html><html><body>\n<h1>Not found</h1>\nDisallow: /a</body></html>", False, "HTML"),
        ("\x00\x01\x02", False, "control characters"),
        ("User-agent: *\x00\nDisallow: /a", False, "a name with a NUL"),
        ("User-agent: *\nDisallow: /b\u2028Disallow: /a", False, "what only Unicode calls a line end"),
        ("User-agent: *\nDisallow: /a\nAllow: /a", False, "equally long: allowed"),
        ("User-agent: *\nAllow: /\nDisallow: /a", True, "the longest decides"),
        ("User-agent: *\nDisallow: /\nAllow: /a", False, "the longest decides, the other way"),
    ],
)
def test_to_whom(text: str, forbids_a: bool, why: str) -> None:
    """Rules hold for us that are said to our name, whole and in any case, or to everybody where none is."""
    assert allows(text, "/a/x") is not forbids_a, why


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/", "/", True),
        ("/a", "/a", True),
        ("/a", "/ab?c", True),
        ("/a", "/A", False),
        ("/a/", "/a", False),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a$", "/a?b", False),
        ("/*.jpg$", "/x/y.jpg", True),
        ("/*.jpg$", "/x/y.jpg?z", False),
        ("/*.jpg", "/x/y.jpg?z", True),
        ("*/private", "/x/private/y", True),
        ("/*?", "/x?y", True),
        ("/*?", "/x", False),
        ("/a?b=1", "/a?b=1&c=2", True),
        ("/a?b=1", "/a?c=2&b=1", False),
        ("/***x", "/ax", True),
        ("/a%2fb", "/a%2Fb", True),
        ("/a%2Fb", "/a/b", False),
        ("/%7Euser", "/~user", True),
        ("/~user", "/%7euser", True),
        ("/caf\u00e9", "/caf%C3%A9/x", True),
        ("/caf%c3%a9", "/caf\u00e9", True),
        ("/caf%E9", "/caf%E9", True),
        ("/caf%E9", "/caf%E8", False),
        ("/caf%E9", "/caf%E9%20%C3%A9", True),
        ("/\u65e5\u672c", "/%E6%97%A5%E6%9C%AC", True),
        ("/a b", "/a%20b", True),
        ("/;p=1", "/;p=1", True),
        ("/x/%2A", "/x/*", True),
        ("/", "/robots.txt", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    """Paths are compared with their query, however either is escaped; ``*`` and a last ``$`` are special."""
    assert allows(f"User-agent: *\nDisallow: {pattern}\n", path) is not matches


def test_bytes_that_are_no_text() -> None:
    """A rule in Latin-1 forbids what it means, and nothing else."""
    body = b"User-agent: *\nDisallow: /caf\xe9\n"
    assert not allows(body, "/caf%E9")
    assert allows(body, "/caf%E8")
    assert allows(body, "/caf%C3%A9")


@pytest.mark.parametrize(
    ("agent", "token"),
    [
        ("scraper/1.0 (+https://example.com)", "scraper"),
        ("img2dataset/1.47", "img2dataset"),
        ("ia_archiver", "ia_archiver"),
        ("Mozilla/5.0 (compatible; x/1)", "Mozilla"),
        ("my.bot-x 3", "my.bot-x"),
        ("/1", ""),
        ("", ""),
    ],
)
def test_our_name(agent: str, token: str) -> None:
    """The name is what our user agent begins with, and a group of that name is ours."""
    assert token_of(agent) == token
    assert allows(f"User-agent: {token}x\nDisallow: /", "/a", token)
    if token:
        assert not allows(f"User-agent: {agent}\nDisallow: /", "/a", token)


@pytest.mark.parametrize(
    ("lines", "delay_s"),
    [
        ("Crawl-delay: 2", 2.0),
        ("crawl-delay: 0.5", 0.5),
        ("Crawl-delay: 0", 0.0),
        ("Crawl-delay: 1000000000", MAX_DELAY_S),
        ("Crawl-delay: 1e300", MAX_DELAY_S),
        ("Crawl-delay: inf", None),
        ("Crawl-delay: nan", None),
        ("Crawl-delay: -5", None),
        ("Crawl-delay: soon", None),
        ("Crawl-delay:", None),
        ("Request-rate: 1/5", 5.0),
        ("Request-rate: 10/1m", 6.0),
        ("Request-rate: 1/5 0600-0845", 5.0),
        ("Request-rate: 2/1\nCrawl-delay: 3", 3.0),
        ("Request-rate: 1/7\nCrawl-delay: 3", 7.0),
        ("Request-rate: 0/5", None),
        ("Request-rate: -1/5", None),
        ("Request-rate: fast", None),
        ("Request-rate: 1/1" + "0" * 400, MAX_DELAY_S),
        ("Request-rate: 1" + "0" * 400 + "/1", 0.0),
        ("Request-rate: 1" + "0" * 400 + "/1" + "0" * 401, 10.0),
        ("Request-rate: 1" + "0" * 20 + "/1" + "0" * 4000, MAX_DELAY_S),
        ("Request-rate: 1/1" + "0" * 5000, None),
        ("Disallow: /", None),
    ],
)
def test_delays(lines: str, delay_s: float | None) -> None:
    """Crawl-delay and Request-rate become seconds, the longer of them, a minute at most; junk is passed over."""
    assert parse(f"{EVERYBODY}{lines}\n".encode(), "scraper").crawl_delay_s == delay_s


def test_the_delay_of_our_group() -> None:
    """A delay holds for those it is said to."""
    text = b"User-agent: *\nCrawl-delay: 9\n\nUser-agent: scraper\nDisallow: /a\n\nUser-agent: x\nCrawl-delay: 5\n"
    assert parse(text, "scraper").crawl_delay_s is None
    assert parse(text, "x").crawl_delay_s == 5.0
    assert parse(text, "other").crawl_delay_s == 9.0


@pytest.mark.parametrize(
    ("status", "reading"),
    [(status, "parse") for status in (200, 203, 204, 206, 299)]
    + [(status, "allow") for status in (300, 301, 304, 308, 400, 401, 403, 404, 410, 418, 451, 499)]
    + [(status, "unreachable") for status in (429, 500, 502, 503, 504, 520, 599, 0, 100, 600, 999)],
)
def test_what_a_status_means(status: int, reading: str) -> None:
    """4xx allows but for 429, 5xx and what is no status refuses (RFC 9309 2.3.1)."""
    assert after_status(status) == reading


@pytest.mark.slow
def test_the_first_half_mebibyte() -> None:
    """Rules within 512 KiB count, those beyond do not, and none is cut in half."""
    line = b"Disallow: /filler\n"
    filler = line * (600_000 // len(line))
    start = b"User-agent: *\nDisallow: /start\n"
    early = start + filler[: 500 * 1024 - len(start)] + b"\nDisallow: /early\n" + filler
    assert not allows(early, "/start")
    assert not allows(early, "/early")
    assert allows(start + filler + b"Disallow: /late\n", "/late")
    cut = start + b"#" * (MAX_BYTES - len(start) - 12) + b"\nDisallow: /cut/in/half"
    assert len(beginning(cut)) < MAX_BYTES < len(cut)
    assert allows(cut, "/cut")
    assert allows(cut, "/")
    assert beginning(b"x" * (MAX_BYTES + 1)) == b""
    assert beginning(b"x" * MAX_BYTES) == b"x" * MAX_BYTES


HOSTILE = {
    "stars": (b"Disallow: /" + b"*a" * 100_000 + b"$\n", "/" + "a" * 30_000),
    "stars, short": (b"Disallow: /" + b"*a" * 100_000 + b"$\n", "/a"),
    "stars and ends": (b"Disallow: /*a*a*a*a*a*a*a*a*a*a*a*a*b$\n" * 5_000, "/" + "a" * 30_000),
    "many, long URL": (b"Disallow: /*ab\n" * 30_000, "/" + "a" * 30_000),
    "many, short URL": (b"Disallow: /*ab\n" * 30_000, "/" + "a" * 100),
    "slow to compare": (b"Disallow: /*" + b"a" * 50 + b"b" + b"a" * 48 + b"\n", "/" + "a" * 30_000),
    "plain": (b"".join(b"Disallow: /%d\n" % n for n in range(30_000)), "/x"),
    "escapes": (b"Disallow: /" + b"%ff" * 100_000 + b"\n", "/" + "%ff" * 10_000),
    "junk": (b"a b:c\n" * 80_000, "/x"),
    "names": (b"User-agent: x\n" * 30_000, "/x"),
    "no line end": (b"D" * MAX_BYTES, "/x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rules_take_bounded_time(name: str) -> None:
    """Whatever a site writes, and whatever URL it leads to: a verdict takes milliseconds, not minutes."""
    text, path = HOSTILE[name]
    rules = parse(EVERYBODY.encode() + text, "scraper")
    began = time.process_time()
    rules.allows("https://example.com" + path)
    assert time.process_time() - began < 0.5


def test_what_takes_too_long_is_refused() -> None:
    """A URL that could not be judged in time is not asked for; the same rules judge one that can."""
    rules = parse(EVERYBODY.encode() + b"Disallow: /*x\n" * 2_000, "scraper")
    assert rules.allows("https://example.com/a")
    assert not rules.allows("https://example.com/" + "a" * 10_000)


NAMES = ("scraper", "*", "other", "third")
_lines = st.one_of(
    st.sampled_from(NAMES).map("User-agent: {}".format),
    st.sampled_from(["/", "/a", "/a$", "/*b", "/ab/c", "/a%20b", "/b?c", ""]).map("Disallow: {}".format),
    st.sampled_from(["/", "/a", "/a$", "/*b", "/ab/c", ""]).map("Allow: {}".format),
    st.sampled_from(["Sitemap: /s", "Crawl-delay: 3", "# remark", "", "junk", "x: y", "Host: h", "Noindex: /a"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_lines, max_size=20))
def test_names_aside_it_is_as_protego_says(lines: list[str]) -> None:
    """With names of which none is part of another, which lines are ours is decided as protego decides it."""
    text = "\n".join(lines)
    theirs = Protego.parse(text)
    ours = parse(text.encode(), "scraper")
    for path in ("/", "/a", "/ab", "/ab/c", "/a%20b", "/b?c", "/c"):
        assert ours.allows(f"https://h{path}") == theirs.can_fetch(f"https://h{path}", "scraper")
    assert ours.crawl_delay_s == theirs.crawl_delay("scraper")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.text(alphabet="abc/*$?%=&#\udce9é ", max_size=20))
def test_nothing_breaks_it(junk: bytes, pattern: str) -> None:
    """Whatever a server sends: a verdict."""
    raw = pattern.encode("utf-8", "surrogateescape")
    body = junk + b"\nUser-agent: *\nDisallow: /" + raw + b"\nCrawl-delay: " + junk + b"\nAllow: " + junk
    rules = parse(body, "scraper")
    assert rules.allows("https://example.com/%E9?a=b") in (True, False)
    assert rules.crawl_delay_s is None or 0 <= rules.crawl_delay_s <= MAX_DELAY_S


# What is kept of it.


class Clock:
    """The wall's, which stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Web:
    """Servers that answer as told, without a network; anything they are not told about gets a 404.

    Attributes:
        asked: how often each URL was asked for.
        arena: accounts for what they served.
    """

    def __init__(self, answers: Mapping[str, bytes | int | str | FetchFailed] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.arena = Arena(10_000_000)

    async def ask(self, request: Request) -> Fetched | Answer:
        """One hop."""
        self.asked[request.asked] += 1
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self.answers.get(request.asked, 404)
        if isinstance(answer, str):
            return Redirected(request.redirected(answer, 0.0))
        if isinstance(answer, int):
            answer = FetchFailed(f"http.{answer}", f"The server answered {answer}.", status=answer)
        if isinstance(answer, FetchFailed):
            return Failed(answer, NO_TIMINGS, request.asked)
        slot = await self.arena.reserve()
        await slot.append(answer)
        return Fetched(Response(request, request.asked, 200, {}, slot.body()), slot)


H = "http://h.example"
TXT = f"{H}/robots.txt"
NOTHING = b"User-agent: *\nDisallow: /\n"
CLOSED = b"User-agent: *\nDisallow: /closed\nCrawl-delay: 2\n"


def page(url: str = f"{H}/open") -> Request:
    """A row."""
    return Request(17, url)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "robots.sqlite"


async def learned(robots: Robots, web: Web, url: str = f"{H}/open") -> Verdict:
    """The verdict, learned if it must be."""
    found = robots.verdict(page(url))
    if found is None:
        await robots.learn(page(url), web.ask)
        found = robots.verdict(page(url))
    assert found is not None
    return found


async def test_it_is_learned_and_then_known(path: Path) -> None:
    """Nothing is known at first; once asked for, robots.txt says what may be asked for, and how often."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        assert robots.verdict(page()) is None
        assert await learned(robots, web) == Verdict(True, 2.0)
        assert robots.verdict(page(f"{H}/closed/x")) == Verdict(False, 2.0)
        assert robots.verdict(page(f"{H}/open?x=/closed")) == Verdict(True, 2.0)
    assert web.asked == {TXT: 1}
    assert web.arena.held == 0


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://h.example/a/b?c#d", "http://h.example/robots.txt"),
        ("https://h.example/a", "https://h.example/robots.txt"),
        ("http://h.example:80/a", "http://h.example/robots.txt"),
        ("http://h.example:8080/a", "http://h.example:8080/robots.txt"),
        ("https://h.example:80/a", "https://h.example:80/robots.txt"),
        ("HTTP://H.Example/a", "http://h.example/robots.txt"),
        ("http://user:secret@h.example/a", "http://h.example/robots.txt"),
        ("http://[2001:db8::1]:81/a", "http://[2001:db8::1]:81/robots.txt"),
        ("http://b\u00fccher.example/a", "http://xn--bcher-kva.example/robots.txt"),
    ],
)
async def test_where_it_is_asked_for(path: Path, url: str, asked: str) -> None:
    """At the origin of the row: its scheme, host and port, and nothing else of it (RFC 9309 2.3)."""
    web = Web()
    async with Robots(path, "scraper") as robots:
        await learned(robots, web, url)
    assert list(web.asked) == [asked]
    assert [(request.row, request.url, request.held) for request in web.requests] == [(17, "", None)]


async def test_each_origin_has_its_own(path: Path) -> None:
    """What one origin forbids, another scheme or port of the host may allow."""
    web = Web({TXT: NOTHING})
    async with Robots(path, "scraper") as robots:
        assert not (await learned(robots, web)).allowed
        assert (await learned(robots, web, "https://h.example/open")).allowed
        assert (await learned(robots, web, "http://h.example:81/open")).allowed
    assert len(web.asked) == 3


async def test_many_rows_ask_once(path: Path) -> None:
    """Fifty rows of one origin that all must learn: one request."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        await asyncio.gather(*(robots.learn(page(f"{H}/{n}"), web.ask) for n in range(50)))
        assert robots.verdict(page()) == Verdict(True, 2.0)
        assert len(robots._learning) == 0
    assert web.asked == {TXT: 1}


async def test_who_is_cancelled_keeps_nobody_from_learning(path: Path) -> None:
    """The row that asks may be cancelled; the next one that waits asks then."""
    begun = asyncio.Event()
    web = Web({TXT: CLOSED})

    async def never(request: Request) -> Fetched | Answer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Robots(path, "scraper") as robots:
        first = asyncio.create_task(robots.learn(page(), never))
        await begun.wait()
        second = asyncio.create_task(robots.learn(page(), web.ask))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert robots.verdict(page()) == Verdict(True, 2.0)
    assert first.cancelled()


@pytest.mark.parametrize("answer", [CLOSED, 404, 410, 401, 403, 451])
async def test_a_restart_asks_nothing(path: Path, answer: bytes | int) -> None:
    """What was answered outlives the process: the next one asks for no robots.txt anew."""
    web, clock = Web({TXT: answer}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        before = await learned(robots, web)
    clock.now += KEPT_S - 1
    async with Robots(path, "scraper", now=clock) as robots:
        assert robots.verdict(page()) is None
        assert await learned(robots, web) == before
    assert web.asked == {TXT: 1}


async def test_another_name_reads_it_anew(path: Path) -> None:
    """What is kept is the text: a run under another name finds what is said to that."""
    web = Web({TXT: b"User-agent: one\nDisallow: /\n"})
    async with Robots(path, "one") as robots:
        assert not (await learned(robots, web)).allowed
    async with Robots(path, "two") as robots:
        assert (await learned(robots, web)).allowed
    assert web.asked == {TXT: 1}


async def test_it_holds_for_a_day(path: Path) -> None:
    """After 24 hours it is asked for again, in the same run and in the next; a clock set back counts as that."""
    web, clock = Web({TXT: CLOSED}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        await learned(robots, web)
        clock.now += KEPT_S - 1
        assert robots.verdict(page()) is not None
        clock.now += 1
        assert robots.verdict(page()) is None
        web.answers[TXT] = NOTHING
        assert not (await learned(robots, web)).allowed
        assert web.asked[TXT] == 2
    clock.now += KEPT_S
    async with Robots(path, "scraper", now=clock) as robots:
        assert not (await learned(robots, web)).allowed
        assert web.asked[TXT] == 3
        clock.now -= 3600
        assert robots.verdict(page()) is None
        await learned(robots, web)
        assert web.asked[TXT] == 4


OWN = [
    "dns.not_found",
    "dns.temporary",
    "connect.refused",
    "connect.timeout",
    "tls.verify",
    "tls.handshake",
    "address.blocked",
]
NOT_READ = [
    "connect.reset",
    "timeout.stall",
    "timeout.total",
    "protocol.malformed",
    "protocol.header_too_large",
    "redirect.blocked",
    "body.truncated",
    "body.encoding",
    "body.bomb",
    "http.500",
    "http.503",
    "http.429",
    "http.206",
]


@pytest.mark.parametrize("class_", OWN + NOT_READ)
async def test_what_cannot_be_read_refuses(path: Path, class_: str) -> None:
    """A host that cannot be reached says so by its own class; what breaks later is robots.unreachable."""
    status = int(class_[5:]) if class_.startswith("http.") else 0
    web = Web({TXT: FetchFailed(class_, "It broke.", status=status)})
    async with Robots(path, "scraper") as robots:
        verdict = await learned(robots, web)
    assert not verdict.allowed
    assert verdict.error is not None
    if class_ in OWN:
        assert (verdict.error.class_, verdict.error.message) == (class_, "It broke.")
    else:
        says = f"robots.txt cannot be read ({class_}): It broke."
        assert (verdict.error.class_, verdict.error.message) == ("robots.unreachable", says)
    assert verdict.error.status == status


@pytest.mark.parametrize("answer", [400, 401, 403, 404, 410, 451, 300, 304])
async def test_where_there_is_none_everything_goes(path: Path, answer: int) -> None:
    """4xx, and a 3xx that leads nowhere, are answers: there is no robots.txt."""
    async with Robots(path, "scraper") as robots:
        assert await learned(robots, Web({TXT: answer})) == Verdict(True)


@pytest.mark.parametrize("class_", ["body.empty", "redirect.loop"])
async def test_nothing_to_read_is_no_failure(path: Path, class_: str) -> None:
    """An empty robots.txt, a 204, and redirects in a circle forbid nothing."""
    status = 204 if class_ == "body.empty" else 302
    async with Robots(path, "scraper") as robots:
        web = Web({TXT: FetchFailed(class_, "Nothing there.", status=status)})
        assert await learned(robots, web) == Verdict(True)


@pytest.mark.parametrize(("redirects", "allowed"), [(1, False), (5, False), (6, True), (20, True)])
async def test_five_redirects(path: Path, redirects: int, allowed: bool) -> None:
    """Five are followed, wherever to, and what is there holds for the first origin; after more there is none."""
    chain = [TXT, *(f"http://{n}.example/r" for n in range(redirects))]
    web = Web({**dict(itertools.pairwise(chain)), chain[-1]: NOTHING})
    async with Robots(path, "scraper") as robots:
        assert (await learned(robots, web)).allowed is allowed
        assert robots.verdict(page("http://0.example/")) is None
    assert sum(web.asked.values()) == min(redirects, 5) + 1
    assert web.arena.held == 0


@pytest.mark.parametrize("class_", OWN)
async def test_a_redirect_to_where_nobody_is(path: Path, class_: str) -> None:
    """The host was reached; that its robots.txt is elsewhere, out of reach, is robots.unreachable."""
    web = Web({TXT: "http://other.example/", "http://other.example/": FetchFailed(class_, "No.")})
    async with Robots(path, "scraper") as robots:
        error = (await learned(robots, web)).error
    assert error is not None
    assert error.class_ == "robots.unreachable"


async def test_a_failure_is_kept_for_moments(path: Path) -> None:
    """A thousand rows that wait do not ask; a row that comes back when it is told to does, later each time."""
    web, clock = Web({TXT: 503}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        waits = []
        for count in range(1, 12):
            for _ in range(1_000):
                verdict = await learned(robots, web)
            assert web.asked[TXT] == count
            assert verdict.error is not None
            assert verdict.error.retry_after_s is not None
            waits.append(verdict.error.retry_after_s - MARGIN_S)
            clock.now += verdict.error.retry_after_s
            assert robots.verdict(page()) is None
        assert waits[:4] == pytest.approx([5, 10, 20, 40])
        assert waits[-1] == pytest.approx(LAST_WAIT_S)
        web.answers[TXT] = CLOSED
        assert (await learned(robots, web)).allowed
        web.answers[TXT] = 503
        clock.now += KEPT_S + 1
        error = (await learned(robots, web)).error
        assert error is not None
        assert error.retry_after_s == pytest.approx(5 + MARGIN_S)
    async with Robots(path, "scraper", now=clock) as robots:  # and never outlives the process
        web.answers[TXT] = CLOSED
        assert (await learned(robots, web)).allowed


async def test_rows_that_come_later_wait_less(path: Path) -> None:
    """What a row is told to wait is what is left."""
    web, clock = Web({TXT: 500}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        await learned(robots, web)
        clock.now += 3
        error = (await learned(robots, web)).error
    assert error is not None
    assert error.retry_after_s == pytest.approx(2 + MARGIN_S)


async def test_retry_after_is_heeded(path: Path) -> None:
    """A server that says when to come back is not asked before."""
    busy = FetchFailed("http.503", "Busy.", status=503, retry_after_s=1_000.0)
    web, clock = Web({TXT: busy}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        error = (await learned(robots, web)).error
        assert error is not None
        assert error.retry_after_s == pytest.approx(1_000 + MARGIN_S)
        clock.now += 999
        await learned(robots, web)
        assert web.asked[TXT] == 1


async def test_a_lack_of_ours_is_nobodys_fault(path: Path) -> None:
    """That this machine has no descriptors left reaches the engine as that, and is kept for a second."""
    web, clock = Web({TXT: OutOfResources("connect.reset", "No descriptors.")}), Clock()
    async with Robots(path, "scraper", now=clock) as robots:
        assert isinstance((await learned(robots, web)).error, OutOfResources)
        clock.now += 1
        assert robots.verdict(page()) is None


@pytest.mark.parametrize("url", ["ftp://h/x", "http://", "nonsense", ""])
async def test_a_url_that_cannot_be_dialled(path: Path, url: str) -> None:
    """It ends by its own class, and nothing is asked."""
    web = Web()
    async with Robots(path, "scraper") as robots:
        verdict = robots.verdict(page(url))
        await robots.learn(page(url), web.ask)
    assert verdict is not None
    assert verdict.error is not None
    assert verdict.error.class_ in ("url.invalid", "url.scheme")
    assert not web.asked


async def test_memory_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not used for longest leaves memory, by count and by bytes, and comes back from the file."""
    monkeypatch.setattr(scraper.robots, "HELD_ORIGINS", 3)
    hosts = [f"http://{n}.example/a" for n in range(5)]
    web = Web({f"http://{n}.example/robots.txt": CLOSED for n in range(5)})
    async with Robots(path, "scraper") as robots:
        for url in hosts[:3]:
            await learned(robots, web, url)
        assert robots.verdict(page(hosts[0])) is not None
        await learned(robots, web, hosts[3])
        assert [robots.verdict(page(url)) is not None for url in hosts[:4]] == [True, False, True, True]
        await learned(robots, web, hosts[1])
        assert set(web.asked.values()) == {1}
        each = robots._bytes // 3
        monkeypatch.setattr(scraper.robots, "HELD_BYTES", 2 * each)
        await learned(robots, web, hosts[4])
        assert robots._bytes == 2 * each
        monkeypatch.setattr(scraper.robots, "HELD_BYTES", 1)
        assert (await learned(robots, web, hosts[0])).allowed
        assert len(robots._known) == 1


def _edited(*statements: str) -> Callable[[Path], None]:
    """Does that to the file."""

    def edit(path: Path) -> None:
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return edit


BOMB = zlib.compress(b"#" * 100_000_000, 9).hex()

CRAFTED: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,
    "junk": lambda path: path.write_bytes(b"junk" * 5_000) and None,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5_000]) and None,
    "overwritten": lambda path: path.write_bytes(path.read_bytes()[:4_000] + b"\xff" * 9_000) and None,
    "another table": _edited("DROP TABLE robots", "CREATE TABLE robots (origin)"),
    "a table more": _edited("CREATE TABLE more (x)"),
    "a trigger": _edited("CREATE TRIGGER t AFTER INSERT ON robots BEGIN DELETE FROM robots; END"),
    "a view": _edited(
        "DROP TABLE robots",
        "CREATE VIEW robots AS WITH RECURSIVE n(fetched_at) AS (SELECT 1 UNION ALL SELECT fetched_at + 1 FROM n) "
        "SELECT 'x' AS origin, fetched_at, 200 AS status, x'00' AS body FROM n",
    ),
    "types": _edited("UPDATE robots SET fetched_at = 'never', status = 'x', body = 'text'"),
    "nothing": _edited("UPDATE robots SET fetched_at = NULL, status = NULL, body = NULL"),
    "not text": _edited("UPDATE robots SET body = CAST(x'ff' AS TEXT)"),
    "not packed": _edited("UPDATE robots SET body = x'00ff00ff'"),
    "cut short": _edited("UPDATE robots SET body = substr(body, 1, length(body) - 5)"),
    "a bomb": _edited(f"UPDATE robots SET body = x'{BOMB}'"),
    "too long": _edited("UPDATE robots SET body = zeroblob(5000000)"),
    "of the future": _edited("UPDATE robots SET fetched_at = 9e999"),
    "a failure": _edited("UPDATE robots SET status = 500"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", CRAFTED)
async def test_a_file_that_is_not_as_it_was(path: Path, how: str) -> None:
    """A damaged or crafted file fails nothing, runs nothing and is not believed: robots.txt is asked for again."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        await learned(robots, web)
    CRAFTED[how](path)
    for _ in range(2):
        async with asyncio.timeout(10), Robots(path, "scraper") as robots:
            assert await learned(robots, web) == Verdict(True, 2.0)
    assert web.asked == {TXT: 2}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a bomb", "too long"])
async def test_a_crafted_file_costs_no_memory(path: Path, how: str) -> None:
    """What claims to be longer than any robots.txt that is kept is not read."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        await learned(robots, web)
    CRAFTED[how](path)
    async with Robots(path, "scraper") as robots:
        tracemalloc.start()
        try:
            await learned(robots, web)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4_000_000


async def test_damage_in_the_middle_of_a_run(path: Path) -> None:
    """A file that turns out to be damaged is made anew, and the run goes on."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        await learned(robots, web)

        def damage() -> None:
            robots._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            robots._connection().execute("PRAGMA shrink_memory")
            path.write_bytes(path.read_bytes()[:100] + b"\xff" * 20_000)

        await robots._call(damage)
        for n in range(3):
            assert (await learned(robots, web, f"http://{n}.example/")).allowed
    async with Robots(path, "scraper") as robots:
        await learned(robots, web, "http://2.example/")
    assert web.asked["http://2.example/robots.txt"] == 1


async def test_a_disk_that_refuses(tmp_path: Path) -> None:
    """Where no file can be, the run is told so in a sentence."""
    (tmp_path / "robots.sqlite").mkdir()
    with pytest.raises(SinkFailed, match=r"robots\.txt cannot be kept in"):
        async with Robots(tmp_path / "robots.sqlite", "scraper"):
            pass


@pytest.mark.slow
async def test_a_verdict_costs_microseconds(path: Path) -> None:
    """What is known is looked up for each request of the run: it takes well under a tenth of a millisecond."""
    web = Web({TXT: CLOSED})
    async with Robots(path, "scraper") as robots:
        await learned(robots, web)
        request = page(f"{H}/pictures/17.jpg?size=large")
        best = 1.0
        for _ in range(5):
            began = time.process_time()
            for _ in range(1_000):
                robots.verdict(request)
            best = min(best, (time.process_time() - began) / 1_000)
    assert best < 100e-6


def test_where_nothing_is_said_nothing_is_kept() -> None:
    """Most sites say nothing to us: they all share one set of rules."""
    assert parse(b"User-agent: x\nDisallow: /\n", "scraper") is ANYTHING
    assert parse(b"<html>", "scraper") is ANYTHING
