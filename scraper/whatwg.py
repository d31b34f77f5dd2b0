"""URLs as the WHATWG URL standard parses them, and which of those are dialled: the one place that knows.

In: the text of a URL, perhaps relative to another. Out: its normal form, and ``host:port``; or why there is none.

Browsers parse this way (url.spec.whatwg.org, 4.4), and lists are made from what works in browsers. Everything here
that speaks of a URL's host asks this module, so that the host that was checked, counted and waited for is the one
that is dialled.

Must never: take for a URL what the standard calls a failure; let a line break, or anything that is not printable
ASCII, into a normal form.
"""

from __future__ import annotations

import functools
import re

import ada_url

MAX_LENGTH = 32_768
"""Longest URL, as written and in normal form. RFC 9110 4.1 asks for 8,000 octets at least; servers answer 414 well
before this."""

_LABEL = "(?!xn--)[a-z0-9_-]{1,63}"

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

# The last label begins with a letter: what ends in a number is an IPv4 address (3.5), plain with four decimals.
_PLAIN_HOST = rf"(?:(?:{_LABEL}\.)*(?=[a-z]){_LABEL}|(?:{_OCTET}\.){{3}}{_OCTET})"

PLAIN_PLACE = rf"{_PLAIN_HOST}(?::(?!(?:80|443)[/?#])[1-9][0-9]{{0,3}})?"
"""Most hosts there are, with a port if it is no scheme's own, as a pattern: they are their own normal form. Only
their length is left to look at."""

MAX_HOST = 253
"""Longest name that DNS carries (RFC 1035 2.3.4), without the dot at its end."""

_PLAIN = re.compile(rf"https?://({PLAIN_PLACE})(?=[/?#])", re.ASCII)

# Of a normal form: there a host is ASCII, userinfo has no bare @ or /, and a path begins with /.
_PLACE = re.compile(r"https?://(?:[^/@]*@)?(\[[0-9a-f:]+\]|[^/:]+)(?::([0-9]+))?/")


def normal(text: str, base: str | None = None) -> str:
    """A URL's normal form, resolved against ``base`` if it is relative; empty where the standard says failure.

    Lone surrogates, which is how bytes that are no UTF-8 arrive, are a failure as well. The standard puts U+FFFD
    there, and so asks for something that nobody has written.
    """
    try:
        return ada_url.normalize_url(text) if base is None else ada_url.join_url(base, text)
    except ValueError:  # UnicodeEncodeError too
        return ""


def is_http(url: str) -> bool:
    """Whether a URL in normal form is one of http or https."""
    return url.startswith(("http://", "https://"))


def obstacle(url: str) -> str:
    """Why a http or https URL in normal form is not dialled all the same: a sentence; empty if it is dialled."""
    if len(url) > MAX_LENGTH:
        return f"A URL of {len(url)} characters; the longest that is asked for has {MAX_LENGTH}."
    place = _PLACE.match(url)
    if place is None:  # no normal form of http is like that
        return "The URL names no host."
    if place[2] == "0":
        return "The URL names port 0, which nothing can listen on."
    return _host_obstacle(place[1])


@functools.lru_cache(maxsize=16_384)  # asked several times for each row in flight
def place_of(text: str) -> str:
    """``host:port`` that a URL is dialled at, the port left out where it is the scheme's own; empty if it is not.

    The host is in normal form, IPv6 in brackets. Costs 0.5 µs for a plain URL and 3 µs for others.
    """
    plain = _PLAIN.match(text)
    # A character becomes three at most if it is ASCII; no more of such a URL needs to be looked at.
    if plain and text.isascii() and len(text) <= MAX_LENGTH // 3 and len(plain[1]) <= MAX_HOST:
        return plain[1]
    url = normal(text) if len(text) <= MAX_LENGTH else ""
    if not is_http(url) or obstacle(url):
        return ""
    place = _PLACE.match(url)
    assert place is not None  # or there would have been an obstacle
    return f"{place[1]}:{place[2]}" if place[2] else place[1]


@functools.lru_cache(maxsize=4096)
def _host_obstacle(host: str) -> str:
    """Why DNS or IDNA has no such host."""
    labels = host.removesuffix(".").split(".")
    shown = repr(host if len(host) <= 60 else host[:57] + "...")
    if not host.startswith("["):
        if "" in labels:
            return f"{shown} is no valid host name: nothing stands between two of its dots, or before the first."
        if max(map(len, labels)) > 63:
            return f"{shown} is no valid host name: a part of it has more than 63 characters."
        if len(host.removesuffix(".")) > MAX_HOST:
            return f"{shown} is no valid host name: it has more than {MAX_HOST} characters."
    if any(label.startswith("xn--") for label in labels) and not _is_idna(host, labels):
        return f"{shown} is no valid international host name (IDNA)."
    return ""


def _is_idna(host: str, labels: list[str]) -> bool:
    """Whether a host in ASCII is what its own text is encoded as (3.3, domain to ASCII; ada leaves this out)."""
    try:
        texts = [each[4:].encode().decode("punycode") if each.startswith("xn--") else each for each in labels]
    except UnicodeError:
        return False
    return normal(f"http://{'.'.join(texts)}/") == f"http://{host.removesuffix('.')}/"
