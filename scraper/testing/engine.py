"""What any engine must keep, as tests: subclass ``EngineContract`` and name yours.

    class TestMine(EngineContract):
        engine = staticmethod(my_engine.run)

Talks to the built-in origin on loopback, and writes through ``MemorySink``, a sink that remembers what was asked
of it and in which order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from scraper.config import (
    CommitConfig,
    FetchConfig,
    HostLimits,
    PermitConfig,
    Pipeline,
    PolitenessConfig,
    PoolConfig,
    RetryConfig,
    RunConfig,
    SourceConfig,
)
from scraper.engines.job import Engine, Job
from scraper.errors import RunStopped, SinkFailed
from scraper.ledger import Ledger, LedgerReader, RunMeta
from scraper.ledger_hosts import Holds, HostRecord
from scraper.ledger_prints import NewPrints
from scraper.meter import Meter
from scraper.origin.process import OriginProcess
from scraper.protocols import Source, Transform
from scraper.records import Item, Outcome, Request, Response
from scraper.sources import iterable_source
from scraper.testing.memory import MemorySink
from scraper.testing.server import LOOPBACK
from scraper.transforms.raw import RawTransform


class _TellingLedger(Ledger):
    """A ledger that notes its commits among the calls of the sink."""

    calls: list[str]

    async def commit(
        self,
        outcomes: Sequence[Outcome],
        sink_state: Mapping[str, object],
        hosts: Sequence[HostRecord] = (),
        holds: Holds = MappingProxyType({}),
        prints: NewPrints | None = None,
    ) -> None:
        """Note it, and commit."""
        self.calls.append("ledger")
        await super().commit(outcomes, sink_state, hosts, holds, prints)


@dataclass(frozen=True)
class RaisingTransform:
    """A transform that raises what nobody expects."""

    inline: bool = False

    def warm_up(self) -> None:
        """Nothing to import."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """Raise."""
        raise LookupError("raised on purpose")


@dataclass
class Ran:
    """A finished job, to look at."""

    sink: MemorySink
    meter: Meter
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def classes(self) -> Counter[str]:
        """Outcomes by class."""
        return Counter(outcome.class_ for outcome in self.outcomes.values())


def at_once(per_host: int) -> PolitenessConfig:
    """For tests of something else: so many at once from the first moment, and no robots.txt."""
    return PolitenessConfig(limits=HostLimits(per_host=per_host), adaptive=False, robots="ignore")


FAST = RunConfig(
    fetch=FetchConfig(user_agent="scraper-tests", timeout_s=5.0, stall_timeout_s=2.0, allow_net=(LOOPBACK,)),
    permits=PermitConfig(concurrency=16),
    politeness=at_once(16),
    retry=RetryConfig(retries=1, wait_s=0.01),
    pool=PoolConfig(workers=1),
    commit=CommitConfig(every_s=0.05, every_rows=100),
    grace_s=0.2,
)


async def run_job(
    engine: Engine,
    folder: Path,
    urls: Sequence[str],
    *,
    transform: Transform | None = None,
    fail_at: int = 0,
    during: Callable[[Job, MemorySink], Coroutine[None, None, None]] | None = None,
    then: Exception | None = None,
    config: RunConfig = FAST,
) -> Ran:
    """Run ``urls`` through an engine, with a ledger in ``folder``; what it raised is in the answer's ``error``.

    Args:
        engine: the engine.
        folder: an empty one, or that of an earlier job to go on with.
        urls: the list; a URL that is empty is a row that is no row.
        transform: what to do with each response; nothing by default.
        fail_at: number of the sink's write that fails.
        during: runs beside the engine.
        then: what the list raises after its last row.
        config: the settings.

    Raises:
        TimeoutError: the engine hangs.
    """
    source = iterable_source(urls, SourceConfig())
    ledger = _TellingLedger(folder / "ledger.sqlite")
    async with asyncio.timeout(60), ledger:
        await ledger.begin(RunMeta(pipeline="contract"))
        sink = MemorySink(ledger.sink_state, fail_at)
        ledger.calls = sink.calls
        pipeline = Pipeline("contract", transform or RawTransform(), lambda out, state: sink, settings={})
        job = Job(
            pipeline=pipeline,
            source=source,
            identity="",
            rows=_rows(source, then),
            config=config,
            ledger=ledger,
            sink=sink,
            out=folder,
            state=folder,
            scratch=folder,
            meter=Meter(),
            stop=asyncio.Event(),
        )
        ran = Ran(sink, job.meter)
        try:
            async with asyncio.TaskGroup() as group:
                beside = group.create_task(during(job, sink)) if during else None
                try:
                    await engine(job)
                except Exception as error:
                    ran.error = error
                if beside:
                    beside.cancel()
        finally:
            await ledger.end(0)
    with LedgerReader(folder / "ledger.sqlite") as reader:
        ran.outcomes = {recorded.outcome.row: recorded.outcome for recorded in reader.rows()}
    return ran


def _rows(source: Source, then: Exception | None) -> Iterator[Request | Outcome]:
    yield from source
    if then is not None:
        raise then


class EngineContract:
    """The promises of ``scraper.engines.job``, each a test. Needs pytest-asyncio in auto mode."""

    engine: Engine
    _shared: ClassVar[OriginProcess]

    @classmethod
    def setup_class(cls) -> None:
        """One origin for all tests that want nothing special of it: starting it takes longer than most of them."""
        cls._shared = OriginProcess().__enter__()

    @classmethod
    def teardown_class(cls) -> None:
        """Stop it."""
        cls._shared.__exit__(None, None, None)

    @contextmanager
    def origin(self) -> Iterator[OriginProcess]:
        """The origin, which remembers nothing of earlier tests."""
        self._shared.reset()
        yield self._shared

    async def test_no_row(self, tmp_path: Path) -> None:
        """An empty list ends at once, and the sink is finished."""
        ran = await run_job(self.engine, tmp_path, [])
        assert (ran.error, ran.outcomes) == (None, {})
        assert "finish" in ran.sink.calls

    async def test_one_row(self, tmp_path: Path) -> None:
        """One row ends as one ok outcome with its bytes, digest and place."""
        with self.origin() as origin:
            ran = await run_job(self.engine, tmp_path, [origin.url("/img/thumb/1.jpg")])
        assert ran.error is None
        outcome = ran.outcomes[0]
        assert (outcome.class_, outcome.status, outcome.attempts) == ("ok", 200, 1)
        assert outcome.bytes == len(ran.sink.items[0][0].data)
        assert outcome.sha256
        assert outcome.path == "memory/000000000"

    async def test_every_row_ends_once(self, tmp_path: Path) -> None:
        """Three hundred rows, a tenth of them faulty: each ends once, as the class its fault calls for."""
        with self.origin() as origin:
            urls, expected = _mixed_list(origin.url, 300)
            ran = await run_job(self.engine, tmp_path, urls)
        assert ran.error is None
        assert {row: outcome.class_ for row, outcome in ran.outcomes.items()} == expected
        assert len(ran.sink.results) == len(urls)
        assert ran.meter.rows_done == ran.meter.rows_total == len(urls)

    async def test_again_asks_nothing(self, tmp_path: Path) -> None:
        """The same job again asks the server nothing and writes nothing."""
        with self.origin() as origin:
            urls, _ = _mixed_list(origin.url, 40)
            first = await run_job(self.engine, tmp_path, urls)
            asked = origin.stats()["total"]
            second = await run_job(self.engine, tmp_path, urls)
            assert origin.stats()["total"] == asked
        assert second.error is None
        assert second.sink.results == []
        assert second.outcomes == first.outcomes

    async def test_durable_before_done(self, tmp_path: Path) -> None:
        """Each commit is flush, then ledger, then publish; finish comes last and once."""
        with self.origin() as origin:
            ran = await run_job(self.engine, tmp_path, [origin.url(f"/img/thumb/{n}.jpg") for n in range(60)])
        calls = [call for call in ran.sink.calls if call != "write"]
        assert calls[0] == "enter"
        assert calls[-4:] == ["finish", "ledger", "publish", "exit"]
        between = calls[1:-4]
        assert between == ["flush", "ledger", "publish"] * (len(between) // 3)
        assert between

    async def test_stop_and_go_on(self, tmp_path: Path) -> None:
        """Stopped in the middle it returns soon, the sink unfinished; the next run does the rest and only that."""

        async def stop_soon(job: Job, sink: MemorySink) -> None:
            await sink.written(20)
            job.stop.set()

        with OriginProcess(latency_s=0.01) as origin:
            urls = [origin.url(f"/img/thumb/{n}.jpg") for n in range(300)]
            first = await run_job(self.engine, tmp_path, urls, during=stop_soon)
            assert first.error is None
            assert 20 <= len(first.outcomes) < 300
            assert "finish" not in first.sink.calls
            second = await run_job(self.engine, tmp_path, urls)
        assert second.classes == {"ok": 300}
        assert len(second.sink.results) == 300 - len(first.outcomes)
        assert "finish" in second.sink.calls

    async def test_stop_ends_what_hangs(self, tmp_path: Path) -> None:
        """A row in flight when the grace period ends is put back: no outcome, and the run returns."""

        async def stop_after_the_other(job: Job, sink: MemorySink) -> None:
            await sink.written(1)
            job.stop.set()

        with self.origin() as origin:
            urls = [origin.url("/img/thumb/1.jpg"), origin.url("/img/thumb/2.jpg?hang")]
            ran = await run_job(self.engine, tmp_path, urls, during=stop_after_the_other)
        assert ran.error is None
        assert list(ran.outcomes) == [0]
        assert "finish" not in ran.sink.calls

    async def test_stop_lets_finish_what_can(self, tmp_path: Path) -> None:
        """A row in flight when the run is stopped keeps its outcome, if it ends within the grace period."""

        async def stop_after_the_first(job: Job, sink: MemorySink) -> None:
            await sink.written(1)
            job.stop.set()

        paths = ["/img/thumb/1.jpg?delay=50ms", "/img/thumb/2.jpg?delay=300ms"]
        with self.origin() as origin:
            config = replace(FAST, grace_s=30.0)
            ran = await run_job(
                self.engine,
                tmp_path,
                [origin.url(path) for path in paths],
                during=stop_after_the_first,
                config=config,
            )
            asked = {row for row, path in enumerate(paths) if path in origin.stats()["requests"]}
        assert ran.classes == {"ok": len(asked)}
        assert set(ran.outcomes) == asked

    async def test_a_row_that_is_no_row(self, tmp_path: Path) -> None:
        """It ends as input.invalid, asks nothing, and the rows round it are not harmed."""
        with self.origin() as origin:
            ran = await run_job(
                self.engine, tmp_path, [origin.url("/img/thumb/1.jpg"), "", origin.url("/img/thumb/2.jpg")]
            )
        assert [ran.outcomes[row].class_ for row in range(3)] == ["ok", "input.invalid", "ok"]
        assert ran.outcomes[1].attempts == 0

    async def test_a_list_that_breaks(self, tmp_path: Path) -> None:
        """A list that ends in an error: the rows before it end as ever, then the error is raised."""
        broken = RunStopped("The list is cut.")
        with self.origin() as origin:
            urls = [origin.url(f"/img/thumb/{n}.jpg") for n in range(50)]
            ran = await run_job(self.engine, tmp_path, urls, then=broken)
        assert ran.error is broken
        assert ran.classes == {"ok": 50}
        assert "finish" not in ran.sink.calls

    async def test_retry_after_is_waited_for(self, tmp_path: Path) -> None:
        """A server that says when to come back is not asked before."""
        with self.origin() as origin:
            ran = await run_job(self.engine, tmp_path, [origin.url("/img/thumb/1.jpg?flaky=1:503&retry_after=1")])
            first, second = origin.log()
        assert ran.outcomes[0].attempts == 2
        assert second[1] - first[2] >= 0.95  # timers may ring some milliseconds early

    async def test_raising_transform(self, tmp_path: Path) -> None:
        """A transform that raises costs its row, as transform.error with the error's text, and nothing else."""
        with self.origin() as origin:
            urls = [origin.url(f"/img/thumb/{n}.jpg") for n in range(20)]
            ran = await run_job(self.engine, tmp_path, urls, transform=RaisingTransform())
        assert ran.error is None
        assert ran.classes == {"transform.error": 20}
        assert "raised on purpose" in ran.outcomes[0].message

    async def test_failing_sink(self, tmp_path: Path) -> None:
        """A sink that fails ends the run with its error; what was committed before stays, and is not asked."""
        config = replace(FAST, commit=CommitConfig(every_s=60.0, every_rows=1))
        with OriginProcess(latency_s=0.005) as origin:
            urls = [origin.url(f"/img/thumb/{n}.jpg") for n in range(200)]
            first = await run_job(self.engine, tmp_path, urls, fail_at=4, config=config)
            assert isinstance(first.error, SinkFailed)
            assert 0 < len(first.outcomes) < 200
            second = await run_job(self.engine, tmp_path, urls)
        assert second.classes == {"ok": 200}
        assert len(second.sink.results) == 200 - len(first.outcomes)


