"""Cookies: those of the user's file, and those that servers set. In: URLs, Set-Cookie. Out: Cookie headers.

    --cookies FILE           the user's: to the hosts they name, and only while a row is at home, as all of the
                             user's secrets (see ``policies.origins``)
    --cookie-jar per-host    a server's own: back to it whoever led there, for it has nothing from us that was not
                             its own. Kept by registrable domain, in memory, for as long as the run lasts

A cookie that a server sets goes before the file's same one; deleting it brings that back. Neither knows ports (RFC
6265 8.5).

Must never: send one to a host it is not for; let one host fill the memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from yarl import URL

from scraper.config import SecretsConfig
from scraper.errors import UsageError
from scraper.policies.cookie_files import read
from scraper.policies.cookies import Cookie, Place, domain_matches, goes_to, header_of, parse
from scraper.policies.suffixes import registrable

MAX_OF_HOST = 50
"""Cookies kept of one host (RFC 6265 6.1 asks for no fewer)."""

MAX_BYTES_OF_HOST = 16_384
"""Bytes kept of one host: about what one request can carry. With ``MAX_HOSTS`` it bounds the jar."""

MAX_HOSTS = 10_000
"""Hosts whose cookies are kept; those that were not asked for longest go first."""

_Kept = dict[tuple[str, str, bool, str], Cookie]


class Cookies:
    """The cookies of a run.

    Args:
        config: which there are.
        clock: the time, in seconds since 1970.

    Raises:
        UsageError: the file cannot be read as cookies.
    """

    def __init__(self, config: SecretsConfig, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._keeps = config.cookie_jar == "per-host"
        self._given: dict[str, _Kept] = {}
        self._jar: OrderedDict[str, _Kept] = OrderedDict()
        for cookie in _of_file(config.cookies, clock()) if config.cookies else ():
            self._given.setdefault(registrable(cookie.domain), {})[cookie.key] = cookie

    def header(self, url: URL, *, at_home: bool) -> str:
        """The Cookie header for a URL; empty for none.

        Args:
            url: what is asked.
            at_home: it has the origin of the row, and so have all hops that led there: what the user gave may go.
        """
        if not (self._jar or (at_home and self._given)):
            return ""
        place = _place(url)
        owner = registrable(place.host)
        cookies: _Kept = self._given.get(owner, {}) if at_home else {}
        if kept := self._jar.get(owner):
            self._jar.move_to_end(owner)
            cookies = cookies | kept
        if not cookies:
            return ""
        now = self._clock()
        return header_of(each for each in cookies.values() if goes_to(each, place, now))

    def keep(self, url: URL, values: Sequence[str]) -> None:
        """Keep what a response to ``url`` set, as far as it may."""
        if not self._keeps:
            return
        place, now = _place(url), self._clock()
        owner = registrable(place.host)
        kept = self._jar.get(owner, {})
        for value in values:
            cookie = parse(value, place, now)
            if cookie is None or (not place.is_https and _is_hidden_by(cookie, kept.values())):
                continue
            if cookie.expires is not None and cookie.expires <= now:
                kept.pop(cookie.key, None)
            else:
                kept[cookie.key] = cookie
        _shorten(kept, now)
        if kept:
            self._jar[owner] = kept
            self._jar.move_to_end(owner)
        else:
            self._jar.pop(owner, None)
        while len(self._jar) > MAX_HOSTS:
            self._jar.popitem(last=False)


def _place(url: URL) -> Place:
    return Place(url.raw_host or "", url.raw_path, url.scheme == "https")


def _is_hidden_by(cookie: Cookie, others: Iterable[Cookie]) -> bool:
    """Whether a server could take this, set over http, for what was set over https (6265bis 5.7, step 15)."""
    return any(
        other.secure
        and other.name == cookie.name
        and (domain_matches(cookie.domain, other.domain) or domain_matches(other.domain, cookie.domain))
        for other in others
    )


def _shorten(kept: _Kept, now: float) -> None:
    """Let go of what has ended, and then of the oldest, until the rest is within its bounds."""
    size = sum(cookie.size for cookie in kept.values())
    if len(kept) <= MAX_OF_HOST and size <= MAX_BYTES_OF_HOST:
        return
    for ended in [each for each in kept.values() if each.expires is not None and each.expires <= now]:
        size -= kept.pop(ended.key).size
    while len(kept) > MAX_OF_HOST or size > MAX_BYTES_OF_HOST:
        size -= kept.pop(next(iter(kept))).size


def _of_file(name: str, now: float) -> list[Cookie]:
    try:
        text = Path(name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--cookies {name} cannot be read: {error.strerror}.") from None
    except ValueError:  # UnicodeError too
        raise UsageError(f"--cookies {name} is no text in UTF-8.") from None
    cookies = [each for each in read(text, name) if each.expires is None or each.expires > now]
    if not cookies:
        raise UsageError(f"--cookies {name} holds no cookie that has not ended: log in and export them anew.")
    return cookies
