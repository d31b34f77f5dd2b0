"""The faults the origin can commit, by name: a reply and a query in, the bent reply out.

``/img/photo/1.jpg?status=503&retry_after=2``: faults combine, and apply in the order of the table below,
each to what the ones before it left. To add one: a function, a line in FAULTS, a line in docs/origin.md.
Must never do I/O: a fault says what shall happen on the wire, the server makes it happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from scraper.origin.encodings import ENCODINGS, gzip_bomb
from scraper.origin.reply import Ending, Reply, text

MAX_WAIT_S = 3600.0
MAX_SIZE = 1 << 30
TAG = "tag"
"""The one query name that is no fault: it makes URLs differ, and changes nothing."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_UNITS_BYTES = {"k": 1024, "M": 1024**2, "G": 1024**3}


class BadFault(ValueError):
    """The query names a fault that does not exist, or gives it a value that it does not take."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The request a fault is applied to.

    Attributes:
        path: the path, without query.
        query: every pair of the query, in order.
        count: how often this very URL has been asked, this time included.
        chance: 0 to 1, from the seed, the URL and the count.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    count: int
    chance: float

    def with_value(self, name: str, value: str) -> str:
        """The same URL with one value of the query changed."""
        pairs = [(n, value if n == name else v) for n, v in self.query]
        return f"{self.path}?{urlencode(pairs)}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        takes: the form of its value, for people; empty if it stands alone.
        apply: bends the reply in place.
        on_hop: whether it also applies to the redirects before the thing itself.
    """

    takes: str
    apply: Callable[[Reply, str, Visit], None]
    on_hop: bool = False


def parse(query: str) -> tuple[tuple[str, str], ...]:
    """The pairs of a query string.

    Raises:
        BadFault: a name is not in the table; the message names those that are.
    """
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    for name, _ in pairs:
        if name not in FAULTS and name != TAG:
            raise BadFault(f"There is no fault {name!r}. Known are: {', '.join(sorted(FAULTS))}; and {TAG}.")
    return pairs


def bend(reply: Reply, visit: Visit) -> Reply:
    """Apply every fault of a query to a reply, in the table's order.

    Raises:
        BadFault: a value is not of the form that its fault takes.
    """
    values = dict(visit.query)
    hop = _redirect(visit, values)
    if hop is not None:
        reply = hop
    for name, fault in FAULTS.items():
        if name in values and (fault.on_hop or hop is None):
            fault.apply(reply, values[name], visit)
    return reply


def _redirect(visit: Visit, values: dict[str, str]) -> Reply | None:
    """The hop that stands before the thing itself, if the query asks for one."""
    said, target = values.get("redirect"), values.get("redirect_to")
    hops, _, status = (said or "1").partition(":")
    if hops == "loop":
        location = visit.with_value("redirect", said or "loop")
    elif _whole(hops, "redirect", 10_000) == 0 or (said is None and target is None):
        return None
    elif said is not None and int(hops) > 1:
        location = visit.with_value("redirect", f"{int(hops) - 1}{':' if status else ''}{status}")
    else:
        location = _header_value(target or "", "redirect_to") or visit.with_value("redirect", "0")
    reply = text("Over there.\n", status=_status(status or "302", "redirect"))
    reply.headers["Location"] = location
    return reply


# Values ------------------------------------------------------------------------------------------------


def seconds(value: str, name: str) -> float:
    """``200ms``, ``2s``, ``1m`` or plain seconds.

    Raises:
        BadFault: it is none of these, or over an hour.
    """
    unit = next((u for u in _UNITS_S if value.endswith(u)), "")
    try:
        number = float(value.removesuffix(unit)) * _UNITS_S.get(unit, 1.0)
    except ValueError:
        number = -1.0
    if not 0 <= number <= MAX_WAIT_S:
        raise BadFault(f"{name} takes a time up to an hour, such as 200ms or 2s, not {value!r}.")
    return number


