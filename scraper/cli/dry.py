"""``--dry-run``: what a run would do. In: lists and settings. Out: counts on stdout. Fetches, writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scraper.config import SourceConfig
from scraper.errors import UsageError
from scraper.records import Outcome
from scraper.sources import open_source

_SHOWN = 10
_HOSTS = 100_000
"""Hosts that are told apart: a list of ten million rows must not fill the memory."""


def dry_run(inputs: Sequence[str], config: SourceConfig, settings: Mapping[str, object]) -> int:
    """Read the list to its end and print what it holds and what it would be run with.

    Raises:
        UsageError: the list cannot be read, or has no rows.
    """
    source = open_source(inputs, config)
    rows = 0
    bad: list[Outcome] = []
    bad_rows = 0
    hosts: Counter[str] = Counter()
    for row in source:
        rows += 1
        if isinstance(row, Outcome):
            bad_rows += 1
            if len(bad) < _SHOWN:
                bad.append(row)
        elif row.host in hosts or len(hosts) < _HOSTS:
            hosts[row.host] += 1
    if rows == 0:
        raise UsageError(f"{source.name} has no rows.")
    more = "more than " if len(hosts) == _HOSTS else ""
    print(f"{source.name}: {rows:,} rows, {bad_rows:,} of them no row, {more}{len(hosts) - ('' in hosts):,} hosts")
    for outcome in bad:
        print(f"  line {outcome.line}: {outcome.message or outcome.class_}")
    for host, count in hosts.most_common(_SHOWN):
        print(f"  {count:>10,}  {host or '(no host: these rows will fail)'}")
    print("\nSettings:")
    for name, value in settings.items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        print(f"  {name.replace('_', '-'):<26} {'-' if shown in (None, '') else shown}")
    print("\nNothing was fetched or written.")
    return 0
