"""How much memory fetching takes at its worst: for tests of bombs and floods.

In: scripts for a server. Out: by how much the most memory that a process of its own ever held has grown, and how
the fetches ended. The server runs in that process too, but holds no more than its scripts.
Must never: count what was there before; let one test's memory show in another's.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from scraper.answers import Failed, Fetched
from scraper.arena import Arena
from scraper.config import FetchConfig
from scraper.fetch import Fetcher
from scraper.records import Request
from scraper.testing.server import Script, ScriptedServer, reply


class Peak(NamedTuple):
    """What it took.

    Attributes:
        growth: bytes of resident memory beyond what one small fetch takes.
        ended: how many fetches ended how: a class, or ``ok``.
    """

    growth: int
    ended: Counter[str]


def peak_of(scripts: Mapping[str, Script], at_once: int, config: FetchConfig) -> Peak:
    """Fetch every path ``at_once`` times, all at the same time, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps((dict(scripts), at_once, config)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120.0,
    )
    growth, ended = json.loads(done.stdout)
    return Peak(growth, Counter(ended))


async def _measure(scripts: Mapping[str, Script], at_once: int, config: FetchConfig) -> tuple[int, Counter[str]]:
    ended: Counter[str] = Counter()

    async def fetch(url: str) -> None:
        answer = await fetcher.fetch(Request(0, url))
        if isinstance(answer, Fetched):
            answer.slot.release()
        ended[answer.error.class_ if isinstance(answer, Failed) else "ok"] += 1

    async with (
        ScriptedServer({**scripts, "/warm": [reply("200 OK", b"x")]}) as server,
        Fetcher(config, Arena(256 * 1024 * 1024)) as fetcher,
    ):
        await fetch(server.url("/warm"))
        ended.clear()
        before = _highest()
        async with asyncio.TaskGroup() as group:
            for path in scripts:
                for _ in range(at_once):
                    group.create_task(fetch(server.url(path)))
        return _highest() - before, ended


def _highest() -> int:
    """The most resident memory so far, in bytes; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    json.dump(asyncio.run(_measure(*pickle.load(sys.stdin.buffer))), sys.stdout)
