"""What is sent and what is kept of headers, as a table."""

from __future__ import annotations

import pytest

from scraper.config import FetchConfig
from scraper.errors import UsageError
from scraper.policies.headers import basic, conditions, own_headers, plain, said_by_user, userinfo
from scraper.policies.urls import check
from scraper.records import Held, Request

URL = "http://a.example/x.jpg"
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def asked(held: Held | None, **headers: str) -> dict[str, str]:
    """What is asked of the row's own URL."""
    return conditions(Request(0, URL, held=held), FetchConfig("test", headers=headers))


@pytest.mark.parametrize(
    ("etag", "last_modified", "sent"),
    [
        ('"a1"', DATE, {"If-None-Match": '"a1"', "If-Modified-Since": DATE}),
        ('W/"a1"', "", {"If-None-Match": 'W/"a1"'}),
        ('""', "", {"If-None-Match": '""'}),
        ("", DATE, {"If-Modified-Since": DATE}),
        ("", "Wednesday, 21-Oct-15 07:28:00 GMT", {"If-Modified-Since": "Wednesday, 21-Oct-15 07:28:00 GMT"}),
        ("", "Wed Oct 21 07:28:00 2015", {"If-Modified-Since": "Wed Oct 21 07:28:00 2015"}),
        ("", "", {}),
        ("*", "", {}),
        ("a1", "", {}),
        ('w/"a1"', "", {}),
        ('"a1", "b2"', "", {}),
        ('"caf\u00e9"', "", {}),
        ('"a\r\nX: y"', "", {}),
        ('"a1"\n', "", {}),
        ("", "yesterday", {}),
        ("", "0", {}),
        ("", "-1", {}),
        ("", "Wed, 31 Feb 2015 07:28:00 GMT", {}),
        ("", "Wed, 21 Oct 2015 07:28:00 +0200", {}),
        ("", DATE + "\r\nX: y", {}),
        ("", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT", {}),
    ],
)
def test_what_is_asked(etag: str, last_modified: str, sent: dict[str, str]) -> None:
    """An entity tag and a date are sent as they came if they are such, and otherwise not at all."""
    assert asked(Held(URL, etag, last_modified)) == sent


def test_nothing_is_asked_without_a_copy() -> None:
    """A row that is new asks for the whole."""
    assert asked(None) == {}


def test_only_where_the_copy_came_from() -> None:
    """Validators go to the URL whose response they were part of, and to no other hop."""
    held = Held("http://b.example/y.jpg", '"a1"')
    config = FetchConfig("test")
    first = Request(0, URL, held=held)
    assert conditions(first, config) == {}
    assert conditions(first.redirected("http://b.example/y.jpg", 0.1), config) == {"If-None-Match": '"a1"'}
    assert conditions(first.redirected("http://b.example/z.jpg", 0.1), config) == {}


@pytest.mark.parametrize(
    "name", ["If-None-Match", "if-modified-since", "IF-MATCH", "If-Unmodified-Since", "If-Range"]
)
def test_the_users_own_conditions_stand(name: str) -> None:
    """Who sends a condition of their own is not talked into."""
    assert asked(Held(URL, '"a1"', DATE), **{name: "x"}) == {}
    assert asked(Held(URL, '"a1"'), Accept="x") == {"If-None-Match": '"a1"'}


def test_what_is_sent_with_every_request() -> None:
    """Who we are and what we take is no secret; what the user says is another matter, and kept as it was said."""
    config = FetchConfig("me/1", headers={"user-AGENT": "mine/2", "X-Key": "k"})
    assert own_headers(config, "image/*", "identity") == {
        "User-Agent": "me/1",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
    }
    assert said_by_user(config) == {"user-AGENT": "mine/2", "X-Key": "k"}


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rb", "a\0b", "a\x0bb", "a\x7f", "caf\udce9"])
def test_no_header_holds_another(value: str) -> None:
    """What would end a header's line, or cannot be sent, is refused before anything is asked, and not repeated."""
    for say in (
        lambda: said_by_user(FetchConfig("me/1", headers={"X-Key": f"hush{value}"})),
        lambda: own_headers(FetchConfig(f"hush{value}"), "*/*", "identity"),
        lambda: own_headers(FetchConfig("me/1"), f"hush{value}", "identity"),
    ):
        with pytest.raises(UsageError, match="holds a line break, a control character") as refused:
            say()
        assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "X Key", "X:Key", "X\r\nY", "X-K\u00e9y", "X\0"])
def test_no_name_holds_another(name: str) -> None:
    """The same of names."""
    with pytest.raises(UsageError, match="is no name of a header"):
        said_by_user(FetchConfig("me/1", headers={name: "x"}))


def test_a_header_in_two_spellings() -> None:
    """A header is said once: of two, a server may take either."""
    with pytest.raises(UsageError, match="given twice"):
        said_by_user(FetchConfig("me/1", headers={"X-Key": "a", "x-key": "b"}))


def test_what_is_for_a_proxy_stays_there() -> None:
    """Credentials for a proxy as a header would go to every server; the refusal says where to write them."""
    with pytest.raises(UsageError, match="into the proxy's URL"):
        said_by_user(FetchConfig("me/1", headers={"proxy-AUTHORIZATION": "Basic hush"}))


@pytest.mark.parametrize(
    ("url", "both"),
    [
        ("http://a.example/", None),
        ("http://@a.example/", None),
        ("http://u:p@a.example/", (b"u", b"p")),
        ("http://u@a.example/", (b"u", b"")),
        ("http://:p@a.example/", (b"", b"p")),
        ("http://u:p:q@a.example/", (b"u", b"p:q")),
        ("http://u%40b:p%2Fq%0D%0A@a.example/", (b"u@b", b"p/q\r\n")),
        ("http://caf\u00e9:p%FF@a.example/", (b"caf\xc3\xa9", b"p\xff")),
    ],
)
def test_userinfo(url: str, both: tuple[bytes, bytes] | None) -> None:
    """User and password are the bytes that the URL encodes, whichever they are."""
    assert userinfo(check(url)) == both


def test_basic() -> None:
    """RFC 7617's own example; line breaks are bytes like any other; a colon in the user has no place."""
    assert basic(b"Aladdin", b"open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert basic(b"u", b"\r\nX: y" * 40).isprintable()
    with pytest.raises(ValueError, match="colon"):
        basic(b"a:b", b"")


def test_what_is_kept() -> None:
    """Names in lower case, the first value of each, and no bytes that are no text."""
    assert plain({"ETag": '"a1"', "X-Raw": "caf\udce9"}) == {"etag": '"a1"', "x-raw": "caf\ufffd"}
