"""What is one place, as secrets see it. In: URLs. Out: origins (RFC 6454 4), and whether a request has left one.

Must never: call two places one.
"""

from __future__ import annotations

from scraper.records import Request, origin_of


def origin(url: str) -> str:
    """``scheme://host[:port]`` of a URL; empty where it has no host."""
    host = origin_of(url)
    return f"{url.strip().partition(':')[0].lower()}://{host}" if host else ""


def is_at_home(request: Request) -> bool:
    """Whether the request, and all hops that led to it, have the origin of the row's own URL.

    Once away it stays away: a place that sends us on to where we came from is not to be trusted with what was
    meant for that.
    """
    home = origin(request.url)
    return home != "" and all(origin(url) == home for url in (*request.hops, request.asked))
