"""The ledger → a Report: sums that SQLite makes, and a few rows to look at.

In: a LedgerReader. Out: one frozen object whose size does not depend on the number of rows.
Must never: read all rows into Python; take more than some seconds at ten million rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scraper.errors import OutcomeClass, State, outcome_class
from scraper.ledger import LedgerReader, Recorded, Run, RunMeta
from scraper.ledger_hosts import HostRecord
from scraper.ledger_pass import LastPass, option_of
from scraper.ledger_reader import Commit, HostTotals
from scraper.outdir import OutputFolder
from scraper.records import Outcome
from scraper.units import show_count, show_seconds

ReadItems = Callable[[Path, Sequence[tuple[str, str | None]]], Iterable[bytes | None]]
"""(output folder, [(path, shard), ...]) → the bytes of each, in order; None for what is not there."""

StartedBy = Literal["command", "pipe", "program"]

TOP_HOSTS = 20
SAMPLES = 5
PICTURES = 60
PICTURE_BYTES = 8 * 1024 * 1024
"""Larger ones are not read for a thumbnail: a few of them would be all the memory we promise to need."""

SLOTS = 60
PERCENTILES = (50, 90, 99)
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})


@dataclass(frozen=True, slots=True)
class Failure:
    """A class of rows that came to nothing: failed, or skipped.

    Attributes:
        of: the class: its name, whose fault, what it means.
        rows: how many.
        samples: the first of them.
    """

    of: OutcomeClass
    rows: int
    samples: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class RateSlot:
    """A stretch of running time; pauses between runs are left out.

    Attributes:
        start_s: running time at its beginning.
        seconds: how long it is.
        ok: rows that ended ok in it; parts of rows, since a commit may span slots.
        skipped: as ``ok``.
        failed: as ``ok``.
    """

    start_s: float
    seconds: float
    ok: float
    skipped: float
    failed: float


@dataclass(frozen=True, slots=True)
class TimeMeans:
    """Where the time of an average row went, in milliseconds."""

    dns_ms: float = 0.0
    connect_ms: float = 0.0
    tls_ms: float = 0.0
    first_byte_ms: float = 0.0
    body_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A row that may be shown."""

    row: int
    url: str
    path: str
    shard: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a job came to, over all of its runs.

    Attributes:
        out: the output folder.
        pipeline: the pipeline's name.
        by_class: rows by outcome class, most first.
        bytes: bytes of bodies, decoded.
        seconds: running time, summed over the runs in which any row ended.
        runs: each run, oldest first.
        rows_total: rows of the list; None where no run has read it to its end.
        is_running: a run is under way; what is shown is what it has made durable so far.
        last_pass: what came of asking again last; None if that was never done.
        started_by: what can go on; see ``started_by``.
        hosts_total: how many hosts there are.
        hosts: those with the most rows.
        treatment: how hosts were treated and why, those asked most.
        guards: what runs were allowed beyond the defaults, in sentences.
        sizes: (least size in bytes, rows), a power of two apart, ascending.
        slots: the rate over running time.
        percentiles_ms: 50, 90, 99 → milliseconds within which that share of the asked rows ended.
        means: where the time of an average row went.
        failures: failed classes, most rows first, each with its first rows.
        skips: the same for skipped ones.
        pictures: rows to show, spread evenly over the list.
        settings: the pipeline's settings.
        inputs: the lists.
        version: of the package in the last run.
    """

    out: Path
    pipeline: str
    by_class: Mapping[str, int]
    bytes: int = 0
    seconds: float = 0.0
    runs: Sequence[Run] = ()
    rows_total: int | None = None
    is_running: bool = False
    last_pass: LastPass | None = None
    started_by: StartedBy = "program"
    hosts_total: int = 0
    hosts: Sequence[HostTotals] = ()
    treatment: Sequence[HostRecord] = ()
    guards: Sequence[str] = ()
    sizes: Sequence[tuple[int, int]] = ()
    slots: Sequence[RateSlot] = ()
    percentiles_ms: Mapping[int, float] = field(default_factory=dict)
    means: TimeMeans = TimeMeans()
    failures: Sequence[Failure] = ()
    skips: Sequence[Failure] = ()
    pictures: Sequence[Picture] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    version: str = ""

    @classmethod
    def from_ledger(cls, reader: LedgerReader, out: Path) -> Report:
        """Sum a ledger up.

        Raises:
            UsageError: the ledger is damaged.
        """
        meta = reader.meta()
        counts = dict(sorted(reader.counts().items(), key=lambda one: (-one[1], one[0])))
        runs = reader.runs()
        totals = reader.totals()
        hosts_total, hosts = reader.hosts(TOP_HOSTS)
        asked = max(1, totals.asked)
        before_body_ms = totals.dns_ms + totals.connect_ms + totals.tls_ms + totals.first_byte_ms
        return cls(
            out=out,
            pipeline=meta.pipeline if meta else "",
            by_class=counts,
            bytes=totals.bytes,
            seconds=sum(run.seconds for run in _working(runs)),
            runs=runs,
            rows_total=next((run.rows_total for run in reversed(runs) if run.rows_total is not None), None),
            # The lock is looked at only where the ledger leaves it open: a run that has noted its end is over.
            is_running=bool(runs) and runs[-1].exit is None and OutputFolder(out).is_held(),
            last_pass=reader.last_pass(),
            started_by=started_by(meta) if meta else "program",
            hosts_total=hosts_total,
            hosts=hosts,
            treatment=reader.treatment(TOP_HOSTS),
            guards=reader.guards(),
            sizes=_by_powers(reader.sizes()),
            slots=_slots(runs, reader.commits()),
            percentiles_ms=_percentiles(reader.durations()),
            means=TimeMeans(
                totals.dns_ms / asked,
                totals.connect_ms / asked,
                totals.tls_ms / asked,
                totals.first_byte_ms / asked,
                max(0.0, totals.total_ms - before_body_ms) / asked,
            ),
            failures=_failures(reader, counts, State.FAILED),
            skips=_failures(reader, counts, State.SKIPPED),
            pictures=_pictures(_sampled(reader)),
            settings=meta.settings if meta else {},
            inputs=tuple(meta.inputs) if meta else (),
            version=meta.version if meta else "",
        )

    @classmethod
    def of(cls, out: Path | str) -> Report:
        """The report of an output folder.

        Raises:
            UsageError: no run has written there, or its ledger is damaged.
        """
        folder = OutputFolder.existing(out)
        with LedgerReader(folder.ledger_path) as reader:
            return cls.from_ledger(reader, folder.root)

    def __repr__(self) -> str:
        return (
            f"<Report {self.pipeline} {self.out}: {show_count(self.rows)} rows, {show_count(self.ok)} ok, "
            f"{show_count(self.skipped)} skipped, {show_count(self.failed)} failed, {show_seconds(self.seconds)}>"
        )

    @property
    def rows(self) -> int:
        """Rows that have ended: ok + skipped + failed."""
        return sum(self.by_class.values())

    @property
    def ok(self) -> int:
        """Rows that ended well."""
        return self._count(State.OK)

    @property
    def skipped(self) -> int:
        """Rows that were not wanted."""
        return self._count(State.SKIPPED)

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return self._count(State.FAILED)

    def _count(self, state: State) -> int:
        return _rows_of(self.by_class, state)

    @property
    def rate(self) -> float:
        """Rows ended per second of running time."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def working_runs(self) -> int:
        """How many runs ``seconds`` is the sum of; one that found nothing to do is none of them."""
        return len(_working(self.runs))

    @property
    def is_complete(self) -> bool:
        """Whether the last run came to its own end, and not by an interrupt or a fault."""
        return bool(self.runs) and self.runs[-1].exit in (0, 1)

    @property
    def way_on(self) -> str:
        """What to do for the rows that are left: half a sentence, a command or nothing behind its colon."""
        option = option_of(self.last_pass.again) if self.last_pass and self.left_to_ask else ""
        match self.started_by:
            case "command":
                return f"go on with: scraper resume {shlex.quote(str(self.out))}"
            case "pipe":
                return f"go on with the same command{option and f' and {option}'}, the same list piped in"
            case _:
                return f"go on by starting the same program again{option and f', with {option}'}"

    @property
    def asked_again(self) -> str:
        """What came of asking again last, in some words; empty if no row was."""
        if self.last_pass is None or not self.last_pass.by_class:
            return ""
        by_class, again = self.last_pass.by_class, self.last_pass.again
        rows = sum(by_class.values())
        unchanged = by_class.get("ok.not_modified", 0) if again.refresh else 0
        ok, skipped, failed = (_rows_of(by_class, state) for state in (State.OK, State.SKIPPED, State.FAILED))
        told = [f"{show_count(ok - unchanged)} {'fetched anew' if again.refresh else 'ok now'}"]
        told += [f"{show_count(unchanged)} not modified"] if again.refresh else []
        told += [f"{show_count(skipped)} skipped"] if skipped else []
        told += [f"{show_count(failed)} {'failed' if again.refresh else 'failed again'}"]
        return f"{show_count(rows)} row{'s' if rows > 1 else ''} by {option_of(again)}: {', '.join(told)}"

    @property
    def may_be_asked_again(self) -> bool:
        """Whether ``--retry-failed`` is worth offering: all is done, and rows failed for what may pass."""
        return self.is_complete and not self.left_to_ask and any(one.of.retry for one in self.failures)

    @property
    def left_to_ask(self) -> int:
        """Rows that the last pass has still to ask again; 0 while a run is under way."""
        return 0 if self.last_pass is None or self.is_running else self.last_pass.left

    @property
    def still_to_ask(self) -> str:
        """What a pass that was cut short has left to do, in some words; empty if there is nothing."""
        if self.last_pass is None or not self.left_to_ask:
            return ""
        rows = f"{show_count(self.left_to_ask)} row{'s' if self.left_to_ask > 1 else ''}"
        return f"{option_of(self.last_pass.again)} was cut short with {rows} left to ask"

    def exit_code(self, max_failed: int = 0) -> int:
        """0 if no more than ``max_failed`` rows failed, else 1."""
        return 0 if self.failed <= max_failed else 1

    def failed_rows(self) -> Iterator[Recorded]:
        """The failed rows, streamed from the ledger, in the order of the list."""
        with LedgerReader(OutputFolder(self.out).ledger_path) as reader:
            yield from reader.rows(State.FAILED)


