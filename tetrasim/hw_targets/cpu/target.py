"""The cpu target: a graph runtime (or an eager framework) on a multi-core processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.target import Capacity, MemoryUse, Peaks, ResourceUse, Target
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.errors import error_range
from tetrasim.hw_targets.cpu.explain import explain
from tetrasim.hw_targets.cpu.floor import least_energy
from tetrasim.hw_targets.cpu.lower import lower
from tetrasim.hw_targets.cpu.machine import LEVELS, machine_of
from tetrasim.hw_targets.cpu.numerics import arithmetic_of, precision_of
from tetrasim.hw_targets.cpu.parts import PARTS
from tetrasim.hw_targets.cpu.placement import live_bytes, resident_level
from tetrasim.hw_targets.cpu.price import price
from tetrasim.sim.ir.graph import Graph
from tetrasim.units import si_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

    from tetrasim.hw_targets.common.abilities import Calibrated, Calibration, Measured, Progress


def capacity(graph: Graph, config: CpuConfig) -> Capacity:
    """Weights, state and activations against main memory.

    Raises:
        CapacityError: they do not fit; a processor has nowhere to stream weights from.
    """
    held = sum(s.before.type.nbytes for s in graph.states) if config.kv_append == "copy" else 0
    use = MemoryUse(
        "DRAM", config.dram.capacity_bytes, graph.weight_bytes, graph.state_bytes + held, live_bytes(graph)
    )
    if not use.fits:
        raise CapacityError(
            f"the model needs {si_bytes(use.used_bytes)} (weights {si_bytes(use.weights_bytes)}, state"
            f" {si_bytes(use.state_bytes)}, activations {si_bytes(use.activation_bytes)}) and"
            f" main memory holds {si_bytes(use.capacity_bytes)}",
            hint="use a narrower precision, a smaller model or batch, or a preset with more memory"
            " (dram.capacity_bytes)",
        )
    level = LEVELS[resident_level(graph, machine_of(config))]
    return Capacity(f"weights in {level}", (use,), f"the working set of a run is served by {level}")


def resources(graph: Graph, config: CpuConfig) -> tuple[ResourceUse, ...]:
    """Threads against cores."""
    del graph
    return (ResourceUse("threads", config.active_threads, config.cores, "cores"),)


def peaks(config: CpuConfig) -> Peaks:
    """Ceilings of the running threads at the format in use."""
    machine = machine_of(config)
    bits = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8}[config.precision]
    cycles_per_s = machine.clock_hz * machine.threads
    vector = max(config.vector.add, config.vector.access_cycles, 1e-3)
    return Peaks(
        config.mac_rate(bits, config.precision == "bfloat16") * cycles_per_s,
        cycles_per_s / vector,
        tuple((name, machine.bandwidth(level, machine.threads)) for level, name in enumerate(LEVELS)),
    )


def _validate() -> Sequence[DataclassInstance]:
    from tetrasim.hw_targets.cpu.validate import validate  # reads the measurements

    return validate()


def _measure(onnx_path: Path, graph: Graph, config: CpuConfig) -> Measured:
    from tetrasim.hw_targets.cpu.measure import measure  # needs onnxruntime

    return measure(onnx_path, graph, config)


def _calibrate(wanted: Calibration, progress: Progress) -> Calibrated:
    from tetrasim.hw_targets.cpu.calibration.report import calibrated  # needs onnxruntime and a compiler

    return calibrated(wanted, progress)


TARGET = Target(
    name="cpu",
    title="CPU: blocked products and vector loops on cores, caches and DRAM",
    config_type=CpuConfig,
    precision=precision_of,
    lower=lower,
    capacity=capacity,
    resources=resources,
    peaks=peaks,
    arithmetic=arithmetic_of,
    price=price,
    error_range=error_range,
    parts=PARTS,
    explain=explain,
    least_energy=least_energy,
    validate=_validate,
    measure=_measure,
    calibrate=_calibrate,
)
