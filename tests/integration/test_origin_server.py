"""The origin on the wire: each fault as a client's socket sees it, and the counts it keeps."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from scraper.origin.process import OriginProcess

PICTURE = "/img/thumb/7.jpg"


@dataclass
class Answer:
    """What came back, byte for byte, and how it ended."""

    head: str
    body: bytes
    was_reset: bool
    seconds: float

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head.split()[1])

    def header(self, name: str) -> str:
        """A header's value; empty if there is none."""
        lines = [line.partition(": ") for line in self.head.split("\r\n")]
        return next((value for key, _, value in lines if key.lower() == name.lower()), "")


@pytest.fixture(scope="module")
def origin() -> Iterator[OriginProcess]:
    """One origin for all tests here."""
    with OriginProcess() as running:
        yield running


@pytest.fixture(autouse=True)
def forget(origin: OriginProcess) -> None:
    """Each test counts from nothing."""
    origin.reset()


async def ask(origin: OriginProcess, target: str, *headers: str, method: str = "GET") -> Answer:
    """Ask over a connection of its own, and read until it ends."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    lines = [f"{method} {target} HTTP/1.1", "Host: here", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    heard, was_reset = b"", False
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                heard += piece
    except ConnectionResetError:
        was_reset = True
    writer.close()
    head, _, body = heard.partition(b"\r\n\r\n")
    return Answer(head.decode(), body, was_reset, time.monotonic() - started)


async def test_pictures(origin: OriginProcess) -> None:
    """A picture has its type, its length, and validators that a later request can use."""
    answer = await ask(origin, PICTURE)
    assert (answer.status, answer.header("Content-Type")) == (200, "image/jpeg")
    assert int(answer.header("Content-Length")) == len(answer.body)
    assert answer.body[:2] + answer.body[-2:] == b"\xff\xd8\xff\xd9"
    for header in (
        f"If-None-Match: {answer.header('ETag')}",
        f"If-Modified-Since: {answer.header('Last-Modified')}",
    ):
        again = await ask(origin, PICTURE, header)
        assert (again.status, again.body) == (304, b"")
    assert (await ask(origin, PICTURE, 'If-None-Match: "other"')).status == 200


async def test_head_has_no_body(origin: OriginProcess) -> None:
    """HEAD says how long the body would be, faults or not; other methods are refused."""
    for target in (PICTURE, f"{PICTURE}?chunked", f"{PICTURE}?cut=0.5"):
        answer = await ask(origin, target, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
    assert (await ask(origin, PICTURE, "Content-Length: 0", method="POST")).status == 405


async def test_what_is_not_there(origin: OriginProcess) -> None:
    """Unknown paths are 404, unknown faults 400 with the known ones named."""
    assert (await ask(origin, "/img/huge/1.jpg")).status == 404
    assert (await ask(origin, "/_nothing")).status == 404
    answer = await ask(origin, f"{PICTURE}?sttaus=500")
    assert answer.status == 400
    assert b"status" in answer.body
    assert (await ask(origin, f"{PICTURE}?cut=2")).status == 400


async def test_cut_body(origin: OriginProcess) -> None:
    """cut: the length promises the whole, half of it comes, the connection closes."""
    whole = (await ask(origin, PICTURE)).body
    answer = await ask(origin, f"{PICTURE}?cut=0.5")
    assert int(answer.header("Content-Length")) == len(whole)
    assert answer.body == whole[: len(whole) // 2]
    assert not answer.was_reset


async def test_chunks(origin: OriginProcess) -> None:
    """A chunked body ends with the last chunk; a cut one never gets there."""
    whole, cut = await ask(origin, "/bytes/100?chunked"), await ask(origin, "/bytes/100?cut_chunked=0.5")
    for answer in (whole, cut):
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.header("Content-Length") == ""
    assert whole.body.startswith(b"64\r\n")
    assert whole.body.endswith(b"\r\n0\r\n\r\n")
    assert cut.body.startswith(b"32\r\n")
    assert len(cut.body) == len(b"32\r\n") + 50 + len(b"\r\n")


async def test_truncate_keeps_the_framing(origin: OriginProcess) -> None:
    """truncate: less content, and a length that fits it."""
    answer = await ask(origin, f"{PICTURE}?truncate=0.5")
    assert int(answer.header("Content-Length")) == len(answer.body)
    assert answer.body[-2:] != b"\xff\xd9"


async def test_reset_in_the_middle(origin: OriginProcess) -> None:
    """reset: half a body, then an RST and not a FIN."""
    answer = await ask(origin, f"{PICTURE}?reset")
    assert answer.status == 200
    assert answer.was_reset


async def test_close_before_a_byte(origin: OriginProcess) -> None:
    """close: the connection ends in order, and nothing was sent."""
    answer = await ask(origin, f"{PICTURE}?close")
    assert (answer.head, answer.was_reset) == ("", False)


async def test_hang_sends_nothing_until_the_client_goes(origin: OriginProcess) -> None:
    """hang: not a byte; when the client leaves, the server lets go."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(f"GET {PICTURE}?hang HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    async with asyncio.timeout(20):
        while not origin.stats()["in_flight"]:  # noqa: ASYNC110  it is another process that begins
            await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert origin.stats()["in_flight"] == 1
    writer.close()
    async with asyncio.timeout(20):
        while origin.stats()["in_flight"]:  # noqa: ASYNC110  it is another process that lets go
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("query", ["delay=200ms", "drip=5000", "stall=200ms"])
async def test_slow_answers(origin: OriginProcess, query: str) -> None:
    """delay, drip and stall take their time and lose nothing."""
    answer = await ask(origin, f"/bytes/1000?{query}")
    assert answer.seconds >= 0.15  # uvloop reads its clock once a turn, so timers may ring early
    assert answer.body == (await ask(origin, "/bytes/1000")).body


