"""Redirect rules: where to, how often, and where not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import FetchFailed
from scraper.policies.redirects import follow
from scraper.policies.urls import check
from scraper.records import Request
from scraper.whatwg import normal


def at(url: str, *hops: str) -> Request:
    """A row in its second attempt, about to ask ``url``."""
    return Request(3, hops[0] if hops else url, target=url if hops else "", hops=hops, attempt=2, caption="c")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    """The five statuses of RFC 9110 15.4 that name one place lead there; the row stays the same row."""
    onward = follow(at("http://a.example/x"), status, "http://b.example/y", 20, 1.5)
    assert onward == Request(
        3,
        "http://a.example/x",
        caption="c",
        target="http://b.example/y",
        hops=("http://a.example/x",),
        attempt=2,
        spent_s=1.5,
    )
    assert onward.host == "b.example"


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
def test_other_statuses_are_not_followed(status: int) -> None:
    """A 3xx that is no redirect fails as its status, even with a Location."""
    assert failure("http://a.example/", "http://b.example/", status) == f"http.{status}"


@pytest.mark.parametrize(
    ("asked", "location", "target"),
    [
        ("http://a.example/b/c?q", "d", "http://a.example/b/d"),
        ("http://a.example/b/c?q", "../d", "http://a.example/d"),
        ("http://a.example/b/c", "../../../d", "http://a.example/d"),
        ("http://a.example/b/c", "/d?x=1", "http://a.example/d?x=1"),
        ("http://a.example/b/c?q", "?p", "http://a.example/b/c?p"),
        ("http://a.example", "b", "http://a.example/b"),
        ("https://a.example/b", "//c.example/d", "https://c.example/d"),
        ("https://a.example/b", "http://a.example/b", "http://a.example/b"),
        ("http://a.example/b", "HTTPS://C.example/d", "https://c.example/d"),
        ("http://a.example/b", "http://a.example:8080/b", "http://a.example:8080/b"),
        ("http://a.example/b", "http://[::1]:80/", "http://[::1]/"),
        ("http://a.example/b", "  /d\t", "http://a.example/d"),
        ("http://a.example/b", "/x y", "http://a.example/x%20y"),
        ("http://a.example/b", "/caf\udcc3\udca9", "http://a.example/caf%C3%A9"),
        ("http://a.example/b", "/caf\udce9|'", "http://a.example/caf%E9|'"),
        ("http://a.example/b", "http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://a.example/b", "/d\te", "http://a.example/de"),
        # As browsers read what is odd (WHATWG URL 4.4).
        ("http:\\\\A.example\\b\\c", "d", "http://a.example/b/d"),
        ("http://a.example/b", "\\\\c.example\\d", "http://c.example/d"),
        ("http://a.example/b/c", "\\d", "http://a.example/d"),
        ("https://a.example/b/c", "https:d", "https://a.example/b/d"),
        ("http://a.example/b/c", "https:d", "https://d/"),
        ("http://a.example/b", "http:///c.example/d", "http://c.example/d"),
        ("http://a.example/b", "///c.example/d", "http://c.example/d"),
        ("http://a.example/b", "/%2e%2e/d?", "http://a.example/d?"),
        ("http://a.example/b", "http://0x7f.1/", "http://127.0.0.1/"),
        ("http://a.example/b", "//c.example:80", "http://c.example/"),
        # Userinfo belongs to the host it was written before.
        ("http://u:p@a.example/b", "/d", "http://u:p@a.example/d"),
        ("http://u:p@a.example/b", "?q", "http://u:p@a.example/b?q"),
        ("http://u:p@a.example/b", "//a.example/d", "http://a.example/d"),
        ("http://u:p@a.example/b", "http://a.example/d", "http://a.example/d"),
        ("http://u:p@a.example/b", "http://c.example/d", "http://c.example/d"),
        ("http://u:p@a.example/b", "//v:q@c.example/d", "http://v:q@c.example/d"),
        ("http://a.example/b", "//a.example\\@c.example/d", "http://a.example/@c.example/d"),
        # RFC 9110 10.2.2: the fragment is inherited, unless the Location has one of its own.
        ("http://a.example/b#f", "/d", "http://a.example/d#f"),
        ("http://a.example/b#f", "/d#g", "http://a.example/d#g"),
        ("http://a.example/b", "/d#g", "http://a.example/d#g"),
        ("http://a.example/b#f g", "http://c.example/d", "http://c.example/d#f%20g"),
        ("http://a.example/b#f", "/d#", "http://a.example/d#"),
    ],
)
def test_location_is_resolved(asked: str, location: str, target: str) -> None:
    """A Location is resolved as browsers do against the URL that was asked, and is in normal form then."""
    assert follow(at(asked), 302, location, 20).asked == target


def test_a_later_hop_is_resolved_against_where_it_was_asked() -> None:
    """A relative Location belongs to the last hop, not to the row's own URL."""
    onward = follow(at("http://b.example/y/", "http://a.example/x"), 302, "z", 20)
    assert onward.asked == "http://b.example/y/z"
    assert onward.hops == ("http://a.example/x", "http://b.example/y/")


