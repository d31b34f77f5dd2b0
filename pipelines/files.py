"""Download the bytes as they come, and write them as files or WebDataset shards, or list what came.

In: where the bytes go. Out: a Pipeline. The type is told from the content, never from the URL.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scraper import OutputFormat, Pipeline, RawTransform, filled, option, output_of

DEFAULT_NAME = "{folder}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the bytes go.

    Attributes:
        output_format: files for one file a row, webdataset for tar shards, jsonl for what is known of each row,
            without the bytes.
        number_sample_per_shard: Rows to a shard, in webdataset.
        name: What files are called, in files, without the extension: words, / for folders, and the fields {row},
            {key}, {folder}, {host}, {path}, {stem}, {filename}, {ext}, {caption} and {column:NAME}.
    """

    output_format: OutputFormat = "files"
    number_sample_per_shard: int = 10_000
    name: str | None = option(None, shown=DEFAULT_NAME)


def build(options: Options | None = None, /, **settings: Any) -> Pipeline:
    """The pipeline; ``settings`` are the fields of Options by name, over ``options`` where both are given.

    Raises:
        UsageError: a setting does not exist, or is out of range.
    """
    said = filled(Options, options, settings)
    name = None if said.name == DEFAULT_NAME else said.name
    return Pipeline(
        name="files",
        transform=RawTransform(),
        open_sink=output_of(said.output_format, said.number_sample_per_shard, name),
        settings={**asdict(said), "name": name},  # saying nothing and saying the default are the same job
        # The bytes are kept as they came, so they are asked for as they lie: an archive stays the archive.
        accept_encoding="identity",
    )
