"""The overlay: one matrix-vector engine that runs every layer, weights streamed from off-chip memory.

Theory of operation (DFX, arXiv 2209.10797; FlightLLM, arXiv 2401.03868). Weights and cached keys and values
are double buffered: an op takes the longer of streaming and computing (`demands.py` says what it computes).
Activations stay on chip. Softmax, norms and element-wise chains run on a vector unit beside the engine.

What a graph asks of the units is worked out once; a configuration then prices all distinct tasks as columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.target import Aspect
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.demands import (
    ENGINE,
    PORT,
    VECTOR_UNIT,
    Demand,
    demands_of,
    unpriced,
)
from tetrasim.hw_targets.fpga.parts import OVERLAY_NAMES
from tetrasim.sim.engine.program import Columns, Machine, Order, Program, Resource, join, order_of
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

ON_CHIP, OFF_CHIP = "on-chip memory", "off-chip memory"
COMPONENTS = ("MAC array", "vector unit", "on-chip memory", "off-chip memory")


def machine(config: FpgaConfig) -> Machine:
    """Resources and vocabulary of the overlay."""
    clock = config.overlay.clock_hz
    return Machine(
        target="fpga",
        resources=tuple([Resource(name, clock, "overlay") for name in (ENGINE, VECTOR_UNIT, PORT)]),
        part_names=OVERLAY_NAMES,
        level_names=(ON_CHIP, OFF_CHIP),
        component_names=COMPONENTS,
        static_power_w=(("board static", config.power.static_w),),
    )


def lower_overlay(graph: Graph, config: FpgaConfig) -> Program:
    """One block of engine, vector and memory tasks per node."""
    tasks, order = _tasks_of_graph(graph, unpriced(config))
    return join(machine(config), priced(tasks, config), order)


@lru_cache(maxsize=256)
def _tasks_of_graph(graph: Graph, used: Aspect[FpgaConfig]) -> tuple[Tasks, Order]:
    works = [work_of(node) for node in graph.nodes]
    place = {work: i for i, work in enumerate(dict.fromkeys(works))}
    return tasks_of(list(place), used), order_of(tuple(place[w] for w in works), graph.predecessors)


@dataclass(frozen=True, eq=False)
class Tasks:
    """The demands of B ops as U rows."""

    lengths: tuple[int, ...]  # [B]
    shape: tuple[tuple[str, str, tuple[int, ...]], ...]  # [U] kind, resource, waits
    own_part: NDArray[np.int64]  # [U] index into OVERLAY_NAMES
    own_cycles: NDArray[np.int64]
    ideal_cycles: NDArray[np.int64]
    macs: NDArray[np.int64]
    ops: NDArray[np.int64]
    on_chip: NDArray[np.int64]  # bytes
    weights: NDArray[np.int64]
    state: NDArray[np.int64]
    access: NDArray[np.int64]  # 1 where the first word is waited for
    engine: NDArray[np.int64]  # 1 on the engine
    vector: NDArray[np.int64]  # 1 on the vector unit


def tasks_of(works: Sequence[Work], used: Aspect[FpgaConfig]) -> Tasks:
    """The tasks of `works`, one after the other."""
    blocks = [demands_of(work, used) for work in works]
    rows = [_row(demand) for demand in chain.from_iterable(blocks)]
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 11).T.copy()
    shape = tuple((d.kind, d.resource, d.after) for d in chain.from_iterable(blocks))
    return Tasks(tuple(map(len, blocks)), shape, *columns)


def _row(d: Demand) -> tuple[int, ...]:
    t = d.traffic
    on_engine, on_vector = d.resource == ENGINE, d.resource == VECTOR_UNIT
    own = (OVERLAY_NAMES.index(d.own_part), d.own_cycles, d.ideal_cycles, d.macs, d.ops)
    return (*own, t.on_chip, t.weights, t.state, d.access, on_engine, on_vector)


def priced(tasks: Tasks, config: FpgaConfig) -> Columns:
    """Cycles, bytes and energy of every task. Streaming and computing overlap: the longer one is the time,
    and names the part; streaming cycles are split between weights and cache in proportion to bytes."""
    unit, power = config.overlay, config.power
    off = tasks.weights + tasks.state
    per_cycle = config.bytes_per_cycle
    stream = np.ceil(off / per_cycle).astype(np.int64)
    weights = np.minimum(np.ceil(tasks.weights / per_cycle).astype(np.int64), stream)
    part = np.zeros((len(off), len(OVERLAY_NAMES)), np.int64)
    part[:, 0] = tasks.ideal_cycles
    part[np.arange(len(off)), tasks.own_part] = tasks.own_cycles - tasks.ideal_cycles
    late = stream > tasks.own_cycles
    part[late] = 0
    part[late, 2] = weights[late]
    part[late, 3] = (stream - weights)[late]
    part[:, 4] = tasks.access * _access_cycles(config)
    part[:, 7] = unit.control_cycles
    busy = part.sum(axis=1)
    energy = np.empty((len(off), len(COMPONENTS)))
    energy[:, 0] = tasks.macs * power.mac_pj
    energy[:, 1] = tasks.ops * power.lut_op_pj
    # streamed bytes pass through the on-chip buffers once in and once out
    energy[:, 2] = (tasks.on_chip + 2 * off) * power.on_chip_pj_per_byte
    energy[:, 3] = 8.0 * config.off_chip.energy_pj_per_bit * off if config.off_chip else 0.0
    return Columns(
        tasks.lengths,
        tasks.shape,
        busy,
        busy + tasks.engine * unit.engine_latency_cycles + tasks.vector * unit.vector_latency_cycles,
        part,
        np.stack([tasks.on_chip, off], axis=1),
        energy,
        tasks.macs,
    )


def _access_cycles(config: FpgaConfig) -> int:
    return ceil(config.off_chip.latency_ns * 1e-9 * config.overlay.clock_hz) if config.off_chip else 0
