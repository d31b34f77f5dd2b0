"""What a run needs to know: frozen, resolved, checked once. Nothing here parses strings or reads the environment.

``scraper.options`` holds what the user said; it becomes a RunConfig, and engines see only that.
Every default has its reason beside it. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scraper.config_results import DedupeConfig, HashConfig
from scraper.errors import UsageError
from scraper.protocols import Sink, SinkState, Transform

MIB = 1024 * 1024


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise UsageError(sentence)


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """How a list is read.

    Attributes:
        input_format: txt, csv, tsv, jsonl, parquet or sitemap; empty for "by the file's extension".
        url_col: the column of the URL, in formats that have columns.
        caption_col: the column of the caption; None for none.
        save_additional_columns: further columns that travel to the output; ``("*",)`` for all of them.
        hash_col: a column that travels as well, though its name may be one of ours; None for none.
    """

    input_format: str = ""
    url_col: str = "url"
    caption_col: str | None = None
    save_additional_columns: tuple[str, ...] = ()
    hash_col: str | None = None


@dataclass(frozen=True, slots=True)
class PermitConfig:
    """How much may be under way at once.

    Attributes:
        concurrency: fetches in the whole run. 64 keeps two cores of decode busy at 100 ms latency.
        byte_budget: bytes held between fetch and sink. 256 MiB is 64 bodies of 4 MiB.
    """

    concurrency: int = 64
    byte_budget: int = 256 * MIB

    def __post_init__(self) -> None:
        _require(self.concurrency >= 1, "--concurrency must be at least 1.")
        _require(self.byte_budget >= MIB, "The byte budget must be at least 1M.")


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What one host may be asked for.

    Attributes:
        per_host: requests at once. 8 is above a browser's 6 and below what operators complain of.
        delay_s: least time between the beginnings of two requests.
        rate: most requests a second; 0 for no bound.
        bandwidth: most bytes of bodies a second; 0 for no bound.
    """

    per_host: int = 8
    delay_s: float = 0.0
    rate: float = 0.0
    bandwidth: int = 0

    def __post_init__(self) -> None:
        _require(self.per_host >= 1, "--per-host must be at least 1.")
        _require(self.delay_s >= 0, "--delay must be 0 or more.")
        _require(0 <= self.rate < math.inf, "--rate must be 0 or more.")
        _require(not self.rate or self.rate >= 1e-6, "--rate must be 0, or at least one request in eleven days.")
        _require(self.bandwidth >= 0, "--bandwidth must be 0 or more.")


OPT_OUTS = ("noai", "noimageai", "noindex", "noimageindex", "noml")
"""Directives of X-Robots-Tag that are taken as a no. img2dataset's four, and noml, which its users asked for."""


