"""Who is next. In: rows of the list. Out, to each worker that asks: a request that may be made now.

    admit ─▶ turns ─▶ lease          in memory, a bounded window of each host, and of each group of hosts
       └─▶ backlog ─┘                on disk, what a host has beyond its window

The list is read on only while somebody wants what may be in it. What is read on the way and belongs to a host with
a full window goes to the backlog, and comes back in order as the window empties (``scraper.windows``). Who may be
asked when follows from what ``scraper.hosts`` is told.

How it ends. All is done: the list is closed and nothing is queued, deferred, spilled or out; each waiting worker
gets None. The run stops: each worker gets None at once, ``admit`` returns, and what is queued stays unasked. The
backlog fails: the next worker and the feeder raise its error.

Must never: hold more rows than the windows; look at all hosts or workers for one event; wait with a lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from scraper.backlog import Backlog
from scraper.config import PermitConfig, PolitenessConfig
from scraper.hosts import Hosts
from scraper.lease import Lease
from scraper.policies.turns import Taken
from scraper.records import Request
from scraper.units import show_seconds
from scraper.windows import Bounds, Windows

_SPILL_BATCH = 512
"""Rows in one trip to the backlog's thread; a trip costs as much as some 50 rows."""

_ENOUGH = 3
"""Rounds of requests ready beyond those out at which reading on ends; it resumes at one less."""


class FrontierStatistics(NamedTuple):
    """The frontier at one moment.

    Attributes:
        hosts: hosts of which anything is in memory.
        queued: requests that wait for their host's turn only.
        out: requests leased.
        deferred: requests that wait for a time.
        waits: something will go on by itself, at a time that is known.
        spilled: rows in the backlog.
        idle: workers that wait for a request.
    """

    hosts: int
    queued: int
    out: int
    deferred: int
    waits: bool
    spilled: int
    idle: int


