"""Which hosts have rows on disk, and whose are to come back next. In: rows that go and come. Out: hosts, in turn.

Must never: look at a host that the event is not about; name a host again while its rows are on their way.
"""

from __future__ import annotations

from collections import deque


class Spilled:
    """Counts what is on disk, O(1) an event.

    Attributes:
        rows: on disk, those on their way there or back included.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._by_host: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._line: deque[str] = deque()  # those of the wanted that have not been named yet

    def __repr__(self) -> str:
        return f"<Spilled {self.rows} rows of {len(self._by_host)} hosts>"

    def __contains__(self, host: str) -> bool:
        return host in self._by_host

    def go(self, host: str) -> None:
        """A row of ``host`` goes to disk."""
        self._by_host[host] = self._by_host.get(host, 0) + 1
        self.rows += 1

    def want(self, host: str) -> None:
        """Rows of ``host``, which has some, are to come back, unless they are on their way."""
        if host not in self._wanted:
            self._wanted.add(host)
            self._line.append(host)

    def next(self) -> str | None:
        """The host that has been wanted for longest, whose rows are on their way from now on; None if none is."""
        return self._line.popleft() if self._line else None

    def come(self, host: str, rows: int) -> None:
        """So many rows of ``host`` are back: it may be wanted again."""
        self._wanted.discard(host)
        self.rows -= rows
        self._by_host[host] -= rows
        if self._by_host[host] == 0:
            del self._by_host[host]
