"""Permits that become fewer and more while a run goes on."""

from __future__ import annotations

import asyncio

from scraper.engines.permits import Permits


async def _hold(permits: Permits, until: asyncio.Event, out: list[int]) -> None:
    async with permits:
        out.append(1)
        await until.wait()
        out.pop()


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_out_than_there_are() -> None:
    """As any semaphore."""
    permits, until, out = Permits(2), asyncio.Event(), list[int]()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(_hold(permits, until, out))
        await _turn()
        assert (len(out), permits.limit) == (2, 2)
        until.set()
    assert out == []


async def test_fewer_takes_effect_as_permits_come_back() -> None:
    """Nobody loses what he has; the next one waits."""
    permits, out = Permits(3), list[int]()
    first, second = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(_hold(permits, first, out))
        await _turn()
        permits.fewer()
        permits.fewer()
        assert (len(out), permits.limit) == (3, 1)
        for _ in range(3):
            group.create_task(_hold(permits, second, out))
        first.set()
        await _turn()
        assert len(out) == 1
        permits.more()
        await _turn()
        assert (len(out), permits.limit) == (2, 2)
        second.set()


async def test_one_always_remains_and_never_more_than_at_first() -> None:
    """However often either is asked for."""
    permits = Permits(4)
    for _ in range(20):
        permits.fewer()
    assert permits.limit == 1
    async with permits:
        pass
    for _ in range(20):
        permits.more()
    assert permits.limit == 4
    assert repr(permits) == "<Permits 4 of 4>"
    out: list[int] = []
    until = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(_hold(permits, until, out))
        await _turn()
        assert len(out) == 4
        until.set()
