"""Pass `gated`: the product of a gated feed-forward layer (Shazeer, arXiv:2002.05202).

What: act(gate) * up becomes SwiGLU(gate, up) or GeGLU(gate, up). Why: the activated gate never goes to
memory in any implementation. When illegal: the activated gate has another reader, or shapes broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.sim.ir.graph import Attr, Graph, Node
from tetrasim.sim.passes.contract import Match, Miss, Outcome, Pass, fused, is_parameter, other, rewrite

_GATES = {"Swish": "SwiGLU", "Gelu": "GeGLU"}


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op != "Mul":
        return None
    for value in node.inputs:
        gate = match.producer(value, *_GATES)
        if gate is None or value is None:
            continue
        up = other(node, value)
        if up is None or is_parameter(up) or up.type.shape != value.type.shape:
            continue
        if gate.attrs.get("alpha", 1.0) != 1.0:
            continue
        if not match.used_once(value):
            raise Miss(f"the activated gate '{value.name}' is also read elsewhere")
        attrs: dict[str, Attr] = {k: v for k, v in gate.attrs.items() if k == "approximate"}
        return (fused(node, _GATES[gate.op], (gate.inputs[0], up), attrs, (gate,)),)
    return None


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    return rewrite(graph, "gated", _rule)


PASS = Pass("gated", run, "gated products are one node", requires=("activations",))
