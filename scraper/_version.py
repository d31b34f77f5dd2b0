"""Version and home page, alone in a file so that `scraper --version` imports nothing else."""

__version__ = "0.1.0"

HOMEPAGE = "https://scraper-pipelines.readthedocs.io"
"""Where the owner of a site can read what it is that asks; sent in the default user agent."""
