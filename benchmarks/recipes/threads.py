"""``threads.py LIST OUT THREADS``: requests in a ``ThreadPoolExecutor``, as every tutorial writes it.

What is measured is this way of doing it: a connection for each URL, no retries, no checks, nothing durable.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests


def download(url: str, path: Path) -> None:
    """One URL to one file."""
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    path.write_bytes(response.content)


def main() -> None:
    """So many at once as there are threads."""
    urls = Path(sys.argv[1]).read_text().split()
    out = Path(sys.argv[2])
    out.mkdir()
    with ThreadPoolExecutor(int(sys.argv[3])) as pool:
        list(pool.map(download, urls, (out / str(row) for row in range(len(urls)))))


main()
