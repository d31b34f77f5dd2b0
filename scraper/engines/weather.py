"""What a run cannot help and must not blame its rows for: a network that is gone, a machine out of descriptors.

In: how each attempt went. Out: the frontier paused and resumed, fewer permits and more, and whether a failure
counts as the row's attempt. Rules: ``scraper.policies.health``.
The failures that make a network gone are those of many rows, and a row may be given up before they have come: the
last rows of a list, or one that has no retries. So before a row is given up for a failure below HTTP, whoever
answered last is connected to, once a second at most and to ask nothing: if that fails as well the row waits.
Where only the name servers are gone, they are asked once a second for a name that they did not answer for, and one
request goes out all the same: its host may be one that they know, where those that failed were of one dead domain.

Must never: pause for longer than ``HealthConfig.wait_s``; go on for ever without a single connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from scraper.config import HealthConfig
from scraper.engines.permits import Permits
from scraper.errors import FetchFailed, OutOfResources, RunStopped
from scraper.frontier import Frontier
from scraper.policies.health import NETWORK_CLASSES, Change, Health, NameHealth, shows_an_answer
from scraper.records import Request
from scraper.resolver import Resolver

log = logging.getLogger("scraper")

NETWORK = "network"
RESOLVER = "resolver"
"""Why the frontier is paused: nothing answers, or no name server."""

_LOOKED_UP_IN_VAIN = "dns.temporary"

STARVED_S = 60.0
"""Without descriptors, with one fetch at a time and none that succeeds: so long, then the run stops."""

CALM_S = 2.0
"""After the last lack of descriptors, one more fetch at a time is tried each so many seconds."""


def _is_first(request: Request) -> bool:
    return request.attempt == 1 and not request.excused


class Weather:
    """Looks at every attempt of a run.

    Attributes:
        names: looks the run's host names up, once there is somebody who does.
    """

    def __init__(self, config: HealthConfig, frontier: Frontier, permits: Permits) -> None:
        self._config = config
        self._frontier = frontier
        self._permits = permits
        self._health = Health(config)
        self._name_health = NameHealth(config)
        self.names: Resolver | None = None
        self._went = asyncio.Event()
        self._names_went = asyncio.Event()
        self._starved_since: float | None = None
        self._widen_at = 0.0
        self._heard_from = ""  # the URL that was answered last
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._is_silent = False
        self._silent_since: float | None = None

    def __repr__(self) -> str:
        return f"<Weather {self._health!r}, {self._name_health!r}, {self._permits!r}>"

    def answered(self, request: Request, now: float) -> None:
        """A server said something, whatever it was."""
        self._starved_since = self._silent_since = None
        self._heard_from = request.asked
        if now >= self._widen_at:
            self._permits.more()
            self._widen_at = now + CALM_S
        self._turned(self._health.answered(request.host, now))

    def failed(self, error: FetchFailed, request: Request, now: float) -> None:
        """An attempt at ``request`` failed.

        Raises:
            RunStopped: this machine has had nothing left to connect with for a minute.
        """
        if isinstance(error, OutOfResources):
            self._starve(error, now)
        elif shows_an_answer(error.class_):
            self.answered(request, now)
        elif error.class_ in NETWORK_CLASSES and not self._is_for_want_of_names(error, now):
            found = self._health.failed(request.host, error.class_, now, is_first=_is_first(request))
            self._turned(found)

    def _turned(self, change: Change) -> None:
        if change is Change.BACK:
            log.warning("The network is back: going on.")
            self._frontier.resume(NETWORK)
        elif change is Change.GONE:
            log.warning(
                "Nothing answers any more: waiting up to %g s for the network, no row is given up meanwhile.",
                self._config.wait_s,
            )
            self._frontier.pause(NETWORK, "no network")
            self._went.set()

    def _is_for_want_of_names(self, error: FetchFailed, now: float) -> bool:
        """Whether a failure shows that no name server answers; then it shows nothing else."""
        if error.class_ != _LOOKED_UP_IN_VAIN or self.names is None or self._health.outage.is_on:
            return False
        change = self._name_health.heard(len(self.names.unanswered), now)
        self._names_turned(change)
        return self._name_health.outage.is_on or self._name_health.outage.is_given_up

    def _names_turned(self, change: Change) -> None:
        if change is Change.GONE:
            log.warning(
                "No name server answers: waiting up to %g s for one, no row is given up meanwhile.",
                self._config.wait_s,
            )
            self._frontier.pause(RESOLVER, "no name server answers")
            self._names_went.set()
        elif change is Change.BACK:
            log.warning("Name servers answer again: going on.")
            self._frontier.resume(RESOLVER)
        elif change is Change.GIVEN_UP:
            log.warning("No name server has answered for %g s: failures count again.", self._config.wait_s)
            self._frontier.resume(RESOLVER)

    def counts(self, error: FetchFailed, began: float) -> bool:
        """Whether the failure of an attempt that began at that time is one of the row's; see ``Outage.counts``."""
        if isinstance(error, OutOfResources):
            return False
        if error.class_ == _LOOKED_UP_IN_VAIN and not self._name_health.outage.counts(began):
            return False
        return error.class_ not in NETWORK_CLASSES or self._health.outage.counts(began)

    async def is_silent(self, error: FetchFailed, reaches: Callable[[str], Awaitable[bool]]) -> bool:
        """Whether nobody can be reached just now, so that a row is not to be given up for ``error``.

        Not for longer than ``HealthConfig.wait_s`` without an answer from anybody, and not before the first one.

        Args:
            error: what the row's last attempt failed with.
            reaches: whether somebody takes a connection where a URL leads.
        """
        if error.class_ not in NETWORK_CLASSES or not self._heard_from or not self._config.wait_s:
            return False
        loop = asyncio.get_running_loop()
        async with self._looking:  # the others that fail just now take the same answer
            if loop.time() - self._looked_at >= self._config.probe_s:
                self._is_silent = not await reaches(self._heard_from)
                self._looked_at = loop.time()
        if not self._is_silent:
            return False
        if self._silent_since is None:
            self._silent_since = self._looked_at
            log.warning("Whoever answered last cannot be reached any more: no row is given up just now.")
        return loop.time() - self._silent_since < self._config.wait_s

    def pause_s(self) -> float:
        """How long a row waits that is asked again at no cost of its own: not all at the same moment."""
        return random.random() * self._config.probe_s

    async def watch(self) -> None:
        """While the network or all name servers are gone: look for them, and at last give up. Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_network(), name="weather-network")
            group.create_task(self._watch_names(), name="weather-names")

    async def _watch_network(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._went.wait()
            self._went.clear()
            while self._health.outage.is_on:
                self._frontier.let_one_through()
                await asyncio.sleep(self._config.probe_s)
                if self._health.look(loop.time()) is Change.GIVEN_UP:
                    log.warning("Nothing has answered for %g s: failures count again.", self._config.wait_s)
                    self._silent_since = loop.time() - self._config.wait_s
                    self._frontier.resume(NETWORK)

    async def _watch_names(self) -> None:
        loop, outage = asyncio.get_running_loop(), self._name_health.outage
        while True:
            await self._names_went.wait()
            self._names_went.clear()
            while outage.is_on:
                next_at = loop.time() + self._config.probe_s
                self._frontier.let_one_through()
                if await self._is_a_name_answered():
                    self._names_turned(outage.end(loop.time()))
                    break
                self._names_turned(outage.look(loop.time()))
                await asyncio.sleep(next_at - loop.time())

    async def _is_a_name_answered(self) -> bool:
        assert self.names is not None
        try:
            async with asyncio.timeout(self._config.probe_s):  # then another name is asked for
                return await self.names.is_answered()
        except TimeoutError:
            return False

    def _starve(self, error: OutOfResources, now: float) -> None:
        if self._starved_since is None:
            self._starved_since = now
            log.warning("%s Going on with fewer at once.", error.message)
        elif now - self._starved_since > STARVED_S:
            raise RunStopped(f"{error.message} Nothing could be fetched for {STARVED_S:g} s; the run is kept.")
        self._widen_at = now + CALM_S
        self._permits.fewer()
