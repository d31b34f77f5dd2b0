"""What results must be to be kept: the options, and what they mean.

In: what the user said of duplicates, digests and a function of their own. Out: parts of the RunConfig.
Must never: import that function; that is done once the whole command is known to be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scraper.config_results import DIGEST_CHARS, DedupeConfig, HashConfig
from scraper.errors import UsageError
from scraper.options.near import nearest
from scraper.options.schema import option

_KINDS = ("url", "content", "perceptual", "none")
_TAKEN_ANYWAY = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOptions:
    """What results must be to be kept.

    Attributes:
        dedupe: What makes a row a duplicate of an earlier one, of these or none: url, it asks for the same;
            content, it gave the same bytes; perceptual, its picture looks the same, or perceptual:N, it differs in
            N of 64 bits at most.
        duplicates: What becomes of duplicates by content and look. mark writes them all the same, with a column
            duplicate_of.
        transform: A function of your own that keeps, drops or changes each result: my.module:function.
        verify_hash: Column with the digest that each body must have: COL, or COL:md5, sha1, sha256, sha512.
        compute_hash: A digest of the body that becomes a column, beside the sha256 that each row has.
    """

    dedupe: tuple[str, ...] = option(("url",), split=True, group="Results")
    duplicates: Literal["drop", "mark"] = option("drop", group="Results")
    transform: str | None = option(None, group="Results")
    verify_hash: tuple[str, ...] = option((), split=True, group="Results")
    compute_hash: Literal["sha256", "md5", "sha1", "sha512"] = option("sha256", group="Results")


def dedupe(said: KeptOptions) -> DedupeConfig:
    """What counts as a duplicate.

    Raises:
        UsageError: a kind is none, or has no such distance; or there would be nothing to mark.
    """
    kinds = {_kind(each): each.partition(":")[2] for each in said.dedupe}
    if not kinds or ("none" in kinds and len(kinds) > 1):
        raise UsageError("--dedupe none stands alone; leave it out, or leave out the others.")
    is_marked = said.duplicates == "mark"
    if is_marked and not kinds.keys() & {"content", "perceptual"}:
        raise UsageError(
            "--duplicates mark is for duplicates that are found once they are fetched: add --dedupe content, or "
            "--dedupe perceptual."
        )
    distance = kinds.get("perceptual")
    return DedupeConfig(
        url="url" in kinds,
        content="content" in kinds,
        perceptual=None if distance is None else int(distance or 0),
        mark=is_marked,
    )


def _kind(text: str) -> str:
    kind, colon, number = text.partition(":")
    if kind not in _KINDS:
        near = nearest(kind, _KINDS)
        hint = f" Did you mean {near}?" if near else ""
        raise UsageError(f"--dedupe takes {', '.join(_KINDS)}; {text!r} is none of them.{hint}")
    if colon and not (kind == "perceptual" and number.isascii() and number.isdigit()):
        raise UsageError(f"--dedupe {text}: only perceptual takes a number, as perceptual:4.")
    return kind


def hashes(said: KeptOptions) -> HashConfig:
    """Which digests are looked at, and which are taken.

    Raises:
        UsageError: the algorithm is none, or what was said is no column.
    """
    column, algorithm = _column(said.verify_hash)
    compute = "" if said.compute_hash == _TAKEN_ANYWAY else said.compute_hash
    return HashConfig(column, algorithm, compute)


def _column(said: Sequence[str]) -> tuple[str | None, str]:
    """``COL``, ``COL:ALGORITHM``, or img2dataset's ``["COL", "ALGORITHM"]``, whose word for nothing is None."""
    if not said or [each.lower() for each in said] == ["none"]:
        return None, ""
    if len(said) == 1:
        column, colon, algorithm = said[0].rpartition(":")
        said = (column, algorithm) if colon else (said[0], "")
    column, algorithm = said[0], said[-1].lower()
    if len(said) != 2 or not column or (algorithm and algorithm not in DIGEST_CHARS):
        raise UsageError(
            "--verify-hash wants a column of the list, and may say how its digests are made, as COL:md5; there is "
            f"{', '.join(DIGEST_CHARS)}."
        )
    return column, algorithm
