"""Where a redirect leads. In: a request and the 3xx answer to it. Out: the next hop's request, or FetchFailed.

One hop at a time, so that whoever dials can check each target as if the list had named it.

Must never: follow to anything but http and https; go round in circles; follow for ever.
"""

from __future__ import annotations

import re
from urllib.parse import urldefrag, urljoin, urlsplit

from scraper.errors import FetchFailed
from scraper.records import Request

FOLLOWED = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 15.4. 300 leaves the choice to a person, 304 has no body, 305 and 306 are gone."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_HOST = re.compile(r"(https?:)?//([/?#]|$)", re.IGNORECASE)  # urljoin would fill in the host of ``asked``
_RAW_BYTE = re.compile("[\udc80-\udcff]")  # how a header's bytes that are no UTF-8 arrive (surrogateescape)


def follow(
    request: Request, status: int, location: str | None, max_redirects: int, spent_s: float = 0.0
) -> Request:
    """The next hop of the same attempt.

    Args:
        request: what was asked.
        status: the answer's status.
        location: the answer's Location header, None without one.
        max_redirects: most hops of one attempt.
        spent_s: seconds this attempt has used up so far, this hop included.

    Raises:
        FetchFailed: ``http.<status>`` for a status that is not followed, ``protocol.malformed`` for a Location
            that is no URL, ``redirect.blocked`` for another scheme, ``redirect.loop`` for a URL already asked in
            this attempt and for too many hops.
    """
    if status not in FOLLOWED:
        raise FetchFailed(f"http.{status}", f"Status {status} is not a redirect that is followed.", status=status)
    target = _resolve(request.asked, status, location)
    if len(request.hops) >= max_redirects:
        raise FetchFailed("redirect.loop", f"More than {max_redirects} redirects.", status=status)
    page = urldefrag(target).url
    if any(urldefrag(asked).url == page for asked in (*request.hops, request.asked)):
        raise FetchFailed("redirect.loop", "Redirected in a circle.", status=status)
    return request.redirected(target, spent_s)


def _resolve(asked: str, status: int, location: str | None) -> str:
    """The absolute target (RFC 3986 5.2), with the fragment of ``asked`` if it has none (RFC 9110 10.2.2)."""
    reference = (location or "").strip()
    if not reference:
        raise FetchFailed("protocol.malformed", f"Status {status} without a Location to go to.", status=status)
    if _CONTROL.search(reference):
        raise FetchFailed("protocol.malformed", "The Location holds control characters.", status=status)
    if _NO_HOST.match(reference):
        raise FetchFailed("protocol.malformed", "The Location names no host.", status=status)
    reference = _RAW_BYTE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", reference)
    try:
        target = urljoin(asked, reference)
        parts = urlsplit(target)
        host, _ = parts.hostname, parts.port  # asking for the port checks it
    except ValueError:
        raise FetchFailed("protocol.malformed", "The Location is not a URL.", status=status) from None
    if parts.scheme not in ("http", "https"):
        raise FetchFailed("redirect.blocked", f"Redirected to a {parts.scheme}: URL.", status=status)
    if not host:
        raise FetchFailed("protocol.malformed", "The Location names no host.", status=status)
    fragment = urldefrag(asked).fragment
    return f"{target}#{fragment}" if fragment and "#" not in reference else target
