"""One run, killed with SIGKILL thirty times at random moments and then left to finish: what did it cost?

Nothing may be lost, doubled or torn, and nothing may be asked again that the ledger held when the kill came. What
was in flight is asked again, and how much that was is counted at the server.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks import peers, remains
from benchmarks.figures import Finding, spread, verdict
from benchmarks.setting import Setting
from scraper.config import (
    CommitConfig,
    FetchConfig,
    HostLimits,
    PermitConfig,
    PolitenessConfig,
    PoolConfig,
    RetryConfig,
    RunConfig,
)
from scraper.ledger import LedgerReader
from scraper.ledger_reader import NoRun
from scraper.origin.lists import write_list
from scraper.origin.process import OriginProcess
from scraper.records import Outcome

ROOT = Path(__file__).resolve().parents[1]
FORMATS = ("webdataset", "files", "jsonl")
LATENCY_S = 0.05
FAULTS = 0.05
POOL = PoolConfig(workers=2, batch_items=4)
"""Little has room in it, so that little can be in flight."""

EVERY_S = 0.1
"""Between commits: a tenth of what is usual, so that kills meet ten times as many of them."""

WHILE_STARTING = 0.1
"""The share of kills at any moment before the first request; the others come after it."""

END_S = 120.0
"""How long a run that is not killed may take: several times what it does."""

_ROW = re.compile(r"/img/thumb/(\d+)[.]")


@dataclass(frozen=True, slots=True)
class Ordeal:
    """What is to be gone through.

    Attributes:
        output_format: of ``scraper images``.
        rows: of the list, a twentieth of them with a fault.
        kills: how many.
        concurrency: fetches at once; with the latency of the origin it says how long the whole takes.
        rows_per_shard: for webdataset.
        seed: of the moments.
    """

    output_format: str
    rows: int
    kills: int
    concurrency: int = 8
    rows_per_shard: int = 500
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    """What one killed run has done.

    Attributes:
        asked: rows that the server was asked for.
        again: those of them that will have to be asked again: they are not in the ledger. Rows with a fault are
            left out here: they may have ended, and wait for their next attempt.
        bound: how many that may be, from what can be in flight; None for a run without two commits.
        recorded: rows in the ledger after it.
    """

    asked: int
    again: int
    bound: int | None
    recorded: int


@dataclass(slots=True)
class Survived:
    """What came of an ordeal.

    Attributes:
        wrong: sentences on what should not be; none, if all is well.
        kills: one for each, in order.
        seconds: of the last run, which was left to finish.
    """

    wrong: list[str] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def in_the_middle(self) -> int:
        """Kills of runs that had asked for something."""
        return sum(kill.asked > 0 for kill in self.kills)


def measure(setting: Setting) -> Finding:
    """Pictures, written in each way there is; the built-in origin, which counts what it is asked."""
    ordeals = [
        Ordeal(each, rows=600 if setting.quick else 3_000, kills=6 if setting.quick else 30) for each in FORMATS
    ]
    done: dict[str, Survived] = {}
    for ordeal in ordeals:
        folder = setting.folder / ordeal.output_format
        folder.mkdir()
        done[ordeal.output_format] = survived = survive(folder, ordeal)
        for number, kill in enumerate(survived.kills, 1):
            bound = "-" if kill.bound is None else kill.bound
            print(
                f"  {ordeal.output_format}, kill {number}: {kill.asked} asked, {kill.recorded} in the ledger by "
                f"now, {kill.again} to be asked again (at most {bound})"
            )
        print("".join(f"  WRONG: {each}\n" for each in survived.wrong), end="", flush=True)
    return _finding(ordeals[0], done)


def survive(folder: Path, ordeal: Ordeal) -> Survived:
    """Run it once whole, then killed again and again in another folder, and compare."""
    with OriginProcess(latency_s=LATENCY_S) as origin:
        origin.warm("thumb")
        urls = folder / "urls.txt"
        write_list(urls, origin.base, rows=ordeal.rows, size="thumb", faults=FAULTS, seed=ordeal.seed)
        whole = folder / "whole"
        begun = time.monotonic()
        if status := _ended(_started(urls, whole, replace(ordeal, concurrency=64))):
            return Survived([f"the run that was not killed ended with {status}"])
        start_s = min(since for _, since, _ in origin.log()) - begun
        origin.reset()
        return _Loop(origin, urls, folder / "out", ordeal, start_s, whole).go()


class _Loop:
    """The runs that are killed, and the one that is not.

    Args:
        origin: counts what it is asked.
        urls: the list.
        out: where all of them write.
        ordeal: what is to be gone through.
        start_s: how long a run takes to its first request.
        whole: the output of a run that was not killed.
    """

    def __init__(
        self, origin: OriginProcess, urls: Path, out: Path, ordeal: Ordeal, start_s: float, whole: Path
    ) -> None:
        self._origin = origin
        self._urls = urls
        self._out = out
        self._ordeal = ordeal
        self._start_s = start_s
        self._expected = remains.read(whole)
        self._expected_ends = _ends(remains.outcomes(whole))
        self._faulty = {row for row, url in enumerate(urls.read_text().splitlines()) if "?" in url}
        self._moments = random.Random(ordeal.seed)
        self._asked: Counter[int] = Counter()
        self._recorded: Mapping[int, Outcome] = {}
        self._survived = Survived()

    def go(self) -> Survived:
        """Kill it as often as ordered, let it finish, and see what there is."""
        wrong = self._survived.wrong
        for number in range(1, self._ordeal.kills + 1):
            self._kill_one(f"kill {number}")
        since = time.monotonic()
        if status := _ended(_started(self._urls, self._out, self._ordeal)):
            wrong.append(f"the last run ended with {status}")
            return self._survived
        self._survived.seconds = time.monotonic() - since
        self._count("the last run")
        wrong += _differences(remains.read(self._out), self._expected)
        ends = _ends(remains.outcomes(self._out))
        wrong += [
            f"row {row} ended as {ends.get(row)}, not {self._expected_ends.get(row)}"
            for row in sorted(ends.keys() | self._expected_ends.keys())
            if ends.get(row) != self._expected_ends.get(row)
        ]
        return self._survived

    def _kill_one(self, name: str) -> None:
        """Start a run, kill it at some moment, most often after its first request, and look at what is left."""
        ordeal, wrong = self._ordeal, self._survived.wrong
        child = _started(self._urls, self._out, ordeal)
        if self._moments.random() < WHILE_STARTING:
            time.sleep(self._moments.uniform(0.0, self._start_s))
        else:
            # By what it has asked for and not by time: on a busy machine it must get as far. All of them together
            # ask for some four fifths of the list: it must not be done before the last kill.
            enough = self._asked.total() + self._moments.uniform(1.0, 1.6 * ordeal.rows / ordeal.kills)
            while self._origin.stats()["total"] < enough and child.poll() is None:
                time.sleep(0.02)
            time.sleep(self._moments.uniform(0.0, EVERY_S))
        os.killpg(child.pid, signal.SIGKILL)  # the group is there even if the run has ended: it is not reaped yet
        if (status := child.wait()) != -signal.SIGKILL:
            wrong.append(f"{name}: the run had ended before, with {status}")
        asked = self._count(name)
        clean = {row for row in asked if row not in self._faulty}
        again = len(clean - self._recorded.keys())
        kill = Kill(len(asked), again, self._bound(), len(self._recorded))
        self._survived.kills.append(kill)
        if kill.bound is not None and kill.again > kill.bound:
            wrong.append(f"{name}: {kill.again} rows are asked again, and {kill.bound} could be in flight")
        wrong += [f"{name}: row {row} was asked {asked[row]} times in one run" for row in clean if asked[row] > 1]
        wrong += [f"{name}: {each}" for each in remains.torn(self._out, self._expected)]

    def _count(self, name: str) -> Counter[int]:
        """What the run that has just ended has asked; it should not have asked for what was recorded before it."""
        while (stats := self._origin.stats())["in_flight"]:
            time.sleep(0.01)
        total: Counter[int] = Counter()
        for url, times in stats["requests"].items():
            if found := _ROW.match(url):
                total[int(found[1])] += times
        asked = total - self._asked
        self._survived.wrong += [
            f"{name}: row {row} was asked for, though the ledger had it"
            for row in asked.keys() & self._recorded.keys()
        ]
        self._asked = total
        lost = self._recorded.keys() - (recorded := remains.outcomes(self._out)).keys()
        self._survived.wrong += [f"{name}: row {row} has gone from the ledger" for row in lost]
        self._recorded = recorded
        return asked

    def _bound(self) -> int | None:
        """How many rows the last run may have asked for and not recorded, if it committed twice.

        A row that was answered before the last commit but one began is in the last one, unless it was then on its
        way through fetch and transform, where so many have room.
        """
        try:
            with LedgerReader(self._out / ".scraper" / "ledger.sqlite") as reader:
                last = len(reader.runs()) - 1
                begun = [commit.at for commit in reader.commits() if commit.run == last]
        except NoRun:
            return None
        if len(begun) < 2:
            return None
        since = begun[-2] - time.time() + time.monotonic()
        fetches = self._ordeal.concurrency
        room = fetches + 2 * fetches + POOL.workers * POOL.in_flight * POOL.batch_items
        return room + sum(end > since for _, _, end in self._origin.log())


def _started(urls: Path, out: Path, ordeal: Ordeal) -> subprocess.Popen[bytes]:
    """A run in a process group of its own; what it says goes beside the list."""
    with (urls.parent / "said.log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kills", str(urls), str(out), json.dumps(asdict(ordeal))],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Wait for a run; its exit status."""
    try:
        return child.wait(END_S)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise


