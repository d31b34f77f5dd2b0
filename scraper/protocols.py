"""The seams. A new source, transform or sink is one file that fits one of these; engines: ``scraper.engines.job``.

Each has a contract suite in ``scraper.testing`` that any implementation, ours or a stranger's, must pass.
Stages know these and the records, never each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from scraper.records import Item, Outcome, Request, Response, Result

SinkState = Mapping[str, object]
"""What a sink must know to go on after a stop: offsets and shard numbers. JSON values only."""


@runtime_checkable
class Source(Protocol):
    """Rows of a list, streamed.

    Blocking and single-threaded: the engine iterates it in a thread of its own, a few hundred rows at a time.
    """

    def __iter__(self) -> Iterator[Request | Outcome]:
        """Yield each row in order, numbered from 0 without gaps.

        A row that cannot be read as one is yielded as an ``input.invalid`` Outcome with its line; it has a
        row number like any other. Iterating twice yields the same rows, where the input can be read twice.

        Raises:
            UsageError: the input is missing, unreadable, or lacks a named column; raised before the first row.
        """

    def starting_at(self, first: int) -> Iterator[Request | Outcome]:
        """As iterating, but without the rows before number ``first``, which keep their numbers.

        For a run that goes on: what earlier runs have finished is passed over without being made.
        """

    @property
    def name(self) -> str:
        """What messages call it: a path, ``-`` for stdin."""

    def fraction(self) -> float | None:
        """How much of the input has been read, 0.0 to 1.0, for an ETA; None where that cannot be known."""

    def fingerprint(self) -> str:
        """A short digest that changes when the rows do; equal for equal input. Empty where it cannot be known."""


@runtime_checkable
class Transform(Protocol):
    """Response → Items, in a worker process. Picklable: a frozen dataclass with ``__call__``.

    It may have ``preload: ClassVar[tuple[str, ...]]``, the modules that ``warm_up`` imports. They are then loaded
    once, before the workers part, and shared by all of them. It may have ``columns: frozenset[str]``, columns of
    the list that it reads, which then travel with each row; ``adds: frozenset[str]``, names of its items' fields
    that no column of the list may have; and ``prints = True`` if its items have a field ``dhash``
    (``scraper.transforms.prints``), by which ``--dedupe perceptual`` compares them.
    """

    @property
    def inline(self) -> bool:
        """Cheap enough (well under 100 µs a call) to run on the event loop and spare the hand-off."""

    def warm_up(self) -> None:
        """Import what a call will need; runs once in each worker before the first fetch."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """Turn one response into what is to be written for it.

        Raises:
            TransformFailed: the bytes are not what the pipeline wants. Any other exception becomes
                ``transform.error`` for this row alone.
        """


class Sink(Protocol):
    """Items → bytes at rest, exactly once.

    The engine calls, from one task, in this order: enter, any number of write, flush, [ledger commit],
    publish, and at the end finish if every row has ended. A run may be killed between any two of these, and
    inside them; entering again with the last committed state must lose and double nothing.
    """

    async def __aenter__(self) -> Self:
        """Open; undo whatever was written after the state given at construction was committed.

        Raises:
            SinkFailed: the place cannot be written to.
        """

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of files. Never completes anything: an interrupted sink stays resumable."""

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Take a batch; return its outcomes in order, each knowing its path, or rejected.

        Nothing incomplete may stand under a final name, and nothing needs to be durable yet.

        Raises:
            SinkFailed: no further write can succeed.
        """

    async def flush(self) -> SinkState:
        """Make all that was written durable (fsync), and say what to go on from. The ledger commits it.

        Raises:
            SinkFailed: durability cannot be had; the ledger must not say "done".
        """

    async def publish(self) -> None:
        """The state of the last flush is in the ledger: give final names to what that completed."""

    async def finish(self) -> SinkState:
        """Every row has ended: complete what is open. Followed by a last commit and publish."""
