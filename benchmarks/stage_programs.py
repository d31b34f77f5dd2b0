"""What ``stages`` runs in processes of its own: our parts, alone or put together otherwise than in a pipeline.

In: a name and paths, by ``main``. Out: ``measured.json`` in the working folder.
Must never: measure in a process that has done anything else before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from benchmarks import peers
from scraper import Item, Pipeline, Response, Transform, output_of, run
from scraper.answers import Fetched
from scraper.arena import Arena
from scraper.config import FetchConfig, PermitConfig, PoolConfig
from scraper.fetch import Fetcher
from scraper.pool import Pool
from scraper.records import Outcome, Request, Result
from scraper.transforms.image import ImageTransform

SAID = "measured.json"
ANSWER_BYTES = 20_000
"""What a 256 px JPEG weighs."""

_bodies: list[bytes] = []


@dataclass(frozen=True)
class Preloaded:
    """A transform whose workers have the bodies already: nothing is handed to them but a row's number.

    Attributes:
        transform: what is done with each.
        paths: of the bodies; row n has number n modulo their count.
    """

    transform: Transform
    paths: tuple[str, ...]
    inline: ClassVar[bool] = False
    preload: ClassVar[tuple[str, ...]] = ("scraper.transforms.pixels",)

    def warm_up(self) -> None:
        """As the transform itself, and read the bodies."""
        self.transform.warm_up()
        _bodies[:] = [Path(path).read_bytes() for path in self.paths]

    def __call__(self, response: Response) -> Sequence[Item]:
        """As the transform itself, with the digest that a worker takes of every body."""
        body = _bodies[response.request.row % len(_bodies)]
        hashlib.sha256(body).digest()
        return self.transform(replace(response, body=body))


@dataclass(frozen=True)
class Constant:
    """A transform that does nothing, and answers as much as a picture would be.

    Attributes:
        inline: on the loop; else in workers, with all that takes.
    """

    inline: bool

    def warm_up(self) -> None:
        """Nothing."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """The same bytes for everything."""
        return [Item(bytes(ANSWER_BYTES), "jpg", {"width": 256, "height": 256})]


class Discard:
    """A sink that forgets what it is given."""

    def __init__(self, _folder: Path, _state: Mapping[str, object]) -> None:
        self.count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def write(self, batch: Sequence[Result]) -> list[Outcome]:
        """Count them."""
        self.count += len(batch)
        return [result.outcome for result in batch]

    async def flush(self) -> Mapping[str, object]:
        """Nothing to make durable."""
        return {}

    async def publish(self) -> None:
        """Nothing waits for a name."""

    async def finish(self) -> Mapping[str, object]:
        """The end."""
        return {}


async def from_memory(rows: int, paths: Sequence[str]) -> dict[str, float]:
    """The image transform in workers that have the bodies in memory: as fast as they can be."""
    told = ImageTransform(image_size=256, resize_mode="keep_ratio", encode_quality=95)
    config = PoolConfig(workers=peers.WORKERS)
    waiting = iter(
        Response(Request(row, "http://memory/"), "http://memory/", 200, {}, b"x") for row in range(rows)
    )
    right = 0
    async with Pool(Preloaded(told, tuple(paths)), config) as pool:

        async def go_on() -> None:
            nonlocal right
            while batch := list(_batch(waiting, pool, config)):
                answers = await pool.run(batch)  # on a line of its own: others count meanwhile
                right += sum(answer.error is None for answer in answers)

        since = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(config.workers * config.in_flight):
                group.create_task(go_on())
        return {"seconds": time.monotonic() - since, "ok": right}


def _batch(waiting: Iterator[Response], pool: Pool, config: PoolConfig) -> Iterator[Response]:
    """As the pipeline cuts them: so many items, or so much predicted work."""
    cost = 0.0
    for _ in range(config.batch_items):
        response = next(waiting, None)
        if response is None:
            return
        yield response
        cost += pool.cost(response)
        if cost >= config.batch_s:
            return


async def fetching(listed: Path) -> dict[str, float]:
    """Every URL fetched and thrown away, by as many tasks as a run has; no list, no frontier, no ledger."""
    urls = listed.read_text().split()
    waiting = iter([Request(row, url) for row, url in enumerate(urls)])
    arena = Arena(PermitConfig().byte_budget)
    right = 0
    async with Fetcher(FetchConfig("scraper-benchmarks", allow_net=(peers.LOOPBACK,)), arena) as fetcher:

        async def go_on() -> None:
            nonlocal right
            for request in waiting:
                answer = await fetcher.fetch(request)
                if isinstance(answer, Fetched):
                    answer.slot.release()
                    right += 1

        began = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(peers.CONCURRENCY):
                group.create_task(go_on())
        return {"loop_s": time.process_time() - began, "ok": right}


def whole(kind: str, listed: Path, out: Path) -> dict[str, float]:
    """A run with nothing in it but fetch, queues and ledger, and one stage more by its name."""
    sink = output_of("webdataset", 10_000) if kind == "sink" else Discard
    pipeline = Pipeline("nothing", Constant(inline=kind != "hand-off"), sink, {}, accept_encoding="identity")
    many = peers.CONCURRENCY
    fetching_as: dict[str, Any] = {"concurrency": many, "per_host": many, "allow_net": peers.LOOPBACK}
    began = time.process_time()
    report = run(pipeline, inputs=[listed], out=out, workers=peers.WORKERS, **fetching_as)
    return {"loop_s": time.process_time() - began, "ok": report.by_class.get("ok", 0)}


def digest_s(paths: Sequence[str]) -> float:
    """CPU seconds of sha256 of a body: what an inline transform has on the loop, and workers have with them."""
    bodies = [Path(path).read_bytes() for path in paths]
    began = time.process_time()
    for body in bodies:
        hashlib.sha256(body).hexdigest()
    return (time.process_time() - began) / len(bodies)


def main(arguments: Sequence[str]) -> None:
    """Measure one thing and write it down."""
    from scraper.allocator import tune_allocator
    from scraper.api import loop_factory

    kind, *rest = arguments
    tune_allocator()
    if kind in ("memory", "fetch"):
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            work = from_memory(int(rest[0]), rest[1:]) if kind == "memory" else fetching(Path(rest[0]))
            said = runner.run(work)
    else:
        said = whole(kind, Path(rest[0]), Path(rest[1]))
        said["digest_s"] = digest_s(rest[2:])
    Path(SAID).write_text(json.dumps(said))


COMMAND = "import sys; from benchmarks.stage_programs import main; main(sys.argv[1:])"
"""Not ``-m``: workers do not import the main module, and so would not know the transforms of this one."""


def command(*arguments: str) -> list[str]:
    """The command line of ``main``."""
    return [sys.executable, "-c", COMMAND, *arguments]
