"""Does the model fit the GPU's memory, and what happens when it does not.

Weights that do not fit stay in host memory and cross the host link once per run, overlapped with the kernels
that use them (as accelerate's CPU offload and llama.cpp without enough layers on the GPU do). State and
activations always have to fit.
"""

from __future__ import annotations

from functools import lru_cache

from tetrasim.errors import CapacityError
from tetrasim.hw_targets.common.target import Capacity, MemoryUse
from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.sim.ir.graph import Graph, Role
from tetrasim.units import si_bytes

RUNTIME_BYTES = 600_000_000  # CUDA context and library workspaces (assumed; 300 to 900 MB are common)


@lru_cache(maxsize=512)
def activation_bytes(graph: Graph) -> int:
    """Peak bytes of activations: a value lives from its node to its last reader; buffers are reused."""
    last = {value: users[-1] for value, users in graph.consumers.items()}
    live = peak = _input_bytes(graph)
    free_at: dict[int, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for out in node.outputs:
            if out.role is Role.STATE:
                continue
            live += out.type.nbytes
            free_at.setdefault(last.get(out, len(graph.nodes)), []).append(out.type.nbytes)
        peak = max(peak, live)
        live -= sum(free_at.pop(i, []))
    return peak


def _input_bytes(graph: Graph) -> int:
    return sum(v.type.nbytes for v in graph.inputs if v.role is Role.INPUT)


def capacity(graph: Graph, config: GpuConfig) -> Capacity:
    """Resident, or with part of the weights streamed from the host.

    Raises:
        CapacityError: state and activations alone exceed the memory.
    """
    state, activations = graph.state_bytes, activation_bytes(graph) + RUNTIME_BYTES
    room = config.dram.bytes - state - activations
    if room < 0:
        raise CapacityError(
            f"state ({si_bytes(state)}) and activations ({si_bytes(activations)}) exceed the GPU's"
            f" {si_bytes(config.dram.bytes)}",
            where=graph.name,
            hint="use a smaller batch or context, an 8-bit precision, or a GPU with more memory",
        )
    streamed = streamed_bytes(graph, config)
    memory = MemoryUse("DRAM", config.dram.bytes, graph.weight_bytes - streamed, state, activations)
    if not streamed:
        return Capacity("resident", (memory,))
    note = (
        f"weights need {si_bytes(graph.weight_bytes)} and {si_bytes(max(room, 0))} of the GPU's"
        f" {si_bytes(config.dram.bytes)} is free beside state and activations:"
        f" {si_bytes(streamed)} cross the host link in every run"
    )
    # every committed measurement had its weights on the GPU
    return Capacity("weights streamed over the host link", (memory,), note, measured=False)


def streamed_bytes(graph: Graph, config: GpuConfig) -> int:
    """Weight bytes that do not fit beside state and activations."""
    spare = config.dram.bytes - graph.state_bytes - graph.weight_bytes - RUNTIME_BYTES
    if spare >= sum(out.type.nbytes for node in graph.nodes for out in node.outputs) + _input_bytes(graph):
        return 0  # room for every value at once: no need to find the peak, in each of a generation's steps
    room = config.dram.bytes - graph.state_bytes - activation_bytes(graph) - RUNTIME_BYTES
    return max(graph.weight_bytes - max(room, 0), 0)
