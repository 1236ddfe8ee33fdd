"""The IR keeps its rules: order, unique names, references; and the listing is stable."""

from dataclasses import replace

import pytest

from tetrasim.sim.ir.family import family_from
from tetrasim.sim.ir.graph import Graph, GraphError, Node, Role, State, TensorType, Value


def chain(context: int) -> Graph:
    """past (grows) and x -> append -> scores."""
    x = Value("x", TensorType((1, 8)), Role.INPUT)
    past = Value("past", TensorType((context, 8)), Role.STATE)
    weight = Value("w", TensorType((8, 8)), Role.WEIGHT)
    y = Value("y", TensorType((1, 8)))
    present = Value("present", TensorType((context + 1, 8)), Role.ACTIVATION)
    nodes = (
        Node("project", "MatMul", (x, weight), (y,)),
        Node("append", "KVAppend", (past, y), (present,), {"axis": 0, "end": context + 1}),
    )
    return Graph("chain", nodes, (x, past), (y, present), (State(past, present),), (("past", context),))


def test_edges_are_references() -> None:
    graph = chain(4)
    graph.verify()
    assert graph.predecessors == ((), (0,))
    assert graph.consumers[graph.nodes[0].outputs[0]] == (1,)
    assert [v.name for v in graph.weights] == ["w"]
    assert graph.weight_bytes == 8 * 8 * 4
    assert graph.to_networkx().edges["project", "append"] == {"value": "y", "nbytes": 32}


def test_reading_before_computing_is_refused() -> None:
    graph = chain(4)
    with pytest.raises(GraphError, match="reads 'y' before it is computed"):
        replace(graph, nodes=graph.nodes[::-1]).verify()


def test_two_values_of_one_name_are_refused() -> None:
    graph = chain(4)
    other = Value("w", TensorType((8, 8)), Role.WEIGHT)
    node = Node("again", "MatMul", (graph.inputs[0], other), (Value("z", TensorType((1, 8))),))
    with pytest.raises(GraphError, match="two values are called 'w'"):
        replace(graph, nodes=(*graph.nodes, node)).verify()


def test_listing_is_stable() -> None:
    assert chain(4).to_text() == (
        "graph chain dims(past=4)\n"
        "  input x: float32[1,8] input\n"
        "  input past: float32[4,8] state\n"
        "  y: float32[1,8] = MatMul(x, w)\n"
        "  present: float32[5,8] = KVAppend(past, y) axis=0 end=5\n"
        "  state past -> present\n"
        "  output y: float32[1,8]\n"
        "  output present: float32[5,8]\n"
    )


@pytest.mark.parametrize("context", [1, 7, 64, 1000])
def test_a_family_equals_the_graph_built_at_each_context(context: int) -> None:
    family = family_from(chain(7), chain(12), chain(31), "past")
    assert family.at(context).to_text() == chain(context).to_text()
    family.at(context).verify()
    assert family.at(context).nodes[0] is family.base.nodes[0]  # what does not change is shared


def test_a_dim_that_is_not_affine_is_refused() -> None:
    def squared(context: int) -> Graph:
        graph = chain(context)
        odd = Value("odd", TensorType((context * context,)))
        return replace(graph, nodes=(*graph.nodes, Node("odd", "Range", (), (odd,))))

    with pytest.raises(Exception, match="'odd' has a dim that is not affine"):
        family_from(squared(4), squared(6), squared(9), "past")