def _octets(value: str, name: str, most: int = MAX_SIZE) -> int:
    unit = value[-1:] if value[-1:] in _UNITS_BYTES else ""
    number = value.removesuffix(unit)
    size = int(number) * _UNITS_BYTES.get(unit, 1) if number.isascii() and number.isdigit() else -1
    if not 0 <= size <= most:
        raise BadFault(f"{name} takes a size up to {most} bytes, such as 1000 or 10M, not {value!r}.")
    return size


def _whole(value: str, name: str, most: int) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= most):
        raise BadFault(f"{name} takes a whole number up to {most}, not {value!r}.")
    return int(value)


def _status(value: str, name: str) -> int:
    status = _whole(value, name, 999)
    if status < 200:
        raise BadFault(f"{name} takes a final status, from 200 to 999, not {value!r}.")
    return status


def _share(value: str, name: str) -> float:
    try:
        share = float(value or "0.5")
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise BadFault(f"{name} takes a fraction from 0 to below 1, such as 0.5, not {value!r}.")
    return share


def _alone(value: str, name: str) -> None:
    if value not in {"", "1"}:
        raise BadFault(f"{name} takes no value, not {value!r}.")


# What is in the answer ---------------------------------------------------------------------------------


def _answer_status(reply: Reply, value: str, _visit: Visit) -> None:
    reply.status = _status(value, "status")
    if reply.status >= 400:
        reply.replace_body(f"Status {reply.status}, as asked for.\n".encode(), "text/plain; charset=utf-8")
    elif reply.status in {204, 205, 304}:  # these have no body (RFC 9110 15.3.5, 15.3.6, 15.4.5)
        reply.replace_body(b"")


def _html(reply: Reply, value: str, _visit: Visit) -> None:
    _alone(value, "html")
    page = (
        b"<!doctype html><html><head><title>Sorry</title></head><body><h1>Not here any more</h1></body></html>\n"
    )
    reply.replace_body(page, "text/html; charset=utf-8")


def _garbage(reply: Reply, value: str, visit: Visit) -> None:
    size = _octets(value or "20000", "garbage", 1 << 26)
    reply.replace_body(hashlib.shake_128(f"garbage {visit.path}".encode()).digest(size))


def _empty(reply: Reply, value: str, _visit: Visit) -> None:
    _alone(value, "empty")
    reply.replace_body(b"")


def _bomb(reply: Reply, value: str, _visit: Visit) -> None:
    reply.replace_body(gzip_bomb(_octets(value or "100M", "bomb")))
    reply.headers["Content-Encoding"] = "gzip"


def _flaky(reply: Reply, value: str, visit: Visit) -> None:
    times, _, status = value.partition(":")
    if visit.count <= _whole(times, "flaky", 10_000):
        reply.status = _status(status or "500", "flaky")
        reply.replace_body(f"Failure {visit.count} of {times}.\n".encode(), "text/plain; charset=utf-8")


def _truncate(reply: Reply, value: str, _visit: Visit) -> None:
    reply.replace_body(reply.body[: int(len(reply.body) * _share(value, "truncate"))])


def _encoding(reply: Reply, value: str, _visit: Visit) -> None:
    names = value.split(",")
    for name in names:
        if name not in ENCODINGS or len(names) > 10:
            raise BadFault(f"encoding takes up to ten of {', '.join(ENCODINGS)}, with commas, not {value!r}.")
        reply.body = ENCODINGS[name](reply.body)
    had = reply.headers.get("Content-Encoding")
    reply.headers["Content-Encoding"] = ", ".join([had, *names] if had else names)


def _encoding_lie(reply: Reply, value: str, _visit: Visit) -> None:
    if not value.isascii() or not value.replace("-", "").isalnum():
        raise BadFault(f"encoding_lie takes the name of an encoding, not {value!r}.")
    reply.headers["Content-Encoding"] = value


