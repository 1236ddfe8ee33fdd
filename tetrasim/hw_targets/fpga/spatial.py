"""The spatial mapping: every layer is hardware, tokens stream through FIFOs between them.

The graph becomes a dataflow network (`dataflow/`): a node that maps row to row is one actor; attention and
products
of two run-time tensors are a collector that fills a ping-pong buffer and an emitter that reads it; what
changes the
order or number of rows collects and then emits. `attention: staged` hands whole arrays from loop to loop, as
the
published transformer firmware does (github:uw-acme/transformer-hls4ml: a DATAFLOW of loops over arrays):
every loop
ends before the next begins. FIFO depths come from a simulation without back-pressure, checked by a second
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from tetrasim.hw_targets.fpga import resources as fabric
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dataflow.network import Actor, Fifo, Network, Port
from tetrasim.hw_targets.fpga.resources import Cost
from tetrasim.hw_targets.fpga.stages import Stage, stage_of
from tetrasim.sim.ir.graph import Graph, Node, Role, Value
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Work, WorkKind

STATIC = frozenset({Role.WEIGHT, Role.CONSTANT})
REORDERING = frozenset({"Transpose"})


@dataclass(frozen=True, eq=False)
class Design:
    """A network with its graph, the stage of each node and the fabric each takes (FIFOs without)."""

    network: Network
    stages: tuple[Stage | None, ...]  # per graph node, None: wires
    hosts: tuple[int, ...]  # per graph node, whose hardware does its work (a bias: the product before)
    reuse: int

    @property
    def cost(self) -> Cost:
        return sum((s.cost for s in self.stages if s is not None), Cost())

    def cost_with_fifos(self) -> Cost:
        """Stages plus every FIFO at its present depth."""
        return sum((fabric.fifo_cost(f.depth, f.bits) for f in self.network.fifos), self.cost)


def rows_of(value: Value) -> int:
    """Rows by shape: all axes but the last; a vector or scalar is one row."""
    return max(prod(value.type.shape[:-1]), 1) if len(value.type.shape) > 1 else 1


def natural_rows(node: Node, work: Work) -> int:
    """Rows in which a node does its work: one query of all heads for attention, else rows of its output.

    A four-dimensional [batch, sequence, heads, width] result is a stream of sequence positions.
    """
    if work.attention is not None and str(node.attrs.get("o_layout", "bhsd")).startswith("bs"):
        return work.attention.batch * work.attention.q_len
    return rows_of(node.outputs[0])


def total_cost(graph: Graph, reuse: int, config: FpgaConfig) -> Cost:
    """Fabric of all stages at `reuse`, without building the network: what a search over reuse factors
    calls."""
    cost = Cost()
    for node in graph.nodes:
        work = work_of(node)
        if work.kind is not WorkKind.VIEW:
            cost += stage_of(work, natural_rows(node, work), reuse, config).cost
    return cost


def build(graph: Graph, reuse: int, config: FpgaConfig, frame_interval: int = 0) -> Design:
    """The network of `graph`; every FIFO starts deep enough for a whole frame.

    The rows of an input arrive one per cycle, those of the next input `frame_interval` cycles later (at once
    when it is less than the rows): a source faster than the pipeline would fill any FIFO.
    """
    maker = _Maker(config, reuse)
    for value in graph.inputs:
        rows = rows_of(value)
        source = maker.add(f"input {value.name}", max(rows, frame_interval), Stage(1, 1, Cost()))
        maker.produce(value, source, 0, rows)
    stages = tuple(maker.node(i, node, work_of(node)) for i, node in enumerate(graph.nodes))
    for value in graph.outputs:
        rows = maker.tokens(value)
        maker.consume(value, maker.add(f"output {value.name}", rows, Stage(1, 1, Cost())), 0, rows)
    network = maker.network()
    network.verify()
    hosts = tuple(maker.hosts.get(i, i) for i in range(len(graph.nodes)))
    return Design(network, stages, hosts, reuse)


@dataclass
class _Draft:
    """An actor under construction."""

    name: str
    firings: int
    stage: Stage
    node: int
    holds: bool = False  # has a ping-pong buffer before it
    reads: list[Port] = field(default_factory=list)
    writes: list[Port] = field(default_factory=list)


@dataclass
class _Maker:
    """Collects actors and FIFOs; `sources` says which actor writes a value, in which of its firings."""

    config: FpgaConfig
    reuse: int
    drafts: list[_Draft] = field(default_factory=list)
    fifos: list[Fifo] = field(default_factory=list)
    sources: dict[Value, Port] = field(default_factory=dict)  # `Port.fifo` is the actor here
    joined: dict[str, Value] = field(default_factory=dict)
    hosts: dict[int, int] = field(default_factory=dict)
    aliases: dict[Value, Value] = field(default_factory=dict)

    def add(self, name: str, firings: int, stage: Stage, node: int = -1) -> int:
        self.drafts.append(_Draft(name, max(firings, 1), stage, node))
        return len(self.drafts) - 1

    def produce(self, value: Value, actor: int, first: int = 0, last: int = -1, stride: int = 1) -> None:
        self.sources[value] = Port(actor, first, self.drafts[actor].firings if last < 0 else last, stride)

    def root(self, value: Value) -> Value:
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def tokens(self, value: Value) -> int:
        """Rows in which the value arrives: its producer decides, views do not change it."""
        return self.sources[self.root(value)].tokens

    def consume(self, value: Value, actor: int, first: int, last: int, stride: int = 1) -> None:
        """Join the actor that writes `value` to `actor`, which reads one row in each firing of the range."""
        value = self.root(value)
        put = self.sources[value]
        writer, bits = put.fifo, value.type.elements * value.type.bits
        name = f"{self.drafts[writer].name} -> {self.drafts[actor].name}"
        if self.config.spatial.attention == "staged":  # one hand-over of the whole array per frame
            end = put.first + (put.tokens - 1) * put.stride + 1
            self.link(name, writer, (end - 1, end, 1), actor, (first, first + 1, 1), bits)
        else:
            self.link(
                name,
                writer,
                (put.first, put.last, put.stride),
                actor,
                (first, last, stride),
                bits // put.tokens,
            )

    def gathered(self, value: Value, rows: int) -> Value:
        """`value` as a stream of `rows` wider rows: a stage that joins neighbours when it arrives in more."""
        many = self.tokens(value)
        if many <= rows:
            return value
        wide = Value(f"{self.root(value).name}@{rows}", value.type)
        if wide.name not in self.joined:
            bits = value.type.elements * value.type.bits / rows
            actor = self.add(f"join {wide.name}", many, Stage(1, 1, Cost(ff=bits)))
            self.consume(value, actor, 0, many)
            self.produce(wide, actor, many // rows - 1, many, many // rows)
            self.joined[wide.name] = wide
        return self.joined[wide.name]

    def link(
        self,
        name: str,
        writer: int,
        put: tuple[int, int, int],
        reader: int,
        get: tuple[int, int, int],
        bits: int,
        initial: int = 0,
    ) -> None:
        taken = sum(1 for f in self.fifos if f.name == name or f.name.startswith(name + " #"))
        unique = f"{name} #{taken + 1}" if taken else name
        port = Port(len(self.fifos), *put)
        self.fifos.append(Fifo(unique, max(port.tokens + initial, 2), bits, initial))
        self.drafts[writer].writes.append(port)
        self.drafts[reader].reads.append(Port(port.fifo, *get))

    def network(self) -> Network:
        actors = tuple(
            Actor(d.name, d.stage.ii, d.stage.latency, d.firings, tuple(d.reads), tuple(d.writes), d.node)
            for d in self.drafts
        )
        return Network(actors, tuple(self.fifos))

    def node(self, index: int, node: Node, work: Work) -> Stage | None:
        """Add the actors of one node; its stage, None when it is only wires."""
        streams = [
            v for v in node.inputs if v is not None and v.role not in STATIC and self.root(v) in self.sources
        ]
        if work.kind is WorkKind.VIEW and len(streams) == 1:
            self.aliases.update(dict.fromkeys(node.outputs, streams[0]))
            return None
        made = natural_rows(node, work)
        if work.kind is WorkKind.VECTOR and work.vector is not None and not work.vector.reduces and streams:
            widest = max(streams, key=lambda v: v.type.elements)
            made = self.tokens(widest) if widest.type.elements == node.outputs[0].type.elements else made
        stage = stage_of(work, made, self.reuse, self.config)
        if len(streams) == 1 and _is_combinational(node, work) and self._ends_in_product(streams[0]):
            # a bias is the start value of the accumulators, a ReLU a multiplexer: fabric, but no cycles
            self.aliases[node.outputs[0]] = streams[0]
            self.hosts[index] = self.drafts[self.sources[self.root(streams[0])].fifo].node
            return Stage(stage.ii, 0, stage.cost)
        held = self._held(node, work, streams)
        if held:
            self._collect_and_emit(index, node, made, stage, held, [s for s in streams if s not in held])
        elif node.op in REORDERING or not all(_aligned(self.tokens(s), made) for s in streams):
            self._barrier(index, node, made, stage, streams)
        else:
            self._stream(index, node, made, stage, streams)
        return stage

    def _ends_in_product(self, value: Value) -> bool:
        source = self.sources[self.root(value)]
        return self.drafts[source.fifo].stage.multipliers > 0 and not self.drafts[source.fifo].holds

    def _held(self, node: Node, work: Work, streams: list[Value]) -> list[Value]:
        """Inputs that must be complete before the first row leaves: keys and values, the second factor."""
        if work.kind is WorkKind.ATTENTION:
            return [v for v in streams if v is not node.inputs[0]]
        if work.kind is WorkKind.GEMM and work.gemm is not None and not work.gemm.weight_is_b:
            return [v for v in streams if v is not node.inputs[0]]
        return []

    def _stream(self, index: int, node: Node, made: int, stage: Stage, streams: list[Value]) -> None:
        """Row in, row out; inputs of fewer rows are read every few firings, of more rows joined before."""
        wide = [self.gathered(v, made) for v in streams]
        actor = self.add(node.name, made, stage, index)
        for value in wide:
            self.consume(value, actor, 0, made, made // self.tokens(value))
        for value in node.outputs:
            self.produce(value, actor)

    def _barrier(self, index: int, node: Node, made: int, stage: Stage, streams: list[Value]) -> None:
        """All rows in, then all rows out."""
        taken = max((self.tokens(s) for s in streams), default=1)
        actor = self.add(node.name, taken - 1 + made, stage, index)
        for value in streams:
            self.consume(value, actor, 0, self.tokens(value))
        for value in node.outputs:
            self.produce(value, actor, taken - 1, taken - 1 + made)

    def _collect_and_emit(
        self, index: int, node: Node, made: int, stage: Stage, held: list[Value], streamed: list[Value]
    ) -> None:
        """A ping-pong buffer: the collector needs a credit per frame, the emitter returns it with its last
        row."""
        collected = max(self.tokens(v) for v in held)
        collector = self.add(f"{node.name} buffer", collected, Stage(1, 1, Cost()), index)
        for value in held:
            self.consume(value, collector, 0, self.tokens(value))
        if all(_aligned(self.tokens(s), made) for s in streamed):
            wide = [self.gathered(v, made) for v in streamed]
            first, emitter = 0, self.add(node.name, made, stage, index)
            for value in wide:
                self.consume(value, emitter, 0, made, made // self.tokens(value))
        else:
            first = max(self.tokens(s) for s in streamed) - 1
            emitter = self.add(node.name, first + made, stage, index)
            for value in streamed:
                self.consume(value, emitter, 0, self.tokens(value))
        self.drafts[emitter].holds = True
        last = self.drafts[emitter].firings
        full = (collected - 1, collected, 1)
        # staged firmware has one buffer: the next frame's loop waits for this one's end
        buffers = 1 if self.config.spatial.attention == "staged" else 2
        self.link(f"{node.name} full", collector, full, emitter, (first, first + 1, 1), 1)
        self.link(f"{node.name} free", emitter, (last - 1, last, 1), collector, (0, 1, 1), 1, buffers)
        for value in node.outputs:
            self.produce(value, emitter, first, last)


def _is_combinational(node: Node, work: Work) -> bool:
    """Bias and ReLU: hls4ml's csynth baselines give ReLU a latency of 0 cycles."""
    return node.op == "Add" or (
        work.vector is not None
        and not work.vector.reduces
        and {k for k, _ in work.vector.ops} <= {"max", "cmp"}
    )


def _aligned(taken: int, made: int) -> bool:
    """One row count divides the other, so rows can be repeated or merged on the fly."""
    return taken % made == 0 or made % taken == 0
