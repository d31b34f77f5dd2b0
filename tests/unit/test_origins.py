"""What is one place, as a table; and that what leads elsewhere never reads as home, whatever it is made of."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scraper.errors import FetchFailed
from scraper.policies.headers import userinfo
from scraper.policies.origins import is_at_home, origin
from scraper.policies.redirects import follow
from scraper.policies.urls import check
from scraper.records import Request

HOME = "https://a.example/x"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://a.example/x", "https://a.example"),
        ("HTTPS://A.Example:443/", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443/", "http://a.example:443"),
        ("https://u:p@a.example:8443/", "https://a.example:8443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("http://0x7f.1/", "http://127.0.0.1"),
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example"),
        ("https://a.example./", "https://a.example."),
        ("http:\\\\a.example\\x", "http://a.example"),
        (" ht\ttp://a.example", "http://a.example"),
        ("http://b.example\\@a.example/", "http://b.example"),
        ("ftp://a.example/", ""),
        ("a.example", ""),
        ("http:///", ""),
        ("", ""),
    ],
)
def test_an_origin_is_where_a_url_is_dialled(url: str, found: str) -> None:
    """Scheme, host and port in the form that is dialled; nothing for what is not."""
    assert origin(url) == found


@pytest.mark.parametrize(
    ("hops", "home"),
    [
        ((), True),
        (("/y",), True),
        (("https://A.EXAMPLE:443/y", "https:\\\\a.example/z"), True),
        (("https://u:p@a.example/y",), True),
        (("https://b.example/",), False),
        (("http://a.example/y",), False),
        (("https://a.example:8443/y",), False),
        (("https://www.a.example/y",), False),
        (("https://a.example./y",), False),
        (("https://b.example/", "https://a.example/y"), False),
        (("http://a.example/y", "https://a.example/y"), False),
        (("/y", "//b.example/", "/z", HOME + "z", "/zz"), False),
        (("https://b.example\\@a.example/",), False),
        (("https://a.example%2f@b.example/",), False),
    ],
)
def test_at_home(hops: tuple[str, ...], home: bool) -> None:
    """Home is one scheme, host and port, and who has left it does not come back in the same attempt."""
    request = Request(0, HOME)
    for location in hops:
        request = follow(request, 302, location, 20)
    assert is_at_home(request) is home
    assert is_at_home(request.again())
    assert is_at_home(request.uncounted())


def test_a_target_is_not_taken_for_the_row() -> None:
    """What is asked counts, not how few hops are known to have led there."""
    assert not is_at_home(Request(0, HOME, target="https://b.example/"))
    assert not is_at_home(Request(0, "nowhere", target="nowhere else", hops=("nowhere",)))


PIECES = st.sampled_from(
    [
        "http:",
        "https:",
        "/",
        "//",
        "\\",
        "@",
        ":",
        "a.example",
        "b.example",
        "u:p",
        "?",
        "#",
        ".",
        "%2f",
        "%40",
        "\t",
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
@example("//b.example\\@a.example/")
@example("http:y")
@example("https:y")
def test_wherever_a_location_leads(location: str) -> None:
    """At home means the host dialled is the row's; and the row's user and password go with no other host."""
    request = Request(0, "https://me:hush@a.example/x")
    try:
        request = follow(request, 302, location, 20)
        dialled = check(request.asked)
    except FetchFailed:
        return
    at_home = (dialled.scheme, dialled.raw_host, dialled.port) == ("https", "a.example", 443)
    assert is_at_home(request) is at_home
    if not at_home:
        assert userinfo(dialled) != (b"me", b"hush")
