"""What goes with a hop: headers, cookies, credentials, a proxy, a TLS context. In: a request. Out: its ``Terms``.

What the user gave goes to the origin of the row and to nobody else; see ``policies.origins.is_at_home``.
Must never: send what was meant for one place to another.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yarl import URL

from scraper.config import FetchConfig
from scraper.cookies import Cookies
from scraper.credentials import Credentials
from scraper.errors import UsageError
from scraper.policies.headers import conditions, own_headers, said_by_user
from scraper.policies.origins import is_at_home
from scraper.policies.proxies import Proxies
from scraper.records import Request
from scraper.tls import Contexts


@dataclass(frozen=True, slots=True)
class Terms:
    """How a hop is asked.

    Attributes:
        headers: beside those that every request has.
        asks_for_change: the headers ask whether our copy is current.
        wants_part: the user asked for a part (Range), so that a part is the whole answer.
        proxy: through whom; None for nobody.
        ssl: what to speak TLS with; True for the default.
    """

    headers: Mapping[str, str]
    asks_for_change: bool
    wants_part: bool
    proxy: URL | None
    ssl: ssl.SSLContext | bool


class Asking:
    """How the hops of a run are asked.

    Args:
        config: what the user said.
        accept: Accept header, unless the user gave one.
        accept_encoding: the same for Accept-Encoding.

    Raises:
        UsageError: a file that was named cannot be used, a header cannot be sent, or two say different things.
    """

    def __init__(self, config: FetchConfig, accept: str, accept_encoding: str) -> None:
        self._config = config
        self.always = own_headers(config, accept, accept_encoding)
        """Sent with every request, wherever it leads."""
        self._said = said_by_user(config)
        names = {name.lower() for name in self._said}
        self._wants_part = "range" in names
        secrets = config.secrets
        if "cookie" in names and (secrets.cookies or secrets.cookie_jar != "none"):
            # A request has one Cookie header (RFC 6265 5.4), and which of the two is meant we cannot know.
            raise UsageError(
                "--header Cookie says all cookies there are: leave out --cookies and --cookie-jar, or it."
            )
        self._credentials = Credentials(config, os.environ)
        self._cookies = Cookies(secrets)
        self._proxies = Proxies(config.proxy, os.environ)
        self._contexts = Contexts(config.tls)

    def proxy_of(self, url: URL) -> URL | None:
        """Through whom ``url`` is asked; None for nobody."""
        return self._proxies.of(url)

    def terms(self, request: Request, url: URL) -> Terms:
        """The terms for asking ``url``, where ``request`` has come to.

        Raises:
            FetchFailed: ``url.invalid`` for credentials that cannot be sent.
        """
        at_home = is_at_home(request)
        headers = conditions(request, self._config)
        asks = bool(headers)
        if at_home:
            headers |= self._said
        if authorization := self._credentials.of(request, url, at_home=at_home):
            headers["Authorization"] = authorization
        if request.url and (cookie := self._cookies.header(url, at_home=at_home)):  # none with robots.txt
            headers["Cookie"] = cookie
        proxy, context = self._proxies.of(url), self._contexts.of(url.raw_host or "")
        return Terms(headers, asks, at_home and self._wants_part, proxy, context)

    def tls_of(self, host: str) -> ssl.SSLContext | bool:
        """What to speak TLS with to a host, in ASCII."""
        return self._contexts.of(host)

    def heard(self, url: URL, set_cookie: Sequence[str]) -> None:
        """A response to ``url`` set cookies."""
        self._cookies.keep(url, set_cookie)