async def test_bodies_and_headers(origin: OriginProcess) -> None:
    """Faults of content and headers arrive as they were asked for."""
    assert (await ask(origin, f"{PICTURE}?status=503&retry_after=2")).header("Retry-After") == "2"
    assert (await ask(origin, f"{PICTURE}?status=999")).status == 999
    assert (await ask(origin, f"{PICTURE}?status=204")).body == b""
    assert (await ask(origin, f"{PICTURE}?type=text/html")).header("Content-Type") == "text/html"
    assert (await ask(origin, f"{PICTURE}?html")).body.startswith(b"<!doctype html>")
    assert (await ask(origin, f"{PICTURE}?empty")).header("Content-Length") == "0"
    assert len((await ask(origin, f"{PICTURE}?garbage=500")).body) == 500
    assert len((await ask(origin, f"{PICTURE}?header_bytes=100000")).header("X-Padding")) == 100_000
    assert (await ask(origin, f"{PICTURE}?encoding_lie=gzip")).header("Content-Encoding") == "gzip"


async def test_encoded_body(origin: OriginProcess) -> None:
    """encoding: the body is encoded once, and its length is the encoded one."""
    whole = (await ask(origin, "/page/1.html")).body
    answer = await ask(origin, "/page/1.html?encoding=gzip")
    assert zlib.decompress(answer.body, wbits=31) == whole
    assert int(answer.header("Content-Length")) == len(answer.body)
    bomb = await ask(origin, f"{PICTURE}?bomb=1M")
    assert zlib.decompress(bomb.body, wbits=31) == bytes(1 << 20)


async def test_flaky_recovers_and_is_reset(origin: OriginProcess) -> None:
    """Each flaky URL fails by itself, its query included, until the counts are forgotten."""
    first, second = f"{PICTURE}?flaky=2&tag=a", f"{PICTURE}?flaky=2&tag=b"
    assert [(await ask(origin, first)).status for _ in range(3)] == [500, 500, 200]
    assert (await ask(origin, second)).status == 500
    origin.reset()
    assert (await ask(origin, first)).status == 500


async def test_redirects_lead_to_the_thing(origin: OriginProcess) -> None:
    """redirect=2 is two hops and then the picture; loop leads back to itself."""
    target, hops = f"{PICTURE}?redirect=2", 0
    while (answer := await ask(origin, target)).status == 302:
        target, hops = answer.header("Location"), hops + 1
    assert (hops, answer.status, answer.header("Content-Type")) == (2, 200, "image/jpeg")
    assert (await ask(origin, f"{PICTURE}?redirect=loop")).header("Location") == f"{PICTURE}?redirect=loop"


async def test_counts(origin: OriginProcess) -> None:
    """Requests, connections and the peak in flight are counted; looking at the counts is not."""
    for _ in range(2):
        await ask(origin, PICTURE)
    async with asyncio.TaskGroup() as group:
        for tag in range(5):
            group.create_task(ask(origin, f"/page/0.html?delay=300ms&tag={tag}"))
    origin.stats()
    stats = origin.stats()
    assert (stats["total"], stats["connections"], stats["in_flight"]) == (7, 7, 0)
    assert stats["in_flight_peak"] == 5
    assert stats["requests"][PICTURE] == 2
    log = origin.log()
    assert len(log) == 7
    assert [url for url, _, _ in log[:2]] == [PICTURE, PICTURE]
    assert all(end - start >= 0.25 for _, start, end in log[2:])
    assert all(abs(time.monotonic() - end) < 60 for _, _, end in log)
    origin.reset()
    assert (origin.stats()["total"], origin.stats()["connections"], origin.log()) == (0, 0, [])


async def test_connections_are_kept_alive(origin: OriginProcess) -> None:
    """Two requests on one connection are one connection, also after an empty answer and a 304."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    for target in ("/bytes/5?empty", "/bytes/5?status=304", "/bytes/5"):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 5\r\n" in head
    assert len(await reader.readexactly(5)) == 5
    writer.close()
    assert (origin.stats()["connections"], origin.stats()["total"]) == (1, 3)
