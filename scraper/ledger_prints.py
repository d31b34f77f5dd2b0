"""What the rows that were written look like: digests and prints, with an index of each, for finding duplicates.

In: prints of rows that the ledger is about to record, written in the same transaction. Out: rows that are
alike. Part of the ledger: SQL on its connection. Must never: know a print of a row that the ledger does not
hold; hold the prints of all rows in memory.

Only rows that are no duplicates are in here, so that whatever points to a row points to one that was written
for its own sake. ``prints`` says what a row is now; the two others are how it is found, and are put right with
it when a row that was asked again brings something else.

Each key falls anywhere in the index, so beyond the cache a row costs a page or two of the disk: docs/duplicates.md
has the figures.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from scraper.ledger_schema import Connection
from scraper.policies.prints import PRINT_BITS, Bands

DIGEST_BYTES = 16
"""Of a sha256: two of 10 million contents have the same ones with a chance of 1 in 7 * 10^24."""

_CACHE_KIB = 32 * 1024

_KEYS_AT_ONCE = 1024
"""Keys looked for in one statement. Many, since Python must win its interpreter back at each; not more, since
what is found under their keys is held at once."""

_ROWS_AT_ONCE = 256
"""Of three cells each, inserted in one statement: fewer than the 999 values that any SQLite takes."""

_HALF = 1 << (PRINT_BITS - 1)


class Print(NamedTuple):
    """What a row that is written looks like, as far as it is compared.

    Attributes:
        row: its number.
        digest: of its body, ``DIGEST_BYTES``; None where that is not compared, or is another row's already.
        dhash: of its picture; None likewise.
        is_anew: the row may have had others before.
    """

    row: int
    digest: bytes | None
    dhash: int | None
    is_anew: bool = False


class NewPrints(NamedTuple):
    """Prints to be written, and how they are to be found."""

    rows: Sequence[Print]
    bands: Bands


class Alike(NamedTuple):
    """Rows that are like what was looked for.

    Attributes:
        by_digest: the row with that digest.
        by_key: for each print those, with their rows, that share a key with it: all that are near, and others.
    """

    by_digest: Mapping[bytes, int]
    by_key: Mapping[int, Sequence[tuple[int, int]]]


def rows_alike(db: Connection, digests: Sequence[bytes], prints: Mapping[int, Collection[int]]) -> Alike:
    """Look for rows with these digests, and for prints that may be near these, each under its keys."""
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # of this connection, and only where prints are compared
    return Alike(_with_digests(db, digests), _with_keys(db, prints))


def _with_digests(db: Connection, digests: Sequence[bytes]) -> dict[bytes, int]:
    if not digests:
        return {}
    # One row of SQLite's for all, for the reason given at ledger_schema.insert.
    sql = f"""
        SELECT json_group_array(json_array(key, row)) FROM json_each(?2)
        CROSS JOIN contents ON digest = substr(?1, key * {DIGEST_BYTES} + 1, {DIGEST_BYTES})
    """  # noqa: S608 - constants
    (found,) = db.execute(sql, (b"".join(digests), json.dumps([0] * len(digests)))).fetchone()
    return {digests[index]: row for index, row in json.loads(found)}


def _with_keys(db: Connection, prints: Mapping[int, Collection[int]]) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    sql = """
        SELECT json_group_array(json_array(key, dhash, row)) FROM json_each(?) CROSS JOIN bands ON band = value
    """
    sought = [(print_, key) for print_, keys in prints.items() for key in keys]
    for at in range(0, len(sought), _KEYS_AT_ONCE):
        piece = sought[at : at + _KEYS_AT_ONCE]
        (text,) = db.execute(sql, (json.dumps([_signed(key) for _, key in piece]),)).fetchone()
        for index, dhash, row in json.loads(text):
            found.setdefault(piece[index][0], []).append((_unsigned(dhash), row))
    return found


def keep_prints(db: Connection, prints: NewPrints) -> None:
    """Write prints, within the caller's transaction; what a row had before goes."""
    rows, bands = prints
    _forget(db, [each.row for each in rows if each.is_anew], bands)
    told = [each for each in rows if each.digest is not None or each.dhash is not None]
    looks = ((each.row, each.digest, None if each.dhash is None else _signed(each.dhash)) for each in told)
    _insert(db, "prints (row, digest, dhash)", looks)
    digests = ((each.digest, each.row) for each in told if each.digest is not None)
    # The row that was first may have been asked again, and kept what it has: both have it then.
    _insert(db, "contents (digest, row)", digests, "ON CONFLICT (digest) DO UPDATE SET row = excluded.row")
    keys = (
        (_signed(key), _signed(each.dhash), each.row)
        for each in told
        if each.dhash is not None
        for key in bands.entered(each.dhash)
    )
    # In the order of the index: its pages are then touched one after the other.
    _insert(db, "bands (band, dhash, row)", sorted(keys))


def _forget(db: Connection, rows: Sequence[int], bands: Bands) -> None:
    """Remove what is known of some rows; few at a time, since only --refresh writes a row anew."""
    for row in rows:
        held = db.execute("SELECT digest, dhash FROM prints WHERE row = ?", (row,)).fetchone()
        if held is None:
            continue
        digest, dhash = held
        db.execute("DELETE FROM prints WHERE row = ?", (row,))
        db.execute("DELETE FROM contents WHERE digest = ? AND row = ?", (digest, row))
        keys = [] if dhash is None else bands.entered(_unsigned(dhash))
        for key in keys:
            db.execute("DELETE FROM bands WHERE band = ? AND dhash = ? AND row = ?", (_signed(key), dhash, row))


def _insert(db: Connection, table: str, rows: Iterable[Sequence[bytes | int | None]], otherwise: str = "") -> None:
    """Many rows to a statement, for the reason given at ledger_schema.insert."""
    cells = list(rows)
    for at in range(0, len(cells), _ROWS_AT_ONCE):
        piece = cells[at : at + _ROWS_AT_ONCE]
        marks = ",".join([f"({','.join('?' * len(piece[0]))})"] * len(piece))
        sql = f"INSERT INTO {table} VALUES {marks} {otherwise}"  # noqa: S608 - constants and marks
        db.execute(sql, [cell for row in piece for cell in row])


def _signed(bits: int) -> int:
    """64 bits as SQLite's integers hold them."""
    return bits - 2 * _HALF if bits >= _HALF else bits


def _unsigned(number: int) -> int:
    return number + 2 * _HALF if number < 0 else number
