"""Does a response say no? In: its X-Robots-Tag headers. Out: the directive that does.

Must never: take what is said to somebody else for said to us; miss one of several headers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


def opted_out(values: Iterable[str], token: str, directives: Collection[str]) -> str:
    """The first of ``directives`` that the headers hold for us; empty if none does.

    Args:
        values: of each X-Robots-Tag header.
        token: our name, as robots.txt would have it.
        directives: those that are taken as a no, in lower case.
    """
    return ""