@dataclass(frozen=True, slots=True)
class PolitenessConfig:
    """How hosts are treated.

    Attributes:
        limits: of a host that has none of its own.
        hosts: limits of its own, by pattern: ``example.com``, ``*.example.com`` or ``*``.
        adaptive: start with few requests at once and follow how the host bears them; never above its limits.
        robots: whether robots.txt (RFC 9309) is asked for and obeyed.
        opt_outs: directives of X-Robots-Tag that end a row as ``optout.header``.
        max_retry_after_s: the longest wait that a server may ask for; rows it would hold up for longer end. Ten
            minutes are what rate limits are mostly counted over.
        host_wait_s: how long the rows of a host that fails are kept for it. A server restarts in half of it.
        host_failures: failures in a row after which a host counts as failing.
    """

    limits: HostLimits = field(default_factory=HostLimits)
    hosts: Mapping[str, HostLimits] = field(default_factory=dict)
    adaptive: bool = True
    robots: Literal["obey", "ignore"] = "obey"
    opt_outs: tuple[str, ...] = OPT_OUTS
    max_retry_after_s: float = 600.0
    host_wait_s: float = 60.0
    host_failures: int = 10

    def __post_init__(self) -> None:
        _require(self.max_retry_after_s >= 0, "--max-retry-after must be 0 or more.")
        _require(self.host_wait_s >= 0, "--host-wait must be 0 or more.")
        _require(self.host_failures >= 1, "A host needs at least one failure to count as failing.")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When to ask again.

    Attributes:
        retries: further attempts after the first. 2 covers the usual passing fault without hammering.
        wait_s: upper bound of the first backoff; doubles with each attempt, with full jitter.
        cap_s: the longest wait of ours. What a server asks for has a limit of its own.
    """

    retries: int = 2
    wait_s: float = 1.0
    cap_s: float = 60.0

    def __post_init__(self) -> None:
        _require(self.retries >= 0, "--retries must be 0 or more.")
        _require(self.wait_s >= 0, "--retry-wait must be 0 or more.")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Whom we believe, and as whom.

    Attributes:
        insecure: hosts whose certificate is not looked at.
        ca_file: a file of certificates to believe beside the system's; empty for none.
        client: the files of the certificate and key that a host is shown, by host; nobody else is. The key's is
            empty where it is in the same file.
    """

    insecure: frozenset[str] = frozenset()
    ca_file: str = ""
    client: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    """What shows who asks. Each belongs to one origin and goes nowhere else.

    Attributes:
        auth: user and password, by origin: ``https://example.com``, ``http://example.com:8080``.
        netrc: take user and password of a host from the user's netrc file, where ``auth`` has none.
        cookies: a file of cookies, Netscape's format or JSON; empty for none.
        cookie_jar: ``per-host`` keeps what servers set, for themselves alone; ``none`` keeps nothing.
    """

    auth: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    netrc: bool = False
    cookies: str = ""
    cookie_jar: Literal["none", "per-host"] = "none"


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """How one attempt is made, and what ends it.

    Attributes:
        user_agent: who we say we are; sent with every request.
        headers: further request headers of the user's; they go before the pipeline's Accept headers and ours. They
            are sent to a row's own origin, and to no other that redirects lead to.
        timeout_s: deadline of one attempt, redirects included.
        connect_timeout_s: to a usable connection: DNS, TCP and TLS together.
        header_timeout_s: from a usable connection to the end of the response's headers. 30 s, since some servers
            make what they serve when it is asked for.
        stall_timeout_s: the longest time without ``stall_bytes`` of progress.
        stall_bytes: bytes that count as progress within one stall window.
        max_bytes: cap on a body, on the wire and decoded. 64 MiB holds any photograph.
        max_redirects: hops followed. 20 as in browsers (WHATWG fetch 4.4).
        downgrade: whether a redirect from https to http is followed.
        allow_net: networks that may be dialled though they are not public, as ``127.0.0.0/8``.
        proxy: URL of a proxy, ``env`` for what the environment names, empty for none.
        tls: whom we believe, and as whom.
        secrets: what shows who asks.
    """

    user_agent: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    header_timeout_s: float = 30.0
    stall_timeout_s: float = 15.0
    stall_bytes: int = 1024
    max_bytes: int = 64 * MIB
    max_redirects: int = 20
    downgrade: bool = True
    allow_net: tuple[str, ...] = ()
    proxy: str = ""
    tls: TlsConfig = field(default_factory=TlsConfig)
    secrets: SecretsConfig = field(default_factory=SecretsConfig)

    def __post_init__(self) -> None:
        _require(self.timeout_s > 0, "--timeout must be more than 0.")
        _require(self.connect_timeout_s > 0, "--connect-timeout must be more than 0.")
        _require(self.header_timeout_s > 0, "--header-timeout must be more than 0.")
        _require(self.stall_timeout_s > 0, "--stall-timeout must be more than 0.")
        _require(self.max_bytes >= 1, "--max-bytes must be at least 1.")


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The worker processes.

    Attributes:
        workers: processes; one per core, since a transform uses a core whole.
        batch_items: most items in one hand-off.
        batch_s: most predicted work in one hand-off; longer batches would make the tail of a run uneven.
        in_flight: batches per worker, so that one is always waiting when another ends.
        item_timeout_s: the longest one item may take; then its worker is killed. 60 s is what a 100 Mpx
            picture takes ten times over.
        memory_bytes: address space of one worker, the bodies that it shares not counted; what an item wants beyond
            it fails that item. 4 GiB is three times what the largest picture allowed needs.
        recycle_items: items after which a worker makes room for a fresh one: what leaks has an end.
        recycle_bytes: the same by resident memory that is its own.
    """

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    batch_items: int = 16
    batch_s: float = 0.02
    in_flight: int = 2
    item_timeout_s: float = 60.0
    memory_bytes: int = 4096 * MIB
    recycle_items: int = 100_000
    recycle_bytes: int = 1024 * MIB

    def __post_init__(self) -> None:
        _require(self.workers >= 1, "--workers must be at least 1.")
        _require(self.memory_bytes >= 256 * MIB, "--worker-memory must be at least 256M.")
        _require(self.recycle_items >= 1, "A worker must live for at least 1 item.")
        _require(self.item_timeout_s > 0, "The time limit of an item must be more than 0.")


@dataclass(frozen=True, slots=True)
class CommitConfig:
    """How often results are made durable: by whichever comes first."""

    every_s: float = 1.0
    every_rows: int = 2_000


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """When the network as a whole is taken to be gone, and how long it is waited for.

    Attributes:
        wait_s: the longest pause; after it failures count as the rows' own. 0 for no pausing. Two minutes are a
            router's restart.
        failures: attempts in a row, all failed below HTTP with no answer from anybody in between, that show it.
        probe_s: how often one request is let through meanwhile, to see whether it is back.
    """

    wait_s: float = 120.0
    failures: int = 8
    probe_s: float = 1.0

    def __post_init__(self) -> None:
        _require(self.wait_s >= 0, "--network-wait must be 0 or more.")


@dataclass(frozen=True, slots=True)
class SpaceConfig:
    """When the disk is taken to be nearly full, and how long space is waited for.

    Attributes:
        min_free: bytes to be left free in the output's file system, beside what is in flight. None for 64 MiB, or
            a twentieth of a small disk; 0 for not watching.
        wait_s: the longest pause; after it the run stops, resumable.
        every_s: how often to look. A disk takes a GB a second and more.
    """

    min_free: int | None = None
    wait_s: float = 300.0
    every_s: float = 0.1

    def __post_init__(self) -> None:
        _require((self.min_free or 0) >= 0, "--min-free must be 0 or more.")


@dataclass(frozen=True, slots=True)
class Again:
    """Which rows that have ended are asked once more in this run.

    Attributes:
        failed: classes or families (``http``, ``timeout``, ``http.429``) of failed rows; ``()`` for all failed
            rows, None for none.
        refresh: rows that are ok, asked whether they have changed, and all that failed.
    """

    failed: tuple[str, ...] | None = None
    refresh: bool = False

    def __bool__(self) -> bool:
        """Whether any are."""
        return self.refresh or self.failed is not None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is done with each URL, as data, so that any engine can run it. ``pipelines/`` makes these.

    Attributes:
        name: the sub-command's name.
        transform: Response → Items; picklable.
        open_sink: makes the sink for an output folder from the last committed state, which is empty for a
            new folder. Picklable: a frozen dataclass with ``__call__`` or a top-level function.
        settings: every setting that shapes the output. Kept with the output: going on with others is refused.
        accept: Accept header to send.
        accept_encoding: Accept-Encoding header to send; ``identity`` for media, which does not compress.
    """

    name: str
    transform: Transform
    open_sink: Callable[[Path, SinkState], Sink]
    settings: Mapping[str, object]
    accept: str = "*/*"
    accept_encoding: str = "gzip, deflate, br, zstd"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All of a run's settings but the list and the pipeline."""

    fetch: FetchConfig
    source: SourceConfig = field(default_factory=SourceConfig)
    permits: PermitConfig = field(default_factory=PermitConfig)
    politeness: PolitenessConfig = field(default_factory=PolitenessConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    commit: CommitConfig = field(default_factory=CommitConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    again: Again = field(default_factory=Again)
    dedupe: DedupeConfig = field(default_factory=DedupeConfig)
    hashes: HashConfig = field(default_factory=HashConfig)
    transform: str = ""
    """The user's own function, ``module:function``, run on each result; empty for none."""
    mask_params: frozenset[str] = frozenset()
    """Parameters of URLs whose values are written down as ``***``."""
    stuck_s: float = 300.0
    """The longest time in which nothing moves, though something should; then the run is ended, and says why."""
    max_failed: int = 0
    """Rows that may fail before the exit code is 1."""
    grace_s: float = 5.0
    """After an interrupt: how long what is in flight may take to finish."""
    engine: str = "pipeline"
    """Name of the engine; see ``scraper.engines``."""
