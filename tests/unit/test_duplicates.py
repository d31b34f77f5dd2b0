"""Which results are duplicates: decided once, committed with what it rests on, and never by mistake."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from scraper.config_results import DedupeConfig
from scraper.engines.duplicates import Duplicates
from scraper.errors import UsageError
from scraper.ledger import Ledger, RunMeta
from scraper.ledger_schema import SCHEMA_VERSION
from scraper.policies.prints import PRINT_BITS, Bands, apart, nearest, parsed, tells_nothing
from scraper.records import Held, Item, Outcome, Request, Result

PHOTO = 0x0F1E2D3C4B5A6978
OTHER = 0xF0E1D2C3B4A59687


def flipped(print_: int, *bits: int) -> int:
    """A print that differs in these bits."""
    for bit in bits:
        print_ ^= 1 << bit
    return print_


@pytest.mark.parametrize("distance", range(9))
def test_no_print_within_the_distance_is_missed(distance: int) -> None:
    """Whatever differs in so many bits shares a key with what is sought, whichever bits they are."""
    dice = random.Random(distance)
    bands = Bands(distance)
    for _ in range(300):
        print_ = dice.getrandbits(PRINT_BITS)
        near = flipped(print_, *dice.sample(range(PRINT_BITS), dice.randint(0, distance)))
        assert apart(print_, near) <= distance
        assert bands.entered(near) & bands.sought(print_)


def test_a_print_is_16_digits() -> None:
    """Anything else that a field may hold is no print."""
    assert parsed("00000000000000ff") == 255
    assert [parsed(each) for each in (None, 255, "ff", "g" * 16, "+00000000000000f", "1_00000000000000")] == [
        None
    ] * 6


def test_plain_pictures_are_not_alike() -> None:
    """What is within the distance of one colour, or of an even gradient, is told by its bytes only."""
    assert tells_nothing(0, 0)
    assert tells_nothing((1 << 64) - 1, 0)
    assert tells_nothing(0b1011, 3)
    assert not tells_nothing(0b1011, 2)
    assert not tells_nothing(PHOTO, 8)


def test_the_nearest_is_named() -> None:
    """Of several that look the same the one that differs least, then the lowest row; none beyond the distance."""
    found = [(flipped(PHOTO, 1, 2), 5), (flipped(PHOTO, 3), 9), (flipped(PHOTO, 4), 7)]
    assert nearest(PHOTO, found, 4) == (7, 1)
    assert nearest(PHOTO, found, 0) is None


def test_a_distance_has_a_limit() -> None:
    """A distance at which everything looks the same is refused."""
    with pytest.raises(UsageError, match="0 to 8 bits, not 9"):
        DedupeConfig(perceptual=9)


# ---- with a ledger -------------------------------------------------------------------------------------------


def result(row: int, content: str, dhash: int | None = None, held: Held | None = None) -> Result:
    """A row that was fetched and is about to be written."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    fields = {} if dhash is None else {"dhash": f"{dhash:016x}"}
    outcome = Outcome(row, f"http://a.example/{row}", "ok", status=200, sha256=digest)
    request = Request(row, outcome.url, held=held)
    return Result(request, outcome, [Item(content.encode(), "bin", fields)])


class Bench:
    """Duplicates over a ledger on disk, and a sink that notes what it is given."""

    def __init__(self, path: Path, config: DedupeConfig) -> None:
        self.config = config
        self.path = path
        self.refuses: set[int] = set()
        self.written: dict[int, Sequence[Item]] = {}
        self.calls = 0

    async def sink(self, batch: Sequence[Result]) -> list[Outcome]:
        """Write what has items, but refuse some rows."""
        self.calls += 1
        outcomes = []
        for one in batch:
            row = one.outcome.row
            if row in self.refuses:
                outcomes.append(Outcome(row, one.outcome.url, "sink.rejected"))
                continue
            if one.items:
                self.written[row] = one.items
            outcomes.append(one.outcome.placed(f"{row}.bin") if one.items else one.outcome)
        return outcomes

    async def run(self, *batches: Sequence[Result], commit: bool = True) -> list[str]:
        """One run over the batches, killed before its last commit unless ``commit``; the classes in order."""
        classes = []
        async with Ledger.open(self.path) as ledger:
            await ledger.begin(RunMeta(pipeline="test"))
            duplicates = Duplicates(self.config, ledger)
            for batch in batches:
                outcomes = await duplicates.write(batch, self.sink)
                assert [each.row for each in outcomes] == [each.outcome.row for each in batch]
                if commit:
                    await ledger.commit(outcomes, {}, prints=duplicates.taken())
                classes += [outcome.class_ for outcome in outcomes]
        return classes

    async def messages(self, *batch: Result) -> list[str]:
        """What is said of each row."""
        async with Ledger.open(self.path) as ledger:
            duplicates = Duplicates(self.config, ledger)
            return [outcome.message for outcome in await duplicates.write(batch, self.sink)]


