"""The mapping in words (`tetrasim show mapping`), and what the trace shows of it over time."""

from __future__ import annotations

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dataflow.occupancy import occupancies
from tetrasim.hw_targets.fpga.lower import decide, simulate_spatial
from tetrasim.hw_targets.fpga.spatial import Design
from tetrasim.sim.engine.timeline import Counter, Timeline
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.workload import Workload


def mapping_text(graph: Graph, config: FpgaConfig, workload: Workload) -> str:
    """Which mapping, its layers with cycles and fabric, its FIFOs with depth and occupancy."""
    del workload
    chosen = decide(graph, config)
    if chosen.mapping == "overlay":
        unit = config.overlay
        return (
            f"{chosen.note}\n"
            f"engine: {unit.dot_length} x {unit.columns} multiply-accumulates per cycle at "
            f"{unit.clock_hz / 1e6:.0f} MHz\n"
            f"vector unit: {unit.vector_lanes} lanes, {unit.function_lanes} function results per cycle\n"
        )
    done = simulate_spatial(graph, config)
    microseconds = done.latency_cycles * config.clock_ns / 1000
    lines = [
        f"spatial pipeline, {chosen.note}",
        f"latency {done.latency_cycles} cycles ({microseconds:.3f} us)",
        f"interval {done.interval_cycles} cycles between inferences",
        *layer_table(graph, done.design),
        f"{'FIFO':<60} {'bits':>6} {'depth':>6} {'highest':>8}",
    ]
    for fifo, highest in zip(done.design.network.fifos, done.run.highest, strict=True):
        lines.append(f"{fifo.name[:60]:<60} {fifo.bits:>6} {fifo.depth:>6} {int(highest):>8}")
    return "\n".join(lines) + "\n"


def layer_table(graph: Graph, design: Design) -> list[str]:
    """One line per layer: cycles per token, depth, multipliers, fabric."""
    lines = [
        f"{'layer':<40} {'op':<18} {'II':>5} {'depth':>6} {'mults':>8} "
        + " ".join(f"{name:>8}" for name in ("LUT", "FF", "DSP", "BRAM18"))
    ]
    for node, stage in zip(graph.nodes, design.stages, strict=True):
        if stage is None:
            continue
        c = stage.cost
        lines.append(
            f"{node.name[-40:]:<40} {node.op[:18]:<18} {stage.ii:>5} {stage.latency:>6} "
            f"{stage.multipliers:>8.0f} " + " ".join(f"{n:>8.0f}" for n in (c.lut, c.ff, c.dsp, c.bram18))
        )
    return lines


def counters(graph: Graph, config: FpgaConfig, timeline: Timeline) -> tuple[Counter, ...]:
    """Entries of every FIFO over the first inference of a spatial pipeline; nothing for the overlay."""
    if decide(graph, config).mapping != "spatial":
        return ()
    found = simulate_spatial(graph, config)
    period_ps = round(1e12 / config.clock_hz)
    last = -(-timeline.total_ps // period_ps)
    made = []
    for fifo in occupancies(found.design.network, found.run, found.frames):
        shown = fifo.cycle <= last
        times = (fifo.cycle[shown] * period_ps).tolist()
        name = f"FIFO {fifo.name} (depth {fifo.depth})"
        made.append(Counter(name, "entries", tuple(times), tuple(fifo.entries[shown].tolist())))
    return tuple(made)
