"""Limits on what a file may make of itself before anything is allocated or unrolled.

A kilobyte of ONNX can ask for a tensor of terabytes, a loop of 10^12 turns, or functions that call the next
one twice, 24 deep. Each limit is far above any model of the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.errors import UserError
from tetrasim.sim.ops.opdef import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx

    from tetrasim.sim.ir.graph import TensorType

MAX_NODES = 1_000_000  # of a file with its functions in place
MAX_UNROLLED_NODES = 50_000  # of loops and scans, their turns counted as one node each
MAX_ELEMENTS = 1 << 56  # of a value: what its bytes and bits are counted in stays below 2^63
_DEPTH = 100  # of functions and of graphs within nodes


class TurnBudget:
    """What unrolling has cost so far, over all nested loops of a file."""

    def __init__(self) -> None:
        self._used = 0

    def foresee(self, turns: int, nodes: int) -> None:
        """Refuse a loop whose length is known before its first turn.

        Raises:
            ShapeError: with the number of turns.
        """
        if turns * (nodes + 1) > MAX_UNROLLED_NODES:
            raise ShapeError(
                f"{turns} iterations of {nodes} nodes are more than {MAX_UNROLLED_NODES} nodes",
                hint="use shorter sequences, or export a step graph with explicit states",
            )

    def turn(self, nodes: int) -> None:
        """Count one turn of a body of so many nodes.

        Raises:
            ShapeError: all loops together are too long.
        """
        self._used += nodes + 1
        if self._used > MAX_UNROLLED_NODES:
            raise ShapeError(
                f"its loops unroll to more than {MAX_UNROLLED_NODES} nodes",
                hint="use shorter sequences, or export a step graph with explicit states",
            )


def check_types(types: Iterable[TensorType]) -> None:
    """Refuse shapes that no memory of the world holds.

    Raises:
        ShapeError: more than 2^56 elements, or a negative size.
    """
    for type in types:
        if any(dim < 0 for dim in type.shape):
            raise ShapeError(f"a value would have the shape {list(type.shape)}")
        if type.elements > MAX_ELEMENTS:
            raise ShapeError(f"a value of {list(type.shape)} has more than 2^56 elements")


def check_functions(model: onnx.ModelProto, where: str) -> None:
    """Refuse functions that call themselves or multiply, before any takes the place of a call.

    Raises:
        UserError: naming the function, or the number of nodes.
    """
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto], path: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            inner = [a.g for a in node.attribute if a.HasField("g")] + [
                g for a in node.attribute for g in a.graphs
            ]
            total += 1 + sum(size(graph.node, (*path, ("", ""))) for graph in inner)
            called = (node.domain, node.op_type)
            if called in bodies:
                total += sizes[called] if called in sizes else measured(called, path)
        if total > MAX_NODES:
            raise UserError(
                f"its functions expand to more than {MAX_NODES:,} nodes",
                where=where,
                hint="export it without functions",
            )
        return total

    def measured(called: tuple[str, str], path: tuple[tuple[str, str], ...]) -> int:
        if called in path or len(path) > _DEPTH:
            what = "calls itself" if called in path else f"is called more than {_DEPTH} deep"
            raise UserError(f"function '{called[1]}' {what}", where=where, hint="export it without functions")
        sizes[called] = size(bodies[called], (*path, called))
        return sizes[called]

    size(model.graph.node, ())
