"""Works -> costs: one row per kernel, vectorised over all works of a call.

The rows of equal kind go through one compiled loop (gemm, attention, vector); then energy and the power cap
apply to all. Energy = idle power x time + energy per flop + energy per DRAM byte; when that needs more than
the board may draw, the clock drops and time stretches until it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.target import Aspect, aspect_without
from tetrasim.hw_targets.gpu.calibration import Calibration, calibration_of
from tetrasim.hw_targets.gpu.config import AttentionSchedule, GpuConfig, Number
from tetrasim.hw_targets.gpu.device import FLOAT8, FLOAT32, HALF, INT8, TFLOAT32, Device, device_of, peak_of
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm, vector
from tetrasim.hw_targets.gpu.kernels.attention_grouped import Grid, grids_of, time_grid
from tetrasim.hw_targets.gpu.kernels.records import Records, column, put, row
from tetrasim.hw_targets.gpu.parts import KERNEL_PARTS
from tetrasim.hw_targets.gpu.power import drawn_pj, stretched_us
from tetrasim.hw_targets.gpu.residency import Operands, Traffic, dram_traffic, operands_of
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Work, WorkKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Times = Records[gemm.GemmTime] | Records[att.AttentionTime] | Records[vector.VectorTime]
    # kernel times, traffic, tensor-core pJ, CUDA-core pJ
    _Priced = tuple[_Times, Traffic, NDArray[np.float64] | float, NDArray[np.float64] | float]

_TIMES = ("time_us", "fixed_us", "ideal_us", "compute_us", "memory_us")
LEVELS = ("L2", "DRAM")
COMPONENTS = ("tensor cores", "CUDA cores", "DRAM", "active SMs")
SCHEDULES = {
    AttentionSchedule.AUTO: (att.FLASH2, att.FLASH_DECODING),
    AttentionSchedule.FLASH2: (att.FLASH2,),
    AttentionSchedule.FLASH_DECODING: (att.FLASH_DECODING,),
    AttentionSchedule.LEAN: (att.LEAN,),
    AttentionSchedule.PAGED: (att.FLASH2, att.FLASH_DECODING),
    AttentionSchedule.GROUPED: (att.FLASH2, att.FLASH_DECODING),
    AttentionSchedule.UNFUSED: (att.FLASH2, att.FLASH_DECODING),
}
EIGHT_BIT_ENERGY = 0.5  # an 8-bit product against a 16-bit one (half the operand bits), an assumption


@dataclass(frozen=True, eq=False)
class Costs:
    """One row per work, in order. `part_us` rows sum to `time_us`; `label`: the kind of kernel, for attention
    with its schedule and how much of the SMs it keeps busy."""

    time_us: NDArray[np.float64]  # [R]
    part_us: NDArray[np.float64]  # [R, KERNEL_PARTS]
    level_bytes: NDArray[np.float64]  # [R, LEVELS]
    energy_pj: NDArray[np.float64]  # [R, COMPONENTS] dynamic
    label: tuple[str, ...]  # [R]
    blocks: NDArray[np.float64]  # [R] thread blocks of products and attention, 0: as many as wanted
    miss: NDArray[np.float64]  # [R, 2] shares of near and of far operands (residency.py) that come from DRAM


def kernel_costs(
    works: Sequence[Work],
    config: GpuConfig,
    resident_bytes: int | None,
    counts: Sequence[int] | None = None,
) -> Costs:
    """Price every work as one kernel.

    Args:
        works: kernels (fused chains are one work already); VIEW works cost nothing.
        config: the device.
        resident_bytes: weights plus state of the model the kernels belong to; None prices each op alone.
        counts: how often the model runs each work; None: once.

    Raises:
        UserError: the device has no unit for a format.
    """
    alone = resident_bytes is None
    device, fit = device_of(config), calibration_of(config)
    slow = config.slowdown  # below boost, all but DRAM runs slower: priced at boost beside a faster DRAM
    device = replace(device, dram_bytes_per_us=device.dram_bytes_per_us * slow)
    table = _new_table(works, alone, config) if alone else _table(tuple(works), unpriced(config))
    raw = np.zeros((len(works), len(_TIMES)))
    energy = np.zeros((len(works), len(COMPONENTS)))
    dram, blocks, miss = np.zeros(len(works)), np.zeros(len(works)), np.zeros((len(works), 2))
    label = list(table.kinds)
    for at, operands, price_rows in (
        (table.gemm_at, table.gemm_operands, partial(_gemms, table.gemms)),
        (table.attention_at, table.attention_operands, partial(_attentions, table.attentions)),
        (table.stream_at, table.stream_operands, partial(_streams, table.streams)),
    ):
        if len(at):
            out, traffic, energy[at, 0], energy[at, 1] = price_rows(
                operands, config, device, fit, resident_bytes
            )
            dram[at] = traffic.read + traffic.written
            miss[at] = np.stack([traffic.near_miss, traffic.far_miss], axis=1)
            raw[at] = np.stack([column(out, name) for name in _TIMES], axis=1) * slow
            if at is not table.stream_at:
                blocks[at] = column(out, "blocks")
            if at is table.attention_at:
                for n, i in enumerate(at.tolist()):
                    label[i] = schedule_label(row(att.AttentionTime, out, n), device.sm_count)
    energy[:, 2] = dram * fit.power.dram_pj_per_byte
    times = None if alone else np.array(counts or [1] * len(works), dtype=np.float64)
    time = stretched_us(raw[:, 0], energy.sum(axis=1), device.headroom_w, fit.power, times)
    _, energy[:, 3] = drawn_pj(time, energy.sum(axis=1), fit.power)
    energy[:, :3] *= (time / (time + fit.power.ramp_us))[:, None]
    limit_pj = device.headroom_w * time * 1e6  # the limiter keeps the board at its limit
    energy *= np.minimum(limit_pj / np.maximum(energy.sum(axis=1), 1e-9), 1.0)[:, None]
    part = _parts(raw, time)
    level_bytes = np.stack([table.operands.total, dram], axis=1)
    return Costs(part.sum(axis=1), part, level_bytes, energy, tuple(label), blocks, miss)


@dataclass(frozen=True, eq=False)
class _Attentions:
    """Attention kernels as rows, and the flops that each needs."""

    rows: att.AttentionRows
    flops: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Products:
    """Product kernels as rows; those of grouped attention are priced by their own tiles and blocks."""

    rows: gemm.GemmRows
    grouped: tuple[tuple[int, Grid], ...]  # row and grid


@dataclass(frozen=True, eq=False)
class _Table:
    """The works of a call as columns: what no speed, size or power of the device changes."""

    kinds: tuple[str, ...]
    operands: Operands
    gemm_at: NDArray[np.int64]
    gemm_operands: Operands
    gemms: _Products
    attention_at: NDArray[np.int64]
    attention_operands: Operands
    attentions: _Attentions
    stream_at: NDArray[np.int64]
    stream_operands: Operands
    streams: vector.VectorRows


_UNPRICED = frozenset(
    {
        "calibration",
        "validated",
        "sm_count",
        "clock_hz",
        "running_clock_hz",
        "compute",
        "sm",
        "l2",
        "dram",
        "host",
        "power",
    }
)


def unpriced(config: GpuConfig) -> Aspect[GpuConfig]:
    """How the device is used and which units it has, not how fast or large they are."""
    units = config.compute
    return aspect_without(config, _UNPRICED, units.fp8_flops_per_s > 0, units.int8_ops_per_s > 0)


@lru_cache(maxsize=512)
def _table(works: tuple[Work, ...], used: Aspect[GpuConfig]) -> _Table:
    return _new_table(works, alone=False, config=used.config)


def _new_table(works: Sequence[Work], alone: bool, config: GpuConfig) -> _Table:
    operands = operands_of(works, alone)

    def chosen(*kinds: WorkKind) -> tuple[list[Work], NDArray[np.int64], Operands]:
        at = np.array([i for i, w in enumerate(works) if w.kind in kinds], dtype=np.int64)
        return [works[i] for i in at], at, operands.at(at)

    products, gemm_at, of_gemms = chosen(WorkKind.GEMM)
    fused, attention_at, of_attentions = chosen(WorkKind.ATTENTION)
    streams, stream_at, of_streams = chosen(WorkKind.VECTOR, WorkKind.GATHER, WorkKind.MOVE)
    return _Table(
        tuple(w.kind.value for w in works),
        operands,
        gemm_at,
        of_gemms,
        _Products(gemm_rows(products, config), grids_of(products, config)),
        attention_at,
        of_attentions,
        _attention_rows(fused, config),
        stream_at,
        of_streams,
        _stream_rows(streams, of_streams),
    )


def schedule_label(time: att.AttentionTime, sm_count: int) -> str:
    """`attention flash-decoding, 4 splits, 89% of SMs`."""
    busy = time.blocks / (math.ceil(time.blocks / sm_count) * sm_count)
    return f"attention {att.SCHEDULE_NAMES[time.schedule]}, {time.splits} splits, {busy:.0%} of SMs"


def _parts(raw: NDArray[np.float64], stretched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the time goes: the bound that rules, what it loses to tiles and waves, what overlap leaves."""
    time, fixed, ideal, comp, mem = raw.T
    part = np.zeros((len(raw), len(KERNEL_PARTS)))
    compute_bound = comp >= mem
    high = np.where(compute_bound, comp, mem)
    part[:, 0] = fixed
    part[:, 1] = np.where(compute_bound, np.minimum(ideal, comp), 0.0)
    part[:, 2] = np.where(compute_bound, comp - part[:, 1], 0.0)
    part[:, 3] = np.where(compute_bound, 0.0, mem)
    part[:, 4] = np.maximum(time - fixed - high, 0.0)
    part[:, 5] = stretched - time
    return part


