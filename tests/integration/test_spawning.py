"""How worker processes come about: what they leave in the system, whatever ends them."""

from __future__ import annotations

import asyncio
import multiprocessing.synchronize
import os
import signal
from pathlib import Path

import pytest

from scraper.config import PoolConfig
from scraper.pool import Pool
from scraper.testing.transform import Obedient, response

pytestmark = pytest.mark.slow  # all of them start processes

SEMAPHORES = Path("/dev/shm")  # where Linux shows them, as sem.NAME


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of semaphores, as they are made."""
    names: list[str] = []
    make = multiprocessing.synchronize.SemLock._make_name  # type: ignore[attr-defined]

    def noted() -> str:
        names.append(make())
        return names[-1]

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "_make_name", staticmethod(noted))
    return names


def there(made: list[str]) -> list[str]:
    """Those that still have their name."""
    return [name for name in made if (SEMAPHORES / f"sem.{name.removeprefix('/')}").exists()]


@pytest.mark.skipif(not SEMAPHORES.is_dir(), reason="semaphores cannot be seen here")
async def test_workers_that_run_have_no_names_in_the_system(made: list[str]) -> None:
    """So nothing is left of them when all our processes are killed at a blow; nor of one that is replaced."""
    async with Pool(Obedient(), PoolConfig(workers=1, item_timeout_s=20.0)) as pool, asyncio.timeout(60):
        first = len(made)
        assert first >= 5  # or else this test looks at the wrong thing
        assert there(made) == []
        (answer,) = await pool.run([response(b"pid")])
        os.kill(int(str(answer.items[0].fields["pid"])), signal.SIGKILL)
        while len(made) == first:  # until another has taken its place
            assert [answer.error for answer in await pool.run([response(b"pid")])] == [None]
        assert there(made) == []
