"""A worker's hold on one request and its place at its host, for the length of an ``async with`` block.

In: how to get the next request, and whom to tell of the end. Out: the request, or None where there is no more.
Must never: keep the place when the block is left, however it is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scraper.policies.turns import Taken
from scraper.records import Request


class Lease:
    """Used once.

    Args:
        next_: waits for the next request; None where there is no more.
        end: told the request when the block is left.
    """

    __slots__ = ("_end", "_next", "_taken")

    def __init__(self, next_: Callable[[], Awaitable[Taken | None]], end: Callable[[Taken], None]) -> None:
        self._next = next_
        self._end = end
        self._taken: Taken | None = None

    async def __aenter__(self) -> Request | None:
        self._taken = taken = await self._next()
        return taken.request if taken is not None else None

    async def __aexit__(self, *_: object) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            self._end(taken)
