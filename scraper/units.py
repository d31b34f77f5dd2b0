"""Numbers as people read them, for the progress display and the report. Pure; imports nothing of ours.

In: bytes, seconds, counts. Out: short text. Must never: raise over a number, however odd.
"""

from __future__ import annotations

import math


def show_bytes(size: float) -> str:
    """``1.2 GB``: powers of a thousand, as disks are sold and networks are rated."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} PB"


def show_seconds(seconds: float) -> str:
    """``2.5 s``, ``1:23``, ``4:05:06``, ``3 d 04:05``."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes}:{rest:02d}"
    if hours < 48:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d}:{minutes:02d}"


def show_count(count: float) -> str:
    """``1,234``."""
    return f"{count:,.0f}"


def show_rate(per_second: float) -> str:
    """``0.42``, ``7.5``, ``1,234``: three digits say enough."""
    if per_second < 1:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 99.95 else f"{per_second:,.0f}"


def show_ms(ms: float) -> str:
    """``12.5 ms``, ``340 ms``, ``2.5 s``."""
    if ms >= 9_999.5:
        return show_seconds(ms / 1000)
    return f"{ms:.1f} ms" if ms < 99.95 else f"{ms:,.0f} ms"


def show_share(part: int, whole: int) -> str:
    """``95.1 %``; never 100 % unless it is all, never 0 % unless it is none."""
    if whole == 0:
        return "-"
    percent = 100 * part / whole
    if part not in (0, whole):
        percent = min(99.9, max(0.1, percent))
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"
