"""Asking again rows that have ended: ``--retry-failed`` and ``--refresh``, checked.

In: what was said. Out: an ``Again``.
Must never: ask for nothing because a class is misspelt; begin what would spoil an output.
"""

from __future__ import annotations

from collections.abc import Iterable

from scraper.config import Again, Pipeline
from scraper.errors import OUTCOME_CLASSES, State, UsageError, outcome_class
from scraper.options.near import nearest


def again_of(retry_failed: Iterable[str] | None, refresh: bool) -> Again:
    """What is to be asked again.

    Args:
        retry_failed: classes and families; none of them for all failed rows, None for no row.
        refresh: as ``--refresh``.

    Raises:
        UsageError: a class is none of failures, or both are said.
    """
    if retry_failed is None:
        return Again(refresh=refresh)
    if refresh:
        raise UsageError("--refresh asks all failed rows again as well: leave out --retry-failed.")
    classes = sorted({each.removesuffix(".") for each in retry_failed})
    for each in classes:
        check_class(each, State.FAILED)
    return Again(tuple(classes))


def check_again(again: Again, pipeline: Pipeline, overwrite: bool) -> None:
    """Refuse what the output cannot do.

    Args:
        again: what is to be asked again.
        pipeline: makes the output.
        overwrite: the output is deleted first.

    Raises:
        UsageError: nothing is left to ask again, or the output cannot replace what it holds.
    """
    if again and overwrite:
        said = "--refresh" if again.refresh else "--retry-failed"
        raise UsageError(
            f"--overwrite deletes what an earlier run left, and asks for it all anew: leave out {said}."
        )
    if again.refresh and not getattr(pipeline.open_sink, "replaces", False):
        raise UsageError(
            "--refresh needs --output-format files: in an archive or a table a row that has changed cannot take "
            "the place of the old one. Start over with --overwrite, or choose another -o OUT."
        )


def check_class(name: str, state: State | None = None) -> None:
    """Refuse what is neither a class nor a family of classes, of that state or of any: no row could end as that.

    Raises:
        UsageError: it is not; the nearest right name is given.
    """
    classes = [each.name for each in OUTCOME_CLASSES.values() if state in (None, each.state)]
    families = sorted({each.partition(".")[0] for each in classes} | {"http"})
    if name.removesuffix(".") in families or _is_class(name, state):
        return
    near = nearest(name, [*classes, *families]) or nearest(name.partition(".")[0], families)
    hint = f"did you mean {near}?" if near else f"each begins with one of {', '.join(families)}."
    kind = "outcome class" if state is None else f"class of {state} rows"
    raise UsageError(f"There is no {kind} {name!r}; {hint}")


def _is_class(name: str, state: State | None) -> bool:
    try:
        return state in (None, outcome_class(name).state)
    except KeyError:
        return False