@pytest.fixture
def by_content(tmp_path: Path) -> Bench:
    """Contents are compared, duplicates dropped."""
    return Bench(tmp_path / "ledger.sqlite", DedupeConfig(content=True))


@pytest.fixture
def by_look(tmp_path: Path) -> Bench:
    """Pictures are compared too, with four bits of patience."""
    return Bench(tmp_path / "ledger.sqlite", DedupeConfig(content=True, perceptual=4))


async def test_the_same_content_is_written_once(by_content: Bench) -> None:
    """In one batch, in a later one before the commit, after it, and in a later run."""
    assert await by_content.run([result(3, "a"), result(1, "a"), result(2, "b")], commit=False) == [
        "ok", "duplicate.content", "ok",
    ]  # fmt: skip
    assert await by_content.run([result(3, "a")], [result(1, "a"), result(2, "b")], [result(4, "b")]) == [
        "ok", "duplicate.content", "ok", "duplicate.content",
    ]  # fmt: skip
    assert await by_content.run([result(5, "a"), result(6, "c")]) == ["duplicate.content", "ok"]
    assert await by_content.messages(result(7, "a")) == ["Row 3 gave the same content."]
    assert sorted(by_content.written) == [2, 3, 6]


async def test_rows_between_two_commits_count(by_content: Bench) -> None:
    """What is written and not committed yet is compared with as well."""
    async with Ledger.open(by_content.path) as ledger:
        await ledger.begin(RunMeta(pipeline="test"))
        duplicates = Duplicates(by_content.config, ledger)
        first = await duplicates.write([result(0, "a")], by_content.sink)
        second = await duplicates.write([result(1, "a")], by_content.sink)
        assert [first[0].class_, second[0].class_] == ["ok", "duplicate.content"]
        await ledger.commit([*first, *second], {}, prints=duplicates.taken())
        assert duplicates.taken() is None


async def test_what_was_not_committed_never_was(by_content: Bench) -> None:
    """After a kill the row that was first is forgotten with its outcome: whoever comes first next is written."""
    await by_content.run([result(0, "a"), result(1, "a")], commit=False)
    by_content.written.clear()
    assert await by_content.run([result(1, "a"), result(0, "a")]) == ["ok", "duplicate.content"]
    assert list(by_content.written) == [1]


async def test_no_duplicate_of_a_row_that_the_sink_refused(by_content: Bench) -> None:
    """A row that waits for another of its batch is written itself where that one is not."""
    by_content.refuses = {0}
    batch = [result(0, "a"), result(1, "a"), result(2, "a")]
    assert await by_content.run(batch) == ["sink.rejected", "ok", "duplicate.content"]
    assert await by_content.messages(batch[2]) == ["Row 1 gave the same content."]


async def test_a_batch_of_the_same_takes_two_rounds(by_look: Bench) -> None:
    """However many there are: the sink is not asked once for each."""
    assert (await by_look.run([result(row, "a", PHOTO) for row in range(100)])).count("ok") == 1
    assert by_look.calls == 2


async def test_pictures_that_look_the_same_are_written_once(by_look: Bench) -> None:
    """Other bytes, a print within the distance: a duplicate; bits beyond it: another picture."""
    near, far = flipped(PHOTO, 0, 13, 41, 63), flipped(PHOTO, 0, 1, 2, 3, 4)
    assert await by_look.run([result(0, "a", PHOTO)], [result(1, "b", near), result(2, "c", far)]) == [
        "ok", "duplicate.perceptual", "ok",
    ]  # fmt: skip
    assert await by_look.run([result(3, "d", flipped(PHOTO, 7)), result(4, "a", OTHER)]) == [
        "duplicate.perceptual", "duplicate.content",
    ]  # fmt: skip
    assert (await by_look.messages(result(5, "e", flipped(PHOTO, 9))))[0] == (
        "Row 0 gave a picture that looks the same: 1 of 64 bits differ."
    )


async def test_rows_without_a_print_are_compared_by_content(by_look: Bench) -> None:
    """An item without a dhash, and a picture too plain to tell, are no duplicates by their look."""
    rows = [result(0, "a", 0), result(1, "b", 0), result(2, "c"), result(3, "d"), result(4, "a", 0)]
    assert await by_look.run(rows) == ["ok"] * 4 + ["duplicate.content"]


async def test_duplicates_are_marked(tmp_path: Path) -> None:
    """With mark all are written, and each names the first by its key; the first names nobody: no chain."""
    bench = Bench(tmp_path / "ledger.sqlite", DedupeConfig(content=True, mark=True))
    assert await bench.run([result(4, "a"), result(2, "a")], [result(1, "a")]) == ["ok"] * 3
    marks = {row: items[0].fields["duplicate_of"] for row, items in bench.written.items()}
    assert marks == {4: None, 2: "000000004", 1: "000000004"}


