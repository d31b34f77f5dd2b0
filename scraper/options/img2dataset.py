"""Options of img2dataset that have no counterpart here. In: a command line. Out: the same without them.

Where the value asks for what is done anyway, the option is dropped, so that a command ports by changing its name.
Must never: drop one that asks for something else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from scraper.errors import UsageError
from scraper.options.schema import dashed

ANY = "any"

MAY_BE_NONE = frozenset({"bbox-col", "caption-col", "compute-hash", "save-additional-columns", "verify-hash"})
"""Options of ours that img2dataset's commands give the value None to say nothing."""

INSTEAD = {
    "incremental-mode": "write --overwrite to start over; rows that are added to a list want another -o OUT",
    "disable-all-reencoding": "scraper files writes bodies as they came",
    "ignore-ssl-certificate": "name the hosts whose certificates are not to be verified, --insecure HOST",
    "user-agent-token": "the token is the beginning of --user-agent",
}
"""What to write instead, where there is something."""

NO_COUNTERPART: Mapping[str, Collection[str]] = {
    "disable-all-reencoding": ("False",),
    "distributor": ("multiprocessing",),
    "enable-wandb": ("False",),
    "ignore-ssl-certificate": ("False",),
    "incremental-mode": ("incremental",),
    "max-shard-retry": (ANY,),
    "oom-shard-count": ("5",),
    "subjob-size": (ANY,),
    "user-agent-token": ("None",),
    "wandb-project": (ANY,),
}
"""Option → the values that ask for what is done anyway. Once there is an option of that name, its line goes."""


def ported(arguments: Sequence[str]) -> list[str]:
    """The command line without options that change nothing here.

    Raises:
        UsageError: one of them asks for what is not done here.
    """
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*kept, argument, *rest]
        name, equals, value = argument.partition("=")
        accepted = NO_COUNTERPART.get(dashed(name[2:])) if name.startswith("--") else None
        if accepted is None and name.startswith("--") and dashed(name[2:]) in MAY_BE_NONE:
            said = value if equals else rest[0] if rest else ""
            if said == "None":
                del rest[: 0 if equals else 1]
                continue
        if accepted is None:
            kept.append(argument)
            continue
        if not equals:  # python-fire, which reads img2dataset's commands, takes a bare option for a switch
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        if ANY not in accepted and value.lower() not in {each.lower() for each in accepted}:
            way = INSTEAD.get(dashed(name[2:]), "leave it out")
            raise UsageError(f"img2dataset's {name} {value} has no counterpart: {way}.")
    return kept


def section() -> str:
    """The table for docs/options.md."""
    rows = []
    for name, values in NO_COUNTERPART.items():
        shown = "anything" if ANY in values else ", ".join(f"`{value}`" for value in values)
        rows.append(f"| `--{name.replace('-', '_')}` | {shown} |\n")
    return _HEAD + "".join(rows)


_HEAD = """
## Coming from img2dataset

Its commands port by changing `img2dataset` to `scraper images`: options have its names, in its spelling or with
dashes. These of its options have no counterpart. With a value that asks for what is done anyway they are passed
over, with any other they are refused.

| option | passed over with |
|---|---|
"""
