"""What travels: frozen, slotted, picklable; no behaviour beyond naming.

    source ─Request─▶ frontier ─Request─▶ fetch ─Response─▶ transform ─Items─▶ sink ─Outcome─▶ ledger

A row of the list is one Request, and ends as exactly one Outcome, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scraper.errors import OutcomeClass, RowFailed, State, TransformFailed, outcome_class
from scraper.whatwg import place_of

KEY_DIGITS = 9
"""Digits of a row's key: a billion rows sort by name as they do by number."""


def key_of(row: int) -> str:
    """The row's name on disk: its number, nine digits."""
    return f"{row:0{KEY_DIGITS}d}"


@dataclass(frozen=True, slots=True)
class Held:
    """What an earlier run has of a row that is asked again: lets a server say that nothing has changed.

    A row that failed has a Held too, which holds nothing: it has ended before, and sinks need not list it twice.

    Attributes:
        url: where the copy came from, redirects followed; its validators mean something only there.
        etag: as the server gave it (RFC 9110 8.8.3), empty for none.
        last_modified: the same (RFC 9110 8.8.2).
        path: where its first item is, relative to the output folder; what replaces it may have another name.
    """

    url: str
    etag: str = ""
    last_modified: str = ""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A row of the list, and how far asking for it has come.

    Attributes:
        row: 0-based number of the row in the list; the row's identity across runs.
        url: the URL as the list gave it.
        caption: text that belongs to the row (``--caption-col``), if any.
        columns: the further columns that travel with the row to the output.
        line: 1-based line, or row-group position, in the source, for messages.
        target: the absolute URL to ask now: ``url`` at first, then where redirects lead.
        hops: the URLs asked before ``target`` in this attempt, oldest first.
        attempt: 1 for the first time of asking.
        spent_s: seconds this attempt has used up on earlier hops; counts towards the deadline.
        excused: attempts that failed for our or the network's sake, and so are not counted in ``attempt``.
        held: what an earlier run has of the row, where it is asked again.
    """

    row: int
    url: str
    caption: str | None = None
    columns: Mapping[str, object] = field(default_factory=dict)
    line: int = 0
    target: str = ""
    hops: tuple[str, ...] = ()
    attempt: int = 1
    spent_s: float = 0.0
    excused: int = 0
    held: Held | None = None

    def again(self) -> Request:
        """The next attempt: from the row's own URL, with the attempt counted."""
        return replace(self, target="", hops=(), attempt=self.attempt + 1, spent_s=0.0)

    def uncounted(self) -> Request:
        """The same attempt anew, from the row's own URL: what ended it was not the row's doing."""
        return replace(self, target="", hops=(), excused=self.excused + 1, spent_s=0.0)

    def redirected(self, target: str, spent_s: float) -> Request:
        """The next hop of the same attempt."""
        return replace(self, target=target, hops=(*self.hops, self.asked), spent_s=spent_s)

    @property
    def asked(self) -> str:
        """The URL to dial now."""
        return self.target or self.url

    @property
    def host(self) -> str:
        """``host:port`` of the URL to dial now: what shares permits.

        Empty when the URL cannot be dialled; such a row fails before any permit is taken.
        """
        return place_of(self.asked)


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of the last attempt went, in milliseconds. Zero for what a warm connection spares."""

    dns_ms: float = 0.0
    connect_ms: float = 0.0
    tls_ms: float = 0.0
    first_byte_ms: float = 0.0
    total_ms: float = 0.0


NO_TIMINGS = Timings()


Place = tuple[int, int]
"""Where a body is in memory that is shared: the offset of its first byte, and how many there are."""


@dataclass(frozen=True, slots=True)
class Response:
    """One complete, decoded response.

    Attributes:
        request: what was asked; ``request.row`` is the row this belongs to.
        url: the final URL, after redirects.
        status: HTTP status, always 2xx here: anything else is a FetchFailed.
        headers: response headers, names in lower case, the first value of each.
        body: the bytes after content decoding. In a worker this may be a read-only view of shared memory, valid
            only while the transform runs: copy what must outlive it. A view that is kept raises ValueError
            afterwards; an item that keeps a part of one, as a slice or an array, ends as ``transform.error``.
        wire_bytes: bytes of the body as they came over the network, before decoding.
        timings: where the time went.
        place: where workers find the body, if it is in memory that they share. Nothing to a transform.
    """

    request: Request
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes | memoryview
    wire_bytes: int = 0
    timings: Timings = NO_TIMINGS
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to write.

    Attributes:
        data: the bytes; empty for a record that is all fields. A transform that has the body written as it came
            gives ``response.body`` itself, which is not copied then; any other view is. In a sink it may be a view
            that is valid until ``write`` returns: it must be written, or copied, by then.
        extension: file name extension without its dot, taken from the content, never from the URL.
        fields: what is known about the data (width, height, exif, …); values are JSON values.
    """

    data: bytes | memoryview
    extension: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transformed:
    """What a worker answers for one response.

    Attributes:
        items: what is to be written; empty if ``error`` is set.
        sha256: hex digest of ``response.body``, taken in the worker because it costs as much as a small fetch.
        error: why there are no items.
        busy_s: seconds of wall time that this response took in the worker, for predicting the next ones.
    """

    items: Sequence[Item] = ()
    sha256: str | None = None
    error: TransformFailed | None = None
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row ended. Exactly one for each row of the list.

    Attributes:
        row: the row's number.
        url: the URL as the list gave it.
        class_: dotted name from the closed list in ``scraper.errors``.
        status: HTTP status of the last response, 0 if none came.
        attempts: times of asking, 0 if nothing was asked.
        bytes: size of the body after decoding.
        sha256: hex digest of that body, where there was one.
        path: where the first item is, relative to the output folder; inside the shard if there is one.
        shard: the archive that holds the item, relative to the output folder.
        timings: of the last attempt.
        final_url: where redirects led, if anywhere else than ``url``.
        message: one sentence for people, empty for ok.
        line: 1-based line in the list.
        etag: the response's ETag, for asking again whether it has changed; None where there was none.
        last_modified: the response's Last-Modified, likewise.
    """

    row: int
    url: str
    class_: str
    status: int = 0
    attempts: int = 0
    bytes: int = 0
    sha256: str | None = None
    path: str | None = None
    shard: str | None = None
    timings: Timings = NO_TIMINGS
    final_url: str | None = None
    message: str = ""
    line: int = 0
    etag: str | None = None
    last_modified: str | None = None

    @property
    def key(self) -> str:
        """The row's name on disk."""
        return key_of(self.row)

    @property
    def outcome_class(self) -> OutcomeClass:
        """The class with what it implies."""
        return outcome_class(self.class_)

    @property
    def state(self) -> State:
        """ok, skipped or failed."""
        return self.outcome_class.state

    def placed(self, path: str, shard: str | None = None) -> Outcome:
        """The same outcome, knowing where its bytes are."""
        return replace(self, path=path, shard=shard)

    def rejected(self, error: RowFailed) -> Outcome:
        """The same row, ended by ``error`` instead."""
        return replace(self, class_=error.class_, message=error.message, path=None, shard=None)


@dataclass(frozen=True, slots=True)
class Result:
    """A row on its way to the sink: how it ended, and what is to be written for it.

    ``items`` is empty for a row that failed or was skipped; sinks that list every row write one all the same.
    ``disposition`` is the response's Content-Disposition as it came, for sinks that name files by it.
    """

    request: Request
    outcome: Outcome
    items: Sequence[Item] = ()
    disposition: str = ""
