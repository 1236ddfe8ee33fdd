"""Pass `recurrence`: steps that a file writes out one after the other become one `Recurrence`.

What: a run of nodes that repeats itself, in which every repetition reads the state of the one before, its own
slice of the same sequences, and values that stay; what the steps make is joined afterwards. Exporters unroll
such loops, and so does the import of `Scan` and `Loop`. Why: it is one kernel, not thousands. When illegal:
fewer than eight steps; a state that no local memory holds; bodies with a weight matrix or a product of
matrices, which are kernels of their own; steps that read anything else of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from tetrasim.sim.ir.graph import Attr, Graph, Node, Role, Source, TensorType, Value, live
from tetrasim.sim.ops.opdef import axis_of, int_attr, ints_attr
from tetrasim.sim.ops.recurrence import Body, Slices, step_works
from tetrasim.sim.ops.work import WorkKind
from tetrasim.sim.passes.contract import Match, Note, Outcome, Pass, is_parameter

FEWEST_STEPS = 8
LONGEST_STEP = 64  # nodes
MOST_NODES_READ = 2_000_000  # of candidates, over all tries: a few seconds
LARGEST_STATE = 4 << 20  # bytes: registers and local memories of the devices in hand hold a few MB
_LOOP_BOUND = ("starts", "ends")  # attributes of a slice that move with the step


class _NoLoopError(Exception):
    """The repetition is no recurrence; the text says why."""


@dataclass(frozen=True, slots=True)
class _Run:
    """`steps` repetitions of `period` nodes from node `start` on."""

    start: int
    period: int
    steps: int

    def node(self, graph: Graph, t: int, at: int) -> Node:
        return graph.nodes[self.start + t * self.period + at]


@dataclass(slots=True)
class _Draft:
    """What the steps read and make, as it is found. `carried`: the place in a step -> its state before."""

    stays: dict[Value, Value] = field(default_factory=dict)
    sequences: list[tuple[Value, Slices, Value]] = field(default_factory=list)  # source, slices, piece
    carried: dict[tuple[int, int], Value] = field(default_factory=dict)
    first: list[Value] = field(default_factory=list)  # states
    replaced: dict[Value, Value] = field(default_factory=dict)  # values of the pattern step -> of the body
    sliced: set[int] = field(default_factory=set)  # places of the nodes that only slice a sequence


def run(graph: Graph) -> Outcome:
    """Apply the pass."""
    notes: list[Note] = []
    changed, budget = False, MOST_NODES_READ
    for _ in range(32):  # several loops in one graph, one at a time
        for found in _repetitions(graph):
            if not _reads_pieces(graph, found):
                continue
            budget -= found.steps * found.period
            if budget < 0:
                notes.append(Note(graph.name, "recurrence", "too many repetitions to look at all of them"))
                return Outcome(graph, changed, tuple(dict.fromkeys(notes)))
            try:
                graph, note = _collapsed(graph, found)
            except _NoLoopError as why:
                if str(why):
                    notes.append(Note(graph.nodes[found.start].name, "recurrence", str(why)))
                continue
            notes.append(note)
            changed = True
            break
        else:
            return Outcome(graph, changed, tuple(dict.fromkeys(notes)))
    return Outcome(graph, changed, tuple(dict.fromkeys(notes)))


def _repetitions(graph: Graph) -> Iterator[_Run]:
    """Runs of nodes that look alike at a distance, the longest first; shorter periods before their multiples.
    Every place where the first step may begin is tried: a state is read before it is written."""
    known: dict[object, int] = {}
    marks = np.array([known.setdefault(_mark(n), len(known)) for n in graph.nodes], dtype=np.int64)
    found: list[_Run] = []
    for period in range(1, min(LONGEST_STEP, len(marks) // FEWEST_STEPS) + 1):
        same = np.concatenate([[False], marks[:-period] == marks[period:], [False]])
        edges = np.flatnonzero(np.diff(same.astype(np.int8)))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            steps = (end - start) // period + 1
            if steps >= FEWEST_STEPS:
                room = (end - start) % period
                found += [_Run(start + shift, period, steps) for shift in range(room + 1)]
                found += [_Run(start + shift, period, steps - 1) for shift in range(room + 1, period)]
    found.sort(key=lambda r: (-r.steps * r.period, r.period, r.start))
    seen: set[tuple[int, int]] = set()
    for one in found:
        if one.steps >= FEWEST_STEPS and (one.start, one.period) not in seen:
            seen.add((one.start, one.period))
            yield one


def _reads_pieces(graph: Graph, found: _Run) -> bool:
    """Does a step take a piece of a sequence, by a Slice or Gather of its own or as one output of a Split?
    Without one it is no recurrence, and a chain of thousands of like nodes need not be looked at closely."""
    for at in range(found.period):
        node = found.node(graph, 1, at)
        makers = (graph.producer.get(v) for v in node.inputs if v is not None)
        if node.op in ("Slice", "Gather") or any(
            i is not None and graph.nodes[i].op == "Split" for i in makers
        ):
            return True
    return False


def _mark(node: Node) -> object:
    """What makes two nodes look alike: op, types and attributes, except which slice they take."""
    attrs = tuple(
        (k, v) for k, v in sorted(node.attrs.items()) if not (node.op == "Slice" and k in _LOOP_BOUND)
    )
    ins = tuple(None if v is None else v.type for v in node.inputs)
    return (node.op, ins, tuple(v.type for v in node.outputs), attrs)


def _collapsed(graph: Graph, found: _Run) -> tuple[Graph, Note]:
    """The graph with the run as one node.

    Raises:
        _NoLoopError: it is not a recurrence.
    """
    draft = _Draft()
    for at in range(found.period):
        _read(graph, found, at, draft)
    slices_carried = any(at in draft.sliced for at, _ in draft.carried)  # the step begins elsewhere
    if not draft.carried or not draft.sequences or slices_carried:
        raise _NoLoopError("")
    made = [found.node(graph, 1, at) for at in range(found.period)]
    inner = tuple(_renamed(n, draft.replaced) for i, n in enumerate(made) if i not in draft.sliced)
    joins = _joins(graph, found)
    extra, pieces = _pieces(joins, made)
    states = [_output(graph, found, 1, place) for place in draft.carried]
    inputs = (*draft.stays.values(), *(piece for _, _, piece in draft.sequences), *draft.carried.values())
    outputs = (*pieces, *states)
    nodes = live((*inner, *extra), outputs)
    needed = {v for n in nodes for v in n.inputs if v is not None}
    if any(v not in needed for v in draft.carried.values()):
        raise _NoLoopError("")
    body = Body(
        Graph(f"{found.node(graph, 0, 0).name} step", nodes, inputs, outputs),
        found.steps,
        tuple(s for _, s, _ in draft.sequences),
        tuple(j.axis for j in joins),
    )
    _check_body(body)
    return _replaced(graph, found, draft, body, joins)


def _read(graph: Graph, found: _Run, at: int, draft: _Draft) -> None:
    """Classify the inputs of the node at one place of all steps."""
    nodes = [found.node(graph, t, at) for t in range(found.steps)]
    sliced = _slices_of(nodes)
    if sliced is not None:
        source, slices = sliced
        out = nodes[1].outputs[0]
        piece = replace(out, role=Role.ACTIVATION)
        draft.sequences.append((source, slices, piece))
        draft.replaced[out] = piece
        draft.sliced.add(at)
        return
    for j, value in enumerate(nodes[1].inputs):
        if value is None:
            continue
        by_step = [n.inputs[j] for n in nodes]
        places = [_place(graph, found, v) for v in by_step]
        if all(p is not None and p[0] == t for t, p in enumerate(places)):
            if len({p[1:] for p in places if p is not None}) > 1:
                raise _NoLoopError("")
        elif all(p is not None and p[0] == t for t, p in enumerate(places[1:])):
            _carry(by_step, [p[1:] for p in places[1:] if p is not None], value, draft)
        elif len(set(by_step)) == 1:
            draft.stays.setdefault(value, value)
        else:
            _split_piece(graph, by_step, value, draft)


def _carry(by_step: list[Value | None], places: list[tuple[int, int]], value: Value, draft: _Draft) -> None:
    first = by_step[0]
    if len(set(places)) > 1 or first is None:
        raise _NoLoopError("")
    known = draft.carried.get(places[0])
    if known is None:
        known = Value(f"{value.name}/before", value.type)
        draft.carried[places[0]] = known
        draft.first.append(first)
    elif draft.first[list(draft.carried).index(places[0])] is not first:
        raise _NoLoopError("two states begin apart and go on as one")
    draft.replaced[value] = known


def _split_piece(graph: Graph, by_step: list[Value | None], value: Value, draft: _Draft) -> None:
    """Step t reads output t of one Split into equal parts."""
    first = by_step[0]
    if value in draft.replaced:
        return
    made = None if first is None else graph.producer.get(first)
    split = None if made is None else graph.nodes[made]
    if split is None or split.op != "Split" or split.inputs[0] is None:
        raise _NoLoopError("")
    at = [split.outputs.index(v) if v in split.outputs else -1 for v in by_step if v is not None]
    stride = at[1] - at[0]
    if min(at) < 0 or stride == 0 or any(b - a != stride for a, b in pairwise(at)):
        raise _NoLoopError("")
    axis = axis_of(int_attr(split.attrs, "axis", 0), len(value.type.shape))
    width = value.type.shape[axis]
    if any(v.type.shape[axis] != width for v in split.outputs):
        raise _NoLoopError("")
    piece = replace(value, role=Role.ACTIVATION)
    draft.sequences.append((split.inputs[0], Slices(axis, at[0] * width, stride * width, width), piece))
    draft.replaced[value] = piece


def _slices_of(nodes: list[Node]) -> tuple[Value, Slices] | None:
    """The sequence of which node t takes slice t."""
    source = nodes[0].inputs[0] if nodes[0].inputs else None
    if source is None or any(n.inputs[0] is not source for n in nodes):
        return None
    rank = len(source.type.shape)
    if nodes[0].op == "Gather":
        places = [_number(n.inputs[1]) for n in nodes]
        if None in places or nodes[0].inputs[1] is None:
            return None
        axis = axis_of(int_attr(nodes[0].attrs, "axis", 0), rank)
        size = source.type.shape[axis]
        starts = [p + size if p < 0 else p for p in places if p is not None]
        width, drops = 1, nodes[0].inputs[1].type.shape == ()
    elif nodes[0].op == "Slice":
        axes = ints_attr(nodes[0].attrs, "axes", (0,))
        if len(axes) != 1 or set(ints_attr(nodes[0].attrs, "steps", (1,))) != {1}:
            return None
        axis = axis_of(axes[0], rank)
        size = source.type.shape[axis]
        starts = [ints_attr(n.attrs, "starts")[0] for n in nodes]
        starts = [s + size if s < 0 else s for s in starts]
        width, drops = nodes[0].outputs[0].type.shape[axis], False
    else:
        return None
    stride = starts[1] - starts[0]
    if stride == 0 or any(b - a != stride for a, b in pairwise(starts)):
        return None
    return source, Slices(axis, starts[0], stride, width, drops)


def _number(value: Value | None) -> int | None:
    if value is None or not is_parameter(value) or value.data is None or value.type.elements != 1:
        return None
    return int(value.data.load().reshape(-1)[0])


def _place(graph: Graph, found: _Run, value: Value | None) -> tuple[int, int, int] | None:
    """Step, place in the step and output of the node that computes `value`; None outside of the run."""
    made = None if value is None else graph.producer.get(value)
    if made is None or value is None:
        return None
    step, at = divmod(made - found.start, found.period)
    if not 0 <= step < found.steps:
        return None
    return step, at, graph.nodes[made].outputs.index(value)


def _output(graph: Graph, found: _Run, t: int, place: tuple[int, int]) -> Value:
    return found.node(graph, t, place[0]).outputs[place[1]]


@dataclass(frozen=True, slots=True)
class _Join:
    """A Concat of one result of every step. `reshaped`: the view of the step's result that it reads."""

    node: Node
    place: tuple[int, int]
    axis: int
    before: tuple[Value, ...]  # other operands
    after: tuple[Value, ...]
    reshaped: TensorType | None