def gemm_rows(works: Sequence[Work], config: GpuConfig) -> gemm.GemmRows:
    """Products as the compiled loop takes them."""
    gemms = [w.gemm for w in works if w.gemm is not None]
    return gemm.GemmRows(
        np.array([(g.batch, g.m, g.n, g.k) for g in gemms], dtype=np.int64).reshape(-1, 4),
        np.array([_operand_bits(w) for w in works], dtype=np.int64).reshape(-1, 2),
        np.array([gemm_format(w, config) for w in works], dtype=np.int64),
        np.array([g.weight_is_b and g.batch == 1 for g in gemms], dtype=np.bool_),
    )


def _gemms(
    products: _Products,
    operands: Operands,
    config: GpuConfig,
    device: Device,
    fit: Calibration,
    resident_bytes: int | None,
) -> _Priced:
    rows = products.rows
    _check_units(rows.format, config, device)
    share, onset = fit.product_reach[rows.format].T
    traffic = dram_traffic(operands, device.l2_bytes, share, onset, resident_bytes)
    out = gemm.time_gemms(rows, traffic, device, fit.products[config.tuned_products])
    for i, grid in products.grouped:
        put(out, np.array([i]), time_grid(grid, traffic.row(i), device, fit))
    flops = gemm.executed_flops(rows, out)
    simt = rows.format == FLOAT32
    width = np.where(rows.format >= FLOAT8, EIGHT_BIT_ENERGY, 1.0)
    tensor_pj = np.where(simt, 0.0, flops * width * fit.power.tensor_pj_per_flop)
    return (
        out,
        traffic,
        tensor_pj,
        np.where(simt, flops * fit.power.fp32_pj_per_flop, 0.0),
    )


