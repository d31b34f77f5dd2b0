"""Which results are duplicates of rows that were written, and what becomes of them.

In: batches of results, on their way to the sink. Out: the same, without the duplicates or with them marked; and
what the ledger is to keep of the others, so that later rows can be compared with them.

Who was first is decided here and nowhere else, by one task, in the order in which results are written. What is
decided is committed in one transaction with the outcomes it rests on (``scraper.ledger_prints``): a run that is
killed forgets both together, so that no duplicate points to a row that is not there.

Must never: take a row for a duplicate of itself, of one that the sink refused, or of one whose content has since
been replaced; take away a copy that an earlier run wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from scraper.config_results import DedupeConfig
from scraper.engines import endings
from scraper.errors import State
from scraper.ledger import Ledger
from scraper.ledger_prints import DIGEST_BYTES, Alike, NewPrints, Print
from scraper.policies.prints import PRINT_BITS, Bands, apart, nearest, parsed, tells_nothing
from scraper.records import Outcome, Result, key_of

DUPLICATE_OF = "duplicate_of"
"""The column of those that are marked: the key of the row they are like."""

Write = Callable[[Sequence[Result]], Awaitable[list[Outcome]]]


@dataclass(frozen=True, slots=True)
class _Look:
    """What of a result is compared, None for what is not; and the keys under which near prints are found."""

    digest: bytes | None = None
    dhash: int | None = None
    sought: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class _Twin:
    """The row that a result is like."""

    row: int
    class_: str
    message: str


class Duplicates:
    """Those of one run. Used by one task.

    Args:
        config: what counts as a duplicate.
        ledger: holds the prints of earlier rows.
    """

    def __init__(self, config: DedupeConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._distance = config.perceptual or 0
        self._bands = Bands(self._distance)
        self._forget_pending()

    def __repr__(self) -> str:
        return f"<Duplicates {self._config.text}, {len(self._fresh)} rows not committed>"

    def _forget_pending(self) -> None:
        self._fresh: list[Print] = []
        self._anew: set[int] = set()  # rows written again: what the ledger knows of them may no longer be so
        self._digests: dict[bytes, int] = {}
        self._prints: dict[int, list[tuple[int, int]]] = {}  # by key, as in the ledger

    def taken(self) -> NewPrints | None:
        """What the ledger is to commit with the outcomes written since this was called last; None for nothing."""
        fresh = self._fresh
        self._forget_pending()
        return NewPrints(fresh, self._bands) if fresh else None

    async def write(self, batch: Sequence[Result], write: Write) -> list[Outcome]:
        """Have ``write`` take a batch; its outcomes, in order.

        In rounds: a row that is like another of the batch waits until that one has been written, since the sink
        may refuse it. There is a second round where a batch holds duplicates within itself, which most do not.
        """
        outcomes: dict[int, Outcome] = {}
        looks = [self._look_of(result) for result in batch]
        # Those of which a copy is there go first: they are written in any case, and others may be like them.
        left = sorted(range(len(batch)), key=lambda index: not _has_copy(batch[index]))
        self._anew.update(result.outcome.row for result in batch if _has_copy(result) and result.items)
        while left:
            twins, left = self._parted(batch, looks, left, await self._alike([looks[index] for index in left]))
            written = await write([self._treated(batch[index], twin) for index, twin in twins.items()])
            for (index, twin), outcome in zip(twins.items(), written, strict=True):
                outcomes[index] = outcome
                self._learn(batch[index], outcome, looks[index], twin)
        return [outcomes[index] for index in range(len(batch))]

    def _look_of(self, result: Result) -> _Look:
        """What of a result is compared: nothing of one that brings no item."""
        if not result.items or result.outcome.state is not State.OK:
            return _Look()
        digest = dhash = None
        if self._config.content and result.outcome.sha256:
            digest = bytes.fromhex(result.outcome.sha256)[:DIGEST_BYTES]
        if self._config.perceptual is not None:
            dhash = parsed(result.items[0].fields.get("dhash"))
            if dhash is not None and tells_nothing(dhash, self._distance):
                dhash = None
        return _Look(digest, dhash, () if dhash is None else self._bands.sought(dhash))

    async def _alike(self, looks: Sequence[_Look]) -> Alike:
        digests = list({each.digest: None for each in looks if each.digest is not None})
        prints = {each.dhash: each.sought for each in looks if each.dhash is not None}
        if not digests and not prints:
            return Alike({}, {})
        return await self._ledger.alike(digests, prints)

    def _parted(
        self, batch: Sequence[Result], looks: Sequence[_Look], left: Sequence[int], alike: Alike
    ) -> tuple[dict[int, _Twin | None], list[int]]:
        """Of those that are left, the ones of which it is known what they are like, if anything; and the rest.

        The rest are like one before them in the batch, of which it is not known yet whether the sink takes it.
        """
        known: dict[int, _Twin | None] = {}
        unknown: list[int] = []
        digests: set[bytes] = set()
        prints: dict[int, list[int]] = {}
        for index in left:
            look = looks[index]
            twin = self._twin(batch[index], look, alike)
            if twin is None and (look.digest in digests or self._is_like_one_of(look, prints)):
                unknown.append(index)
                continue
            known[index] = twin
            if twin is None and look.digest is not None:
                digests.add(look.digest)
            if twin is None and look.dhash is not None:
                for key in self._bands.entered(look.dhash):
                    prints.setdefault(key, []).append(look.dhash)
        return known, unknown

    def _is_like_one_of(self, look: _Look, prints: Mapping[int, Sequence[int]]) -> bool:
        return look.dhash is not None and any(
            apart(look.dhash, other) <= self._distance for key in look.sought for other in prints.get(key, ())
        )

    def _twin(self, result: Result, look: _Look, alike: Alike) -> _Twin | None:
        """The row that a result is like, if there is one: one that is the same rather than one that looks so."""
        row = result.outcome.row
        if look.digest is not None:
            first = self._digests.get(look.digest)
            if first is None:
                first = self._if_current(alike.by_digest.get(look.digest))
            if first is not None and first != row:
                return _Twin(first, "duplicate.content", f"Row {first} gave the same content.")
        if look.dhash is not None:
            found = [each for each in alike.by_key.get(look.dhash, ()) if each[1] not in self._anew]
            for key in look.sought:
                found += self._prints.get(key, ())
            best = nearest(look.dhash, [each for each in found if each[1] != row], self._distance)
            if best is not None:
                first, bits = best
                by_how_much = f": {bits} of {PRINT_BITS} bits differ" if bits else ""
                sentence = f"Row {first} gave a picture that looks the same{by_how_much}."
                return _Twin(first, "duplicate.perceptual", sentence)
        return None

    def _if_current(self, row: int | None) -> int | None:
        return None if row in self._anew else row

    def _treated(self, result: Result, twin: _Twin | None) -> Result:
        """A result as the sink is to have it."""
        if self._config.mark and result.items:
            mark = {DUPLICATE_OF: None if twin is None else key_of(twin.row)}
            return replace(result, items=[replace(item, fields={**item.fields, **mark}) for item in result.items])
        if twin is None or _has_copy(result):
            return result  # where a copy is there, what is new of it takes its place, whatever else there is
        return endings.as_duplicate(result, twin.class_, twin.message)

    def _learn(self, result: Result, outcome: Outcome, look: _Look, twin: _Twin | None) -> None:
        """Note what was written, for the rows that come after it."""
        if not result.items or outcome.state is not State.OK:
            self._anew.discard(outcome.row)  # what is there of it is as it was
            return
        if twin is not None:
            look = _Look()
        row, is_anew = outcome.row, result.request.held is not None
        if look == _Look() and not is_anew:
            return
        self._fresh.append(Print(row, look.digest, look.dhash, is_anew))
        if look.digest is not None:
            self._digests[look.digest] = row
        if look.dhash is not None:
            for key in self._bands.entered(look.dhash):
                self._prints.setdefault(key, []).append((look.dhash, row))


def _has_copy(result: Result) -> bool:
    """Whether an earlier run wrote something for the row, which is still there."""
    held = result.request.held
    return held is not None and held.path is not None