def _joins(graph: Graph, found: _Run) -> list[_Join]:
    """Where results of the steps are joined.

    Raises:
        _NoLoopError: something outside reads a step's result otherwise.
    """
    inside = range(found.start, found.start + found.period * found.steps)
    outputs = set(graph.outputs)
    match = Match(graph)
    joins: list[_Join] = []
    for at in range(found.period):
        for j in range(len(found.node(graph, 0, at).outputs)):
            values = [found.node(graph, t, at).outputs[j] for t in range(found.steps)]
            outside = [[c for c in graph.consumers.get(v, ()) if c not in inside] for v in values]
            if not any(outside[:-1]) and not any(v in outputs for v in values[:-1]):
                continue  # the last step's alone: a state
            if any(v in outputs for v in values) or {len(c) for c in outside} != {1}:
                raise _NoLoopError("a step's result is read outside of the loop")
            joins.append(_join(match, [graph.nodes[c[0]] for c in outside], values, (at, j)))
    return joins


def _join(match: Match, readers: list[Node], values: list[Value], place: tuple[int, int]) -> _Join:
    pieces, reshaped = values, None
    if readers[0].op in ("Reshape", "Unsqueeze") and all(r.op == readers[0].op for r in readers):
        pieces = [r.outputs[0] for r in readers]
        reshaped = pieces[0].type
        if any(p.type != reshaped or not match.used_once(p) for p in pieces):
            raise _NoLoopError("a step's result is read outside of the loop")
        readers = [match.consumers(p)[0] for p in pieces]
    concat = readers[0]
    operands = [v for v in concat.inputs if v is not None]
    if concat.op != "Concat" or any(r is not concat for r in readers) or pieces[0] not in operands:
        raise _NoLoopError("a step's result is read outside of the loop")
    start = operands.index(pieces[0])
    if operands[start : start + len(pieces)] != pieces:
        raise _NoLoopError("the steps' results are joined in another order")
    axis = axis_of(int_attr(concat.attrs, "axis"), len(pieces[0].type.shape))
    after = operands[start + len(pieces) :]
    return _Join(concat, place, axis, tuple(operands[:start]), tuple(after), reshaped)