def _check_units(formats: NDArray[np.int64], config: GpuConfig, device: Device) -> None:
    if (device.peaks[formats] <= 0).any():
        for used in np.unique(formats):
            peak_of(int(used), config)


def _attention_rows(works: Sequence[Work], config: GpuConfig) -> _Attentions:
    shapes = [w.attention for w in works if w.attention is not None]
    columns = [
        (a.batch, a.q_len, a.heads, a.kv_heads, a.head_dim, a.v_head_dim, a.kv_len, a.visible.is_causal)
        for a in shapes
    ]
    rows = att.AttentionRows(
        np.array(columns, dtype=np.int64).reshape(-1, len(att.SHAPE)),
        np.array([w.operand("k").bits for w in works], dtype=np.int64),
        np.array([gemm_format(w, config) for w in works], dtype=np.int64),
        tuple(a.visible if a.window or a.mask is not None else None for a in shapes),
    )
    return _Attentions(rows, np.array([2.0 * w.macs for w in works]))


def _attentions(
    attentions: _Attentions,
    operands: Operands,
    config: GpuConfig,
    device: Device,
    fit: Calibration,
    resident_bytes: int | None,
) -> _Priced:
    rows = attentions.rows
    _check_units(rows.format, config, device)
    share, onset = fit.attention_reach[rows.kernel].T
    traffic = dram_traffic(operands, device.l2_bytes, share, onset, resident_bytes)
    dram = traffic.read + traffic.written
    table = fit.attentions[resident_bytes is not None]
    out = att.time_attentions(rows, dram, SCHEDULES[config.attention], device, table)
    return out, traffic, attentions.flops * fit.power.tensor_pj_per_flop, 0.0


