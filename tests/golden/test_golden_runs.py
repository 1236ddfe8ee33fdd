"""Every number of a report, every program and every HLS project of some sixty combinations is as it was.

After a fault is mended: `python tests/golden/record.py --write NAME …`; the commit says which fault it was.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.combinations import COMBINATIONS
from golden.record import RUNS, difference

# The large presets are exported with torch, which takes minutes.
MARKED = [
    pytest.param(name, marks=pytest.mark.slow if combination.slow else ())
    for name, combination in COMBINATIONS.items()
]


@pytest.mark.parametrize("name", MARKED)
def test_a_run_is_as_recorded(name: str, tmp_path: Path) -> None:
    assert difference(name, tmp_path) == []


def test_every_golden_has_its_combination() -> None:
    recorded = {file.stem for file in RUNS.glob("*.txt")}
    assert recorded <= set(COMBINATIONS)
    assert {name for name, combination in COMBINATIONS.items() if not combination.slow} <= recorded