def _pieces(joins: list[_Join], made: list[Node]) -> tuple[list[Node], list[Value]]:
    """What the body gives for every join, and the views that make it."""
    extra: list[Node] = []
    pieces: list[Value] = []
    for join in joins:
        node = made[join.place[0]]
        piece = node.outputs[join.place[1]]
        if join.reshaped is not None:
            view = Value(f"{piece.name}/piece", join.reshaped)
            attrs: dict[str, Attr] = {"shape": join.reshaped.shape}
            extra.append(Node(f"{node.name}/piece", "Reshape", (piece,), (view,), attrs, node.source))
            piece = view
        pieces.append(piece)
    return extra, pieces


def _renamed(node: Node, values: dict[Value, Value]) -> Node:
    return replace(node, inputs=tuple(None if v is None else values.get(v, v) for v in node.inputs))


def _check_body(body: Body) -> None:
    states = body.graph.outputs[len(body.joined) :]
    if sum(v.type.nbytes for v in states) > LARGEST_STATE:
        raise _NoLoopError(f"the state is larger than {LARGEST_STATE >> 20} MB")
    for work in step_works(body.graph):
        if work.kind is WorkKind.ATTENTION:
            raise _NoLoopError("the step holds an attention")
        if work.gemm is not None and (work.gemm.weight_is_b or min(work.gemm.m, work.gemm.n) > 1):
            raise _NoLoopError("the step holds a product of matrices, a kernel of its own")


