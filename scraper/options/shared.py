"""The options that every pipeline has, and what they resolve to.

In: what the user said, converted. Out: the frozen RunConfig an engine is given.
Must never: repeat a default; each stands once, in ``scraper.config``, with its reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from scraper.config import (
    FetchConfig,
    HealthConfig,
    PermitConfig,
    PoolConfig,
    RetryConfig,
    RunConfig,
    SourceConfig,
    SpaceConfig,
)
from scraper.errors import UsageError
from scraper.options.again import again_of
from scraper.options.kept import KeptOptions, dedupe, hashes
from scraper.options.politeness import PolitenessOptions, as_lines, politeness
from scraper.options.requests import (
    RequestOptions,
    SafetyOptions,
    networks,
    parse_headers,
    proxy,
    secrets,
    tls,
    user_agent,
)
from scraper.options.schema import convert, dashed, find, names_of, option, options_of, shown_value, taken
from scraper.options.units import format_time
from scraper.transforms.user import name_of

T = TypeVar("T")

_IN_PROGRAMS_TOO = {"retry_failed", "refresh"}
"""Options that belong to one run, and may be said in a Python call: what is said there is said of one run."""


def _default(config: type, field: str) -> Any:
    """The default that ``scraper.config`` gives a field."""
    found = next(each for each in dataclasses.fields(config) if each.name == field)
    return found.default


def _default_time(field: str) -> str:
    """The default of one of the fetch's times, as one types it."""
    return shown_value(_default(FetchConfig, field), "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """Where the list comes from and where the results go.

    Attributes:
        out: Folder for the results, made if it is not there. The same command again resumes.
        url_list: A list to read, for commands written for img2dataset. Repeatable; the same as naming it plainly.
    """

    out: str | None = option(None, alias=["output_folder"], short="-o")
    url_list: tuple[str, ...] = option((), typed_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is done. The same for every pipeline.

    Attributes:
        concurrency: Fetches under way at once in the whole run.
        workers: Processes that transform.
        timeout: Deadline of one attempt, from DNS to the last byte, redirects included.
        connect_timeout: Deadline for a usable connection: DNS, TCP and TLS together. At most --timeout.
        header_timeout: Deadline for the response's headers, from the connection on. At most --timeout.
        stall_timeout: Longest time without progress in a body. At most --timeout.
        network_wait: How long to pause when nothing can be reached at all, before failures count. 0 for no pause.
        retries: Further attempts after the first, for failures that may pass.
        retry_wait: Upper bound of the first wait between attempts; it doubles with each, with jitter.
        max_bytes: Largest body, on the wire and decoded.
        worker_memory: Address space of one worker process; a row that wants more fails.
        min_free: Space to leave free on the disk of OUT; below it the run pauses, then stops. 0 for none.
        max_failed: Rows that may fail before the exit status is 1.
        progress: What to show while it runs. auto is a bar on a terminal and a plain line every 10 s elsewhere.
        log_format: How messages on stderr are written.
        dry_run: Read the list, say what would be done, fetch nothing, write nothing.
        overwrite: Start over: what an earlier run left in OUT is deleted first.
        retry_failed: Ask failed rows again: all of them, or those of the classes and families named, as in
            --retry-failed=dns,timeout,http.429.
        refresh: Ask all rows again but the skipped ones; servers that can send only what has changed since. Needs
            --output-format files.
        config: A TOML file of options. The command line and --set go before it.
        set: An option as key=value, for scripts. Repeatable. Goes before --config.
    """

    concurrency: int = option(_default(PermitConfig, "concurrency"), alias=["thread_count"], group="Speed")
    workers: int | None = option(None, alias=["processes_count"], group="Speed", shown="one per core")
    timeout: float = option(_default(FetchConfig, "timeout_s"), unit="time", group="Patience")
    connect_timeout: float | None = option(
        None, unit="time", group="Patience", shown=_default_time("connect_timeout_s")
    )
    header_timeout: float | None = option(
        None, unit="time", group="Patience", shown=_default_time("header_timeout_s")
    )
    stall_timeout: float | None = option(
        None, unit="time", group="Patience", shown=_default_time("stall_timeout_s")
    )
    network_wait: float = option(_default(HealthConfig, "wait_s"), unit="time", group="Patience")
    retries: int = option(_default(RetryConfig, "retries"), group="Patience")
    retry_wait: float = option(_default(RetryConfig, "wait_s"), unit="time", group="Patience")
    max_bytes: int = option(_default(FetchConfig, "max_bytes"), unit="size", group="Limits")
    worker_memory: int = option(_default(PoolConfig, "memory_bytes"), unit="size", group="Limits")
    min_free: int | None = option(
        _default(SpaceConfig, "min_free"),
        unit="size",
        group="Limits",
        shown="64M, at most a twentieth of the disk",
    )
    max_failed: int = option(_default(RunConfig, "max_failed"), group="Limits")
    progress: Literal["auto", "bar", "plain", "json", "none"] = option("auto", group="This run")
    log_format: Literal["text", "json"] = option("text", group="This run")
    dry_run: bool = option(False, group="This run", typed_only=True)
    overwrite: bool = option(False, group="This run", typed_only=True)
    retry_failed: tuple[str, ...] | None = option(None, group="This run", split="bare", typed_only=True)
    refresh: bool = option(False, group="This run", typed_only=True)
    config: str | None = option(None, group="This run", typed_only=True)
    set: tuple[str, ...] = option((), group="This run", typed_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How the list is read.

    Attributes:
        input_format: txt, csv, tsv, jsonl, parquet or sitemap, where the list's extension does not say.
        url_col: Column of the URL, in formats that have columns.
        caption_col: Column of the caption.
        save_additional_columns: Further columns that travel to the output: a,b, repeated, or * for all.
    """

    input_format: str = option(_default(SourceConfig, "input_format"), shown="by extension")
    url_col: str = option(_default(SourceConfig, "url_col"))
    caption_col: str | None = option(_default(SourceConfig, "caption_col"))
    save_additional_columns: tuple[str, ...] = option(
        _default(SourceConfig, "save_additional_columns"), split=True
    )


SHARED = (PlaceOptions, InputOptions, KeptOptions, RunOptions, PolitenessOptions, RequestOptions, SafetyOptions)
"""The options that every pipeline has."""


def resolve(*said: object) -> RunConfig:
    """What was said → what a run needs to know.

    Args:
        said: instances of the dataclasses in ``SHARED``; where there is none of a kind, nothing was said of it.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """
    run, inputs = _one(RunOptions, said), _one(InputOptions, said)
    kept = _one(KeptOptions, said)
    digests = hashes(kept)
    requests, safety = _one(RequestOptions, said), _one(SafetyOptions, said)
    return RunConfig(
        fetch=FetchConfig(
            user_agent=user_agent(requests),
            headers=parse_headers(requests.header),
            timeout_s=run.timeout,
            connect_timeout_s=_within(run, "connect_timeout"),
            header_timeout_s=_within(run, "header_timeout"),
            stall_timeout_s=_within(run, "stall_timeout"),
            max_bytes=run.max_bytes,
            downgrade=safety.downgrade == "follow",
            allow_net=networks(safety.allow_net),
            proxy=proxy(requests.proxy),
            tls=tls(safety),
            secrets=secrets(requests),
        ),
        source=SourceConfig(
            input_format=inputs.input_format,
            url_col=inputs.url_col,
            caption_col=inputs.caption_col,
            save_additional_columns=_travelling(inputs, digests.column),
            hash_col=digests.column,
        ),
        permits=PermitConfig(concurrency=run.concurrency),
        politeness=politeness(_one(PolitenessOptions, said)),
        retry=RetryConfig(retries=run.retries, wait_s=run.retry_wait),
        pool=_pool(run),
        health=HealthConfig(wait_s=run.network_wait),
        space=SpaceConfig(min_free=run.min_free),
        again=again_of(run.retry_failed, run.refresh),
        dedupe=dedupe(kept),
        hashes=digests,
        transform=kept.transform or "",
        mask_params=frozenset(safety.mask_params),
        max_failed=_at_least_0(run.max_failed, "--max-failed"),
    )


def _one(kind: type[T], said: Iterable[object]) -> T:
    return next((each for each in said if isinstance(each, kind)), kind())


def _travelling(inputs: InputOptions, hash_col: str | None) -> tuple[str, ...]:
    """The further columns, with the one that bodies are verified by."""
    columns = inputs.save_additional_columns
    return columns if hash_col is None or hash_col in columns else (*columns, hash_col)


def _pool(run: RunOptions) -> PoolConfig:
    if run.workers is None:
        return PoolConfig(memory_bytes=run.worker_memory)
    return PoolConfig(workers=run.workers, memory_bytes=run.worker_memory)


def _within(run: RunOptions, name: Literal["connect_timeout", "header_timeout", "stall_timeout"]) -> float:
    """A deadline inside that of the attempt: what was said must fit, a default gives way."""
    said: float | None = getattr(run, name)
    if said is None:
        default: float = _default(FetchConfig, f"{name}_s")
        return min(default, run.timeout)
    if said > run.timeout:
        raise UsageError(
            f"--{dashed(name)} {format_time(said)} is more than --timeout {format_time(run.timeout)}, which ends "
            "the whole attempt: lower the one or raise the other."
        )
    return said


def _at_least_0(number: int, name: str) -> int:
    if number < 0:
        raise UsageError(f"{name} must be 0 or more.")
    return number


def from_settings(settings: Mapping[str, object]) -> RunConfig:
    """As ``resolve``, from the keyword arguments of a Python call: ``timeout="2m"`` as well as ``timeout=120``.

    Raises:
        UsageError: a name or a value is none of the options'; the nearest right name is given.
    """
    known = names_of(
        each
        for kind in SHARED
        if kind is not PlaceOptions
        for each in options_of(kind)
        if not each.typed_only or each.field in _IN_PROGRAMS_TOO
    )
    values = {}
    for name, raw in settings.items():
        found = find(name, known)
        said = as_lines(raw, "hosts") if found.field == "hosts" and isinstance(raw, Mapping) else raw
        if found.field == "transform" and callable(raw):
            said = name_of(raw)
        values[found.field] = convert(found, said, found.field)
    return resolve(*(taken(kind, values) for kind in SHARED))
