"""Options for what is sent with a request and to whom, and what they resolve to.

In: what the user said, converted. Out: parts of a FetchConfig.
Must never: repeat a secret in a refusal; repeat a default, each stands once in ``scraper.config``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scraper._version import HOMEPAGE, __version__
from scraper.config import FetchConfig, SecretsConfig, TlsConfig
from scraper.errors import UsageError
from scraper.options.schema import option
from scraper.policies.addresses import parse_networks
from scraper.policies.headers import NOT_IN_A_VALUE, TOKEN
from scraper.policies.origins import origin
from scraper.policies.robots import token_of
from scraper.whatwg import normal

_REQUESTS, _SAFETY = "Requests", "Safety"

_NOT_IN_A_COMMENT = re.compile(r"[()\\\x00-\x1f\x7f]")  # RFC 9110 5.6.5
_OURS_TO_SEND = {"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"}
_SECRET = re.compile(r"auth|cookie|token|secret|key|sess|pass|sign|jwt|bearer|credential|csrf", re.IGNORECASE)
_HOST = re.compile(r"[^\s*/:@?#\[\]=,]+|\[[0-9A-Fa-f:.]+\]")

NETRC = "netrc"
"""What ``--auth`` says to have the user's netrc file asked."""


def _default(config: type, field: str) -> Any:
    return config.__dict__["__dataclass_fields__"][field].default


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What is sent with a request.

    Attributes:
        user_agent: Who to say we are. robots.txt and X-Robots-Tag are read for the name before its slash.
        contact: A URL or an address for the owners of sites to turn to, sent in the default user agent.
        header: A further request header, 'Name: value'. Repeatable. Sent to the origin of each row of the list,
            and to no other that redirects lead to.
        auth: User and password for one origin, 'https://example.com=USER:PASSWORD'. Repeatable. netrc takes them
            from the netrc file, over https only.
        cookies: A file of cookies to send, each to the hosts it names: Netscape's format, or JSON.
        cookie_jar: per-host keeps the cookies that a host sets, for itself alone; none keeps nothing.
        proxy: URL of an HTTP proxy; env for what the environment names. Without it the environment is not asked.
    """

    user_agent: str | None = option(None, group=_REQUESTS, shown="scraper/VERSION (+URL)")
    contact: str | None = option(None, group=_REQUESTS)
    header: tuple[str, ...] = option((), group=_REQUESTS)
    auth: tuple[str, ...] = option((), group=_REQUESTS)
    cookies: str = option(_default(SecretsConfig, "cookies"), group=_REQUESTS)
    cookie_jar: Literal["none", "per-host"] = option(_default(SecretsConfig, "cookie_jar"), group=_REQUESTS)
    proxy: str = option(_default(FetchConfig, "proxy"), group=_REQUESTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyOptions:
    """What a list may lead to.

    Attributes:
        allow_net: A network that may be asked though it is not public, as 127.0.0.0/8. Repeatable. Without it
            nothing on this machine or in its neighbourhood is.
        downgrade: Whether a redirect from https to http is followed.
        insecure: A host whose certificate is not verified. Repeatable. The report names it.
        ca_file: A file of certificates (PEM) to trust beside the system's.
        client_cert: A certificate for one host, 'HOST=FILE' or 'HOST=FILE,KEYFILE' (PEM). Repeatable.
        mask_params: Parameters of URLs whose values are secret: a,b or repeated. They are asked with, and written
            as *** wherever the URL is: messages, logs, the report, the ledger, and beside the results.
    """

    allow_net: tuple[str, ...] = option((), split=True, group=_SAFETY)
    downgrade: Literal["follow", "refuse"] = option("follow", group=_SAFETY)
    insecure: tuple[str, ...] = option((), group=_SAFETY)
    ca_file: str = option(_default(TlsConfig, "ca_file"), group=_SAFETY)
    client_cert: tuple[str, ...] = option((), group=_SAFETY)
    mask_params: tuple[str, ...] = option((), split=True, group=_SAFETY)


def user_agent(said: RequestOptions) -> str:
    """The User-Agent header.

    Raises:
        UsageError: it is no line of text, or the contact has no place in it.
    """
    contact = said.contact
    if said.user_agent is None:
        if contact is None:
            contact = f"+{HOMEPAGE}"
        elif not contact.strip() or _NOT_IN_A_COMMENT.search(contact):
            raise UsageError("--contact must be one line of text without parentheses, and not empty.")
        elif "://" in contact:
            contact = f"+{contact.strip()}"
        elif "@" not in contact:
            raise UsageError(f"--contact wants a URL or a mail address, not {contact!r}.")
        return f"scraper/{__version__} ({contact.strip()})"
    if contact is not None:
        raise UsageError("--contact goes into the default user agent: write it into --user-agent instead.")
    if not said.user_agent.strip() or NOT_IN_A_VALUE.search(said.user_agent):
        raise UsageError("--user-agent must be one line of text, and not empty.")
    if not token_of(said.user_agent.strip()):
        raise UsageError(
            "--user-agent must begin with a name, by which robots.txt can speak of it, as in name/1.0."
        )
    return said.user_agent.strip()


def parse_headers(said: Iterable[str]) -> dict[str, str]:
    """``('Name: value', …)`` → name in lower case → value.

    Raises:
        UsageError: one is no header, is given twice, or is not the user's to send.
    """
    headers: dict[str, str] = {}
    for text in said:
        name, colon, value = text.partition(":")
        key = name.strip(" \t").lower()
        if not colon or not TOKEN.fullmatch(key):
            raise UsageError("--header wants 'Name: value': a name without blanks, a colon, what it is to say.")
        if NOT_IN_A_VALUE.search(value):
            raise UsageError(f"--header {name.strip()} holds a line break or a control character.")
        if key == "user-agent":
            raise UsageError("Use --user-agent TEXT instead of --header 'User-Agent: …'.")
        if key == "proxy-authorization":
            raise UsageError(
                "--header Proxy-Authorization would go to servers: write it as --proxy http://USER:PASSWORD@HOST:PORT."
            )
        if key in _OURS_TO_SEND:
            raise UsageError(f"--header {name.strip()} cannot be set: it belongs to the connection.")
        if key in headers:
            raise UsageError(f"--header {name.strip()} is given twice; join the values with a comma.")
        headers[key] = value.strip()
    return headers


def is_secret(header: str) -> bool:
    """Whether a 'Name: value' looks like a credential: such are not written to the output folder."""
    return bool(_SECRET.search(header.partition(":")[0]))


def secrets(said: RequestOptions) -> SecretsConfig:
    """Cookies and credentials.

    Raises:
        UsageError: an ``--auth`` is none; what it holds is not repeated.
    """
    auth: dict[str, tuple[str, str]] = {}
    for place, both in (_auth(each) for each in said.auth if each != NETRC):
        if place in auth:
            raise UsageError(f"--auth {place} is given twice; an origin has one user and password.")
        auth[place] = both
    return SecretsConfig(auth, NETRC in said.auth, said.cookies, said.cookie_jar)


def _auth(text: str) -> tuple[str, tuple[str, str]]:
    """``'ORIGIN=USER:PASSWORD'`` → the origin in its normal form, and the two."""
    said, equals, both = text.partition("=")
    user, colon, password = both.partition(":")
    place = origin(said)
    if not equals or not colon or not place or normal(said) != f"{place}/" or NOT_IN_A_VALUE.search(both):
        raise UsageError(
            "--auth wants an origin, and the user and password for it: 'https://example.com=USER:PASSWORD'; "
            "or netrc."
        )
    return place, (user, password)


def proxy(text: str) -> str:
    """The proxy, checked; a secret in it is not repeated.

    Raises:
        UsageError: it is neither ``env`` nor the URL of an HTTP proxy.
    """
    text = text.strip()
    if text:
        from scraper.policies.proxies import ENVIRONMENT, Proxies

        if text != ENVIRONMENT:  # what that holds is looked at when the run begins
            Proxies(text, {})
    return text


def networks(said: Iterable[str]) -> tuple[str, ...]:
    """Networks in their normal form.

    Raises:
        UsageError: one is none.
    """
    return tuple(dict.fromkeys(map(str, parse_networks(said))))


def tls(said: SafetyOptions) -> TlsConfig:
    """Whom to believe.

    Raises:
        UsageError: a host is none, or a certificate names no host.
    """
    for host in said.insecure:
        if not _HOST.fullmatch(host):
            raise UsageError(f"--insecure {host!r} is no host: write example.com, one for each.")
    insecure = frozenset(host.lower() for host in said.insecure)
    return TlsConfig(insecure, said.ca_file, dict(_client_cert(each) for each in said.client_cert))


def _client_cert(text: str) -> tuple[str, tuple[str, str]]:
    host, equals, files = text.partition("=")
    certificate, _, key = files.partition(",")
    if not equals or not _HOST.fullmatch(host) or not certificate.strip():
        raise UsageError(f"--client-cert wants the host it is for and a file: 'example.com=FILE', not {text!r}.")
    return host.lower(), (certificate.strip(), key.strip())


def masked(field: str, value: object) -> object:
    """A value of these options as it may be shown: names stay, secrets go."""
    if field == "header" and isinstance(value, tuple):
        return tuple(f"{one.partition(':')[0]}: ***" if is_secret(one) else one for one in value)
    if field == "auth" and isinstance(value, tuple):
        return tuple(one if one == NETRC else f"{one.partition('=')[0]}=***" for one in value)
    if field == "proxy" and isinstance(value, str) and "@" in value:
        return f"{value.partition('://')[0]}://***@{value.rpartition('@')[2]}"
    return value


def listed(value: object) -> list[str]:
    """The values of a repeated option, however they are kept; none for anything else."""
    return list(map(str, value)) if isinstance(value, list | tuple) else []


def storable(options: Mapping[str, object]) -> tuple[dict[str, object], dict[str, list[str]]]:
    """Options as they may be kept in the output folder, and the names of those that had to stay out.

    Returns:
        The options without credentials; and, by option, what was left out of it: the names of headers, the origins
        of ``--auth``, ``proxy``.
    """
    kept = dict(options)
    left_out: dict[str, list[str]] = {}
    headers, auth, proxy = listed(kept.get("header")), listed(kept.get("auth")), str(kept.get("proxy") or "")
    if any(map(is_secret, headers)):
        kept["header"] = tuple(each for each in headers if not is_secret(each))
        left_out["header"] = [each.partition(":")[0].strip() for each in headers if is_secret(each)]
    if any(each != NETRC for each in auth):
        kept["auth"] = tuple(each for each in auth if each == NETRC)
        left_out["auth"] = [each.partition("=")[0] for each in auth if each != NETRC]
    if "@" in proxy:
        del kept["proxy"]
        left_out["proxy"] = [str(masked("proxy", proxy))]
    return kept, left_out
