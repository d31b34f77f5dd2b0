"""A transform round another one: what ``hashes`` and ``user`` have in common.

In: the transform inside. Out: its ways, for whoever does something before or after it.
Must never: change one of them unless the one round it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from scraper.protocols import Transform


@dataclass(frozen=True)
class Around:
    """What a Transform may say of itself, as the one inside says it. ``__call__`` is for the one round it.

    Attributes:
        inner: the transform inside.
    """

    inner: Transform

    @property
    def inline(self) -> bool:
        """See Transform."""
        return self.inner.inline

    @property
    def preload(self) -> tuple[str, ...]:
        """See Transform."""
        return getattr(self.inner, "preload", ())

    @property
    def prints(self) -> bool:
        """See Transform."""
        return getattr(self.inner, "prints", False)

    def warm_up(self) -> None:
        """See Transform."""
        self.inner.warm_up()