def _mixed_list(url: Callable[[str], str], rows: int) -> tuple[list[str], dict[int, str]]:
    """A list of which every tenth row is faulty, and the class each row must end as."""
    faults = itertools.cycle(
        [
            (url("/img/thumb/1.jpg?status=404"), "http.404"),
            (url("/img/thumb/2.jpg?status=500"), "http.500"),
            (url("/img/thumb/3.jpg?empty"), "body.empty"),
            (url("/img/thumb/4.jpg?cut=0.5"), "body.truncated"),
            (url("/img/thumb/5.jpg?redirect=loop"), "redirect.loop"),
            ("ftp://127.0.0.1/6.jpg", "url.scheme"),
            ("no-scheme/7.jpg", "url.invalid"),
            (url("/img/thumb/8.jpg?flaky=1"), "ok"),
            (url("/img/thumb/9.jpg?redirect=2"), "ok"),
        ]
    )
    urls: list[str] = []
    expected: dict[int, str] = {}
    for row in range(rows):
        address, class_ = next(faults) if row % 10 == 9 else (url(f"/img/thumb/{row}.jpg"), "ok")
        if row % 10 == 9 and "?" in address:
            address += f"&tag={row}"  # no row asks for what another one asks for
        urls.append(address)
        expected[row] = class_
    return urls, expected
