"""Options for how hosts are treated, and what they resolve to.

In: what the user said, converted. Out: a PolitenessConfig.
Must never: repeat a default; each stands once, in ``scraper.config``, with its reason.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scraper.config import OPT_OUTS, HostLimits, PolitenessConfig
from scraper.errors import UsageError
from scraper.options.near import nearest
from scraper.options.schema import convert, find, names_of, option, options_of

_GROUP = "Politeness"

_PATTERN = re.compile(r"\*|(?:\*\.)?[^\s*/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\]")

DIRECTIVES = frozenset({*OPT_OUTS, "noarchive", "nocache", "nofollow", "nosnippet", "notranslate"})
"""Directives that say no to something, each for itself: a misspelt one would be none that anybody heeds."""

LEAST_BANDWIDTH = 1024
"""Slower, one piece of a body takes so long that the run looks stuck."""

OFF = "off"
"""What ``--opt-outs`` says to take no directive for a no."""


def _limit(field: str) -> Any:
    return HostLimits.__dataclass_fields__[field].default


def _default(field: str) -> Any:
    return PolitenessConfig.__dataclass_fields__[field].default


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """What may be said of one host.

    Attributes:
        per_host: Fetches under way at once at one host.
        delay: Least time between two requests to one host.
        rate: Most requests a second to one host. 0 for no bound.
        bandwidth: Most bytes a second from one host. 0 for no bound.
    """

    per_host: int = option(_limit("per_host"), group=_GROUP)
    delay: float = option(_limit("delay_s"), unit="time", group=_GROUP)
    rate: float = option(_limit("rate"), group=_GROUP, shown="no bound")
    bandwidth: int = option(_limit("bandwidth"), unit="size", group=_GROUP, shown="no bound")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolitenessOptions(LimitOptions):
    """How hosts are treated. A host is what one registers, example.com with all below it.

    Attributes:
        per_host: Fetches under way at once at one host.
        delay: Least time between two requests to one host.
        rate: Most requests a second to one host. 0 for no bound.
        bandwidth: Most bytes a second from one host. 0 for no bound.
        hosts: Limits of certain hosts, 'PATTERN name=value ...', as in '*.example.com per_host=2 delay=1s'.
            Repeatable. In a file they are tables of their own: [hosts."*.example.com"].
        pace: adaptive starts with two requests at once at a host and follows how it bears them, never above its
            limits; fixed uses these at once.
        max_retry_after: Longest wait a server may ask for. Rows that it would hold up for longer fail.
        host_wait: How long rows are kept for a host that fails again and again, before they fail unasked.
        robots: obey asks each site for its robots.txt and keeps to it; ignore does not, and the report says so.
        opt_outs: Directives of X-Robots-Tag that are taken as a no: a,b or repeated; off for none.
    """

    hosts: tuple[str, ...] = option((), group=_GROUP)
    pace: Literal["adaptive", "fixed"] = option("adaptive", group=_GROUP)
    max_retry_after: float = option(_default("max_retry_after_s"), unit="time", group=_GROUP)
    host_wait: float = option(_default("host_wait_s"), unit="time", group=_GROUP)
    robots: Literal["obey", "ignore"] = option(_default("robots"), group=_GROUP)
    opt_outs: tuple[str, ...] = option(
        _default("opt_outs"), alias=["disallowed_header_directives"], split=True, group=_GROUP
    )


def politeness(said: PolitenessOptions) -> PolitenessConfig:
    """What was said → what a run needs to know.

    Raises:
        UsageError: a value is out of range, or a line of ``--hosts`` is none.
    """
    limits = _limits(said)
    opt_outs = tuple(each.lower() for each in said.opt_outs)
    if OFF in opt_outs:
        if len(opt_outs) > 1:
            raise UsageError("--opt-outs off stands alone: leave it out, or what else is named.")
        opt_outs = ()
    for each in opt_outs:
        if each not in DIRECTIVES:
            near = nearest(each, DIRECTIVES)
            hint = (
                f"did you mean {near}?" if near else f"there are {', '.join(sorted(DIRECTIVES))}; off heeds none."
            )
            raise UsageError(f"--opt-outs: {each!r} is no directive of X-Robots-Tag; {hint}")
    return PolitenessConfig(
        limits=limits,
        hosts=_hosts(said.hosts, limits),
        adaptive=said.pace == "adaptive",
        robots=said.robots,
        opt_outs=opt_outs,
        max_retry_after_s=said.max_retry_after,
        host_wait_s=said.host_wait,
    )


def _limits(said: LimitOptions) -> HostLimits:
    if 0 < said.bandwidth < LEAST_BANDWIDTH:
        raise UsageError("--bandwidth must be 0 for no bound, or at least 1k.")
    return HostLimits(said.per_host, said.delay, said.rate, said.bandwidth)


def _hosts(lines: Iterable[str], limits: HostLimits) -> dict[str, HostLimits]:
    hosts: dict[str, HostLimits] = {}
    for line in lines:
        pattern, own = _of_hosts(line, limits)
        if pattern in hosts:
            raise UsageError(f"--hosts {pattern} is given twice; put its limits together.")
        hosts[pattern] = own
    return hosts


def _of_hosts(text: str, limits: HostLimits) -> tuple[str, HostLimits]:
    """``'PATTERN name=value …'`` → the pattern and its limits; those not named are the run's own."""
    pattern, *pairs = text.replace(",", " ").split() or [""]
    name, colon, port = pattern.rpartition(":")
    if colon and port.isdigit() and _PATTERN.fullmatch(name):
        raise UsageError(f"--hosts {pattern}: limits are those of a host on all its ports, so write {name}.")
    if not _PATTERN.fullmatch(pattern) or "=" in pattern:
        raise UsageError(
            f"--hosts {text!r} names no host: write example.com, '*.example.com' for all below it, or '*'."
        )
    if not pairs:
        raise UsageError(f"--hosts {pattern} says nothing: add a limit, as in '{pattern} per_host=2 delay=1s'.")
    known = names_of(options_of(LimitOptions))
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        found = find(name, known, f" for the host {pattern}")
        if not equals or not value:
            raise UsageError(f"--hosts {pattern}: {name} wants a value, as in {name}=2.")
        if found.field in values:
            raise UsageError(f"--hosts {pattern}: {found.name} is given twice.")
        values[found.field] = convert(found, value, f"{found.name} of the host {pattern}")
    own = LimitOptions(
        per_host=limits.per_host, delay=limits.delay_s, rate=limits.rate, bandwidth=limits.bandwidth
    )
    try:
        return pattern.lower(), _limits(dataclasses.replace(own, **values))
    except UsageError as error:
        raise UsageError(f"--hosts {pattern}: {error}") from None


def over(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """Lines of ``--hosts`` from two places: where both speak of a pattern, what was said later counts."""
    said = tuple(after)
    patterns = {_pattern_of(line) for line in said}
    return (*(line for line in before if _pattern_of(line) not in patterns), *said)


def _pattern_of(line: str) -> str:
    return line.split(maxsplit=1)[0].lower() if line.split() else ""


def as_lines(table: object, where: str) -> list[str]:
    """A table of hosts, as a TOML file or a program gives it → lines of ``--hosts``.

    Raises:
        UsageError: it is no table of tables.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f'{where} wants a table for each host, as in [hosts."*.example.com"].')
    lines = []
    for pattern, limits in table.items():
        if not isinstance(limits, Mapping):
            raise UsageError(f'{where} wants a table for each host, as in [hosts."{pattern}"].')
        if any(
            isinstance(value, Mapping) for value in limits.values()
        ):  # TOML takes a bare dot for a table inside
            raise UsageError(f'{where}: a host with dots is written in quotes, as in [hosts."example.com"].')
        pairs = ("".join(f"{name}={value}".split()) for name, value in limits.items())  # a "2 MiB" is one value
        lines.append(" ".join([str(pattern), *pairs]))
    return lines
