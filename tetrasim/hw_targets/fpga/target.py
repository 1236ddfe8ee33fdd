"""The FPGA target: spatial pipelines for models that fit on chip, a streaming overlay for the others."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.target import Capacity, MemoryUse, Peaks, Prices, ResourceUse, Target
from tetrasim.hw_targets.fpga.compression import compressed, stored_weight_bytes
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.demands import unpriced
from tetrasim.hw_targets.fpga.explain import explain
from tetrasim.hw_targets.fpga.floor import least_energy
from tetrasim.hw_targets.fpga.lower import decide, live_bytes, lower, settle, simulate_spatial
from tetrasim.hw_targets.fpga.numerics import FpgaArithmetic, arithmetic
from tetrasim.hw_targets.fpga.overlay import OFF_CHIP, ON_CHIP, priced, tasks_of
from tetrasim.hw_targets.fpga.parts import OVERLAY_NAMES, PARTS
from tetrasim.hw_targets.fpga.resources import Cost
from tetrasim.hw_targets.fpga.spatial import Design
from tetrasim.hw_targets.fpga.view import counters, mapping_text
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.metric import ErrorRange
from tetrasim.sim.ops.work import Work
from tetrasim.sim.precision import Precision

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from numpy.typing import NDArray


def precision(config: FpgaConfig) -> Precision:
    """The formats that the card stores and multiplies."""
    return config.numbers.precision


def capacity(graph: Graph, config: FpgaConfig) -> Capacity:
    """Where weights, state and activations live.

    Raises:
        CapacityError: neither the chip nor the memory beside it holds the model.
    """
    chosen = decide(graph, config)
    on_chip = config.fabric.memory_bits // 8
    if chosen.mapping == "spatial":
        pipeline = simulate_spatial(graph, config)
        memory = MemoryUse(
            "on-chip memory", on_chip + config.fabric.ff // 8, graph.weight_bytes, 0, live_bytes(graph)
        )
        note = (
            f"{chosen.note}; first result after {pipeline.latency_cycles} cycles, "
            f"then one every {pipeline.interval_cycles} cycles{outside_note(pipeline.design)}"
        )
        return Capacity("spatial pipeline", (memory,), note)
    state, weights = graph.state_bytes, stored_weight_bytes(graph, config.numbers)
    note = chosen.note + compression_note(config)
    if config.off_chip is None:
        memory = MemoryUse("on-chip memory", on_chip, weights, state, live_bytes(graph))
        if not memory.fits:
            raise CapacityError(
                f"the model needs {memory.used_bytes:,} bytes; {config.part} holds {on_chip:,} bytes "
                "on chip and the preset has no off-chip memory",
                hint="a card with HBM or DDR (fpga/u280, fpga/u250), or fewer bits per weight",
            )
        return Capacity("overlay, weights on chip", (memory,), note)
    outer = MemoryUse(config.off_chip.kind.upper(), config.off_chip.capacity_bytes, weights, state, 0)
    if not outer.fits:
        raise CapacityError(
            f"the model needs {outer.used_bytes:,} bytes of weights and cache; {config.part} has "
            f"{outer.capacity_bytes:,} bytes of {config.off_chip.kind.upper()}",
            hint="a card with more memory, or --set numbers.format=int8",
        )
    inner = MemoryUse("on-chip memory", on_chip, 0, 0, live_bytes(graph))
    spill = (
        "" if inner.fits else f"; {inner.used_bytes:,} bytes of activations exceed the chip: tiled by rows"
    )
    shown = inner if inner.fits else MemoryUse("on-chip memory", on_chip, 0, 0, on_chip)
    mode = f"overlay, weights streamed from {config.off_chip.kind.upper()}"
    return Capacity(mode, (outer, shown), note + spill)


def compression_note(config: FpgaConfig) -> str:
    """Says what compression is assumed, since no arithmetic emulates it."""
    numbers = config.numbers
    if not compressed(numbers):
        return ""
    bits = numbers.weight_bits or float(numbers.storage.bits)
    return (
        f"; {numbers.weight_density:.0%} of the weights kept in {bits:g} bits on average (not emulated: the"
        " model must have been compressed so)"
    )


def outside_note(design: Design) -> str:
    """Says so when fabric comes from laws alone, outside the synthesised layers."""
    products = [s for s in design.stages if s is not None and s.multipliers]
    outside = sum(not s.in_domain for s in products)
    if not outside:
        return ""
    return (
        f"; the fabric of {outside} of {len(products)} products is extrapolated beyond the synthesised layers"
    )


def resources(graph: Graph, config: FpgaConfig) -> tuple[ResourceUse, ...]:
    """Fabric used against the device."""
    if decide(graph, config).mapping == "spatial":
        used = simulate_spatial(graph, config).design.cost_with_fifos()
    else:
        used = overlay_cost(config)
    f = config.fabric
    rows = (("LUT", used.lut, f.lut), ("FF", used.ff, f.ff), ("DSP", used.dsp, f.dsp))
    memory = (("BRAM18", used.bram18, f.bram18), ("URAM", used.uram, f.uram))
    return tuple(ResourceUse(name, float(ceil(n)), float(have)) for name, n, have in (*rows, *memory))


def overlay_cost(config: FpgaConfig) -> Cost:
    """The engine's fabric: lanes, and double-buffered weight and activation memories."""
    unit, bits = config.overlay, config.numbers.storage.bits
    lanes = unit.macs_per_cycle
    weights = 2 * ceil(lanes * bits / 36)  # one word per lane and cycle, 512 deep, double-buffered
    uram = config.fabric.uram // 4  # activations and scores
    bram = min(weights + (256 if uram == 0 else 0), config.fabric.bram18)
    functions = unit.function_lanes * 8.0
    return Cost(
        lut=lanes * unit.lut_per_mac + unit.vector_lanes * 900.0 + functions * 600,
        ff=lanes * unit.ff_per_mac + unit.vector_lanes * 1200.0 + functions * 900,
        dsp=lanes * unit.dsp_per_mac + unit.vector_lanes * 4.0 + functions,
        bram18=float(bram),
        uram=float(uram),
    )


