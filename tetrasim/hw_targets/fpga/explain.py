"""Why an op takes what it takes on an FPGA: its stage in a pipeline, or its tasks on the overlay."""

from __future__ import annotations

from tetrasim.hw_targets.common.explanation import Constant, Explanation, Place
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.demands import demands_of, unpriced
from tetrasim.hw_targets.fpga.lower import decide, simulate_spatial
from tetrasim.hw_targets.fpga.overlay import OFF_CHIP, ON_CHIP, priced, tasks_of
from tetrasim.hw_targets.fpga.parts import OVERLAY_NAMES
from tetrasim.sim.ops.work import Work

_OVERLAY = (
    "cycles of a product = batch x m x ceil(k / dot length) x ceil(n / columns); a task takes the longer of"
    " streaming its weights and computing, then memory latency and control"
)
_STAGE = (
    "a stage takes a token (a row) every `interval` cycles: a product with reuse factor R every R cycles,"
    " with products / R multipliers; time = firings x interval, then the depth of its pipeline"
)


def explain(work: Work, config: FpgaConfig, place: Place | None) -> tuple[Explanation, ...]:
    """The stage of a node that is laid out as hardware; else its tasks on the overlay."""
    if place is not None and decide(place.graph, config).mapping == "spatial":
        return _stage(place, config)
    return (_tasks(work, config),)


def _tasks(work: Work, config: FpgaConfig) -> Explanation:
    used = unpriced(config)
    demands = demands_of(work, used)
    columns = priced(tasks_of([work], used), config)
    to_us = 1e6 / config.overlay.clock_hz
    spent = columns.part_cycles.sum(axis=0).tolist()
    parts = tuple((name, c * to_us) for name, c in zip(OVERLAY_NAMES, spent, strict=True) if c)
    moved = columns.level_bytes.sum(axis=0).tolist()
    unit = config.overlay
    memory = () if config.off_chip is None else (
        Constant("memory bandwidth", config.off_chip.bandwidth_bytes_per_s, "B/s",
                 path="off_chip.bandwidth_bytes_per_s"),
        Constant("of it in long bursts", config.off_chip.efficiency, "", path="off_chip.efficiency"),
    )  # fmt: skip
    return Explanation(
        kernel=f"{work.op} on the overlay in {len(demands)} task{'s' * (len(demands) > 1)}",
        time_us=float(columns.latency_cycles.sum()) * to_us,
        bound_by=max(parts, key=lambda p: p[1])[0] if parts else "nothing",
        formula=_OVERLAY,
        parts=parts,
        level_bytes=tuple((n, float(b)) for n, b in zip((ON_CHIP, OFF_CHIP), moved, strict=True)),
        choices=tuple(
            (f"task {i}: {d.kind}", f"{d.own_cycles:,} cycles on the {d.resource}, {d.macs:,} MACs")
            for i, d in enumerate(demands, start=1)
        ),
        constants=(
            Constant("dot length", unit.dot_length, "", path="overlay.dot_length"),
            Constant("columns", unit.columns, "", path="overlay.columns"),
            Constant("vector lanes", unit.vector_lanes, "", path="overlay.vector_lanes"),
            Constant("clock", unit.clock_hz, "Hz", path="overlay.clock_hz"),
            *memory,
        ),
    )


def _stage(place: Place, config: FpgaConfig) -> tuple[Explanation, ...]:
    design = simulate_spatial(place.graph, config).design
    host = design.hosts[place.node]
    stage = design.stages[host]
    actors = [a for a in design.network.actors if a.node == host]
    if stage is None or not actors:
        return ()
    main = actors[-1]
    cycles, depth = main.firings * main.ii, max(main.firings * main.ii, 1)
    to_us = 1e6 / config.clock_hz
    node = place.graph.nodes[host]
    parts = (("initiation interval", cycles * to_us), ("pipeline depth", stage.latency * to_us))
    return (
        Explanation(
            kernel=f"stage of {node.op} '{node.name}'",
            time_us=(depth + stage.latency) * to_us,
            bound_by=max(parts, key=lambda p: p[1])[0],
            formula=_STAGE,
            parts=parts,
            choices=(
                ("mapping", decide(place.graph, config).note),
                ("reuse factor", str(design.reuse)),
                ("interval", f"{main.ii} cycles, {main.firings} firings per inference"),
                ("depth", f"{stage.latency} cycles"),
                ("multipliers", f"{stage.multipliers:g}"),
                ("fabric", f"{stage.cost.lut:.0f} LUT, {stage.cost.ff:.0f} FF, {stage.cost.dsp:.0f} DSP"),
                ("estimate", "within the fitted rows" if stage.in_domain else "outside the fitted rows"),
            ),
            constants=(Constant("clock", config.clock_hz, "Hz", path="clock_hz"),),
        ),
    )
