"""What every benchmark is told, and the work that they share: lists, pairs of runs, the order in which they go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.figures import ratios
from benchmarks.measuring import Run
from benchmarks.serving import Server

SAID = 1_000
"""Characters shown of what a command said that did not do its work."""

LIMIT_S = 1_800.0
"""How long any command may take; then it is interrupted, and its rows are missing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a benchmark is to be run.

    Attributes:
        folder: an empty folder for lists and outputs; what is written there is on the disk that is measured.
        server: where to fetch from.
        repeat: how many times each side runs.
        quick: less of everything, for trying out; the numbers are worth as much less.
    """

    folder: Path
    server: Server
    repeat: int
    quick: bool

    def below(self, name: str) -> Setting:
        """The same in a folder of its own, for a part of the benchmark that has turns of its own."""
        folder = self.folder / name
        folder.mkdir()
        return replace(self, folder=folder)


@dataclass(frozen=True, slots=True)
class Side:
    """One program at one piece of work.

    Attributes:
        name: the program's.
        rows: rows to fetch.
        go: does it, into the folder given.
        count: how many of the rows are there, and right, in that folder.
    """

    name: str
    rows: int
    go: Callable[[Path], Run]
    count: Callable[[Path], int]


@dataclass(frozen=True, slots=True)
class Done:
    """A side's run, and how many of its rows were right."""

    run: Run
    ok: int


def write_list(path: Path, urls: Iterable[str]) -> Path:
    """A list of URLs, one a line."""
    with path.open("w") as file:
        file.writelines(f"{url}\n" for url in urls)
    return path


def in_turn(setting: Setting, sides: Sequence[Side]) -> dict[Side, list[Done]]:
    """Run A B A B …, each into a folder of its own that is emptied once counted."""
    done: dict[Side, list[Done]] = {side: [] for side in sides}
    for number, side in _turns(setting.repeat, sides):
        out = setting.folder / f"out-{sum(map(len, done.values()))}"
        run = side.go(out)
        ok = side.count(out)
        empty(out)
        done[side].append(Done(run, ok))
        print(f"  {number + 1}/{setting.repeat} {side.name}, {side.rows:,} rows: {run.seconds:.2f} s", flush=True)
        if ok != side.rows:
            print(f"  only {ok:,} of {side.rows:,} are right; exit status {run.status}; it said:", flush=True)
            print((setting.folder / "said.log").read_text(errors="replace")[-SAID:], flush=True)
    return done


def is_whole(done: Iterable[Iterable[Done]], rows: int) -> bool:
    """Whether each run did all of its rows. One that fails early is fast, and says nothing."""
    return all(each.ok == rows for runs in done for each in runs)


def compared(
    ours: Sequence[Done], theirs: Sequence[Done], rows: int, figure: Callable[[Done], float | None]
) -> list[float]:
    """Ours over theirs, run by run; nothing for a pair of which a side did not do all of its rows."""
    if not theirs:
        return []
    pairs = [
        (figure(one), figure(other))
        for one, other in zip(ours, theirs, strict=True)
        if is_whole([[one], [other]], rows)
    ]
    known = [(one, other) for one, other in pairs if one is not None and other]
    return ratios([one for one, _ in known], [other for _, other in known])


def rate(done: Done) -> float:
    """Rows that are right, for a second of the whole command."""
    return done.ok / done.run.seconds


def cpu_ms(done: Done) -> float:
    """CPU time for a right row, of all processes."""
    return 1e3 * done.run.cpu_s / max(1, done.ok)


def peak_mb(done: Done) -> float:
    """The most memory of all processes."""
    return done.run.pss_mb


def least(done: Sequence[Done], rows: int) -> str:
    """How many rows were right in the run that had the fewest."""
    return f"{min((each.ok for each in done), default=0):,} of {rows:,}"


def growth(out: Path, pattern: str) -> Callable[[], float]:
    """What to watch while a command writes: the bytes in the files of a folder that match."""
    return partial(_bytes_in, out, pattern)


def _bytes_in(out: Path, pattern: str) -> float:
    total = 0
    for path in out.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # it has got its final name this moment
            total += path.stat().st_size
    return float(total)


def empty(folder: Path) -> None:
    """Give the space back and keep the names.

    ext4 without a journal takes no inode that was deleted within the last minutes, and looks at each of them
    before it makes a new file: after 10,000 deletions whoever came next would be measured five times too slow.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def _turns(repeat: int, sides: Sequence[Side]) -> Iterator[tuple[int, Side]]:
    for number in range(repeat):
        for side in sides:
            yield number, side