def _cut_stream(reply: Reply, value: str, _visit: Visit) -> None:
    reply.body = reply.body[: int(len(reply.body) * _share(value, "encoding_cut"))]


# What its headers say ----------------------------------------------------------------------------------


def _header_value(value: str, name: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise BadFault(f"{name} takes printable ASCII, not {value!r}.")
    return value


def _type(reply: Reply, value: str, _visit: Visit) -> None:
    reply.headers["Content-Type"] = _header_value(value, "type")


def _retry_after(reply: Reply, value: str, _visit: Visit) -> None:
    reply.headers["Retry-After"] = _header_value(value, "retry_after")


def _header_bytes(reply: Reply, value: str, _visit: Visit) -> None:
    reply.headers["X-Padding"] = "x" * _octets(value, "header_bytes", 1 << 26)


# How it goes over the wire -----------------------------------------------------------------------------


def _delay(reply: Reply, value: str, _visit: Visit) -> None:
    reply.wait_s += seconds(value, "delay")


def _jitter(reply: Reply, value: str, visit: Visit) -> None:
    reply.wait_s += seconds(value, "jitter") * visit.chance


def _drip(reply: Reply, value: str, _visit: Visit) -> None:
    reply.drip = max(1, _octets(value, "drip"))


def _stall(reply: Reply, value: str, _visit: Visit) -> None:
    reply.stop_at, reply.stall_s = 0.5, seconds(value, "stall")


def _chunked(reply: Reply, value: str, _visit: Visit) -> None:
    _alone(value, "chunked")
    reply.chunked = True


def _cut(reply: Reply, value: str, _visit: Visit) -> None:
    reply.stop_at, reply.ending = _share(value, "cut"), Ending.CLOSE


def _cut_chunked(reply: Reply, value: str, _visit: Visit) -> None:
    reply.chunked = True
    reply.stop_at, reply.ending = _share(value, "cut_chunked"), Ending.CLOSE


def _reset(reply: Reply, value: str, _visit: Visit) -> None:
    reply.stop_at, reply.ending = _share(value, "reset"), Ending.RESET


def _close(reply: Reply, value: str, _visit: Visit) -> None:
    _alone(value, "close")
    reply.stop_at, reply.ending = -1.0, Ending.CLOSE


def _hang(reply: Reply, value: str, _visit: Visit) -> None:
    _alone(value, "hang")
    reply.ending = Ending.HANG


def _done_by_redirect(_reply: Reply, _value: str, _visit: Visit) -> None:
    """Redirects are settled before the table is gone through."""


FAULTS: dict[str, Fault] = {
    "redirect": Fault("N[:STATUS] or loop", _done_by_redirect),
    "redirect_to": Fault("URL", _done_by_redirect),
    "status": Fault("STATUS", _answer_status),
    "html": Fault("", _html),
    "garbage": Fault("[BYTES]", _garbage),
    "empty": Fault("", _empty),
    "bomb": Fault("[BYTES]", _bomb),
    "flaky": Fault("N[:STATUS]", _flaky),
    "truncate": Fault("FRACTION", _truncate),
    "encoding": Fault("NAME[,NAME…]", _encoding),
    "encoding_cut": Fault("FRACTION", _cut_stream),
    "encoding_lie": Fault("NAME", _encoding_lie),
    "type": Fault("TYPE", _type),
    "retry_after": Fault("VALUE", _retry_after),
    "header_bytes": Fault("BYTES", _header_bytes),
    "delay": Fault("TIME", _delay, on_hop=True),
    "jitter": Fault("TIME", _jitter, on_hop=True),
    "drip": Fault("BYTES", _drip),
    "stall": Fault("TIME", _stall),
    "chunked": Fault("", _chunked),
    "cut": Fault("FRACTION", _cut),
    "cut_chunked": Fault("FRACTION", _cut_chunked),
    "reset": Fault("[FRACTION]", _reset),
    "close": Fault("", _close),
    "hang": Fault("", _hang),
}
