"""The contract suite that any sink must pass.

Subclass it in a test module, say how to make the sink and how to read its output back, and pytest runs the rest:

    class TestMySink(SinkContract):
        def make(self, out, state):
            return MySink(out, state)

        def read_back(self, out):
            return [(row, data), ...]

Sinks that make each of their steps on a ``Disk``, as ours do, have more to pass: ``scraper.testing.disk``.

Must never: know a sink's format; be kinder to our own sinks than to others.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from scraper.errors import State
from scraper.protocols import Sink, SinkState
from scraper.records import Item, Outcome, Request, Result


class MemoryLedger:
    """What a ledger is to a sink: outcomes and state, committed together or not at all."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._state = "{}"

    @property
    def state(self) -> SinkState:
        """The last committed state, as a later run would read it."""
        found: dict[str, object] = json.loads(self._state)
        return found

    def ask_again(self) -> dict[int, Outcome]:
        """Let every row be asked once more; how they ended before."""
        before, self.outcomes = self.outcomes, {}
        return before

    def commit(self, outcomes: Sequence[Outcome], state: SinkState) -> None:
        """Keep both. The state goes through JSON, and its keys lose their order, as they may in a ledger."""
        written = json.dumps(state, sort_keys=True, allow_nan=False)
        for outcome in outcomes:
            assert outcome.row not in self.outcomes, f"row {outcome.row} is committed twice"
            self.outcomes[outcome.row] = outcome
        self._state = written


def sample_results(count: int) -> list[Result]:
    """Rows of every kind: most with an item, some failed, some skipped, some without anything to write."""
    results = []
    for row in range(count):
        request = Request(row, f"http://origin.test/{row}", caption=f"größe {row}", columns={"n": row})
        class_, items = "ok", [Item(f"<{row}>".encode() * (row * 37 % 50 + 1), "jpg", {"width": row})]
        if row % 7 == 3:
            class_, items = "http.404", []
        elif row % 7 == 5:
            class_, items = "filtered.size", []
        results.append(Result(request, Outcome(row, request.url, class_, attempts=1), items))
    return results


WAYS_OUT = (
    "../../x", "..%2f..%2fx", "/etc/x", "C:\\x", "a\x00b", "a\nb", "CON", ".x", "-x", "\u202ex", "\udc80",
    "x" * 400,
)  # fmt: skip
"""What a list, a server or a page may say, and no name may hold."""


def hostile_results() -> list[Result]:
    """Rows of which everything that a stranger decides wants to lead out of the output."""
    results = []
    for row, way in enumerate(WAYS_OUT):
        url = f"http://origin.test/{way}"
        request = Request(row, url, caption=way, columns={"n": way, way: way})
        item = Item(f"<{row}>".encode(), f"{way}jpg", {way: way})
        results.append(Result(request, Outcome(row, url, "ok", attempts=1), [item], f'x; filename="{way}"'))
    return results


