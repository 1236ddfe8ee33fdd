"""Attention masks that are known at run time only: what they hide cannot be left out of a price."""

from __future__ import annotations

from collections.abc import Iterable

from tetrasim.sim.ir.graph import Graph, Value
from tetrasim.sim.ops.registry import work_of


def run_time_masks(graphs: Iterable[Graph]) -> str:
    """One sentence on the masks whose numbers come from inputs; empty where there is none."""
    masks: dict[str, Value] = {}
    inputs: dict[str, None] = {}
    for graph in graphs:
        for node in graph.nodes:
            mask = node.inputs[3] if node.op == "Attention" and len(node.inputs) > 3 else None
            shape = work_of(node).attention if mask is not None else None
            if mask is None or mask.data is not None or shape is None or shape.mask is not None:
                continue
            masks[f"{graph.name}/{node.name}"] = mask
            inputs.update(dict.fromkeys(v.name for v in _sources(graph, mask)))
    if not masks:
        return ""
    said = f"the mask of {len(masks)} attentions is" if len(masks) > 1 else "the mask of one attention is"
    names = ", ".join(f"'{name}'" for name in [*inputs][:3]) or "its inputs"
    return f"{said} computed from {names} at run time: priced as if it hid nothing"


def _sources(graph: Graph, value: Value) -> list[Value]:
    """The graph inputs that a value depends on."""
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    todo = [value]
    while todo:
        now = todo.pop()
        if now in seen:
            continue
        seen.add(now)
        at = graph.producer.get(now)
        if at is not None:
            todo += [v for v in graph.nodes[at].inputs if v is not None]
        elif now in graph.inputs:
            found[now] = None
    return list(found)
