"""Cookies: what is taken from whom, where it goes, and what a file may say, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from scraper import cookies as jar
from scraper.config import SecretsConfig
from scraper.cookies import Cookies
from scraper.errors import UsageError
from scraper.policies import cookies as rules
from scraper.policies.cookie_files import read
from scraper.policies.cookies import Cookie, Place, goes_to, header_of, parse
from scraper.policies.suffixes import is_public_suffix, registrable
from scraper.policies.urls import check

NOW = 1_700_000_000.0
HERE = Place("www.a.example", "/dir/page", is_https=True)


def taken(text: str, place: Place = HERE) -> Cookie:
    """A cookie that must be taken."""
    cookie = parse(text, place, NOW)
    assert cookie is not None
    return cookie


@pytest.mark.parametrize(
    ("host", "owner", "everybodys"),
    [
        ("www.a.example", "a.example", False),
        ("a.b.co.uk", "b.co.uk", False),
        ("co.uk", "co.uk", True),
        ("com", "com", True),
        ("one.blogspot.com", "one.blogspot.com", False),
        ("blogspot.com", "blogspot.com", True),
        ("localhost", "localhost", True),
        ("a.b.kobe.jp", "a.b.kobe.jp", False),
        ("city.kobe.jp", "city.kobe.jp", False),
        ("xn--55qx5d.cn", "xn--55qx5d.cn", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("::1", "::1", False),
    ],
)
def test_owners(host: str, owner: str, everybodys: bool) -> None:
    """What is registered is one owner's; public suffixes, private ones included, and addresses are themselves."""
    assert registrable(host) == owner
    assert is_public_suffix(host) is everybodys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=1", Cookie("a", "1", "www.a.example", True, "/dir")),
        (" a = 1 ;  Path=/ ", Cookie("a", "1", "www.a.example", True, "/")),
        ("a=", Cookie("a", "", "www.a.example", True, "/dir")),
        ('a="x y", z=2', Cookie("a", '"x y", z=2', "www.a.example", True, "/dir")),
        ("a=caf\u00e9", Cookie("a", "caf\u00e9", "www.a.example", True, "/dir")),
        ("a=1; Domain=.A.Example", Cookie("a", "1", "a.example", False, "/dir")),
        ("a=1; domain=www.a.example", Cookie("a", "1", "www.a.example", False, "/dir")),
        ("a=1; domain=", Cookie("a", "1", "www.a.example", True, "/dir")),
        ("a=1; path=/p; path=/q", Cookie("a", "1", "www.a.example", True, "/q")),
        ("a=1; path=p", Cookie("a", "1", "www.a.example", True, "/dir")),
        ("a=1; path=/" + "p" * 1024, Cookie("a", "1", "www.a.example", True, "/dir")),
        ("a=1; SECURE; HttpOnly; SameSite=Strict; x", Cookie("a", "1", "www.a.example", True, "/dir", True)),
        ("a=1; Max-Age=60", Cookie("a", "1", "www.a.example", True, "/dir", expires=NOW + 60)),
        (
            "a=1; Max-Age=0; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
            Cookie("a", "1", HERE.host, True, "/dir", expires=0),
        ),
        ("a=1; Max-Age=-" + "9" * 1000, Cookie("a", "1", HERE.host, True, "/dir", expires=0)),
        ("a=1; Max-Age=" + "9" * 1000, Cookie("a", "1", HERE.host, True, "/dir", expires=NOW + rules.MAX_AGE_S)),
        ("a=1; Max-Age=1e9", Cookie("a", "1", "www.a.example", True, "/dir")),
        ("__Secure-a=1; Secure", Cookie("__Secure-a", "1", "www.a.example", True, "/dir", True)),
        ("__Host-a=1; Secure; Path=/", Cookie("__Host-a", "1", "www.a.example", True, "/", True)),
    ],
)
def test_what_is_taken(text: str, said: Cookie) -> None:
    """A cookie is what its header says (RFC 6265 5.2): the last of an attribute, and nothing unknown."""
    assert taken(text) == said


