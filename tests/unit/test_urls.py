"""Which URLs are dialled, and what the others are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import FetchFailed
from scraper.policies.urls import MAX_LENGTH, check, sameness


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("http://example.com/x.jpg", "http://example.com/x.jpg"),
        ("  https://example.com/x.jpg\r\n", "https://example.com/x.jpg"),
        ("HTTPS://Example.COM:443/A?b=C#d", "https://example.com/A?b=C#d"),
        ("http://example.com", "http://example.com"),
        ("http://example.com?q=1", "http://example.com/?q=1"),
        ("http://bücher.example/ü?q=ö", "http://xn--bcher-kva.example/%C3%BC?q=%C3%B6"),
        ("http://example.com/a%20b%2Fc", "http://example.com/a%20b%2Fc"),
        ("http://example.com/a|b[c]", "http://example.com/a%7Cb%5Bc%5D"),
        ("http://example.com:8080/", "http://example.com:8080/"),
        ("http://example.com./", "http://example.com./"),
        ("http://under_score.example/", "http://under_score.example/"),
        ("http://-edge-.example/", "http://-edge-.example/"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
        ("http://XN--QEI.example/", "http://xn--qei.example/"),  # a heart, which IDNA 2003 allowed
        ("http://A.❤.Example/", "http://a.xn--qei.example/"),
        ("http://user:word@example.com/", "http://user:word@example.com/"),
        ("http://us:er:word@[::1]:0080/", "http://us:er%3Aword@[::1]/"),
        ("http://127.0.0.1:80/", "http://127.0.0.1/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://localhost:8000/", "http://localhost:8000/"),
    ],
)
def test_what_is_dialled(url: str, dialled: str) -> None:
    """Good URLs come back quoted, with an ASCII host and without the scheme's own port."""
    assert str(check(url)) == dialled


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("example.com/x.jpg", "has no scheme: write https://example.com/x.jpg."),
        ("//example.com/x.jpg", "has no scheme: write https://example.com/x.jpg."),
        ("example.com:8080/x", "has no scheme"),
        ("localhost:8080/x", "has no scheme"),
        ("http", "has no scheme"),
        ("http:/example.com", "write http:// and then the host"),
        ("https:example.com", "write https:// and then the host"),
        ("http:\\\\example.com\\x", "write http:// and then the host"),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://:80/x", "host"),
        ("http://user@/x", "host"),
        ("http://h\\@evil.example/", "backslash"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:65536/", "ort"),
        ("http://example.com:http/", "ort"),
        ("http://example.com:-1/", "ort"),
        ("http://example.com:+80/", "port that is a number"),
        ("http://example.com:8_0/", "port that is a number"),
        ("http://user:word@example.com:\u0668/", "port that is a number"),
        ("http://[::1]:x/", "port that is a number"),
        ("http://[::1/", "no URL"),
        ("http://[:::]/", "no IPv6 address"),
        ("http://[1::2::3]/", "no IPv6 address"),
        ("http://[::g]/", "no IPv6 address"),
        ("http://[v1.x]/", "no IPv6 address"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://exa mple.com/", "' ' inside the URL: write %20"),
        ("http://example.com/a b.jpg", "' ' inside the URL: write %20"),
        ("http://example.com/a\tb", "inside the URL: write %09"),
        ("http://example.com/a\r\nHost: x", "inside the URL: write %0D"),
        ("http://example.com/\x00", "inside the URL: write %00"),
        ("http://example.com/\u2028", "inside the URL: write %E2%80%A8"),
        ("http://example.com/\udcff", "inside the URL: write %FF"),
        ("http://\ud800.example/", "inside the URL"),
        ("http://a..b/", "no valid host name"),
        ("http://%00.example/", "no valid host name"),
        ("http://ex%61mple.com/", "no valid host name"),
        ("http://" + "a" * 64 + ".example/", "no valid host name"),
        ("http://xn--/", "no valid international host name"),
        ("http://xn--a.example/", "no valid international host name"),
        ("http://xn--abc-.example/", "no valid international host name"),
        ("http://sub.XN--0.example/", "no valid international host name"),
        ("http://XN--0.❤.example/", "no valid international host name"),
        ("http://" + "a." * 130 + "example/", "no valid host name"),
        ("http://127.1/", "IPv4 address in dotted form"),
        ("http://2130706433/", "IPv4 address in dotted form"),
        ("http://0x7f.0.0.1/", "IPv4 address in dotted form"),
        ("http://0177.0.0.1/", "IPv4 address in dotted form"),
        ("http://01.2.3.4/", "IPv4 address in dotted form"),
        ("http://256.0.0.1/", "IPv4 address in dotted form"),
        ("http://1.2.3.4.5/", "IPv4 address in dotted form"),
        ("http://example.com/" + "x" * MAX_LENGTH, "the longest"),
    ],
)
def test_what_is_no_url(url: str, says: str) -> None:
    """Each way of being no URL is url.invalid with a sentence that helps, of bounded length."""
    with pytest.raises(FetchFailed) as failed:
        check(url)
    assert failed.value.class_ == "url.invalid"
    assert says in failed.value.message
    assert len(failed.value.message) < 200
    assert failed.value.message.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "file:///etc/passwd",
        "data:text/plain,x",
        "javascript:alert(1)",
        "mailto:x@y.example",
    ],
)
def test_other_schemes(url: str) -> None:
    """Only http and https are fetched; a known scheme is named as the reason."""
    with pytest.raises(FetchFailed) as failed:
        check(url)
    assert failed.value.class_ == "url.scheme"


