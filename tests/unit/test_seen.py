"""Which row was the first to ask: in one run, over several, after kills, and with a file that is not as it was."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scraper.seen
from scraper.errors import RunStopped, SinkFailed
from scraper.seen import Seen


def key(number: int) -> bytes:
    """A digest."""
    return number.to_bytes(16, "little")


def keys(*numbers: int, start: int = 0) -> list[tuple[int, bytes]]:
    """Rows from ``start`` on with those digests."""
    return [(row, key(number)) for row, number in enumerate(numbers, start)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "seen.sqlite"


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit with each call."""
    monkeypatch.setattr(scraper.seen, "COMMIT_ROWS", 1)


async def test_the_first_row_of_each_kind(path: Path) -> None:
    """A row is told the first row with its digest, in its chunk or an earlier one; the first is told None."""
    async with Seen(path, "list") as seen:
        assert await seen.firsts(keys(1, 2, 1, 1)) == [None, None, 0, 0]
        assert await seen.firsts(keys(3, 2, 1, start=4)) == [None, 1, 0]
        assert await seen.firsts([]) == []
        assert seen.entered == 7


async def test_rows_need_not_follow_each_other(path: Path) -> None:
    """Rows that are no rows, or cannot be asked, have no digest; the numbers of the others stand."""
    async with Seen(path, "list") as seen:
        assert await seen.firsts([(3, key(1)), (10, key(1)), (11, key(2))]) == [None, 3, None]
        assert await seen.firsts([(5_000_000_000, key(2))]) == [11]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60), st.data())
def test_it_is_as_a_dictionary_would_say(rows: list[int], data: st.DataObject) -> None:
    """However the list is cut into chunks, and wherever a run was ended: as if it had been looked at whole."""
    firsts: dict[int, int] = {}
    expected = [
        None if firsts.setdefault(number, row) == row else firsts[number] for row, number in enumerate(rows)
    ]

    async def run(path: Path, upto: int) -> list[int | None]:
        found: list[int | None] = []
        async with Seen(path, "list") as seen:
            while len(found) < upto:
                begin = len(found)
                end = data.draw(st.integers(begin + 1, upto))
                found += await seen.firsts(keys(*rows[begin:end], start=begin))
        return found

    before = scraper.seen.COMMIT_ROWS
    scraper.seen.COMMIT_ROWS = data.draw(st.integers(1, 20))
    try:
        with tempfile.TemporaryDirectory() as folder:
            for upto in (data.draw(st.integers(0, len(rows))), len(rows)):
                assert asyncio.run(run(Path(folder) / "seen.sqlite", upto)) == expected[:upto]
    finally:
        scraper.seen.COMMIT_ROWS = before


async def test_chunks_larger_than_a_statement(path: Path) -> None:
    """Chunks of any size are answered whole: the size of a statement is nobody's business."""
    rng = random.Random(7)
    numbers = [rng.randrange(900) for _ in range(2 * scraper.seen._AT_ONCE + 1)]
    async with Seen(path, "list") as seen:
        answers = await seen.firsts(keys(*numbers))
    assert answers == [
        None if numbers.index(number) == row else numbers.index(number) for row, number in enumerate(numbers)
    ]


@pytest.mark.usefixtures("_often")
async def test_the_next_run_knows(path: Path) -> None:
    """What was committed is known to the next run: who was first, and from which row on it must be told."""
    async with Seen(path, "list") as seen:
        await seen.firsts(keys(1, 2, 1))
    async with Seen(path, "list") as seen:
        assert seen.entered == 3
        assert await seen.firsts([(1, key(2)), (2, key(1))]) == [None, 0]
        assert await seen.firsts(keys(2, start=3)) == [1]


