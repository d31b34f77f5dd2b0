"""What a hop can come to.

    Fetched      a complete, decoded 2xx response; its slot in the arena is the caller's to release
    Redirected   the request for the next hop; back to the frontier with it, so that the next host's permits hold
    NotModified  the server says that the copy we hold is current; it was asked for that one
    Failed       the outcome class, and where the time went

In: nothing. Out: names for what travels from fetch to engine. Must never: do anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from scraper.arena import Slot
from scraper.errors import FetchFailed
from scraper.records import Request, Response, Timings


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete response. ``slot`` accounts for its bytes and is the caller's to release."""

    response: Response
    slot: Slot


@dataclass(frozen=True, slots=True)
class Redirected:
    """The same attempt goes on at another URL."""

    request: Request


@dataclass(frozen=True, slots=True)
class NotModified:
    """The copy that an earlier run holds is current (RFC 9110 15.4.5).

    Attributes:
        headers: of the response, by lower-case name; the first value of each.
        timings: where the time went.
        url: what was asked last.
    """

    headers: Mapping[str, str]
    timings: Timings
    url: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt is over.

    Attributes:
        error: the class and one sentence.
        timings: where the time went.
        url: what was asked last.
    """

    error: FetchFailed
    timings: Timings
    url: str


Answer = Redirected | NotModified | Failed
"""What a response can amount to whose body is not wanted."""

Ask = Callable[[Request], Awaitable[Fetched | Answer]]
"""Makes one hop."""
