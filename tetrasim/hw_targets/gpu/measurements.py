"""Measured kernels as columns, and what the model says about them.

The rows come from public tables (`measured/*.csv` in this folder are the part that ships; their first lines
name source and licence). A prediction goes through the same compiled loops as a model's kernels. Rows are
measured alone: weights rotate over five copies (residency.py), eager rows include the framework's launch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tetrasim.hw_targets.common.presets import load_preset
from tetrasim.hw_targets.gpu.calibration import Calibration, calibration_of
from tetrasim.hw_targets.gpu.config import GpuConfig, Launch
from tetrasim.hw_targets.gpu.device import FLOAT8, FLOAT32, FORMATS, HALF, Device, device_of
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.kernels.records import column, records
from tetrasim.hw_targets.gpu.power import drawn_pj, stretched_us
from tetrasim.hw_targets.gpu.residency import Operands, dram_traffic

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("measured")
_BITS = {"float32": 32, "half": 16, "float8": 8}
_FORMAT = {"float32": FLOAT32, "half": HALF, "float8": FLOAT8}


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows of one preset and one op class. `site` groups neighbours that must stay on one side of a split."""

    preset: str
    label: str  # "half", "decode", "float32 eager", …
    rows: gemm.GemmRows | att.AttentionRows | vector.VectorRows
    operands: Operands
    latency_us: NDArray[np.float64]
    site: NDArray[np.int64]
    power_w: NDArray[np.float64] | None = None
    launch: Launch = Launch.GRAPH

    def take(self, index: NDArray[np.int64]) -> Measured:
        """The rows at `index`; what holds for all rows stays as it is."""
        arrays: dict[str, Any] = {
            n: c[index] for n, c in vars(self.rows).items() if isinstance(c, np.ndarray)
        }
        o = self.operands
        return replace(
            self,
            rows=replace(self.rows, **arrays),
            operands=Operands(o.near[index], o.far[index], o.written[index]),
            latency_us=self.latency_us[index],
            site=self.site[index],
            power_w=None if self.power_w is None else self.power_w[index],
        )


@dataclass(frozen=True, eq=False)
class Predicted:
    latency_us: NDArray[np.float64]
    power_w: NDArray[np.float64]


Columns = Mapping[str, Sequence[str]]


def gemms(preset: str, label: str, dtype: str, columns: Columns, launch: Launch = Launch.GRAPH) -> Measured:
    """GEMM rows from the columns `m,n,k,latency_us` and optionally `batch,constant_b,power_w`."""
    m, n, k = (_ints(columns[c]) for c in "mnk")
    batch = _ints(columns["batch"]) if "batch" in columns else np.ones_like(m)
    constant = _ints(columns["constant_b"]) != 0 if "constant_b" in columns else np.ones(len(m), np.bool_)
    bits = _BITS[dtype]
    rows = gemm.GemmRows(
        np.stack([batch, m, n, k], axis=1),
        np.full((len(m), 2), bits, dtype=np.int64),
        np.full(len(m), _FORMAT[dtype], dtype=np.int64),
        constant,
    )
    a, b, c = (np.array(x, dtype=np.float64) for x in (batch * m * k, batch * k * n, batch * m * n))
    a, b, c = a * bits / 8, b * bits / 8, c * max(bits, 16) / 8
    operands = Operands(a + np.where(constant, 0.0, b), np.where(constant, b, 0.0), c)
    power = _floats(columns["power_w"]) if columns.get("power_w") and columns["power_w"][0] else None
    return Measured(
        preset, label, rows, operands, _floats(columns["latency_us"]), n * 1_000_003 + k, power, launch
    )


def attentions(preset: str, label: str, columns: Columns) -> Measured:
    """16-bit attention rows from the columns of `att.SHAPE` (one head dim, `causal` 0 or 1)."""
    names = ("batch", "q_len", "heads", "kv_heads", "head_dim", "kv_len")
    batch, q_len, heads, kv_heads, dim, kv_len = (_ints(columns[c]) for c in names)
    causal = _ints(columns["causal"])
    shape = np.stack([batch, q_len, heads, kv_heads, dim, dim, kv_len, causal], axis=1)
    rows = att.AttentionRows(shape, np.full(len(batch), 16, np.int64), np.full(len(batch), HALF, np.int64))
    query = np.array(2.0 * batch * q_len * heads * dim)
    cache_bytes = np.array(4.0 * batch * kv_len * kv_heads * dim)
    operands = Operands(query + cache_bytes, np.zeros(len(batch)), query)
    site = ((batch * 131 + heads) * 131 + kv_heads) * 1009 + dim
    return Measured(preset, label, rows, operands, _floats(columns["latency_us"]), site)


_OP_SLOTS = {  # fp32 pipe slots per element and tensors read: PyTorch's kernels of the NeuSight set
    "add": (1.0, 2), "mul": (1.0, 2), "div": (8.0, 2), "pow": (30.0, 2), "addu": (1.0, 1), "mulu": (1.0, 1),
    "divu": (8.0, 1), "powu": (30.0, 1), "relu": (1.0, 1), "gelu": (24.0, 1), "tanh": (20.0, 1),
    "ln": (8.0, 1), "softmax": (16.0, 1),
}  # fmt: skip


