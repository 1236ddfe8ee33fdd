"""The model against the measurements that ship: rows that were left out of the fit.

Classes: GEMM by format and by the size of the result (few rows: m <= 16, small: up to 1 GFLOP, large), linear
layers and products from tables of which no fit has seen a row, decode and prefill attention by keys, vector
kernels, board power of kernels above 30 us. `must` is the accuracy that the tests hold the model to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.measurements import (
    FOLDER,
    Columns,
    Measured,
    attentions,
    gemms,
    predict,
    read_columns,
)
from tetrasim.hw_targets.gpu.residency import Operands

if TYPE_CHECKING:
    from numpy.typing import NDArray

MUST = {  # mean absolute percentage error on rows left out of the fit, per class and preset ("": the others)
    "gemm half": {"a100-sxm4-80gb": 8.5, "h100-sxm": 6.5, "h200-sxm": 7.0},
    "linear half": {"": 15.0},  # no row of this table is in a fit; the A40 is in none
    "matmul half": {"a100-sxm4-80gb": 15.0},  # nor of these; T4: VALIDATION.md
    "gemm float8": {"": 10.0},
    "gemm float32": {"t4": 15.0, "l4": 15.0, "": 10.0},
    "decode": {"a100-sxm4-80gb": 17.0, "": 13.0},
    "prefill": {"": 12.0},
    "encoder": {"": 15.0},
    "vector": {"": 15.0},
    "board power > 30 us": {"": 12.0},
}
_LONG_US = 30.0


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Errors in percent; `must` only on the row of all sizes."""

    device: str
    op_class: str
    size_class: str
    rows: int
    mape_percent: float
    median_percent: float
    must_percent: float | None


def validate() -> list[ErrorRow]:
    """Errors of every committed measurement class, in a fixed order."""
    out: list[ErrorRow] = []
    for measured in committed():
        predicted = predict(measured)
        ratio = predicted.latency_us / measured.latency_us
        sizes = sizes_of(measured)
        for size in ("all", *dict.fromkeys(sorted(set(sizes.tolist())))):
            keep = np.ones(len(ratio), np.bool_) if size == "all" else sizes == size
            out.append(_row(measured.preset, measured.label, size, ratio[keep]))
        if measured.power_w is not None:
            keep = measured.latency_us > _LONG_US
            power = (predicted.power_w / measured.power_w)[keep]
            out.append(_row(measured.preset, "board power > 30 us", "all", power))
    return out


def committed() -> Iterator[Measured]:
    """The shipped measurements, one set per preset and class."""
    for file in ("gemm", "attention", "vector"):
        columns = read_columns(FOLDER / f"{file}.csv")
        keys = list(zip(columns["preset"], columns["label"], strict=True))
        for preset, label in dict.fromkeys(keys):
            mine = [i for i, key in enumerate(keys) if key == (preset, label)]
            yield _measured(file, preset, label, {n: [c[i] for i in mine] for n, c in columns.items()})


def _measured(file: str, preset: str, label: str, columns: Columns) -> Measured:
    if file == "gemm":
        return gemms(preset, label, label.rsplit(maxsplit=1)[-1], columns, Launch(columns["launch"][0]))
    if file == "attention":
        return attentions(preset, label, columns)
    slots, moved, rows, us = (
        np.array([float(x) for x in columns[c]]) for c in ("slots", "bytes", "reduced_rows", "latency_us")
    )
    zeros = np.zeros(len(us))
    return Measured(
        preset,
        label,
        vector.VectorRows(moved, slots, rows),
        Operands(moved, zeros, zeros),
        us,
        np.zeros(len(us), np.int64),
        None,
        Launch(columns["launch"][0]),
    )


def sizes_of(measured: Measured) -> NDArray[np.str_]:
    """The size class of each row, by which errors are told apart."""
    rows = measured.rows
    if isinstance(rows, gemm.GemmRows):
        few = rows.shape[:, 1] <= 16
        large = 2.0 * rows.shape.prod(axis=1) > 1e9
        return np.where(few, "m <= 16", np.where(large, "large", "small"))
    if isinstance(rows, att.AttentionRows):
        return np.where(rows.shape[:, 6] <= 1024, "kv <= 1024", "kv > 1024")
    return np.where(rows.reduced_rows > 0, "row reductions", "element-wise")


def _row(device: str, op_class: str, size: str, ratio: NDArray[np.float64]) -> ErrorRow:
    error = 100 * np.abs(ratio - 1)
    limits = MUST[op_class]
    must = limits.get(device, limits.get("")) if size == "all" else None
    return ErrorRow(
        f"gpu/{device}",
        op_class,
        size,
        len(ratio),
        round(float(error.mean()), 1),
        round(float(np.median(error)), 1),
        must,
    )
