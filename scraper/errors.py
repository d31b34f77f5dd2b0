"""The error tree, and the closed list of the ways a row can end.

Imports nothing of ours. Two kinds of error live here, and they never mix:

    ScraperError                       everything this package raises on purpose
    ├── UsageError          exit 2     the user's mistake: say what, and what to type instead
    │   └── MissingExtra    exit 2     an optional library is not installed
    ├── RunStopped          exit 3     the run cannot go on; what is durable stays durable
    │   ├── SinkFailed                 the disk, or whatever stands for it, refused bytes
    │   └── InternalFault              our own mistake
    ├── OutputLocked        exit 4     another run is writing to the same output folder
    └── RowFailed                      one row ends; caught by the engine, never seen by the user as an error
        ├── InputInvalid               the list holds something that is no row
        ├── FetchFailed                the network or the server said no
        │   └── OutOfResources         this machine said no: the row is not to blame, and is asked again
        ├── TransformFailed            the bytes are not what the pipeline wants
        └── SinkRejected               this one result cannot be written; others can

Foreign errors (aiohttp, OSError, Pillow) are mapped to these in the one module that imports the library.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass


class State(enum.StrEnum):
    """What a row's end amounts to. Rows in = ok + skipped + failed."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


class Fault(enum.StrEnum):
    """Whose doing an outcome is: who has to act for it to change."""

    NOBODY = "nobody"
    LIST = "list"  # the row itself is wrong
    NETWORK = "network"  # between us and the server
    SERVER = "server"  # what the server did or served
    POLICY = "policy"  # a rule of ours, the site's or the user's
    OURS = "ours"  # our transform, our disk


@dataclass(frozen=True, slots=True)
class OutcomeClass:
    """One entry of the closed list.

    Attributes:
        name: the dotted name users see, e.g. ``connect.timeout``.
        state: ok, skipped or failed. Only failed counts towards ``--max-failed``.
        fault: who would have to act for a later run to end differently.
        retry: whether asking again within the same run can help.
        meaning: one sentence for the docs and ``scraper results``.
    """

    name: str
    state: State
    fault: Fault
    retry: bool
    meaning: str


def _table() -> dict[str, OutcomeClass]:
    ok, skipped, failed = State.OK, State.SKIPPED, State.FAILED
    rows = [
        ("ok", ok, Fault.NOBODY, False, "Fetched, transformed and written."),
        ("ok.not_modified", ok, Fault.NOBODY, False, "The server says the copy we hold is current."),
        ("duplicate.url", skipped, Fault.LIST, False, "An earlier row asks for the same URL."),
        ("duplicate.content", skipped, Fault.LIST, False, "An earlier row gave the same content."),
        ("duplicate.perceptual", skipped, Fault.LIST, False, "An earlier row gave a picture that looks the same."),
        ("robots.disallowed", skipped, Fault.POLICY, False, "The site's robots.txt forbids this URL."),
        ("optout.header", skipped, Fault.POLICY, False, "The response opts out through X-Robots-Tag."),
        ("filtered.size", skipped, Fault.POLICY, False, "Smaller than asked for."),
        ("filtered.pixels", skipped, Fault.POLICY, False, "Smaller or larger in pixels than asked for."),
        ("filtered.aspect", skipped, Fault.POLICY, False, "Longer and thinner than asked for."),
        ("filtered.type", skipped, Fault.POLICY, False, "Not one of the content types asked for."),
        ("filtered.function", skipped, Fault.POLICY, False, "The function named by --transform leaves it out."),
        ("out_of_scope", skipped, Fault.POLICY, False, "Outside the crawl's scope."),
        ("input.invalid", failed, Fault.LIST, False, "The list holds something that is no row."),
        ("url.invalid", failed, Fault.LIST, False, "Not a URL that can be dialled."),
        ("url.scheme", failed, Fault.LIST, False, "Only http and https are fetched."),
        ("address.blocked", failed, Fault.POLICY, False, "The address is not one we may dial."),
        ("dns.not_found", failed, Fault.LIST, False, "The host name does not exist."),
        ("dns.temporary", failed, Fault.NETWORK, True, "The name could not be looked up just now."),
        ("connect.refused", failed, Fault.SERVER, True, "Nothing listens at that address and port."),
        ("connect.timeout", failed, Fault.NETWORK, True, "No connection within the connect timeout."),
        ("connect.reset", failed, Fault.NETWORK, True, "The connection was cut before the response ended."),
        ("tls.verify", failed, Fault.SERVER, False, "The certificate is not valid for this host."),
        ("tls.handshake", failed, Fault.SERVER, True, "The TLS handshake failed."),
        ("protocol.malformed", failed, Fault.SERVER, False, "What came back is not HTTP."),
        ("protocol.header_too_large", failed, Fault.SERVER, False, "Response headers over the limit."),
        ("redirect.loop", failed, Fault.SERVER, False, "Redirected in a circle, or too often."),
        ("redirect.blocked", failed, Fault.POLICY, False, "Redirected to where we do not go."),
        ("body.empty", failed, Fault.SERVER, False, "A successful response with no body."),
        ("body.truncated", failed, Fault.NETWORK, True, "The body ended before it was complete."),
        ("body.too_large", failed, Fault.POLICY, False, "The body is over --max-bytes."),
        ("body.encoding", failed, Fault.SERVER, True, "The body is not in the encoding it claims."),
        ("body.bomb", failed, Fault.SERVER, False, "The body decompresses to more than --max-bytes."),
        ("body.hash", failed, Fault.SERVER, False, "The body has another digest than the list says."),
        ("timeout.stall", failed, Fault.NETWORK, True, "Too few bytes for too long."),
        ("timeout.total", failed, Fault.NETWORK, True, "Not complete within --timeout."),
        (
            "robots.unreachable",
            failed,
            Fault.SERVER,
            True,
            "robots.txt cannot be read, so nothing is fetched.",
        ),
        (
            "host.unavailable",
            failed,
            Fault.SERVER,
            True,
            "The host failed too often, or asked to wait too long.",
        ),
        ("image.not_image", failed, Fault.SERVER, False, "The body is not an image."),
        ("image.truncated", failed, Fault.SERVER, False, "The image data ends before the picture does."),
        ("image.decode", failed, Fault.SERVER, False, "The image data is damaged."),
        ("image.bomb", failed, Fault.POLICY, False, "More pixels than allowed, by its header."),
        ("image.format", failed, Fault.POLICY, False, "An image format that is not accepted."),
        ("page.encoding", failed, Fault.SERVER, False, "The page's text cannot be decoded."),
        ("transform.error", failed, Fault.OURS, False, "The transform raised an error."),
        ("transform.crashed", failed, Fault.OURS, False, "The transform killed its worker process."),
        ("transform.timeout", failed, Fault.OURS, False, "The transform did not finish in time."),
        ("sink.rejected", failed, Fault.OURS, False, "The result cannot be written under its name."),
    ]
    return {row[0]: OutcomeClass(*row) for row in rows}


