"""What it costs that "done" is durable: the same run with its ledger on disk, in memory, and without any fsync.

Each run is a process of its own, which gives its engine a job made by hand; only the engine's time counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Finding, judged, ratios, spread, verdict
from benchmarks.measuring import Run, run
from benchmarks.setting import Done, Setting, Side, in_turn, is_whole, write_list
from scraper.ledger import Ledger, RunMeta
from scraper.records import Outcome
from scraper.sinks.syncfs import WholeSync
from scraper.testing.disk import QuickDisk

GOAL = 0.9
ROOT = Path(__file__).resolve().parents[1]

DURABLE, IN_MEMORY, UNSYNCED = "as it is", "ledger in memory", "that, and no fsync"
SIDES = (DURABLE, IN_MEMORY, UNSYNCED)


@dataclass(frozen=True, slots=True)
class Kind:
    """A piece of work.

    Attributes:
        name: what is done.
        size: of the origin's pictures.
        output_format: of the pipeline.
        rows: and with ``--quick``.
    """

    name: str
    size: str
    output_format: str
    rows: tuple[int, int]


KINDS = {
    "files": Kind("files of 36 KB", "thumb", "files", (10_000, 1_000)),
    "images": Kind("pictures of 400x300 to a 256 px WebDataset", "thumb", "webdataset", (5_000, 500)),
}


def measure(setting: Setting) -> Finding:
    """Both kinds of work, each on all sides in turn."""
    found: dict[str, dict[str, list[Done]]] = {}
    rates: dict[str, dict[str, list[float]]] = {}
    for pipeline, kind in KINDS.items():
        rows = kind.rows[setting.quick]
        setting.server.offer(kind.size, rows)
        urls = write_list(
            setting.folder / f"{pipeline}.txt",
            (setting.server.picture(kind.size, number) for number in range(rows)),
        )
        found[pipeline] = {name: [] for name in SIDES}
        for number in range(setting.repeat):
            folder = setting.folder / f"{pipeline}-{number}"
            folder.mkdir()
            # There and back: who always goes after the same neighbour is measured with what that one left behind.
            sides = [
                Side(name, rows, partial(_go, folder, pipeline, name, urls), partial(_count, folder))
                for name in (SIDES if number % 2 == 0 else SIDES[::-1])
            ]
            for side, done in in_turn(replace(setting, folder=folder, repeat=1), sides).items():
                found[pipeline][side.name] += done
        rates[pipeline] = {
            name: [rows / each.run.seconds for each in done] for name, done in found[pipeline].items()
        }
    return _finding(setting, found, rates)


def _go(folder: Path, pipeline: str, side: str, urls: Path, out: Path) -> Run:
    """One run; its seconds are the engine's."""
    told = [sys.executable, "-m", "benchmarks.durability", pipeline, side, str(urls), str(out)]
    done = run(told, folder=folder, environment={"PYTHONPATH": str(ROOT)})
    said = json.loads((folder / "engine.json").read_text()) if done.status == 0 else {"seconds": done.seconds}
    return Run(said["seconds"], done.cpu_s, done.pss_mb, done.rss_mb, done.rss, done.status)


def _count(folder: Path, _out: Path) -> int:
    """Rows that ended well in the run before."""
    said = folder / "engine.json"
    ok: int = json.loads(said.read_text())["ok"] if said.exists() else 0
    said.unlink(missing_ok=True)
    return ok


