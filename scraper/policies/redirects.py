"""Where a redirect leads. In: a request and the 3xx answer to it. Out: the next hop's request, or FetchFailed.

One hop at a time, so that whoever dials can check each target as if the list had named it.

Must never: follow to anything but http and https; go round in circles; follow for ever.
"""

from __future__ import annotations

import re

from scraper.errors import FetchFailed
from scraper.policies.urls import check
from scraper.records import Request
from scraper.whatwg import is_http, normal

FOLLOWED = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 15.4. 300 leaves the choice to a person, 304 has no body, 305 and 306 are gone."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab may be in a header (RFC 9110 5.5)
_RAW_BYTE = re.compile("[\udc80-\udcff]")  # how a header's bytes that are no UTF-8 arrive (surrogateescape)


def follow(
    request: Request,
    status: int,
    location: str | None,
    max_redirects: int,
    spent_s: float = 0.0,
    *,
    downgrade: bool = True,
) -> Request:
    """The next hop of the same attempt.

    What was asked with GET is asked with GET again, whatever the status: 301, 302 and 303 turn only other methods
    into it, 307 and 308 turn none (RFC 9110 15.4), and nothing but GET is ever sent, without a body.

    A Location without a scheme and a host is part of what was asked, and keeps its userinfo; one that names a host
    has the userinfo that it names itself, or none (WHATWG URL 4.4).

    Args:
        request: what was asked.
        status: the answer's status.
        location: the answer's Location header, None without one.
        max_redirects: most hops of one attempt.
        spent_s: seconds this attempt has used up so far, this hop included.
        downgrade: whether to follow from https to http.

    Raises:
        FetchFailed: ``http.<status>`` for a status that is not followed, ``protocol.malformed`` for a Location
            that is no URL, or none that is dialled, ``redirect.blocked`` for another scheme and for a downgrade,
            ``redirect.loop`` for a URL already asked in this attempt and for too many hops.
    """
    if status not in FOLLOWED:
        raise FetchFailed(f"http.{status}", f"Status {status} is not a redirect that is followed.", status=status)
    target = _resolve(request.asked, status, location)
    if not downgrade and target.startswith("http:") and normal(request.asked).startswith("https:"):
        raise FetchFailed(
            "redirect.blocked", "Redirected from https to http, which is not followed here.", status=status
        )
    if len(request.hops) >= max_redirects:
        raise FetchFailed("redirect.loop", f"More than {max_redirects} redirects.", status=status)
    page = _page(target)
    if any(_page(asked) == page for asked in (*request.hops, request.asked)):
        raise FetchFailed("redirect.loop", "Redirected in a circle.", status=status)
    return request.redirected(target, spent_s)


def _resolve(asked: str, status: int, location: str | None) -> str:
    """The absolute target in normal form, with the fragment of ``asked`` if it has none (RFC 9110 10.2.2)."""
    reference = (location or "").strip(" \t")
    if not reference:
        raise FetchFailed("protocol.malformed", f"Status {status} without a Location to go to.", status=status)
    if _CONTROL.search(reference):
        raise FetchFailed("protocol.malformed", "The Location holds control characters.", status=status)
    reference = _RAW_BYTE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", reference)
    target = normal(reference, asked)
    if not target:
        raise FetchFailed("protocol.malformed", "The Location is not a URL.", status=status)
    if not is_http(target):
        scheme = target.partition(":")[0][:60]
        raise FetchFailed("redirect.blocked", f"Redirected to a {scheme}: URL.", status=status)
    if "#" not in reference:
        target += "".join(normal(asked).partition("#")[1:])
    try:
        check(target)
    except FetchFailed as error:
        raise FetchFailed("protocol.malformed", f"The Location is not dialled: {error}", status=status) from None
    return target


def _page(url: str) -> str:
    """What is asked for: the URL as it is sent, without its fragment; an empty query is not sent as one."""
    return normal(url).partition("#")[0].removesuffix("?")