@pytest.mark.parametrize(
    ("date", "ends"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01-Jan-1970 00:00:10 GMT", 10),
        ("Thursday, 01-Jan-70 00:00:10 GMT", 10),
        ("Thu Jan  1 00:00:10 1970", 10),
        ("Tue, 14 Nov 2023 23:13:20 GMT", NOW + 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", NOW + rules.MAX_AGE_S),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_when_one_ends(date: str, ends: float | None) -> None:
    """Dates as servers have written them ever since; what is none does not end before the run."""
    assert taken(f"a=1; Expires={date}").expires == ends


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", HERE),
        ("=1", HERE),
        ("", HERE),
        ("a=1\tb", HERE),
        ("a=1; path=/\x01", HERE),
        ("a=1\r\nX: y", HERE),
        ("a=1\0", HERE),
        ("a=caf\udce9", HERE),
        ("a=" + "1" * 4096, HERE),
        ("a=" + "1" * 1_000_000, HERE),
        ("a=1; Domain=b.example", HERE),
        ("a=1; Domain=x.www.a.example", HERE),
        ("a=1; Domain=ww.a.example", HERE),
        ("a=1; Domain=example", HERE),
        ("a=1; Domain=com", Place("a.com", "/", is_https=True)),
        ("a=1; Domain=.co.uk", Place("a.co.uk", "/", is_https=True)),
        ("a=1; Domain=blogspot.com", Place("a.blogspot.com", "/", is_https=True)),
        ("a=1; Domain=0.0.1", Place("127.0.0.1", "/", is_https=True)),
        ("a=1; Domain=127.0.0.2", Place("127.0.0.1", "/", is_https=True)),
        ("a=1; Domain=a.example", Place("127.0.0.1", "/", is_https=True)),
        ("a=1; Secure", Place("a.example", "/", is_https=False)),
        ("__Secure-a=1", HERE),
        ("__SECURE-a=1", HERE),
        ("__Host-a=1; Path=/", HERE),
        ("__Host-a=1; Secure", HERE),
        ("__Host-a=1; Secure; Path=/; Domain=www.a.example", HERE),
        ("__host-a=1; Secure; Path=/dir", HERE),
    ],
)
def test_what_is_not_taken(text: str, place: Place) -> None:
    """Nothing for others, for everybody, with control characters, too long, or under a name that promises more."""
    assert parse(text, place, NOW) is None


@pytest.mark.parametrize("host", ["localhost", "blogspot.com", "127.0.0.1", "::1"])
def test_who_names_itself(host: str) -> None:
    """A host that nobody, or everybody, is below of keeps its own for itself (RFC 6265 5.3, step 5)."""
    cookie = taken(f"a=1; Domain={host}", Place(host, "/", is_https=False))
    assert (cookie.domain, cookie.host_only) == (host, True)


@pytest.mark.parametrize(
    ("asked", "own"),
    [("/dir/page", "/dir"), ("/dir/", "/dir"), ("/dir", "/"), ("/", "/"), ("", "/"), ("/a/b/c?", "/a/b")],
)
def test_where_one_belongs_that_names_no_path(asked: str, own: str) -> None:
    """RFC 6265 5.1.4: the folder of what was asked."""
    assert taken("a=1", Place("a.example", asked, is_https=True)).path == own


@pytest.mark.parametrize(
    ("cookie", "url", "goes"),
    [
        (Cookie("a", "1", "a.example", False), "http://a.example/", True),
        (Cookie("a", "1", "a.example", False), "http://www.a.example:81/x", True),
        (Cookie("a", "1", "a.example", False), "http://ba.example/", False),
        (Cookie("a", "1", "a.example", False), "http://example/", False),
        (Cookie("a", "1", "a.example", True), "http://www.a.example/", False),
        (Cookie("a", "1", "0.0.1", False), "http://127.0.0.1/", False),
        (Cookie("a", "1", "::1", True), "http://[::1]/", True),
        (Cookie("a", "1", "a.example", True, "/x"), "http://a.example/x", True),
        (Cookie("a", "1", "a.example", True, "/x"), "http://a.example/x/y", True),
        (Cookie("a", "1", "a.example", True, "/x/"), "http://a.example/x/y", True),
        (Cookie("a", "1", "a.example", True, "/x/"), "http://a.example/x", False),
        (Cookie("a", "1", "a.example", True, "/x"), "http://a.example/xy", False),
        (Cookie("a", "1", "a.example", True, "/x"), "http://a.example/X", False),
        (Cookie("a", "1", "a.example", secure=True), "http://a.example/", False),
        (Cookie("a", "1", "a.example", secure=True), "https://a.example/", True),
        (Cookie("a", "1", "a.example", expires=NOW), "https://a.example/", False),
        (Cookie("a", "1", "a.example", expires=NOW + 1), "https://a.example/", True),
    ],
)
def test_where_one_goes(cookie: Cookie, url: str, goes: bool) -> None:
    """RFC 6265 5.4: by domain, path, scheme and time."""
    at = check(url)
    assert goes_to(cookie, Place(at.raw_host or "", at.raw_path, at.scheme == "https"), NOW) is goes


def test_the_header() -> None:
    """The longest path comes first, then the older; what is more than servers take is left out."""
    assert header_of([]) == ""
    assert (
        header_of([Cookie("a", "1", "h"), Cookie("b", "", "h", path="/x"), Cookie("c", "3", "h")])
        == "b=; a=1; c=3"
    )
    many = [Cookie(f"n{n}", "\u00e9" * 2000, "h", path="/" + "x" * n) for n in range(10)]
    header = header_of(many)
    assert header.startswith("n9=")
    assert len(header.encode()) <= rules.MAX_HEADER < len(header.encode()) + 4010


def test_one_does_not_show_itself() -> None:
    """A cookie in a traceback or a log shows no value."""
    assert "hush" not in repr(Cookie("a", "hush", "a.example"))


NETSCAPE = """\ufeff# Netscape HTTP Cookie File
# https://curl.se/docs/http-cookies.html\r

.a.example\tTRUE\t/\tFALSE\t0\tall\t1\r
#HttpOnly_a.example\tFALSE\t/x\tTRUE\t1700000001.5\tours\ta b,"c"=\u2028d
127.0.0.1\tTRUE\t/\tfalse\t-1\tlocal\t
co.uk\tFALSE\t/\tFALSE\t0\thost\tonly
b.example\tFALSE\t/\tFALSE\t0\tempty
"""


def test_netscapes_format() -> None:
    """Comments, HttpOnly, both line ends, sessions, ends in the past, empty values and odd ones."""
    assert read(NETSCAPE.removeprefix("\ufeff"), "f") == [
        Cookie("all", "1", "a.example", False),
        Cookie("ours", 'a b,"c"=\u2028d', "a.example", True, "/x", True, 1700000001.5),
        Cookie("local", "", "127.0.0.1", True),
        Cookie("host", "only", "co.uk", True),
        Cookie("empty", "", "b.example", True),
    ]


def line(
    domain: str = "a.example",
    below: str = "FALSE",
    path: str = "/",
    secure: str = "FALSE",
    end: str = "0",
    name: str = "n",
    value: str = "hush",
) -> str:
    """One line of Netscape's format."""  # fmt: skip
    return "\t".join([domain, below, path, secure, end, name, value])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("a.example FALSE / FALSE 0 n hush", "seven fields"),
        (line() + "\tmore", "seven fields"),
        (line(below="yes"), "TRUE or FALSE"),
        (line(secure=""), "TRUE or FALSE"),
        (line(end="tomorrow"), "must be a number"),
        (line(end="nan"), "must be a number"),
        (line(end="9" * 400), "must be a number"),
        (line(name=""), "no name"),
        (line(name="a=b"), "no name"),
        (line(name=" n"), "no name"),
        (line(name="a;b"), "control character or a semicolon"),
        (line(value="hush; admin=1"), "control character or a semicolon"),
        (line(value="hush\r\x00"), "control character or a semicolon"),
        (line(value="hush\rX: y"), "control character or a semicolon"),
        (line(path="/\x7f"), "control character or a semicolon"),
        (line(value="hush" * 1025), "more than 4096 bytes"),
        (line(domain=""), "no domain"),
        (line(domain="http://a.example/"), "no domain"),
        (line(domain="a.example:80"), "no domain"),
        (line(domain="b\u00fccher.example"), "no domain"),
        (line(domain="a..example"), "no domain"),
        (line(path=""), "path must begin"),
        (line(domain=".co.uk", below="TRUE"), "everybody below co.uk"),
        (line(domain="com", below="TRUE"), "everybody below com"),
        (line(domain=".blogspot.com", below="TRUE"), "everybody below blogspot.com"),
    ],
)
def test_a_line_that_is_no_cookie(wrong: str, why: str) -> None:
    """A line that cannot be sent as it stands is refused by its number; its value is not repeated."""
    with pytest.raises(UsageError, match=r"^--cookies f, line 3") as refused:
        read(f"# comment\n{line()}\n{wrong}\n", "f")
    assert why in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("wrapped", [False, True], ids=["a list", "a storage state"])