def failure(asked: str, location: str | None, status: int = 302) -> str:
    """The class of the failure to follow."""
    with pytest.raises(FetchFailed) as caught:
        follow(at(asked), status, location, 20)
    assert caught.value.status == status
    assert caught.value.message.endswith(".")
    return caught.value.class_


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "  ",
        "http://",
        "//",
        "https:",
        "http://[::1",
        "http://a b/",
        "http://256.1.1.1/",
        "http://c.example:0/",
        "http://a..b/",
        "//" + "a" * 64 + ".example/",
        "http://xn--0.example/",
        "/" + "x" * 40_000,
        "http://h:99999/",
        "http://h:x/",
        "http://:80/",
        "http://user@/",
        "/a\x00b",
        "/a\nb",
        "/a\r\nX-Evil: 1",
        "\x1bhttp://b.example/",
    ],
)
def test_a_location_that_is_no_url_is_malformed(location: str | None) -> None:
    """Missing, blank and broken Locations fail the row as the server's fault."""
    assert failure("http://a.example/", location) == "protocol.malformed"


@pytest.mark.parametrize(
    "location",
    [
        "ftp://b.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/plain,x",
        "gopher://b/",
        "mailto:a@b",
    ],
)
def test_only_http_is_followed(location: str) -> None:
    """A redirect to any other scheme is blocked."""
    assert failure("http://a.example/", location) == "redirect.blocked"


@pytest.mark.parametrize(
    "location",
    [
        "http://a.example/1",
        "http://b.example/2",
        "http://c.example/3",
        "#f",
        "http://a.example/1#g",
        "HTTP:\\\\A.example:80\\x\\..\\1",
        "//b.example/2",
    ],
)
def test_a_circle_is_a_loop(location: str) -> None:
    """A URL that was asked in this attempt is not asked again; the fragment makes no difference."""
    here = at("http://c.example/3", "http://a.example/1", "http://b.example/2")
    with pytest.raises(FetchFailed) as caught:
        follow(here, 301, location, 20)
    assert caught.value.class_ == "redirect.loop"


@pytest.mark.parametrize("asked", ["HTTP:A.example/b#f", "http://a.example:80/x/../b", "http://a.example/\tb"])
def test_a_circle_is_one_however_the_list_spells_it(asked: str) -> None:
    """The row's own URL is not asked again in its normal form."""
    assert failure(asked, "http://a.example/b") == "redirect.loop"


@pytest.mark.parametrize("location", ["http://c.example/~3", "http://c.example/3?", "https://c.example/3"])
def test_another_spelling_on_the_wire_is_no_circle(location: str) -> None:
    """Servers redirect from one encoding to another of what means the same; that leads somewhere."""
    here = at("http://c.example/%7E3", "http://a.example/1")
    assert follow(here, 301, location, 20).asked == location


@pytest.mark.parametrize(
    ("asked", "location", "followed"),
    [
        ("https://a.example/", "http://a.example/", False),
        ("HTTPS:a.example", "http://b.example/", False),
        ("https://a.example/", "//b.example/", True),
        ("https://a.example/", "/b", True),
        ("http://a.example/", "http://b.example/", True),
        ("http://a.example/", "https://b.example/", True),
    ],
)
def test_from_https_to_http_by_policy(asked: str, location: str, followed: bool) -> None:
    """Unless downgrades are allowed, which they are by default, they are blocked, and nothing else is."""
    assert follow(at(asked), 302, location, 20).asked == follow(at(asked), 302, location, 20, downgrade=True).asked
    if followed:
        assert follow(at(asked), 302, location, 20, downgrade=False).asked
        return
    with pytest.raises(FetchFailed, match="from https to http") as caught:
        follow(at(asked), 302, location, 20, downgrade=False)
    assert caught.value.class_ == "redirect.blocked"


@given(st.text(max_size=30) | st.text("/\\:@?#.%[]ahtps 1\t", max_size=30))
def test_any_location_ends_in_order(location: str) -> None:
    """Whatever a server sends is a classed failure, or leads to a URL that is dialled as it stands."""
    try:
        target = follow(at("http://u:p@a.example/b/c?d"), 302, location, 20).asked
    except FetchFailed as failed:
        ended = failed.class_
    else:
        ended = "followed"
        assert normal(target) == target
        assert check(target).raw_host
    assert ended in {"followed", "protocol.malformed", "redirect.blocked", "redirect.loop"}


@pytest.mark.parametrize("most", [0, 1, 20])
def test_hops_are_counted(most: int) -> None:
    """``max_redirects`` hops are followed, and the next is a loop."""
    request = at("http://a.example/0")
    for n in range(1, most + 1):
        request = follow(request, 302, f"/{n}", most)
    assert request.asked == f"http://a.example/{most}"
    with pytest.raises(FetchFailed) as caught:
        follow(request, 302, "/on", most)
    assert caught.value.class_ == "redirect.loop"


def test_a_new_attempt_starts_from_the_row() -> None:
    """Hops belong to an attempt: after a retry the same way may be gone again."""
    again = follow(at("http://a.example/0"), 302, "/1", 20).again()
    assert follow(again, 302, "/1", 20).hops == ("http://a.example/0",)
