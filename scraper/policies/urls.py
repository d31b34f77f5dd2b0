"""Which URLs can be dialled, and which ask for the same.

In: the text of a URL. Out: the URL as the WHATWG standard normalises it, to be dialled as it stands; or
FetchFailed. And a digest of what a row asks.

Must never: dial another host than a browser would; let anything onto the wire that the normal form does not have;
repeat a password in a message.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote

from yarl import URL

from scraper.errors import FetchFailed
from scraper.policies.secrets import MASK, mask_secrets
from scraper.whatwg import MAX_HOST, MAX_LENGTH, PLAIN_PLACE, is_http, normal, obstacle

# What is its own normal form: most URLs, at half the time.
_PLAIN = re.compile(
    rf"https?://({PLAIN_PLACE})(?:/(?!\.|%2[Ee])[A-Za-z0-9_.~!$&'()*+,;=:@%-]*)+"
    r"(?:\?[A-Za-z0-9_.~!$&()*+,;=:@%/?-]+)?",
    re.ASCII,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_BEFORE = re.compile(r"[^A-Za-z]+(?=https?:)", re.IGNORECASE)  # quotes, brackets, a byte order mark
_SURROGATE = re.compile("[\ud800-\udfff]")
_REMOVED = str.maketrans("", "", "\t\n\r")
_C0_OR_SPACE = "".join(map(chr, range(0x21)))
_PORT = re.compile(r"[0-9]*")
_PORT_AND_REST = re.compile(r"[0-9]{1,5}(?:[/\\?#].*)?", re.DOTALL)
_NOT_IN_A_HOST = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^|\x7f]")  # 3.1, forbidden domain code points
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)

_WITHOUT_PORTS = frozenset(
    ("about", "blob", "cid", "data", "file", "ftp", "geo", "javascript", "mailto", "mid", "tel", "urn", "ws")
)
"""Schemes after whose colon a number is no port."""

# RFC 3986 2.3: what means the same percent-encoded and not.
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_to_json = json.JSONEncoder(sort_keys=True).encode


@functools.lru_cache(maxsize=256)  # asked for robots.txt and again for the request, of each row
def check(url: str) -> URL:
    """The URL to dial: what the WHATWG standard accepts, in its normal form, all of it printable ASCII.

    Backslashes and odd numbers of slashes, tabs and line breaks within, white space round it, numbers for IPv4
    addresses, dot segments and default ports all come out as browsers would send them. Userinfo and fragment are
    kept; whoever sends the request leaves them out.

    Raises:
        FetchFailed: ``url.scheme`` for anything but http and https; ``url.invalid`` for what the standard calls a
            failure, and for what it does not and nobody can dial: port 0, hosts that DNS cannot carry, more than
            ``MAX_LENGTH`` characters.
    """
    plain = _PLAIN.fullmatch(url)
    if plain and len(url) <= MAX_LENGTH and len(plain[1]) <= MAX_HOST:
        return URL(url, encoded=True)
    if len(url) > MAX_LENGTH:
        raise _invalid(f"A URL of {len(url)} characters; the longest that is asked for has {MAX_LENGTH}.")
    dialled = normal(url)
    if not is_http(dialled):
        raise _refusal(url)
    in_the_way = obstacle(dialled)
    if in_the_way:
        raise _invalid(in_the_way)
    return URL(dialled, encoded=True)


def canonical(url: URL) -> str:
    """A checked URL in the form in which URLs that ask for the same are the same text.

    That is the WHATWG normal form without its fragment, which is never sent (RFC 9110 7.1), and with the
    percent-encodings of RFC 3986 6.2.2: ``%7e``, ``%7E`` and ``~`` are one. Never dialled, because servers exist
    that redirect from one of these to another. Case and order stay as they are in path and query.
    """
    text = str(url).partition("#")[0]
    return _ENCODED.sub(_plainest, text) if "%" in text else text


def sameness(url: str, caption: str | None = None, columns: Mapping[str, object] | None = None) -> bytes | None:
    """A digest of what a row asks for, 16 bytes; None where the URL is not one that is dialled.

    URLs are the same where their ``canonical`` form is. With another caption, or other columns, a row is another
    sample.
    """
    plain = _PLAIN.fullmatch(url) if "%" not in url else None
    if plain and len(url) <= MAX_LENGTH and len(plain[1]) <= MAX_HOST:
        asked = url
    else:
        try:
            asked = canonical(check(url))
        except FetchFailed:
            return None
    if caption is not None or columns:
        asked += "\n" + _to_json((caption, columns or {}))  # no URL has a line break in it
    return hashlib.blake2b(asked.encode(), digest_size=16).digest()


def _plainest(encoded: re.Match[str]) -> str:
    char = chr(int(encoded[0][1:], 16))
    return char if char in _UNRESERVED else encoded[0].upper()


def _refusal(url: str) -> FetchFailed:
    """What to say of a text that is no URL, or one of another scheme."""
    found = _SURROGATE.search(url)
    if found:
        return _invalid(f"{found[0]!r} inside the URL: {_instead(found[0])}.")
    text = url.strip(_C0_OR_SPACE).translate(_REMOVED)  # as the standard's parser begins (4.4)
    if not text:
        return _invalid("An empty URL.")
    before = _BEFORE.match(text)
    if before:
        return _invalid(f"{_short(before[0])} stands before the URL: leave it out.")
    match = _SCHEME.fullmatch(text)
    scheme, rest = (match[1].lower(), match[2]) if match else ("", "")
    if scheme not in ("http", "https"):
        # "example.com:8080/x" and "localhost:8080" read as schemes, and are meant as hosts.
        is_host = "." in scheme or (_PORT_AND_REST.fullmatch(rest) and scheme not in _WITHOUT_PORTS)
        if not scheme or is_host:
            return _invalid(f"{_short(text)} has no scheme: write https://{_short(text.lstrip(':/'))[1:-1]}.")
        # "user:password@host" reads as a scheme as well, and is not repeated.
        is_user = scheme not in _WITHOUT_PORTS and mask_secrets(text).startswith(f"{MASK}@")
        what = f"{_short(text)} has a scheme that is" if is_user else f"{scheme[:60]}: URLs are"
        return FetchFailed("url.scheme", f"{what} not fetched, only http and https.")
    authority = re.split(r"[/\\?#]", rest.lstrip("/\\"), maxsplit=1)[0]
    shown = _short(text)
    if "@" not in authority and f"{MASK}@" in shown:
        return _invalid(f"{shown} has a password with / or ? or # in it: write %2F, %3F or %23.")
    return _invalid(_authority_fault(shown, authority.rpartition("@")[2]))


def _authority_fault(shown: str, place: str) -> str:
    """What is wrong with ``host:port``, if the standard finds that something is.

    Args:
        shown: the URL, as it stands in messages.
        place: all that its authority has behind the userinfo.
    """
    host, bracket, port = place.rpartition("]") if place.startswith("[") else ("", "", place)
    if bracket:
        if "%" in host:
            return "An IPv6 zone cannot be part of a URL."
        if not normal(f"http://{host}]/"):
            return f"{_short(host[1:])} in brackets is no IPv6 address."
        name, colon, port = "", *port.partition(":")[1:]
        if not colon:
            return f"{shown} is no URL: only a port or / can follow the brackets."
    else:
        name, _, port = port.partition(":")
        if not name:
            return f"{shown} names no host."
        if name.startswith("["):
            return f"{shown} is no URL: its host has no closing bracket."
    if not _PORT.fullmatch(port):
        return f"{shown} names no port that is a number."
    if len(port.lstrip("0")) > 5 or int(port or 0) > 65535:
        return f"{shown} names a port above 65535, which is the highest."
    return _name_fault(unquote(name))


def _name_fault(name: str) -> str:
    found = _NOT_IN_A_HOST.search(name)
    if found:
        return f"{found[0]!r} cannot stand in a host name, as it does in {_short(name)}."
    if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
        return f"{_short(name)} ends in a number, and is no IPv4 address."
    if not name.isascii() or "xn--" in name.lower():
        return f"{_short(name)} is no valid international host name (IDNA)."
    return f"{_short(name)} is no valid host name."


def _invalid(sentence: str) -> FetchFailed:
    return FetchFailed("url.invalid", sentence)


def _short(text: str) -> str:
    """The text for a message: escaped, without userinfo, and not longer than a line."""
    text = mask_secrets(text)
    shown = repr(text)
    return shown if len(shown) <= 62 else shown[:58] + "..." + shown[0]


def _instead(surrogate: str) -> str:
    if "\udc80" <= surrogate <= "\udcff":  # a byte (surrogateescape)
        return f"write %{ord(surrogate) - 0xDC00:02X} where it is meant"
    return "it stands for no character, leave it out"
