"""The ledger, when rows that have ended are asked again: which, once a pass, and what stays known of them."""

import sqlite3
import time
from itertools import pairwise
from pathlib import Path

import pytest

from scraper.config import Again
from scraper.errors import State, UsageError
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.ledger_pass import LastPass, is_asked, option_of
from scraper.ledger_schema import MOST_EARLIER, SCHEMA_VERSION
from scraper.records import Held, Outcome
from scraper.report import Report
from scraper.report.data import PICTURES

META = RunMeta("files", inputs=["list.txt"], fingerprint="f1")
FAILED, REFRESH = Again(()), Again(refresh=True)

CLASSES = ["ok", "http.404", "http.429", "dns.temporary", "timeout.stall", "duplicate.url", "ok.not_modified"]
"""How the rows of a finished ledger ended, in order."""

VERSION_1 = """
PRAGMA application_id = 0x53435250;
PRAGMA user_version = 1;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, last REAL NOT NULL, ended REAL, exit INTEGER,
    pid INTEGER NOT NULL, version TEXT NOT NULL, rows_total INTEGER
);
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL,
    ok INTEGER NOT NULL, skipped INTEGER NOT NULL, failed INTEGER NOT NULL, bytes INTEGER NOT NULL
);
CREATE TABLE outcomes (
    row INTEGER PRIMARY KEY, class TEXT NOT NULL, host TEXT, status INTEGER, attempts INTEGER, bytes INTEGER,
    at REAL NOT NULL, dns_us INTEGER, connect_us INTEGER, tls_us INTEGER, first_byte_us INTEGER,
    total_us INTEGER, line INTEGER, sha256 BLOB, path TEXT, shard TEXT, url TEXT NOT NULL, final_url TEXT,
    message TEXT
);
CREATE INDEX outcomes_by_class ON outcomes (class);
CREATE TABLE earlier (row INTEGER NOT NULL, class TEXT NOT NULL, status INTEGER, at REAL NOT NULL, message TEXT);
CREATE INDEX earlier_by_row ON earlier (row);
CREATE TRIGGER keep_earlier BEFORE UPDATE ON outcomes BEGIN
    INSERT INTO earlier VALUES (old.row, old.class, old.status, old.at, old.message);
END;
INSERT INTO runs VALUES (1, 100.0, 101.0, 101.0, 1, 42, '0.9', 2);
INSERT INTO commits VALUES (1, 1, 101.0, 1, 0, 1, 9);
INSERT INTO outcomes (row, class, at, url, path, bytes) VALUES
    (0, 'ok', 101.0, 'http://h/0', '00000/000000000.jpg', 9), (1, 'http.404', 101.0, 'http://h/1', NULL, NULL);
"""
"""A finished ledger as version 1 of the tables had it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of an output folder is."""
    (tmp_path / ".scraper").mkdir()
    return tmp_path / ".scraper" / "ledger.sqlite"


def ended(row: int, class_: str = "ok", **more: object) -> Outcome:
    """A row that ended so."""
    return Outcome(row, f"http://h/{row}", class_, **more)  # type: ignore[arg-type] # by name


async def a_run(path: Path, again: Again, *outcomes: Outcome, exit_code: int | None) -> set[int]:
    """A run with one commit; the rows it was not to ask. Killed where ``exit_code`` is None."""
    async with Ledger.open(path) as ledger:
        await ledger.begin(META, again)
        done = set(await ledger.finished(0, 100))
        await ledger.commit(outcomes, {})
        if exit_code is not None:
            await ledger.end(exit_code)
    return done


async def finished_by(path: Path, *classes: str) -> None:
    """A run that ended by itself, with a row of each class."""
    await a_run(path, Again(), *(ended(row, class_) for row, class_ in enumerate(classes)), exit_code=1)


