"""Choose the mapping, then lower: spatial when the whole model fits on chip, else the overlay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.fpga.compression import compressed, stored_weight_bytes
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dataflow.explain import explain
from tetrasim.hw_targets.fpga.dataflow.kernel import Run, simulate
from tetrasim.hw_targets.fpga.dataflow.sizing import full_speed
from tetrasim.hw_targets.fpga.overlay import lower_overlay
from tetrasim.hw_targets.fpga.pipeline import lower_pipeline
from tetrasim.hw_targets.fpga.resources import limiting
from tetrasim.hw_targets.fpga.spatial import Design, build, total_cost
from tetrasim.sim.engine.program import Program
from tetrasim.sim.engine.runs import simulate_one
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.passes.precision import with_precision

MAX_REUSE = 4096
FEWEST_BITS = 4  # below it, no transformer in hand keeps its accuracy


@dataclass(frozen=True, slots=True)
class Decision:
    """`mapping` with the reuse factor of the spatial one; `note` says why."""

    mapping: str
    reuse: int
    note: str


@dataclass(frozen=True, eq=False)
class Spatial:
    """A simulated spatial design: depths sized, frames run."""

    design: Design
    run: Run
    frames: int

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first input row accepted to the last output row of the first inference."""
        return self._frame_end(0)

    @property
    def interval_cycles(self) -> int:
        """Cycles between the ends of the last two inferences (the latency when only one was simulated)."""
        if self.frames == 1:
            return self.latency_cycles
        return self._frame_end(self.frames - 1) - self._frame_end(self.frames - 2)

    def _frame_end(self, frame: int) -> int:
        end = 0
        for a, actor in enumerate(self.design.network.actors):
            if not actor.writes:
                end = max(end, int(self.run.done[self.run.offset[a] + (frame + 1) * actor.firings - 1]))
        return end


@lru_cache(maxsize=64)
def decide(graph: Graph, config: FpgaConfig) -> Decision:
    """The mapping of one graph: as the config says; else the faster of those that hold the model.

    Raises:
        CapacityError: `mapping: spatial` is asked for and nothing fits.
    """
    if config.mapping == "overlay":
        return Decision("overlay", 0, config.chosen or "overlay, as configured")
    if compressed(config.numbers):
        why = "a pipeline of layers has no compressed weights"
    elif graph.states:
        why = "the model keeps state between runs (KV cache)"
    elif any(node.attrs.get("in_place", 0) for node in graph.nodes):
        why = "the model writes rows into a tensor in place"
    elif any("body" in node.attrs for node in graph.nodes):
        why = "the model steps through a recurrence, which a pipeline of layers does not"
    elif graph.weight_bytes * 8 > config.fabric.memory_bits + config.fabric.ff:
        why = (
            f"{graph.weight_bytes:,} bytes of weights exceed {config.fabric.memory_bits // 8:,} bytes on chip"
        )
    else:
        reuse, name, share = find_reuse(graph, config)
        if share <= 1:
            pipeline = Decision("spatial", reuse, f"reuse {reuse}: {share:.0%} of the usable {name}")
            return _faster(graph, config, pipeline)
        even = "" if config.spatial.reuse else "even "
        much = f"{share:.0%} of" if share < 10 else f"{share:.0f} times"
        why = f"{even}at reuse {reuse} a spatial pipeline needs {much} the usable {name}"
        fits = what_fits(graph, config)
        would = f"fits: {'; '.join(fits)}" if fits else "no reuse factor and no width fits"
        if config.mapping == "spatial":
            raise CapacityError(
                f"the model does not fit {config.part}: {why}", hint=f"{would}; or mapping: overlay"
            )
        return Decision("overlay", 0, f"overlay because {why} ({would})")
    if config.mapping == "spatial":
        raise CapacityError(
            f"the model cannot be a spatial pipeline on {config.part}: {why}",
            hint="use mapping: overlay (or auto)",
        )
    return Decision("overlay", 0, f"overlay because {why}")


def _faster(graph: Graph, config: FpgaConfig, spatial: Decision) -> Decision:
    """`spatial`, or the overlay where `auto` may choose and the overlay ends sooner."""
    if config.mapping != "auto" or not overlay_holds(graph, config):
        return spatial
    pipeline = simulate_design(graph, spatial.reuse, config)
    spatial_us = pipeline.latency_cycles / config.clock_hz * 1e6
    overlay_us = simulate_one(lambda g: lower_overlay(g, config), graph)[1].total_ps / 1e6
    if spatial_us <= overlay_us:
        return spatial
    why = f"it takes {overlay_us:.4g} us, a spatial pipeline at {spatial.note} {spatial_us:.4g} us"
    return Decision("overlay", 0, f"overlay because {why}")


def overlay_holds(graph: Graph, config: FpgaConfig) -> bool:
    """Whether the overlay has room for weights and state: off chip, or without such memory on chip."""
    needed = graph.state_bytes + stored_weight_bytes(graph, config.numbers)
    if config.off_chip is not None:
        return needed <= config.off_chip.capacity_bytes
    return needed + live_bytes(graph) <= config.fabric.memory_bits // 8


