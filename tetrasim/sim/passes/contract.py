"""What a pass is: a named rewrite of a graph that declares what it needs and what holds afterwards.

Rewrites replace one node by others that compute the very same output values; whatever nobody reads any
more is dropped. So a rewrite can never break a consumer, and interior values that something else reads
stay computed. A pattern that almost matched leaves a `Note` saying what stopped it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tetrasim.sim.ir.graph import Attr, Graph, Node, Role, Source, TensorType, Value, live


@dataclass(frozen=True, slots=True)
class Note:
    """What `rule` did at `node`, or (a near miss, `applied` False) why it did not apply."""

    node: str
    rule: str
    reason: str
    applied: bool = False

    def __str__(self) -> str:
        return f"{self.rule} {'' if self.applied else 'not '}applied at '{self.node}': {self.reason}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass did."""

    graph: Graph
    changed: bool
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """`requires`: passes that must have run; `ensures`: what is true afterwards, in words."""

    name: str
    run: Callable[[Graph], Outcome]
    ensures: str
    requires: tuple[str, ...] = ()


class Miss(Exception):  # noqa: N818 - not an error: a pattern that did not match, with its reason
    """Raised inside a rule when the pattern is recognisable but not applicable."""


class Match:
    """A graph as patterns see it: producers and consumers of values."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._outputs = set(graph.outputs)
        self.masks: dict[tuple[Value, int, int], object] = {}  # what `masks.py` has read already
        self.remarks: list[str] = []  # of the rule that runs

    def note(self, reason: str) -> None:
        """Something that the reader of the report should know about a rewrite that was applied."""
        self.remarks.append(reason)

    def producer(self, value: Value | None, *ops: str) -> Node | None:
        """The node that computes `value`, when it is one of `ops` (any, if none is named)."""
        if value is None or value not in self.graph.producer:
            return None
        node = self.graph.nodes[self.graph.producer[value]]
        return node if not ops or node.op in ops else None

    def consumers(self, value: Value) -> tuple[Node, ...]:
        """Nodes that read `value`."""
        return tuple(self.graph.nodes[i] for i in self.graph.consumers.get(value, ()))

    def only_consumer(self, value: Value, *ops: str) -> Node | None:
        """The single node that reads `value`, when it is one of `ops` and no graph output needs the value."""
        users = self.consumers(value)
        if value in self._outputs or len(users) != 1 or (ops and users[0].op not in ops):
            return None
        return users[0]

    def used_once(self, value: Value) -> bool:
        """True when one node reads the value and it is no graph output."""
        return self.only_consumer(value) is not None


Rule = Callable[[Match, Node], Sequence[Node] | None]


def rewrite(graph: Graph, name: str, rule: Rule) -> Outcome:
    """One sweep of `rule` over all nodes: where it returns nodes, they take the place of the node."""
    match = Match(graph)
    nodes: list[Node] = []
    notes: list[Note] = []
    changed = False
    for node in graph.nodes:
        try:
            new = rule(match, node)
        except Miss as miss:
            notes.append(Note(node.name, name, str(miss)))
            new = None
        notes += [Note(node.name, name, reason, applied=True) for reason in dict.fromkeys(match.remarks)]
        match.remarks.clear()
        if new is not None and new[-1].op != node.op:
            made = new[-1] if new[-1].op != "Reshape" else new[-2] if len(new) > 1 else new[-1]
            count = max(len(made.source.onnx), 1)
            notes.append(Note(node.name, name, f"{made.op} from {count} ONNX nodes", applied=True))
        nodes.extend((node,) if new is None else new)
        changed = changed or new is not None
    if not changed:
        return Outcome(graph, False, tuple(notes))
    return Outcome(replace(graph, nodes=live(nodes, graph.outputs)), True, tuple(notes))


def until_stable(graph: Graph, name: str, rule: Rule, limit: int = 20) -> Outcome:
    """Sweeps of `rule` until nothing changes."""
    changed = False
    for _ in range(limit):
        outcome = rewrite(graph, name, rule)
        graph, changed = outcome.graph, changed or outcome.changed
        if not outcome.changed:
            break
    return Outcome(graph, changed)


def fused(
    root: Node,
    op: str,
    inputs: Sequence[Value | None],
    attrs: dict[str, Attr],
    parts: Sequence[Node],
    outputs: Sequence[Value] | None = None,
) -> Node:
    """A node that computes `root`'s outputs and remembers the nodes it stands for."""
    names = dict.fromkeys(n for part in (*parts, root) for n in part.source.onnx)
    module = root.source.module or next((p.source.module for p in parts if p.source.module), "")
    kept = tuple(inputs)
    while kept and kept[-1] is None:
        kept = kept[:-1]
    return replace(
        root,
        op=op,
        inputs=kept,
        outputs=root.outputs if outputs is None else tuple(outputs),
        attrs=attrs,
        source=Source(tuple(names), module),
    )


def fresh(root: Node, suffix: str, type: TensorType, role: Role = Role.ACTIVATION) -> Value:
    """A new value named after `root`'s output."""
    return Value(f"{root.outputs[0].name}/{suffix}", type, role)


def helper(
    root: Node, suffix: str, op: str, inputs: Sequence[Value], out: Value, attrs: dict[str, Attr]
) -> Node:
    """A new node in front of `root`."""
    return Node(f"{root.name}/{suffix}", op, tuple(inputs), (out,), attrs, root.source)


def scalar(value: Value | None) -> float | None:
    """The number of a one-element constant."""
    if not is_parameter(value) or value is None or value.type.elements != 1 or value.data is None:
        return None
    return float(value.data.load().reshape(-1)[0])


def is_parameter(value: Value | None) -> bool:
    """True for weights and constants."""
    return value is not None and value.role in (Role.WEIGHT, Role.CONSTANT)


def other(node: Node, value: Value) -> Value | None:
    """The other operand of a two-input node."""
    a, b = node.inputs[0], node.inputs[1]
    return b if a is value else a