class Frontier:
    """The requests of a run: from the list to the workers and, for retries and redirects, back.

    Args:
        permits: how many workers there are to feed.
        politeness: what each host may be asked for.
        backlog: takes the rows beyond the windows. Open for as long as the frontier is used.
        bounds: how far the list is read ahead.

    Attributes:
        hosts: to be told how requests ended; see there.
        paused: why nothing is handed out at present, by reason, in words for people; empty while it is.
    """

    def __init__(
        self,
        permits: PermitConfig,
        politeness: PolitenessConfig,
        backlog: Backlog,
        bounds: Bounds | None = None,
    ) -> None:
        self._now = asyncio.get_running_loop().time
        self.hosts = Hosts(politeness, self._move_on)
        self._turns = self.hosts.turns
        self._windows = Windows(bounds or Bounds(), permits, politeness, self.hosts, backlog, self._came)
        self._concurrency = permits.concurrency
        self._refused: set[int] = set()  # rows out that are not to be asked
        self._idle: dict[asyncio.Future[Taken | None], None] = {}
        self._feeder: asyncio.Future[None] | None = None
        self._feeding = asyncio.Lock()
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0  # kept here: uvloop gives a handle without a time for a time that has come
        self._failure: BaseException | None = None
        self._is_closed = False
        self._is_stopped = False
        self.paused: dict[str, str] = {}
        self._one_may_go = False  # all the same, while paused

    def __repr__(self) -> str:
        now = self.statistics()
        held = f"{now.queued} queued, {now.out} out, {now.deferred} deferred, {now.spilled} spilled"
        return f"<Frontier {now.hosts} hosts, {held}>"

    def statistics(self) -> FrontierStatistics:
        """A snapshot, O(1)."""
        turns = self._turns
        counts = (turns.hosts, turns.queued, turns.out, turns.deferred, turns.next_time() is not None)
        return FrontierStatistics(*counts, spilled=self._windows.spilled.rows, idle=len(self._idle))

    # The list's side.

    async def admit(self, requests: Sequence[Request]) -> bool:
        """Let rows of the list in, in order, waiting while nobody wants them.

        Returns:
            False if the run has stopped: there is no point in coming back.

        Raises:
            RuntimeError: the frontier is closed.
            SinkFailed: the backlog's disk refused.
        """
        if self._is_closed and not self._is_stopped:
            raise RuntimeError("the frontier is closed: it takes no more rows of the list")
        async with self._feeding:
            beyond: list[Request] = []
            for request in requests:
                if beyond and (len(beyond) >= _SPILL_BATCH or not self._wants(_ENOUGH)):
                    await self._spill(beyond)
                    beyond = []
                if not await self._hunger():
                    return False
                if self._windows.place(request, self._now()):
                    self._hand_out()
                else:
                    beyond.append(request)
            await self._spill(beyond)
        return not self._is_stopped

    def close(self) -> None:
        """The list has been read to its end."""
        self._is_closed = True
        self._move_on()

    async def _spill(self, beyond: Sequence[Request]) -> None:
        pushing = self._windows.push(beyond) if beyond else None
        self._reload()
        if pushing is not None:
            await asyncio.shield(pushing)  # a cancelled feeder must not take back what is counted as spilled

    def _wants(self, rounds: int) -> bool:
        """Whether to read on: somebody has, or would soon have, nothing to do, and there is room for it."""
        return (
            not self.paused
            and (bool(self._idle) or self._turns.supply < rounds * self._concurrency)
            and self._windows.have_room()
        )

    async def _hunger(self) -> bool:
        """Wait until a row of the list is wanted. False when none will be."""
        rounds = _ENOUGH
        while not self._is_stopped:
            if self._failure is not None:
                raise self._failure
            if self._wants(rounds):
                return True
            self._reload()
            rounds = _ENOUGH - 1  # having stopped, wait for a whole round to be used up
            self._feeder = asyncio.get_running_loop().create_future()
            try:
                await self._feeder
            finally:
                self._feeder = None
        return False

    # The workers' side.

    def lease(self) -> Lease:
        """``async with frontier.lease() as request``: the next request, with a place at its host for the block.

        None when there will be no more. Leaving the block gives the place back, and ends the row unless it was
        readmitted.

        Raises:
            SinkFailed: the backlog's disk refused.
        """
        return Lease(self._next, self._end_lease)

    def readmit(self, request: Request, *, not_before: float = 0.0, front: bool = False) -> None:
        """Take back the request in hand, for another attempt or another hop, which may be to another host.

        Args:
            request: what to ask next.
            not_before: earliest time, by the loop's clock.
            front: before what its host has queued.

        Raises:
            RuntimeError: no request is out.
        """
        if self._turns.out == 0:
            raise RuntimeError("nothing is leased, so nothing can be readmitted")
        if self._is_stopped:
            return
        self._windows.enter(request)
        self._turns.add(request.host, request, self._now(), front=front, not_before=not_before)
        self._move_on()

    def is_given_up(self, request: Request) -> bool:
        """Whether the request, which is leased, is not to be asked: its host has failed for too long."""
        return request.row in self._refused

    def waits_for(self) -> str:
        """Why nothing is out though there are requests, for people; empty where something is, or soon may be."""
        when = self._turns.next_time()
        if self._turns.out or when is None:
            return ""
        name = self._turns.next_name()
        why = self.hosts.why_waiting(name)
        whom = f" for {name}" + (f" ({why})" if why else "") if name else ""
        return f"waiting {show_seconds(max(0.0, when - self._now()))}{whom}"

    def pause(self, why: str, words: str = "") -> None:
        """Hand out nothing, and read nothing of the list, until ``resume`` is told the same reason."""
        self.paused[why] = words
        self._one_may_go = False

    def resume(self, why: str) -> None:
        """The reason is gone; where it was the last one, go on."""
        self.paused.pop(why, None)
        self._move_on()

    def let_one_through(self) -> None:
        """Hand out one request in spite of the one pause there is: how it fares may end that."""
        if len(self.paused) == 1:
            self._one_may_go = True
            self._hand_out()

    def stop(self) -> None:
        """Hand out nothing any more. What is out may still be given back."""
        self._is_stopped = True
        self._move_on()

    async def _next(self) -> Taken | None:
        if self._failure is not None:
            raise self._failure
        if self._is_over():
            return None
        if (taken := self._take(self._now())) is not None:
            self._windows.emptied(taken.host)
            self._reload()
            return taken
        worker: asyncio.Future[Taken | None] = asyncio.get_running_loop().create_future()
        self._idle[worker] = None
        self._move_on()
        try:
            return await worker
        except asyncio.CancelledError:
            self._idle.pop(worker, None)
            was_answered = worker.done() and not worker.cancelled() and worker.exception() is None
            if was_answered and (handed := worker.result()):
                self._give_on(handed)  # handed over and cancelled in the same turn of the loop
            raise

    def _give_on(self, taken: Taken) -> None:
        self._turns.add(taken.host, taken.request, self._now(), front=True)
        self._give_back(taken)

    def _end_lease(self, taken: Taken) -> None:
        self._windows.leave(taken.request)
        self._give_back(taken)

    def _give_back(self, taken: Taken) -> None:
        if taken.is_refused:
            self._refused.discard(taken.request.row)
        self.hosts.circuits.left(taken.host, taken.request.row)
        self._turns.give_back(taken, self._now())
        self._windows.emptied(taken.host)
        self._move_on()

    # Between the two: what may happen next, after each event; O(1).

    def _move_on(self) -> None:
        self._hand_out()
        self._reload()
        if self._feeder is None or self._feeder.done():
            return
        if self._is_stopped or self._failure is not None or self._wants(_ENOUGH - 1):
            self._feeder.set_result(None)

    def _is_over(self) -> bool:
        return self._is_stopped or (
            self._is_closed and self._windows.rows == 0 and self._windows.spilled.rows == 0
        )

    def _is_held_up(self) -> bool:
        return bool(self.paused) and not self._one_may_go

    def _take(self, now: float) -> Taken | None:
        taken = None if self._is_held_up() else self._turns.take(now)
        if taken is not None:
            self._one_may_go = False
            if taken.is_refused:
                self._refused.add(taken.request.row)
        return taken

    def _hand_out(self, now: float | None = None) -> None:
        """Give idle workers what is ready, or word that it is over, and be back when the next time comes."""
        if not self._idle:
            return
        if self._failure is not None or self._is_over():
            self._dismiss()
            return
        now = self._now() if now is None else now
        while self._idle:
            # The last to fall idle: any worker will do, and this end of a dict is the cheap one.
            worker = next(reversed(self._idle))
            if not worker.done():  # else cancelled, and its task has not run yet
                if (taken := self._take(now)) is None:
                    self._set_timer()
                    return
                worker.set_result(taken)
                self._windows.emptied(taken.host)
            del self._idle[worker]

    def _dismiss(self) -> None:
        idle, self._idle = self._idle, {}
        for worker in idle:
            if worker.done():
                continue
            if self._failure is not None:
                worker.set_exception(self._failure)
            else:
                worker.set_result(None)

    def _set_timer(self) -> None:
        when = None if self._is_held_up() else self._turns.next_time()
        if when is None or (self._timer is not None and self._rings_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        self._timer = None
        # Loops that round their timers may be early; the time that was asked for has come all the same.
        self._hand_out(max(when, self._now()))
        self._move_on()

    # The backlog's side.

    def _reload(self) -> None:
        if self._windows.spilled.rows and not self._is_stopped and self._failure is None:
            self._windows.reload()

    def _came(self, failure: BaseException | None) -> None:
        self._failure = self._failure or failure
        self._move_on()
