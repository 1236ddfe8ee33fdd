"""From measurements to a preset: the values that are measured as they stand, and the YAML file.

Register tiles and rates of 16-bit formats follow from the instruction sets that the processor announces;
power cannot be read without privileges and stays an assumption, marked so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tetrasim.files.write import make_parents, write_file
from tetrasim.hw_targets.common.user_presets import user_preset_file
from tetrasim.hw_targets.cpu.config import VectorConfig

if TYPE_CHECKING:
    from tetrasim.hw_targets.cpu.calibration.calibrate import Calibration, Measurements

Tree = dict[str, "float | int | str | Tree"]
# Not measured: assumed on every machine, marked in the file.
ASSUMED = (
    "power.",
    "tile_rows",
    "tile_cols",
    "col_granularity",
    "col_block",
    "depth_block",
    "call_overhead",
    "eager_op_ns",
    "numa",
    "bf16_rate",
    "fp16_rate",
    "row_overhead",
    "gather_row",
)
# What only a quiet machine tells: rates of several threads.
ASSUMED_WHEN_DISTURBED = ("core.clock_hz", "fork_join", "shared_stream", "dram.bandwidth")


def host_values(m: Measurements) -> Tree:
    """Config values before the fits (vector and product parameters start from plain assumptions)."""
    clock = m.clock_hz
    # With all threads busy the clock falls and hyper-threads share units: one number covers both.
    shared_clock = clock * min(m.peak_all / (m.peak_one * m.host.cores), 1.0)
    cores = m.host.cores
    return {
        "precision": "float32",
        "measured_as": "host",
        "measured_threads": m.quiet_threads,
        "cores": cores,
        "core": {
            "clock_hz": round(shared_clock),
            "single_clock_hz": round(clock),
            "fp32_macs_per_cycle": _short(m.peak_one / clock),
            **_format_rates(m.host.flags),
            "int8_rate": _short(m.integer_rate),
        },
        "gemm": {**_tile(m.host.flags), **_GEMM_START},
        "vector": {
            **dict.fromkeys(VectorConfig.model_fields, 0.0),
            "row_overhead_cycles": 40.0,
            "gather_row_cycles": 40.0,
        },
        "l1": _cache(m, 0, m.host.l1_bytes, 1, clock),
        "l2": _cache(m, 1, m.host.l2_bytes, m.host.l2_shared_by, clock),
        "l3": _cache(m, 2, m.levels.l3_reach_bytes, m.host.l3_shared_by, clock),
        "dram": {
            "capacity_bytes": m.host.memory_bytes,
            "bandwidth_bytes_per_s": _short(max(_dram(m), m.levels.levels[3].read_all)),
            "core_bandwidth_bytes_per_s": _short(_dram(m)),
            "numa_nodes": 1,
        },
        "overhead": {
            "node_ns": _short(m.overheads.node * 1e9),
            "run_ns": _short(m.overheads.run * 1e9),
            "value_ns": _short(m.overheads.value * 1e9),
            "fork_join_ns": 3000.0 if cores > 1 else 0.0,
            "eager_op_ns": 8000.0,
        },
        "power": _power(cores, m.peak_one * cores),
    }


_GEMM_START: Tree = {
    "depth_block": 256,
    "col_block": 128,
    "efficiency": 0.95,
    "tile_overhead_cycles": 20.0,
    "call_overhead_cycles": 100.0,
    "pack_bytes_per_cycle": 8.0,
    "step_floor_cycles": 4.0,
    "stream_slowdown": 0.8,
    "reread_efficiency": 0.5,
    "overlap": 0.9,
    "dram_overlap": 0.1,
}


def _short(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def _tile(flags: frozenset[str]) -> Tree:
    """Register tile of the library for the widest vectors announced."""
    if "avx512f" in flags:
        rows, cols = 12, 32
    elif "avx2" in flags:
        rows, cols = 6, 16
    else:
        rows, cols = 8, 8
    return {"tile_rows": rows, "tile_cols": cols, "col_granularity": max(cols // 2, 4)}


def _format_rates(flags: frozenset[str]) -> Tree:
    """Multiply-add rates relative to float32, from the instruction sets announced: tiles (AMX) 16, matrix
    instructions of Arm (BFMMLA) 4, pairs in one instruction (AVX512-BF16) 2."""
    bfloat = (
        16.0 if "amx_bf16" in flags else 4.0 if "bf16" in flags else 2.0 if "avx512_bf16" in flags else 1.0
    )
    half = 2.0 if {"avx512_fp16", "asimdhp"} & flags else 1.0
    return {"bf16_rate": bfloat, "fp16_rate": half}


def _cache(m: Measurements, level: int, nbytes: int, shared_by: int, clock: float) -> Tree:
    """Capacity and rates of one level; the mean of reading and copying."""
    found = m.levels.levels[level]
    private = shared_by <= 1 and level < 2
    every = max(found.all, found.one, _weights_from_l3(m) if level == 2 else 0.0)
    return {
        "bytes_per_core": nbytes if private else 0,
        "shared_bytes": 0 if private else nbytes,
        "cluster_cores": 1 if private else max(min(shared_by, m.host.cores), 1),
        "bytes_per_cycle": _short(found.one / clock),
        "total_bytes_per_s": 0.0 if private else _short(every),
    }


def _weights_from_l3(m: Measurements) -> float:
    """Bytes per second of products of one row on all threads whose weights fit the last cache, not L2."""
    near = m.host.l2_bytes * m.host.cores
    sizes = ((4 * s.gemm.n * s.gemm.k, s) for s in m.shared_gemms if s.gemm.m == 1 and not s.cold)
    return max((n / s.seconds for n, s in sizes if near < n < m.levels.l3_reach_bytes), default=0.0)


def _dram(m: Measurements) -> float:
    """Reading from main memory on one thread, as products of one row do it: on small pages, a weight after
    the other."""
    return max(4 * s.gemm.n * s.gemm.k / s.seconds for s in m.gemms if s.cold and s.gemm.m == 1)


def _power(cores: int, macs_per_s: float) -> Tree:
    """Assumed: 5 W idle and 10 W per core at its multiply-add peak, split as in the shipped presets."""
    dynamic = 10.0 * cores
    return {
        "idle_w": 5.0,
        "limit_w": 5.0 + 2 * dynamic,
        "core_active_w": 4.0,
        "fp32_mac_pj": _short(0.4 * dynamic / macs_per_s * 1e12),
        "vector_op_pj": _short(0.2 * dynamic / macs_per_s * 1e12),
        "l2_byte_pj": 4.0,
        "l3_byte_pj": 10.0,
        "dram_byte_pj": 120.0,
    }


def to_yaml(calibration: Calibration) -> str:
    """The preset file, every number with its source."""
    m = calibration.measured
    how = f"calibrated here; other programs used {m.timings.other_cores:.1f} of {m.host.cores} cores"
    assumed = ASSUMED if m.quiet_threads == m.host.cores else (*ASSUMED, *ASSUMED_WHEN_DISTURBED)
    lines = [f"title: {_quoted(f'{m.host.name} ({m.host.cores} cores, calibrated)')}"]
    lines += _leaves(calibration.config, "", how, assumed)
    return "\n".join(lines) + "\n"


def _leaves(config: BaseModel, path: str, how: str, assumed: tuple[str, ...]) -> list[str]:
    out: list[str] = []
    indent = "  " if path else ""
    for name in type(config).model_fields:
        value = getattr(config, name)
        here = f"{path}.{name}" if path else name
        if isinstance(value, BaseModel):
            out += [f"{name}:", *_leaves(value, here, how, assumed)]
        elif isinstance(value, str | bool):
            out.append(f"{indent}{name}: {_quoted(value) if isinstance(value, str) else str(value).lower()}")
        elif any(word in here for word in assumed):
            out.append(f"{indent}{name}: {{value: {value}, source: not measured, mark: assumed}}")
        else:
            out.append(f"{indent}{name}: {{value: {value}, source: {_quoted(how)}}}")
    return out


def _quoted(text: str) -> str:
    """A YAML single-quoted scalar."""
    return "'" + text.replace("'", "''") + "'"


def write_host_preset(calibration: Calibration) -> Path:
    """Write the preset where `cpu/host` is looked up first; the file appears whole or not at all."""
    target = user_preset_file("cpu/host")
    make_parents(target)
    write_file(target, to_yaml(calibration))
    return target
