"""Whether to ask again, and after how long. In: how an attempt failed. Out: seconds, or None to give up.

The wait before attempt n + 1 is drawn evenly from 0 to ``wait_s`` * 2^(n-1), at most ``cap_s``: exponential
backoff with full jitter, so that rows which failed together do not come back together. A server that says how long
to wait (RFC 9110 10.2.3) is waited for at least that long; what is too long is for the user to say, and so is no
matter of this module.

Must never: ask again where it cannot help; come back before the server wants it.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from scraper.config import RetryConfig
from scraper.errors import FetchFailed, outcome_class

_DOUBLINGS = 64
"""Beyond these any cap is reached; it only keeps 2^n a number."""

EXCUSES = 5
"""A host's pace has halved so often by then that a burst of 32 at once has become one."""

_LONGEST_S = 2.0**31
"""What a number of seconds too large to represent stands for (RFC 9111 1.2.2)."""


def decide(error: FetchFailed, attempt: int, config: RetryConfig, chance: float) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Args:
        error: how the attempt failed.
        attempt: which one it was, from 1.
        config: how often and how long.
        chance: evenly drawn from [0, 1).
    """
    if attempt > config.retries or not outcome_class(error.class_).retry:
        return None
    return backoff_s(error, attempt, config, chance)


def backoff_s(error: FetchFailed, times: int, config: RetryConfig, chance: float) -> float:
    """Seconds to wait before asking again after ``times`` attempts; the rest as for ``decide``."""
    wait = chance * min(config.wait_s * 2.0 ** min(times - 1, _DOUBLINGS), config.cap_s)
    return max(wait, error.retry_after_s or 0.0)


def is_our_haste(error: FetchFailed, excused: int, config: RetryConfig) -> bool:
    """Whether an attempt failed for nothing but our asking too fast, and so is not to be counted as one.

    How fast a host may be asked is learned by being told off, which must cost no row. But some servers answer 429
    to certain URLs for ever, so a row is excused a few times only; and never where it is to be asked once.

    Args:
        error: how the attempt failed.
        excused: attempts of the row that were not counted so far.
        config: how often to ask.
    """
    return error.class_ == "http.429" and excused < EXCUSES and config.retries > 0


def parse_retry_after(value: str, now_wall: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: 0 for a date in the past, None for junk.

    Args:
        value: the header's value: seconds or an HTTP-date (RFC 9110 10.2.3), in any of its three forms (5.6.7).
        now_wall: seconds since the epoch.
    """
    value = value.strip(" \t")
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_S)
    try:
        date = parsedate_to_datetime(value)
        # asctime's form names no zone; all HTTP dates are in UTC.
        then = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, then - now_wall), _LONGEST_S)
