"""Whole runs whose bodies are in shared memory: what is written is what was served, with little memory."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import scraper.engines.pipeline
from pipelines import files
from scraper import RunConfig, arun
from scraper.buddies import LARGEST
from scraper.config import FetchConfig, PermitConfig, PoolConfig
from scraper.ledger import LedgerReader
from scraper.memory import Memory, shared_memory
from scraper.testing.server import LOOPBACK, ScriptedServer, reply
from scraper.testing.transform import Borrower

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> list[Memory]:
    """The shared memory of every run."""
    made: list[Memory] = []

    def noted(budget: int) -> Memory | None:
        memory = shared_memory(budget)
        if memory is not None:
            made.append(memory)
        return memory

    monkeypatch.setattr(scraper.engines.pipeline, "shared_memory", noted)
    return made


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each run's shared memory took at its end."""
    sizes: list[int] = []
    close = Memory.close

    def noted(self: Memory) -> None:
        sizes.append(self.resident)
        close(self)

    monkeypatch.setattr(Memory, "close", noted)
    return sizes


async def run(
    bodies: Sequence[bytes], out: Path, output_format: str = "files", budget: int = 256 * MIB
) -> list[str]:
    """Serve these, a row each, fetch them, have workers transform them; the class each row ended with."""
    scripts = {f"/{row}": (reply("200 OK", body),) for row, body in enumerate(bodies)}
    pipeline = replace(files.build(output_format=output_format), transform=Borrower())
    config = RunConfig(
        FetchConfig("test", allow_net=(LOOPBACK,)),
        permits=PermitConfig(concurrency=16, byte_budget=budget),
        pool=PoolConfig(workers=2),
    )
    async with ScriptedServer(scripts) as server:
        await arun(pipeline, [server.url(path) for path in scripts], out=out, config=config)
    with LedgerReader(out / ".scraper/ledger.sqlite") as reader:
        return [recorded.outcome.class_ for recorded in reader.rows()]


async def test_a_run_of_26_rows_takes_little(tmp_path: Path, memories: list[Memory], taken: list[int]) -> None:
    """Of 512 MiB of rooms it touches what 26 bodies of 36 KB need at most, and usually less."""
    assert await run([b"%02d" % row * 18_000 for row in range(26)], tmp_path / "out") == ["ok"] * 26
    assert len(memories) == 1
    assert 36_000 <= taken[0] <= 26 * 64 * 1024
    said = [path.read_text() for path in (tmp_path / "out").glob("0*/*.json")]
    assert ['"is_view": true' in each for each in said] == [True] * 26  # no body went through a pipe


@pytest.mark.parametrize("word", [b"pass", b"pass-part", b"echo"])
async def test_bodies_are_written_from_where_they_are(tmp_path: Path, word: bytes) -> None:
    """The body itself as an item, a part of it, or a copy: each file has what was served for its row."""
    bodies = [word + b" %d " % row * 3_000 for row in range(60)] + [word + b" " * (LARGEST + 1)]
    assert await run(bodies, tmp_path / "out", budget=MIB) == ["ok"] * 61
    with LedgerReader(tmp_path / "out/.scraper/ledger.sqlite") as reader:
        paths = [recorded.outcome.path for recorded in reader.rows()]
    found = [(tmp_path / "out" / (path or "")).read_bytes() for path in paths]
    assert found == [body[1:] if word == b"pass-part" else body for body in bodies]


async def test_a_shard_has_what_was_served(tmp_path: Path) -> None:
    """A tar copies from the slots before these are used again."""
    bodies = [b"pass %d " % row * 5_000 for row in range(60)]
    assert await run(bodies, tmp_path / "out", "webdataset", budget=MIB) == ["ok"] * 60
    with tarfile.open(tmp_path / "out/00000.tar") as shard:
        members = {member.name: shard.extractfile(member) for member in shard if member.name.endswith(".data.txt")}
        found = {name: member.read() for name, member in members.items() if member is not None}
    assert found == {f"{row:09}.data.txt": body for row, body in enumerate(bodies)}


async def test_without_shared_memory_a_run_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, bodies go through pipes, and nobody notices."""
    monkeypatch.setattr(scraper.engines.pipeline, "shared_memory", lambda budget: None)
    bodies = [b"pass %d " % row * 5_000 for row in range(30)]
    assert await run(bodies, tmp_path / "out") == ["ok"] * 30
    found = sorted((tmp_path / "out").glob("0*/*.txt"))
    assert [path.read_bytes() for path in found] == bodies
