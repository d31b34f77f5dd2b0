"""``gather.py LIST OUT``: aiohttp as tutorials write it: a task for each URL, ``asyncio.gather``, aiofiles.

What is measured is this way of doing it: no retries, no checks, nothing durable. It is given our own aiohttp.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiofiles
import aiohttp


async def download(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    """One URL to one file."""
    async with session.get(url) as response:
        response.raise_for_status()
        data = await response.read()
    async with aiofiles.open(path, "wb") as file:
        await file.write(data)


async def main() -> None:
    """All of them at once; aiohttp itself holds a hundred connections at most."""
    urls = Path(sys.argv[1]).read_text().split()
    out = Path(sys.argv[2])
    out.mkdir()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(download(session, url, out / str(row)) for row, url in enumerate(urls)))


asyncio.run(main())