def test_no_password_in_messages() -> None:
    """A message never repeats the userinfo of a URL."""
    with pytest.raises(FetchFailed) as failed:
        check("http://user:secret@example.com:99999/")
    assert "secret" not in str(failed.value)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://a.example/", "http://["]))
def test_any_text_ends_in_order(text: str, before: str) -> None:
    """Any text is a URL or a classed failure; and a URL that is dialled stays what it is when checked again."""
    try:
        url = check(before + text)
    except FetchFailed as failed:
        ended = failed.class_
    else:
        ended = "dialled"
        assert url.raw_host
        assert check(str(url)) == url
    assert ended in {"dialled", "url.invalid", "url.scheme"}


@pytest.mark.parametrize(
    "others",
    [
        ("http://example.com", "HTTP://Example.COM:80/", "http://example.com/#top", "http://example.com:/?"),
        ("http://bücher.example/a", "http://BÜCHER.example/a", "http://xn--bcher-kva.example/a"),
        ("http://h.example/%7Ea/b", "http://h.example/~a/b", "http://h.example/x/../%7ea/./b"),
        ("http://h.example/%C3%BC", "http://h.example/%c3%bc", "http://h.example/ü"),
        ("http://h.example/a?b=%41", "http://h.example/a?b=A", " http://h.example/a?b=A#c "),
        ("http://[::1]/", "http://[0:0:0:0:0:0:0:1]:80"),
        ("https://h.example:443/a", "https://h.example/a"),
    ],
)
def test_the_same_is_asked(others: tuple[str, ...]) -> None:
    """URLs that differ in what RFC 3986 6.2.2 and 6.2.3 call the same, and in their fragments, have one digest."""
    assert len({sameness(url) for url in others}) == 1


def test_something_else_is_asked() -> None:
    """What may be another resource has another digest: paths by case, queries by order, captions, columns."""
    digests = [
        sameness("http://h.example/a"),
        sameness("http://h.example/A"),
        sameness("http://h.example/a/"),
        sameness("http://h.example//a"),
        sameness("https://h.example/a"),
        sameness("http://h.example:8080/a"),
        sameness("http://www.h.example/a"),
        sameness("http://user@h.example/a"),
        sameness("http://h.example/a?b=1&c=2"),
        sameness("http://h.example/a?c=2&b=1"),
        sameness("http://h.example/a?b=1&c=%32%26"),
        sameness("http://h.example/a?b=1+1"),
        sameness("http://h.example/a?b=1%201"),
        sameness("http://h.example/a%2Fb"),
        sameness("http://h.example/a/b"),
        sameness("http://h.example/a", ""),
        sameness("http://h.example/a", "a lake"),
        sameness("http://h.example/a", "a lake", {"n": 1}),
        sameness("http://h.example/a", "a lake", {"n": "1"}),
        sameness("http://h.example/a", None, {"n": 1}),
        sameness("http://h.example/a", None, {"n": None}),
        sameness("http://h.example/a", None, {"caption": "\udcff"}),
        sameness("http://h.example/a", None, {"n": [1, {"m": 2}]}),
    ]
    assert None not in digests
    assert len(set(digests)) == len(digests)
    assert {len(each) for each in digests if each is not None} == {16}


def test_columns_in_any_order() -> None:
    """Columns are a mapping: their order says nothing."""
    url = "http://h.example/a"
    assert sameness(url, "c", {"a": 1, "b": 2}) == sameness(url, "c", {"b": 2, "a": 1})


@pytest.mark.parametrize(
    "url", ["", "ftp://h.example/", "http://1.2.3/", "http://h/" + "x" * MAX_LENGTH, "http://a..b/"]
)
def test_what_is_not_dialled_is_the_same_as_nothing(url: str) -> None:
    """Rows that cannot be asked fail each by itself."""
    assert sameness(url) is None


_PIECES = [
    "a",
    "b.example",
    ".",
    "/",
    "//",
    "/.",
    "..",
    "?",
    "#",
    "%41",
    "%2f",
    "xn--",
    "1.2.3.4",
    "=",
    ":80",
    "@",
    "A",
    "é",
]


@given(
    st.lists(st.sampled_from(_PIECES), max_size=8).map("".join),
    st.sampled_from(["http://h/", "https://", "http://h.example"]),
)
def test_sameness_is_of_what_is_dialled(text: str, before: str) -> None:
    """For any URL: the digest is that of the URL as it is dialled, and there is none where none is."""
    try:
        dialled = str(check(before + text))
    except FetchFailed:
        dialled = ""
    assert sameness(before + text) == sameness(dialled)
    assert (sameness(before + text) is None) == (dialled == "")
