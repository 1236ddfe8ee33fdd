"""Works -> costs: one row per kernel, vectorised over all works of a call.

The rows of equal kind go through one compiled loop (gemm, attention, vector); then energy and the power cap
apply to all. Energy = idle power x time + energy per flop + energy per DRAM byte; when that needs more than
the board may draw, the clock drops and time stretches until it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.gpu import attention as att
from tetrasim.hw_targets.gpu import gemm, vector
from tetrasim.hw_targets.gpu.calibration import FORMATS, calibration
from tetrasim.hw_targets.gpu.config import AttentionSchedule, GpuConfig, Number
from tetrasim.hw_targets.gpu.power import stretched_us
from tetrasim.hw_targets.gpu.residency import Traffic, traffic_of
from tetrasim.hw_targets.gpu.tiles import TENSOR_TILES, simt_tiles
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = (
    "kernel start",
    "compute",
    "tiles and waves",
    "memory",
    "imperfect overlap",
    "power cap",
)
LEVELS = ("L2", "DRAM")
COMPONENTS = ("tensor cores", "CUDA cores", "DRAM")
SCHEDULES = {
    AttentionSchedule.AUTO: (att.FLASH2, att.FLASH_DECODING),
    AttentionSchedule.FLASH2: (att.FLASH2,),
    AttentionSchedule.FLASH_DECODING: (att.FLASH_DECODING,),
    AttentionSchedule.LEAN: (att.LEAN,),
    AttentionSchedule.UNFUSED: (att.FLASH2, att.FLASH_DECODING),
}
_US = 1e-6
_EIGHT_BIT_ENERGY = 0.5  # an 8-bit product against a 16-bit one (half the operand bits), an assumption


@dataclass(frozen=True, eq=False)
class Costs:
    """One row per work, in order. `part_us` rows sum to `time_us`."""

    time_us: NDArray[np.float64]  # [R]
    part_us: NDArray[np.float64]  # [R, PARTS]
    level_bytes: NDArray[np.float64]  # [R, LEVELS]
    energy_pj: NDArray[np.float64]  # [R, COMPONENTS] dynamic


def kernel_costs(works: Sequence[Work], config: GpuConfig, resident_bytes: int | None) -> Costs:
    """Price every work as one kernel.

    Args:
        works: kernels (fused chains are one work already); VIEW works cost nothing.
        config: the device.
        resident_bytes: weights plus state of the model the kernels belong to; None prices each op alone.

    Raises:
        UserError: the device has no unit for a format.
    """
    rows = len(works)
    raw = np.zeros((rows, 5))  # time, fixed, ideal, compute, memory
    level = np.zeros((rows, len(LEVELS)))
    energy = np.zeros((rows, len(COMPONENTS)))
    traffic = [traffic_of(w, config.l2.bytes, _l2_share(w, config), resident_bytes) for w in works]
    for i, t in enumerate(traffic):
        level[i] = t.total_bytes, t.dram_read_bytes + t.dram_write_bytes
    of_kind: dict[WorkKind, list[int]] = {}
    for i, work in enumerate(works):
        of_kind.setdefault(work.kind, []).append(i)
    streaming = [i for k in (WorkKind.VECTOR, WorkKind.GATHER, WorkKind.MOVE) for i in of_kind.get(k, [])]
    _gemms(works, traffic, of_kind.get(WorkKind.GEMM, []), config, raw, energy)
    _attentions(
        works, of_kind.get(WorkKind.ATTENTION, []), config, level, raw, energy, resident_bytes is not None
    )
    _vectors(works, streaming, config, level, raw, energy)
    fit = calibration(config.calibration).power
    energy[:, 2] = level[:, 1] * fit.dram_pj_per_byte
    headroom_w = config.power.cap_w - config.power.idle_w
    time = stretched_us(raw[:, 0], energy.sum(axis=1), headroom_w, fit, resident_bytes is not None)
    part = _parts(raw, time)
    return Costs(part.sum(axis=1), part, level, energy)


def _parts(raw: NDArray[np.float64], stretched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the time goes: the bound that rules, what it loses to tiles and waves, what overlap leaves."""
    time, fixed, ideal, comp, mem = raw.T
    part = np.zeros((len(raw), len(PARTS)))
    compute_bound = comp >= mem
    high = np.where(compute_bound, comp, mem)
    part[:, 0] = fixed
    part[:, 1] = np.where(compute_bound, np.minimum(ideal, comp), 0.0)
    part[:, 2] = np.where(compute_bound, comp - part[:, 1], 0.0)
    part[:, 3] = np.where(compute_bound, 0.0, mem)
    part[:, 4] = np.maximum(time - fixed - high, 0.0)
    part[:, 5] = stretched - time
    return part


