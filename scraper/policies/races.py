"""Which address of a host to try first. In: which addresses were tried, and which of them won. Out: an order.

The addresses of a name are raced, each with a head start over the next (RFC 8305 5). A dead one in front costs its
host that head start for every connection, and many of them cost it the whole time limit. So whoever lost goes last
for a while.

Must never: leave an address out; remember without a bound.
"""

from __future__ import annotations

from collections.abc import Collection

LAST_FOR_S = 600.0
"""How long an address goes last: a path that broke is repaired in minutes or in days."""

REMEMBERED = 10_000
"""Addresses that lost, the latest; 2 MB."""

End = tuple[str, int]
"""An address and a port: what is dead on one may live on another."""


class Races:
    """The races that were run. Times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._lost: dict[End, float] = {}

    def __repr__(self) -> str:
        return f"<Races: {len(self._lost)} addresses lost>"

    def lost_at(self, end: End, now: float) -> float:
        """A key to sort by: when this end lost, if that still counts; among losers the earliest goes first."""
        lost_at = self._lost.get(end)
        return float("-inf") if lost_at is None or now - lost_at >= LAST_FOR_S else lost_at

    def ended(self, tried: Collection[End], won: End | None, now: float) -> None:
        """A race is over. One that ran alone and was not connected to is no loser: there is none to prefer to it.

        Args:
            tried: who took part.
            won: who was connected to; None for nobody.
            now: the time.
        """
        if won is None and len(tried) == 1:
            return
        for end in tried:
            self._lost.pop(end, None)  # to the end of the order
            if end != won:
                self._lost[end] = now
                if len(self._lost) > REMEMBERED:
                    del self._lost[next(iter(self._lost))]
