"""What a run notes of its hosts for the ledger: how they were treated, and until when they are to be left alone.

In: the groups of hosts that something happened to. Out: what has come to pass since the last time, as records.
Must never: look at a host to which nothing happened; count anything twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from scraper.frontier import Frontier
from scraper.ledger_hosts import Holds, HostRecord
from scraper.policies.groups import Group
from scraper.policies.pace import PaceSnapshot


class Treatment:
    """One run's.

    Args:
        frontier: whose hosts they are.
    """

    def __init__(self, frontier: Frontier) -> None:
        self._hosts = frontier.hosts
        self._hosts.on_forgotten = self._forgotten
        self._touched: dict[str, Group] = {}
        self._noted: dict[str, PaceSnapshot] = {}
        self._records: list[HostRecord] = []
        self._holds: dict[str, float] = {}
        self._reasons: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Treatment {len(self._touched)} hosts changed, {len(self._holds)} held>"

    def __bool__(self) -> bool:
        """Whether there is anything to keep that cannot wait for the next rows: a server's word."""
        return bool(self._holds)

    def touch(self, host: str) -> None:
        """Something happened to ``host`` (``Request.host``)."""
        group = self._hosts.group(host)
        self._touched[group.key] = group

    def note(self, host: str, why: str) -> None:
        """``host`` is not asked for that reason, which goes before what holds its group back."""
        self._reasons[self._hosts.group(host).key] = why

    def hold(self, host: str, seconds: float) -> None:
        """``host`` is to be left alone for so long from now on."""
        self._holds[host] = max(self._holds.get(host, 0.0), time.time() + seconds)

    def taken(self) -> tuple[list[HostRecord], Holds]:
        """What has come to pass since this was called last."""
        now = asyncio.get_running_loop().time()
        records, self._records = self._records, []
        for group in self._touched.values():
            snapshot = group.snapshot(now)
            record = _since(self._noted.get(snapshot.key), snapshot)
            records.append(record._replace(why=self._reasons.pop(snapshot.key, record.why)))
            self._noted[snapshot.key] = snapshot
        self._touched.clear()
        holds, self._holds = self._holds, {}
        return records, holds

    def _forgotten(self, snapshot: PaceSnapshot) -> None:
        """A group goes, and if it comes again its counts begin at nothing."""
        if self._touched.pop(snapshot.key, None) is not None:
            self._records.append(_since(self._noted.get(snapshot.key), snapshot))
        self._noted.pop(snapshot.key, None)


def _since(before: PaceSnapshot | None, now: PaceSnapshot) -> HostRecord:
    active_s = now.last_start - now.first_start
    counts = (now.requests, now.throttled, now.refusals, now.bytes, active_s, int(now.requests > 0))
    record = HostRecord(now.key, *counts, now.delay_s, now.window, now.why)
    if before is None:
        return record
    return record._replace(
        stretches=int(now.requests > 0 and not before.requests),
        requests=now.requests - before.requests,
        throttled=now.throttled - before.throttled,
        refused=now.refusals - before.refusals,
        bytes=now.bytes - before.bytes,
        active_s=active_s - (before.last_start - before.first_start),
    )


def left_of(holds: Mapping[str, float]) -> dict[str, float]:
    """Holds of an earlier run, as seconds from now on."""
    now = time.time()
    return {host: until - now for host, until in holds.items() if until > now}
