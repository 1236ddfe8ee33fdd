"""ncnn's published vision-transformer times on processors of other people.

ncnn is not the runtime that the model describes, so a single factor (its time over the model's, at the
fewest threads) is taken from the *other* devices, and the rest is prediction: how processors differ, and how
time falls with threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from tetrasim.files.yaml import Scalar
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.lower import lower
from tetrasim.hw_targets.cpu.validation.graphs import Encoder, transformer
from tetrasim.sim.engine.static import run_static

CPU = Path(__file__).parent.parent
# 144 patches of 32 x 32 and the class token; the patch projection is the first linear layer's size apart.
VIT_B32_384 = Encoder(layers=12, width=768, heads=12, ffn=3072, tokens=145)


@dataclass(frozen=True, slots=True)
class NcnnRow:
    """One published time and ours, before and after the factor of the other devices."""

    device: str
    threads: int
    measured_ms: float
    model_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        return self.predicted_ms / self.measured_ms - 1


@lru_cache(maxsize=1)
def ncnn_rows() -> tuple[NcnnRow, ...]:
    """Every row of the table, predicted."""
    tree = yaml.safe_load((CPU / "measured" / "ncnn_vit.yaml").read_text(encoding="utf-8"))["devices"]
    raw: dict[str, dict[int, tuple[float, float]]] = {}
    for name, device in tree.items():
        base = load_preset(
            CPU / "presets" / f"{device['base'].partition('/')[2]}.yaml", device["base"], CpuConfig
        )
        raw[name] = {
            threads: (ms, _model_ms(base.config, {**device["overrides"], "threads": threads}))
            for threads, ms in device["rows"].items()
        }
    ratios = {name: _first_ratio(rows) for name, rows in raw.items()}
    out = []
    for name, rows in raw.items():
        others = [math.log(r) for n, r in ratios.items() if n != name]
        factor = math.exp(sum(others) / len(others))
        out += [NcnnRow(name, t, ms, model, model * factor) for t, (ms, model) in rows.items()]
    return tuple(out)


def _first_ratio(rows: dict[int, tuple[float, float]]) -> float:
    """Measured over modelled at the fewest threads."""
    measured, model = rows[min(rows)]
    return measured / model


def _model_ms(base: CpuConfig, overrides: dict[str, Scalar]) -> float:
    return run_static(lower(transformer(VIT_B32_384), with_overrides(base, overrides))).total_ps * 1e-9
