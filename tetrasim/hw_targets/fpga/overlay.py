"""The overlay: one matrix-vector engine that runs every layer, weights streamed from off-chip memory.

Theory of operation (DFX, arXiv 2209.10797; FlightLLM, arXiv 2401.03868). The engine multiplies a slice of
`dot_length` inputs with `columns` weight columns per cycle, so a product C[m,n] = A[m,k] B[k,n] takes
m * ceil(k / dot_length) * ceil(n / columns) cycles. Weights and cached keys and values are double buffered:
an
op takes the longer of streaming and computing. Activations stay on chip. Softmax, norms and element-wise
chains
run on a vector unit beside the engine; heads are pipelined through score, softmax and value products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.sim.engine.program import Block, Machine, Program, Resource, Task, assemble
from tetrasim.sim.ir.graph import Graph, Role
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import AttentionShape, Gemm, Vector, Work, WorkKind

ENGINE, VECTOR_UNIT, PORT = "matrix engine", "vector unit", "memory port"
PARTS = (
    "MAC array",
    "MAC padding",
    "off-chip weights",
    "off-chip KV cache",
    "off-chip access",
    "vector arithmetic",
    "on-chip movement",
    "control",
)
ON_CHIP, OFF_CHIP = "on-chip memory", "off-chip memory"
COMPONENTS = ("MAC array", "vector unit", "on-chip memory", "off-chip memory")
FUNCTIONS = frozenset({"exp", "erf", "tanh", "sqrt", "log", "pow", "trig", "div"})
HEAD_GROUPS = 8  # heads are software-pipelined in at most this many groups
OFF_CHIP_ROLES = frozenset({Role.WEIGHT, Role.STATE, Role.CONSTANT})


def machine(config: FpgaConfig) -> Machine:
    """Resources and vocabulary of the overlay."""
    clock = config.overlay.clock_hz
    return Machine(
        target="fpga",
        resources=tuple(Resource(name, clock, "overlay") for name in (ENGINE, VECTOR_UNIT, PORT)),
        part_names=PARTS,
        level_names=(ON_CHIP, OFF_CHIP),
        component_names=COMPONENTS,
        static_power_w=(("board static", config.power.static_w),),
    )


def lower_overlay(graph: Graph, config: FpgaConfig) -> Program:
    """One block of engine, vector and memory tasks per node."""
    works = [work_of(node) for node in graph.nodes]
    priced = {id(work): block_of(work, config) for work in {id(w): w for w in works}.values()}
    blocks = [priced[id(work)] for work in works]  # equal content is one object: `work_of` sees to it
    return assemble(machine(config), blocks, graph.predecessors)


@lru_cache(maxsize=1 << 16)
def block_of(work: Work, config: FpgaConfig) -> Block:
    """The tasks of one op; equal work is priced once."""
    if work.kind is WorkKind.VIEW:
        return Block()
    if work.kind is WorkKind.GEMM and work.gemm is not None:
        return Block((_gemm_task(work, work.gemm, config),))
    if work.kind is WorkKind.ATTENTION and work.attention is not None:
        return Block(_attention_tasks(work, work.attention, config))
    if work.kind is WorkKind.VECTOR and work.vector is not None:
        return Block((_vector_task(work, work.vector, config),))
    return Block((_move_task(work, config),))


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Bytes of an op by where they live."""

    on_chip: int
    weights: int
    state: int

    @property
    def off_chip(self) -> int:
        return self.weights + self.state


def _traffic(work: Work, config: FpgaConfig) -> _Traffic:
    weights = sum(o.nbytes for o in work.reads if o.role in (Role.WEIGHT, Role.CONSTANT))
    state = sum(o.nbytes for o in (*work.reads, *work.writes) if o.role is Role.STATE)
    rest = sum(o.nbytes for o in (*work.reads, *work.writes) if o.role not in OFF_CHIP_ROLES)
    if config.off_chip is None:
        return _Traffic(rest + weights + state, 0, 0)
    return _Traffic(rest, weights, state)


def _cycles(count: float, per_cycle: float) -> int:
    return ceil(count / per_cycle)