def test_json(wrapped: bool) -> None:
    """What extensions, Playwright and Selenium export says the same."""
    said = [
        {"name": "all", "value": "1", "domain": ".a.example", "path": "/", "hostOnly": False, "session": True},
        {"name": "ours", "value": "2", "domain": "a.example", "path": "/x", "secure": True, "expirationDate": NOW},
        {"name": "play", "value": "3", "domain": ".a.example", "path": "/", "expires": -1, "sameSite": "Lax"},
        {"name": "wire", "value": "4", "domain": "A.Example", "path": "/", "expiry": 1700000001, "httpOnly": True},
        {"name": "host", "value": "", "domain": "co.uk", "path": "/", "hostOnly": True, "expirationDate": None},
    ]
    text = json.dumps({"cookies": said, "origins": []} if wrapped else said)
    assert read(f"\n {text}", "f") == [
        Cookie("all", "1", "a.example", False),
        Cookie("ours", "2", "a.example", True, "/x", True, NOW),
        Cookie("play", "3", "a.example", False),
        Cookie("wire", "4", "a.example", True, "/", False, NOW + 1),
        Cookie("host", "", "co.uk", True),
    ]


GOOD = {"name": "n", "value": "hush", "domain": "a.example", "path": "/"}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("x", "is no object"),
        (GOOD | {"value": 1}, "must be text"),
        (GOOD | {"domain": None}, "must be text"),
        (GOOD | {"secure": "true"}, "true or false"),
        (GOOD | {"hostOnly": 1}, "true or false"),
        (GOOD | {"expires": "2030-01-01"}, "must be a number"),
        (GOOD | {"expires": [1]}, "must be a number"),
        (GOOD | {"name": ""}, "no name"),
        (GOOD | {"value": "hush\r\nX: y"}, "control character"),
        (GOOD | {"value": "hush\ud800"}, "control character"),
        (GOOD | {"domain": ""}, "no domain"),
        (GOOD | {"domain": ".com"}, "everybody below com"),
    ],
)
def test_json_that_is_no_cookie(wrong: object, why: str) -> None:
    """The same checks, by the cookie's place in the list."""
    with pytest.raises(UsageError, match=r"^--cookies f, cookie 2") as refused:
        read(json.dumps([GOOD, wrong]), "f")
    assert why in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("text", ["[", "{}", '{"cookies": 1}', "[" * 100_000, '{"a": NaN'])
