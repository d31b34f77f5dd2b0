"""Who counts as one host, and what it may be asked for. In: origins. Out: the group of each, and its limits.

    b.example.com ─▶ a pattern of the user's names it    ─▶ *.example.com    with that pattern's limits
                  └▶ none does: its registrable domain   ─▶ example.com      with the limits of any host

What shares a group shares its limits. A registrable domain is one, since that is what one operator runs; what lies
below a public suffix (``policies.suffixes``) is several: two blogs of blogspot.com are two hosts.

Must never: put two operators into one group that the user did not put there; ask the network for anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from scraper.config import HostLimits, PolitenessConfig
from scraper.policies.addresses import is_address
from scraper.policies.suffixes import is_public_suffix, registrable
from scraper.whatwg import place_of

EVERYBODY = "*"
"""The pattern that matches each host which no other pattern matches."""

MACHINE = 4
"""How many hosts' worth one address may be asked for: one machine with 1,000 blogs is one machine, but hosting
that holds a hundred sites bears more than one site does."""

_KNOWN = 16_384
"""Origins whose group is remembered; finding it takes some 7 µs."""


def of_address(politeness: PolitenessConfig) -> HostLimits:
    """The limits of one address: ``MACHINE`` times those of any host."""
    base = politeness.hosts.get(EVERYBODY, politeness.limits)
    return HostLimits(
        per_host=MACHINE * base.per_host,
        delay_s=base.delay_s / MACHINE,
        rate=MACHINE * base.rate,
        bandwidth=MACHINE * base.bandwidth,
    )


def spacing_s(limits: HostLimits) -> float:
    """Least seconds between the beginnings of two requests: by the delay or the rate, whichever is longer."""
    return max(limits.delay_s, 1 / limits.rate if limits.rate else 0.0)


def allows_more(limits: HostLimits, than: HostLimits) -> bool:
    """Whether a host with these limits may do in any respect what those others forbid."""
    return (
        limits.per_host > than.per_host
        or spacing_s(limits) < spacing_s(than)
        or 0 < than.bandwidth < (limits.bandwidth or than.bandwidth + 1)
    )


class Limits:
    """The groups of origins (``Request.host``: ``host`` or ``host:port``, in normal form).

    Args:
        politeness: the limits of any host, and those by pattern. Patterns name hosts without ports:
            ``example.com`` is itself only, ``*.example.com`` itself and all below it, ``*`` everybody. The exact
            name goes before the longest ``*.`` before ``*``. A port that is not the scheme's own is a group of
            its own.

    Attributes:
        group_of: the key of an origin's group, for people to read as well, and the limits of that group. A
            pattern's group is all that it matches; of ``*``, or where it stands for a public suffix, each
            registrable domain is a group with these limits.
    """

    def __init__(self, politeness: PolitenessConfig) -> None:
        self._any = politeness.limits
        self._exact: dict[str, HostLimits] = {}
        self._below: dict[str, HostLimits] = {}
        for pattern, limits in politeness.hosts.items():
            if pattern == EVERYBODY:
                self._any = limits
            elif pattern.startswith("*."):
                self._below[_dialled(pattern[2:])] = limits
            else:
                self._exact[_dialled(pattern)] = limits
        self.group_of: Callable[[str], tuple[str, HostLimits]] = functools.lru_cache(_KNOWN)(self._group_of)

    def __repr__(self) -> str:
        return f"<Limits {len(self._exact)} hosts, {len(self._below)} patterns>"

    def _group_of(self, origin: str) -> tuple[str, HostLimits]:
        host, port = _split(origin)
        key, limits = self._group_of_host(host.removesuffix("."))
        return key + port, limits

    def _group_of_host(self, host: str) -> tuple[str, HostLimits]:
        exact = self._exact.get(host)
        if exact is not None:
            return host, exact
        is_name = not is_address(host.strip("[]"))
        base = self._longest(host) if is_name and self._below else None
        limits = self._any if base is None else self._below[base]
        if base is not None and not is_public_suffix(base):
            return f"*.{base}", limits
        domain = registrable(host) if is_name else host
        # The name has limits of its own: what is below it must not be taken for it.
        return (f"*.{domain}" if domain in self._exact else domain), limits

    def _longest(self, host: str) -> str | None:
        """The longest of the ``*.`` patterns' names that ``host`` is, or is below of."""
        name = host
        while name:
            if name in self._below:
                return name
            name = name.partition(".")[2]
        return None


def _split(origin: str) -> tuple[str, str]:
    """The host, and the colon and port or nothing."""
    host, colon, port = origin.rpartition(":")
    if not colon or not port.isdigit():  # no port, or the last colon is one within [::1]
        return origin, ""
    return host, colon + port


def _dialled(name: str) -> str:
    """A host as the user writes it → as it stands in origins, without the root's dot."""
    return (place_of(f"http://{name}/") or name).removesuffix(".")
