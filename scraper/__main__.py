"""``python -m scraper`` is ``scraper``."""

from __future__ import annotations

import sys

from scraper.cli import main

if __name__ == "__main__":  # workers import this module again, under another name
    sys.exit(main())
