"""Sizes and times as people write them. In: strings and numbers. Out: bytes, seconds. Never guesses a unit."""

from __future__ import annotations

import re

from scraper.errors import UsageError

_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)

_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(ms|s|m|h|d)?")


def parse_size(text: str) -> int:
    """Bytes of ``64M``. ``k``, ``M``, ``G`` and ``T`` are steps of 1024; a plain number is bytes.

    Raises:
        UsageError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size; write 500000, 500k, 64M or 1.5G.")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def parse_time(text: str) -> float:
    """Seconds of ``500ms``, ``30s``, ``2m``, ``1h``; a plain number is seconds.

    Raises:
        UsageError: it is no time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no time; write 500ms, 30, 30s, 2m or 1h.")
    return float(match[1]) * _TIMES[match[2] or "s"]


def format_size(size: float) -> str:
    """The shortest exact way to type a size."""
    for unit in "TGMk":
        if size and size % _SIZES[unit.lower()] == 0:
            return f"{int(size) // _SIZES[unit.lower()]}{unit}"
    return f"{size:.0f}"


def format_time(seconds: float) -> str:
    """A time as one types it: seconds, or milliseconds below one second."""
    return f"{_plain(seconds * 1000)}ms" if 0 < seconds < 1 else f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    """Without an exponent, which nobody types."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
