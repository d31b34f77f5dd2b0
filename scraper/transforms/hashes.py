"""Digests of the body: one that it must have, and one that its items get as a column.

In: a Response and any transform. Out: that transform's items, or ``body.hash``. Must never: let a body pass whose
digest the list does not give, or that has another.

The sha256 of every body is taken anyway, where the ledger needs it (``scraper.worker``); what is asked for here is
one further pass over the body for each algorithm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scraper.config_results import DIGEST_CHARS, HashConfig
from scraper.errors import TransformFailed
from scraper.records import Item, Response
from scraper.transforms.around import Around

_BY_LENGTH = {chars: name for name, chars in DIGEST_CHARS.items()}
_SHOWN = 80


@dataclass(frozen=True)
class Hashed(Around):
    """A transform whose bodies are checked first.

    Attributes:
        inner: what is done with a body that is right. Inline it stays so: a digest takes 0.1 ms for 40 KB.
        hashes: which digests.
    """

    hashes: HashConfig

    def __call__(self, response: Response) -> Sequence[Item]:
        """Check, transform, and add the column.

        Raises:
            TransformFailed: body.hash, or what the transform raises.
        """
        taken: dict[str, str] = {}
        if self.hashes.column is not None:
            self._check(response, self.hashes.column, taken)
        items = self.inner(response)
        name = self.hashes.compute
        if not name:
            return items
        digest = taken.get(name) or _digest(name, response)
        return [replace(item, fields={**item.fields, name: digest}) for item in items]

    def _check(self, response: Response, column: str, taken: dict[str, str]) -> None:
        said = str(response.request.columns.get(column) or "").strip().lower()
        if not said:
            raise TransformFailed("body.hash", f"The list gives no digest in the column {column}.")
        name = self.hashes.algorithm or _BY_LENGTH.get(len(said), "")
        if not name or len(said) != DIGEST_CHARS[name]:
            what = f"no {name} digest" if name else "a digest of no known length"
            raise TransformFailed("body.hash", f"The column {column} holds {what}: {said[:_SHOWN]!r}.")
        taken[name] = _digest(name, response)
        if taken[name] != said:
            raise TransformFailed("body.hash", f"The {name} of the body is {taken[name]}, and not {said}.")


def _digest(name: str, response: Response) -> str:
    return hashlib.new(name, response.body, usedforsecurity=False).hexdigest()
