"""What must not be written down: the user and password inside a URL, and parameters that are said to be secret.

In: any text. Out: the same text with each URL's userinfo (RFC 3986 3.2.1) replaced by ``***``, and so the values
of the parameters that ``hide_parameters`` was told of.
Must never: let a password through because the URL round it is odd; touch text without one.

Odd is whatever the WHATWG standard still dials, or a row says by mistake: backslashes for slashes, none or many of
them, tabs and line breaks anywhere, spaces in a password, a password with a bare slash, a scheme left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"

# What stands between two delimiters. A backslash ends an authority for browsers (WHATWG URL 4.4), so it does here.
_RUN = re.compile(r"[^/?#\\]+")

_GAP = "[\t\n\r]*"  # what browsers take out of a URL before they read it
_HTTP = re.compile(rf"\bh{_GAP}t{_GAP}t{_GAP}p{_GAP}s?{_GAP}:", re.IGNORECASE)
_SPACE = re.compile(r"\s")
_C0_OR_SPACE = "".join(map(chr, range(0x21)))

# A password with a bare slash, ? or # in it: what comes before that reads as a host and a port that is no number.
_CUT_SHORT = re.compile(r"(:[/\\]{2})[^\s/?#\\@:\[]*:(?=[0-9]*[^\s0-9/?#\\@])[^\s@]{1,256}@")

# A URL whose scheme was left out, at the start of the text. "mailto:" is the one scheme whose "@" hides nothing;
# http: is seen to above. After "word: " and "host:80 " there is prose.
_BARE = re.compile(r"^(?!\W*(?:mailto|https?):)[^\s/?#\\@:]+:(?![0-9]*\s)[^/?#\\]+@", re.IGNORECASE)


_hidden: set[str] = set()
_parameters: re.Pattern[str] | None = None


def hide_parameters(names: Iterable[str]) -> None:
    """Have the values of these parameters of queries and fragments masked from now on, in this whole process.

    Names never come off the list again: what one run of a process hides, no other one shows. Case is not told
    apart, and a name may be percent-encoded in the URL.
    """
    global _parameters  # noqa: PLW0603 - whoever writes a line anywhere must know
    _hidden.update(name.lower() for name in names)
    if _hidden:
        names_ = "|".join(map(_in_any_writing, sorted(_hidden, key=len, reverse=True)))
        _parameters = re.compile(rf"([?&;#](?:{names_})=)[^&;#\s]+", re.IGNORECASE)


def _in_any_writing(name: str) -> str:
    """A pattern for the name, each of its letters plain or percent-encoded (RFC 3986 2.1)."""
    return "".join(rf"(?:{re.escape(letter)}|{_encoded(letter)})" for letter in name)


def _encoded(letter: str) -> str:
    other = letter.upper() if letter.islower() else letter.lower()
    return "|".join("".join(f"%{byte:02X}" for byte in each.encode()) for each in (letter, other))


def mask_secrets(text: str) -> str:
    """Hide the userinfo of every URL in ``text``, and the parameters of ``hide_parameters``; idempotent."""
    if _parameters is not None and "=" in text:
        text = _parameters.sub(rf"\1{MASK}", text)
    if "@" not in text:
        return text
    text = _CUT_SHORT.sub(rf"\1{MASK}@", _RUN.sub(_masked, text))
    return _BARE.sub(f"{MASK}@", text)


def _masked(found: re.Match[str]) -> str:
    """A piece between two delimiters, without the userinfo that it begins with or has behind a bare ``http:``."""
    run, at = found[0], found[0].rfind("@")
    if at < 0:
        return run
    before = found.string[: found.start()]
    scheme = before.rstrip("/\\\t\n\r")
    begin = 0 if before[-1:] in ("/", "\\") and _ends_a_scheme(before, scheme) else _behind_http(run, at)
    if begin is None:
        return run
    userinfo = run[begin:at]
    space = _SPACE.search(userinfo)
    if space and ":" not in userinfo and _SPACE.search((before + run[:begin]).strip(_C0_OR_SPACE)):
        # A URL in prose: a space ends it, unless its password had begun.
        at = run.rfind("@", begin, begin + space.start())
    return run if at < 0 else f"{run[:begin]}{MASK}{run[at:]}"


def _ends_a_scheme(before: str, scheme: str) -> bool:
    """Whether slashes follow a colon, or are two at the beginning of the text."""
    return scheme.endswith(":") or (not scheme.strip(_C0_OR_SPACE) and len(before.strip(_C0_OR_SPACE)) >= 2)


def _behind_http(run: str, at: int) -> int | None:
    found = _HTTP.search(run, 0, at)
    return found.end() if found else None
