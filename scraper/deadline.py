"""What ends a fetch that takes too long. In: the bytes each fetch has received so far. Out: its task cancelled.

One coarse ticker looks at all fetches in flight, a few times a second, and is idle when there are none: timers of
each fetch's own would cost more than the fetch. Four things are watched:

    connect   from the start until a connection is usable: DNS, TCP and TLS together
    headers   from then until the response's headers are complete, with all interim responses before them
    stall     from then on: fewer than ``stall_bytes`` of the body in ``stall_timeout_s``
    total     the whole attempt, with what earlier hops have spent

Time spent waiting for us (the byte budget, a loop that was blocked, a stopped process) counts towards none.

Must never: swallow a cancellation from outside, even one that comes in the same turn of the loop; fire early.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from scraper.config import FetchConfig
from scraper.errors import FetchFailed

_COARSEST_S = 0.25
_FINEST_S = 0.005


# Plain words: an enum's members cost more to look up than what is done with them here.
_CONNECTING, _ASKING, _READING = "connecting", "asking", "reading"


class Watchdog:
    """The ticker.

    Args:
        config: the limits. A limit is kept to within a quarter of itself, and to within 0.25 s.
    """

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        shortest = min(config.timeout_s, config.connect_timeout_s, config.header_timeout_s, config.stall_timeout_s)
        self._period = min(_COARSEST_S, max(_FINEST_S, shortest / 4))
        self._watches: dict[Watch, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "idle" if self._timer is None else f"every {self._period:g} s"
        return f"<Watchdog {state}, {len(self._watches)} in flight>"

    def close(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _add(self, watch: Watch) -> None:
        self._watches[watch] = None
        if self._timer is None:
            self._timer = self.loop.call_later(self._period, self._tick)

    def _remove(self, watch: Watch) -> None:
        del self._watches[watch]

    def _tick(self) -> None:
        assert self._timer is not None
        now = self.loop.time()
        late = now - self._timer.when()
        # Later than a whole period: the loop or the process stood still, and servers are not to blame for that.
        stood_still_s = late if late > self._period else 0.0
        for watch in self._watches:
            watch.look(now, stood_still_s)
        self._timer = self.loop.call_later(self._period, self._tick) if self._watches else None


class Watch:
    """One fetch in flight: ``with Watch(watchdog, spent_s) as watch:`` round everything it awaits.

    Leaving the block raises FetchFailed (``connect.timeout``, ``timeout.stall``, ``timeout.total``) where a limit
    has ended it.

    Attributes:
        received: bytes so far; whoever reads keeps it current.
        held_s: seconds that were ours and count towards no limit.
    """

    __slots__ = (
        "_by",
        "_cancelling",
        "_dog",
        "_ends_at",
        "_expired",
        "_held_since",
        "_mark_at",
        "_mark_bytes",
        "_phase",
        "_started",
        "_task",
        "held_s",
        "received",
    )

    def __init__(self, dog: Watchdog, spent_s: float = 0.0) -> None:
        config, now = dog.config, dog.loop.time()
        self._dog = dog
        self._started = now
        self._ends_at = now + config.timeout_s - spent_s
        self._phase = _CONNECTING
        self._by = now + config.connect_timeout_s  # the end of this phase, of the first two
        self._mark_at = now
        self._mark_bytes = 0
        self._held_since: float | None = None
        self.held_s = 0.0
        self._expired: FetchFailed | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.received = 0

    def __repr__(self) -> str:
        state = "held" if self._held_since is not None else self._phase
        return f"<Watch {state}, {self.elapsed_s():.3f} s, {self.received} bytes>"

    def __enter__(self) -> Self:
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._dog._add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dog._remove(self)
        if self._expired is None:
            return
        assert self._task is not None
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and isinstance(error, (Exception, asyncio.CancelledError)):
            raise self._expired from error

    def elapsed_s(self) -> float:
        """Seconds so far, without those spent waiting for us."""
        return self._dog.loop.time() - self._started - self.held_s

    def connecting(self) -> None:
        """A connection is sought, for the first time or once more."""
        self._phase = _CONNECTING
        self._by = self._dog.loop.time() + self._dog.config.connect_timeout_s

    def connected(self) -> None:
        """A connection is usable: from now on the response's headers are waited for."""
        self._phase = _ASKING
        self._by = self._dog.loop.time() + self._dog.config.header_timeout_s

    def answered(self) -> None:
        """The response's headers are complete: from now on its body is waited for."""
        self._phase = _READING
        self._mark_at = self._dog.loop.time()
        self._mark_bytes = self.received

    def hurry(self, within_s: float) -> None:
        """Nothing of worth is awaited any more; end within so many seconds."""
        self._ends_at = min(self._ends_at, self._dog.loop.time() + within_s)

    def hold(self) -> None:
        """From now on it is us who keep the fetch waiting."""
        self._held_since = self._dog.loop.time()

    def go_on(self) -> None:
        """The end of ``hold``."""
        since, self._held_since = self._held_since, None
        if since is not None:
            self.excuse(self._dog.loop.time() - since)

    def excuse(self, seconds: float) -> None:
        """So many seconds were not the server's."""
        self._ends_at += seconds
        self._by += seconds
        self._mark_at += seconds
        self.held_s += seconds

    def look(self, now: float, stood_still_s: float = 0.0) -> None:
        """End the fetch if it is over a limit."""
        if self._expired is not None or self._held_since is not None:
            return
        if stood_still_s:
            self.excuse(min(stood_still_s, now - self._started - self.held_s))
        self._expired = self._judge(now)
        if self._expired is not None:
            assert self._task is not None
            self._task.cancel()

    def _judge(self, now: float) -> FetchFailed | None:
        config = self._dog.config
        if now >= self._ends_at:
            return FetchFailed("timeout.total", f"Not complete within {config.timeout_s:g} s.")
        if self._phase != _READING:
            if now < self._by:
                return None
            if self._phase == _CONNECTING:
                return FetchFailed("connect.timeout", f"No connection within {config.connect_timeout_s:g} s.")
            return FetchFailed("timeout.stall", f"No response headers within {config.header_timeout_s:g} s.")
        if self.received - self._mark_bytes >= config.stall_bytes:
            self._mark_at, self._mark_bytes = now, self.received
        elif now - self._mark_at >= config.stall_timeout_s:
            return FetchFailed(
                "timeout.stall", f"Fewer than {config.stall_bytes} bytes in {config.stall_timeout_s:g} s."
            )
        return None
