"""A run that is killed again and again, then left to finish; ``python -m benchmarks kills`` is the long form."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which is not installed and lies beside the tests."""
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.kills

    return benchmarks.kills


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_g5_killed_again_and_again_a_run_ends_as_if_it_had_not_been(kills: ModuleType, tmp_path: Path) -> None:
    """Nothing is lost, doubled or torn; nothing recorded is asked again; what is was in flight, counted there."""
    ordeal = kills.Ordeal("webdataset", rows=200, kills=5, rows_per_shard=30, seed=3)
    survived = kills.survive(tmp_path, ordeal)
    assert survived.wrong == []
    assert len(survived.kills) == 5
    assert survived.in_the_middle >= 3
    assert survived.kills[-1].recorded > 30  # else there was nothing to lose, or to double