def vectors(preset: str, label: str, columns: Columns, launch: Launch = Launch.EAGER) -> Measured:
    """float32 vector rows from the columns `op,rows,cols,latency_us`."""
    count, cols = _ints(columns["rows"]), _ints(columns["cols"])
    slots = np.array([_OP_SLOTS[op][0] for op in columns["op"]])
    reads = np.array([_OP_SLOTS[op][1] for op in columns["op"]])
    reduced = np.array([op in ("ln", "softmax") for op in columns["op"]])
    elements = np.array(count * cols, dtype=np.float64)
    operands = Operands(4 * elements * reads, np.zeros(len(count)), 4 * elements)
    rows = vector.VectorRows(operands.total, slots * elements, np.where(reduced, count, 0).astype(np.float64))
    return Measured(
        preset, label, rows, operands, _floats(columns["latency_us"]), count * 65537 + cols, None, launch
    )


@cache
def preset_config(name: str) -> GpuConfig:
    """The configuration of a preset of this folder, by short name."""
    file = Path(__file__).parent / "presets" / f"{name}.yaml"
    return load_preset(file, f"gpu/{name}", GpuConfig).config


def predict(
    measured: Measured,
    fit: Calibration | None = None,
    schedules: tuple[int, ...] = (att.FLASH2, att.FLASH_DECODING),
) -> Predicted:
    """Latency and board power of every row; `fit` None: the preset's own calibration."""
    config = preset_config(measured.preset)
    fit = fit or calibration_of(config)
    device = device_of(config)
    time, dynamic = _kernels(measured, device, fit, schedules)
    time = stretched_us(time, dynamic, device.headroom_w, fit.power, None)
    drawn, running = drawn_pj(time, dynamic, fit.power)
    power = config.power.idle_w + np.minimum((drawn + running) * 1e-6 / time, device.headroom_w)
    host, products = config.host, isinstance(measured.rows, gemm.GemmRows)
    launch_us = {
        Launch.GRAPH: 0.0,
        Launch.STREAM: host.stream_launch_s * 1e6,
        Launch.EAGER: 1e6 * (host.eager_product_s if products else host.eager_launch_s),
    }[measured.launch]
    return Predicted(time + launch_us, power)


def _kernels(
    measured: Measured, device: Device, fit: Calibration, schedules: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time at full clock in us and dynamic energy in pJ."""
    rows, power = measured.rows, fit.power
    if isinstance(rows, gemm.GemmRows):
        share, onset = np.array([(f.l2_share, f.l2_onset) for f in fit.gemm])[rows.format].T
        traffic = dram_traffic(measured.operands, device.l2_bytes, share, onset, None)
        out = gemm.time_gemms(rows, traffic, device, records(gemm.GemmFit, fit.gemm))
        width = np.where(rows.format >= FLOAT8, 0.5, 1.0)
        per_flop = np.where(rows.format == FLOAT32, power.fp32_pj_per_flop, power.tensor_pj_per_flop * width)
        time, dynamic = column(out, "time_us"), gemm.executed_flops(rows, out) * per_flop
    elif isinstance(rows, att.AttentionRows):
        share, onset = np.array([(k.l2_share, k.l2_onset) for k in fit.attention])[rows.kernel].T
        traffic = dram_traffic(measured.operands, device.l2_bytes, share, onset, None)
        table = records(att.AttentionFit, fit.attention)
        priced = att.time_attentions(rows, traffic.read + traffic.written, schedules, device, table)
        time = column(priced, "time_us")
        dynamic = column(priced, "ideal_us") * device.peaks[rows.format] * power.tensor_pj_per_flop
    else:
        traffic = dram_traffic(
            measured.operands, device.l2_bytes, fit.vector.l2_share, fit.vector.l2_onset, None
        )
        moved = traffic.read + traffic.written
        time = column(vector.time_vectors(rows, moved, device, fit.streams), "time_us")
        dynamic = rows.slots * power.fp32_pj_per_flop
    return time, dynamic + (traffic.read + traffic.written) * power.dram_pj_per_byte


def read_columns(file: Path) -> dict[str, list[str]]:
    """A CSV as columns; lines that start with `#` (source, licence) are skipped."""
    with file.open(encoding="utf-8", newline="") as stream:
        return transpose(csv.DictReader(line for line in stream if not line.startswith("#")))


def transpose(rows: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Rows of a table as columns."""
    table = list(rows)
    return {name: [row[name] for row in table] for name in (table[0] if table else {})}


def _ints(column: Sequence[str]) -> NDArray[np.int64]:
    return np.array([int(float(x)) for x in column], dtype=np.int64)


def _floats(column: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(x) for x in column])


def format_name(index: int) -> str:
    """`half`, `float32`, …"""
    return FORMATS[index]
