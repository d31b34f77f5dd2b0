"""Host names → addresses, without blocking the loop. In: a host name. Out: addresses, or why there are none.

aiodns asks the machine's name servers; /etc/hosts and localhost are honoured (c-ares reads them). Answers are kept
for as long as they say, within bounds; a name asked for several times at once is looked up once.

Whether the name servers answer at all is known here alone, and only here: rows of hosts whose names are kept go on
without them. So failures are counted, for whoever decides what to do about it.

Must never: keep or ask for more than a bound; call a name non-existent because a name server is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import aiodns

CACHED_HOSTS = 200_000
"""Some 100 MB at worst, and more hosts than most lists have."""

LOOKUPS = 128
"""At once. Local resolvers drop packets when asked for much more; what is dropped is asked for again."""

LOOKUP_S = 8.0
"""Longest look-up. c-ares by itself would take 13 s where one name server is silent and 32 s with three, measured:
longer than a connection may take, so that nobody would be left to hear of it."""

SLOW_S = 1.0
"""A look-up that was given up after so long counts as one in vain."""

UNANSWERED = 1_000
"""Names remembered that were looked up in vain since the last answer: as many as may be under way at once."""

SHORTEST_S = 60.0
"""Kept at least: a TTL of 0 would mean a look-up for every connection."""

LONGEST_S = 3_600.0

NOT_FOUND_S = 60.0
"""How long a name is taken not to exist."""

FAILED_S = 1.0
"""How long a failed look-up answers for the others that wait: long enough not to ask for each row, no longer."""

_TIMEOUT_S = 2.0
_TRIES = 3

_NO_SUCH_NAME = frozenset(
    {
        aiodns.error.ARES_ENOTFOUND,
        aiodns.error.ARES_ENODATA,
        aiodns.error.ARES_EBADNAME,
        aiodns.error.ARES_ENONAME,
    }
)


LACKING = {
    errno.EMFILE: "file descriptors: raise the limit (ulimit -n) or lower --concurrency",
    errno.ENFILE: "file descriptors, on the whole machine: lower --concurrency",
    errno.ENOBUFS: "network buffers: lower --concurrency",
    errno.ENOMEM: "memory: lower --concurrency",
}
"""Why there can be no socket just now, for want of something of this machine's own; and what to do about it."""


class HostNotFound(OSError):
    """The name does not exist, or has no address."""


class LookupFailed(OSError):
    """The name could not be looked up just now; ``errno`` is one of ``LACKING`` where this machine is to blame."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a look-up says.

    Attributes:
        addresses: in the order to try them (RFC 6724).
        ttl_s: how long it may be kept, before our own bounds.
    """

    addresses: tuple[str, ...]
    ttl_s: float


class Lookup(Protocol):
    """Asks for a name's addresses; ``family`` is AF_UNSPEC, AF_INET or AF_INET6.

    Raises HostNotFound or LookupFailed.
    """

    def __call__(self, host: str, family: int) -> Awaitable[Answer]:
        """Ask."""


class AresLookup:
    """Asks name servers.

    Args:
        nameservers: ``address`` or ``address:port``; by default the machine's.
        timeout_s: per server and try.
        tries: rounds over the servers.
    """

    def __init__(
        self, nameservers: tuple[str, ...] = (), timeout_s: float = _TIMEOUT_S, tries: int = _TRIES
    ) -> None:
        self._ares = aiodns.DNSResolver(
            nameservers or None, loop=asyncio.get_running_loop(), timeout=timeout_s, tries=tries
        )

    async def __call__(self, host: str, family: int) -> Answer:
        """Ask; see Lookup."""
        try:
            found = await self._ares.getaddrinfo(
                host, family=socket.AddressFamily(family), type=socket.SOCK_STREAM
            )
        except aiodns.error.DNSError as error:
            number, *says = error.args
            if number in _NO_SUCH_NAME:
                raise HostNotFound(None, f"{host} does not exist") from error
            lacking = _lacking() if number == aiodns.error.ARES_ECONNREFUSED else None
            raise LookupFailed(lacking, f"{host} could not be looked up: {says[0] if says else number}") from error
        if not found.nodes:
            raise HostNotFound(None, f"{host} has no address")
        # Link-local addresses need a zone that DNS cannot give; nothing else has one.
        addresses = tuple(node.addr[0].decode("ascii") for node in found.nodes)
        return Answer(addresses, float(min(node.ttl for node in found.nodes)))

    async def close(self) -> None:
        """Let go of sockets and of what is being asked."""
        await self._ares.close()


