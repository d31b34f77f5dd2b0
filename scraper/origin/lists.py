"""Lists of the origin's own URLs: how many, of what, with which share of faults; lines or a file out.

The lists in urls/ name the origin's default port; ``rewrite`` points such a list at another origin.
Deterministic: the same arguments, the same list. Must never put a fault in a list that does not end.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator
from os import PathLike

from scraper.origin.settings import BASE

DEMO_ROWS = 500

FAULTY_QUERIES = (
    "status=404",
    "status=410",
    "status=403",
    "status=500",
    "status=503&retry_after=1",
    "status=429&retry_after=1",
    "html",
    "garbage",
    "empty",
    "truncate=0.5",
    "encoding=gzip&encoding_cut=0.5",
    "encoding=br&encoding_cut=0.5",
    "encoding_lie=gzip",
    "header_bytes=100000",
    "cut=0.5",
    "cut_chunked=0.5",
    "reset",
    "close",
    "redirect=loop",
    "redirect=30",
)
"""Queries that leave no picture to be had, however patient the client."""

ODD_QUERIES = (
    "flaky=1",
    "flaky=2:503",
    "redirect=3",
    "redirect=1:301",
    "type=text/html",
    "encoding=gzip",
    "encoding=deflate",
    "encoding=br",
    "encoding=zstd",
    "chunked",
    "delay=200ms",
    "jitter=100ms",
    "drip=1M",
    "stall=200ms",
)
"""Queries that a good client gets its picture through."""


def demo_urls(base: str = BASE) -> list[str]:
    """The 500 photographs of the demo."""
    return list(_rows(base, DEMO_ROWS, "photo", 0.0, 0))


def faulty_urls(base: str = BASE) -> list[str]:
    """340 small pictures, each fault of the vocabulary ten rows apart."""
    queries = FAULTY_QUERIES + ODD_QUERIES
    rows = enumerate(_rows(base, 10 * len(queries), "thumb", 0.0, 0))
    return [url if row % 10 else f"{url}?{queries[row // 10]}" for row, url in rows]


def seed_urls(base: str = BASE) -> list[str]:
    """Twenty-six photographs, A to Z: the size of the job that tutorials on threads download."""
    return [f"{base}/img/photo/{number}.jpg?tag={letter}" for number, letter in enumerate(string.ascii_uppercase)]


def rewrite(lines: Iterable[str], base: str) -> Iterator[str]:
    """Point the lines of a list that name the default port at another origin; other lines stay as they are."""
    for line in lines:
        yield base + line.removeprefix(BASE) if line.startswith(f"{BASE}/") else line


def write_list(
    path: str | PathLike[str],
    base: str = BASE,
    *,
    rows: int = DEMO_ROWS,
    size: str = "photo",
    faults: float = 0.0,
    seed: int = 0,
) -> int:
    """Write a text list, a URL a line, no two the same.

    Args:
        path: the file; replaced if it is there.
        base: the origin's scheme, host and port.
        rows: how many lines.
        size: thumb, photo or large.
        faults: the share of rows, 0 to 1, that go through a fault of FAULTY_QUERIES or ODD_QUERIES, each in turn.
        seed: another seed puts the faults in other rows.

    Returns:
        How many rows leave no picture to be had.
    """
    failing = 0
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - takes a string as well
        for url in _rows(base, rows, size, faults, seed):
            file.write(f"{url}\n")
            failing += url.partition("?")[2] in FAULTY_QUERIES
    return failing


def _rows(base: str, rows: int, size: str, faults: float, seed: int) -> Iterator[str]:
    queries = FAULTY_QUERIES + ODD_QUERIES
    at_fault = {row: queries[turn % len(queries)] for turn, row in enumerate(_drawn(rows, faults, seed))}
    for row in range(rows):
        query = at_fault.get(row)
        yield f"{base}/img/{size}/{row}.jpg{f'?{query}' if query else ''}"


def _drawn(rows: int, share: float, seed: int) -> list[int]:
    """The rows with faults: those that come first when all are shuffled by their digests."""
    shuffled = sorted(range(rows), key=lambda row: hashlib.blake2b(b"%d %d" % (seed, row), digest_size=8).digest())
    return shuffled[: round(rows * share)]
