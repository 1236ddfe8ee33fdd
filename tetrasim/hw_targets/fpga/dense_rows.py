"""Dense layers that a vendor tool synthesised: the evidence of the fabric laws.

`data/dense_csynth.csv` holds Vivado HLS csynth results (VU13P, 5 ns; github:Dendendelen/wa-hls4ml-search,
results/results_resource.csv and results_latency.csv; numbers only).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROWS = Path(__file__).parent / "data" / "dense_csynth.csv"


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """What is asked for: sizes, weight bits, reuse factor, hls4ml strategy (`resource` or `latency`)."""

    strategy: str
    n_in: int
    n_out: int
    bits: int
    reuse: int

    @property
    def products(self) -> int:
        return self.n_in * self.n_out

    @property
    def shared(self) -> bool:
        """Made by hls4ml's Resource kernel, which walks a weight memory."""
        return self.strategy == "resource" and self.reuse > 1


@dataclass(frozen=True, slots=True)
class DenseRow:
    """One synthesised dense layer."""

    layer: DenseLayer
    latency_min: int
    latency_max: int
    interval: int
    lut: int
    ff: int
    dsp: int
    bram18: int


@cache
def rows() -> tuple[DenseRow, ...]:
    """All committed rows."""
    with ROWS.open(newline="") as file:
        return tuple(_row(list(r.values())) for r in csv.DictReader(file))


def _row(cells: list[str]) -> DenseRow:
    numbers = [int(c) for c in cells[1:]]
    return DenseRow(DenseLayer(cells[0], *numbers[:4]), *numbers[4:])


def shared_rows() -> tuple[DenseRow, ...]:
    """Resource strategy with reuse above 1."""
    return tuple(r for r in rows() if r.layer.shared)


def unrolled_rows() -> tuple[DenseRow, ...]:
    """Reuse 1, and the Latency strategy at any reuse factor: constant products."""
    return tuple(r for r in rows() if not r.layer.shared)