@pytest.mark.parametrize(
    ("again", "asked"),
    [
        (Again(), []),
        (FAILED, [1, 2, 3, 4]),
        (Again(("http",)), [1, 2]),
        (Again(("http.429", "timeout")), [2, 4]),
        (Again(("dns.not_found",)), []),
        (Again(("htt", "time")), []),
        (REFRESH, [0, 1, 2, 3, 4, 6]),
    ],
)
async def test_the_rows_that_are_asked_again(path: Path, again: Again, asked: list[int]) -> None:
    """All failed rows, those of classes and families, or all but the skipped ones; the reader counts the same."""
    await finished_by(path, *CLASSES)
    with LedgerReader(path) as reader:
        assert reader.asked_again(again) == len(asked)
    assert await a_run(path, again, exit_code=0) == set(range(len(CLASSES))) - set(asked)


async def test_a_row_has_one_turn_in_a_pass(path: Path) -> None:
    """However often a pass is killed, what ended in it is not asked again, whether well or badly."""
    await finished_by(path, "http.500", "http.500", "http.500", "ok")
    assert await a_run(path, FAILED, ended(0), exit_code=None) == {3}
    assert await a_run(path, FAILED, ended(1, "http.500"), exit_code=130) == {0, 3}
    assert await a_run(path, FAILED, exit_code=3) == {0, 1, 3}
    with LedgerReader(path) as reader:
        assert reader.asked_again(FAILED) == 1
    assert await a_run(path, FAILED, ended(2, "http.500"), exit_code=1) == {0, 1, 3}


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_pass_that_is_over_is_followed_by_a_new_one(path: Path, exit_code: int) -> None:
    """Once a pass has ended by itself, saying the same begins another: what failed again has a turn again."""
    await finished_by(path, "http.500")
    assert await a_run(path, FAILED, ended(0, "http.500"), exit_code=exit_code) == set()
    assert await a_run(path, FAILED, ended(0), exit_code=0) == set()
    assert await a_run(path, FAILED, exit_code=0) == {0}


