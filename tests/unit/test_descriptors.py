"""How many connections fit."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from scraper.descriptors import room_for
print(room_for(int(sys.argv[3])), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room"),
    [(64, 4096, 2000, 2000), (256, 256, 300, 160), (64, 64, 64, 4), (4096, 4096, 64, 64)],
)
def test_the_soft_limit_is_raised_and_the_hard_one_kept_to(soft: int, hard: int, wanted: int, room: int) -> None:
    """What the hard limit allows is used; beyond that, fewer fetches go on at once."""
    said = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(soft), str(hard), str(wanted)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert said.split() == [str(room), str(hard)]
