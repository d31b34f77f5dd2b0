"""Who asks: user and password for a request. In: a request, what the user said, a netrc file. Out: Authorization.

The first that has something to say:

    header     the user's own Authorization, sent as it stands by ``asking``; nothing is added to it
    userinfo   of the URL; and of the row's URL, wherever else at home it was redirected to
    --auth     for the origin of the row, named in full
    netrc      for the host of the row, over https; over http only to this very machine

Whoever wrote a list chooses scheme and port, and a netrc file names neither: over http the password could be read
on the way. Its ``default`` entry is for nobody in particular, and so would be for whatever host a list names: it
is not sent. A server that redirects to a URL with userinfo has chosen that itself; it goes to that origin only.

Must never: send what was meant for one place to another; repeat a secret in a message.
"""

from __future__ import annotations

import ipaddress
import netrc
from collections.abc import Mapping

from yarl import URL

from scraper.config import FetchConfig
from scraper.errors import FetchFailed, UsageError
from scraper.policies.headers import basic, userinfo
from scraper.policies.origins import origin
from scraper.policies.urls import check
from scraper.records import Request


class Credentials:
    """The users and passwords of a run.

    Args:
        config: what the user said.
        environment: the variables of the process; NETRC may name the netrc file.

    Raises:
        UsageError: an origin of ``--auth`` is none, a user has a colon in it, or the netrc file cannot be used.
    """

    def __init__(self, config: FetchConfig, environment: Mapping[str, str]) -> None:
        self._said = any(name.lower() == "authorization" for name in config.headers)
        self._by_origin = dict(_named(*each) for each in config.secrets.auth.items())
        self._by_host = _netrc(environment.get("NETRC", "")) if config.secrets.netrc else {}

    def of(self, request: Request, url: URL, *, at_home: bool) -> str:
        """The value of Authorization for asking ``url``, where ``request`` has come to; empty for none.

        Args:
            request: what is asked.
            url: its URL, as it is dialled.
            at_home: see ``policies.origins.is_at_home``.

        Raises:
            FetchFailed: ``url.invalid`` for a user with a colon in it, and where the user's own header says who
                asks as well.
        """
        named = userinfo(url)
        if named is None and at_home and request.hops:
            named = userinfo(check(request.url))
        if named is not None:
            if self._said and at_home:
                raise FetchFailed(
                    "url.invalid", "The URL and the header Authorization both say who asks: leave one out."
                )
            try:
                return basic(*named)
            except ValueError as error:
                raise FetchFailed("url.invalid", f"The URL names {error}.") from None
        if self._said or not at_home or not (self._by_origin or self._by_host):
            return ""
        given = self._by_origin.get(origin(request.asked), "")
        if not given and _is_unheard(url):
            given = self._by_host.get(url.raw_host or "", "")
        return given


def _is_unheard(url: URL) -> bool:
    """Whether nobody on the way can read what is sent: by https, or within this machine."""
    if url.scheme == "https":
        return True
    try:
        return ipaddress.ip_address(url.raw_host or "").is_loopback
    except ValueError:
        return False


def _named(place: str, both: tuple[str, str]) -> tuple[str, str]:
    """An entry of ``--auth``, by the origin as it is dialled."""
    dialled = origin(place)
    if not dialled:
        raise UsageError(f"--auth {place!r} is no origin: write https://example.com or http://example.com:8080.")
    return dialled, _value(both[0], both[1], f"--auth {place}")


def _netrc(named: str) -> dict[str, str]:
    """Host → Authorization, from the file that is named or from ``~/.netrc``, which must be private."""
    shown = named or "~/.netrc"
    try:
        entries = netrc.netrc(named or None).hosts
    except FileNotFoundError:
        raise UsageError(f"--auth netrc: there is no {shown}; NETRC can name another file.") from None
    except OSError as error:
        raise UsageError(f"--auth netrc: {shown} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise UsageError(f"--auth netrc: {shown} is no text.") from None
    except netrc.NetrcParseError as error:
        if error.lineno is None:  # not of what is in it
            raise UsageError(f"--auth netrc: {shown} must belong to you alone: chmod 600 {shown}") from None
        # Not its own sentence: that shows the word that it stumbled over, which may be the password.
        raise UsageError(f"--auth netrc: {shown} is not understood near line {error.lineno}.") from None
    found = {}
    for host, (user, _, password) in entries.items():
        shape = f"[{host}]" if ":" in host else host
        place = origin(f"https://{shape}/").removeprefix("https://").strip("[]")
        if host != "default" and place and (user or password):
            found[place] = _value(user, password, f"{shown}, machine {host}")
    return found


def _value(user: str, password: str, where: str) -> str:
    try:
        return basic(user.encode(), password.encode())
    except UnicodeError:
        raise UsageError(f"{where}: user and password must be text in UTF-8.") from None
    except ValueError as error:
        raise UsageError(f"{where} names {error}.") from None
