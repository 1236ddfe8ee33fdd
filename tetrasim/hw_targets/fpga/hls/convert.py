"""Graph -> plan: which nodes become which HLS layers, and which nodes cannot.

Every node is looked at before anything is written; if some have no HLS layer, one error lists all of them
with the reason. Ops that move elements by index (Transpose, Slice, Split, constant Gather, Pad, Expand, …)
become `Select` layers whose index is found by running the op's own reference semantics on element numbers, so
no op is described twice.
"""

from __future__ import annotations

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.batchnorm import fold_batch_norms
from tetrasim.hw_targets.fpga.hls.converter import TABLE_ENTRIES, Converter
from tetrasim.hw_targets.fpga.hls.handlers import handler
from tetrasim.hw_targets.fpga.hls.plan import Layer, Plan
from tetrasim.hw_targets.fpga.hls.quantised import fold
from tetrasim.hw_targets.fpga.hls.units import with_units
from tetrasim.sim.ir.graph import Graph


def convert(graph: Graph, entries: int = TABLE_ENTRIES) -> Plan:
    """The plan of `graph`, without types.

    Raises:
        UserError: some nodes have no HLS layer (all are listed), or the batch is not 1.
    """
    maker = Converter(graph, entries)
    for value in graph.inputs:
        maker.add_input(value)
    for node in graph.nodes:
        maker.node(node, handler(node.op))
    if maker.refused:
        listed = "\n".join(f"  - {node.name} ({node.op}): {why}" for node, why in maker.refused)
        raise UserError(
            f"{len(maker.refused)} of {len(graph.nodes)} nodes have no HLS layer:\n{listed}",
            where=graph.name,
            hint="nothing was written; `tetrasim run … --on fpga/…` still simulates the model on the overlay",
        )
    outputs = maker.outputs()
    layers = _used(maker.layers, outputs)
    given = {x.name: maker.given[x.name] for x in layers if x.name in maker.given}
    stored = frozenset(x.name for x in layers if x.head.node in maker.stored)
    plan = fold_batch_norms(Plan(graph.name, layers, outputs, {}, given, stored))
    return with_units(fold(plan))


def _used(layers: list[Layer], outputs: tuple[str, ...]) -> tuple[Layer, ...]:
    """Layers that reach an output; inputs stay, so that the interface does not change."""
    needed = set(outputs)
    for layer in reversed(layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return tuple(x for x in layers if x.name in needed or isinstance(x, p.Input))
