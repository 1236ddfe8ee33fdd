"""A file of a few kilobytes costs neither hours nor memory: it is imported, or refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frontend.onnx.hostile_files import FILES

ROOT = Path(__file__).parents[3]
SECONDS = 20.0  # of processor time, on any machine


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, str]]:
    """One process with a limit of memory reads them all."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.frontend.onnx.hostile_files", str(folder)]
    # The command line, which other tests run in this process, forbids imports from the working folder.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: (float(seconds), said) for name, seconds, said in lines}


@pytest.mark.parametrize("name", FILES)
def test_hostile_file(name: str, outcomes: dict[str, tuple[float, str]]) -> None:
    seconds, said = outcomes[name]
    assert "defect" not in said
    assert said == "'ok'" or "refused" in said
    assert seconds < SECONDS
