"""What it costs a row to be compared with all that were written: ``--dedupe content`` and ``perceptual``.

Rows go through the comparison and are committed to a ledger, with no network and no sink. Prints are random, which
is the worst for the index: each falls anywhere in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence

from benchmarks.figures import Finding, verdict
from benchmarks.setting import Setting
from scraper.config_results import DedupeConfig
from scraper.engines.duplicates import Duplicates
from scraper.ledger import Ledger, RunMeta
from scraper.ledger_prints import DIGEST_BYTES, NewPrints, Print
from scraper.policies.prints import Bands
from scraper.records import Item, Outcome, Request, Result

SIZES = (100_000, 1_000_000)
QUICK = (2_000, 20_000)
BATCH, COMMIT = 256, 8
"""Rows to a write, as the engine has them, and writes to a commit."""

FILL = 50_000
"""Rows to a commit of those that are not timed."""

TAIL = 20_000
"""Rows that are timed, once so many are there."""

KINDS = {
    "none": None,
    "content": DedupeConfig(content=True),
    "perceptual:0": DedupeConfig(perceptual=0),
    "perceptual:4": DedupeConfig(perceptual=4),
}


def measure(setting: Setting) -> Finding:
    """Microseconds a row, at the end of each size."""
    sizes = QUICK if setting.quick else SIZES
    rows = []
    for kind, config in KINDS.items():
        path = setting.folder / f"{kind.replace(':', '-')}.sqlite"
        timed = asyncio.run(_timed(Ledger.open(path), config, sizes))
        size = path.stat().st_size / sizes[-1]
        rows.append([f"--dedupe {kind}", *(f"{us:.0f}" for us in timed), f"{size:.0f}"])
    return Finding(
        "prints: comparing results with those before them",
        ["", *(f"µs a row, at {size:,} rows" for size in sizes), "bytes of the ledger a row"],
        rows,
        ["random digests and prints, no duplicates among them; commits with their fsync included"],
        verdict("prints", ", ".join(f"{row[0]} {row[-2]} µs" for row in rows), "no goal", None, is_valid=True),
        is_valid=True,
    )


async def _timed(ledger: Ledger, config: DedupeConfig | None, sizes: Sequence[int]) -> list[float]:
    dice = random.Random(1)
    timed = []
    async with ledger:
        await ledger.begin(RunMeta(pipeline="prints"))
        duplicates = None if config is None else Duplicates(config, ledger)
        row = 0
        for size in sizes:
            tail = min(TAIL, size // 2)
            row = await _filled(ledger, config, range(row, size - tail), dice)
            since = time.perf_counter()
            row = await _written(ledger, duplicates, range(row, size), dice)
            timed.append((time.perf_counter() - since) / tail * 1e6)
    return timed


async def _filled(ledger: Ledger, config: DedupeConfig | None, rows: range, dice: random.Random) -> int:
    """Rows as earlier runs left them: in large commits, and not compared, which takes a tenth of the time."""
    config = config or DedupeConfig()
    bands = Bands(config.perceptual or 0)
    for first in range(rows.start, rows.stop, FILL):
        batch = [_result(row, dice) for row in range(first, min(first + FILL, rows.stop))]
        prints = [
            Print(
                one.outcome.row,
                bytes.fromhex(str(one.outcome.sha256))[:DIGEST_BYTES] if config.content else None,
                int(str(one.items[0].fields["dhash"]), 16) if config.perceptual is not None else None,
            )
            for one in batch
        ]
        outcomes = await _sink(batch)
        await ledger.commit(outcomes, {}, prints=NewPrints(prints, bands) if config.compares_results else None)
    return rows.stop


async def _written(ledger: Ledger, duplicates: Duplicates | None, rows: range, dice: random.Random) -> int:
    pending: list[Outcome] = []
    for count, first in enumerate(range(rows.start, rows.stop, BATCH), 1):
        batch = [_result(row, dice) for row in range(first, min(first + BATCH, rows.stop))]
        pending += await (_sink(batch) if duplicates is None else duplicates.write(batch, _sink))
        if count % COMMIT == 0:
            await ledger.commit(pending, {}, prints=None if duplicates is None else duplicates.taken())
            pending = []
    await ledger.commit(pending, {}, prints=None if duplicates is None else duplicates.taken())
    return rows.stop


async def _sink(batch: Sequence[Result]) -> list[Outcome]:
    return [one.outcome.placed("a") for one in batch]


def _result(row: int, dice: random.Random) -> Result:
    url = f"http://photos.example/{row}.jpg"
    digest = hashlib.sha256(row.to_bytes(8)).hexdigest()
    item = Item(b"", "jpg", {"dhash": f"{dice.getrandbits(64):016x}"})
    return Result(Request(row, url), Outcome(row, url, "ok", sha256=digest), [item])
