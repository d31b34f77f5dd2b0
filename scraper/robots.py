"""What sites say in robots.txt (RFC 9309), asked for once and kept for a day. In: requests. Out: verdicts.

    async with Robots(path, token) as robots:
        verdict = robots.verdict(request)           of what is known; None: nothing is, or no longer
        await robots.learn(request, fetcher.fetch_robots)

One robots.txt holds for one origin: scheme, host and port. What was answered, be it "there is none", is kept for
24 hours in a SQLite file, by the wall's clock, and used from memory, parsed, as long as there is room. That an
answer could not be had is kept in memory for moments only: so a row that is retried asks anew, and a thousand rows
that wait do not. A file that is damaged, or not as it is made here, is deleted; everything is then asked anew.

Must never: let a row through on a guess; send along what the user meant for pages; block the event loop; fail for
what a server or the file says.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from scraper.answers import Answer, Ask, Failed, Fetched, Redirected
from scraper.database import Database, is_damage
from scraper.errors import FetchFailed, OutOfResources, Postponed, SinkFailed, in_family
from scraper.policies.robots import ANYTHING, MAX_BYTES, Rules, after_status, beginning, parse
from scraper.policies.urls import check
from scraper.records import Request

T = TypeVar("T")

KEPT_S = 24 * 3600.0
"""RFC 9309 2.4."""

MAX_REDIRECTS = 5
"""RFC 9309 2.3.1.2. After that many there is no robots.txt."""

HELD_ORIGINS = 10_000
HELD_BYTES = 64 * 1024 * 1024
"""Most that is held in memory, parsed. What goes comes back from the file in a millisecond."""

FIRST_WAIT_S, LAST_WAIT_S = 5.0, 300.0
"""How long it is kept that robots.txt could not be read: it doubles with each time in a row."""

HOST_WAIT_S = 0.25
"""How long it is kept that the host could not be reached. It does not grow: whether to leave a host alone is
decided elsewhere, for all its requests alike."""

MARGIN_S = 0.1
"""Rows come back so much later than what they wait for: their clock is another one."""

UNKEPT, UNKEPT_S = 256, 1.0
"""What was learned is written after so many, or so long; a crash costs no more than asking those again."""

PARSED_AT_ONCE = 16 * 1024
"""Bytes of a robots.txt that is parsed on the loop: some milliseconds. Most have less than one kilobyte."""

_ENTRY_BYTES = 1_000
_OWN = ("dns", "connect.refused", "connect.timeout", "tls", "address", "url")
"""What ends a row by its own name: nothing was asked, and robots.txt has no part in it."""

_TABLE = "CREATE TABLE robots (origin TEXT PRIMARY KEY, fetched_at REAL, status INTEGER, body BLOB)"
_PRAGMAS = """
PRAGMA trusted_schema = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""
_FIND = f"""
SELECT fetched_at, status, body FROM robots WHERE origin = ? AND typeof(fetched_at) = 'real'
AND typeof(status) = 'integer' AND typeof(body) = 'blob' AND length(body) <= {2 * MAX_BYTES}
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may be made.

    Attributes:
        allowed: it may. If not, and without an error, the site forbids it.
        crawl_delay_s: seconds between two requests that the site asks for; None where it does not say.
        error: why it is not known, and so not allowed. ``retry_after_s`` says when it is worth asking anew.
    """

    allowed: bool
    crawl_delay_s: float | None = None
    error: FetchFailed | None = None


class _Known:
    """What is known of an origin, for how long."""

    __slots__ = ("_no", "_rules", "_yes", "at", "error", "failures", "lasts_s", "size")

    def __init__(self, at: float, rules: Rules) -> None:
        self.at = at
        self.lasts_s = KEPT_S
        self.size = _ENTRY_BYTES + rules.size
        self._rules = rules
        self.error: FetchFailed | None = None
        self.failures = 0
        self._yes = Verdict(True, rules.crawl_delay_s)
        self._no = Verdict(False, rules.crawl_delay_s)

    @classmethod
    def failed(cls, at: float, error: FetchFailed, before: _Known | None) -> _Known:
        """That it could not be learned, after what was known before."""
        known = cls(at, ANYTHING)
        known.error = error
        known.failures = 1 + (before.failures if before else 0)
        known.lasts_s = HOST_WAIT_S
        if isinstance(error, Postponed):
            known.lasts_s = max(HOST_WAIT_S, error.retry_after_s or 0.0)
        elif error.class_ == "robots.unreachable":
            wait_s = min(FIRST_WAIT_S * 2.0 ** min(known.failures - 1, 10), LAST_WAIT_S)
            known.lasts_s = max(wait_s, error.retry_after_s or 0.0)
        return known

    def left_s(self, now: float) -> float:
        """Seconds for which this holds; 0 where it does not, be it for a clock that was set back."""
        age_s = now - self.at
        return self.lasts_s - age_s if 0 <= age_s < self.lasts_s else 0.0

    def verdict(self, url: str, left_s: float) -> Verdict:
        """What it means for a URL."""
        if self.error is not None:
            return Verdict(False, error=_later(self.error, left_s + MARGIN_S))
        return self._yes if self._rules.allows(url) else self._no