def _energy(work_macs: int, ops: int, traffic: _Traffic, config: FpgaConfig) -> tuple[tuple[str, float], ...]:
    power = config.power
    off = 8.0 * config.off_chip.energy_pj_per_bit * traffic.off_chip if config.off_chip else 0.0
    # streamed bytes pass through the on-chip buffers once in and once out
    on = (traffic.on_chip + 2 * traffic.off_chip) * power.on_chip_pj_per_byte
    return (
        ("MAC array", work_macs * power.mac_pj),
        ("vector unit", ops * power.lut_op_pj),
        ("on-chip memory", on),
        ("off-chip memory", off),
    )


def _levels(traffic: _Traffic) -> tuple[tuple[str, int], ...]:
    return ((ON_CHIP, traffic.on_chip), (OFF_CHIP, traffic.off_chip))


def _stream_parts(traffic: _Traffic, stream: int, config: FpgaConfig) -> tuple[tuple[str, int], ...]:
    """Split streaming cycles between weights and cache in proportion to bytes."""
    weights = min(_cycles(traffic.weights, config.bytes_per_cycle), stream) if traffic.weights else 0
    return (("off-chip weights", weights), ("off-chip KV cache", stream - weights))


def _engine_task(
    kind: str,
    macs: int,
    compute: int,
    traffic: _Traffic,
    config: FpgaConfig,
    *,
    after: tuple[int, ...] = (),
    access_cycles: int = 0,
) -> Task:
    """Streaming and computing overlap: the longer one is the time, and names the part."""
    unit = config.overlay
    stream = _cycles(traffic.off_chip, config.bytes_per_cycle) if traffic.off_chip else 0
    ideal = min(_cycles(macs, unit.macs_per_cycle), compute)
    if stream > compute:
        parts = _stream_parts(traffic, stream, config)
    else:
        parts = (("MAC array", ideal), ("MAC padding", compute - ideal))
    busy = max(stream, compute) + unit.control_cycles + access_cycles
    return Task(
        kind=kind,
        resource=ENGINE,
        busy_cycles=busy,
        latency_cycles=busy + unit.engine_latency_cycles,
        parts=(*parts, ("control", unit.control_cycles), ("off-chip access", access_cycles)),
        after=after,
        level_bytes=_levels(traffic),
        energy_pj=_energy(macs, 0, traffic, config),
        macs=macs,
    )


def _gemm_task(work: Work, gemm: Gemm, config: FpgaConfig) -> Task:
    unit = config.overlay
    compute = gemm.batch * gemm.m * ceil(gemm.k / unit.dot_length) * ceil(gemm.n / unit.columns)
    return _engine_task("gemm", gemm.macs, compute, _traffic(work, config), config)


