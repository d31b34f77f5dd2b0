"""Which hosts have rows on disk, and whose are to come back next. In: rows that go and come. Out: hosts, in turn.

Must never: look at a host that the event is not about; name a host again while its rows are on their way.
"""

from __future__ import annotations

from collections import deque

from scraper.records import Request

_NUMBER = 8
"""Characters that a column's number, truth or nothing counts for."""


def weight(request: Request) -> int:
    """Characters of what the list said of a row: the same whatever becomes of it on the way."""
    size = len(request.url) + len(request.caption or "")
    for value in request.columns.values():
        if isinstance(value, str | bytes):
            size += len(value)
        else:
            size += _NUMBER if value is None or isinstance(value, int | float) else len(repr(value))
    return size


class Spilled:
    """Counts what is on disk, O(1) an event.

    Attributes:
        rows: on disk, those on their way there or back included.
        size: their weight.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.size = 0
        self._by_host: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._line: deque[str] = deque()  # those of the wanted that have not been named yet
        self._absent: dict[str, deque[str]] = {}

    def __repr__(self) -> str:
        return f"<Spilled {self.rows} rows of {len(self._by_host)} hosts>"

    def __contains__(self, host: str) -> bool:
        return host in self._by_host

    def go(self, host: str, size: int = 0) -> None:
        """A row of ``host`` goes to disk."""
        self._by_host[host] = self._by_host.get(host, 0) + 1
        self.rows += 1
        self.size += size

    def want(self, host: str) -> None:
        """Rows of ``host``, which has some, are to come back, unless they are on their way."""
        if host not in self._wanted:
            self._wanted.add(host)
            self._line.append(host)

    def absent(self, host: str, group: str) -> None:
        """Nothing of ``host`` is in memory, so nothing of its own will tell when to want it: its group has to."""
        self._absent.setdefault(group, deque()).append(host)

    def want_absent(self, group: str) -> None:
        """Want that host of the group which has been absent for longest, if any is."""
        hosts = self._absent.get(group)
        while hosts:
            host = hosts.popleft()
            if not hosts:
                del self._absent[group]
            if host in self._by_host:  # else it came back for a row that was redirected to it
                self.want(host)
                return

    def next(self) -> str | None:
        """The host that has been wanted for longest, whose rows are on their way from now on; None if none is."""
        return self._line.popleft() if self._line else None

    def come(self, host: str, rows: int, size: int = 0) -> None:
        """So many rows of ``host`` are back: it may be wanted again."""
        self._wanted.discard(host)
        self.rows -= rows
        self.size -= size
        self._by_host[host] -= rows
        if self._by_host[host] == 0:
            del self._by_host[host]
