"""What only measurements tell: kernel starts and reached fractions of the peaks, per device and op class.

`calibration.yaml` is written by `benchmarks/fit_gpu.py`; it is read as data, never edited by hand. Entries
named after an architecture (`ada`) serve devices of that family that were never measured.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.gpu.attention import KERNELS, AttentionFit
from tetrasim.hw_targets.gpu.device import FORMATS
from tetrasim.hw_targets.gpu.gemm import GemmFit
from tetrasim.hw_targets.gpu.power import PowerFit
from tetrasim.hw_targets.gpu.vector import VectorFit

FILE = Path(__file__).with_name("calibration.yaml")

Fit = TypeVar("Fit", GemmFit, AttentionFit, VectorFit, PowerFit)


@dataclass(frozen=True)
class Calibration:
    """One entry: GEMM per format in the order of `FORMATS`, attention per kernel in that of `KERNELS`."""

    gemm: tuple[GemmFit, ...]
    attention: tuple[AttentionFit, ...]
    vector: VectorFit
    power: PowerFit


@cache
def calibration(name: str) -> Calibration:
    """The entry called `name`.

    Raises:
        UserError: no such entry, with the nearest name.
    """
    tree = _read()
    if name not in tree:
        raise UserError(f"unknown calibration '{name}'", where="calibration", hint=nearest(name, tree))
    entry = tree[name]
    gemm = entry["gemm"]
    fallback = {"tfloat32": "half", "float8": "half", "int8": "half", "float32": "half", "half": "float32"}
    rows = {f: _fit(GemmFit, gemm.get(f) or gemm[fallback[f]]) for f in FORMATS}
    return Calibration(
        tuple(rows[f] for f in FORMATS),
        tuple(_fit(AttentionFit, entry["attention"][kernel]) for kernel in KERNELS),
        _fit(VectorFit, entry["vector"]["all"]),
        _fit(PowerFit, entry["power"]["all"]),
    )


def forget() -> None:
    """Drop what was read: the file has been written again."""
    calibration.cache_clear()
    _read.cache_clear()


@cache
def _read() -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    tree: dict[str, dict[str, dict[str, dict[str, float]]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree


def _fit(kind: type[Fit], values: object) -> Fit:
    assert isinstance(values, dict)
    known = {f.name for f in fields(kind)}
    return kind(**{name: float(value) for name, value in values.items() if name in known})