@pytest.mark.parametrize("other", [Again(("http",)), REFRESH])
async def test_a_pass_that_asks_something_else_is_another(
    path: Path, other: Again, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that asks something else gives up the pass that was cut short, and says so once."""
    await finished_by(path, "http.500", "http.404")
    await a_run(path, FAILED, ended(0, "http.500"), exit_code=None)
    assert not caplog.messages
    assert await a_run(path, other, exit_code=None) == set()
    option = option_of(other)
    assert caplog.messages == [
        f"{option} takes the place of --retry-failed, which was cut short with 1 row left to ask."
    ]
    assert await a_run(path, FAILED, exit_code=None) == set()


@pytest.mark.parametrize("exit_code", [None, 0, 1, 130])
async def test_a_plain_run_in_between_leaves_the_pass(
    path: Path, exit_code: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """However it ends, the pass that was cut short is still to be gone on with: who had a turn has had it."""
    await finished_by(path, *["http.500"] * 3)
    await a_run(path, FAILED, ended(0, "http.500"), ended(1), exit_code=None)
    assert await a_run(path, Again(), ended(3, "http.404"), exit_code=exit_code) == {0, 1, 2}
    with LedgerReader(path) as reader:
        assert (reader.unfinished(), reader.asked_again(FAILED)) == (FAILED, 1)
    assert await a_run(path, FAILED, ended(2), exit_code=0) == {0, 1, 3}
    assert await a_run(path, Again(), exit_code=None) == {0, 1, 2, 3}
    with LedgerReader(path) as reader:
        assert reader.unfinished() == Again()
    assert await a_run(path, FAILED, exit_code=0) == {1, 2}
    assert not caplog.messages


async def test_what_came_of_a_pass_is_counted(path: Path) -> None:
    """Rows that were asked again, by how they ended, over kills and plain runs; first-timers are none of them."""
    await finished_by(path, "ok", *["http.500"] * 4)
    found = []
    for again, outcomes, exit_code in (
        (Again(), [], 0),
        (FAILED, [], None),
        (FAILED, [ended(1), ended(5, "http.404")], None),
        (Again(), [ended(6)], 0),
        (FAILED, [ended(2, "http.500"), ended(7), ended(5)], 3),
        (FAILED, [ended(3), ended(4, "robots.disallowed")], 1),
        (Again(), [], 1),
        (REFRESH, [ended(0, "ok.not_modified"), ended(5)], 130),
    ):
        await a_run(path, again, *outcomes, exit_code=exit_code)
        with LedgerReader(path) as reader:
            found.append(reader.last_pass())
    done = {"ok": 2, "http.500": 1, "robots.disallowed": 1}
    assert found == [
        None,
        LastPass(FAILED, {}, 4),
        LastPass(FAILED, {"ok": 1}, 3),
        LastPass(FAILED, {"ok": 1}, 3),
        LastPass(FAILED, {"ok": 1, "http.500": 1}, 2),
        LastPass(FAILED, done, 0),
        LastPass(FAILED, done, 0),
        LastPass(REFRESH, {"ok.not_modified": 1, "ok": 1}, 5),
    ]


async def test_a_commit_that_fails_counts_nothing(path: Path) -> None:
    """What came of a pass is written with the rows, in one transaction."""
    await finished_by(path, "http.500")
    async with Ledger.open(path) as ledger:
        await ledger.begin(META, FAILED)
        with pytest.raises(TypeError):
            await ledger.commit([ended(0, message=b"no text")], {})
    with LedgerReader(path) as reader:
        assert reader.last_pass() == LastPass(FAILED, {}, 1)


@pytest.mark.parametrize("again", [FAILED, Again(("dns", "http.429")), REFRESH])
async def test_asking_nothing_again_is_said(path: Path, again: Again, caplog: pytest.LogCaptureFixture) -> None:
    """Where OUT holds nothing, which may be a slip of the pen, one sentence says so; once it holds any, none."""
    await a_run(path, Again(), exit_code=130)
    assert not caplog.messages
    await a_run(path, again, ended(0), exit_code=0)
    assert caplog.messages == [
        f"{path.parent.parent} holds nothing yet: "
        f"every row is asked for the first time, and {option_of(again)} has none to ask again."
    ]
    await a_run(path, again, exit_code=0)
    assert len(caplog.messages) == 1


def test_what_is_asked_again_is_said_as_it_is_typed() -> None:
    """So that it can be copied."""
    said = [option_of(again) for again in (FAILED, Again(("dns", "http.429")), REFRESH)]
    assert said == ["--retry-failed", "--retry-failed=dns,http.429", "--refresh"]


async def test_a_first_run_may_ask_again(path: Path) -> None:
    """Where nothing has ended there is nothing to ask again; what fails then has had its turn."""
    assert await a_run(path, FAILED, ended(0, "http.500"), exit_code=None) == set()
    assert await a_run(path, FAILED, ended(1), exit_code=0) == {0}
    assert await a_run(path, FAILED, exit_code=0) == {1}


async def test_rows_that_have_not_ended_are_asked_as_ever(path: Path) -> None:
    """A pass over a half-done list asks the rest of it too, once."""
    await a_run(path, Again(), ended(0), ended(2, "http.500"), exit_code=None)
    assert await a_run(path, FAILED, ended(1, "http.500"), exit_code=None) == {0}
    assert await a_run(path, FAILED, exit_code=None) == {0, 1}


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_was_set_is_no_reason_to_ask_twice(
    path: Path, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the clock went back or forth before the pass or in it, each row has its one turn."""
    await finished_by(path, "http.500", "http.500")
    now = time.time() + 3600 * hours
    monkeypatch.setattr("scraper.ledger.time.time", lambda: now)
    assert await a_run(path, FAILED, ended(0, "http.500"), exit_code=None) == set()
    now -= 7200 * hours
    assert await a_run(path, FAILED, ended(1, "http.500"), exit_code=None) == {0}
    assert await a_run(path, FAILED, exit_code=None) == {0, 1}


async def test_a_refused_run_leaves_the_pass(path: Path) -> None:
    """A run that is refused, being another job, changes nothing about the pass that was cut short."""
    await finished_by(path, "http.500")
    await a_run(path, FAILED, ended(0, "http.500"), exit_code=None)
    async with Ledger.open(path) as ledger:
        with pytest.raises(UsageError):
            await ledger.begin(RunMeta("images", fingerprint="f1"))
    assert await a_run(path, FAILED, exit_code=None) == {0}


async def test_what_was_cut_short_can_be_read(path: Path) -> None:
    """The reader says what the last pass was to ask again, until a run has done that or asks something else."""
    said = []
    for again, exit_code in (
        (Again(), 1),
        (Again(("dns", "http.429")), None),
        (REFRESH, 130),
        (REFRESH, 0),
        (FAILED, 3),
        (Again(), None),
    ):
        await a_run(path, again, ended(0, "http.500"), exit_code=exit_code)
        with LedgerReader(path) as reader:
            said.append(reader.unfinished())
    assert said == [Again(), Again(("dns", "http.429")), REFRESH, Again(), FAILED, FAILED]


def test_a_family_is_no_beginning_of_a_word() -> None:
    """``http`` is all of http.*, and ``time`` nothing at all."""
    assert is_asked("http.404", Again(("http",)))
    assert is_asked("http.404", Again(("http.404",)))
    assert not is_asked("http.404", Again(("http.40",)))
    assert not is_asked("timeout.stall", Again(("time",)))


COPY = Outcome(
    0, "http://h/0", "ok", 200, 1, 36_000, "ab" * 32, "00000/000000000.jpg",
    final_url="http://cdn/0", etag='"v1"', last_modified="Sat, 21 Nov 2026 13:00:00 GMT",
)  # fmt: skip


async def held_after(path: Path, *outcomes: Outcome) -> Held | None:
    """What is held of row 0 once it has ended so, one run after another."""
    for outcome in outcomes:
        await a_run(path, REFRESH, outcome, exit_code=0)
    async with Ledger.open(path) as ledger:
        await ledger.begin(META, REFRESH)
        return (await ledger.held(0, 10)).get(0)


async def test_a_copy_is_known_with_its_validators(path: Path) -> None:
    """Where it came from, its ETag, its date and its place are there for the row that is asked again."""
    assert await held_after(path, COPY) == Held(
        "http://cdn/0", '"v1"', "Sat, 21 Nov 2026 13:00:00 GMT", "00000/000000000.jpg"
    )
    with LedgerReader(path) as reader:
        assert [one.outcome for one in reader.rows()] == [COPY]


async def test_only_rows_of_the_pass_are_held(path: Path) -> None:
    """Rows that are not asked again, or have had their turn, are left out; a row that failed holds nothing."""
    copies = [ended(row, path=f"{row}.jpg", etag=f'"{row}"') for row in (0, 1)]
    await a_run(path, Again(), *copies, ended(2, "http.404"), ended(3), exit_code=0)
    async with Ledger.open(path) as ledger:
        await ledger.begin(META)
        assert await ledger.held(0, 10) == {}
    async with Ledger.open(path) as ledger:
        await ledger.begin(META, REFRESH)
        assert set(await ledger.held(0, 10)) == {0, 1, 2, 3}
        assert (await ledger.held(2, 3))[2] == Held("http://h/2")
        assert set(await ledger.held(1, 10)) == {1, 2, 3}
        assert await ledger.held(10, 20) == {}
        await ledger.commit([ended(0, "ok.not_modified")], {})
        assert set(await ledger.held(0, 10)) == {1, 2, 3}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (ended(0, path="a", etag='"\x7f"', last_modified="x" * 1_024), Held("http://h/0", "", "x" * 1_024, "a")),
        (ended(0, path="a.jpg", etag='"é"', last_modified="x" * 1_025), Held("http://h/0", path="a.jpg")),
        (ended(0, path="a.jpg", etag="", last_modified="a\r\nb: c"), Held("http://h/0", path="a.jpg")),
        (ended(0, etag='W/"1"'), Held("http://h/0", 'W/"1"')),
        (ended(0, "image.decode", etag='"1"'), Held("http://h/0")),
        (ended(0), Held("http://h/0")),
    ],
)  # fmt: skip
async def test_what_is_odd_is_not_kept(path: Path, outcome: Outcome, expected: Held | None) -> None:
    """Validators that could not be sent back are dropped, and those of what was never kept as well."""
    assert await held_after(path, outcome) == expected


