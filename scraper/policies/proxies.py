"""Through which proxy a URL is asked. In: what the user said, and the environment if that was what. Out: a URL.

    --proxy URL    everything goes through that proxy, this machine's own servers too; the environment is not asked
    --proxy env    http_proxy, https_proxy, all_proxy for what has none of its own, and no_proxy
    neither        nothing goes through a proxy; the environment is not asked

There is no standard for these variables. Names in lower case go before those in upper case, and an empty one is
none, as in Python's urllib and in curl; HTTP_PROXY is not taken where REQUEST_METHOD stands beside it, since a
stranger may have set it there (httpoxy, CVE-2016-1000110). no_proxy lists, with commas or blanks between:

    *                          everything
    example.com                that host and all below it; .example.com and *.example.com are the same
    192.0.2.7  192.0.2.0/24    hosts that are written as such an address; names are not looked up for it
    example.com:8080           that port only

Must never: take a proxy from the environment unasked; go round a proxy for a host that is not named; repeat the
proxy's password.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from scraper.errors import UsageError
from scraper.policies.addresses import Network
from scraper.policies.secrets import mask_secrets

ENVIRONMENT = "env"
"""What the user says to have the environment asked."""

JUDGED = 65_536
"""Hosts of which it is kept whether ``no_proxy`` names them: finding out takes 1 µs for each of its entries."""

_SCHEMES = ("http", "https")


class Proxies:
    """The proxies of a run.

    Args:
        said: a proxy's URL, ``env`` for what the environment names, empty for none.
        environment: the variables of the process; looked at for ``env`` only, here and now.

    Raises:
        UsageError: what is said is no HTTP proxy.
    """

    def __init__(self, said: str, environment: Mapping[str, str]) -> None:
        self._by_scheme: dict[str, URL] = {}
        self._around: _Around | None = None
        if said == ENVIRONMENT:
            variables = _variables(environment)
            self._by_scheme = dict(_of_environment(variables))
            self._around = _Around(variables.get("no_proxy", ("", ""))[1])
        elif said:
            self._by_scheme = dict.fromkeys(_SCHEMES, _proxy(said, "--proxy"))

    def __repr__(self) -> str:
        shown = {scheme: mask_secrets(str(proxy)) for scheme, proxy in self._by_scheme.items()}
        return f"<Proxies {shown or 'none'}>"

    def of(self, url: URL) -> URL | None:
        """The proxy to ask ``url`` through; None for none."""
        if not self._by_scheme:
            return None
        proxy = self._by_scheme.get(url.scheme)
        if proxy is None or (self._around is not None and self._around.holds(url)):
            return None
        return proxy


@dataclass(frozen=True, slots=True)
class _Entry:
    """Something that no_proxy names: a host with all below it, or a network; on any port, where that is empty."""

    host: str
    network: Network | None
    port: str


class _Around:
    """What no proxy is for.

    Args:
        no_proxy: the variable.
    """

    def __init__(self, no_proxy: str) -> None:
        self._entries = [_entry(each) for each in no_proxy.replace(",", " ").split()]
        self._judged = functools.lru_cache(maxsize=JUDGED)(self._judge)

    def holds(self, url: URL) -> bool:
        """Whether ``url`` is asked without a proxy."""
        return self._judged(url.raw_host or "", str(url.port))

    def _judge(self, host: str, port: str) -> bool:
        host = host.lower().rstrip(".")
        address = _address(host)
        return any(
            each.port in ("", port)
            and (each.host in ("*", host) or _is_below(host, each.host) or _is_in(address, each.network))
            for each in self._entries
        )


def _entry(text: str) -> _Entry:
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:  # more are an IPv6 address
        host, _, port = text.partition(":")
    host = host.lower().rstrip(".")
    if host != "*":
        host = host.removeprefix("*").lstrip(".")
    try:
        return _Entry(host, ipaddress.ip_network(host, strict=False), port)
    except ValueError:
        return _Entry(host, None, port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_below(host: str, base: str) -> bool:
    return base != "" and host.endswith(f".{base}")


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, network: Network | None) -> bool:
    return address is not None and network is not None and address in network


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The variables that count, by their name in lower case: the name as it stands there, and the value."""
    environment = dict(environment)  # on Windows os.environ would find HTTP_PROXY by the name http_proxy
    found: dict[str, tuple[str, str]] = {}
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        if name in environment:
            found[name] = name, environment[name].strip()
        elif name != "http_proxy" or "REQUEST_METHOD" not in environment:
            found[name] = name.upper(), environment.get(name.upper(), "").strip()
    return {name: said for name, said in found.items() if said[1]}


def _of_environment(variables: Mapping[str, tuple[str, str]]) -> list[tuple[str, URL]]:
    proxies = []
    for scheme in _SCHEMES:
        name, value = variables.get(f"{scheme}_proxy") or variables.get("all_proxy") or ("", "")
        if value:
            proxies.append((scheme, _proxy(value if "://" in value else f"http://{value}", name)))
    return proxies


def _proxy(text: str, said_by: str) -> URL:
    """A proxy's URL, checked.

    Args:
        text: the URL.
        said_by: the option or the variable it comes from, for the sentence.
    """
    scheme = text.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise UsageError(f"{said_by} names a SOCKS proxy, which is not supported: name an HTTP proxy instead.")
    try:
        url = URL(text)
        is_proxy = url.scheme in _SCHEMES and bool(url.raw_host) and url.port != 0
        is_proxy = is_proxy and url.raw_path_qs == "/" and not url.raw_fragment
    except ValueError:
        is_proxy = False
    if not is_proxy:
        shown = mask_secrets(text)
        raise UsageError(f"{said_by} {shown!a} is no HTTP proxy: write its URL, as http://proxy.example:3128.")
    if ":" in (url.user or ""):
        raise UsageError(f"{said_by}: the proxy's user has a colon in it, which Basic cannot send (RFC 7617 2).")
    return url.with_path("/") if url.user is None and url.password is None else _in_utf8(url)


def _in_utf8(url: URL) -> URL:
    # aiohttp sends both in Latin-1, so that here it sends the bytes of UTF-8 (RFC 7617 2.1), as origins are sent.
    user, password = (text.encode().decode("latin-1") for text in (url.user or "", url.password or ""))
    return url.with_path("/").with_user(user).with_password(password)
