"""What must not be written down: the user and password inside a URL.

In: any text. Out: the same text with each URL's userinfo (RFC 3986 3.2.1) replaced by ``***``.
Must never: let a password through because the URL round it is odd; touch text without one.
"""

from __future__ import annotations

import re

MASK = "***"

# After "scheme:" and its slashes, or after a bare "http:" as browsers accept it, up to the last "@" before the
# authority ends. A backslash ends an authority for browsers (WHATWG URL 4.4), so it does here.
_USERINFO = re.compile(r"(:[/\\]+|\bhttps?:|^[/\\]{2,})[^/?#\\\s]*@", re.IGNORECASE)

# A URL whose scheme was left out, at the start of the text. "mailto:" is the one scheme whose "@" hides nothing;
# http: is seen to above.
_BARE = re.compile(r"^(?!mailto:|https?:)[^\s/?#\\@:]+:[^\s/?#\\@]+@", re.IGNORECASE)


def mask_userinfo(text: str) -> str:
    """Hide the userinfo of every URL in ``text``; idempotent."""
    if "@" not in text:
        return text
    return _USERINFO.sub(rf"\1{MASK}@", _BARE.sub(f"{MASK}@", text))
