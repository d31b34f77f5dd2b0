"""What all fault tests have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _without_page(no_page: None) -> None:
    """They look at the ledger, the files and what servers were asked; none looks at a page."""
