"""A target of one multiply-add array, one vector unit and one memory port, and a two-layer model for it."""

from __future__ import annotations

import numpy as np

from tetrasim.flow.loading import LoadedModel, ModelPhase
from tetrasim.flow.phases import capacity_of, lowered_phases, run_phases
from tetrasim.flow.result_tables import build_result
from tetrasim.flow.setup import Setup
from tetrasim.hw_targets.common.target import Capacity, Config, MemoryUse, Peaks, Prices, ResourceUse, Target
from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble
from tetrasim.sim.ir.family import GraphFamily, constant_family, family_from
from tetrasim.sim.ir.graph import Array, Graph, Node, Role, Source, State, TensorType, Value
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.rounding import EXACT
from tetrasim.sim.ops.work import Work, WorkKind
from tetrasim.sim.precision import Precision
from tetrasim.sim.result import Result
from tetrasim.sim.workload import Workload


class ToyConfig(Config):
    macs_per_cycle: int = 16
    bytes_per_cycle: int = 8
    validated: bool = True


MACHINE = Machine(
    "toy",
    (Resource("array", 10**9), Resource("vector", 700_000_000), Resource("port", 10**9)),
    ("multiply", "vector ops", "memory"),
    ("buffer", "memory"),
    ("array", "memory", "idle"),
    (("idle", 2.0),),
)


def _block(work: Work, config: ToyConfig) -> Block:
    if work.kind is WorkKind.VIEW:
        return Block()
    load = -(-work.nbytes // config.bytes_per_cycle)
    tasks = [
        Task(
            "load",
            "port",
            load,
            (("memory", load),),
            level_bytes=(("memory", work.nbytes),),
            energy_pj=(("memory", 1.0 * work.nbytes),),
        )
    ]
    if work.macs:
        cycles = -(-work.macs // config.macs_per_cycle)
        tasks.append(Task("mac", "array", cycles, (("multiply", cycles),), cycles + 5, (1,), macs=work.macs))
    elif work.vector_ops:
        tasks.append(
            Task("vector", "vector", work.vector_ops, (("vector ops", work.vector_ops),), after=(1,))
        )
    return Block(tuple(tasks))


def lower(graph: Graph, config: ToyConfig) -> Program:
    return assemble(MACHINE, [_block(work_of(node), config) for node in graph.nodes], graph.predecessors)


def toy_target() -> Target[ToyConfig]:
    return Target(
        name="toy",
        title="a toy",
        config_type=ToyConfig,
        precision=lambda _: Precision(),
        lower=lower,
        capacity=lambda graph, _: Capacity(
            "resident", (MemoryUse("memory", 1 << 20, graph.weight_bytes, graph.state_bytes, 0),)
        ),
        resources=lambda _graph, _config: (ResourceUse("area", 2.5, 0.0, "mm2"),),
        peaks=lambda c: Peaks(c.macs_per_cycle * 1e9, 7e8, (("memory", c.bytes_per_cycle * 1e9),)),
        arithmetic=lambda _: EXACT,
        price=lambda works, _: Prices(np.zeros(len(works)), np.zeros(len(works)), ("",) * len(works)),
        error_range=lambda c, what: (
            ErrorRange(0.9, 1.2, Basis.CALIBRATED, f"3 rows of {what}") if c.validated else None
        ),
    )


def toy_setup(**changes: int | bool) -> Setup:
    return Setup("toy/one", "Toy", (), toy_target(), ToyConfig(**changes))  # type: ignore[arg-type]


def step_graph(past: int) -> Graph:
    """One query against a cache of `past` keys: append, scores, softmax."""
    f = TensorType
    x = Value("x", f((1, 8)), Role.INPUT)
    cache = Value("past_key", f((past, 8)), Role.STATE)
    weight = Value("w", f((8, 8)), Role.WEIGHT, Array(np.arange(64, dtype=np.float32).reshape(8, 8) / 64))
    q = Value("q", f((1, 8)))
    after = Value("present_key", f((past + 1, 8)), Role.STATE)
    scores = Value("scores", f((past + 1, 1)))
    flat = Value("flat", f((1, past + 1)))
    out = Value("probabilities", f((1, past + 1)))
    turned = Value("turned", f((8, 1)))
    nodes = (
        Node("project", "MatMul", (x, weight), (q,), source=Source(("MatMul_0",), "layer.q")),
        Node("append", "KVAppend", (cache, q), (after,), {"axis": 0}),
        Node("turn", "Transpose", (q,), (turned,), {"perm": (1, 0)}),
        Node("score", "MatMul", (after, turned), (scores,)),
        Node("flatten", "Transpose", (scores,), (flat,), {"perm": (1, 0)}),
        Node("normalise", "Softmax", (flat,), (out,), {"axis": -1}),
    )
    return Graph("step", nodes, (x, cache), (out, after), (State(cache, after),), (("past", past),))


def toy_model() -> LoadedModel:
    family: GraphFamily = family_from(step_graph(4), step_graph(6), step_graph(11), "past")
    phases = (ModelPhase("prefill", constant_family(step_graph(4))), ModelPhase("decode", family))
    return LoadedModel("toy-model", 64, "0" * 64, phases)


def toy_result(**changes: int | bool) -> Result:
    """The toy model on the toy target, nine tokens after a prompt of four, all tables."""
    workload = Workload(1, 4, 9)
    model, setup = toy_model(), toy_setup(**changes)
    capacity = capacity_of(lowered_phases(model, setup, workload), setup)
    runs = run_phases(model, setup, workload)
    return build_result(model, setup, workload, capacity, runs, numerics=True, command="toy")
