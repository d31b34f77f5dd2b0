"""What the origin is about to send, as data: pages and pictures make it, faults bend it, the server sends it.

Must never do I/O: a reply says what shall happen on the wire, it does not make it happen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
"""One fixed date for everything: what never changes needs no other."""

VALIDATORS = ("ETag", "Last-Modified")


class Ending(enum.Enum):
    """How the sending ends."""

    COMPLETE = enum.auto()  # the whole body, the connection stays open
    CLOSE = enum.auto()  # FIN where the sending stopped
    RESET = enum.auto()  # RST where the sending stopped
    HANG = enum.auto()  # not a byte, and no end


@dataclass(slots=True)
class Reply:
    """One answer, and how it goes over the wire.

    Attributes:
        status: the HTTP status.
        headers: all but Content-Length and Transfer-Encoding, which follow from the body.
        body: the bytes, as framed; faults that damage the content do it here.
        wait_s: seconds before the first byte of the headers.
        chunked: Transfer-Encoding instead of Content-Length.
        stop_at: the share of the body after which ``ending`` or ``stall_s`` happens; 1 is all of it,
            and less than 0 is before the headers.
        stall_s: seconds of silence at ``stop_at``, after which the rest follows.
        drip: bytes a second; 0 is as fast as it goes.
        ending: what happens at the end, or at ``stop_at``.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    chunked: bool = False
    stop_at: float = 1.0
    stall_s: float = 0.0
    drip: int = 0
    ending: Ending = Ending.COMPLETE

    @property
    def is_plain(self) -> bool:
        """Whether nothing odd happens on the wire."""
        return self.ending is Ending.COMPLETE and not self.chunked and not self.stall_s and not self.drip

    @property
    def has_headers(self) -> bool:
        """Whether anything is sent at all."""
        return self.stop_at >= 0 and self.ending is not Ending.HANG

    def replace_body(self, body: bytes, content_type: str | None = None) -> None:
        """Put other bytes in; what vouched for the old ones goes."""
        self.body = body
        for name in VALIDATORS:
            self.headers.pop(name, None)
        if content_type is not None:
            self.headers["Content-Type"] = content_type


def text(body: str, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> Reply:
    """A reply of text."""
    return Reply(body.encode(), status, {"Content-Type": content_type})
