"""The graph IR: what one run of a model computes, with every shape a number.

A `Graph` is an immutable list of `Node`s in topological order. Edges are references: a node's inputs are
the very `Value` objects its producers list as outputs. Op names are ONNX's own (`MatMul`, `Softmax`,
`LayerNormalization`, `Attention`, `RMSNormalization`, `RotaryEmbedding`, `Gelu`, …) plus the few that ONNX
lacks (`KVAppend`: append new rows to a cache in place). `Source` keeps the ONNX node name and the torch
module path, so that every line of a report can be traced back.

Generation runs the same step graph at every context length: see `family.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import networkx as nx
    from numpy.typing import NDArray


class Step(Protocol):
    """The body of a recurrence (`sim/ops/recurrence.py`), the one attribute that is a graph."""

    @property
    def graph(self) -> Graph: ...

    @property
    def steps(self) -> int: ...


Attr = int | float | str | bool | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Step


class Kind(StrEnum):
    """How the bits of an element are read."""

    FLOAT = "float"  # IEEE 754 (16, 32, 64), E4M3 at 8 bits, E2M1 at 4
    BFLOAT = "bfloat"  # as many exponent bits as the format twice as wide: bfloat16, and E5M2 at 8 bits
    EXPONENT = "exponent"  # E8M0: powers of two, the scales of block formats
    INT = "int"
    UINT = "uint"
    BOOL = "bool"
    FIXED = "fixed"  # ap_fixed: `quant` holds the integer bits


class Role(StrEnum):
    """Where a value comes from, hence where it lives and whether it can be reused between runs."""

    INPUT = "input"  # new at every run
    WEIGHT = "weight"  # constant over all runs, from the model file
    CONSTANT = "constant"  # small constant folded at import
    STATE = "state"  # carried from run to run: KV cache, recurrent state
    ACTIVATION = "activation"


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantisation `real = (q - zero_point) * scale`, per tensor or along `axis`; for `Kind.FIXED`,
    `integer_bits` counts the bits left of the point, sign included (ap_fixed<bits, integer_bits>)."""

    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int | None = None
    integer_bits: int | None = None


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape (numbers only) and element format."""

    shape: tuple[int, ...]
    kind: Kind = Kind.FLOAT
    bits: int = 32
    quant: Quant | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return (self.elements * self.bits + 7) // 8

    @property
    def dtype(self) -> str:
        """`float32`, `bfloat16`, `int8`, `bool`, …"""
        return "bool" if self.kind is Kind.BOOL else f"{self.kind}{self.bits}"

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class Data(Protocol):
    """The numbers of a constant, read when asked for (weights may be gigabytes, or absent)."""

    def load(self) -> NDArray[np.generic]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """`Data` held in memory."""

    array: NDArray[np.generic]

    def load(self) -> NDArray[np.generic]:
        return self.array


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor. Identity is the object; `name` is unique within a graph.

    `data` is None for run-time values, and for weights of a model that was exported without them.
    """

    name: str
    type: TensorType
    role: Role = Role.ACTIVATION
    data: Data | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node comes from: ONNX node names (several when a rewrite fused them) and torch module path."""

    onnx: tuple[str, ...] = ()
    module: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation. An absent optional input is None."""

    name: str
    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    source: Source = Source()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A value carried between runs: `before` is a graph input, `after` the graph output that replaces it."""

    before: Value
    after: Value


class GraphError(Exception):
    """The IR is malformed: our defect, found by `Graph.verify`."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole run: `nodes` in topological order; weights and constants are found through node inputs."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    states: tuple[State, ...] = ()
    dims: tuple[tuple[str, int], ...] = ()  # the symbolic dims that were bound, e.g. (("batch", 1),)
    assumptions: tuple[str, ...] = ()  # what the file leaves to run-time data, and what was taken instead

    @cached_property
    def producer(self) -> dict[Value, int]:
        """Value -> index of the node that computes it (graph inputs and constants have none)."""
        return {out: i for i, node in enumerate(self.nodes) for out in node.outputs}

    @cached_property
    def consumers(self) -> dict[Value, tuple[int, ...]]:
        """Value -> indices of the nodes that read it, ascending."""
        found: dict[Value, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for value in dict.fromkeys(v for v in node.inputs if v is not None):
                found.setdefault(value, []).append(i)
        return {value: tuple(users) for value, users in found.items()}

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Per node, the indices of the nodes it depends on, ascending."""
        return tuple(
            tuple(sorted({self.producer[v] for v in node.inputs if v is not None and v in self.producer}))
            for node in self.nodes
        )

    def values(self) -> Iterator[Value]:
        """Every value once: graph inputs, then in node order constants at first use and outputs."""
        seen: set[Value] = set()
        for value in (*self.inputs, *(v for n in self.nodes for v in (*n.inputs, *n.outputs)), *self.outputs):
            if value is not None and value not in seen:
                seen.add(value)
                yield value

    @cached_property
    def weights(self) -> tuple[Value, ...]:
        """Weights in order of first use, each once (a tied embedding counts once). Rows of a weight that a
        node picks (`sim/passes/indexed.py`) are part of that weight."""
        return tuple(v for v in self.values() if v.role is Role.WEIGHT and v not in self.producer)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(v.type.nbytes for v in self.weights)

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of state after this run."""
        return sum(s.after.type.nbytes for s in self.states)

    def verify(self) -> None:
        """Check names, order and references.

        Raises:
            GraphError: naming the node and the value that break the rules.
        """
        names: dict[str, Value] = {}
        for value in self.values():
            if names.setdefault(value.name, value) is not value:
                raise GraphError(f"{self.name}: two values are called {value.name!r}")
        # a state that a node writes (the cache after an append) is known only from there on
        known = {v for v in self.values() if v.role is not Role.ACTIVATION and v not in self.producer}
        node_names: set[str] = set()
        for node in self.nodes:
            if node.name in node_names:
                raise GraphError(f"{self.name}: two nodes are called {node.name!r}")
            node_names.add(node.name)
            for used in node.inputs:
                if used is not None and used not in known:
                    raise GraphError(f"{self.name}/{node.name}: reads {used.name!r} before it is computed")
            for value in node.outputs:
                if value in known:
                    raise GraphError(
                        f"{self.name}/{node.name}: writes {value.name!r}, which is already known"
                    )
                known.add(value)
        for value in self.outputs:
            if value not in known:
                raise GraphError(f"{self.name}: output {value.name!r} is never computed")

    def to_text(self) -> str:
        """A stable, diffable listing: one line per node."""
        lines = [f"graph {self.name} dims({', '.join(f'{k}={v}' for k, v in self.dims)})"]
        lines += [f"  input {v.name}: {v.type} {v.role}" for v in self.inputs]
        for node in self.nodes:
            outs = ", ".join(f"{v.name}: {v.type}" for v in node.outputs)
            ins = ", ".join("-" if v is None else v.name for v in node.inputs)
            attrs = "".join(f" {k}={node.attrs[k]}" for k in sorted(node.attrs))
            lines.append(f"  {outs} = {node.op}({ins}){attrs}")
        lines += [f"  state {s.before.name} -> {s.after.name}" for s in self.states]
        lines += [f"  output {v.name}: {v.type}" for v in self.outputs]
        return "\n".join(lines) + "\n"

    def to_networkx(self) -> nx.DiGraph[str]:
        """Nodes by name with their op, edges with the value name and its bytes: for analysis and drawing."""
        import networkx as nx

        out: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        for node in self.nodes:
            out.add_node(node.name, op=node.op)
        for node in self.nodes:
            for value in node.inputs:
                if value is not None and value in self.producer:
                    before = self.nodes[self.producer[value]].name
                    out.add_edge(before, node.name, value=value.name, nbytes=value.type.nbytes)
        return out


def live(nodes: Sequence[Node], outputs: Sequence[Value]) -> tuple[Node, ...]:
    """Nodes that an output needs, in order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(v for v in node.inputs if v is not None)
    return tuple(reversed(kept))