async def test_what_was_not_committed_is_told_again(path: Path) -> None:
    """The watermark and the entries are of one transaction: never one without the other."""
    async with Seen(path, "list") as seen:
        await seen.firsts(keys(1, 2))
        assert seen.entered == 2
    async with Seen(path, "list") as seen:
        assert seen.entered == 0
        assert await seen.firsts(keys(1, 2, 1)) == [None, None, 0]


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("identity", ["another list", ""])
async def test_another_list_starts_anew(path: Path, identity: str) -> None:
    """No row is the same as one of another list; a list that cannot be told from others is always another."""
    async with Seen(path, identity and "list") as seen:
        await seen.firsts(keys(1, 2))
    async with Seen(path, identity) as seen:
        assert seen.entered == 0
        assert await seen.firsts(keys(2, 1)) == [None, None]


@pytest.mark.usefixtures("_often")
async def test_another_version_starts_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests that were made in another way are not compared."""
    async with Seen(path, "list") as seen:
        await seen.firsts(keys(1))
    monkeypatch.setattr(scraper.seen, "_VERSION", scraper.seen._VERSION + 1)
    async with Seen(path, "list") as seen:
        assert seen.entered == 0


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("junk", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_a_damaged_file_starts_anew(path: Path, junk: bytes) -> None:
    """A file that is none, or is cut to nothing, is made again; the user is not bothered."""
    async with Seen(path, "list") as seen:
        await seen.firsts(keys(1))
    path.write_bytes(junk)
    async with Seen(path, "list") as seen:
        assert seen.entered == 0
        assert await seen.firsts(keys(1, 1)) == [None, 0]


async def test_a_file_of_other_tables_starts_anew(path: Path) -> None:
    """A database that is not ours is not read."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE list (other)")
    other.close()
    async with Seen(path, "list") as seen:
        assert await seen.firsts(keys(1, 1)) == [None, 0]


@pytest.mark.usefixtures("_often")
async def test_damage_that_shows_late_is_told(path: Path) -> None:
    """Damage in the middle ends the run with what to do; the next run starts anew."""
    async with Seen(path, "list") as seen:
        await seen.firsts(keys(*range(2000)))
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 4096] + b"\xff" * (len(whole) - 3 * 4096))
    async with Seen(path, "list") as seen:
        with pytest.raises(RunStopped, match=r"was damaged .* run the same command again"):
            await seen.firsts(keys(*range(2000)))
    async with Seen(path, "list") as seen:
        assert await seen.firsts(keys(*range(2000))) == [None] * 2000


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """What the disk refuses is one sentence that says what to do."""
    with pytest.raises(SinkFailed, match=r"cannot be kept in .* run the same command again"):
        async with Seen(tmp_path / "not there" / "seen.sqlite", "list"):
            pass


async def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is said as that; and with room the same calls go through."""
    monkeypatch.setattr(scraper.seen, "_OPEN", scraper.seen._OPEN + "PRAGMA max_page_count = 4;")
    async with Seen(path, "list") as seen:
        with pytest.raises(SinkFailed, match="full"):
            await seen.firsts(keys(*range(5000)))
    monkeypatch.undo()
    async with Seen(path, "list") as seen:
        assert await seen.firsts(keys(*range(5000))) == [None] * 5000


_KILLED = """
import asyncio, sys
from pathlib import Path
import scraper.seen
scraper.seen.COMMIT_ROWS = 300

async def main():
    async with scraper.seen.Seen(Path(sys.argv[1]), "list") as seen:
        for start in range(seen.entered, 10**9, 100):
            rows = range(start, start + 100)
            answers = await seen.firsts([(row, (row // 2).to_bytes(16, "little")) for row in rows])
            assert answers == [None if row % 2 == 0 else row - 1 for row in rows]
            print(seen.entered, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_at_any_moment(path: Path) -> None:
    """SIGKILL at random moments: each next run goes on from a watermark below which every answer is right."""
    rng, reached = random.Random(11), 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(rng.randrange(5, 40)):
            reached = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    async def look() -> None:
        async with Seen(path, "list") as seen:
            assert seen.entered > max(0, reached - 400)
            rows = range(seen.entered)
            answers = await seen.firsts([(row, key(row // 2)) for row in rows])
            assert answers == [None if row % 2 == 0 else row - 1 for row in rows]
            assert seen.entered == len(rows)

    asyncio.run(look())
