"""What results must be, and which of them are kept: duplicates, digests, the user's own function.

In: resolved values. Out: parts of ``scraper.config.RunConfig``, frozen and checked.
Must never: know how any of it is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

from scraper.errors import UsageError

DIGEST_CHARS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""The algorithms there are, and the hexadecimal digits of their digests (RFC 1321, FIPS 180-4)."""

LARGEST_DISTANCE = 8
"""Bits of 64. Beyond it pictures that have nothing in common are taken for the same: docs/duplicates.md."""


@dataclass(frozen=True, slots=True)
class DedupeConfig:
    """Which rows count as duplicates of earlier ones, and what becomes of them.

    Attributes:
        url: those that ask for the same; they are never asked.
        content: those whose body is, byte for byte, that of a row that was written.
        perceptual: those whose picture looks like one that was written: most bits of 64 in which their prints
            differ. None for not comparing.
        mark: duplicates by content and look are written all the same, with a column ``duplicate_of``.

    Raises:
        UsageError: the distance is out of range.
    """

    url: bool = True
    content: bool = False
    perceptual: int | None = None
    mark: bool = False

    def __post_init__(self) -> None:
        if self.perceptual is not None and not 0 <= self.perceptual <= LARGEST_DISTANCE:
            raise UsageError(f"--dedupe perceptual:N wants 0 to {LARGEST_DISTANCE} bits, not {self.perceptual}.")

    @property
    def compares_results(self) -> bool:
        """Whether rows are compared once they have been fetched."""
        return self.content or self.perceptual is not None

    @property
    def text(self) -> str:
        """The kinds as one types them, in full."""
        kinds = ["url"] * self.url + ["content"] * self.content
        if self.perceptual is not None:
            kinds.append(f"perceptual:{self.perceptual}")
        return ",".join(kinds) or "none"


@dataclass(frozen=True, slots=True)
class HashConfig:
    """Digests of bodies.

    Attributes:
        column: the list's column with the digest that each body must have; None for not verifying.
        algorithm: of that digest; empty for what its length says.
        compute: a digest that items get as a column of that name; empty for none beside the sha256 that each has.
    """

    column: str | None = None
    algorithm: str = ""
    compute: str = ""
