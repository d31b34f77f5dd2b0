"""Files of cookies, as browsers and tools write them. In: a file's text. Out: cookies.

    Netscape's    a cookie to a line, seven fields with tabs between: domain, whether those below it too, path,
                  whether only for https, end in seconds since 1970 (0 for none), name, value. ``#HttpOnly_``
                  before a domain says nothing to us; other lines with # are comments. curl writes it.
    JSON          a list of objects (browser extensions, Selenium, Puppeteer), or one with such a list as "cookies"
                  (Playwright's storage state).

Must never: take a line for another cookie than it says; repeat a value in a message.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from scraper.errors import UsageError
from scraper.policies.addresses import is_address
from scraper.policies.cookies import CONTROL, MAX_PAIR, Cookie
from scraper.policies.suffixes import is_public_suffix

_HTTP_ONLY = "#HttpOnly_"
_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]+")
_FLAGS = {"TRUE": True, "FALSE": False}
_ENDS = ("expirationDate", "expires", "expiry")


def read(text: str, name: str) -> list[Cookie]:
    """The cookies of a file, in its order; those that have ended too.

    Args:
        text: all of the file.
        name: the file's, for messages.

    Raises:
        UsageError: something in it is no cookie, or one for everybody; names the line, or counts the cookies.
    """
    is_json = text.lstrip().startswith(("[", "{"))
    return list(_json(text, name) if is_json else _netscape(text, name))


def _netscape(text: str, name: str) -> Iterator[Cookie]:
    for number, each in enumerate(text.split("\n"), 1):  # splitlines() would split at characters within a value
        line = each.removesuffix("\r").removeprefix(_HTTP_ONLY)
        if not line.strip() or line.startswith("#"):
            continue
        where = f"--cookies {name}, line {number}"
        fields = line.split("\t")
        if len(fields) == 6:
            fields.append("")  # editors take away the tab before an empty value
        if len(fields) != 7:
            raise UsageError(
                f"{where}: a cookie has seven fields with tabs between them, and this has {len(fields)}."
            )
        domain, below, path, secure, ends, title, value = fields
        if below.upper() not in _FLAGS or secure.upper() not in _FLAGS:
            raise UsageError(f"{where}: the second and the fourth field must be TRUE or FALSE.")
        flags = not _FLAGS[below.upper()], _FLAGS[secure.upper()]
        yield _cookie((title, value, domain, path), flags, ends, where)


def _json(text: str, name: str) -> Iterator[Cookie]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--cookies {name} begins as JSON does, and is none.") from None
    if isinstance(found, dict):
        found = found.get("cookies")
    if not isinstance(found, list):
        raise UsageError(f"--cookies {name}: JSON of cookies is a list, or has one under the name cookies.")
    for number, each in enumerate(found, 1):
        where = f"--cookies {name}, cookie {number}"
        if not isinstance(each, dict):
            raise UsageError(f"{where} is no object.")
        texts = tuple(each.get(key, "") for key in ("name", "value", "domain", "path"))
        if not all(isinstance(one, str) for one in texts):
            raise UsageError(f"{where}: name, value, domain and path must be text.")
        flags = each.get("hostOnly", not texts[2].startswith(".")), each.get("secure", False)
        if not all(isinstance(flag, bool) for flag in flags):
            raise UsageError(f"{where}: hostOnly and secure must be true or false.")
        ends = next((each[key] for key in _ENDS if each.get(key) is not None), 0)
        yield _cookie(texts, flags, ends, where)


def _cookie(texts: tuple[Any, ...], flags: tuple[bool, bool], ends: object, where: str) -> Cookie:
    """What both formats say of a cookie, checked."""
    name, value, domain, path = texts
    domain = domain.strip().lower().removeprefix(".")
    host_only, secure = flags
    if not name or name != name.strip() or "=" in name:
        raise UsageError(f"{where} has no name that can be sent.")
    if any(CONTROL.search(text) or ";" in text for text in texts):
        raise UsageError(f"{where} holds a control character or a semicolon, which cannot be sent.")
    if len(f"{name}{value}".encode()) > MAX_PAIR:
        raise UsageError(f"{where}: name and value have more than {MAX_PAIR} bytes, which no browser keeps.")
    if not _DOMAIN.fullmatch(domain):
        raise UsageError(f"{where} has no domain: write example.com, and what is not ASCII as xn--….")
    if not path.startswith("/"):
        raise UsageError(f"{where}: the path must begin with /.")
    if is_address(domain):
        host_only = True
    elif not host_only and is_public_suffix(domain):
        raise UsageError(f"{where} would go to everybody below {domain}: name the host that it is for.")
    return Cookie(name, value, domain, host_only, path, secure, _end(ends, where))


def _end(said: Any, where: str) -> float | None:
    """Seconds since 1970; None for 0 and below, which is how files write that there is none."""
    try:
        end = float(said)
    except (TypeError, ValueError, OverflowError):
        end = math.nan
    if not math.isfinite(end):
        raise UsageError(f"{where}: its end must be a number, the seconds since 1970.")
    return end if end > 0 else None