def _l2_share(work: Work, config: GpuConfig) -> float:
    fit = calibration(config.calibration)
    if work.kind is WorkKind.GEMM:
        return fit.gemm[gemm_format(work.reads, config)].l2_share
    if work.attention is not None:
        return fit.attention[att.kernel_of(work.attention.q_len, work.attention.causal)].l2_share
    return fit.vector.l2_share


def _gemms(
    works: Sequence[Work],
    traffic: Sequence[Traffic],
    index: list[int],
    config: GpuConfig,
    raw: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    if not index:
        return
    shape = np.empty((len(index), 4), dtype=np.int64)
    peak = np.empty(len(index))
    fit_of = np.empty(len(index), dtype=np.int64)
    bits = np.empty((len(index), 2), dtype=np.int64)
    moved = np.empty((len(index), 3))
    for row, i in enumerate(index):
        g = works[i].gemm
        assert g is not None
        shape[row] = g.batch, g.m, g.n, g.k
        fit_of[row] = gemm_format(works[i].reads, config)
        peak[row] = peak_of(int(fit_of[row]), config) * _US
        bits[row] = _operand_bits(works[i].reads)
        t = traffic[i]
        moved[row] = t.dram_read_bytes, t.dram_write_bytes, t.second_miss
    fits = np.array([f.row() for f in calibration(config.calibration).gemm])
    out = np.zeros((len(index), len(gemm.OUT)))
    on_cuda = fit_of == FORMATS.index("float32")
    constant_b = np.array([g.weight_is_b for i in index if (g := works[i].gemm) is not None])
    rates = np.array([config.l2.bandwidth_bytes_per_s, config.dram.bandwidth_bytes_per_s]) * _US
    for rows, tiles in (
        (on_cuda & constant_b, simt_tiles(config.architecture, batched=False)),
        (on_cuda & ~constant_b, simt_tiles(config.architecture, batched=True)),
        (~on_cuda, TENSOR_TILES),
    ):
        part = np.zeros((int(rows.sum()), len(gemm.OUT)))
        gemm.price_gemms(
            shape[rows],
            bits[rows],
            moved[rows, 0],
            moved[rows, 1],
            moved[rows, 2],
            peak[rows],
            fit_of[rows],
            fits,
            config.sm_count,
            float(config.sm.shared_bytes),
            rates,
            tiles,
            gemm.SPLITS,
            part,
        )
        out[rows] = part
    raw[index] = out[:, :5]
    executed = 2.0 * out[:, 8] * out[:, 5] * out[:, 6] * shape[:, 3] / np.maximum(out[:, 7], 1.0)
    narrow = fit_of >= FORMATS.index("float8")
    power = calibration(config.calibration).power
    per_flop = np.where(narrow, _EIGHT_BIT_ENERGY, 1.0) * power.tensor_pj_per_flop
    energy[index, 0] = np.where(on_cuda, 0.0, executed * per_flop)
    energy[index, 1] = np.where(on_cuda, executed * power.fp32_pj_per_flop, 0.0)


def _attentions(
    works: Sequence[Work],
    index: list[int],
    config: GpuConfig,
    level: NDArray[np.float64],
    raw: NDArray[np.float64],
    energy: NDArray[np.float64],
    in_model: bool,
) -> None:
    if not index:
        return
    shape = np.empty((len(index), len(att.SHAPE)), dtype=np.int64)
    peak = np.empty(len(index))
    bits = np.empty(len(index), dtype=np.int64)
    new_bytes = np.zeros(len(index))
    for row, i in enumerate(index):
        a = works[i].attention
        assert a is not None
        shape[row] = (
            a.batch, a.q_len, a.heads, a.kv_heads, a.head_dim, a.v_head_dim, a.kv_len, a.causal, a.window
        )  # fmt: skip
        peak[row] = peak_of(gemm_format(works[i].reads, config), config) * _US
        bits[row] = works[i].reads[1].bits
        new_bytes[row] = (
            a.batch * min(a.q_len, a.kv_len) * a.kv_heads * (a.head_dim + a.v_head_dim) * bits[row] / 8
        )
    fit = calibration(config.calibration)
    kernels = fit.attention
    if in_model:  # the cache append is a node of its own, and the schedule is prepared once per run
        kernels = tuple(
            replace(k, start_us=fit.vector.start_us, batch_us=0.0, append_passes=0.0) for k in kernels
        )
    out = np.zeros((len(index), len(att.OUT)))
    schedules = np.array(SCHEDULES[config.attention], dtype=np.int64)
    rule = att.SPLIT_RULES["hopper" if config.architecture == "hopper" else "other"]
    att.price_attentions(
        shape,
        bits,
        level[index, 1],
        new_bytes,
        peak,
        schedules,
        np.array([k.row() for k in kernels]),
        config.sm_count,
        np.array(rule[:3], dtype=np.int64),
        rule[3],
        np.array([config.l2.bandwidth_bytes_per_s, config.dram.bandwidth_bytes_per_s]) * _US,
        out,
    )
    raw[index] = out[:, :5]
    flops = np.array([2.0 * works[i].macs for i in index])
    energy[index, 0] = flops * fit.power.tensor_pj_per_flop


def _vectors(
    works: Sequence[Work],
    index: list[int],
    config: GpuConfig,
    level: NDArray[np.float64],
    raw: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    if not index:
        return
    slots = np.zeros(len(index))
    rows = np.zeros(len(index))
    for row, i in enumerate(index):
        v = works[i].vector
        if v is not None:
            slots[row] = sum(vector.SLOTS[kind] * count for kind, count in v.ops)
            rows[row] = v.rows if v.reduces else 0
    out = np.zeros((len(index), len(vector.OUT)))
    dram = level[index, 1]
    vector.price_vectors(
        dram,
        level[index, 0] - dram,
        slots,
        rows,
        np.array(calibration(config.calibration).vector.row()),
        config.sm_count,
        config.compute.fp32_flops_per_s / 2 * _US,
        config.dram.bandwidth_bytes_per_s * _US,
        config.l2.bandwidth_bytes_per_s * _US,
        out,
    )
    raw[index] = out
    energy[index, 1] = slots * calibration(config.calibration).power.fp32_pj_per_flop


def _operand_bits(reads: Sequence[Operand]) -> tuple[int, int]:
    """Bits of an element of A and of B as they are loaded."""
    pair = [o.bits for o in reads if o.kind in (Kind.FLOAT, Kind.BFLOAT, Kind.INT, Kind.UINT)][:2]
    return pair[0], pair[-1]


def gemm_format(reads: Sequence[Operand], config: GpuConfig) -> int:
    """Index into `FORMATS` of the unit that multiplies these operands.

    An 8-bit weight against a 16-bit activation runs on the 8-bit unit (the activation is quantised on the
    way); a 4-bit weight is widened in registers and runs on the 16-bit unit.
    """
    pair = [o for o in reads if o.kind in (Kind.FLOAT, Kind.BFLOAT, Kind.INT, Kind.UINT)][:2]
    if any(o.bits == 8 and o.kind is Kind.FLOAT for o in pair) and config.compute.fp8_flops_per_s:
        return FORMATS.index("float8")
    if any(o.bits == 8 and o.kind in (Kind.INT, Kind.UINT) for o in pair) and config.compute.int8_ops_per_s:
        return FORMATS.index("int8")
    if any(o.bits >= 32 and o.role is not Role.CONSTANT for o in pair):
        return FORMATS.index("tfloat32" if config.precision is Number.TFLOAT32 else "float32")
    return FORMATS.index("half")


def peak_of(format_index: int, config: GpuConfig) -> float:
    """Dense peak, operations per second."""
    c = config.compute
    rates = (c.fp32_flops_per_s, c.tf32_flops_per_s, c.fp16_flops_per_s, c.fp8_flops_per_s, c.int8_ops_per_s)
    rate = rates[format_index]
    if rate <= 0:
        raise UserError(
            f"this GPU has no unit for {FORMATS[format_index]}",
            where="precision",
            hint=f"choose {Number.FLOAT16} or {Number.FLOAT32}",
        )
    return rate
