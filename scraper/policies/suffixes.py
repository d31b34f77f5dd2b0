"""What of a host's name is registered, and what is everybody's. In: a host. Out: the part that one owner has.

By the public suffix list (publicsuffix.org), its part of companies that give names to their customers included:
two blogs of blogspot.com are two owners. The list is the one that comes with the library; nothing is fetched.

Must never: take two owners for one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from scraper.policies.addresses import is_address

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


@functools.lru_cache(maxsize=16_384)  # asked for each request; looking up takes 5 µs
def registrable(host: str) -> str:
    """The registrable domain of a host in ASCII; the host itself where there is none: addresses, ``co.uk``."""
    return host if is_address(host) else _suffixes().privatesuffix(host) or host


def is_public_suffix(host: str) -> bool:
    """Whether anybody can have a name below this: ``com``, ``co.uk``, ``github.io``, and any single word."""
    return not is_address(host) and _suffixes().is_public(host)


@functools.cache
def _suffixes() -> PublicSuffixList:
    """The list: 60 ms to read, so not before somebody asks."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
