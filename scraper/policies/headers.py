"""Which headers go with a request, and what is kept of those that come back.

In: settings, a request, a response's headers. Out: headers.

Must never: send what was meant for one place to another; ask "has it changed?" in words that mean something else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from scraper.config import FetchConfig
from scraper.errors import UsageError
from scraper.records import Request

if TYPE_CHECKING:
    from yarl import URL

CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})
"""What a user may say of the matter (RFC 9110 13.1); then we say nothing."""

# RFC 9110 8.8.3, without obs-text. Not more than that: a bare * would mean "whatever you have" (13.1.2).
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')


# RFC 9110 5.6.2 and 5.5. Lone surrogates are how bytes that are no UTF-8 arrive, which cannot be sent.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def own_headers(config: FetchConfig, accept: str, accept_encoding: str) -> dict[str, str]:
    """What is sent with every request, wherever it leads: nothing of this is a secret.

    Raises:
        UsageError: one of them cannot be sent.
    """
    return _checked({"User-Agent": config.user_agent, "Accept": accept, "Accept-Encoding": accept_encoding})


def said_by_user(config: FetchConfig) -> dict[str, str]:
    """The user's own headers, which replace those of ``own_headers`` whatever their case.

    Raises:
        UsageError: one of them cannot be sent, is said twice, or is meant for a proxy alone.
    """
    return _checked(config.headers)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """The same headers. What is wrong with a value is said without it: it may be a secret."""
    names = [name.lower() for name in headers]
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a header.")
        if NOT_IN_A_VALUE.search(value):
            raise UsageError(f"The header {name} holds a line break, a control character, or what is no text.")
        if names.count(name.lower()) > 1:
            raise UsageError(f"The header {name} is given twice, in two spellings; join the values with a comma.")
    if "proxy-authorization" in names:
        raise UsageError(
            "The header Proxy-Authorization would go to servers: write user and password into the proxy's URL, "
            "--proxy http://USER:PASSWORD@proxy.example:3128."
        )
    return dict(headers)


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


def userinfo(url: URL) -> tuple[bytes, bytes] | None:
    """User and password of a URL, percent-decoded; None where it has neither."""
    if url.raw_user is None and url.raw_password is None:
        return None
    return unquote_to_bytes(url.raw_user or ""), unquote_to_bytes(url.raw_password or "")


def basic(user: bytes, password: bytes) -> str:
    """Who asks, as a value of Authorization (RFC 7617); user and password in UTF-8, as browsers send them.

    Raises:
        ValueError: the user has a colon in it: where would the password begin?
    """
    if b":" in user:
        raise ValueError("a user with a colon in it, which Basic cannot send")
    return f"Basic {base64.b64encode(user + b':' + password).decode()}"


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
