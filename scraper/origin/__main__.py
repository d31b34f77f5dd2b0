"""The origin as a child process: its config in as one argument, its port out on stdout.

It ends when its stdin closes, and on Linux when its parent dies in any way. Must never outlive its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from scraper.errors import UsageError
from scraper.origin.server import run
from scraper.origin.settings import OriginConfig

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the line above: then nobody will ever tell us.
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Serve until the parent lets go."""
    told = json.loads(sys.argv[1])
    _die_with(told.pop("parent"))
    # Ctrl-C reaches the whole group of processes; the parent decides when its origin ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ready(port: int) -> None:
        os.write(sys.stdout.fileno(), b"%d\n" % port)

    try:
        run(OriginConfig(**told), ready=ready, stop_on=sys.stdin.fileno())
    except UsageError as error:
        sys.exit(str(error))
    # A picture that is still being painted is of no use to anyone: do not wait for its thread.
    os._exit(0)


if __name__ == "__main__":
    main()
