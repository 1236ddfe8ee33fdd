"""Pass `indexed`: rows that an index picks are read where they lie.

What: an index that is repeated along the last axes picks whole rows (`GatherElements` -> `GatherND`); rows
that only products read as their matrix are read by the products themselves (`absorbed`: the gather costs
nothing, and rows of a weight stay a weight); a scatter whose old data nothing else needs writes `in_place`.
Why: a library indexes into the table (grouped products of a mixture of experts, caches, product keys); the
copy that the file writes down never happens. When illegal: rows shorter than a memory burst are gathered
into a tile first, a copy of them is needed all the same; data that something else reads, and weights, which
the next run needs, are copied before rows are written over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Node, Role, Value
from tetrasim.sim.ops.gather import picked_run
from tetrasim.sim.ops.opdef import axis_of, int_attr
from tetrasim.sim.passes.contract import Match, Outcome, Pass, fresh, fused, helper, is_parameter, rewrite
from tetrasim.sim.passes.rebuild import substitute

SHORTEST_RUN = 32  # elements: a burst of 64 bytes of 16-bit numbers
_PICKS = ("Gather", "GatherND")
_PRODUCTS = ("MatMul", "Gemm")
_SCATTERS = ("ScatterND", "ScatterElements")


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op == "GatherElements":
        return _whole_rows(match, node)
    if node.op in _SCATTERS:
        return _scattered(match, node)
    return None


def _scattered(match: Match, node: Node) -> Sequence[Node] | None:
    """In place where nothing else needs the old data; one index per row where it is repeated along it."""
    attrs, inputs = dict(node.attrs), node.inputs
    parts: tuple[Node, ...] = ()
    if not int_attr(attrs, "in_place", 0) and _is_last_reader(match, node):
        attrs["in_place"] = 1
    index = inputs[1]
    grown = match.producer(index, "Expand") if node.op == "ScatterElements" else None
    once = grown.inputs[0] if grown is not None else None
    same_rank = index is not None and once is not None and len(once.type.shape) == len(index.type.shape)
    if grown is not None and same_rank:
        inputs, parts = (inputs[0], once, *inputs[2:]), (grown,)
    if attrs == node.attrs and inputs is node.inputs:
        return None
    return (fused(node, node.op, inputs, attrs, parts),)


def _whole_rows(match: Match, node: Node) -> Sequence[Node] | None:
    """GatherElements whose index is the same along every axis after the gathered one -> GatherND."""
    data, index = node.inputs[0], node.inputs[1]
    if data is None or index is None:
        return None
    shape, rank = data.type.shape, len(data.type.shape)
    axis = axis_of(int_attr(node.attrs, "axis", 0), rank)
    same = (shape[:axis], shape[axis + 1 :]) == (index.type.shape[:axis], index.type.shape[axis + 1 :])
    grown = match.producer(index, "Expand")
    if not same or axis == rank - 1 or grown is None or grown.inputs[0] is None:
        return None
    rows = grown.inputs[0]
    # One number per row: the axes before are there in full, those after are one.
    lead = index.type.shape[: axis + 1]
    if rows.type.shape != (*lead, *(1,) * (rank - axis - 1)):
        return None
    picked = fresh(node, "rows", replace(rows.type, shape=(*lead, 1)))
    view = helper(node, "rows", "Reshape", (rows,), picked, {"shape": picked.type.shape})
    return view, fused(node, "GatherND", (data, picked), {"batch_dims": axis}, (grown,))


def _is_last_reader(match: Match, node: Node) -> bool:
    """Whether nothing needs the old data besides this scatter, the next run included."""
    data = node.inputs[0]
    return data is not None and not is_parameter(data) and _only_user(match, data, node)


def _only_user(match: Match, value: Value, user: Node) -> bool:
    """Whether `user` alone reads the bytes of `value`, through views too."""
    if value in match.graph.outputs or any(n is not user for n in match.consumers(value)):
        return False
    view = match.producer(value, "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
    if view is None or view.inputs[0] is None:
        return True
    return not is_parameter(view.inputs[0]) and _only_user(match, view.inputs[0], view)


def _absorbed(match: Match, node: Node) -> bool:
    """Whether only products read what the node picks, as their second operand, in runs of whole bursts."""
    rows = node.outputs[0]
    readers = match.consumers(rows)
    return (
        node.op in _PICKS
        and rows not in match.graph.outputs
        and bool(readers)
        and picked_run(node) >= SHORTEST_RUN
        and all(r.op in _PRODUCTS and r.inputs[1] is rows and rows not in r.inputs[:1] for r in readers)
    )


def _absorb(graph: Graph) -> Outcome:
    match = Match(graph)
    found = [n for n in graph.nodes if not int_attr(n.attrs, "absorbed", 0) and _absorbed(match, n)]
    if not found:
        return Outcome(graph, False)
    marked = {id(n): replace(n, attrs={**n.attrs, "absorbed": 1}) for n in found}
    nodes = tuple(marked.get(id(n), n) for n in graph.nodes)
    weights = {
        n.outputs[0]: replace(n.outputs[0], role=Role.WEIGHT)
        for n in found
        if n.inputs[0] is not None and n.inputs[0].role is Role.WEIGHT
    }
    return Outcome(substitute(replace(graph, nodes=nodes), weights), True)


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    rows = rewrite(graph, "indexed rows", _rule)
    read = _absorb(rows.graph)
    return Outcome(read.graph, rows.changed or read.changed, rows.notes)


PASS = Pass(
    "indexed", run, "rows that products read are picked by the products; scatters say where they write"
)
