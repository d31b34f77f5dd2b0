"""Raw bytes, as they came, through every output: whole runs over bodies that are no pictures."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from pipelines import files, images
from scraper import arun
from scraper.ledger import LedgerReader
from scraper.origin.process import OriginProcess
from scraper.testing.server import LOOPBACK, ScriptedServer, reply

BODIES = {
    "empty-ish": b"\x00",
    "text": "Grüße\r\n\n".encode(),
    "json": b'{"key": "000000099", "url": "a lie"}',
    "tar header": b"x" * 511 + b"\x00" * 2049,
    "block": b"\xff" * 512,
    "large": bytes(range(256)) * 20_000,
    "newlines": b"\n" * 1_000,
}


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("output_format", ["files", "webdataset", "jsonl"])
async def test_raw_bytes_come_through_every_output(tmp_path: Path, output_format: str) -> None:
    """What was served is what stands on disk, byte by byte, and where bytes are not kept its digest is."""
    bodies = list(BODIES.values())
    async with ScriptedServer({f"/{n}": [reply("200 OK", body)] for n, body in enumerate(bodies)}) as server:
        urls = [server.url(f"/{n}") for n in range(len(bodies))]
        pipeline = files.build(output_format=output_format, number_sample_per_shard=3)
        report = await arun(pipeline, urls, out=tmp_path / "out", workers=1, allow_net=LOOPBACK)
        assert report.ok == len(bodies)
    out = tmp_path / "out"
    with LedgerReader(out / ".scraper/ledger.sqlite") as ledger:
        held = {each.outcome.row: each.outcome for each in ledger.rows()}
    assert [held[row].sha256 for row in held] == [hashlib.sha256(bodies[row]).hexdigest() for row in held]
    if output_format == "jsonl":
        lines = [json.loads(line) for line in (out / "items.jsonl").read_bytes().splitlines()]
        digests = {int(line["key"]): line["sha256"] for line in lines}
        assert digests == {row: outcome.sha256 for row, outcome in held.items()}
        return
    for row, outcome in held.items():
        assert outcome.path is not None
        assert _item(out, outcome.path, outcome.shard) == bodies[row]


def _item(out: Path, path: str, shard: str | None) -> bytes:
    """By other means than our own."""
    if shard is None:
        return (out / path).read_bytes()
    with tarfile.open(out / shard, "r:", errorlevel=2) as archive:
        member = archive.extractfile(path)
        assert member is not None
        return member.read()


@pytest.mark.slow
async def test_pictures_can_be_listed_without_being_kept(tmp_path: Path, shared_origin: OriginProcess) -> None:
    """Jsonl for images: one line a picture with its sizes, nothing for what failed, and a report all the same."""
    urls = [shared_origin.url(f"/img/thumb/{n}.jpg") for n in range(4)]
    urls[2] += "?status=404"
    out = tmp_path / "out"
    lines_only = images.build(output_format="jsonl", image_size=64)
    report = await arun(lines_only, urls, out=out, workers=1, allow_net=LOOPBACK)
    assert (report.ok, report.failed, report.pictures) == (3, 1, ())
    lines = [json.loads(line) for line in (out / "items.jsonl").read_bytes().splitlines()]
    assert sorted(line["key"] for line in lines) == ["000000000", "000000001", "000000003"]
    assert all((line["width"], line["height"], line["status"]) == (64, 64, "success") for line in lines)
    assert (out / "report.html").exists()
    assert not [*out.glob("**/*.jpg"), *out.glob("*.part")]
