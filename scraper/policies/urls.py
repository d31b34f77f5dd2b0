"""Which URLs can be dialled. In: the text of a URL. Out: the URL, quoted, its host in ASCII; or FetchFailed.

Must never: guess. Where the URL standard and a lenient reader could disagree on the host, the row fails with a
sentence that says what to write instead, so that the host dialled is the one the list means.
"""

from __future__ import annotations

import functools
import re

from yarl import URL

from scraper.errors import FetchFailed

MAX_LENGTH = 32_768
"""Longest URL. RFC 9110 4.1 asks for 8,000 octets at least; servers answer 414 well before this."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# Lone surrogates are how bytes that are no UTF-8 arrive; quoting would drop them silently.
_NEVER_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"//[^/?#]*")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")  # wider than RFC 952: hosts with _ and with - at an end exist
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)


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
    try:
        parsed = URL(text)
        host, port = parsed.raw_host, parsed.explicit_port
    except ValueError as error:  # covers bad ports, brackets, IDNA and text that is no Unicode
        raise _invalid(f"{_short(text)} is no URL: {_first_line(error)}.") from None
    if not host:
        raise _invalid(f"{_short(text)} names no host.")
    if port == 0:
        raise _invalid(f"{_short(text)} names port 0, which nothing can listen on.")
    fault = _host_fault(host)
    if fault:
        raise _invalid(fault)
    return parsed


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
    if ":" in host:  # IPv6; yarl has parsed it
        return "An IPv6 zone cannot be part of a URL." if "%" in host else ""
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # What ends in a number is an IPv4 address (WHATWG URL 3.5); only the usual form of one is dialled.
        if not _IPV4.fullmatch(host):
            return f"{_short(host)} is neither a host name nor an IPv4 address in dotted form."
        return ""
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{_short(host)} is no valid host name."
    return ""


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
