"""Which headers go with a request, and what is kept of those that come back.

In: settings, a request, a response's headers. Out: headers.

Must never: send what was meant for one place to another; ask "has it changed?" in words that mean something else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from yarl import URL

from scraper.config import FetchConfig
from scraper.errors import FetchFailed
from scraper.records import Request

CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})
"""What a user may say of the matter (RFC 9110 13.1); then we say nothing."""

# RFC 9110 8.8.3, without obs-text. Not more than that: a bare * would mean "whatever you have" (13.1.2).
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')


def own_headers(config: FetchConfig, accept: str, accept_encoding: str) -> dict[str, str]:
    """What is sent with every request, wherever it leads: nothing of this is a secret."""
    return {"User-Agent": config.user_agent, "Accept": accept, "Accept-Encoding": accept_encoding}


def said_by_user(config: FetchConfig) -> dict[str, str]:
    """The user's own headers, which replace those of ``own_headers`` whatever their case."""
    return dict(config.headers)


def conditions(request: Request, config: FetchConfig) -> dict[str, str]:
    """The question whether our copy is still current, as headers; none where there is nothing to ask with.

    Only at the URL that the copy came from: on the other hops of a redirect its validators mean nothing. An entity
    tag is sent as it came, weak or strong (RFC 9110 13.1.2), a date as well (13.1.3), if it is one.
    """
    held = request.held
    if held is None or held.url != request.asked or CONDITIONS & {name.lower() for name in config.headers}:
        return {}
    asks = {}
    if _ETAG.fullmatch(held.etag):
        asks["If-None-Match"] = held.etag
    if _is_date(held.last_modified):
        asks["If-Modified-Since"] = held.last_modified
    return asks


def credentials(url: URL, config: FetchConfig, *, at_home: bool) -> dict[str, str]:
    """User and password of a URL as a header: Basic (RFC 7617), in UTF-8 as browsers send it.

    Args:
        url: what is asked.
        config: what else may say who asks.
        at_home: ``url`` has the origin of the row, and so have all hops that led there.

    Raises:
        FetchFailed: ``url.invalid`` for a user with a colon in it: where would the password begin? And where the
            user's own headers say who asks as well.
    """
    user, password = url.user, url.password
    if user is None and password is None:
        return {}
    if any(name.lower() == "authorization" for name in config.headers):
        raise FetchFailed("url.invalid", "The URL and the header Authorization both say who asks: leave one out.")
    if ":" in (user or ""):
        raise FetchFailed("url.invalid", "The user in the URL has a colon in it, which Basic cannot send.")
    both = base64.b64encode(f"{user or ''}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {both}"}


def _is_date(value: str) -> bool:
    if not (value.isascii() and value.isprintable()):
        return False
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    return not date.utcoffset()  # HTTP-dates are in UTC (RFC 9110 5.6.7); asctime's form names no zone


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Response headers with lower-case names, the first value of each, and nothing that is no Unicode."""
    kept: dict[str, str] = {}
    for name, value in headers.items():
        kept.setdefault(name.lower(), value if value.isascii() else _unicode(value))
    return kept


def _unicode(value: str) -> str:
    """Bytes that are no UTF-8 arrive as surrogates, which no file and no database takes."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
