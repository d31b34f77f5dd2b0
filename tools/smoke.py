"""Three pictures from a local web server with the command line that was just installed.

In: the `scraper` to run and an output folder. Out: exit status 0 if all three came down. Uses the standard library
and the installed package only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scraper.origin.process import OriginProcess


def main(scraper: str, out: str) -> int:
    """Download, then look at what is there."""
    with OriginProcess() as origin:
        urls = [origin.url(f"/img/thumb/{number}.jpg") for number in range(3)]
        command = [scraper, "images", "-", "-o", out, "--workers", "1", "--allow-net", "127.0.0.0/8"]
        done = subprocess.run(command, input="\n".join(urls), text=True, timeout=120, check=False)
    pictures = sorted(Path(out).rglob("*.jpg"))
    if done.returncode != 0 or len(pictures) != len(urls):
        print(f"smoke: exit status {done.returncode}, {len(pictures)} of {len(urls)} pictures", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
