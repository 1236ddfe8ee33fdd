"""The front end shows one face: other packages import the package of a file format, never its modules."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tetrasim"
INSIDE = re.compile(r"tetrasim\.frontend\.\w+(?:\.\w+)+ import")


def test_other_packages_import_the_face() -> None:
    outside = [f for f in PACKAGE.rglob("*.py") if PACKAGE / "frontend" not in f.parents]
    found = [f.relative_to(PACKAGE).as_posix() for f in outside if INSIDE.search(f.read_text("utf-8"))]
    assert found == []


def test_the_simulator_does_not_know_onnx() -> None:
    """`sim/` holds neither ONNX's codes nor its library."""
    known = re.compile(r"^\s*(?:import onnx|from onnx)", re.MULTILINE)
    assert [f.name for f in (PACKAGE / "sim").rglob("*.py") if known.search(f.read_text("utf-8"))] == []
