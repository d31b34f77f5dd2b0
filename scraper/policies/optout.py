"""Does a response say no? In: its X-Robots-Tag headers. Out: the directive that does.

The grammar is Google's (developers.google.com/search/docs/crawling-indexing/robots-meta-tag): directives with
commas between them; ``name:`` in front of one says it, and what follows in that header, to that robot alone.

    noai, noimageai
    otherbot: noindex, scraper: noai, unavailable_after: Fri, 25 Jun 2010 15:00:00 PST

Must never: take what is said to somebody else for said to us; miss one of several headers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives with a colon of their own: what stands before it is no robot's name."""

_NONE = frozenset({"noindex", "nofollow"})
"""What ``none`` stands for."""

_PIECE = re.compile(r"[,;]")  # the semicolon is an error that is often made
_DATE = re.compile(r"\s*\d{1,2}[ -]")  # what follows the comma after a day of the week


def opted_out(values: Iterable[str], token: str, directives: Collection[str]) -> str:
    """The first of ``directives`` that the headers hold for us, as it is written; empty if none does.

    Args:
        values: of each X-Robots-Tag header.
        token: our name, as robots.txt would have it.
        directives: those that are taken as a no, in lower case.
    """
    us = {"*", token.lower()}
    for value in values:
        for name, directive in _directives(value):
            if name not in us:
                continue
            if directive.lower() in directives:
                return directive
            if directive.lower() == "none" and not _NONE.isdisjoint(directives):
                return f"{directive} (noindex, nofollow)"
    return ""


def _directives(value: str) -> Iterator[tuple[str, str]]:
    """The directives of one header, without their values, each with whom it is said to: ``*`` for everybody."""
    name, directive = "*", ""
    for piece in _PIECE.split(value):
        if directive == "unavailable_after" and _DATE.match(piece):
            continue
        directive, colon, rest = (part.strip() for part in piece.partition(":"))
        while colon and directive.lower() not in _VALUED:
            name = directive.partition("/")[0].lower()
            directive, colon, rest = (part.strip() for part in rest.partition(":"))
        yield name, directive
        directive = directive.lower()
