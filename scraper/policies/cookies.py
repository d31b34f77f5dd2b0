"""The rules of cookies. In: a Set-Cookie, parts of a URL, a time. Out: a cookie, where it goes, a Cookie header.

RFC 6265, and of its successor (draft-ietf-httpbis-rfc6265bis) the prefixes of names, the limits, and that what
came over https is not replaced over http. What makes only browsers safe is left out: SameSite and HttpOnly ask
what page a request came from, and ours come from none.

Must never: let a cookie go to a host that whoever set it has no say over.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_tz

from scraper.policies.addresses import is_address
from scraper.policies.suffixes import is_public_suffix

MAX_PAIR = 4096
"""Most bytes of a name and its value (6265bis 5.6)."""

MAX_ATTRIBUTE = 1024
"""Most characters of an attribute's value; longer ones are not looked at (6265bis 5.6)."""

MAX_HEADER = 16_384
"""Most bytes of a Cookie header. Servers answer 400 or 431 from 8 or 16 KiB on."""

MAX_AGE_S = 400 * 86_400
"""The longest that a cookie is kept (6265bis 5.5), and no number that a time could not be made of."""

# What would end the header, or be something else to the server. A tab may be in a header, but not in most files.
# Lone surrogates are how bytes that are no UTF-8 arrive, which cannot be sent.
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SECONDS = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie (RFC 6265 5.3).

    Attributes:
        name: not empty.
        value: may be.
        domain: the host it is for, in ASCII and lower case, without a dot before it.
        host_only: it is for that host alone, and not for those below it.
        path: it is for URLs at and below this.
        secure: only for https.
        expires: when it ends, in seconds since 1970; None for the end of the run.
    """

    name: str
    value: str = field(repr=False)
    domain: str
    host_only: bool = True
    path: str = "/"
    secure: bool = False
    expires: float | None = None

    @property
    def key(self) -> tuple[str, str, bool, str]:
        """What makes it the same cookie, to be replaced (6265bis 5.7)."""
        return self.name, self.domain, self.host_only, self.path

    @property
    def size(self) -> int:
        """Bytes, about as many as are held."""
        return len(self.name.encode()) + len(self.value.encode()) + len(self.domain) + len(self.path)


@dataclass(frozen=True, slots=True)
class Place:
    """Of a URL, what cookies ask for.

    Attributes:
        host: in ASCII, IPv6 without brackets.
        path: percent-encoded as it is sent.
        is_https: the scheme.
    """

    host: str
    path: str
    is_https: bool


def goes_to(cookie: Cookie, place: Place, now: float) -> bool:
    """Whether a cookie is sent to a place (RFC 6265 5.4)."""
    if cookie.secure and not place.is_https:
        return False
    if cookie.expires is not None and cookie.expires <= now:
        return False
    if cookie.host_only:
        return place.host == cookie.domain and path_matches(place.path, cookie.path)
    return domain_matches(place.host, cookie.domain) and path_matches(place.path, cookie.path)


def domain_matches(host: str, domain: str) -> bool:
    """Whether a host is a domain or below it (RFC 6265 5.1.3); nothing is below an address."""
    return host == domain or (host.endswith(f".{domain}") and not is_address(host))


def path_matches(path: str, own: str) -> bool:
    """Whether a path is at or below a cookie's own (RFC 6265 5.1.4)."""
    return path.startswith(own) and (len(path) == len(own) or own.endswith("/") or path[len(own)] == "/")


def header_of(cookies: Iterable[Cookie]) -> str:
    """The Cookie header: the longest path first, then as they were set (RFC 6265 5.4); empty for none.

    What goes over ``MAX_HEADER`` is left out, beginning with the shortest paths.
    """
    pairs = []
    left = MAX_HEADER
    for cookie in sorted(cookies, key=lambda each: -len(each.path)):
        pair = f"{cookie.name}={cookie.value}"
        left -= len(pair.encode()) + len("; ")
        if left < 0:
            break
        pairs.append(pair)
    return "; ".join(pairs)


def parse(text: str, place: Place, now: float) -> Cookie | None:
    """A Set-Cookie header of a response (RFC 6265 5.2 and 5.3); None for one that is not taken.

    Args:
        text: its value.
        place: what was asked.
        now: seconds since 1970.

    Returns:
        The cookie. One that has ended, by its ``expires``, means that the one it replaces is to go.
    """
    pair, *attributes = text.split(";")
    name, equals, value = (part.strip(" \t") for part in pair.partition("="))
    if not equals or not name or CONTROL.search(text) or len(f"{name}{value}".encode()) > MAX_PAIR:
        return None
    said: dict[str, str] = {}
    for attribute in attributes:
        key, _, worth = (part.strip(" \t") for part in attribute.partition("="))
        if len(worth) <= MAX_ATTRIBUTE:
            said[key.lower()] = worth  # the last one counts
    own = _domain(said.get("domain", ""), place.host)
    secure = "secure" in said
    if own is None or (secure and not place.is_https) or not _keeps_its_name(name, said):
        return None
    path = said.get("path", "")
    if not path.startswith("/"):
        path = _directory(place.path)
    domain, host_only = own
    return Cookie(name, value, domain, host_only, path, secure, _ends(said, now))


def _domain(said: str, host: str) -> tuple[str, bool] | None:
    """The domain and whether it is for this host only; None where the host has no say over it."""
    domain = said.removeprefix(".").lower()
    if not domain or (domain == host and (is_address(host) or is_public_suffix(host))):
        return host, True
    if not domain_matches(host, domain) or is_public_suffix(domain):
        return None
    return domain, False


def _keeps_its_name(name: str, said: dict[str, str]) -> bool:
    """Whether a cookie is what the prefix of its name promises (6265bis 4.1.3)."""
    lower = name.lower()
    if lower.startswith("__secure-"):
        return "secure" in said
    if lower.startswith("__host-"):
        return "secure" in said and said.get("path") == "/" and not said.get("domain")
    return True


def _directory(path: str) -> str:
    """The path of a cookie that names none (RFC 6265 5.1.4)."""
    return path[: path.rfind("/")] or "/"


def _ends(said: dict[str, str], now: float) -> float | None:
    """When it ends: Max-Age goes before Expires (RFC 6265 5.3)."""
    seconds = said.get("max-age", "")
    if _SECONDS.fullmatch(seconds):
        age = int(seconds)
        return now + min(age, MAX_AGE_S) if age > 0 else 0.0
    try:
        date = parsedate_tz(said.get("expires", ""))
        ends = None if date is None else calendar.timegm((*date[:6], 0, 0, 0)) - (date[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return None if ends is None else min(ends, now + MAX_AGE_S)