class SinkContract(ABC):
    """What the engine relies on. Each test gets a folder of its own."""

    rows = 12
    """Rows of a run: enough for several batches, flushes and shards."""
    batch = 3
    flush_every = 2
    """Batches between two flushes."""

    @abstractmethod
    def make(self, out: Path, state: SinkState) -> Sink:
        """A sink for ``out`` that goes on from ``state``."""

    @abstractmethod
    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """Every item under a final name, with its row, read as strictly as can be. Raises if one is torn."""

    def check_complete(self, out: Path, outcomes: Sequence[Outcome]) -> None:
        """Check what only this sink promises, once every row has ended and is published."""
        del out, outcomes  # nothing more, unless a sink says so

    # --- how the engine uses a sink ---

    async def run(
        self, out: Path, ledger: MemoryLedger, results: Sequence[Result], *, finish: bool = True
    ) -> None:
        """Write what the ledger does not hold yet, as an engine would."""
        await self.run_on(self.make(out, ledger.state), ledger, results, finish=finish)

    async def run_on(
        self, made: Sink, ledger: MemoryLedger, results: Sequence[Result], *, finish: bool = True
    ) -> None:
        """The same for a sink that is made already, from the ledger's state."""
        todo = [result for result in results if result.request.row not in ledger.outcomes]
        async with made as sink:
            pending: list[Outcome] = []
            for number, start in enumerate(range(0, len(todo), self.batch), 1):
                pending += await sink.write(todo[start : start + self.batch])
                if number % self.flush_every == 0:
                    ledger.commit(pending, await sink.flush())
                    pending = []
                    await sink.publish()
            ledger.commit(pending, await sink.flush())
            await sink.publish()
            if finish:
                ledger.commit([], await sink.finish())
                await sink.publish()

    def expected(self, results: Sequence[Result]) -> dict[int, bytes]:
        """What must be readable in the end: the first item of each row that has any."""
        return {result.request.row: bytes(result.items[0].data) for result in results if result.items}

    def check_torn(self, out: Path, results: Sequence[Result]) -> None:
        """Whatever is under a final name is whole, is right, and is there once."""
        found = self.read_back(out)
        assert len(found) == len({row for row, _ in found})
        wanted = self.expected(results)
        assert all(wanted[row] == data for row, data in found)

    def check_all(self, out: Path, ledger: MemoryLedger, results: Sequence[Result]) -> None:
        """Nothing lost, nothing doubled, nothing torn, nothing left over."""
        assert sorted(ledger.outcomes) == [result.request.row for result in results]
        found = self.read_back(out)
        assert len(found) == len({row for row, _ in found})
        assert dict(found) == self.expected(results)
        left = [path for path in files_in(out) if _is_unfinished(path, out)]
        assert left == []
        self.check_complete(out, [ledger.outcomes[row] for row in sorted(ledger.outcomes)])

    # --- the contract ---

    async def test_outcomes_come_back_in_order_and_failures_unchanged(self, tmp_path: Path) -> None:
        """A write answers each result in its place; rows without items keep the outcome they came with."""
        results = sample_results(self.rows)
        async with self.make(tmp_path, {}) as sink:
            outcomes = await sink.write(results)
        assert [outcome.row for outcome in outcomes] == [result.request.row for result in results]
        for result, outcome in zip(results, outcomes, strict=True):
            if result.items:
                assert outcome.state is State.OK
                assert outcome.path
            else:
                assert outcome == result.outcome

    async def test_nothing_has_a_final_name_before_it_is_flushed(self, tmp_path: Path) -> None:
        """A reader of the folder never sees what a power cut could still take away."""
        async with self.make(tmp_path, {}) as sink:
            await sink.write(sample_results(self.rows))
            assert self.read_back(tmp_path) == []

    async def test_a_whole_run_can_be_read_back(self, tmp_path: Path) -> None:
        """Every item of every row is there once the run is finished, byte by byte."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run(tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    async def test_nothing_that_a_stranger_says_leads_out_of_the_folder(self, tmp_path: Path) -> None:
        """URLs, headers, captions, columns, extensions that are paths elsewhere: all that is written is in OUT."""
        out, ledger = tmp_path / "a" / "b" / "out", MemoryLedger()
        out.mkdir(parents=True)
        await self.run(out, ledger, hostile_results())
        assert len(ledger.outcomes) == len(WAYS_OUT)
        assert {path for path in files_in(tmp_path) if not path.is_relative_to(out)} == set()
        places = [out / (outcome.shard or outcome.path or "") for outcome in ledger.outcomes.values()]
        assert [path for path in places if ".." in path.parts or not path.is_relative_to(out)] == []

    async def test_a_run_without_rows_leaves_nothing_odd(self, tmp_path: Path) -> None:
        """An empty list makes an empty output."""
        ledger = MemoryLedger()
        await self.run(tmp_path, ledger, [])
        self.check_all(tmp_path, ledger, [])

    async def test_finishing_again_changes_nothing(self, tmp_path: Path) -> None:
        """The same command on a finished output leaves it as it is."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run(tmp_path, ledger, results)
        before = self.read_back(tmp_path)
        await self.run(tmp_path, ledger, results)
        assert self.read_back(tmp_path) == before
        self.check_all(tmp_path, ledger, results)

    async def test_a_finished_output_can_grow(self, tmp_path: Path) -> None:
        """Rows that come after a finished run are added, and what was there stays as it was."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run(tmp_path, ledger, results[:8])
        await self.run(tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    async def test_an_unfinished_run_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        """An interrupt between any two rows costs nothing."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        for upto in range(1, self.rows + 1, 2):
            await self.run(tmp_path, ledger, results[:upto], finish=False)
            self.check_torn(tmp_path, results)
        await self.run(tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    async def test_what_was_never_committed_is_undone(self, tmp_path: Path) -> None:
        """A run that dies between the flush and the ledger's commit is as if it had not been."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        await self.run(tmp_path, ledger, results[:5], finish=False)
        async with self.make(tmp_path, ledger.state) as sink:
            await sink.write(results[5:])
            await sink.flush()
        await self.run(tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)

    async def test_what_was_committed_is_published_by_the_next_run(self, tmp_path: Path) -> None:
        """A run that dies between the ledger's commit and the final names loses nothing."""
        ledger, results = MemoryLedger(), sample_results(self.rows)
        async with self.make(tmp_path, {}) as sink:
            outcomes = await sink.write(results)
            await sink.flush()
            ledger.commit(outcomes, await sink.finish())
        await self.run(tmp_path, ledger, results)
        self.check_all(tmp_path, ledger, results)


def files_in(out: Path) -> dict[Path, bytes]:
    """Every file of a folder with its content."""
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _is_unfinished(path: Path, out: Path) -> bool:
    """Whether a path is one that only a run in progress has: below ``.scraper``, or called ``.part``."""
    return path.suffix == ".part" or ".scraper" in path.relative_to(out).parts