def _attention_tasks(work: Work, shape: AttentionShape, config: FpgaConfig) -> tuple[Task, ...]:
    """Score, softmax and value tasks per group of heads, interleaved so that the engine works on group i + 1
    while the vector unit normalises group i."""
    unit = config.overlay
    pairs_of = shape.batch * shape.heads
    groups = min(pairs_of, HEAD_GROUPS)
    traffic = _traffic(work, config)
    keys = max(ceil(shape.visible_pairs / shape.q_len), 1)
    score_unit = shape.q_len * ceil(shape.head_dim / unit.dot_length) * ceil(keys / unit.columns)
    value_unit = shape.q_len * ceil(keys / unit.dot_length) * ceil(shape.v_head_dim / unit.columns)
    share = [pairs_of * (g + 1) // groups - pairs_of * g // groups for g in range(groups)]
    head_share = shape.head_dim / (shape.head_dim + shape.v_head_dim)
    access = _access_cycles(config) if traffic.off_chip else 0
    tasks: list[Task] = []
    place: dict[tuple[str, int], int] = {}

    def add(kind: str, group: int, waits: tuple[tuple[str, int], ...]) -> None:
        after = tuple(len(tasks) - place[w] for w in waits)
        n = share[group]
        part = _part_of(traffic, group, groups)
        if kind == "scores":
            scored = _scale(part, head_share)
            tasks.append(
                _engine_task(
                    kind,
                    n * shape.visible_pairs * shape.head_dim,
                    n * score_unit,
                    scored,
                    config,
                    after=after,
                    access_cycles=access if group == 0 else 0,
                )
            )
        elif kind == "softmax":
            tasks.append(_softmax_task(n * shape.visible_pairs, config, after))
        else:
            rest = _minus(part, _scale(part, head_share))
            macs = n * shape.visible_pairs * shape.v_head_dim
            tasks.append(_engine_task(kind, macs, n * value_unit, rest, config, after=after))
        place[kind, group] = len(tasks) - 1

    for step in range(groups + 1):
        if step < groups:
            add("scores", step, ())
            add("softmax", step, (("scores", step),))
        if step > 0:
            add("values", step - 1, (("softmax", step - 1),))
    return tuple(tasks)


def _part_of(traffic: _Traffic, group: int, groups: int) -> _Traffic:
    """The bytes of one of `groups` equal pieces; the pieces sum to the whole."""
    cut = [
        n * (group + 1) // groups - n * group // groups
        for n in (traffic.on_chip, traffic.weights, traffic.state)
    ]
    return _Traffic(*cut)


def _scale(traffic: _Traffic, share: float) -> _Traffic:
    return _Traffic(int(traffic.on_chip * share), int(traffic.weights * share), int(traffic.state * share))


def _minus(a: _Traffic, b: _Traffic) -> _Traffic:
    return _Traffic(a.on_chip - b.on_chip, a.weights - b.weights, a.state - b.state)


def _softmax_task(pairs: int, config: FpgaConfig, after: tuple[int, ...]) -> Task:
    """max, subtract, exp, sum, scale: three passes over the lanes, one result per function lane."""
    unit = config.overlay
    work = max(_cycles(3 * pairs, unit.vector_lanes), _cycles(pairs, unit.function_lanes))
    return Task(
        kind="softmax",
        resource=VECTOR_UNIT,
        busy_cycles=work + unit.control_cycles,
        latency_cycles=work + unit.control_cycles + unit.vector_latency_cycles,
        parts=(("vector arithmetic", work), ("control", unit.control_cycles)),
        after=after,
        energy_pj=(("vector unit", 5 * pairs * config.power.lut_op_pj),),
    )


def _vector_task(work: Work, vector: Vector, config: FpgaConfig) -> Task:
    unit = config.overlay
    traffic = _traffic(work, config)
    functions = sum(n for kind, n in vector.ops if kind in FUNCTIONS)
    elements = vector.rows * vector.cols
    passes = 3 if vector.reduces else 1  # statistics, then normalise: the row is read again
    compute = max(_cycles(passes * elements, unit.vector_lanes), _cycles(functions, unit.function_lanes))
    # long chains of simple operations are pipelined: a lane does one element per cycle whatever the chain
    # length
    stream = _cycles(traffic.off_chip, config.bytes_per_cycle) if traffic.off_chip else 0
    parts = _stream_parts(traffic, stream, config) if stream > compute else (("vector arithmetic", compute),)
    busy = max(compute, stream) + unit.control_cycles
    return Task(
        kind="vector",
        resource=VECTOR_UNIT,
        busy_cycles=busy,
        latency_cycles=busy + unit.vector_latency_cycles,
        parts=(*parts, ("control", unit.control_cycles)),
        level_bytes=_levels(traffic),
        energy_pj=_energy(0, work.vector_ops, traffic, config),
    )


def _access_cycles(config: FpgaConfig) -> int:
    return ceil(config.off_chip.latency_ns * 1e-9 * config.overlay.clock_hz) if config.off_chip else 0


def _move_task(work: Work, config: FpgaConfig) -> Task:
    """Gathers, cache appends and copies: the memory port, or the on-chip network when nothing leaves the
    chip."""
    traffic = _traffic(work, config)
    unit = config.overlay
    width = unit.vector_lanes * max((o.bits for o in (*work.reads, *work.writes)), default=8) / 8
    on = _cycles(traffic.on_chip, 2 * width)  # read and written through both ports of the buffers
    off = _cycles(traffic.off_chip, config.bytes_per_cycle) if traffic.off_chip else 0
    access = _access_cycles(config) if traffic.off_chip else 0
    parts: tuple[tuple[str, int], ...]
    parts = _stream_parts(traffic, off, config) if off > on else (("on-chip movement", on),)
    busy = max(on, off) + access + unit.control_cycles
    return Task(
        kind=str(work.kind),
        resource=PORT,
        busy_cycles=busy,
        parts=(*parts, ("off-chip access", access), ("control", unit.control_cycles)),
        level_bytes=_levels(traffic),
        energy_pj=_energy(0, 0, traffic, config),
    )
