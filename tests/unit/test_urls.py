"""Which URLs are dialled, and what the others are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import FetchFailed
from scraper.policies.urls import MAX_LENGTH, check


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
        ("http://user:word@example.com/", "http://user:word@example.com/"),
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
        ("http://[::1/", "no URL"),
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