class Robots(Database):
    """What is known of all origins.

    Args:
        path: the file; its folder must be there.
        token: our name, see ``policies.robots.token_of``.
        now: the wall clock, in seconds.
    """

    def __init__(self, path: Path, token: str, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(path, "scraper-robots")
        self._token = token
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()  # the one that was used last is last
        self._bytes = 0
        self._learning: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._may_recall = True  # the file holds what memory does not
        self._unkept: list[tuple[str, float, int, bytes]] = []
        self._kept_at = 0.0

    def __repr__(self) -> str:
        return f"<Robots {self.path.name}: {len(self._known)} origins, about {self._bytes} bytes>"

    async def __aexit__(self, *error: object) -> None:
        with contextlib.suppress(SinkFailed):  # all that is lost is what can be asked again
            try:
                await self._keep_all()
            finally:
                await super().__aexit__(*error)

    def verdict(self, request: Request) -> Verdict | None:
        """Whether ``request.asked`` may be asked for; None if that must be learned first.

        A URL that cannot be dialled is not allowed, with that error.
        """
        try:
            url = check(request.asked)
        except FetchFailed as error:
            return Verdict(False, error=error)
        origin = f"{url.scheme}://{url.host_port_subcomponent}"  # without who asks
        known = self._known.get(origin)
        if known is None or not (left_s := known.left_s(self._now())):
            return None
        self._known.move_to_end(origin)
        return known.verdict(str(url), left_s)

    async def learn(self, request: Request, ask: Ask) -> bool:
        """Learn what holds for the origin of ``request.asked``: there is a verdict then, if only for a moment.

        Called for several requests of an origin at once, it asks once. Returns whether this call asked.

        Args:
            request: whose turn this takes.
            ask: makes one hop: ``Fetcher.fetch_robots``.

        Raises:
            SinkFailed: the disk refused.
        """
        try:
            url = check(request.asked)
        except FetchFailed:
            return False
        origin = f"{url.scheme}://{url.host_port_subcomponent}"
        async with self._learning.setdefault(origin, asyncio.Lock()):
            before = self._known.get(origin)
            if before is not None and before.left_s(self._now()):
                return False
            known = None
            if self._may_recall:
                await self._keep_all()
                known = await self._call(lambda: self._recall(origin))
            self._hold(origin, known or await self._asked(origin, request, ask, before))
            return known is None

    async def _asked(self, origin: str, request: Request, ask: Ask, before: _Known | None) -> _Known:
        # It has no URL of a row: so nothing that the user gave for a row's URL belongs to it (policies.origins).
        hop = Request(request.row, "", target=f"{origin}/robots.txt")
        answer = await ask(hop)
        redirects = 0
        while isinstance(answer, Redirected) and redirects < MAX_REDIRECTS:
            redirects += 1
            answer = await ask(answer.request)
        at = self._now()
        found = _found(answer, is_redirected=redirects > 0)
        if isinstance(found, FetchFailed):
            return _Known.failed(at, found, before)
        status, body = found
        self._unkept.append((origin, at, status, body))
        if len(self._unkept) >= UNKEPT or at - self._kept_at >= UNKEPT_S:
            self._kept_at = at
            await self._keep_all()
        if len(body) > PARSED_AT_ONCE:
            return await self._call(lambda: self._understood(at, status, body))
        return self._understood(at, status, body)

    async def _keep_all(self) -> None:
        """Write what was learned: together, for a trip to the thread costs as much as a request."""
        learned, self._unkept = self._unkept, []
        if learned:
            await self._call(lambda: self._keep(learned))

    def _hold(self, origin: str, known: _Known) -> None:
        """Put it into memory, and whatever was not used for the longest time out of it."""
        gone = self._known.pop(origin, None)
        self._bytes -= gone.size if gone else 0
        self._known[origin] = known
        self._bytes += known.size
        while len(self._known) > HELD_ORIGINS or (self._bytes > HELD_BYTES and len(self._known) > 1):
            _, gone = self._known.popitem(last=False)
            self._bytes -= gone.size
            self._may_recall = True

    # From here on: in the thread; parsing too where it is long, which takes up to a quarter of a second.

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SinkFailed(
                f"What sites say in robots.txt cannot be kept in {self.path}: {error}. "
                "Make room there and run the same command again."
            ) from error

    def _open(self) -> None:
        try:
            is_ours = self._begin()
        except sqlite3.DatabaseError:  # damaged, or no file of ours; should it be the disk, the next line says so
            is_ours = False
        if not is_ours:
            self._remake()

    def _begin(self) -> bool:
        """Open the file; False where it holds anything but our table, which might be made to do something."""
        self._db = db = sqlite3.connect(self.path, isolation_level=None)
        db.executescript(_PRAGMAS)
        if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            db.execute(_TABLE)
        if db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall() != [(_TABLE,)]:
            return False
        db.execute("DELETE FROM robots WHERE NOT fetched_at > ?", (self._now() - KEPT_S,))
        self._may_recall = db.execute("SELECT 1 FROM robots LIMIT 1").fetchone() is not None
        return True

    def _remake(self) -> None:
        self._delete()
        self._begin()

    def _despite_damage(self, work: Callable[[], T]) -> T:
        """Do it; where the file turns out to be damaged, once more with a new one."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._remake()
            return work()

    def _recall(self, origin: str) -> _Known | None:
        row = self._despite_damage(lambda: self._connection().execute(_FIND, (origin,)).fetchone())
        if row is None:
            return None
        at, status, packed = row
        body = _unpacked(packed)
        is_fresh = 0 <= self._now() - at < KEPT_S
        if body is None or not is_fresh or after_status(status) == "unreachable":
            return None
        return self._understood(at, status, body)

    def _keep(self, learned: Sequence[tuple[str, float, int, bytes]]) -> None:
        rows = [(origin, at, status, zlib.compress(body, 1)) for origin, at, status, body in learned]

        def insert() -> None:
            db = self._connection()
            db.execute("BEGIN")
            try:
                db.executemany("INSERT OR REPLACE INTO robots VALUES (?, ?, ?, ?)", rows)
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")

        self._despite_damage(insert)

    def _understood(self, at: float, status: int, body: bytes) -> _Known:
        return _Known(at, parse(body, self._token) if after_status(status) == "parse" else ANYTHING)


def _found(answer: Fetched | Answer, *, is_redirected: bool) -> tuple[int, bytes] | FetchFailed:
    """What came of asking: status and text, or why nothing did."""
    if isinstance(answer, Fetched):
        with answer.slot:
            return answer.response.status, beginning(bytes(answer.response.body))
    if not isinstance(answer, Failed):
        return 302, b""  # one redirect too many
    error = answer.error
    status = error.status
    if error.class_ in ("body.empty", "redirect.loop"):
        return status, b""
    if error.class_ == f"http.{status}" and after_status(status) == "allow":
        return status, b""
    is_own = not is_redirected and any(in_family(error.class_, family) for family in _OWN)
    if is_own or isinstance(error, OutOfResources | Postponed):
        return error
    return FetchFailed(
        "robots.unreachable",
        f"robots.txt cannot be read ({error.class_}): {error.message}",
        status=status,
        retry_after_s=error.retry_after_s,
    )


def _later(error: FetchFailed, wait_s: float) -> FetchFailed:
    """The same for one row, which is to come back when it can be asked anew."""
    if isinstance(error, OutOfResources):
        return OutOfResources(error.class_, error.message)
    return FetchFailed(error.class_, error.message, status=error.status, retry_after_s=wait_s)


def _unpacked(packed: bytes) -> bytes | None:
    """The text; None if it is damaged, or more than we would have kept."""
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, MAX_BYTES + 1)
    except zlib.error:
        return None
    return body if unpacking.eof and len(body) <= MAX_BYTES else None
