"""Which open dims of a file must be equal, and what depends on each: found by importing with other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.frontend.onnx.dims import symbols_of
from tetrasim.frontend.onnx.importer import import_onnx
from tetrasim.frontend.onnx.reader import read_model
from tetrasim.sim.ir.graph import Graph

_SIZES = (8, 16, 4, 32, 2, 1)  # of all dims at once; some graphs refuse small ones, others large ones
_MAX_DIMS = 16


@dataclass(frozen=True, slots=True)
class OpenDim:
    """An open dim: the inputs that have it, the dims that it must equal, the outputs whose shape it changes.
    `probed`: False where no size of all dims at once gave a graph, so that only the inputs are known."""

    name: str
    inputs: tuple[str, ...]
    equal_to: tuple[str, ...]
    outputs: tuple[str, ...]
    probed: bool


def open_dims_of(path: Path, *, allow_unmodelled: bool = False) -> tuple[OpenDim, ...]:
    """Every open dim of a file, in file order.

    Raises:
        UserError: an unreadable file.
    """
    symbols = symbols_of(read_model(path).graph)
    import networkx as nx

    names = list(symbols)[:_MAX_DIMS]

    def graph_at(sizes: Mapping[str, int]) -> Graph | None:
        try:
            return import_onnx(path, sizes, rewrites=False, allow_unmodelled=allow_unmodelled)
        except UserError:
            return None

    for size in _SIZES:
        base = dict.fromkeys(symbols, size)
        start = graph_at(base)
        if start is not None:
            break
    else:
        return tuple(OpenDim(name, users, (), (), probed=False) for name, users in symbols.items())
    other = 2 * size
    alone = {name: graph_at({**base, name: other}) for name in names}
    tied: nx.Graph[str] = nx.Graph()
    tied.add_nodes_from(names)
    bound = [name for name in names if alone[name] is None]
    for a, b in combinations(bound, 2):
        if graph_at({**base, a: other, b: other}) is not None:
            tied.add_edge(a, b)
    rest = [name for name in bound if tied.degree(name) == 0]
    tied.add_edges_from(combinations(rest, 2))  # three and more that move only together
    groups = {name: tuple(sorted(nx.node_connected_component(tied, name) - {name})) for name in names}
    out = []
    for name, users in symbols.items():
        group = groups.get(name, ())
        moved = alone.get(name) or graph_at({**base, **dict.fromkeys((name, *group), other)})
        out.append(OpenDim(name, users, group, _changed(start, moved), probed=True))
    return tuple(out)


def _changed(before: Graph, after: Graph | None) -> tuple[str, ...]:
    if after is None:
        return ()
    pairs = zip(before.outputs, after.outputs, strict=True)
    return tuple(a.name for a, b in pairs if a.type.shape != b.type.shape)