def _finding(
    setting: Setting, found: dict[str, dict[str, list[Done]]], rates: dict[str, dict[str, list[float]]]
) -> Finding:
    compared = {name: ratios(each[DURABLE], each[IN_MEMORY]) for name, each in rates.items()}
    unsynced = {name: ratios(each[DURABLE], each[UNSYNCED]) for name, each in rates.items()}
    is_valid = all(is_whole(each.values(), KINDS[name].rows[setting.quick]) for name, each in found.items())
    return Finding(
        "durability: the engine's time, start and report left out",
        ["", *SIDES],
        [
            *(
                [f"{KINDS[name].name}, rows/s", *(spread(each[side], 0) for side in SIDES)]
                for name, each in rates.items()
            ),
            *(
                [f"{KINDS[name].name}, CPU ms per row", *(spread(_cpu_ms(each[side]), 2) for side in SIDES)]
                for name, each in found.items()
            ),
        ],
        [
            *(
                f"{KINDS[name].name}: as it is / ledger in memory {spread(values, 2)}, / no fsync either "
                f"{spread(unsynced[name], 2)}"
                for name, values in compared.items()
            ),
            f"{peers.CONCURRENCY} fetches at once, {peers.WORKERS} workers; server: {setting.server.name}",
        ],
        verdict(
            "durability",
            ", ".join(f"{name} {spread(values, 2)}" for name, values in compared.items()) + " of the rate without",
            f"at least {GOAL}",
            all(judged(values, lambda it: it >= GOAL) for values in compared.values()),
            is_valid=is_valid,
        ),
        is_valid,
    )


def _cpu_ms(done: Sequence[Done]) -> list[float]:
    """Of all processes, for a row: it says more than the rate where other work is on the machine."""
    return [1e3 * each.run.cpu_s / max(1, each.ok) for each in done]


class _MemoryLedger(Ledger):
    """Keeps what is committed in memory alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.outcomes: dict[int, Outcome] = {}

    async def commit(self, outcomes: Sequence[Outcome], sink_state: Mapping[str, object], *more: object) -> None:
        """Keep them."""
        self.outcomes.update((outcome.row, outcome) for outcome in outcomes)


class _NoSync(QuickDisk):
    """Waits for the device neither file by file nor for all of them at once."""

    def sync_all(self, paths: Sequence[Path], whole: WholeSync | None) -> None:
        """Do nothing."""


async def _engine(pipeline_name: str, side: str, urls: str, out: Path) -> None:
    """The run that is measured, as a program of its own."""
    import pipelines.files
    import pipelines.images
    from scraper.allocator import tune_allocator
    from scraper.engines import Job, engine_named
    from scraper.meter import Meter
    from scraper.options import from_settings
    from scraper.outdir import OutputFolder
    from scraper.sinks.files import FilesSink
    from scraper.sinks.webdataset import WebdatasetSink
    from scraper.sources import open_source

    fetches = peers.CONCURRENCY
    many = {"concurrency": fetches, "per_host": fetches, "workers": peers.WORKERS}
    config = from_settings({**many, "allow_net": peers.LOOPBACK})
    kind = KINDS[pipeline_name]
    module = pipelines.files if pipeline_name == "files" else pipelines.images
    pipeline = module.build(output_format=kind.output_format)
    source = open_source([urls], config.source)
    tune_allocator()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(OutputFolder(out))
        made = Ledger if side == DURABLE else _MemoryLedger
        ledger = await stack.enter_async_context(made(folder.ledger_path))
        await ledger.begin(RunMeta(pipeline_name))
        if side != UNSYNCED:
            sink = pipeline.open_sink(folder.root, {})
        elif kind.output_format == "files":
            sink = FilesSink(folder.root, {}, disk=_NoSync())
        else:
            sink = WebdatasetSink(folder.root, {}, disk=_NoSync())
        job = Job(
            pipeline=pipeline,
            source=source,
            identity="",
            rows=iter(source),
            config=config,
            ledger=ledger,
            sink=sink,
            out=folder.root,
            state=folder.state_dir,
            scratch=folder.tmp_dir,
            meter=Meter(),
            stop=asyncio.Event(),
        )
        since = time.monotonic()
        await engine_named(config.engine)(job)
        seconds = time.monotonic() - since
    Path("engine.json").write_text(json.dumps({"seconds": seconds, "ok": job.meter.by_class["ok"]}))


def main(arguments: Sequence[str]) -> None:
    """What ``_go`` starts."""
    from scraper.api import _prompt_threads, loop_factory

    with _prompt_threads(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_engine(arguments[0], arguments[1], arguments[2], Path(arguments[3])))


if __name__ == "__main__":
    main(sys.argv[1:])