def _ends(recorded: Mapping[int, Outcome]) -> dict[int, tuple[object, ...]]:
    """What of an outcome is the same in every run."""
    return {row: (end.url, end.class_, end.status, end.bytes, end.sha256) for row, end in recorded.items()}


def _differences(found: remains.Remains, expected: remains.Remains) -> list[str]:
    names = found.items.keys() | expected.items.keys()
    wrong = [f"{name} is there twice" for name in found.twice]
    wrong += [f"{name} should not be there" for name in sorted(found.files - expected.files)]
    wrong += [f"{name} is missing" for name in sorted(expected.files - found.files)]
    wrong += [
        f"{name} is not what it should be"
        for name in sorted(names)
        if found.items.get(name) != expected.items.get(name)
    ]
    return wrong


def _finding(ordeal: Ordeal, done: Mapping[str, Survived]) -> Finding:
    wrong = sum(len(survived.wrong) for survived in done.values())
    compared = {name: [k for k in all_.kills if k.bound is not None] for name, all_ in done.items()}
    return Finding(
        f"kills: {ordeal.rows:,} pictures, killed {ordeal.kills} times and then left to finish",
        ["", *done],
        [
            ["kills after the first request", *(str(each.in_the_middle) for each in done.values())],
            ["rows in the ledger at the last kill", *(f"{_recorded(each):,}" for each in done.values())],
            [
                "asked again after a kill, rows",
                *(spread([k.again for k in all_.kills], 0) for all_ in done.values()),
            ],
            ["of runs with two commits", *(spread([k.again for k in kills], 0) for kills in compared.values())],
            [
                "of these could be in flight",
                *(spread([k.bound or 0 for k in kills], 0) for kills in compared.values()),
            ],
            ["lost, doubled, torn, asked in vain", *(str(len(each.wrong)) for each in done.values())],
        ],
        [
            f"a commit every {EVERY_S} s, {ordeal.concurrency} fetches at once, each answered after "
            f"{LATENCY_S * 1000:.0f} ms; {FAULTS:.0%} of the rows have a fault",
            "compared with a run that was not killed: each file, member, line and table row, and each outcome",
        ],
        verdict("kills", f"{wrong} things wrong", "0", wrong == 0, is_valid=True),
        is_valid=all(survived.kills for survived in done.values()),
    )


def _recorded(survived: Survived) -> int:
    return survived.kills[-1].recorded if survived.kills else 0


def main(urls: str, out: str, ordeal: Ordeal) -> int:
    """The run that is killed, as a program of its own."""
    from pipelines import images
    from scraper import run

    config = RunConfig(
        FetchConfig("scraper-benchmarks", allow_net=(peers.LOOPBACK,)),
        permits=PermitConfig(ordeal.concurrency),
        # The kills are timed by what is asked: so many rows at once from the start, and no robots.txt.
        politeness=PolitenessConfig(HostLimits(ordeal.concurrency), adaptive=False, robots="ignore"),
        retry=RetryConfig(wait_s=0.05, cap_s=0.05),  # a row that waits has not ended, and would not before the end
        pool=POOL,
        commit=CommitConfig(every_s=EVERY_S),
        max_failed=ordeal.rows,
    )
    pipeline = images.build(output_format=ordeal.output_format, number_sample_per_shard=ordeal.rows_per_shard)
    report = run(pipeline, inputs=urls, out=out, config=config)
    return report.exit_code(config.max_failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Ordeal(**json.loads(sys.argv[3]))))
