"""Cookies: those of the user's file, and those that servers set. In: URLs, Set-Cookie. Out: Cookie headers.

Must never: send one to a host it is not for; let one host fill the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from yarl import URL

from scraper.config import SecretsConfig


class Cookies:
    """The cookies of a run.

    Args:
        config: which there are.

    Raises:
        UsageError: the file cannot be read as cookies.
    """

    def __init__(self, config: SecretsConfig) -> None:
        self._config = config

    def header(self, url: URL, *, at_home: bool) -> str:
        """The Cookie header for a URL; empty for none.

        Args:
            url: what is asked.
            at_home: it has the origin of the row, and so have all hops that led there: what the user gave may go.
        """
        return ""

    def keep(self, url: URL, values: Sequence[str]) -> None:
        """Keep what a response to ``url`` set, as far as it may."""
