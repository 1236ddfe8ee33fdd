"""From measured times to the parameters of the model, by least absolute relative error.

Vector costs are solved one op after the other (each op adds one kind). The product's parameters are found
by coordinate descent on the logarithm of predicted over measured: no derivative, no starting-point tuning,
the same answer for the same measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

from tetrasim.hw_targets.cpu.calibration.samples import GemmSample, VectorSample
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of
from tetrasim.hw_targets.cpu.machine import DRAM, machine_of
from tetrasim.hw_targets.cpu.placement import Placement
from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind

# name -> (lowest, highest, first step as a factor or, for `overlap`, a difference)
GEMM_BOUNDS = {
    "efficiency": (0.3, 1.0),
    "tile_overhead_cycles": (1.0, 2000.0),
    "step_floor_cycles": (0.5, 12.0),
    "pack_bytes_per_cycle": (0.2, 64.0),
    "stream_slowdown": (0.0, 3.0),
    "reread_efficiency": (0.05, 1.0),
    "overlap": (0.0, 1.0),
    "dram_overlap": (0.0, 1.0),
}


def fit_vector(samples: Sequence[VectorSample], clock_hz: float) -> dict[str, float]:
    """Cycles per element by kind; kinds that no op isolates follow the nearest one that was measured."""
    c = {s.op: s.seconds * clock_hz / s.elements for s in samples}
    access = min(c["Relu"] / 2, c["Identity"] / 2, c["Add"] / 3, c["Mul"] / 3)

    def rest(op: str, accesses: int, known: float = 0.0) -> float:
        return max(c[op] - accesses * access - known, 0.0)

    erf, tanh = rest("Erf", 2), rest("Tanh", 2)
    # A fused chain pays for every step: GELU has four beside its erf, seven beside its tanh.
    step = (rest("Gelu", 2, erf) / 4 + rest("GeluTanh", 2, tanh) / 7) / 2
    mul = min(step, max(c["Mul"] - 2 * access, 0.0))
    norm = rest("LayerNormalization", 2, 3 * mul)
    out = {
        "access_cycles": access,
        "add": mul,
        "mul": mul,
        "div": rest("Div", 3),
        "sqrt": rest("Sqrt", 2),
        "exp": rest("Exp", 2),
        "erf": erf,
        "tanh": tanh,
        "log": rest("Log", 2),
        "pow": rest("Pow", 2),
        "trig": rest("Sin", 2),
        "max": rest("Relu", 2),
        "cmp": rest("Less", 3),
        "cast": rest("Cast", 2),
        "select": rest("Where", 4),
        "reduce_add": norm / 4,
        "residual_norm": c["SkipLayerNormalization"],
        "softmax": c["Softmax"],
        "move_cycles": c["Concat"],
        "strided_move_cycles": math.sqrt(c["Transpose"] * c["TransposeOdd"]),
    }
    return {name: float(f"{value:.4g}") for name, value in out.items()}


def sample_work(gemm: Gemm) -> Work:
    """The product as the cost model sees it."""
    role = Role.WEIGHT if gemm.weight_is_b else Role.ACTIVATION
    reads = (Operand(gemm.m * gemm.k, 32), Operand(gemm.k * gemm.n, 32, role=role))
    return Work("MatMul", WorkKind.GEMM, reads, (Operand(gemm.m * gemm.n, 32),), gemm=gemm)


def predict(sample: GemmSample, config: CpuConfig) -> float:
    """Seconds of one sample without its node's overhead (cold pairs: the mean of the two shapes)."""
    machine = machine_of(config)
    shapes = [sample.gemm]
    if sample.cold:
        shapes.append(Gemm(1, sample.gemm.m, sample.gemm.k, sample.gemm.n))
    total = 0.0
    for gemm in shapes:
        work = sample_work(gemm)
        near = machine.level_for(work.nbytes)
        at = Placement((1, DRAM), 1) if sample.cold else Placement((near, near), near)
        seconds = dict(cost_of(work, machine, at).seconds)
        total += sum(s for name, s in seconds.items() if name != "node overhead")
    return total / len(shapes)


