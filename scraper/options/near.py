"""Which name was meant. In: a name that does not exist, and those that do. Out: the likely ones, or none.

Must never: guess where nothing is near. A wrong hint costs more than none: it sends people off to read about
something else.
"""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 4
"""More names than this are no hint."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name of which ``name`` is a misspelling: a slip for every four letters, and one in short names."""
    within = max(1, len(name) // 4)
    distances = ((_slips(name, each), each) for each in known if abs(len(each) - len(name)) <= within)
    slips, found = min(distances, default=(within + 1, ""), key=lambda one: one[0])
    return found if slips <= within and slips < len(name) else None


def likely(name: str, known: Iterable[str]) -> list[str]:
    """The known names that may be meant: the one it misspells, else those of which it is some of the words.

    ``format`` is no misspelling of ``input-format``, and one of its words.
    """
    names = list(known)
    found = nearest(name, names)
    if found is not None:
        return [found]
    words = [each for each in names if name and (each.startswith(f"{name}-") or each.endswith(f"-{name}"))]
    begun = [each for each in names if len(name) > 2 and each.startswith(name)]
    for some in (words, begun):
        if 0 < len(some) <= _MOST:
            return some
    return []


def either(names: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _slips(one: str, other: str) -> int:
    """Letters to add, drop, replace or swap with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