def test_json_that_holds_none(text: str) -> None:
    """What only begins as JSON of cookies is refused in one sentence."""
    with pytest.raises(UsageError, match=r"^--cookies f[: ]"):
        read(text, "f")


class Clock:
    """A time to be set."""

    now = NOW

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


def cookies(path: Path, lines: Iterable[str], cookie_jar: str = "none") -> Cookies:
    """The cookies of a file of these lines."""
    path.write_text("\n".join(lines))
    return Cookies(SecretsConfig(cookies=str(path), cookie_jar=cookie_jar), Clock())  # type: ignore[arg-type]


def kept(clock: Clock | None = None) -> Cookies:
    """An empty jar."""
    return Cookies(SecretsConfig(cookie_jar="per-host"), clock or Clock())


def sent(found: Cookies, url: str, *, at_home: bool = True) -> str:
    """What goes with a request."""
    return found.header(check(url), at_home=at_home)


def test_the_files_are_sent_at_home_only(tmp_path: Path) -> None:
    """The user's go to the hosts they name, while the row is at home, and nowhere else."""
    found = cookies(
        tmp_path / "c", [line(".a.example", "TRUE"), line("b.example", name="b", end=str(NOW - 1)), line()]
    )
    assert sent(found, "http://www.a.example/") == "n=hush"
    assert sent(found, "http://a.example/") == "n=hush; n=hush"
    assert sent(found, "http://a.example/", at_home=False) == ""
    assert sent(found, "http://b.example/") == ""
    assert sent(found, "http://c.example/") == ""
    found.keep(check("http://c.example/"), ["x=1"])
    assert sent(found, "http://c.example/") == ""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"# only a comment\n", "holds no cookie that has not ended"),
        (line(end=str(int(NOW))).encode(), "holds no cookie that has not ended"),
        (b"[]", "holds no cookie that has not ended"),
    ],
)
def test_a_file_that_does_not_help(tmp_path: Path, content: bytes | None, why: str) -> None:
    """Who names a file of cookies wants them sent: without any, nothing is asked."""
    path = tmp_path / "c"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        Cookies(SecretsConfig(cookies=str(path)), Clock())
    assert why in str(refused.value)


