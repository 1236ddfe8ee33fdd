"""Why a kernel takes what it takes: the tile, split or schedule chosen, among which, by which numbers."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from tetrasim.hw_targets.common.explanation import Candidate, Constant, Explanation, Place
from tetrasim.hw_targets.gpu.calibration import Calibration, calibration_of
from tetrasim.hw_targets.gpu.config import AttentionSchedule, GpuConfig, Launch
from tetrasim.hw_targets.gpu.costs import LEVELS, SCHEDULES, gemm_rows, kernel_costs
from tetrasim.hw_targets.gpu.device import FLOAT32, FORMATS, HALF, Device, device_of
from tetrasim.hw_targets.gpu.expand import kernels_of_work
from tetrasim.hw_targets.gpu.fit.tables import TABLES
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels import gemm
from tetrasim.hw_targets.gpu.kernels.records import array, empty, row
from tetrasim.hw_targets.gpu.kernels.tiles import simt_tiles, tensor_tiles
from tetrasim.hw_targets.gpu.lower import kernel_of_node
from tetrasim.hw_targets.gpu.parts import KERNEL_PARTS
from tetrasim.hw_targets.gpu.price import launch_us
from tetrasim.hw_targets.gpu.residency import dram_traffic, operands_of
from tetrasim.sim.ops.work import Work, WorkKind

MOST_CANDIDATES = 8
_UNITS = (("_us", "us"), ("_efficiency", "of the rate"), ("passes", "passes"), ("share", "of L2"))
_FORMULAS = {
    WorkKind.GEMM: "time = kernel start + waves + exposed epilogue + split reduction"
    " + (compute^p + L2^p + DRAM^p)^(1/p), p = overlap; compute = steps x max(resident x step, load latency /"
    " (stages - 1)) per wave; the fastest candidate is taken",
    WorkKind.ATTENTION: "time = kernel start + join of splits + (busiest SM^p + memory^p)^(1/p), p = overlap;"
    " busiest SM = blocks on it x (block + key tiles x tile); memory = the slower of L2 and DRAM",
}
_STREAM = (
    "time = kernel start + (compute^p + memory^p)^(1/p), p = overlap; memory = bytes from DRAM and from L2 at"
    " their reached rates; compute = CUDA-core slots at the reached rate"
)


def explain(work: Work, config: GpuConfig, place: Place | None) -> tuple[Explanation, ...]:
    """One explanation per kernel that runs the op; in a graph, of the kernel that it shares with others."""
    if place is None:
        return tuple(_kernel(k, config, None) for k in kernels_of_work(work, config))
    graph = place.graph
    resident = graph.weight_bytes + graph.state_bytes
    return tuple(_kernel(k, config, resident) for k in kernel_of_node(graph, place.node, config))


def _kernel(work: Work, config: GpuConfig, resident: int | None) -> Explanation:
    costs = kernel_costs([work], config, resident)
    launch = launch_us(work, config) if resident is None else 0.0
    parts = tuple(
        (name, float(us)) for name, us in zip(KERNEL_PARTS, costs.part_us[0], strict=True) if us > 0
    )
    if launch:
        parts = (("host launch", launch), *parts)
    choices: tuple[tuple[str, str], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    fit, device = calibration_of(config), device_of(config)
    if work.kind is WorkKind.GEMM and work.attention is None:
        choices, candidates = _tiles(work, config, device, fit, resident)
    elif work.kind is WorkKind.ATTENTION:
        choices, candidates = _schedules(work, config, resident)
    return Explanation(
        kernel=f"{work.op} as {costs.label[0]}",
        time_us=float(costs.time_us[0]) + launch,
        bound_by=max(parts, key=lambda p: p[1])[0] if parts else "nothing",
        formula=_FORMULAS.get(work.kind, _STREAM),
        parts=parts,
        level_bytes=tuple((name, float(b)) for name, b in zip(LEVELS, costs.level_bytes[0], strict=True)),
        choices=(*choices, ("launch", str(Launch(config.launch)))),
        candidates=candidates,
        constants=(*_device_constants(work, config), *_fitted(work, config, fit)),
    )


def _tiles(
    work: Work, config: GpuConfig, device: Device, fit: Calibration, resident: int | None
) -> tuple[tuple[tuple[str, str], ...], tuple[Candidate, ...]]:
    """The chosen tile and split, and each tile with its best split, fastest first; at full clock."""
    rows = gemm_rows([work], config)
    share, onset = fit.product_reach[rows.format].T
    traffic = dram_traffic(operands_of([work], resident is None), device.l2_bytes, share, onset, resident)
    chosen = row(
        gemm.GemmTime, gemm.time_gemms(rows, traffic, device, fit.products[config.tuned_products]), 0
    )
    of_format, constant = int(rows.format[0]), bool(rows.constant_b[0])
    simt = of_format == FLOAT32
    tiles = (
        simt_tiles(device.architecture, batched=not constant) if simt else tensor_tiles(device.architecture)
    )
    found = []
    for tile in tiles.tolist():
        one = empty(gemm.GemmTime, 1)
        gemm.price_gemms(
            rows.shape,
            rows.bits,
            traffic.read,
            traffic.written,
            traffic.far_miss if constant else traffic.near_miss,
            device.peaks[rows.format],
            rows.format,
            fit.products[True],
            device.sm_count,
            device.shared_bytes,
            device.l2_bytes_per_us,
            device.dram_bytes_per_us,
            np.array([tile], dtype=np.int64),
            gemm.SPLITS,
            one,
        )
        if np.isfinite(array(one)["time_us"][0]):
            found.append(row(gemm.GemmTime, one, 0))
    found.sort(key=lambda t: t.time_us)
    candidates = tuple(
        Candidate(
            f"tile {t.tile_m}x{t.tile_n}, split k {t.split}, {t.blocks} blocks",
            t.time_us,
            (t.tile_m, t.tile_n, t.split) == (chosen.tile_m, chosen.tile_n, chosen.split),
        )
        for t in found[:MOST_CANDIDATES]
    )
    rounds = -(-chosen.blocks // device.sm_count)
    choices = (
        ("unit", f"{FORMATS[of_format]} on {'CUDA' if simt else 'tensor'} cores"),
        ("tile", f"{chosen.tile_m} x {chosen.tile_n}"),
        ("split of k", str(chosen.split)),
        ("blocks", f"{chosen.blocks} on {device.sm_count} SMs, {rounds} rounds"),
        ("compute, L2, DRAM", f"{chosen.compute_us:.2f}, {chosen.l2_us:.2f}, {chosen.dram_us:.2f} us"),
    )
    return choices, candidates


def _schedules(
    work: Work, config: GpuConfig, resident: int | None
) -> tuple[tuple[tuple[str, str], ...], tuple[Candidate, ...]]:
    """The schedule that was used, and each fused one."""
    costs = kernel_costs([work], config, resident)
    fused = (AttentionSchedule.FLASH2, AttentionSchedule.FLASH_DECODING, AttentionSchedule.LEAN)
    found = []
    for schedule in fused:
        other = kernel_costs([work], config.model_copy(update={"attention": schedule}), resident)
        allowed = {att.SCHEDULE_NAMES[s] for s in SCHEDULES[config.attention]}
        note = "" if str(schedule) in allowed else " (not among those that this setting takes)"
        found.append((other.label[0], note, float(other.time_us[0])))
    found.sort(key=lambda f: f[2])
    chosen = costs.label[0]
    names = [label + note for label, note, _ in found]
    at = next((i for i, (label, note, _) in enumerate(found) if label == chosen and not note), 0)
    candidates = tuple(Candidate(name, found[i][2], i == at) for i, name in enumerate(names))
    return (("schedule", chosen), ("blocks", f"{costs.blocks[0]:g} on {config.sm_count} SMs")), candidates


def _device_constants(work: Work, config: GpuConfig) -> tuple[Constant, ...]:
    """What the device file says, at the clock in use."""
    peak = {"float32": "fp32_flops_per_s", "tfloat32": "tf32_flops_per_s", "half": "fp16_flops_per_s"}
    peak |= {"float8": "fp8_flops_per_s", "int8": "int8_ops_per_s"}
    wanted = [
        ("SMs", "sm_count", ""),
        ("clock", "clock_hz", "Hz"),
        ("L2 bandwidth", "l2.bandwidth_bytes_per_s", "B/s"),
        ("DRAM bandwidth", "dram.bandwidth_bytes_per_s", "B/s"),
    ]
    if work.kind in (WorkKind.GEMM, WorkKind.ATTENTION):
        name = FORMATS[int(gemm_rows([work], config).format[0])] if work.gemm is not None else FORMATS[HALF]
        wanted.insert(2, (f"{name} peak", f"compute.{peak[name]}", "op/s"))
    else:
        wanted.insert(2, ("float32 peak", "compute.fp32_flops_per_s", "op/s"))
    return tuple(Constant(name, _at(config, path), unit, path=path) for name, path, unit in wanted)


def _at(config: GpuConfig, path: str) -> float:
    value: object = config
    for name in path.split("."):
        value = getattr(value, name)
    assert isinstance(value, (int, float))
    return float(value)


def _fitted(work: Work, config: GpuConfig, fit: Calibration) -> tuple[Constant, ...]:
    """The calibration's numbers of this class of kernel."""
    values: dict[str, float]
    if work.kind is WorkKind.GEMM:
        kind, part = "gemm", FORMATS[int(gemm_rows([work], config).format[0])]
        values = asdict(fit.gemm[FORMATS.index(part)])
    elif work.attention is not None:
        a = work.attention
        kernel = att.DECODE if a.q_len == 1 else (att.PREFILL if a.causal else att.ENCODER)
        kind, part = "attention", att.KERNELS[kernel]
        values = asdict(fit.attention[kernel])
    else:
        kind, part = "vector", "all"
        values = asdict(fit.vector)
    source = f"calibration '{config.calibration}', {kind} {part}: {_origin(kind, part, config, fit)}"
    return tuple(Constant(name, value, _unit(name), source) for name, value in values.items())


def _origin(kind: str, part: str, config: GpuConfig, fit: Calibration) -> str:
    """Where the numbers of a class of kernel come from, on this device."""
    if part in fit.shared:
        return "fitted jointly to several devices, with this one's clock and latencies (transfer.py)"
    if not any((t.preset, t.kind, t.part) == (config.calibration, kind, part) for t in TABLES):
        return "taken from other devices, no kernels of this class were measured here (fit/start.py)"
    if not config.validated:
        return "fitted to measured kernels of another device and moved to this one (transfer.py)"
    return "fitted to measured kernels (tetrasim calibrate gpu)"


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS if name.endswith(end)), "")
