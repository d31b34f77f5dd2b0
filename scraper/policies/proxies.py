"""Through which proxy a URL is asked. In: what the user said, and the environment if that was what. Out: a URL.

Must never: take a proxy from the environment unasked.
"""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL


class Proxies:
    """The proxies of a run.

    Args:
        said: a proxy's URL, ``env`` for what the environment names, empty for none.
        environment: the variables of the process.
    """

    def __init__(self, said: str, environment: Mapping[str, str]) -> None:
        self._said = said

    def of(self, url: URL) -> URL | None:
        """The proxy to ask ``url`` through; None for none."""
        return None
