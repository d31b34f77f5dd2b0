"""A sink of a stranger's, written with what is public, keeps the contract; and one that does not is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import pytest

from scraper import Outcome, Result, SinkState, UsageError
from scraper.sinks import SINKS, OutputFormat, output_of
from scraper.testing.sink import SinkContract

FILE = "items.sqlite"


class Table:
    """A sink that is a table of one SQLite file. Its state is the number of rows of the table."""

    undoes = True

    def __init__(self, out: Path, state: SinkState) -> None:
        self._path = out / FILE
        self._committed = state.get("rows", 0)

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path)
        self._database.execute("CREATE TABLE IF NOT EXISTS item (row INTEGER, data BLOB)")
        if self.undoes:
            self._database.execute("DELETE FROM item WHERE rowid > ?", (self._committed,))
        self._database.commit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Into the open transaction."""
        for result in batch:
            if result.items:
                values = (result.outcome.row, result.items[0].data)
                self._database.execute("INSERT INTO item VALUES (?, ?)", values)
        return [result.outcome.placed(FILE) if result.items else result.outcome for result in batch]

    async def flush(self) -> SinkState:
        """SQLite waits for the disk itself."""
        self._database.commit()
        return {"rows": self._database.execute("SELECT count(*) FROM item").fetchone()[0]}

    async def publish(self) -> None:
        """Nothing has another name before."""

    async def finish(self) -> SinkState:
        """Nothing is open between flushes."""
        return await self.flush()


class Forgetful(Table):
    """Keeps what was never committed."""

    undoes = False


class TestTableContract(SinkContract):
    def make(self, out: Path, state: SinkState) -> Table:
        """See SinkContract."""
        return Table(out, state)

    def read_back(self, out: Path) -> list[tuple[int, bytes]]:
        """See SinkContract."""
        with closing(sqlite3.connect(out / FILE)) as database:
            return list(database.execute("SELECT row, data FROM item"))


async def test_a_sink_that_doubles_rows_is_found_out(tmp_path: Path) -> None:
    """The suite fails for a sink that does not undo what the ledger does not know of."""

    class Suite(TestTableContract):
        def make(self, out: Path, state: SinkState) -> Table:
            return Forgetful(out, state)

    with pytest.raises(AssertionError):
        await Suite().test_what_was_never_committed_is_undone(tmp_path)


@pytest.mark.parametrize("name", sorted(SINKS))
def test_every_output_is_made_by_its_name(name: str) -> None:
    """Whoever opens an output by its name need not know which of them have shards."""
    made = output_of(name, rows_per_shard=7)
    assert getattr(made, "rows_per_shard", 7) == 7
    assert f"{type(made).__module__}:{type(made).__qualname__}" == SINKS[name]


def test_the_choice_of_outputs_is_the_table() -> None:
    """What a pipeline's options offer is what there is."""
    assert get_args(OutputFormat) == tuple(SINKS)


def test_an_unknown_output_is_the_users_to_change() -> None:
    """The message names those there are, and a number out of range is refused."""
    with pytest.raises(UsageError, match="'zip'; there is: files, webdataset"):
        output_of("zip", rows_per_shard=7)
    with pytest.raises(UsageError, match="number-sample-per-shard must be at least 1"):
        output_of("webdataset", rows_per_shard=0)