def _lacking() -> int | None:
    """What there is none left of for a socket. c-ares does not tell this from a name server that refuses."""
    try:
        socket.socket(type=socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno if error.errno in LACKING else None
    return None


class Resolver:
    """Keeps answers, and asks once for what several want to know.

    Args:
        lookup: asks; an AresLookup of our own by default.
        now: seconds on a clock that never goes back; the loop's by default.
        size: answers kept.

    Attributes:
        unanswered: names, with the family asked for, looked up in vain, for the first time each, since the last
            answer to any look-up. That there is no such name is an answer. A name that failed before and fails
            again is not in here: the rows left at the end of a run are those of others' dead name servers.
    """

    def __init__(
        self, lookup: Lookup | None = None, *, now: Callable[[], float] | None = None, size: int = CACHED_HOSTS
    ) -> None:
        self._own = AresLookup() if lookup is None else None
        self._lookup: Lookup = lookup or self._own  # type: ignore[assignment]  # one of them is there
        self._now = now or asyncio.get_running_loop().time
        self._size = size
        self._kept: dict[tuple[str, int], tuple[float, Answer | OSError]] = {}
        self._asking: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._answers = 0
        self.unanswered: dict[tuple[str, int], None] = {}
        self._permits = asyncio.BoundedSemaphore(LOOKUPS)

    def __repr__(self) -> str:
        return f"<Resolver {len(self._kept)} kept, {len(self._asking)} being looked up>"

    async def addresses(self, host: str, family: int = socket.AF_UNSPEC) -> tuple[str, ...]:
        """The addresses of ``host``, in the order to try them; at least one.

        Raises:
            HostNotFound: it has none.
            LookupFailed: nobody could say.
        """
        key = (host.lower(), int(family))
        while True:
            kept = self._kept.get(key)
            if kept is not None and self._now() < kept[0]:
                if isinstance(kept[1], OSError):
                    raise type(kept[1])(*kept[1].args)
                return kept[1].addresses
            others = self._asking.get(key)
            if others is None:
                return (await self._ask(key)).addresses
            # Not their result: should they be cancelled, the next of those who wait asks.
            await asyncio.wait([others])

    async def is_answered(self) -> bool:
        """Whether name servers answer: looks up one of ``unanswered``, whose turn it is.

        Not a name that they have answered before: a cache between here and them would answer in their place.
        True as well where some other look-up is answered meanwhile, or was before.
        """
        if not self.unanswered:
            return True
        key = next(iter(self.unanswered))
        self.unanswered[key] = self.unanswered.pop(key)  # to the end: the next time it is another's turn
        before = self._answers
        with contextlib.suppress(HostNotFound, LookupFailed):
            await self.addresses(*key)
        return self._answers > before

    async def close(self) -> None:
        """Let go of the name servers."""
        if self._own is not None:
            await self._own.close()

    async def _ask(self, key: tuple[str, int]) -> Answer:
        asked = self._asking[key] = asyncio.get_running_loop().create_future()
        since = float("inf")
        try:
            async with self._permits:
                since = self._now()
                answer = await self._within(LOOKUP_S, key)
        except HostNotFound as error:
            self._answered()
            self._keep(key, error, NOT_FOUND_S)
            raise
        except LookupFailed as error:
            self._failed(key, error)
            raise
        except asyncio.CancelledError:
            if self._now() - since >= SLOW_S:
                self._failed(key, LookupFailed(None, f"{key[0]} could not be looked up in time"))
            raise
        else:
            self._answered()
            self._keep(key, answer, min(max(answer.ttl_s, SHORTEST_S), LONGEST_S))
            return answer
        finally:
            del self._asking[key]
            asked.set_result(None)

    async def _within(self, seconds: float, key: tuple[str, int]) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self._lookup(*key)
        except TimeoutError:
            says = f"{key[0]} could not be looked up: no answer within {seconds:g} s"
            raise LookupFailed(None, says) from None

    def _answered(self) -> None:
        self._answers += 1
        for key in self.unanswered:  # may well be found now
            if isinstance(self._kept.get(key, (0.0, None))[1], LookupFailed):
                self._kept[key] = (self._now(), self._kept[key][1])
        self.unanswered.clear()

    def _failed(self, key: tuple[str, int], error: LookupFailed) -> None:
        _, before = self._kept.get(key, (0.0, None))
        is_first = not isinstance(before, LookupFailed)
        if is_first and error.errno not in LACKING and len(self.unanswered) < UNANSWERED:
            self.unanswered[key] = None
        self._keep(key, error, FAILED_S)

    def _keep(self, key: tuple[str, int], answer: Answer | OSError, seconds: float) -> None:
        self._kept.pop(key, None)  # to the end of the order
        self._kept[key] = (self._now() + seconds, answer)
        if len(self._kept) > self._size:
            del self._kept[next(iter(self._kept))]
