"""The groups that hosts belong to, with what was learned of each. In: hosts that come and go. Out: their gates.

Each host is in the group of its domain (``policies.limits``), which has a pace, and, once the address it was
dialled at is known, in that of the address, which has fixed limits. What was learned of a domain outlives its
hosts, so that it is not learned anew with each row; an address's group goes with its last host.

Must never: remember more than 20,000 groups of which there is nothing in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from scraper.config import HostLimits, PolitenessConfig
from scraper.policies.gates import Gate
from scraper.policies.limits import Limits, allows_more, of_address, spacing_s
from scraper.policies.pace import Pace, PaceSnapshot, Throttle

REMEMBERED = 20_000
"""Groups remembered of which there is nothing in memory: at most 20 MB."""


class Group(Gate):
    """A gate, and whose.

    Attributes:
        key: the domain, pattern or address.
        limits: what it may be asked for.
        pace: what it bears; None for an address.
        throttle: its bytes a second; None for no bound.
        is_bound: the limits of the addresses of its hosts hold for them. Not if the user has allowed it more.
        members: hosts of it of which there is anything in memory.
    """

    __slots__ = ("is_bound", "key", "limits", "members", "pace", "throttle")

    def __init__(self, key: str, limits: HostLimits, gap_s: float, pace: Pace | None) -> None:
        super().__init__(limits.per_host if pace is None else int(pace.window), gap_s)
        self.key = key
        self.limits = limits
        self.pace = pace
        self.throttle = Throttle(limits.bandwidth) if limits.bandwidth else None
        self.members = 0
        self.is_bound = True

    @property
    def name(self) -> str:
        """Its key."""
        return self.key

    def __repr__(self) -> str:
        return f"<Group {self.key}: {self.out} of {self.limit} out>"

    def follow(self) -> bool:
        """Take over what the pace has come to. True if that is anything new."""
        if self.pace is None:
            return False
        limit, gap_s = int(self.pace.window), self.pace.gap_s
        if limit == self.limit and gap_s == self.gap_s:
            return False
        self.limit, self.gap_s = limit, gap_s
        return True

    def snapshot(self, now: float) -> PaceSnapshot:
        """For the report; of a domain's group only."""
        assert self.pace is not None
        pace, last = self.pace, max(self.first_start, self.last_start)
        counts = (pace.requests, pace.answers, pace.throttled, pace.refusals, pace.bytes)
        return PaceSnapshot(self.key, *counts, self.first_start, last, self.limit, self.gap_s, pace.why(now))


class Groups:
    """All of a run.

    Args:
        politeness: the limits.
        on_forgotten: told a group that is forgotten, since too many are remembered.
    """

    def __init__(self, politeness: PolitenessConfig, on_forgotten: Callable[[Group], None]) -> None:
        self._limits = Limits(politeness)
        self._machine = of_address(politeness)
        self._machine_gap_s = spacing_s(self._machine)
        self._is_adaptive = politeness.adaptive
        self._on_forgotten = on_forgotten
        self._used: dict[str, Group] = {}
        self._idle: OrderedDict[str, Group] = OrderedDict()
        self._addresses: dict[str, Group] = {}

    def __repr__(self) -> str:
        return f"<Groups {len(self._used)} used, {len(self._idle)} idle, {len(self._addresses)} addresses>"

    def enter(self, host: str) -> tuple[Gate, ...]:
        """There is something of ``host`` from now on."""
        key, limits = self._limits.group_of(host)
        group = self._used.get(key)
        if group is None:
            group = self._used[key] = self._idle.pop(key) if key in self._idle else self._new(key, limits)
        group.members += 1
        return (group,)

    def leave(self, gates: tuple[Gate, ...]) -> None:
        """There is no more of a host that had these gates."""
        for group in cast("tuple[Group, ...]", gates):
            group.members -= 1
            if not group.members:
                self._rest(group)

    def of(self, host: str) -> Group:
        """The group of a host's domain, whether there is anything of the host or not."""
        key, limits = self._limits.group_of(host)
        found = self._used.get(key) or self._idle.get(key)
        if found is None:
            found = self._used[key] = self._new(key, limits)
            self._rest(found)
        return found

    def at(self, address: str) -> Group:
        """The group of an address, which has one host more from now on."""
        group = self._addresses.get(address)
        if group is None:
            group = self._addresses[address] = Group(address, self._machine, self._machine_gap_s, None)
        group.members += 1
        return group

    def _new(self, key: str, limits: HostLimits) -> Group:
        pace = Pace(limits, adaptive=self._is_adaptive)
        group = Group(key, limits, pace.gap_s, pace)
        group.is_bound = not allows_more(limits, self._machine)
        return group

    def _rest(self, group: Group) -> None:
        if group.pace is None:
            del self._addresses[group.key]
            return
        del self._used[group.key]
        self._idle[group.key] = group
        if len(self._idle) > REMEMBERED:
            self._on_forgotten(self._idle.popitem(last=False)[1])
