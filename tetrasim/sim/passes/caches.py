"""Pass `caches`: rows that join a cache are written where they belong.

What: `Concat(past, new)` of a cache becomes a `KVAppend`; a cache that drops as many rows as it takes
(`Concat(Slice(past), new)`, `Slice(Concat(past, new))`, new rows at either end) is a ring: the same append
with `evicted` rows, over which the new ones are written. A scatter between two transposes that undo each
other (how exporters index an inner axis) scatters along that axis of the cache itself.
Why: a runtime keeps a cache in place, one row is written however long it is. When illegal: what is no state
of the graph is concatenated as written; rows that something else reads when they are dropped are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tetrasim.sim.ir.graph import Graph, Node, Role, Value, live
from tetrasim.sim.ops.movement import slice_bounds
from tetrasim.sim.ops.opdef import axis_of, int_attr
from tetrasim.sim.passes.contract import Match, Outcome, Pass, fresh, fused, helper, rewrite
from tetrasim.sim.passes.rebuild import substitute
from tetrasim.sim.passes.views import perm_of

_SCATTERS = ("ScatterND", "ScatterElements")


def _rule(match: Match, node: Node) -> Sequence[Node] | None:
    if node.op == "Concat":
        return _append(match, node)
    if node.op == "Slice":
        return _append_then_drop(match, node)
    return None


def _append(match: Match, node: Node) -> Sequence[Node] | None:
    """Concat of a cache, or of the rest of it, and new rows -> KVAppend."""
    parts = [v for v in node.inputs if v is not None]
    axis = axis_of(int_attr(node.attrs, "axis"), len(node.outputs[0].type.shape))
    for front in (False, True):
        held = parts[-1 if front else 0]
        past, evicted, dropping = _rest_of_state(match, held, axis, front)
        if past is None or len(parts) < 2:
            continue
        if evicted and not _is_last_reader(match, past, node, dropping):
            continue
        rows = parts[:-1] if front else parts[1:]
        joined, new = _joined(node, rows, axis)
        return *joined, _kv_append(node, past, new, axis, evicted, front, (*dropping,))
    return None


def _append_then_drop(match: Match, node: Node) -> Sequence[Node] | None:
    """Slice that keeps the newest rows of Concat(cache, new) -> KVAppend that drops the oldest."""
    grown = match.producer(node.inputs[0], "Concat", "KVAppend")
    if grown is None or grown.inputs[0] is None or node.outputs[0].role is not Role.STATE:
        return None
    shape = grown.outputs[0].type.shape
    axis = axis_of(int_attr(grown.attrs, "axis"), len(shape))
    for front in (False, True):
        past = grown.inputs[-1 if front else 0]
        cut = _cut(node, axis, front)
        if past is None or not _is_state(match, past) or len(grown.inputs) < 2 or cut is None:
            continue
        if not 0 < cut <= past.type.shape[axis]:
            continue
        rows = [v for v in (grown.inputs[:-1] if front else grown.inputs[1:]) if v is not None]
        joined, new = _joined(node, rows, axis)
        return *joined, _kv_append(node, past, new, axis, cut, front, (grown,))
    return None


def _kv_append(
    node: Node, past: Value, new: Value, axis: int, evicted: int, front: bool, parts: Sequence[Node]
) -> Node:
    more = {"evicted": evicted} if evicted else {}
    return fused(
        node, "KVAppend", (past, new), {"axis": axis, **more, **({"front": 1} if front else {})}, parts
    )


def _joined(node: Node, rows: Sequence[Value], axis: int) -> tuple[tuple[Node, ...], Value]:
    """New rows in one tensor: several are concatenated by themselves."""
    if len(rows) == 1:
        return (), rows[0]
    shape = list(rows[0].type.shape)
    shape[axis] = sum(v.type.shape[axis] for v in rows)
    both = fresh(node, "new rows", replace(rows[0].type, shape=tuple(shape)))
    return (helper(node, "new rows", "Concat", rows, both, {"axis": axis}),), both


def _rest_of_state(
    match: Match, held: Value, axis: int, front: bool
) -> tuple[Value | None, int, tuple[Node, ...]]:
    """The cache that `held` is, or is the newest rows of; how many rows it drops; the slice that does it."""
    if _is_state(match, held):
        return held, 0, ()
    cut = match.producer(held, "Slice")
    if cut is None or cut.inputs[0] is None or not _is_state(match, cut.inputs[0]):
        return None, 0, ()
    dropped = _cut(cut, axis, front)
    return (None, 0, ()) if dropped is None else (cut.inputs[0], dropped, (cut,))


def _cut(node: Node, axis: int, front: bool) -> int | None:
    """Rows that a Slice drops at the old end of `axis`, where it does nothing else; None otherwise."""
    source = node.inputs[0]
    if source is None:
        return None
    dropped = 0
    for i, (low, high, step) in enumerate(slice_bounds(source.type.shape, node.attrs)):
        size = source.type.shape[i]
        if step != 1:
            return None
        if i != axis and (low, high) != (0, size):
            return None
        if i == axis:
            if (high if not front else size) != size or (low if front else 0) != 0:
                return None
            dropped = size - high if front else low
    return dropped


def _is_state(match: Match, value: Value) -> bool:
    return value.role is Role.STATE and value in match.graph.inputs


def _is_last_reader(match: Match, past: Value, node: Node, through: Sequence[Node]) -> bool:
    """Whether nothing but `node`, through these slices, reads the cache."""
    own = {id(node), *map(id, through)}
    users = (*match.consumers(past), *(u for cut in through for u in match.consumers(cut.outputs[0])))
    return all(id(user) in own for user in users)


def _as_states(graph: Graph) -> Graph:
    """What an append makes is the state, also where the graph does not return it."""
    made = [n.outputs[0] for n in graph.nodes if n.op == "KVAppend"]
    return substitute(graph, {v: replace(v, role=Role.STATE) for v in made if v.role is Role.ACTIVATION})


def _along_inner_axes(graph: Graph) -> Outcome:
    """Transpose, scatter, transpose back -> a scatter into the cache, whose `layout` says which axes the
    indices count. What reads the transposed result reads a view of the cache."""
    match = Match(graph)
    nodes: list[Node] = []
    done: set[int] = set()
    for node in graph.nodes:
        back = _transposed_back(match, node) if node.op in _SCATTERS else None
        turn = match.producer(node.inputs[0], "Transpose") if back is not None else None
        if back is None or turn is None:
            nodes.append(node)
            continue
        done.add(id(back))
        attrs = {**node.attrs, "layout": perm_of(turn)}
        ins = (turn.inputs[0], *node.inputs[1:])
        nodes.append(fused(node, node.op, ins, attrs, (turn, back), back.outputs))
        nodes.append(
            helper(node, "view", "Transpose", back.outputs, node.outputs[0], {"perm": perm_of(turn)})
        )
    if not done:
        return Outcome(graph, False)
    kept = [n for n in nodes if id(n) not in done]
    return Outcome(replace(graph, nodes=live(kept, graph.outputs)), True)


def _transposed_back(match: Match, node: Node) -> Node | None:
    """The transpose that undoes the one in front of a scatter."""
    turn = match.producer(node.inputs[0], "Transpose")
    if turn is None or turn.inputs[0] is None or "layout" in node.attrs:
        return None
    perm = perm_of(turn)
    for user in match.consumers(node.outputs[0]):
        if user.op == "Transpose" and tuple(perm[i] for i in perm_of(user)) == tuple(range(len(perm))):
            return user
    return None


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    grown = rewrite(graph, "append to a cache", _rule)
    turned = _along_inner_axes(_as_states(grown.graph))
    return Outcome(turned.graph, grown.changed or turned.changed, grown.notes)


PASS = Pass("caches", run, "rows that join a cache are appended to it, whatever the file copies", ("views",))
