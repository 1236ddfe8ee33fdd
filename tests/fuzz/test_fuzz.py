"""About a minute of the campaign of `benchmarks/fuzz.py`, with a seed of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import mutate
from tests.fuzz.harness import case, prepare
from tests.fuzz.kinds import KINDS

CASES = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    prepare(folder)
    return folder


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "command_line"])
def test_what_is_mutated_is_good(kind: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mutation every kind is accepted: mutating what is refused anyway would say nothing."""
    for name in ("data", "text", "tree", "table", "onnx_fields"):
        monkeypatch.setattr(mutate, name, lambda _rng, given: given)
    verdicts = [case(kind, f"good.{i}", base) for i in range(2)]
    assert [(v.code, v.faults) for v in verdicts] == [(0, ())] * 2, verdicts[0].said


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_inputs(kind: str, base: Path) -> None:
    """Exit code 0 or 2, no traceback, no hang, no partial output or stray file, no nonsense."""
    verdicts = [case(kind, f"suite.{i}", base) for i in range(CASES)]
    faults = [f"{v.seed} {v.command}: {v.faults} {v.said[-600:]}" for v in verdicts if v.faults]
    assert faults == []
    assert {v.code for v in verdicts} <= {0, 2}
