"""From graph nodes to items: `Work` plus the facts that depend on where a node stands in the graph.

Which state is K (row-major) and which V (column-major) follows from the attention that reads it; whether
attention finds its keys in the banks follows from whether they are stored as state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tetrasim.hw_targets.pim.steps import StateWrite
from tetrasim.sim.ir.graph import Graph, Kind, Node, Role, Value
from tetrasim.sim.ops.gather import written_rows
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work, WorkKind

# Ops that are an activation, and the function they apply; gated ones multiply its result by a second input.
_ACTIVATIONS = {
    "Gelu": "Gelu", "Relu": "Relu", "LeakyRelu": "LeakyRelu", "Sigmoid": "Sigmoid", "Tanh": "Tanh",
    "Swish": "Swish", "QuickGelu": "QuickGelu", "SwiGLU": "Swish", "GeGLU": "Gelu",
}  # fmt: skip
TABLES = frozenset(_ACTIVATIONS.values())  # functions of one value that a table holds
_GATED = ("SwiGLU", "GeGLU")
_LAYOUT_OPS = {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Cast", "Expand"}


@dataclass(frozen=True)
class Item:
    """Everything that the price of a node depends on. `state_writes`: caches it writes, in place;
    `resident`: the second operand of a product of activations already lies in the banks; `row_elements`:
    length of a gathered row; `loose_in`, `loose_out`: what it reads and writes is not handed over row by
    row between neighbours, so that a tensor larger than the host's SRAM passes through the banks;
    `activation`: the function of one value that it applies, `gated`: and multiplies by a second input;
    `elementwise`: "Mul" or "Add" of equal shapes."""

    work: Work
    state_writes: tuple[StateWrite, ...] = ()
    resident: bool = False
    row_elements: int = 0
    loose_in: bool = False
    loose_out: bool = False
    activation: str = ""
    gated: bool = False
    elementwise: str = ""


@dataclass(frozen=True)
class Placement:
    """Facts of a graph that do not depend on the context length."""

    column_major: frozenset[str]  # names of state values that attention reads as V
    resident: frozenset[str]  # names of nodes whose matrix operand is stored state
    loose_in: frozenset[str] = frozenset()  # names of nodes, see `Item`
    loose_out: frozenset[str] = frozenset()


def placement_of(graph: Graph) -> Placement:
    """Find K and V states and the products that read them."""
    roots = {v.name: _root(graph, v) for n in graph.nodes for v in n.outputs if v.role is Role.STATE}
    stored = set(roots.values()) | {s.before for s in graph.states}
    values: set[Value] = set()
    resident: set[str] = set()
    for node in graph.nodes:
        work = work_of(node)
        if work.kind is WorkKind.ATTENTION:
            key, value = node.inputs[1], node.inputs[2]
            assert key is not None
            assert value is not None
            values.add(_root(graph, value))
            if _root(graph, key) in stored:
                resident.add(node.name)
        elif work.gemm is not None and not work.gemm.weight_is_b:
            matrix = node.inputs[1]
            if matrix is not None and _root(graph, matrix) in stored:
                resident.add(node.name)
    column = frozenset(name for name, root in roots.items() if root in values)
    return Placement(column, frozenset(resident), *_loose(graph))


def _loose(graph: Graph) -> tuple[frozenset[str], frozenset[str]]:
    """Nodes of the host whose operands are not streamed row by row from one neighbour to the next: inputs
    and outputs of the graph, and what rearranges, sorts or scatters."""
    outputs = set(graph.outputs)
    by_rows = [_by_rows(node) for node in graph.nodes]
    # A view hands on what it reads: its producer and its readers count.
    handed: list[bool] = []  # the node's result comes row by row
    for i, node in enumerate(graph.nodes):
        view = work_of(node).kind is WorkKind.VIEW
        handed.append(_streams_in(graph, node, handed) if view else by_rows[i])
    loose_in, loose_out = set[str](), set[str]()
    asked = [True] * len(graph.nodes)  # every reader of the node's result takes it row by row
    for i in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[i]
        view = work_of(node).kind is WorkKind.VIEW
        readers = {c for v in node.outputs for c in graph.consumers.get(v, ())}
        open_end = any(v in outputs for v in node.outputs)
        asked[i] = not open_end and all(
            asked[c] if work_of(graph.nodes[c]).kind is WorkKind.VIEW else by_rows[c] for c in readers
        )
        if not view and not (by_rows[i] and _streams_in(graph, node, handed)):
            loose_in.add(node.name)
        if not view and not (by_rows[i] and asked[i]):
            loose_out.add(node.name)
    return frozenset(loose_in), frozenset(loose_out)


def _streams_in(graph: Graph, node: Node, handed: list[bool]) -> bool:
    """Whether every value that the node reads, parameters aside, comes row by row."""
    read = [v for v in node.inputs if v is not None and v.role not in (Role.WEIGHT, Role.CONSTANT)]
    return all(v in graph.producer and handed[graph.producer[v]] for v in read)


def _by_rows(node: Node) -> bool:
    """Whether the node makes row after row of its result from the same rows of its operands. Products and
    attention load vectors and return results over the channels by themselves."""
    work = work_of(node)
    if work.kind in (WorkKind.GEMM, WorkKind.ATTENTION):
        return True
    if work.kind is WorkKind.GATHER:
        return node.inputs[0] is not None and node.inputs[0].role is Role.WEIGHT
    present = [v.type.shape for v in node.inputs if v is not None]
    shape = node.outputs[0].type.shape
    same = any(s[:-1] == shape[: len(s) - 1] and len(s) for s in present)
    vector = work.vector
    if vector is None or not vector.reduces:
        return same
    return same and not vector.kept and vector.cols == present[0][-1]


def item_of(node: Node, placement: Placement) -> Item:
    """The item of one node."""
    work = work_of(node)
    writes = tuple(
        _state_write(node, v, v.name in placement.column_major) for v in node.outputs if v.role is Role.STATE
    )
    row = node.outputs[0].type.shape[-1] if work.kind is WorkKind.GATHER and node.outputs[0].type.shape else 0
    return replace(
        plain_item(work),
        state_writes=writes,
        resident=node.name in placement.resident,
        row_elements=row,
        loose_in=node.name in placement.loose_in,
        loose_out=node.name in placement.loose_out,
    )


def plain_item(work: Work) -> Item:
    """An op by itself, its matrix operand and whatever the host's SRAM does not hold in the banks."""
    pairwise = (
        work.kind is WorkKind.VECTOR
        and work.op in ("Mul", "Add")
        and len({o.elements for o in (*work.reads, *work.writes)}) == 1
        and all(o.kind in (Kind.FLOAT, Kind.BFLOAT) for o in work.reads)
    )
    return Item(
        work,
        resident=True,
        loose_in=True,
        loose_out=True,
        activation=_ACTIVATIONS.get(work.op, ""),
        gated=work.op in _GATED,
        elementwise=work.op if pairwise else "",
    )