async def test_a_masked_url_has_no_validators(path: Path) -> None:
    """The ledger does not know the password, so it cannot say which URL the copy came from."""
    secret = Outcome(0, "https://u:p@h/0", "ok", path="0.jpg", etag='"1"', last_modified="d")
    assert await held_after(path, secret) == Held("https://***@h/0", path="0.jpg")


NOT_MODIFIED = Outcome(0, "http://h/0", "ok.not_modified", 304, 1, final_url="http://cdn/0")


@pytest.mark.parametrize(
    ("later", "held", "shown"),
    [
        ([NOT_MODIFIED], Held("http://cdn/0", '"v1"', COPY.last_modified or "", COPY.path), COPY),
        (
            [Outcome(0, "http://h/0", "ok.not_modified", final_url="http://cdn/0", etag='"v2"')] * 2,
            Held("http://cdn/0", '"v2"', COPY.last_modified or "", COPY.path),
            COPY,
        ),
        (
            [Outcome(0, "http://h/0", "timeout.stall", final_url="http://cdn/0")] * 2,
            Held("http://cdn/0", '"v1"', COPY.last_modified or "", COPY.path),
            COPY,
        ),
        ([Outcome(0, "http://h/0", "timeout.stall"), NOT_MODIFIED], Held("http://cdn/0", path=COPY.path), COPY),
        (
            [Outcome(0, "http://h/0", "image.decode", 200, 1, 7, "cd" * 32, final_url="http://cdn/0", etag='"x"')],
            Held("http://cdn/0", '"v1"', COPY.last_modified or "", COPY.path),
            COPY,
        ),
        (
            [ended(0, bytes=7, sha256="cd" * 32, path="00000/000000000.png")],
            Held("http://h/0", path="00000/000000000.png"),
            ended(0, bytes=7, sha256="cd" * 32, path="00000/000000000.png"),
        ),
        ([ended(0)], Held("http://h/0"), ended(0)),
    ],
)  # fmt: skip
async def test_a_copy_stays_known_until_another_comes(
    path: Path, later: list[Outcome], held: Held | None, shown: Outcome
) -> None:
    """Not modified or failed, the copy on disk is still there; a new one takes its place in all respects."""
    assert await held_after(path, COPY, *later) == held
    with LedgerReader(path) as reader:
        ((outcome, _),) = reader.rows()
        ends = [one.class_ for one in (COPY, *later)]
        hidden = [old for old, new in pairwise(ends) if not (old.startswith("ok") and new.startswith("ok"))]
        assert [one.class_ for one in reader.earlier(0)] == hidden
    assert (outcome.class_, outcome.status) == (later[-1].class_, later[-1].status)
    assert (outcome.path, outcome.sha256, outcome.bytes) == (shown.path, shown.sha256, shown.bytes)