def test_a_byte_order_mark_is_no_cookie(tmp_path: Path) -> None:
    """What Windows writes before a text is not part of it."""
    path = tmp_path / "c"
    path.write_text(NETSCAPE, encoding="utf-8", newline="")
    assert sent(Cookies(SecretsConfig(cookies=str(path)), Clock()), "http://www.a.example/") == "all=1"


def test_the_jar_keeps_each_for_itself() -> None:
    """What a host sets comes back to it, wherever the row began, and to no other; Domain shares with siblings."""
    found = kept()
    found.keep(
        check("https://www.a.example/x/y"), ["own=1", "all=2; Domain=a.example; Path=/", "b=3; Domain=b.example"]
    )
    for at_home in (True, False):
        assert sent(found, "https://www.a.example/x/z", at_home=at_home) == "own=1; all=2"
        assert sent(found, "http://img.a.example/", at_home=at_home) == "all=2"
        assert sent(found, "https://b.example/", at_home=at_home) == ""
        assert sent(found, "https://example/", at_home=at_home) == ""


def test_neighbours_below_a_public_suffix() -> None:
    """Two blogs of one provider are two owners, as are two addresses."""
    found = kept()
    found.keep(check("https://one.blogspot.com/"), ["a=1; Domain=blogspot.com", "b=2"])
    found.keep(check("http://127.0.0.1/"), ["c=3; Domain=127.0.0.1"])
    assert sent(found, "https://one.blogspot.com/") == "b=2"
    assert sent(found, "https://two.blogspot.com/") == sent(found, "https://blogspot.com/") == ""
    assert sent(found, "http://127.0.0.1:81/") == "c=3"
    assert sent(found, "http://127.0.0.2/") == ""


