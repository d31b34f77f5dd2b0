"""How many fetches may be under way, which a run may have to lower: one semaphore that can be made narrower.

In: fetchers that want a permit. Out: permits, in the order of asking. Must never: go below one; take a permit away
from somebody who has it.
"""

from __future__ import annotations

import asyncio


class Permits:
    """A BoundedSemaphore of ``most`` permits, some of which may be kept back. ``async with permits:`` for one.

    Attributes:
        limit: how many there are to have at present.
    """

    def __init__(self, most: int) -> None:
        self._semaphore = asyncio.BoundedSemaphore(most)
        self._most = most
        self._owed = 0  # to be kept back as soon as they are given back
        self._kept = 0

    def __repr__(self) -> str:
        return f"<Permits {self.limit} of {self._most}>"

    @property
    def limit(self) -> int:
        """How many there are to have."""
        return self._most - self._owed - self._kept

    def fewer(self) -> None:
        """Keep back one more, unless it is the last."""
        if self.limit > 1:
            self._owed += 1

    def more(self) -> None:
        """Let one that was kept back be had again, if there is any."""
        if self._owed:
            self._owed -= 1
        elif self._kept:
            self._kept -= 1
            self._semaphore.release()

    async def __aenter__(self) -> None:
        await self._semaphore.acquire()

    async def __aexit__(self, *_: object) -> None:
        if self._owed:
            self._owed -= 1
            self._kept += 1
        else:
            self._semaphore.release()
