"""Caches and other state carried from run to run, and the last touches of an import.

A state is an input and the output that replaces it: `past_key.3` -> `present_key.3` (this project's
exporter), `past_key_values.3.key` -> `present.3.key` (transformers), or as a manifest says. An input that
is named like a cache is state too where the graph does not return it: who runs the graph keeps it. A prefill
graph has state outputs without inputs: they keep the role (and the format) of state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tetrasim.errors import UserError, nearest
from tetrasim.frontend.onnx.builder import Builder
from tetrasim.sim.ir.graph import Graph, Kind, Node, Role, State, TensorType, Value, live

_PAST = re.compile(r"^past(_key_values)?(?P<rest>[._].+)$")
_HELD = re.compile(r"^past($|[._])|(^|[._/])((kv?|v|keys?|values?)_)?cache($|[._/])", re.IGNORECASE)


def state_pairs(
    inputs: Sequence[str], outputs: Sequence[str], given: Mapping[str, str] | None, where: str
) -> dict[str, str]:
    """State input -> state output.

    Raises:
        UserError: a given pair names a value that the file does not have.
    """
    if given is not None:
        for before, after in given.items():
            if before not in inputs:
                raise UserError(
                    f"there is no state input '{before}'", where=where, hint=nearest(before, inputs)
                )
            if after not in outputs:
                raise UserError(
                    f"there is no state output '{after}'", where=where, hint=nearest(after, outputs)
                )
        return dict(given)
    pairs = {}
    for name in inputs:
        match = _PAST.match(name)
        if match:
            rest = match["rest"]
            options = [f"present{rest}", f"present_key_values{rest}", name.replace("past", "present", 1)]
            found = next((o for o in options if o in outputs), None)
            if found:
                pairs[name] = found
    return pairs


def is_held(name: str, type: TensorType) -> bool:
    """True for inputs that are named like a cache and hold numbers of several rows (no length, no mask)."""
    numbers = type.kind in (Kind.FLOAT, Kind.BFLOAT) or (type.kind is not Kind.BOOL and type.bits <= 8)
    return numbers and len(type.shape) > 1 and _HELD.search(name) is not None


def is_state_output(name: str, pairs: Mapping[str, str]) -> bool:
    """True for outputs that a later run reads as its state."""
    return (
        name in pairs.values() or re.match(r"^present(_key_values|_key|_value|_state)?[._]", name) is not None
    )


def finish(
    name: str,
    builder: Builder,
    inputs: Sequence[Value],
    outputs: Sequence[tuple[str, Value]],
    pairs: Mapping[str, str],
    dims: tuple[tuple[str, int], ...],
    kept: Collection[str] = (),
) -> Graph:
    """Name the outputs, give state its role, drop dead nodes and verify. `kept`: outputs that are state
    though this graph reads none in their place."""
    inner = {v for n in builder.nodes for v in n.outputs}
    renamed: dict[Value, Value] = {}
    final: list[Value] = []
    for wanted, value in outputs:
        role = Role.STATE if wanted in kept or is_state_output(wanted, pairs) else Role.ACTIVATION
        if value in inner and value not in renamed:
            if value.name != wanted:
                builder.names.pop(value.name, None)
            new_name = wanted if value.name == wanted else builder.fresh(wanted)
            renamed[value] = replace(value, name=new_name, role=role)
            final.append(renamed[value])
        elif value.name == wanted and value in inputs:
            final.append(value)
        else:  # an input, a constant, or a second name for a value
            if value.name == wanted:  # a constant: the output takes the name
                renamed[value] = replace(value, name=builder.fresh(f"{wanted}/value"))
                builder.names.pop(wanted, None)
            copy = Value(builder.fresh(wanted), value.type, role)
            builder.nodes.append(
                Node(f"copy to {copy.name}", "Identity", (renamed.get(value, value),), (copy,))
            )
            final.append(copy)
    nodes = [_renamed(n, renamed) for n in builder.nodes]
    by_name = {v.name: v for v in inputs}
    after = dict(zip((w for w, _ in outputs), final, strict=True))
    states = tuple(State(by_name[b], after[a]) for b, a in pairs.items() if b in by_name)
    graph = Graph(
        name, live(nodes, final), tuple(inputs), tuple(final), states, dims, tuple(builder.assumptions)
    )
    graph.verify()
    return graph


def _renamed(node: Node, names: Mapping[Value, Value]) -> Node:
    return replace(
        node,
        inputs=tuple(None if v is None else names.get(v, v) for v in node.inputs),
        outputs=tuple(names.get(v, v) for v in node.outputs),
    )