def _rows_of(by_class: Mapping[str, int], state: State) -> int:
    return sum(rows for name, rows in by_class.items() if outcome_class(name).state is state)


def _working(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.rows]


def started_by(meta: RunMeta) -> StartedBy:
    """What can go on with a run: ``scraper resume``, the command with its list, or the program that began it."""
    if not meta.options:
        return "program"
    # A list without a fingerprint can be read once only: it came through - or <(command).
    return "pipe" if "-" in meta.inputs or not meta.fingerprint else "command"


def _failures(reader: LedgerReader, counts: Mapping[str, int], state: State) -> tuple[Failure, ...]:
    return tuple(
        Failure(outcome_class(name), rows, tuple(one.outcome for one in reader.first(name, SAMPLES)))
        for name, rows in counts.items()
        if outcome_class(name).state is state
    )


def _sampled(reader: LedgerReader) -> list[Recorded]:
    """Rows that have a copy on disk, spread over the list; after a refresh most are of the second class."""
    both = [one for name in ("ok", "ok.not_modified") for one in reader.sample(name, PICTURES)]
    both.sort(key=lambda one: one.outcome.row)
    most = min(PICTURES, len(both))
    return [both[n * len(both) // most] for n in range(most)]


def _pictures(sampled: Iterable[Recorded]) -> tuple[Picture, ...]:
    return tuple(
        Picture(row.row, row.url, row.path, row.shard)
        for row, _ in sampled
        if row.path and row.bytes <= PICTURE_BYTES and Path(row.path).suffix.lower() in PICTURE_SUFFIXES
    )


def _by_powers(sizes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sizes in steps of two, without gaps; all that is below 256 bytes in the first."""
    rows: dict[int, int] = {}
    for size, n in sizes:
        power = max(7, size.bit_length() - 1)
        rows[power] = rows.get(power, 0) + n
    if not rows:
        return ()
    return tuple((1 << power, rows.get(power, 0)) for power in range(min(rows), max(rows) + 1))


def _percentiles(durations: Sequence[tuple[int, int]]) -> dict[int, float]:
    total = sum(rows for _, rows in durations)
    found: dict[int, float] = {}
    seen = 0
    for ms, rows in durations:
        seen += rows
        for percent in PERCENTILES:
            if percent not in found and seen * 100 >= total * percent:
                found[percent] = ms + 0.5  # the middle of the millisecond
    return found


def _slots(runs: Sequence[Run], commits: Iterable[Commit]) -> tuple[RateSlot, ...]:
    """Spread what each commit made durable evenly over the time since the one before it in the same run."""
    total_s = sum(run.seconds for run in runs)
    if total_s <= 0:
        return ()
    offsets = [sum(run.seconds for run in runs[:n]) for n in range(len(runs))]
    width = total_s / SLOTS
    sums = [[0.0, 0.0, 0.0] for _ in range(SLOTS)]
    run, since = -1, 0.0
    for commit in commits:
        if not 0 <= commit.run < len(runs):
            continue
        if commit.run != run:
            run, since = commit.run, offsets[commit.run]
        # Held within the run: the clock may have been set back or forth meanwhile.
        until = offsets[run] + min(max(commit.at - runs[run].started, 0.0), runs[run].seconds)
        until = max(until, since)
        first, last = (min(SLOTS - 1, int(t / width)) for t in (since, until))
        for n in range(first, last + 1):
            overlap = min(until, (n + 1) * width) - max(since, n * width)
            share = max(0.0, overlap) / (until - since) if until > since else 1 / (last - first + 1)
            for state, rows in enumerate((commit.ok, commit.skipped, commit.failed)):
                sums[n][state] += rows * share
        since = until
    return tuple(RateSlot(n * width, width, *sums[n]) for n in range(SLOTS))
