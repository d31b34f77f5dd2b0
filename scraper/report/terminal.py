"""A Report as plain text for a terminal: what ended how, how fast, and where to look.

In: a Report. Out: text of at most ``width`` columns, commands excepted. Must never: show what a stranger chose,
a URL or a message, to a terminal that might obey it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from scraper.ledger_hosts import HostRecord
from scraper.log import escaped
from scraper.report.data import Failure, Report
from scraper.units import show_bytes, show_count, show_ms, show_rate, show_seconds, show_share

MOST_CLASSES = 12
MOST_HOSTS = 5


def render_terminal(report: Report, width: int = 100) -> str:
    """The report in some 10 to 30 lines, without a line break at the end. Commands are never cut short."""
    return "\n\n".join(filter(None, (render_summary(report, width), render_where(report))))


def render_summary(report: Report, width: int = 100) -> str:
    """What ended how, and how fast."""
    lines = [*_summary(report)]
    if report.failures:
        lines += ["", *_classes("failed because", report.failures)]
    if report.skips:
        lines += ["", *_classes("skipped because", report.skips)]
    if slowed := [one for one in report.treatment if one.why or one.throttled]:
        lines += ["", *_hosts(slowed)]
    return "\n".join(line[:width].rstrip() for line in lines)


def render_where(report: Report) -> str:
    """Where to look, and how to go on; empty if neither is anywhere."""
    return "\n".join(_where(report))


def _summary(report: Report) -> Iterator[str]:
    counts = (report.rows, report.ok, report.skipped, report.failed)
    wide = max(len(show_count(count)) for count in counts)
    ended = f"in {show_seconds(report.seconds)}, {show_rate(report.rate)} rows/s"
    if report.working_runs > 1:
        ended += f", over {report.working_runs} runs"
    yield f"{report.pipeline or 'no run'} -> {escaped(str(report.out))}"
    if len(report.runs) > 1 and report.is_complete and not report.runs[-1].rows:
        yield "  nothing was left to do: every row had ended in an earlier run"
    of_total = "" if report.rows_total in (None, report.rows) else f" of {show_count(report.rows_total or 0)}"
    yield f"  rows     {show_count(report.rows):>{wide}}{of_total}   {ended}"
    yield f"  ok       {show_count(report.ok):>{wide}}   {show_share(report.ok, report.rows)}"
    yield f"  skipped  {show_count(report.skipped):>{wide}}   {show_share(report.skipped, report.rows)}"
    yield f"  failed   {show_count(report.failed):>{wide}}   {show_share(report.failed, report.rows)}"
    fetched = f"  fetched  {show_bytes(report.bytes)}"
    if report.seconds:
        fetched += f", {show_bytes(report.bytes / report.seconds)}/s"
    if report.hosts_total:
        fetched += f", from {show_count(report.hosts_total)} host{'s' if report.hosts_total > 1 else ''}"
    yield fetched
    if report.percentiles_ms:
        marks = ", ".join(f"{percent} % in {show_ms(ms)}" for percent, ms in report.percentiles_ms.items())
        yield f"  latency  {marks}"
    for said in report.guards:
        yield f"  without  {escaped(said)}"
    if report.asked_again:
        yield f"  again    {report.asked_again}"


def _classes(title: str, failures: Sequence[Failure]) -> Iterator[str]:
    shown = failures[:MOST_CLASSES]
    name_wide = max(len(title), *(len(one.of.name) for one in shown))
    rows_wide = max(len(show_count(one.rows)) for one in shown)
    yield f"  {title:<{name_wide}}  {'rows':>{max(4, rows_wide)}}  whose fault  what it means"
    for one in shown:
        rows = f"{show_count(one.rows):>{max(4, rows_wide)}}"
        yield f"  {one.of.name:<{name_wide}}  {rows}  {one.of.fault.value:<11}  {one.of.meaning}"
    rest = len(failures) - len(shown)
    if rest:
        left = sum(one.rows for one in failures[MOST_CLASSES:])
        yield f"  and {rest} more class{'es' if rest > 1 else ''}, {show_count(left)} rows"


def _hosts(slowed: Sequence[HostRecord]) -> Iterator[str]:
    """The hosts that set the pace, and how."""
    shown = [(escaped(one.host)[:40], one) for one in slowed[:MOST_HOSTS]]
    wide = max(len("held back by"), *(len(name) for name, _ in shown))
    yield f"  {'held back by':<{wide}}  requests  a second  at once    delay  429, 503  refused  why"
    for name, one in shown:
        delay = show_ms(one.delay_s * 1000) if one.delay_s else "-"
        rate = show_rate(one.rate) if one.rate else "-"
        counts = f"{show_count(one.requests):>8}  {rate:>8}  {one.at_once:>7}  {delay:>7}"
        no = f"{show_count(one.throttled):>8}  {show_count(one.refused):>7}"
        yield f"  {name:<{wide}}  {counts}  {no}  {escaped(one.why)}"
    if rest := len(slowed) - len(shown):
        yield f"  and {rest} more; report.html has the twenty that were asked most"


def _where(report: Report) -> Iterator[str]:
    out = escaped(shlex.quote(str(report.out)))
    if (report.out / "report.html").is_file():
        yield f"  look at      {escaped(str(report.out / 'report.html'))}"
    for one in report.failures:
        if one.of.name == "address.blocked" and one.samples:
            yield f"  not dialled  {escaped(one.samples[0].message)}"
    if report.failed:
        yield f"  failed rows  scraper results {out} --state failed"
    if report.may_be_asked_again and report.started_by == "command":
        yield f"  ask again    scraper resume {out} --retry-failed"
    if report.is_running:
        yield f"  still running (process {report.runs[-1].pid})"
        return
    cut_short = ["the last run was cut short"] if report.runs and not report.is_complete else []
    cut_short += [report.still_to_ask] if report.still_to_ask else []
    if cut_short:
        yield f"  {'; '.join([*cut_short, report.way_on])}"
