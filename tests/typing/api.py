"""The public surface as a user's type checker sees it. Checked by mypy strict, never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, assert_type

from pipelines import files, images
from scraper import (
    FetchConfig,
    FilesOutput,
    Item,
    Pipeline,
    Report,
    Response,
    RunConfig,
    ScraperError,
    Transform,
    WebdatasetOutput,
    arun,
    filled,
    option,
    run,
)


def download(urls: list[str]) -> int:
    """The README's example."""
    report = run(images.build(image_size=256), urls=urls, out="out", concurrency=32, timeout="2m")
    assert_type(report, Report)
    assert_type(report.ok, int)
    return report.failed


async def download_async(rows: list[dict[str, object]]) -> Report:
    """Rows with columns, a config of one's own, a path."""
    config = RunConfig(fetch=FetchConfig(user_agent="me/1.0", timeout_s=10))
    return await arun(files.build(), urls=rows, out=Path("out"), config=config, overwrite=True)


@dataclass(frozen=True)
class Count:
    """A transform of one's own."""

    inline: ClassVar[bool] = True

    def warm_up(self) -> None:
        """Nothing to load."""

    def __call__(self, response: Response) -> Sequence[Item]:
        """The size of the body."""
        return [Item(str(len(response.body)).encode(), "txt", {"status": response.status})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A pipeline's options.

    Attributes:
        rows: Rows to a shard.
        limit: How large.
    """

    rows: int = 100
    limit: int = option(1024, unit="size")


def build(options: Options | None = None, /, **settings: Any) -> Pipeline:
    """A pipeline of one's own."""
    said = filled(Options, options, settings)
    assert_type(said, Options)
    transform: Transform = Count()
    return Pipeline("count", transform, WebdatasetOutput(rows_per_shard=said.rows), asdict(said))


def sinks() -> tuple[FilesOutput, WebdatasetOutput]:
    """The factories by name."""
    return FilesOutput(), WebdatasetOutput()


def careful(urls: list[str]) -> str:
    """Errors have one root."""
    try:
        run(build(), urls=urls, out="out")
    except ScraperError as error:
        return str(error)
    return ""
