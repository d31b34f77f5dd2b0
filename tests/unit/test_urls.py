"""Which URLs are dialled, and what the others are told."""

from __future__ import annotations

import asyncio
import re
import string
from urllib.parse import unquote

import ada_url
import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import example, given
from hypothesis import strategies as st

from scraper.errors import FetchFailed
from scraper.policies.urls import canonical, check, sameness
from scraper.records import Request
from scraper.whatwg import MAX_LENGTH, place_of

SAME = "the same"

DIALLED = [
    # Nothing to change.
    ("http://example.com/x.jpg", SAME),
    ("https://example.com/a/b;c=1,2/d?e=f&g=h:i@j/k?l", SAME),
    ("https://example.com/(a)!$&'*+,;=:@~-_.b", SAME),
    ("http://example.com//a//b", SAME),
    ("http://localhost:8000/", SAME),
    ("http://h/", SAME),
    # White space round it, tabs and line breaks within: taken out (4.4, 1 to 3).
    ("  https://example.com/x.jpg\r\n", "https://example.com/x.jpg"),
    ("\x00\x1f http://h/\x0b\x00", "http://h/"),
    ("ht\ntp://h/", "http://h/"),
    ("http:\t//h/", "http://h/"),
    ("http:/\r/h/", "http://h/"),
    ("http://a\tb/", "http://ab/"),
    ("http://h/a\tb\r\nc", "http://h/abc"),
    ("http://h:8\n0/", "http://h/"),
    ("http://h/a\r\nHost: evil\r\n\r\n", "http://h/aHost:%20evil"),
    ("http://h/?a\r\nX: y", "http://h/?aX:%20y"),
    # Scheme and slashes (4.4, special authority slashes).
    ("HTTPS://Example.COM:443/A?b=C#d", "https://example.com/A?b=C#d"),
    ("http:\\\\h\\p\\q", "http://h/p/q"),
    ("http:/h/p", "http://h/p"),
    ("http:h/p", "http://h/p"),
    ("https:example.com", "https://example.com/"),
    ("http:////h/", "http://h/"),
    ("http:\\/\\h", "http://h/"),
    ("http:///x", "http://x/"),
    ("http://h\\@x/", "http://h/@x/"),
    ("http://a@b\\c/", "http://a@b/c/"),
    ("http://h/\\..\\x", "http://h/x"),
    ("http://h?a\\b", "http://h/?a\\b"),
    # Paths: dot segments in every spelling, and what is encoded in them (1.3, path percent-encode set).
    ("http://example.com", "http://example.com/"),
    ("http://example.com?q=1", "http://example.com/?q=1"),
    ("http://example.com#f", "http://example.com/#f"),
    ("http://h/a/../b/./c", "http://h/b/c"),
    ("http://h/../../a", "http://h/a"),
    ("http://h/%2e%2E/x/.%2e/y/%2e", "http://h/y/"),
    ("http://h/a/..", "http://h/"),
    ("http://h/.../a.", SAME),
    ("http://h/..%2fa", SAME),
    ("http://h/a b.jpg", "http://h/a%20b.jpg"),
    ('http://h/"#"', "http://h/%22#%22"),
    ("http://h/<a>`{b}^", "http://h/%3Ca%3E%60%7Bb%7D%5E"),
    ("http://h/a|b[c]'d", SAME),
    ("http://h/%zz%4/%", SAME),
    ("http://h/%c3%BC%7e", SAME),
    ("http://h/a%20b%2Fc%00", SAME),
    ("http://h/\x00a", "http://h/%00a"),
    ("http://h/\x1b[2J", "http://h/%1B[2J"),
    ("http://h/\x7f\x80", "http://h/%7F%C2%80"),
    ("http://h/ü/世", "http://h/%C3%BC/%E4%B8%96"),
    ("http://h/\u2028\u202e", "http://h/%E2%80%A8%E2%80%AE"),
    ("http://h/\U0001f600", "http://h/%F0%9F%98%80"),
    ("http://h/a;b", SAME),
    # Queries (special-query percent-encode set) and fragments.
    ("http://h/?a=b c&d=\"e\"<f>'g'", "http://h/?a=b%20c&d=%22e%22%3Cf%3E%27g%27"),
    ("http://h/?`{|}^[]\\", SAME),
    ("http://h/?a='b'", "http://h/?a=%27b%27"),
    ("http://h/?q=ö#ä", "http://h/?q=%C3%B6#%C3%A4"),
    ("http://h/?a=%41+%zz", SAME),
    ("http://h/??#?#", SAME),
    ("http://h/?../..", SAME),
    ("http://h/?", "http://h/"),
    ("http://h/#", "http://h/"),
    ("http://h/# `<>\"'", "http://h/#%20%60%3C%3E%22'"),
    # Ports (4.4, port state).
    ("http://h:/", "http://h/"),
    ("http://h:80/", "http://h/"),
    ("https://h:443", "https://h/"),
    ("http://h:443/", SAME),
    ("https://h:80/", SAME),
    ("http://h:00080/", "http://h/"),
    ("http://h:0008080", "http://h:8080/"),
    ("http://h:65535/", SAME),
    ("http://[::1]:0080/", "http://[::1]/"),
    # Userinfo (userinfo percent-encode set).
    ("http://user:word@h/", SAME),
    ("http://user@evil@h/", "http://user%40evil@h/"),
    ("http://a:b@c:d@h/", "http://a:b%40c%3Ad@h/"),
    ("http://us:er:w d|^@h/", "http://us:er%3Aw%20d%7C%5E@h/"),
    ("http://@h/", "http://h/"),
    ("http://:@h/", "http://h/"),
    ("http://user:@h/", "http://user@h/"),
    ("http://:word@h/", SAME),
    ("http://h:@x/", "http://h@x/"),
    ("http://x;@h/", "http://x%3B@h/"),
    ("http://ü:%zz@h/", "http://%C3%BC:%zz@h/"),
    ("http://h#@x/", "http://h/#@x/"),
    ("http://h?@x/", "http://h/?@x/"),
    ("http://h/@x", SAME),
    # Host names: percent-decoded, then UTS 46 (3.3, 3.5).
    ("http://%68%6F%73%74/", "http://host/"),
    ("http://ex%61mple.COM/", "http://example.com/"),
    ("http://%C3%BC.example/", "http://xn--tda.example/"),
    ("http://bücher.example/ü?q=ö", "http://xn--bcher-kva.example/%C3%BC?q=%C3%B6"),
    ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
    ("http://xn--bcher-kva.example/", SAME),
    ("http://XN--QEI.example/", "http://xn--qei.example/"),  # a heart, which IDNA 2008 has not
    ("http://A.❤.Example/", "http://a.xn--qei.example/"),
    ("http://faß.de/", "http://xn--fa-hia.de/"),
    ("http://日本語。jp/", "http://xn--wgv71a119e.jp/"),
    ("http://\uff27\uff2f.com/", "http://go.com/"),
    ("http://\u212aelvin.example/", "http://kelvin.example/"),
    ("http://a\u0308.example/", "http://xn--4ca.example/"),
    ("http://a\u00adb.example/", "http://ab.example/"),
    ("http://\u200bh.example/", "http://h.example/"),
    ("http://under_score.example/", SAME),
    ("http://-edge-.example/", SAME),
    ("http://r3---sn-4g5.example/", SAME),
    ("http://example.com./", SAME),
    ('http://a"b/', SAME),
    ("http://a{b}*c,d/", SAME),
    ("http://1.2.3.4.example/", SAME),
    ("http://1e3/", SAME),
    ("http://" + ".".join(["a" * 63] * 3) + "." + "b" * 61 + "/", SAME),
    ("http://" + ".".join(["a" * 63] * 3) + "." + "b" * 61 + "./", SAME),
    # IPv4 addresses in every spelling (3.5, IPv4 parser).
    ("http://127.0.0.1:80/", "http://127.0.0.1/"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://127.1/", "http://127.0.0.1/"),
    ("http://127.0.1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://0x7F000001/", "http://127.0.0.1/"),
    ("http://017700000001/", "http://127.0.0.1/"),
    ("http://0177.0.0.0x1/", "http://127.0.0.1/"),
    ("http://01.2.3.4/", "http://1.2.3.4/"),
    ("http://1.2.3.4./", "http://1.2.3.4/"),
    ("http://0x/", "http://0.0.0.0/"),
    ("http://0/", "http://0.0.0.0/"),
    ("http://4294967295/", "http://255.255.255.255/"),
    ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
    ("http://\uff11\uff12\uff17.0.0.1/", "http://127.0.0.1/"),
    ("http://①②⑦.1/", "http://127.0.0.1/"),
    # IPv6 addresses (3.5, IPv6 parser and serializer).
    ("http://[::1]:8080/x", SAME),
    ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
    ("http://[::127.0.0.1]/", "http://[::7f00:1]/"),
    ("http://[::FFFF:7f00:1]/", "http://[::ffff:7f00:1]/"),
    ("http://[1:0:0:2:0:0:0:3]/", "http://[1:0:0:2::3]/"),
    ("http://[2001:DB8::01]/", "http://[2001:db8::1]/"),
    ("http://u:p@[::1]:81/", SAME),
]


@pytest.mark.parametrize(("text", "dialled"), DIALLED)
def test_what_is_dialled(text: str, dialled: str) -> None:
    """A URL that the standard accepts is dialled in the standard's normal form."""
    assert str(check(text)) == (text if dialled == SAME else dialled)


REFUSED = [
    ("", "empty"),
    (" \x00\t\n", "empty"),
    ("example.com/x.jpg", "has no scheme: write https://example.com/x.jpg."),
    ("//example.com/x.jpg", "has no scheme: write https://example.com/x.jpg."),
    ("://example.com/x.jpg", "has no scheme: write https://example.com/x.jpg."),
    ("example.com:8080/x", "has no scheme"),
    ("example.com:x", "has no scheme"),
    ("localhost:8080/x", "has no scheme"),
    ("localhost:8080", "has no scheme"),
    ("a@example.com/x", "has no scheme"),
    ("http", "has no scheme"),
    ("/x.jpg", "has no scheme"),
    ("\ufeffhttp://h/", "'\\ufeff' stands before the URL"),
    ('"https://h/"', "stands before the URL"),
    ("\u3000<http://h/>", "stands before the URL"),
    ("http:", "names no host"),
    ("http://", "names no host"),
    ("http:///", "names no host"),
    ("http:?q", "names no host"),
    ("http://#f", "names no host"),
    ("http://:80/x", "names no host"),
    ("http://user@/x", "names no host"),
    ("http://user:word@:80", "names no host"),
    ("http://h:0/", "port 0"),
    ("http://h:000/", "port 0"),
    ("http://h:65536/", "port above 65535"),
    ("http://h:" + "9" * 9000 + "/", "port above 65535"),
    ("http://h:http/", "port that is a number"),
    ("http://h:-1/", "port that is a number"),
    ("http://h:+80/", "port that is a number"),
    ("http://h:8_0/", "port that is a number"),
    ("http://h:8 0/", "port that is a number"),
    ("http://h:\u0668/", "port that is a number"),
    ("http://[::1]:x/", "port that is a number"),
    ("http://x[::1]/", "port that is a number"),
    ("http://h:1:2/", "port that is a number"),
    ("http://user:wo/rd@h/", "write %2F, %3F or %23"),
    ("http://user:wo#rd@h/", "write %2F, %3F or %23"),
    ("http://[::1/", "closing bracket"),
    ("http://[::1]x/", "follow the brackets"),
    ("http://[]/", "no IPv6 address"),
    ("http://[:::]/", "no IPv6 address"),
    ("http://[1::2::3]/", "no IPv6 address"),
    ("http://[::g]/", "no IPv6 address"),
    ("http://[v1.x]/", "no IPv6 address"),
    ("http://[1.2.3.4]/", "no IPv6 address"),
    ("http://[::1.2.3]/", "no IPv6 address"),
    ("http://[fe80::1%25eth0]/", "zone"),
    ("http://exa mple.com/", "' ' cannot stand in a host name"),
    ("http://%00.example/", "'\\x00' cannot stand in a host name"),
    ("http://h\x00/", "'\\x00' cannot stand in a host name"),
    ("http://h\x7f/", "'\\x7f' cannot stand in a host name"),
    ("http://h%0d%0aX/", "'\\r' cannot stand in a host name"),
    ("http://h%2Fx/", "'/' cannot stand in a host name"),
    ("http://h%40x/", "'@' cannot stand in a host name"),
    ("http://h%/", "'%' cannot stand in a host name"),
    ("http://a%zzb/", "'%' cannot stand in a host name"),
    ("http://a<b/", "'<' cannot stand in a host name"),
    ("http://a^b/", "'^' cannot stand in a host name"),
    ("http://a|b/", "'|' cannot stand in a host name"),
    ("http://a]b/", "']' cannot stand in a host name"),
    ("http://h\uff0fx.example/", "international host name"),
    ("http://h\uff20x.example/", "international host name"),
    ("http://\u2100.example/", "international host name"),
    ("http://\u05d0a.example/", "international host name"),
    ("http://\ufffd.example/", "international host name"),
    ("http://\u00ad/", "international host name"),
    ("http://a\u200db.example/", "international host name"),
    ("http://xn--/", "international host name"),
    ("http://xn--a.example/", "international host name"),
    ("http://xn--abc-.example/", "international host name"),
    ("http://sub.XN--0.example/", "international host name"),
    ("http://XN--0.❤.example/", "international host name"),
    ("http://xn--zn7c.com/", "international host name"),
    ("http://xn--a-ecp.ru/", "international host name"),
    ("http://256.0.0.1/", "no IPv4 address"),
    ("http://4294967296/", "no IPv4 address"),
    ("http://1.2.3.4.5/", "no IPv4 address"),
    ("http://1.2.3.08/", "no IPv4 address"),
    ("http://foo.0x4/", "no IPv4 address"),
    ("http://foo.1/", "no IPv4 address"),
    ("http://./", "no valid host name"),
    ("http://.h/", "no valid host name"),
    ("http://a..b/", "no valid host name"),
    ("http://h../", "no valid host name"),
    ("http://" + "a" * 64 + ".example/", "more than 63 characters"),
    ("http://" + "ü" * 63 + ".example/", "more than 63 characters"),
    ("http://" + "a." * 127 + "b/", "more than 253 characters"),
    ("http://h/\udcff", "inside the URL: write %FF where it is meant"),
    ("http://h\udce4.example/", "inside the URL: write %E4 where it is meant"),
    ("http://\ud800.example/", "stands for no character"),
    ("http://example.com/" + "x" * MAX_LENGTH, "the longest"),
    ("http://h/" + "ü" * (MAX_LENGTH // 4), "the longest"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_what_is_no_url(text: str, says: str) -> None:
    """Each way of being no URL is url.invalid with a sentence that helps, of bounded length."""
    with pytest.raises(FetchFailed) as failed:
        check(text)
    assert failed.value.class_ == "url.invalid"
    assert says in failed.value.message
    assert len(failed.value.message) < 200
    assert failed.value.message.isprintable()
    assert failed.value.message.endswith(".")
    assert place_of(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "ftp://example.com/x",
        "ftp://",
        "file:///etc/passwd",
        "data:text/plain,x",
        "data:1",
        "javascript:alert(1)",
        "javascript:1",
        "java\nscript:1",
        " JAVASCRIPT:1/2",
        "mailto:x@y.example",
        "tel:123",
        "ws://example.com/",
        "blob:http://example.com/x",
        "view-source:http://example.com/",
        "gopher://a b/",
        "c:\\photo.jpg",
    ],
)
def test_other_schemes(text: str) -> None:
    """Only http and https are fetched; another scheme is named as the reason."""
    with pytest.raises(FetchFailed) as failed:
        check(text)
    assert failed.value.class_ == "url.scheme"
    assert place_of(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "http://user:secret@example.com:99999/",
        "http:\\\\user:secret@example.com:99999/",
        "http:user:secret@a..b:x/",
        "ht\ttp://user:secret@a b/",
        "http://user:my secret@a b/",
        "http://user:a/secret@h/",
        "user:secret@example.com/",
        "//user:secret@example.com/",
        "http://user:secret@[::",
    ],
)
def test_no_password_in_messages(text: str) -> None:
    """A message never repeats the userinfo of a URL, however odd the URL."""
    with pytest.raises(FetchFailed) as failed:
        check(text)
    assert "secret" not in str(failed.value)


_CHARS = st.characters(codec="utf-8") | st.sampled_from("/\\?#@:%[]. \t\r\n\x00\x1b\x7f'|^`{}\u202e\ufeffüß。①")
_TEXTS = st.text(_CHARS, max_size=40) | st.text(string.printable, max_size=40)
_BEGINNINGS = st.sampled_from(
    ["", "http://", "https://a.example/", "http://a.example/?", "http://u:p", "http:\\", "http://[", "http://xn--"]
)
_ANY = st.builds(str.__add__, _BEGINNINGS, _TEXTS)


@given(_ANY)
@example("http://h/%%34%31")
@example("http://h/?#")
@example("http://h//..//.")
@example("http:/.//h")
def test_any_text_ends_in_order(text: str) -> None:
    """Any text is a classed failure or a URL that stays what it is when checked again, of printable ASCII only."""
    try:
        url = check(text)
    except FetchFailed as failed:
        ended, place = failed.class_, ""
    else:
        ended, place = "dialled", url.host_subcomponent
        dialled = str(url)
        assert check(dialled) == url
        assert str(check(dialled)) == dialled
        assert re.fullmatch("[!-~]+", dialled)
        assert place_of(dialled) == place_of(text)
        if url.explicit_port:
            place = f"{url.host_subcomponent}:{url.port}"
    assert ended in {"dialled", "url.invalid", "url.scheme"}
    assert place_of(text) == Request(0, text).host == place


_PARTS = [
    "0",
    "1",
    "9",
    "10",
    "127",
    "249",
    "250",
    "255",
    "256",
    "300",
    "01",
    "0x1",
    "a",
    "xn--a",
    "a1",
    "1a",
    "A",
    "",
]
_PORTS = ["", ":", ":0", ":1", ":80", ":443", ":8080", ":08", ":9999", ":10000", ":65535", ":65536", ":80a"]


@given(
    st.sampled_from(["http", "https"]),
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=5),
    st.sampled_from(_PORTS),
    st.sampled_from(["/", "/a?b=1", "?x", "#x", "", "//"]),
)
def test_numbers_and_ports_are_what_the_standard_makes_of_them(
    scheme: str, parts: list[str], port: str, rest: str
) -> None:
    """The quick way round the standard's parser, for addresses and ports too, leads where the parser does."""
    text = f"{scheme}://{'.'.join(parts)}{port}{rest}"
    try:
        standard = ada_url.URL(text)
    except ValueError:
        assert place_of(text) == ""
        with pytest.raises(FetchFailed):
            check(text)
        return
    if place_of(text):  # not port 0, and nothing that DNS cannot carry
        assert place_of(text) == standard.host
        assert str(check(text)) == standard.href


@given(_ANY)
@example("http://h./?'|^[]#x")
@example("https://u%40:p@[::1]:80/%2e%zz")
def test_what_is_sent_is_what_the_standard_says(text: str) -> None:
    """Target, host, port and Host header as aiohttp takes them are those of the standard, byte for byte."""
    try:
        url = check(text)
    except FetchFailed:
        return
    standard = ada_url.URL(text)
    sent = url.with_user(None).with_fragment(None)  # as fetch.py and aiohttp do
    assert sent.raw_path_qs == standard.pathname + standard.search
    assert f"{url.scheme}:" == standard.protocol
    assert sent.host_subcomponent == standard.hostname
    assert sent.port == int(standard.port or {"http:": 80, "https:": 443}[standard.protocol])
    place = standard.hostname.removesuffix(".") + (f":{standard.port}" if standard.port else "")
    assert sent.host_port_subcomponent == place  # aiohttp leaves out the dot that makes a name absolute
    assert (url.raw_user or "", url.raw_password or "") == (standard.username, standard.password)


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("us%40er:p%C3%A4ss", "us@er", "päss"),
        ("us@er:p:a@ss", "us@er", "p:a@ss"),
        ("ü:my word", "ü", "my word"),
        ("a+b:c+d", "a+b", "c+d"),
        (":word", None, "word"),
        ("user:", "user", None),
        ("a%zz:100%", "a%zz", "100%"),
        ("a|^'b:c", "a|^'b", "c"),
    ],
)
def test_userinfo_is_decoded_as_it_was_meant(userinfo: str, user: str | None, password: str | None) -> None:
    """What Basic is made of is what was written, percent-decoded once."""
    url = check(f"http://{userinfo}@h/")
    assert (url.user, url.password) == (user, password)
    assert [unquote(each or "") for each in (url.raw_user, url.raw_password)] == [user or "", password or ""]