def test_the_jar_replaces_deletes_and_forgets() -> None:
    """The same cookie is replaced in its place; one that has ended is gone, and so is one that ends meanwhile."""
    clock = Clock()
    found = kept(clock)
    at = check("https://a.example/")
    found.keep(at, ["a=1", "b=1; Max-Age=5", "a=2"])
    assert found.header(at, at_home=True) == "a=2; b=1"
    clock.now += 5
    assert found.header(at, at_home=True) == "a=2"
    found.keep(at, ["a=; Max-Age=0", "b=; Max-Age=0"])
    assert found.header(at, at_home=True) == ""
    assert not found._jar


def test_a_server_replaces_what_the_file_says(tmp_path: Path) -> None:
    """A session that the server renews is sent in its new form; deleting it brings the file's back."""
    found = cookies(tmp_path / "c", [line(value="old")], "per-host")
    at = check("https://a.example/")
    found.keep(at, ["n=new; Path=/"])
    assert sent(found, "https://a.example/") == "n=new"
    found.keep(at, ["n=; Path=/; Max-Age=0"])
    assert sent(found, "https://a.example/") == "n=old"


def test_a_jar_does_not_open_the_file(tmp_path: Path) -> None:
    """Where the row has been led away to, a host has back what it set, and nothing of the file's beside it."""
    found = cookies(tmp_path / "c", [line()], "per-host")
    found.keep(check("https://a.example/"), ["own=1; Path=/"])
    assert sent(found, "https://a.example/") == "n=hush; own=1"
    assert sent(found, "https://a.example/", at_home=False) == "own=1"


def test_http_does_not_replace_https() -> None:
    """Whoever reads along on http cannot put a cookie in the place of one that is for https."""
    found = kept()
    found.keep(check("https://www.a.example/"), ["s=1; Secure; Domain=a.example; Path=/"])
    found.keep(check("http://www.a.example/"), ["s=2", "s=3; Domain=a.example; Path=/", "t=4; Path=/"])
    assert sent(found, "https://www.a.example/") == "s=1; t=4"
    assert sent(found, "http://www.a.example/") == "t=4"


def test_the_jar_is_bounded() -> None:
    """Ten thousand cookies of one host, and ten thousand hosts, leave what is newest."""
    found = kept()
    at = check("https://a.example/")
    found.keep(at, [f"n{n}=1" for n in range(10_000)])
    assert found.header(at, at_home=True) == "; ".join(f"n{n}=1" for n in range(10_000 - jar.MAX_OF_HOST, 10_000))
    found.keep(at, [f"big{n}=" + "x" * 4000 for n in range(jar.MAX_OF_HOST)])
    assert found.header(at, at_home=True).count("big") == 4
    assert sum(each.size for each in found._jar["a.example"].values()) <= jar.MAX_BYTES_OF_HOST


def test_ended_ones_go_first() -> None:
    """A cookie that has ended makes room before one that has not."""
    clock = Clock()
    found = kept(clock)
    at = check("https://a.example/")
    found.keep(at, ["keep=1", *(f"n{n}=1; Max-Age=5" for n in range(jar.MAX_OF_HOST - 1))])
    clock.now += 5
    found.keep(at, ["new=1"])
    assert found.header(at, at_home=True) == "keep=1; new=1"


def test_the_host_not_asked_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are bounded, too: asking one, or being set something by it, keeps it."""
    monkeypatch.setattr(jar, "MAX_HOSTS", 2)
    found = kept()
    for host in ("a", "b"):
        found.keep(check(f"https://{host}.example/"), ["n=1"])
    assert sent(found, "https://a.example/") == "n=1"
    found.keep(check("https://c.example/"), ["n=1"])
    assert [bool(sent(found, f"https://{host}.example/")) for host in "abc"] == [True, False, True]