async def test_a_row_asked_again_is_no_duplicate_of_itself(by_look: Bench) -> None:
    """It may come as it was, or changed; what it was before is forgotten, and nobody is a duplicate of that."""
    held = Held("http://a.example/0", path="0.bin")
    await by_look.run([result(0, "a", PHOTO), result(1, "b", OTHER)])
    assert await by_look.run([result(0, "a", PHOTO, held)]) == ["ok"]
    changed = flipped(PHOTO, *range(20))
    assert await by_look.run([result(2, "a", PHOTO), result(0, "z", changed, held)]) == ["ok", "ok"]
    assert await by_look.run([result(3, "z"), result(4, "y", changed), result(5, "a")]) == [
        "duplicate.content", "duplicate.perceptual", "duplicate.content",
    ]  # fmt: skip


async def test_a_copy_that_is_there_is_never_taken_away(by_look: Bench) -> None:
    """A row that is asked again and now gives what another has is written all the same, as nobody's first."""
    held = Held("http://a.example/0", path="0.bin")
    await by_look.run([result(0, "a", PHOTO), result(1, "b", OTHER)])
    assert await by_look.run([result(0, "b", OTHER, held)]) == ["ok"]
    assert await by_look.messages(result(2, "b", OTHER)) == ["Row 1 gave the same content."]
    assert await by_look.run([result(3, "a", PHOTO)]) == ["ok"]


async def test_content_moves_on_from_a_row_that_the_sink_refused(by_content: Bench) -> None:
    """A refresh brings to row 0 what row 1 had, and what row 1 has now is refused: no digest is in the way."""
    await by_content.run([result(0, "a"), result(1, "b")])
    by_content.refuses = {1}
    changed = result(1, "c", held=Held("http://a.example/1", path="1.bin"))
    again = [changed, result(0, "b", held=Held("http://a.example/0", path="0.bin"))]
    for batch in (again, again[::-1]):
        assert sorted(await by_content.run(batch)) == ["ok", "sink.rejected"]
    by_content.refuses = set()
    assert await by_content.run([result(2, "b")]) == ["duplicate.content"]


async def test_a_copy_that_is_there_goes_first(by_content: Bench) -> None:
    """Of a batch with a row that comes again as it was and a new one like it, the new one is the duplicate."""
    await by_content.run([result(0, "a")])
    again = result(0, "a", held=Held("http://a.example/0", path="0.bin"))
    assert await by_content.run([result(1, "a"), again]) == ["duplicate.content", "ok"]


async def test_a_row_that_had_failed_may_be_a_duplicate(by_content: Bench) -> None:
    """Asked again it brings what another has: nothing is lost by leaving it out."""
    await by_content.run([result(0, "a")])
    assert await by_content.run([result(1, "a", held=Held("http://a.example/1"))]) == ["duplicate.content"]


@pytest.mark.slow
async def test_it_agrees_with_comparing_all_with_all(tmp_path: Path) -> None:
    """Over commits, runs and kills, that is left out which a slow comparison of all rows leaves out."""
    dice = random.Random(5)
    config = DedupeConfig(content=True, perceptual=3)
    bench = Bench(tmp_path / "ledger.sqlite", config)
    seeds = [dice.getrandbits(64) for _ in range(12)]
    firsts: list[tuple[str, int]] = []
    for run in range(12):
        near = [flipped(dice.choice(seeds), *dice.sample(range(64), dice.randint(0, 5))) for _ in range(30)]
        batch = [result(run * 30 + at, f"{dice.randrange(90)}", print_) for at, print_ in enumerate(near)]
        if dice.random() < 0.3:
            await bench.run(batch, commit=False)
        for one, class_ in zip(batch, await bench.run(*([each] for each in batch)), strict=True):
            dhash = parsed(one.items[0].fields["dhash"])
            assert dhash is not None
            content = str(one.outcome.sha256)
            expected = "ok"
            if any(apart(dhash, other) <= 3 for _, other in firsts):
                expected = "duplicate.perceptual"
            if any(content == other for other, _ in firsts):
                expected = "duplicate.content"
            assert class_ == expected
            if expected == "ok":
                firsts.append((content, dhash))
    assert 20 < len(firsts) < 340


async def test_a_ledger_of_version_4_is_upgraded(tmp_path: Path) -> None:
    """It knows no prints; the next run makes room for them."""
    bench = Bench(tmp_path / "ledger.sqlite", DedupeConfig(content=True))
    await bench.run([result(0, "a")])
    with sqlite3.connect(bench.path) as db:
        db.executescript("DROP TABLE prints; DROP TABLE contents; DROP TABLE bands; PRAGMA user_version = 4")
    assert await bench.run([result(1, "a"), result(2, "a")]) == ["ok", "duplicate.content"]
    with sqlite3.connect(bench.path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
