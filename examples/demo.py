"""`make demo`: 500 photographs from the built-in web server become a WebDataset in demo-out/.

Run it with `python examples/demo.py [OUT]`. It starts the server on a free port, writes a list of its photographs,
and then runs the command that it prints: what you would type yourself.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from scraper.origin.lists import write_list
from scraper.origin.process import OriginProcess

PHOTOGRAPHS = 500


def main(out: str = "demo-out") -> int:
    """Serve, download, say where to look."""
    print("Starting a local web server with photographs; painting them takes some seconds the first time.")
    with OriginProcess() as origin, tempfile.TemporaryDirectory() as folder:
        origin.warm("photo")
        urls = Path(folder, "photographs.txt")
        write_list(urls, origin.base, rows=PHOTOGRAPHS)
        # --allow-net: nothing on this machine or in its neighbourhood is asked unless that opens it.
        # --overwrite: the port is another one each time, so the list is too.
        options = ["-o", out, "--output-format", "webdataset", "--allow-net", "127.0.0.0/8", "--overwrite"]
        print(f"\n$ scraper images {urls} {' '.join(options)}", flush=True)
        command = [sys.executable, "-m", "scraper", "images", str(urls), *options]
        # Ctrl-C reaches the command as well, which ends in its own time: it is waited for. A function rather than
        # SIG_IGN, which the command would inherit.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        status = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
    if status == 0:
        print(f"\nThe dataset is {out}/00000.tar; what happened, with a contact sheet: {out}/report.html")
        print(f"Row by row: .venv/bin/scraper results {out} | head -3")
        print("The same by hand: .venv/bin/scraper origin, and beside it")
        print("    .venv/bin/scraper images urls/demo.txt -o out --allow-net 127.0.0.0/8")
    else:
        print("\nThe demo's web server and list are gone with it: start over with make demo.")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:  # while the pictures were painted
        sys.exit(130)
