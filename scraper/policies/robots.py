"""What a robots.txt says (RFC 9309), read by protego. In: its text, a URL. Out: whether to ask, and how often.

Must never: match another's name for ours.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z_-]+")  # RFC 9309 2.2.1


def token_of(user_agent: str) -> str:
    """The name that robots.txt and X-Robots-Tag know us by: the beginning of our user agent."""
    found = _TOKEN.match(user_agent)
    return found[0] if found else ""