def fit_gemm(samples: Sequence[GemmSample], config: CpuConfig) -> dict[str, float]:
    """The values of GEMM_BOUNDS that minimise the mean absolute logarithm of predicted over measured."""

    def with_values(values: Mapping[str, float]) -> CpuConfig:
        return config.model_copy(update={"gemm": config.gemm.model_copy(update=dict(values))})

    def loss(values: Mapping[str, float]) -> float:
        trial = with_values(values)
        return sum(abs(math.log(predict(s, trial) / s.seconds)) for s in samples) / len(samples)

    start = {name: float(getattr(config.gemm, name)) for name in GEMM_BOUNDS}
    return {name: float(f"{v:.4g}") for name, v in descend(loss, start, GEMM_BOUNDS).items()}


SHARED_BOUNDS = {"fork_join_ns": (0.0, 100_000.0), "shared_stream_slowdown": (0.0, 3.0)}


def fit_threads(samples: Sequence[GemmSample], config: CpuConfig) -> CpuConfig:
    """`config` with what products on all threads tell: the cost of handing out work, the bandwidth of all
    cores together (the cold product of one row, less that cost), and how much of it more rows cost. Without
    samples (one core) it stays as it is."""
    if not samples:
        return config
    streams = [s for s in samples if s.cold and s.gemm.m == 1]

    def with_values(values: Mapping[str, float]) -> CpuConfig:
        cost_s = values["fork_join_ns"] * 1e-9
        found = [4 * s.gemm.n * s.gemm.k / max(s.seconds - cost_s, s.seconds / 2) for s in streams]
        total = max((*found, config.dram.core_bandwidth_bytes_per_s))
        changed = {
            "overhead": {"fork_join_ns": values["fork_join_ns"]},
            "gemm": {"shared_stream_slowdown": values["shared_stream_slowdown"]},
            "dram": {"bandwidth_bytes_per_s": float(f"{total:.4g}")},
        }
        return config.model_copy(
            update={part: getattr(config, part).model_copy(update=new) for part, new in changed.items()}
        )

    def loss(values: Mapping[str, float]) -> float:
        trial = with_values(values)
        return sum(abs(math.log(predict(s, trial) / s.seconds)) for s in samples) / len(samples)

    best = descend(loss, {"fork_join_ns": 3000.0, "shared_stream_slowdown": 0.6}, SHARED_BOUNDS)
    return with_values({name: float(f"{value:.4g}") for name, value in best.items()})


def descend(
    loss: Callable[[Mapping[str, float]], float],
    start: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """Coordinate descent inside `bounds`, with steps from a quarter of the range down to 1/256 of it. Where
    no single step helps, two at once are tried: parameters that act on the same samples form valleys."""
    best = dict(start)
    least = loss(best)
    fraction = 0.25
    while fraction > 1 / 300:
        before = least
        for names in (*((n,) for n in bounds), *combinations(bounds, 2)):
            if len(names) == 2 and least < before:
                break
            steps = [_neighbours(best[n], *bounds[n], fraction) for n in names]
            for values in product(*steps):
                trial = {**best, **dict(zip(names, values, strict=True))}
                found = loss(trial)
                if found < least * (1 - 1e-4):
                    best, least = trial, found
        if least == before:
            fraction /= 2
    return best


def _neighbours(value: float, low: float, high: float, fraction: float) -> tuple[float, float]:
    """One step up and down: in ratio where the range spans decades, in difference otherwise."""
    if low > 0 and high / low > 20:
        factor = (high / low) ** fraction
        return min(value * factor, high), max(value / factor, low)
    step = (high - low) * fraction
    return min(value + step, high), max(value - step, low)