class _Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Loopback."""
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing to close."""


async def test_what_stands_on_the_wire() -> None:
    """Request line and Host are those of the normal form, and nothing goes along that a URL smuggles in."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    table = [
        (f"http:\\\\H:{port}\\a|b[c]'^`", b"/a|b[c]'%5E%60", b"h"),
        (f"http://bücher.example:{port}/ü?'ö {{}}|^#f", b"/%C3%BC?%27%C3%B6%20{}|^", b"xn--bcher-kva.example"),
        (f"http://h:{port}/%zz%7e%2F/..%2f/.%2e/x?", b"/%zz%7e%2F/x", b"h"),
        (f"http://u:p@h:{port}?a\r\nX-Evil: 1\r\n\r\nGET / HTTP/1.1", b"/?aX-Evil:%201GET%20/%20HTTP/1.1", b"h"),
        (f"http://0x7f.1:{port}/\x00\x1b\u2028.", b"/%00%1B%E2%80%A8.", b"127.0.0.1"),
        (f"http://a\"b_{{c}}:{port}/", b"/", b'a"b_{c}'),
    ]  # fmt: skip
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_Here())) as session:
        for text, target, host in table:
            async with session.get(check(text).with_user(None), allow_redirects=False):
                pass
            lines = heads[-1].split(b"\r\n")
            assert lines[:2] == [b"GET %b HTTP/1.1" % target, b"Host: %b:%d" % (host, port)]
            assert not any(line.lower().startswith((b"x-evil", b"authorization")) for line in lines)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("http://example.com/a", "example.com"),
        ("https://example.com/a", "example.com"),
        ("HTTP://Example.COM", "example.com"),
        ("http://example.com:80?", "example.com"),
        ("https://example.com:80/", "example.com:80"),
        ("http:\\\\user:word@H:81\\", "h:81"),
        ("http://h\\@evil/", "h"),
        ("http://good@evil/", "evil"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://0x7f.1:8080/", "127.0.0.1:8080"),
        ("http://1.2.3.4./", "1.2.3.4"),
        ("http://[::0001]:80/", "[::1]"),
        ("http://[::ffff:1.2.3.4]:81/", "[::ffff:102:304]:81"),
        ("http://example.com./", "example.com."),
        ("http://a\tb/", "ab"),
        ("http://h/" + "x" * (MAX_LENGTH - 9), "h"),
        ("http://h/" + " x" * (MAX_LENGTH // 3), ""),
        ("http://" + "a." * 127 + "b/", ""),
        ("http://h/\udcff", ""),
        ("http://xn--0.example/", ""),
        ("ftp://h/", ""),
        ("//h/", ""),
        ("", ""),
    ],
)
def test_the_place_that_shares_permits_is_the_one_dialled(text: str, place: str) -> None:
    """``host:port`` is that of the normal form for every spelling, and empty where nothing is dialled."""
    assert place_of(text) == place
    assert Request(0, text).host == place


SAMES = [
    ("http://example.com", "HTTP://Example.COM:80/", "http://example.com/#top", "http:\\\\example.com:/?"),
    ("http://bücher.example/a", "http://BÜCHER.example/a", "http://xn--bcher-kva.example/a"),
    (
        "http://h.example/%7Ea/b",
        "http://h.example/~a/b",
        "http://h.example/x/../%7ea/./b",
        "http:h.example\\~a\\b",
    ),
    ("http://h.example/%C3%BC", "http://h.example/%c3%bc", "http://h.example/ü", "http://h.example/\tü"),
    ("http://h.example/a?b=%41", "http://h.example/a?b=A", " http://h.example/a?b=A#c "),
    ("http://[::1]/", "http://[0:0:0:0:0:0:0:1]:80"),
    ("http://127.0.0.1/", "http://0x7f.1/", "http://2130706433"),
    ("https://h.example:443/a", "https://h.example/a"),
    ("http://h.example/a b", "http://h.example/a%20b"),
]


@pytest.mark.parametrize("others", SAMES)
def test_the_same_is_asked(others: tuple[str, ...]) -> None:
    """URLs that differ in what the standard or RFC 3986 6.2.2 calls the same, or in fragments, have one digest."""
    assert len({sameness(url) for url in others}) == 1
    assert None not in {sameness(url) for url in others}


def test_something_else_is_asked() -> None:
    """What may be another resource has another digest: paths by case, queries by order, captions, columns."""
    digests = [
        sameness("http://h.example/a"),
        sameness("http://h.example/A"),
        sameness("http://h.example/a/"),
        sameness("http://h.example//a"),
        sameness("https://h.example/a"),
        sameness("http://h.example:8080/a"),
        sameness("http://h.example./a"),
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
    "url", ["", "ftp://h.example/", "http://1.2.3.x.4/", "http://h/" + "x" * MAX_LENGTH, "http://a..b/"]
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
    "%",
    "%2e",
    "xn--",
    "1.2.3.4",
    "=",
]
_PIECES += [":80", "@", "A", "é", "\\", "\t", " ", "'", "|", "~", "%7e"]
_LISTED = st.builds(
    str.__add__,
    st.sampled_from(["http://h/", "https://", "http://h.example", "http:\\\\H/"]),
    st.lists(st.sampled_from(_PIECES), max_size=8).map("".join),
)


@given(_LISTED)
def test_sameness_is_of_what_is_dialled(text: str) -> None:
    """For any URL: the digest is that of the URL as it is dialled, and there is none where none is."""
    try:
        dialled = str(check(text))
    except FetchFailed:
        dialled = ""
    assert sameness(text) == sameness(dialled)
    assert (sameness(text) is None) == (dialled == "")


@given(_LISTED, _LISTED)
@example("http://h/%7e", "http://h/~")
@example("http://h/a%zz", "http://h/a%ZZ")
def test_sameness_is_of_the_canonical_form(one: str, other: str) -> None:
    """Two URLs have one digest if and only if their canonical forms are one."""
    try:
        forms = [canonical(check(one)), canonical(check(other))]
    except FetchFailed:
        return
    assert (sameness(one) == sameness(other)) == (forms[0] == forms[1])