def live_bytes(graph: Graph) -> int:
    """Largest sum of activations alive between two nodes of the topological order."""
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs if v is not None}
    alive = peak = sum(v.type.nbytes for v in graph.inputs if v in last)
    ends: dict[int, int] = {}
    for value, i in last.items():
        if value in graph.producer or value in graph.inputs:
            ends[i] = ends.get(i, 0) + value.type.nbytes
    for i, node in enumerate(graph.nodes):
        alive += sum(v.type.nbytes for v in node.outputs)
        peak = max(peak, alive)
        alive -= ends.get(i, 0) + sum(v.type.nbytes for v in node.outputs if v not in last)
    return peak


def settle(graphs: Sequence[tuple[str, Graph]], config: FpgaConfig) -> FpgaConfig:
    """One mapping for all `graphs` of a run, by phase: a device holds one design.

    A pipeline is the design of one graph. A run of several graphs (prefill and decode, the steps of a growing
    cache) goes to the overlay, which runs them all; a configured mapping stays.
    """
    if config.mapping != "auto":
        return config
    different = dict.fromkeys(graph for _, graph in graphs)
    if len(different) > 1:
        phases = " and ".join(dict.fromkeys(name for name, _ in graphs))
        why = f"overlay because one design runs all of {phases}: a spatial pipeline holds one graph"
    else:
        chosen = decide(graphs[0][1], config)
        if chosen.mapping == "spatial":
            return _settled(config, "spatial", "")
        why = chosen.note
    return _settled(config, "overlay", why)


def _settled(config: FpgaConfig, mapping: str, why: str) -> FpgaConfig:
    return FpgaConfig.model_validate({**config.model_dump(), "mapping": mapping, "chosen": why})


def find_reuse(graph: Graph, config: FpgaConfig) -> tuple[int, str, float]:
    """The configured reuse factor, or the smallest power of two that fits; with its limiting resource and
    share."""
    if config.spatial.reuse:
        return (config.spatial.reuse, *limiting(total_cost(graph, config.spatial.reuse, config), config))
    reuse = 1
    while True:
        name, share = limiting(total_cost(graph, reuse, config), config)
        if share <= 1 or reuse >= MAX_REUSE:
            return reuse, name, share
        reuse *= 2


def what_fits(graph: Graph, config: FpgaConfig) -> tuple[str, ...]:
    """Settings under which the spatial pipeline fits, each with one change: the smallest reuse factor, the
    most bits, distributed arithmetic."""
    found = []
    if config.spatial.reuse and config.spatial.strategy != "distributed_arithmetic":
        reuse, name, share = find_reuse(graph, with_overrides(config, {"spatial.reuse": 0}))
        if share <= 1:
            found.append(f"spatial.reuse={reuse} ({share:.0%} of the {name})")
    reuse = config.spatial.reuse or 1
    if config.numbers.format == "fixed":
        for bits in range(config.numbers.bits - 1, FEWEST_BITS - 1, -1):
            whole = min(config.numbers.integer_bits, bits)
            less = with_overrides(config, {"numbers.bits": bits, "numbers.integer_bits": whole})
            name, share = limiting(
                total_cost(with_precision(graph, less.numbers.precision), reuse, less), less
            )
            if share <= 1:
                found.append(f"numbers.bits={bits} ({share:.0%} of the {name})")
                break
    if config.spatial.strategy != "distributed_arithmetic":
        adders = with_overrides(config, {"spatial.strategy": "distributed_arithmetic"})
        name, share = limiting(total_cost(graph, reuse, adders), adders)
        if share <= 1:
            found.append(f"spatial.strategy=distributed_arithmetic ({share:.0%} of the {name})")
    return tuple(found)


def simulate_spatial(graph: Graph, config: FpgaConfig) -> Spatial:
    """The pipeline at the decided reuse factor, sized and run.

    Raises:
        CapacityError: configured FIFO depths deadlock; the message names the FIFO and the depth that runs.
    """
    return simulate_design(graph, decide(graph, config).reuse, config)


@lru_cache(maxsize=16)
def simulate_design(graph: Graph, reuse: int, config: FpgaConfig) -> Spatial:
    """Build, size and run the pipeline at `reuse`, whether it fits the device or not."""
    frames = config.spatial.frames
    design = build(graph, reuse, config)
    pace = config.spatial.frame_interval_cycles or max(a.firings * a.ii for a in design.network.actors)
    design = build(graph, reuse, config, pace)
    if config.spatial.fifo_depth == 0:
        sized = full_speed(design.network, frames)
        found = Spatial(replace(design, network=sized.network), sized.run, frames).interval_cycles
        if frames > 1 and found > pace and not config.spatial.frame_interval_cycles:
            # buffers between stages, not the slowest stage, limit the rate: inputs no faster than results
            design = build(graph, reuse, config, found)
            sized = full_speed(design.network, frames)
        network, run = sized.network, sized.run
    else:
        depths = tuple(max(config.spatial.fifo_depth, f.initial) for f in design.network.fifos)
        network = design.network.with_depths(depths)
        run = simulate(network, frames)
    stuck = explain(network, run, frames)
    if stuck is not None:
        hint = "set spatial.fifo_depth to 0 to have depths searched"
        raise CapacityError(stuck.text(), hint=hint)
    return Spatial(replace(design, network=network), run, frames)


def lower(graph: Graph, config: FpgaConfig) -> Program:
    """The program of `graph` on this card."""
    if decide(graph, config).mapping == "overlay":
        return lower_overlay(graph, config)
    return lower_pipeline(
        graph, simulate_spatial(graph, config).design, simulate_spatial(graph, config).run, config
    )
