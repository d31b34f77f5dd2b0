"""Prints docs/outcomes.md: every way a row can end, from the closed list in ``scraper.errors``."""

from __future__ import annotations

import sys

from scraper.errors import OUTCOME_CLASSES, RETRIED_STATUSES, State

INTRODUCTION = """\
# How a row can end

Every row of a list ends as exactly one outcome, whatever happens on the way: rows in = ok + skipped + failed.
The list of classes is closed; it is written once, in `scraper/errors.py`, and `make docs` makes this page from it.

`scraper results OUT` prints the outcome of each row, `--state failed` those that count towards `--max-failed`,
and `--class http` all of a family. *Fault* says who would have to act for a later run to end differently.
*Asked again* says whether further attempts are made within the run (`--retries`).
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for state in State:
        parts.append(f"\n## {state}\n\n| class | fault | asked again | what it means |\n|---|---|---|---|\n")
        for each in OUTCOME_CLASSES.values():
            if each.state is state:
                again = "yes" if each.retry else "no"
                parts.append(f"| `{each.name}` | {each.fault} | {again} | {each.meaning} |\n")
        if state is State.FAILED:
            retried = ", ".join(str(status) for status in sorted(RETRIED_STATUSES))
            parts.append(f"| `http.<status>` | server | {retried} | The server answered with that status. |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
