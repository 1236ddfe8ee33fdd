"""Pruned and narrow weights on the overlay: what is stored and streamed, and what is multiplied.

An engine for compressed models (FlightLLM, arXiv 2401.03868) stores only the weights that were kept, each in
a few bits on average (layers differ) beside the bits that say where in its group it was (N:M patterns), and
skips the products of the others. Activations and arithmetic keep their formats. Only weights of products are
compressed; embeddings that are looked up are not. What compression does to accuracy is not emulated.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import WorkKind

if TYPE_CHECKING:
    from tetrasim.hw_targets.fpga.config import Numbers
    from tetrasim.sim.ir.graph import Graph


def compressed(numbers: Numbers) -> bool:
    """Whether weights differ from the storage format."""
    return numbers.weight_density < 1 or numbers.weight_bits > 0


def stored_share(numbers: Numbers) -> float:
    """Bits stored per weight of the model over the bits of the storage format."""
    whole = numbers.storage.bits
    if not compressed(numbers):
        return 1.0
    each = (numbers.weight_bits or whole) + numbers.weight_index_bits
    return numbers.weight_density * each / whole


def stored_weight_bytes(graph: Graph, numbers: Numbers) -> int:
    """Bytes of all weights as they are stored."""
    if not compressed(numbers):
        return graph.weight_bytes
    multiplied = {
        value
        for node in graph.nodes
        if work_of(node).kind is WorkKind.GEMM
        for value in node.inputs
        if value is not None
    }
    share = stored_share(numbers)
    return sum(ceil(v.type.nbytes * (share if v in multiplied else 1.0)) for v in graph.weights)
