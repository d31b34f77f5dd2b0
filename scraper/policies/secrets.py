"""What must not be written down: the user and password inside a URL.

In: any text. Out: the same text with each URL's userinfo (RFC 3986 3.2.1) replaced by ``***``.
Must never: let a password through because the URL round it is odd; touch text without one.
"""

from __future__ import annotations

import re

MASK = "***"

# After "scheme:" and its slashes, or after a bare "http:" as browsers accept it, up to the last "@" before the
# authority ends. A backslash ends an authority for browsers (WHATWG URL 4.4), so it does here.
_USERINFO = re.compile(r"(:[/\\]+|\bhttps?:)[^/?#\\\s]*@", re.IGNORECASE)


def mask_userinfo(text: str) -> str:
    """Hide the userinfo of every URL in ``text``; idempotent."""
    return _USERINFO.sub(rf"\1{MASK}@", text) if "@" in text else text
