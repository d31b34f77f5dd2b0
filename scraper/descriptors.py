"""Open files: how many this process may have, and so how many connections.

In: how many fetches are wanted at once. Out: how many there is room for. Must never: fail.
"""

from __future__ import annotations

import resource

RESERVED = 96
"""For everything but fetches: the ledger, sinks, workers' pipes, libraries, and connections kept for reuse."""

LEAST = 4

IDLE_SHARE = 8
"""Idle connections are kept for at most one host to so many descriptors; a broad crawl meets thousands."""


def room_for(concurrency: int) -> int:
    """As many of the fetches as there may be connections, the soft limit of open files raised to the hard one.

    The soft limit is low on many systems for the sake of programs that use select(); we do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):  # some systems have a lower limit of their own beside the hard one
            pass
    if soft == resource.RLIM_INFINITY:
        return concurrency
    return min(concurrency, max(LEAST, soft - RESERVED))


def idle_hosts(most: int) -> int:
    """For how many hosts idle connections may be kept, at most ``most``."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, max(1, soft // IDLE_SHARE))
