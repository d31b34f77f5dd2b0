"""``--dry-run``: what a run would do. In: lists, settings, the output folder's name. Out: counts on stdout.

Must never: fetch, write or lock anything; let pass what the run itself would refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from scraper.api import Watch, run_meta
from scraper.asking import Asking
from scraper.cli import voice
from scraper.config import Again, Pipeline, RunConfig
from scraper.errors import FetchFailed, UsageError
from scraper.ledger import WAYS_OUT, LedgerReader, RunMeta, changes_between
from scraper.log import escaped
from scraper.outdir import OutputFolder
from scraper.policies import urls
from scraper.policies.secrets import hide_parameters, mask_secrets
from scraper.protocols import Source
from scraper.records import Outcome
from scraper.shaping import shaped, with_columns
from scraper.sources import open_source

_SHOWN = 10
_HOSTS = 100_000
"""Hosts that are told apart: a list of ten million rows must not fill the memory."""


@dataclass(slots=True)
class _Tally:
    """What a list holds.

    Attributes:
        rows: all of them.
        bad: those that would fail without being asked, by class.
        examples: line and reason of the first of those.
        hosts: the others, by host.
    """

    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, str]] = field(default_factory=list)
    hosts: Counter[str] = field(default_factory=Counter)

    def blame(self, class_: str, line: int, why: str) -> None:
        """Count a bad row."""
        self.bad[class_] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append((line, why or class_))


def dry_run(
    pipeline: Pipeline,
    inputs: Sequence[str],
    config: RunConfig,
    settings: Mapping[str, str],
    out: str,
    overwrite: bool,
) -> int:
    """Read the list to its end, look at the output folder, print what there is and what would be done.

    Args:
        pipeline: what would be done with each URL.
        inputs: the lists.
        config: the run's settings.
        settings: all of them as one types them.
        out: the output folder; empty if none was named.
        overwrite: an earlier run's results would be deleted first.

    Raises:
        UsageError: the list cannot be read, has no rows, or the folder cannot be used for it.
        OutputLocked: a run is writing to the folder.
    """
    hide_parameters(config.mask_params)
    config = with_columns(pipeline, config)
    pipeline = shaped(pipeline, config)
    Asking(config.fetch, pipeline.accept, pipeline.accept_encoding)  # refuses what cannot be used
    folder = OutputFolder(out, overwrite=overwrite) if out else None
    if folder is not None:
        folder.check()
    source = open_source(inputs, config.source)
    ended, again = 0, 0
    if folder is not None and folder.ledger_path.exists():
        meta = run_meta(pipeline, source, inputs, config, Watch())
        ended, again = _ended(folder, None if overwrite else meta, config.again)
    name = "Standard input" if source.name == "-" else source.name
    tally = _tallied(source)
    if tally.rows == 0:
        raise UsageError(f"{name} has no rows.")
    with voice.to_stdout() as stdout:
        _show_list(name, tally, stdout)
        if folder is not None:
            print(f"{escaped(out)}: {_state(ended, again, tally.rows, overwrite)}", file=stdout)
        print("\nSettings:", file=stdout)
        for each, value in settings.items():
            print(f"  {each:<26} {escaped(mask_secrets(value))}", file=stdout)
        print("\nNothing was fetched or written.", file=stdout)
    return 0


def _ended(folder: OutputFolder, meta: RunMeta | None, again: Again) -> tuple[int, int]:
    """How many rows an earlier run has ended, and how many of these would be asked again.

    Raises:
        UsageError: that was another job than ``meta``, unless it is None.
    """
    with LedgerReader(folder.ledger_path) as ledger:
        held = ledger.meta()
        changes = changes_between(held, RunMeta.from_json(meta.to_json())) if held and meta else []
        if changes:
            raise UsageError(f"{folder.root} holds results of another job ({'; '.join(changes)}): {WAYS_OUT}")
        return sum(ledger.counts().values()), ledger.asked_again(again)


def _state(ended: int, again: int, rows: int, overwrite: bool) -> str:
    if not ended:
        return "new"
    if overwrite:
        return f"{_counted(ended, 'row')} of an earlier run would be deleted first"
    left = rows - ended
    have = "1 row has" if ended == 1 else f"{ended:,} rows have"
    of_these = f", {again:,} of them to be asked again" if again else ""
    return f"{have} ended{of_these}, {f'{left:,}' if left > 0 else 'none'} to go"


def _tallied(source: Source) -> _Tally:
    tally = _Tally()
    for row in source:
        tally.rows += 1
        if isinstance(row, Outcome):
            tally.blame(row.class_, row.line, row.message)
            continue
        try:
            urls.check(row.url)
        except FetchFailed as error:
            tally.blame(error.class_, row.line, error.message)
            continue
        if row.host in tally.hosts or len(tally.hosts) < _HOSTS:
            tally.hosts[row.host] += 1
    return tally


def _show_list(name: str, tally: _Tally, stdout: TextIO) -> None:
    bad = "none bad"
    if tally.bad:
        classes = ", ".join(f"{class_} {count:,}" for class_, count in tally.bad.most_common())
        bad = f"{tally.bad.total():,} bad ({classes})"
    more = "more than " if len(tally.hosts) == _HOSTS else ""
    hosts = f"{more}{_counted(len(tally.hosts), 'host')}"
    print(f"{escaped(name)}: {_counted(tally.rows, 'row')}, {bad}, {hosts}", file=stdout)
    for line, why in tally.examples:
        print(f"  line {line}: {escaped(mask_secrets(why))}", file=stdout)
    for host, count in tally.hosts.most_common(_SHOWN):
        print(f"  {count:>10,}  {escaped(host)}", file=stdout)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
