"""Which URLs can be dialled, and which ask for the same.

In: the text of a URL. Out: the URL, quoted, its host in ASCII; or FetchFailed. And a digest of what a row asks.

Must never: guess. Where the URL standard and a lenient reader could disagree on the host, the row fails with a
sentence that says what to write instead, so that the host dialled is the one the list means.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping

from yarl import URL

from scraper.errors import FetchFailed

MAX_LENGTH = 32_768
"""Longest URL. RFC 9110 4.1 asks for 8,000 octets at least; servers answer 414 well before this."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# Lone surrogates are how bytes that are no UTF-8 arrive; quoting would drop them silently.
_NEVER_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"//[^/?#]*")
_PORT = re.compile(r":([^:@\]]*)$")  # int() would take signs, underscores and the digits of any script
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")  # wider than RFC 952: hosts with _ and with - at an end exist
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)


# What is dialled as it stands, apart from its host: most URLs, at a fifth of the time.
_PLAIN = re.compile(
    r"https?://([a-z0-9.-]+)(?:/(?!\.)[A-Za-z0-9_.~!$&'()*+,;=:@-]*)+(?:\?[A-Za-z0-9_.~!$&'()*+,;=:@/-]+)?"
)
_to_json = json.JSONEncoder(sort_keys=True).encode


def check(url: str) -> URL:
    """The URL to dial.

    Raises:
        FetchFailed: ``url.scheme`` for anything but http and https, ``url.invalid`` for what is no complete URL.
    """
    text = url.strip(" \t\r\n")
    if len(text) > MAX_LENGTH:
        raise _invalid(f"A URL of {len(text)} characters; the longest that is asked for has {MAX_LENGTH}.")
    found = _NEVER_IN_A_URL.search(text)
    if found:
        raise _invalid(f"{found[0]!r} inside the URL: write {_quoted(found[0])} where it is meant.")
    _check_scheme(text)
    authority = _AUTHORITY.match(text, text.index(":") + 1)
    if authority is None or authority[0] in ("//", "//:"):
        raise _invalid(f"{_short(text)} names no host.")
    if "\\" in authority[0]:
        raise _invalid(f"{_short(text)} has a backslash before its path: write /.")
    port_text = _PORT.search(authority[0])
    if port_text and port_text[1].strip("0123456789"):
        raise _invalid(f"{_short(text)} names no port that is a number.")
    try:
        parsed = URL(text)
        if parsed.raw_host and parsed.raw_host != parsed.raw_host.lower():  # beside what only IDNA 2003 knows
            parsed = parsed.with_host(parsed.raw_host.lower())
        host, port = parsed.raw_host, parsed.explicit_port
    except ValueError as error:  # covers bad ports, brackets, IDNA and text that is no Unicode
        raise _invalid(f"{_short(text)} is no URL: {_first_line(error)}.") from None
    if not host:
        raise _invalid(f"{_short(text)} names no host.")
    if port == 0:
        raise _invalid(f"{_short(text)} names port 0, which nothing can listen on.")
    fault = _host_fault(f"[{host}]" if "[" in authority[0] else host)
    if fault:
        raise _invalid(fault)
    return parsed


def sameness(url: str, caption: str | None = None, columns: Mapping[str, object] | None = None) -> bytes | None:
    """A digest of what a row asks for, 16 bytes; None where the URL is not one that is dialled.

    URLs are the same where the same is sent to the same server: in ``check``'s form, which is the normal one of
    RFC 3986 6.2.2 and 6.2.3, without the fragment (RFC 9110 7.1) and with ``/`` for an empty path. The query stays
    as it is and in its order. With another caption, or other columns, a row is another sample.
    """
    plain = _PLAIN.fullmatch(url) if len(url) <= MAX_LENGTH else None
    if plain and not _host_fault(plain[1]):
        asked = url
    else:
        try:
            checked = check(url)
        except FetchFailed:
            return None
        asked = str(checked.with_fragment(None))
        if checked.raw_path_qs == "/" and not asked.endswith("/"):
            asked += "/"
    if caption is not None or columns:
        asked += "\n" + _to_json((caption, columns or {}))  # no URL has a line break in it
    return hashlib.blake2b(asked.encode(), digest_size=16).digest()


def _check_scheme(text: str) -> None:
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        return
    match = _SCHEME.fullmatch(text)
    if not text:
        raise _invalid("An empty URL.")
    # "example.com:8080/x" and "localhost:8080" read as schemes, and are meant as hosts.
    if match is None or "." in match[1] or match[2][:1].isdigit():
        raise _invalid(f"{_short(text)} has no scheme: write https://{_short(text.lstrip('/'))[1:-1]}.")
    scheme = match[1].lower()
    if scheme not in ("http", "https"):
        raise FetchFailed("url.scheme", f"{scheme}: URLs are not fetched, only http and https.")
    raise _invalid(f"{_short(text)} is no URL: write {scheme}:// and then the host.")


@functools.lru_cache(maxsize=4096)
def _host_fault(host: str) -> str:
    """What is wrong with an encoded host; empty if nothing is."""
    if host.startswith("["):
        return _ipv6_fault(host[1:-1])
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # What ends in a number is an IPv4 address (WHATWG URL 3.5); only the usual form of one is dialled.
        if not _IPV4.fullmatch(host):
            return f"{_short(host)} is neither a host name nor an IPv4 address in dotted form."
        return ""
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{_short(host)} is no valid host name."
    if not all(_is_idna(label) for label in labels if label.startswith("xn--")):
        return f"{_short(host)} is no valid international host name (IDNA)."
    return ""


def _ipv6_fault(address: str) -> str:
    if "%" in address:
        return "An IPv6 zone cannot be part of a URL."
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return f"{_short(address)} in brackets is no IPv6 address."
    return ""


def _is_idna(label: str) -> bool:
    """Whether a label that says it is encoded is what its text is encoded as (WHATWG URL 3.3, domain to ASCII)."""
    try:
        return URL(f"http://{label[4:].encode().decode('punycode')}/").raw_host == label
    except ValueError:
        return False


def _invalid(sentence: str) -> FetchFailed:
    return FetchFailed("url.invalid", sentence)


def _short(text: str) -> str:
    """The text for a message: escaped, without userinfo, and not longer than a line."""
    text = re.sub(r"//[^/?#]*@", "//***@", text)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _quoted(character: str) -> str:
    escaped = "\udc80" <= character <= "\udcff"
    raw = character.encode("utf-8", "surrogateescape" if escaped else "replace")
    return "".join(f"%{byte:02X}" for byte in raw)


def _first_line(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "it holds characters that cannot be encoded"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
