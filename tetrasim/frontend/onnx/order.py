"""ONNX demands topological order; a file that lacks it is either cyclic or merely unsorted. Both are told
apart here, so that the message is right: unsorted files are refused by ONNX runtimes too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.errors import UserError

if TYPE_CHECKING:
    import onnx


def check_order(graph: onnx.GraphProto, where: str) -> None:
    """Every input of every node known before it.

    Raises:
        UserError: naming the node: a cycle, a duplicate output, wrong order, or a value nothing computes.
    """
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    made = {name: node for node in graph.node for name in node.output if name}
    for node in graph.node:
        label = node.name or node.op_type
        for name in node.input:
            if name in known:
                continue
            if name not in made:
                raise UserError(
                    f"node '{label}' reads '{name}', which nothing computes",
                    where=where,
                    hint="the file is incomplete: export it again",
                )
            if _reaches(made, node, name):
                raise UserError(
                    f"the graph has a cycle through node '{label}'",
                    where=where,
                    hint="an ONNX graph must be acyclic",
                )
            raise UserError(
                f"node '{label}' stands before the node that computes its input '{name}'",
                where=where,
                hint="ONNX demands topological order; onnx_ir's passes can sort it",
            )
        for name in node.output:
            if name and name in known:
                raise UserError(
                    f"node '{label}' computes '{name}', which exists already",
                    where=where,
                    hint="every ONNX value has one producer: export it again",
                )
            known.add(name)


def _reaches(made: dict[str, onnx.NodeProto], goal: onnx.NodeProto, start: str) -> bool:
    """True when computing `start` needs an output of `goal`."""
    stack, seen = [start], set[str]()
    targets = set(goal.output)
    while stack:
        name = stack.pop()
        if name in targets:
            return True
        if name in seen or name not in made:
            continue
        seen.add(name)
        stack.extend(made[name].input)
    return False
