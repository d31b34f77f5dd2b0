"""What is done with a body as it comes: read in pieces, decoded, or got rid of. In: a response. Out: bytes.

Must never: wait in order for a peer that is not wanted any more; keep the loop to itself.
"""

from __future__ import annotations

import asyncio

import aiohttp

from scraper.arena import Slot
from scraper.connector import Hop
from scraper.decoding import Decoder

DRAIN_BYTES = 64 * 1024
"""Most that is read of a body nobody wants; a new connection costs more than this, and less than what is over."""

DRAIN_S = 1.0
"""Longest time such a body is read for."""

_PIECES_PER_TURN = 16
"""Pieces decoded before others on the loop get their turn: a millisecond of work."""


async def piece(content: aiohttp.StreamReader) -> bytes:
    """Some of the body; nothing at its end."""
    try:
        return await content.readany()
    except RuntimeError as error:  # how aiohttp says that the connection went away before this was asked
        raise aiohttp.ClientConnectionError(str(error)) from error


async def decode(decoder: Decoder, chunk: bytes, slot: Slot, enough: int = 0) -> None:
    """A piece of a body, decoded, into its slot; no more than the slot needs to hold ``enough``, if that is given.

    Raises:
        FetchFailed: see ``Decoder``.
    """
    for count, decoded in enumerate(decoder.feed(chunk), 1):
        await slot.append(decoded)
        if 0 < enough <= slot.size:
            return
        if count % _PIECES_PER_TURN == 0:
            await asyncio.sleep(0)


async def drain(response: aiohttp.ClientResponse, hop: Hop) -> None:
    """Read a short rest of the body, undecoded, so that the connection can be used again; or abort it."""
    if response.status < 200 or (response.content_length or 0) > DRAIN_BYTES:
        abort(response)
        return
    hop.hurry(DRAIN_S)
    left = DRAIN_BYTES
    while chunk := await piece(response.content):
        left -= len(chunk)
        if left < 0:
            abort(response)
            return


def abort(response: aiohttp.ClientResponse) -> None:
    """Cut the connection, if it is not back in the pool. Closing it would wait for the peer where there is TLS."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
