"""What the ledger keeps of hosts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.ledger_hosts import HostRecord
from scraper.ledger_schema import SCHEMA_VERSION

META = RunMeta("files", fingerprint="f")


def record(host: str = "a.example", **changed: object) -> HostRecord:
    """Ten requests in three seconds."""
    return HostRecord(host, 10, 1, 0, 1_000, 3.0, 1, 0.0, 2, "")._replace(**changed)  # type: ignore[arg-type]


async def committed(
    path: Path,
    hosts: Sequence[HostRecord] = (),
    holds: Mapping[str, float] | None = None,
    guards: Sequence[str] = (),
) -> Mapping[str, float]:
    """A run that records these; the holds that it began with."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META if not guards else RunMeta("files", fingerprint="f", guards=guards))
        found = await ledger.holds()
        await ledger.commit([], {}, hosts, holds or {})
        await ledger.end(0)
    return found


async def test_what_runs_record_of_a_host_adds_up(tmp_path: Path) -> None:
    """Counts and seconds are summed; how it stands is what was said last."""
    path = tmp_path / "ledger.sqlite"
    await committed(path, [record(), record("b.example", requests=11)])
    await committed(path, [record(requests=3, active_s=2.0, delay_s=1.5, at_once=1, why="429 or 503")])
    with LedgerReader(path) as reader:
        assert reader.treatment(5) == [
            HostRecord("a.example", 13, 2, 0, 2_000, 5.0, 2, 1.5, 1, "429 or 503"),
            record("b.example", requests=11),
        ]
        assert reader.treatment(1) == reader.treatment(5)[:1]


@pytest.mark.parametrize(
    ("requests", "active_s", "rate"), [(10, 3.0, 3.0), (1, 3.0, 0.0), (0, 0.0, 0.0), (5, 0.0, 0.0)]
)
def test_the_rate_reached(requests: int, active_s: float, rate: float) -> None:
    """Requests after the first, over the time from the first to the last; nothing where there is no such time."""
    assert record(requests=requests, active_s=active_s).rate == rate


async def test_a_hold_outlives_the_run_until_its_time(tmp_path: Path) -> None:
    """The next run is told of holds that are still to end, and of no other."""
    path, soon = tmp_path / "ledger.sqlite", time.time() + 600
    await committed(path, holds={"a.example": soon, "b.example:8080": soon + 1, "past.example": time.time() - 1})
    assert await committed(path, holds={"a.example": soon + 60}) == {"a.example": soon, "b.example:8080": soon + 1}
    assert await committed(path) == {"a.example": soon + 60, "b.example:8080": soon + 1}


async def test_guards_that_were_lowered_are_kept_of_all_runs(tmp_path: Path) -> None:
    """Each sentence once, those of the last run first; a careful run adds none and hides none."""
    path = tmp_path / "ledger.sqlite"
    await committed(path, guards=["robots.txt was not asked for."])
    await committed(path, guards=["Through a proxy.", "robots.txt was not asked for."])
    await committed(path)
    with LedgerReader(path) as reader:
        assert reader.guards() == ["Through a proxy.", "robots.txt was not asked for."]


async def test_a_ledger_of_version_3_is_read_and_upgraded(tmp_path: Path) -> None:
    """It knows nothing of hosts; the next run brings it up."""
    path = tmp_path / "ledger.sqlite"
    await committed(path)
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE hosts; DROP TABLE holds; ALTER TABLE runs DROP COLUMN guards; DROP TABLE prints; "
            "DROP TABLE contents; DROP TABLE bands; PRAGMA user_version = 3"
        )
    with LedgerReader(path) as reader:
        assert reader.treatment(5) == []
        assert reader.guards() == []
    assert await committed(path, [record()]) == {}
    with LedgerReader(path) as reader:
        assert reader.treatment(5) == [record()]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


async def test_a_shorter_hold_does_not_take_the_place_of_a_longer_one(tmp_path: Path) -> None:
    """An answer that was under way may ask for less than the one before it."""
    path, now = tmp_path / "ledger.sqlite", time.time()
    await committed(path, holds={"a.example": now + 300})
    await committed(path, holds={"a.example": now + 20})
    assert await committed(path) == {"a.example": now + 300}


async def test_holds_and_hosts_that_nobody_of_ours_wrote_are_passed_over(tmp_path: Path) -> None:
    """Of another kind, or so far away that a clock must have been set back: they hold nobody up."""
    path, now = tmp_path / "ledger.sqlite", time.time()
    await committed(path, [record()], {"a.example": now + 60})
    with sqlite3.connect(path) as db:
        for origin, until in (("b", "soon"), ("c", b"x"), ("d", float("inf")), ("e", 1e300), (b"f", now + 60)):
            db.execute("INSERT INTO holds VALUES (?, ?)", (origin, until))
        db.execute("INSERT INTO hosts SELECT 'x', 'abc', 1, 0, 0, 1.0, 1, 0.0, 2, ''")
        db.execute("INSERT INTO hosts SELECT 'y', 1, 1, 0, 0, 'z', 1, 0.0, 2, x'00'")
    assert await committed(path) == {"a.example": now + 60}
    with LedgerReader(path) as reader:
        assert reader.treatment(9) == [record()]


async def test_hosts_that_held_a_run_back_are_shown_first(tmp_path: Path) -> None:
    """However little they were asked: that is why. One that was never asked, and refused nothing, is not shown."""
    path = tmp_path / "ledger.sqlite"
    slow = record("slow.example", requests=1, throttled=0, why="Retry-After")
    many = [record(f"{n}.example", requests=100 + n, throttled=0) for n in range(5)]
    await committed(path, [*many, slow, record("never.example", requests=0, throttled=0)])
    with LedgerReader(path) as reader:
        assert [each.host for each in reader.treatment(2)] == ["slow.example", "4.example"]
        assert len(reader.treatment(99)) == 6
