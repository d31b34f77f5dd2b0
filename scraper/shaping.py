"""A pipeline as the run's settings have it: bodies verified, results passed through the user's function.

In: a pipeline as its module builds it, and the resolved settings. Out: the same with more around its transform,
and with every further setting that shapes the output. Must never: let begin what cannot give what was asked
for.
"""

from __future__ import annotations

from dataclasses import replace

from scraper.config import Pipeline, RunConfig
from scraper.config_results import DedupeConfig, HashConfig
from scraper.engines.duplicates import DUPLICATE_OF
from scraper.errors import UsageError
from scraper.transforms.hashes import Hashed
from scraper.transforms.user import UserTransform, function_of, here


def with_columns(pipeline: Pipeline, config: RunConfig) -> RunConfig:
    """The settings, with the columns that the pipeline's transform reads among those that travel."""
    travels = config.source.save_additional_columns
    wanted = sorted(getattr(pipeline.transform, "columns", frozenset()) - set(travels))
    if not wanted or "*" in travels:
        return config
    return replace(config, source=replace(config.source, save_additional_columns=(*travels, *wanted)))


def shaped(pipeline: Pipeline, config: RunConfig) -> Pipeline:
    """The pipeline that is run. Imports the user's function, to see that it is there.

    Raises:
        UsageError: the output cannot be what was asked for, or there is no such function.
    """
    _check_columns(pipeline, config)
    _check_prints(pipeline, config)
    transform = pipeline.transform
    if config.hashes != HashConfig():
        transform = Hashed(transform, config.hashes)
    if config.transform:
        folder = here()
        function_of(config.transform, folder)
        transform = UserTransform(transform, config.transform, folder)
    return replace(pipeline, transform=transform, settings={**pipeline.settings, **_settings(config)})


def _settings(config: RunConfig) -> dict[str, object]:
    """What differs from the defaults: outputs made before there was a choice are those of the default."""
    hashes = config.hashes
    said = {
        "dedupe": "" if config.dedupe.text == DedupeConfig().text else config.dedupe.text,
        "duplicates": "mark" if config.dedupe.mark else "",
        "verify_hash": f"{hashes.column}:{hashes.algorithm}".rstrip(":") if hashes.column else "",
        "compute_hash": hashes.compute,
        "transform": config.transform,
    }
    return {name: value for name, value in said.items() if value}


def _check_columns(pipeline: Pipeline, config: RunConfig) -> None:
    """Refuse names of files that are made of columns which do not travel."""
    travels = config.source.save_additional_columns
    missing = sorted(getattr(pipeline.open_sink, "columns", frozenset()) - set(travels))
    if missing and "*" not in travels:
        raise UsageError(f"--name asks for the column {missing[0]}: add it to --save-additional-columns.")
    added = getattr(pipeline.transform, "adds", frozenset()) | {config.hashes.compute}
    if twice := sorted(added.intersection(travels)):
        raise UsageError(
            f"--save-additional-columns cannot take {', '.join(twice)}: the output has columns of its own by that "
            "name; rename them in the list or leave them out."
        )
    if config.dedupe.mark and DUPLICATE_OF in travels:
        raise UsageError(f"--duplicates mark writes a column {DUPLICATE_OF}: leave out the list's own.")


def _check_prints(pipeline: Pipeline, config: RunConfig) -> None:
    if config.dedupe.perceptual is not None and not getattr(pipeline.transform, "prints", False):
        raise UsageError(
            f"--dedupe perceptual compares pictures by the dhash of their items, and the transform of "
            f"{pipeline.name!r} does not say that it gives any (prints = True): use --dedupe content."
        )