def _state_write(node: Node, value: Value, column_major: bool) -> StateWrite:
    """Tokens, width and sequences of what `node` stores: the rows that it writes in place, else all rows."""
    shape = value.type.shape
    new = value.type.elements
    axis = len(shape) - 2 if len(shape) > 1 else 0
    rows = written_rows(node)
    if rows is not None:
        new = rows.type.elements
        given = node.attrs.get("axis", axis)
        axis = int(given) % len(shape) if isinstance(given, int) else axis
    sequences = shape[0] if axis > 0 and len(shape) > 2 else 1  # batch first
    width = max(1, value.type.elements // max(sequences * shape[axis] if shape else 1, 1))
    tokens = max(1, new // (width * sequences))
    return StateWrite(tokens, width, column_major, max(1, value.type.bits // 8), sequences)


def _root(graph: Graph, value: Value) -> Value:
    """The value that `value` is a re-arrangement of; an append leads to its new rows' state."""
    while value in graph.producer:
        node = graph.nodes[graph.producer[value]]
        picked = bool(node.attrs.get("absorbed", 0))
        kept = node.op in _LAYOUT_OPS or written_rows(node) is not None
        if not (kept or picked) or not node.inputs or node.inputs[0] is None:
            return value
        value = node.inputs[0]
    return value
