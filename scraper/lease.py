"""A worker's hold on one request and one permit of its host, for the length of an ``async with`` block.

In: how to get the next request, and whom to tell of the end. Out: the request, or None where there is no more.
Must never: keep the permit when the block is left, however it is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scraper.records import Request


class Lease:
    """Used once.

    Args:
        next_: waits for the next request; its host and the request, or None.
        end: told the host when the block is left.
    """

    __slots__ = ("_end", "_host", "_next")

    def __init__(
        self, next_: Callable[[], Awaitable[tuple[str, Request] | None]], end: Callable[[str], None]
    ) -> None:
        self._next = next_
        self._end = end
        self._host: str | None = None

    async def __aenter__(self) -> Request | None:
        taken = await self._next()
        if taken is None:
            return None
        self._host, request = taken
        return request

    async def __aexit__(self, *_: object) -> None:
        host, self._host = self._host, None
        if host is not None:
            self._end(host)
