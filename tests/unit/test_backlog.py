"""The backlog: first in, first out for each host, off the loop's memory, and gone afterwards."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.backlog import Backlog
from scraper.errors import SinkFailed
from scraper.records import Request


def rows(host: str, numbers: range) -> list[tuple[str, Request]]:
    """Rows of one host, as the frontier pushes them."""
    return [(host, Request(n, f"http://{host}/{n}", line=n + 1)) for n in numbers]


async def test_each_host_is_first_in_first_out(tmp_path: Path) -> None:
    """Rows of a host come back in the order they went in, across pushes, and apart from other hosts'."""
    async with Backlog(tmp_path / "b.sqlite") as backlog:
        await backlog.push([*rows("a", range(3)), *rows("b", range(10, 12))])
        await backlog.push(rows("a", range(3, 6)))
        assert [r.row for r in await backlog.pull("a", 4)] == [0, 1, 2, 3]
        await backlog.push(rows("a", range(6, 8)))
        assert [r.row for r in await backlog.pull("a", 99)] == [4, 5, 6, 7]
        assert [r.row for r in await backlog.pull("b", 99)] == [10, 11]
        assert await backlog.pull("a", 99) == []
        assert await backlog.pull("unknown", 99) == []


async def test_calls_are_carried_out_in_order(tmp_path: Path) -> None:
    """A pull sees what was pushed before it, though nobody has waited for the push."""
    async with Backlog(tmp_path / "b.sqlite") as backlog:
        pushing = backlog.push(rows("a", range(100)))
        pulling = backlog.pull("a", 100)
        assert len(await pulling) == 100
        await pushing


COLUMN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ANY_TEXT = st.text("aZ/é漢😀\x00\n\ud800\udcff")  # with lone surrogates, as lists that are no UTF-8 give them
REQUEST = st.builds(
    Request,
    row=st.integers(0, 10**12),
    url=ANY_TEXT,
    caption=st.none() | ANY_TEXT,
    columns=st.dictionaries(st.text(), COLUMN, max_size=3),
    line=st.integers(0, 10**12),
    target=ANY_TEXT,
    hops=st.lists(st.text(), max_size=3).map(tuple),
    attempt=st.integers(1, 9),
    spent_s=st.floats(0, 100),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ANY_TEXT, REQUEST), min_size=1, max_size=5))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, many: list[tuple[str, Request]]
) -> None:
    """Every field of a request survives the disk: any text, any JSON value in a column, integers of any size."""

    async def main() -> None:
        async with Backlog(tmp_path_factory.getbasetemp() / "fields.sqlite") as backlog:
            await backlog.push(many)
            for host in {host for host, _ in many}:
                assert await backlog.pull(host, 99) == [row for other, row in many if other == host]

    asyncio.run(main())


async def test_the_file_is_scratch(tmp_path: Path) -> None:
    """There is no file before the first row; what a killed run left is not read; nothing is left at the end."""
    path = tmp_path / "not" / "yet" / "b.sqlite"
    async with Backlog(path) as backlog:
        assert not path.exists()
        await backlog.push(rows("a", range(3)))
        assert path.exists()
    assert not path.exists()
    path.write_bytes(b"what a killed run left behind")
    async with Backlog(path) as backlog:
        assert not path.exists()
        await backlog.push(rows("b", range(1)))
        assert repr(backlog) == "<Backlog b.sqlite: 1 rows put in>"
        assert await backlog.pull("a", 9) == []
    assert list(path.parent.iterdir()) == []


async def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    """Where the file cannot be made the run stops with what to do, not with an SQLite error."""
    (tmp_path / "file").write_text("in the way")
    backlog = Backlog(tmp_path / "file" / "b.sqlite")
    with pytest.raises(SinkFailed, match=r"cannot be kept in .*Make room there"):
        await backlog.push(rows("a", range(1)))