def _replaced(graph: Graph, found: _Run, draft: _Draft, body: Body, joins: list[_Join]) -> tuple[Graph, Note]:
    """The recurrence and what is left of the joins, in the place of the first join or of the last step."""
    root = found.node(graph, found.steps - 1, found.period - 1)
    wholes: list[Value] = []
    for join, piece in zip(joins, body.graph.outputs, strict=False):
        shape = piece.type.shape
        whole = (*shape[: join.axis], shape[join.axis] * body.steps, *shape[join.axis + 1 :])
        alone = not join.before and not join.after
        type = replace(piece.type, shape=whole)
        wholes.append(join.node.outputs[0] if alone else Value(f"{join.node.outputs[0].name}/steps", type))
    lasts = [_output(graph, found, found.steps - 1, place) for place in draft.carried]
    inputs = (*draft.stays, *(source for source, _, _ in draft.sequences), *draft.first)
    sources = (n for at in range(found.period) for n in found.node(graph, 0, at).source.onnx)
    node = Node(
        f"{root.name}/recurrence",
        "Recurrence",
        inputs,
        (*wholes, *lasts),
        {"body": body},
        Source(tuple(dict.fromkeys(sources)), root.source.module),
    )
    rest: dict[Node, Node] = {}
    for join, joined in zip(joins, wholes, strict=True):
        if join.before or join.after:
            rest[join.node] = replace(join.node, inputs=(*join.before, joined, *join.after))
    gone = {join.node for join in joins} - set(rest)
    end = found.start + found.period * found.steps
    nodes = [*graph.nodes[: found.start], node]
    nodes += [rest.get(n, n) for n in graph.nodes[end:] if n not in gone]
    out = replace(graph, nodes=live(nodes, graph.outputs))
    note = Note(node.name, "recurrence", f"{body.steps} steps of {len(body.graph.nodes)} nodes", applied=True)
    return out, note


PASS = Pass("recurrence", run, "no run of eight steps or more repeats itself with a state handed on")