OUTCOME_CLASSES: dict[str, OutcomeClass] = _table()
"""Every class but the family ``http.<status>``, in the order docs and reports show them."""

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Statuses that say "later", by RFC 9110 15.5-15.6, RFC 6585 4, RFC 8470 5.2, and Cloudflare's 52x."""


@functools.lru_cache(maxsize=1024)
def outcome_class(name: str) -> OutcomeClass:
    """Look a class up by its dotted name, the family ``http.<status>`` included.

    Raises:
        KeyError: the name is not on the closed list.
    """
    known = OUTCOME_CLASSES.get(name)
    if known is not None:
        return known
    family, _, digits = name.partition(".")
    if family != "http" or not (digits.isascii() and digits.isdigit() and 100 <= int(digits) <= 999):
        raise KeyError(name)
    status = int(digits)
    return OutcomeClass(
        name,
        State.FAILED,
        Fault.SERVER,
        status in RETRIED_STATUSES,
        f"The server answered with status {status}.",
    )


def in_family(name: str, family: str) -> bool:
    """Whether a class is the one named, or below it: ``http.404`` is in ``http.404`` and in ``http``."""
    return name == family or name.startswith(f"{family}.")


class ScraperError(Exception):
    """The root of every error this package raises on purpose."""

    exit_code = 3


class UsageError(ScraperError):
    """The user asked for something that cannot be done; the message says what to do instead."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional library is not installed."""

    def __init__(self, extra: str, wanted_for: str) -> None:
        super().__init__(f"{wanted_for} needs an extra: pip install 'scraper-pipelines[{extra}]'")
        self.extra = extra


class RunStopped(ScraperError):
    """The run cannot go on. What was durable stays durable; the same command resumes."""

    exit_code = 3


class SinkFailed(RunStopped):
    """The place the results go to refused them: disk full, read-only, I/O error."""


class InternalFault(RunStopped):
    """A mistake of ours, not of the list, the server or the machine."""


class OutputLocked(ScraperError):
    """Another run is writing to the same output folder."""

    exit_code = 4


class RowFailed(ScraperError):
    """One row ends here. Carries the outcome class; the engine turns it into an Outcome.

    Picklable, so that it crosses from a worker process as it is.
    """

    def __init__(self, class_: str, message: str = "") -> None:
        super().__init__(class_, message)
        self.class_ = class_
        self.message = message

    def __str__(self) -> str:
        return f"{self.class_}: {self.message}" if self.message else self.class_


class InputInvalid(RowFailed):
    """The list holds something that is no row."""


class FetchFailed(RowFailed):
    """The network or the server said no.

    Attributes:
        status: the HTTP status, where a response arrived, else 0.
        retry_after_s: seconds the server asked us to wait (RFC 9110 10.2.3), where it did.
    """

    def __init__(
        self, class_: str, message: str = "", *, status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(class_, message)
        self.status = status
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_fetch_failed, (self.class_, self.message, self.status, self.retry_after_s)


def _rebuild_fetch_failed(class_: str, message: str, status: int, retry_after_s: float | None) -> FetchFailed:
    return FetchFailed(class_, message, status=status, retry_after_s=retry_after_s)


class OutOfResources(FetchFailed):
    """This machine has no descriptors, buffers or memory left for a connection: fewer at once are called for."""

    def __reduce__(self) -> tuple[object, ...]:
        return OutOfResources, (self.class_, self.message)


class Postponed(FetchFailed):
    """Nothing was sent: the request is not to be made just now. It is no end of a row, and no attempt."""


class TransformFailed(RowFailed):
    """The bytes are not what the pipeline wants, or the transform itself failed."""


class SinkRejected(RowFailed):
    """This result cannot be written; others can."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a task group's group, in the order they were raised, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
