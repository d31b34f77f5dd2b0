"""What a robots.txt says (RFC 9309). In: its bytes, our name, a URL. Out: whether to ask for it, and how often.

Which lines are said to us is decided here, so that a name is matched whole; what they mean is protego's to say.

    rules = parse(body, "scraper")
    rules.allows("https://example.com/a?b=1")
    rules.crawl_delay_s

Must never: match another's name for ours; raise for what a server sent; take long over a pattern or a URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from protego import Protego

MAX_BYTES = 512 * 1024
"""How much of a robots.txt is read. RFC 9309 2.5 asks for 500 KiB at least."""

MAX_DELAY_S = 60.0
"""The longest delay that a robots.txt can ask for; more is taken as this much. The RFC has no delay at all, the
longest in earnest use are of half a minute, and an hour would make a list of 1,000 rows take six weeks."""

MAX_WORK = 20_000_000
"""Characters of all patterns with a wildcard times those of a URL: beyond it the URL counts as forbidden. What a
site may craft so takes some 20 ms; what is in use, 300 such patterns and a URL of 100 characters, has a tenth."""

_WORK_A_PATTERN = 200
"""What trying a pattern costs beside its characters, in characters of a URL."""

Reading = Literal["allow", "parse", "unreachable"]

_BYTES_A_CHARACTER = 32
"""Memory of parsed rules for each character of their lines: measured were 9 in long lines, 31 in short ones."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # wider than RFC 9309 2.2.1: img2dataset and others have digits
# All that protego takes for such a line, and it takes more than the RFC says.
_AGENT = re.compile(r"\s*user(?:-|\s+)?agent(?:\s*:|\s+|$)\s*([^\s/:]*)", re.IGNORECASE)
# What belongs to no group, and so does not end the naming of one: empty lines, and those that are no rules.
_APART = re.compile(
    r"\s*(?:sitemaps?|site-map|host)[\s:]|(?!\s*(?:di[as]|allow|crawl|request|visit))[^:]*$", re.IGNORECASE
)
_LINE_END = re.compile(r"\r\n|\r|\n")  # RFC 9309 2.2; str.splitlines knows others, which end no line here
_RAW = re.compile("[\udc80-\udcff\v\f\x1c-\x1e\x85\u2028\u2029]")
_ESCAPES = re.compile(r"(?:%[89A-Fa-f][0-9A-Fa-f])+")


def token_of(user_agent: str) -> str:
    """The name that robots.txt and X-Robots-Tag know us by: the beginning of our user agent."""
    found = _NAME.match(user_agent)
    return found[0] if found else ""


def after_status(status: int) -> Reading:
    """What an answer to the question for robots.txt amounts to (RFC 9309 2.3.1).

    ``allow``: there is none, and everything may be asked for: 4xx, and a 3xx that leads nowhere. ``unreachable``:
    nothing may. 429 is one of these, as Google has it: a server that wants fewer requests has not said that it has
    no robots.txt.
    """
    if 200 <= status < 300:
        return "parse"
    if 300 <= status < 500 and status != 429:
        return "allow"
    return "unreachable"


class Rules:
    """The rules that hold for us.

    Args:
        lines: what is said to us, without the lines that say to whom.

    Attributes:
        crawl_delay_s: seconds between two requests that the site asks for; None where it does not say.
        size: bytes of memory, as an estimate.
    """

    __slots__ = ("_protego", "_weight", "crawl_delay_s", "size")

    def __init__(self, lines: list[str]) -> None:
        text = "\n".join(["User-agent: *", *lines])
        self._protego = Protego.parse(text) if lines else None
        self._weight = sum(len(line) for line in lines if "*" in line)
        self.crawl_delay_s = None if self._protego is None else _delay_s(self._protego)
        self.size = _BYTES_A_CHARACTER * len(text)
        self.allows("http://localhost/")  # makes protego's index, which may take as long as the parsing

    def __repr__(self) -> str:
        return f"<Rules of about {self.size} bytes, delay {self.crawl_delay_s}>"

    def allows(self, url: str) -> bool:
        """Whether ``url`` may be asked for: the longest rule that matches decides, Allow before Disallow.

        Args:
            url: as it is dialled: absolute, quoted, with its query.
        """
        if self._protego is None:
            return True
        if self._weight * (len(url) + _WORK_A_PATTERN) > MAX_WORK:
            return False
        return self._protego.can_fetch(_with_bytes(url), "us")


ANYTHING: Final = Rules([])
"""Where nothing is said."""


def beginning(body: bytes) -> bytes:
    """As much of a robots.txt as is heeded: ``MAX_BYTES``, to the last line that is whole."""
    if len(body) <= MAX_BYTES:
        return body
    end = max(body.rfind(b"\n", 0, MAX_BYTES), body.rfind(b"\r", 0, MAX_BYTES))
    return body[: end + 1]


def parse(body: bytes, token: str) -> Rules:
    """The rules that hold for ``token``: of all groups with that name, or of those for everybody.

    Args:
        body: whatever was served, of which the ``beginning`` counts; what is no rule is passed over.
        token: our name, see ``token_of``.
    """
    text = beginning(body).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    text = _with_bytes(_RAW.sub(lambda found: _quoted(found[0]), text))
    own: list[str] = []
    everybodys: list[str] = []
    for names, line in _grouped(_LINE_END.split(text)):
        if token.lower() in names:
            own.append(line)
        if "*" in names:
            everybodys.append(line)
    lines = [line for line in own or everybodys if line]  # a group that only names us is ours as well
    return Rules(lines) if lines else ANYTHING


def _grouped(lines: list[str]) -> Iterator[tuple[set[str], str]]:
    """Each line that is said to somebody, with the names of its group; an empty one for the naming itself."""
    names: set[str] = set()
    naming = False
    for each in filter(None, lines):
        line = each.partition("#")[0]
        if found := _AGENT.match(line):
            if not naming:
                names = set()
            naming = True
            name = found[1].lower()
            names.add(name if name == "*" else name.rstrip("*"))
            yield names, ""
        elif not _APART.match(line):
            naming = False
            yield names, line


def _delay_s(protego: Protego) -> float | None:
    """The longer of Crawl-delay and what Request-rate comes to, whatever time of day that is for."""
    said = []
    delay = protego.crawl_delay("us")
    if delay is not None:
        said.append(min(delay, MAX_DELAY_S))
    rate = protego.request_rate("us")
    if rate is not None:  # whole numbers of any length: a quotient of two may be too large for a float
        is_long = rate.seconds >= rate.requests * int(MAX_DELAY_S)
        said.append(MAX_DELAY_S if is_long else rate.seconds / rate.requests)
    return max(said, default=None)


def _quoted(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _with_bytes(text: str) -> str:
    """The same with escaped bytes that are no UTF-8 escaped twice: to protego they would be all the same."""
    return _ESCAPES.sub(_without_utf8, text) if "%" in text else text


def _without_utf8(found: re.Match[str]) -> str:
    decoded = unquote_to_bytes(found[0]).decode("utf-8", "surrogateescape")
    return "".join(
        f"%25{ord(each) - 0xDC00:02X}" if "\udc80" <= each <= "\udcff" else _quoted(each) for each in decoded
    )
