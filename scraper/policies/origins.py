r"""What is one place, as secrets see it. In: URLs. Out: origins (RFC 6454 4), and whether a request has left one.

Must never: call two places one. So an origin is read off the form in which a URL is dialled: where another reader
of ``http://b.example\@a.example/`` finds a.example, b.example would be asked with what was meant for a.example.
"""

from __future__ import annotations

from scraper.records import Request
from scraper.whatwg import normal, place_of


def origin(url: str) -> str:
    """``scheme://host[:port]`` that a URL is dialled at, without the scheme's own port; empty if it is not."""
    place = place_of(url)
    return f"{normal(url).partition(':')[0]}://{place}" if place else ""


def is_at_home(request: Request) -> bool:
    """Whether the request, and all hops that led to it, have the origin of the row's own URL.

    Once away it stays away: a place that sends us on to where we came from is not to be trusted with what was
    meant for that. A new attempt begins at home.
    """
    if not request.hops and request.asked == request.url:
        return True  # most requests, and nothing to parse
    home = origin(request.url)
    return home != "" and all(origin(url) == home for url in (*request.hops, request.asked))