def peaks(config: FpgaConfig) -> Peaks:
    """Ceilings of the device: every DSP, and both ports of every memory block, busy in every cycle."""
    clock = max(config.overlay.clock_hz, config.clock_hz)
    fabric = config.fabric
    vector = float(config.overlay.vector_lanes * clock)
    on_chip = (fabric.bram18 * 2 * 36 + fabric.uram * 2 * 72) / 8 * clock
    off = config.off_chip.bandwidth_bytes_per_s if config.off_chip else on_chip
    macs = max(fabric.dsp / max(config.overlay.dsp_per_mac, 1.0), float(config.overlay.macs_per_cycle))
    return Peaks(macs * clock, vector, ((ON_CHIP, on_chip), (OFF_CHIP, off)))


def price(works: Sequence[Work], config: FpgaConfig) -> Prices:
    """Single ops on the overlay engine, cold pipeline."""
    tasks = tasks_of(works, unpriced(config))
    columns = priced(tasks, config)
    owner = np.repeat(np.arange(len(works)), tasks.lengths)

    def summed(column: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(owner, column, len(works)).astype(np.float64)

    seconds = summed(columns.latency_cycles) / config.overlay.clock_hz
    energy_uj = summed(columns.energy_pj.sum(axis=1)) * 1e-6 + config.power.static_w * seconds * 1e6
    parts = np.stack([summed(part) for part in columns.part_cycles.T], axis=1)
    bound = tuple(
        OVERLAY_NAMES[most] if n else "nothing to do"
        for most, n in zip(parts.argmax(axis=1).tolist(), tasks.lengths, strict=True)
    )
    return Prices(seconds * 1e6, energy_uj, bound)


def error_range(config: FpgaConfig, metric: str) -> ErrorRange | None:
    """None until a whole-model measurement on the same card is available: layer laws are validated, not
    models."""
    del config, metric
    return None


def _arithmetic(config: FpgaConfig) -> FpgaArithmetic:
    return arithmetic(config)


def _validate() -> Sequence[DataclassInstance]:
    from tetrasim.hw_targets.fpga.validate import validate  # reads the measurements

    return validate()


TARGET: Target[FpgaConfig] = Target(
    name="fpga",
    title="FPGA",
    config_type=FpgaConfig,
    precision=precision,
    lower=lower,
    capacity=capacity,
    resources=resources,
    peaks=peaks,
    arithmetic=_arithmetic,
    price=price,
    error_range=error_range,
    parts=PARTS,
    explain=explain,
    least_energy=least_energy,
    mapping_text=mapping_text,
    counters=counters,
    settle=settle,
    validate=_validate,
)
