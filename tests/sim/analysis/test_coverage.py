"""Coverage counts every node, and what an op without a cost model leaves open."""

from __future__ import annotations

from tetrasim.sim.analysis.coverage import coverage, op_table
from tetrasim.sim.ir.graph import Graph, Node, Role, TensorType, Value


def graph(*ops: str) -> Graph:
    """A chain of unary ops on four floats."""
    values = [Value("x", TensorType((4,)), Role.INPUT)]
    nodes = []
    for i, op in enumerate(ops):
        values.append(Value(f"v{i}", TensorType((4,))))
        nodes.append(Node(f"n{i}", op, (values[-2],), (values[-1],)))
    return Graph("chain", tuple(nodes), (values[0],), (values[-1],))


def test_full_coverage() -> None:
    found = coverage([graph("Relu", "Exp"), graph("Relu")])
    assert (found.nodes, found.nodes_modelled, found.unmodelled) == (3, 3, ())
    assert found.macs_fraction == found.bytes_fraction == 1.0


def test_an_op_without_a_model_is_named_and_its_bytes_are_missing() -> None:
    found = coverage([graph("Relu", "Mystery")])
    assert (found.nodes, found.nodes_modelled) == (2, 1)
    assert found.unmodelled == ("chain/n1 (Mystery)",)
    assert found.bytes_fraction == 0.5
    assert found.macs_fraction < 1.0


def test_table_sums_by_op() -> None:
    rows = {r.op: r for r in op_table(graph("Relu", "Exp", "Relu", "Mystery"))}
    assert (rows["Relu"].nodes, rows["Relu"].modelled, rows["Relu"].nbytes) == (2, 2, 64)
    assert (rows["Exp"].vector_ops, rows["Exp"].macs) == (4, 0)
    assert (rows["Mystery"].nodes, rows["Mystery"].modelled) == (1, 0)
