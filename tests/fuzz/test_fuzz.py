"""About a minute of the campaign of `benchmarks/fuzz.py`, with a seed of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import case, prepare
from tests.fuzz.kinds import KINDS

CASES = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    prepare(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_inputs(kind: str, base: Path) -> None:
    """Exit code 0 or 2, no traceback, no hang, no partial output or stray file, no nonsense."""
    verdicts = [case(kind, f"suite.{i}", base) for i in range(CASES)]
    faults = [f"{v.seed} {v.command}: {v.faults} {v.said[-600:]}" for v in verdicts if v.faults]
    assert faults == []
    assert {v.code for v in verdicts} <= {0, 2}