def _stream_rows(works: Sequence[Work], operands: Operands) -> vector.VectorRows:
    vectors = [w.vector for w in works]
    return vector.VectorRows(
        operands.total,
        np.array([0.0 if v is None else sum(vector.SLOTS[kind] * n for kind, n in v.ops) for v in vectors]),
        np.array([float(v.rows) if v is not None and v.reduces else 0.0 for v in vectors]),
        np.array([float(v.steps) if v is not None and v.steps > 1 else 0.0 for v in vectors]),
    )


def _streams(
    rows: vector.VectorRows,
    operands: Operands,
    _config: GpuConfig,
    device: Device,
    fit: Calibration,
    resident_bytes: int | None,
) -> _Priced:
    traffic = dram_traffic(
        operands, device.l2_bytes, fit.vector.l2_share, fit.vector.l2_onset, resident_bytes
    )
    out = vector.time_vectors(rows, traffic.read + traffic.written, device, fit.streams)
    return out, traffic, 0.0, rows.slots * fit.power.fp32_pj_per_flop


def _operand_bits(work: Work) -> tuple[int, int]:
    """Bits of an element of A and of B as they are loaded."""
    pair = [o.bits for o in work.factors if o.kind in (Kind.FLOAT, Kind.BFLOAT, Kind.INT, Kind.UINT)]
    return pair[0], pair[-1]


def gemm_format(work: Work, config: GpuConfig) -> int:
    """Index into `FORMATS` of the unit that multiplies these operands.

    An 8-bit weight against a 16-bit activation runs on the 8-bit unit (the activation is quantised on the
    way); a 4-bit weight is widened in registers and runs on the 16-bit unit.
    """
    pair = [o for o in work.factors if o.kind in (Kind.FLOAT, Kind.BFLOAT, Kind.INT, Kind.UINT)]
    if any(o.bits == 8 and o.kind is Kind.FLOAT for o in pair) and config.compute.fp8_flops_per_s:
        return FLOAT8
    if any(o.bits == 8 and o.kind in (Kind.INT, Kind.UINT) for o in pair) and config.compute.int8_ops_per_s:
        return INT8
    if any(o.bits >= 32 and o.role is not Role.CONSTANT for o in pair):
        return TFLOAT32 if config.precision is Number.TFLOAT32 else FLOAT32
    return HALF
