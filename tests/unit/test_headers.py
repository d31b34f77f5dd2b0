"""What is sent and what is kept of headers, as a table."""

from __future__ import annotations

import pytest

from scraper.config import FetchConfig
from scraper.policies.headers import conditions, own_headers, plain, said_by_user
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
    """The user's headers replace ours, whatever their case."""
    config = FetchConfig("me/1", headers={"user-AGENT": "mine/2", "X-Key": "k"})
    assert request_headers(config, "image/*", "identity") == {
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "user-AGENT": "mine/2",
        "X-Key": "k",
    }


def test_what_is_kept() -> None:
    """Names in lower case, the first value of each, and no bytes that are no text."""
    assert plain({"ETag": '"a1"', "X-Raw": "caf\udce9"}) == {"etag": '"a1"', "x-raw": "caf\ufffd"}
