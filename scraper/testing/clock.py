"""An event loop whose time is virtual: when nothing can run, the clock jumps to the next timer.

    def test_it_waits_a_minute():
        assert run_virtual(wait_a_minute()) is None        takes no time at all

Work in executors runs in real time while the clock stands still, so files and databases on threads can be used.
Sockets can not: the clock does not wait for them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DeadLock(RuntimeError):
    """Nothing can run, no timer is set and no executor is at work: this would wait for ever."""


def run_virtual(main: Coroutine[Any, Any, T], *, patience_s: float = 30.0) -> T:
    """Run ``main`` to its end in virtual time, which starts at 0.

    Args:
        main: what to run.
        patience_s: real seconds that executors may be at work without anything coming of it.

    Raises:
        DeadLock: ``main`` waits for what cannot come; the message says which tasks wait where.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s)) as runner:
        return runner.run(main)


class _Jumping(selectors.BaseSelector):
    """A selector that does not wait, except for executors, but tells the loop how long it would have."""

    def __init__(self, jump: Callable[[float | None], float]) -> None:
        self._real = selectors.DefaultSelector()
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        patience_s = self._jump(timeout)
        ready = self._real.select(patience_s)
        if patience_s and not ready:
            raise DeadLock(f"An executor has been at work for {patience_s:g} s, and everything waits for it.")
        return ready

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Made by ``run_virtual``, or given to ``asyncio.Runner`` as loop factory."""

    def __init__(self, patience_s: float = 30.0) -> None:
        self._now = 0.0
        self._at_work = 0
        self._patience_s = patience_s
        super().__init__(_Jumping(self._jump))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As any loop does, but time stands still until the work is done."""
        work = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        work.add_done_callback(self._work_done)
        return work

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As any loop does; the joining is work too."""
        self._at_work += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._at_work -= 1

    def _work_done(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    def _jump(self, timeout: float | None) -> float:
        """Nothing can run for ``timeout`` seconds. Returns how long to wait for executors, in real seconds."""
        if self._at_work:
            return self._patience_s
        if timeout is None:
            raise DeadLock(f"Nothing can ever happen again at {self._now:g} s. {self._waiting()}")
        self._now += timeout
        return 0.0

    def _waiting(self) -> str:
        places = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "nowhere"
            places.append(f"{task.get_name()} waits at {where}")
        return "; ".join(sorted(places)) or "No task is left."
