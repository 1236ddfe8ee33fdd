"""Pass `quantised`: activations that a file stores as integers.

What: QuantizeLinear followed only by DequantizeLinears with the same scale becomes one rounding node whose
result is a value of the integer format, and its readers read that value: a product of such a value and an
integer weight is an integer GEMM. Why: that is how quantised files (QDQ format) are meant to run. When
illegal: the integers themselves are read or are an output, scales differ or are per channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Node, Quant, Source, Value
from tetrasim.sim.passes.contract import Match, Outcome, Pass, scalar
from tetrasim.sim.passes.rebuild import replace_values


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    match = Match(graph)
    nodes: list[Node] = []
    swap: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and node.outputs[0] in swap:
            continue
        rounded = _rounding(match, node) if node.op == "QuantizeLinear" else None
        if rounded is None:
            nodes.append(replace_values(node, swap))
            continue
        nodes.append(replace_values(rounded, swap))
        for reader in match.consumers(node.outputs[0]):
            swap[reader.outputs[0]] = rounded.outputs[0]
    if not swap:
        return Outcome(graph, False)
    return Outcome(replace(graph, nodes=tuple(nodes)), True)


def _rounding(match: Match, node: Node) -> Node | None:
    """The rounding node that stands for a QuantizeLinear and its DequantizeLinears."""
    stored = node.outputs[0]
    readers = match.consumers(stored)
    scale, zero = scalar(node.inputs[1]), _zero(node.inputs)
    if scale is None or zero is None or stored in match.graph.outputs or not readers:
        return None
    for reader in readers:
        fits = reader.op == "DequantizeLinear" and reader.inputs[0] is stored
        if not fits or scalar(reader.inputs[1]) != scale or _zero(reader.inputs) != zero:
            return None
        if reader.outputs[0] in match.graph.outputs:
            return None
    value = replace(stored, type=replace(stored.type, quant=Quant((scale,), (int(zero),))))
    names = tuple(n for part in (node, *readers) for n in part.source.onnx)
    return replace(
        node,
        op="QuantizeDequantize",
        inputs=(node.inputs[0],),
        outputs=(value,),
        attrs={"to": stored.type.dtype, "scale": scale, "zero_point": int(zero)},
        source=Source(names, node.source.module),
    )


def _zero(inputs: Sequence[Value | None]) -> float | None:
    return scalar(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0


PASS = Pass("quantised", run, "values that are stored as integers have an integer format")