async def test_a_nightly_refresh_does_not_grow_the_ledger(path: Path) -> None:
    """A row that stays ok leaves no earlier end, one that fails every night the last eight, each with its row."""
    await a_run(path, Again(), ended(0), ended(1), ended(2, "http.500", message="night 0"), exit_code=1)
    for night in range(1, 2 * MOST_EARLIER):
        failed = ended(2, "http.500", message=f"night {night}")
        flaky = ended(1, "timeout.stall" if night % 2 else "ok")
        await a_run(path, REFRESH, ended(0, "ok" if night % 3 else "ok.not_modified"), flaky, failed, exit_code=1)
    with LedgerReader(path) as reader:
        assert reader.earlier(0) == []
        assert [one.class_ for one in reader.earlier(1)] == ["timeout.stall", "ok"] * (MOST_EARLIER // 2)
        assert [one.message for one in reader.earlier(2)] == [
            f"night {night}" for night in range(MOST_EARLIER - 1, 2 * MOST_EARLIER - 1)
        ]
        assert [len(ends) for _, ends in reader.with_earlier()] == [0, MOST_EARLIER, MOST_EARLIER]


async def test_a_failure_without_a_copy_takes_nothing_over(path: Path) -> None:
    """What came with an earlier failure is not said of a later one."""
    await held_after(path, ended(0, "image.decode", bytes=7, sha256="cd" * 32), ended(0, "timeout.stall"))
    with LedgerReader(path) as reader:
        ((outcome, _),) = reader.rows()
    assert (outcome.bytes, outcome.sha256) == (0, None)


async def test_a_report_of_a_refreshed_output_has_pictures(path: Path) -> None:
    """Rows whose copy is current are shown like those that were fetched, and no more of them than fit."""
    await a_run(path, Again(), *(ended(row, path=f"{row:09d}.jpg") for row in range(200)), exit_code=0)
    await a_run(path, REFRESH, *(ended(row, "ok.not_modified") for row in range(100)), exit_code=0)
    with LedgerReader(path) as reader:
        rows = [picture.row for picture in Report.from_ledger(reader, path.parent.parent).pictures]
    assert len(rows) == PICTURES
    assert rows == sorted(rows)
    assert len([row for row in rows if row < 100]) == PICTURES // 2


def write_version(path: Path, number: int = 1) -> None:
    """Leave a finished ledger of an older version."""
    db = sqlite3.connect(path)
    db.executescript(VERSION_1)
    if number == 2:  # it had two columns more
        db.executescript(
            "ALTER TABLE outcomes ADD COLUMN etag TEXT; ALTER TABLE outcomes ADD COLUMN last_modified TEXT;"
            "PRAGMA user_version = 2"
        )
    db.close()


@pytest.mark.parametrize("number", [1, 2])
async def test_a_ledger_of_an_older_version_is_brought_up_to_date(path: Path, number: int) -> None:
    """A run goes on with it, keeps what it holds, can ask again, and keeps no more earlier ends than a new one."""
    write_version(path, number)
    assert await a_run(path, FAILED, ended(1, path="1.jpg", etag='"1"'), exit_code=0) == {0}
    with LedgerReader(path) as reader:
        first, second = (one.outcome for one in reader.rows())
        assert [one.class_ for one in reader.earlier(1)] == ["http.404"]
    assert (first.path, first.etag, first.last_modified) == ("00000/000000000.jpg", None, None)
    assert (second.class_, second.etag) == ("ok", '"1"')
    assert await a_run(path, Again(), exit_code=0) == {0, 1}
    await a_run(path, REFRESH, ended(0), ended(1, "ok.not_modified"), exit_code=0)
    with LedgerReader(path) as reader:
        assert [len(reader.earlier(row)) for row in (0, 1)] == [0, 1]
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_a_ledger_of_version_1_is_read_as_it_is(path: Path) -> None:
    """A reader changes nothing about it, and reads all there is."""
    write_version(path)
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        assert [one.outcome.class_ for one in reader.rows()] == ["ok", "http.404"]
        assert [(one.outcome.row, ends) for one, ends in reader.with_earlier(State.FAILED)] == [(1, [])]
        assert [one.outcome.etag for one in reader.sample("ok", 3)] == [None]
        assert (reader.asked_again(FAILED), reader.unfinished()) == (1, Again())
    assert before == path.read_bytes()


async def test_an_upgrade_that_fails_leaves_version_1(path: Path) -> None:
    """Both columns and the number come together or not at all."""
    write_version(path)
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE outcomes ADD COLUMN last_modified TEXT")  # the second of the two cannot be added then
    db.close()
    with pytest.raises(Exception, match="last_modified"):
        async with Ledger.open(path):
            pass
    db = sqlite3.connect(path)
    names = [name for _, name, *_ in db.execute("PRAGMA table_info(outcomes)")]
    assert ("etag" in names, db.execute("PRAGMA user_version").fetchone()) == (False, (1,))
    db.close()
