"""The fixture that stands in for servers."""

from __future__ import annotations

import aiohttp
from aioresponses import aioresponses


async def test_answers_can_be_read_and_streamed(answers: aioresponses) -> None:
    """A faked response reads whole and in chunks under the aiohttp that is installed."""
    answers.get("http://example.test/a", body=b"whole", headers={"X-Kind": "fake"})
    answers.get("http://example.test/b", status=404, body=b"piece by piece")
    async with aiohttp.ClientSession() as session:
        async with session.get("http://example.test/a") as response:
            assert (await response.read(), response.headers["X-Kind"]) == (b"whole", "fake")
        async with session.get("http://example.test/b") as response:
            pieces = [piece async for piece in response.content.iter_chunked(5)]
            assert (response.status, b"".join(pieces)) == (404, b"piece by piece")
