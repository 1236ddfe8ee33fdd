"""The emitted streaming project as a dataflow network: latency, interval and the depth of every FIFO.

One actor per emitted function (hls4ml's clones included), one FIFO per `hls::stream` of the top function,
with the initiation intervals that the pragmas ask for and the pipeline depths of `timing.py`. Depths are the
highest occupancies of a run in which inputs arrive no faster than results leave, confirmed by a second run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.dataflow.explain import explain
from tetrasim.hw_targets.fpga.dataflow.kernel import Run
from tetrasim.hw_targets.fpga.dataflow.network import Actor, Fifo, Network, Port
from tetrasim.hw_targets.fpga.dataflow.sizing import full_speed
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.cpp import moves
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.plan import Layer, Plan
from tetrasim.hw_targets.fpga.reuse import nearest_reuse
from tetrasim.hw_targets.fpga.timing import SOFTMAX_STAGES, TABLE_STAGES, dense_stages, tree_stages

FRAMES = 4
Span = tuple[int, int, int]  # first firing, past the last one, stride


@dataclass(frozen=True, slots=True)
class StreamFifo:
    """One stream: the layer that writes it, which copy it is (0: the only one, or before a clone), the bits
    of a row and the rows it must hold."""

    layer: str
    copy: int
    bits: int
    depth: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What the simulation of the emitted functions found."""

    latency_cycles: int
    interval_cycles: int
    fifos: tuple[StreamFifo, ...]

    @property
    def fifo_bits(self) -> int:
        return sum(f.bits * f.depth for f in self.fifos)


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer as hardware: cycles per row, pipeline depth, firings per inference, and its ports."""

    ii: int
    latency: int
    firings: int
    reads: tuple[Span, ...]
    writes: Span


def reuse_of(layer: Layer, options: HlsOptions) -> int:
    """The reuse factor of a layer: hls4ml's Resource kernel takes only some, and aborts on the others; the
    Latency kernel gets the same ones, as the published firmware does (3 for 6 inputs at reuse 4)."""
    if not isinstance(layer, p.Dense):
        return options.reuse
    n_in, n_out = layer.weight.shape
    return nearest_reuse(n_in, n_out, options.reuse, below_inputs=options.strategy == "resource")


def forks(plan: Plan, layer: Layer) -> bool:
    """Whether the layer writes a stream per reader itself: our kernels can, hls4ml's need a clone."""
    foreign = isinstance(layer, p.Input | p.Dense | p.Relu)
    return not foreign and layer.name not in plan.outputs and len(plan.readers()[layer.name]) > 1


def simulate_pipeline(plan: Plan, options: HlsOptions) -> Pipeline:
    """Latency and depths of a streamed plan with types.

    Raises:
        UserError: the pipeline cannot run with any depth: our defect, but nothing must be written then.
    """
    pace = max(_busiest(plan, options), 1)
    maker, network, run = _sized(plan, options, pace)
    interval = _interval(network, run)
    if interval > pace:  # buffers, not the slowest stage, limit the rate: inputs no faster than results
        maker, network, run = _sized(plan, options, interval)
        interval = _interval(network, run)
    found = (
        StreamFifo(*key, network.fifos[i].bits, network.fifos[i].depth) for key, i in maker.streams.items()
    )
    return Pipeline(_end(network, run, 0), interval, tuple(found))


def _sized(plan: Plan, options: HlsOptions, pace: int) -> tuple[_Maker, Network, Run]:
    maker = _Maker(plan, options, pace)
    network = maker.network()
    network.verify()
    sized = full_speed(network, FRAMES)
    stuck = explain(sized.network, sized.run, FRAMES)
    if stuck is not None:
        raise UserError(
            stuck.text(), where=plan.name, hint="--io parallel; please report the model, it should run"
        )
    return maker, sized.network, sized.run


def _busiest(plan: Plan, options: HlsOptions) -> int:
    stages = (stage_of(plan, x, options) for x in plan.layers if not isinstance(x, p.Input))
    return max((s.firings * s.ii for s in stages), default=1)


def _end(network: Network, run: Run, frame: int) -> int:
    sinks = [(a, x.firings) for a, x in enumerate(network.actors) if not x.writes]
    return max(int(run.done[run.offset[a] + (frame + 1) * n - 1]) for a, n in sinks)


def _interval(network: Network, run: Run) -> int:
    return _end(network, run, FRAMES - 1) - _end(network, run, FRAMES - 2)


def stage_of(plan: Plan, layer: Layer, options: HlsOptions) -> Stage:
    """Interval, depth and ports of one layer, without the collector of attentions and products."""
    rows = layer.shape[0]
    ii, latency, firings = 1, 1, rows
    writes: Span = (0, rows, 1)
    clock = options.clock_ns
    inputs = [plan.types[i].result.bits for i in layer.inputs]
    match layer:
        case p.Dense():
            ii = reuse_of(layer, options)
            weight = plan.types[layer.name].weight
            bits = max(inputs[0], weight.bits if weight else 0)
            latency = dense_stages(layer.weight.shape[0], bits, clock, ii)
        case p.Attention():
            ii = options.reuse
            scores = dense_stages(layer.head_dim, max(inputs), clock, ii)
            latency = scores + SOFTMAX_STAGES + dense_stages(layer.kv_len, max(inputs), clock, ii)
        case p.Product():
            ii = options.reuse
            latency = dense_stages(layer.k, max(inputs), clock, ii)
        case p.Softmax() | p.Norm():
            latency = max(SOFTMAX_STAGES, 2 + TABLE_STAGES) + 2 * tree_stages(layer.cols, clock)
        case p.Lookup():
            latency = 1 + TABLE_STAGES
        case p.Affine() | p.Grid() | p.Rescale():
            latency = 2
        case p.Binary():
            latency = 2 if layer.kind == "mul" else 1
        case p.Reduce():
            if layer.inner > 1:
                firings = rows * layer.n
                writes = (layer.n - 1, firings, layer.n)
            latency = 2 + tree_stages(layer.n if layer.inner == 1 else 1, clock)
        case p.Select() | p.Concat():
            return _moving(plan, layer)
        case _:
            pass
    streams = len(layer.inputs) - len(_held(layer))
    return Stage(ii, max(latency, 1), firings, ((0, firings, 1),) * streams, writes)


def _held(layer: Layer) -> tuple[int, ...]:
    """Inputs that are collected before the first row leaves: keys and values, the second factor."""
    match layer:
        case p.Attention():
            return (1, 2)
        case p.Product():
            return (1,)
        case _:
            return ()


def _moving(plan: Plan, layer: p.Select | p.Concat) -> Stage:
    made = moves(plan, layer)
    rows = [plan.layer(i).shape[0] for i in layer.inputs]
    spans = ((0, (r - 1) * m.read_every + 1, m.read_every) for r, m in zip(rows, made, strict=True))
    out = made[0]
    end = out.lag + (layer.shape[0] - 1) * out.write_every + 1
    return Stage(1, 1, out.firings, tuple(spans), (out.lag, end, out.write_every))


@dataclass
class _Draft:
    name: str
    stage: Stage
    reads: list[Port] = field(default_factory=list)
    writes: list[Port] = field(default_factory=list)


class _Maker:
    """Actors and FIFOs so far; `streams` finds the FIFO of a stream (layer and number of the copy)."""

    def __init__(self, plan: Plan, options: HlsOptions, pace: int) -> None:
        self.plan, self.options, self.pace = plan, options, pace
        self.drafts: list[_Draft] = []
        self.fifos: list[Fifo] = []
        self.streams: dict[tuple[str, int], int] = {}
        self.forking = {x.name for x in plan.layers if forks(plan, x)}
        self.readers: dict[str, list[tuple[_Draft, Span]]] = {x.name: [] for x in plan.layers}

    def network(self) -> Network:
        """One actor per function, in order of the plan."""
        written: dict[str, _Draft] = {}
        sinks = {n: self.plan.layer(n).shape[0] for n in self.plan.outputs}
        for name, rows in sinks.items():  # hls4ml's first clone of an output is the output
            self.readers[name].append((self.actor(f"output {name}", _through(rows, 1)), (0, rows, 1)))
        for layer in self.plan.layers:
            written[layer.name] = self.layer(layer)
        for layer in self.plan.layers:
            self.fan_out(layer, written[layer.name])
        actors = tuple(
            Actor(d.name, d.stage.ii, d.stage.latency, d.stage.firings, tuple(d.reads), tuple(d.writes))
            for d in self.drafts
        )
        return Network(actors, tuple(self.fifos))

    def actor(self, name: str, stage: Stage) -> _Draft:
        self.drafts.append(_Draft(name, stage))
        return self.drafts[-1]

    def layer(self, layer: Layer) -> _Draft:
        """The actor that writes the layer's stream; it (or its collector) reads the inputs."""
        if isinstance(layer, p.Input):
            rows = layer.shape[0]
            return self.actor(f"input {layer.name}", Stage(1, 1, max(rows, self.pace), (), (0, rows, 1)))
        stage = stage_of(self.plan, layer, self.options)
        main = self.actor(layer.name, stage)
        held, spans, collector = _held(layer), iter(stage.reads), main
        rows = self.plan.layer(layer.inputs[held[0]]).shape[0] if held else 0
        if held:
            collector = self.actor(f"{layer.name} buffer", _through(rows, 1))
        for i, name in enumerate(layer.inputs):
            end = (collector, (0, rows, 1)) if i in held else (main, next(spans))
            self.readers[name].append(end)
        if held:
            self.link(f"{layer.name} full", collector, (rows - 1, rows, 1), main, (0, 1, 1), 1)
            last = stage.firings
            self.link(f"{layer.name} free", main, (last - 1, last, 1), collector, (0, 1, 1), 1, initial=2)
        return main

    def fan_out(self, layer: Layer, writer: _Draft) -> None:
        """Join a layer to its readers, through a clone when there are several."""
        rows, width = layer.shape
        bits = width * self.plan.types[layer.name].result.bits
        readers = self.readers[layer.name]
        put = writer.stage.writes
        if layer.name in self.forking:
            for i, (reader, span) in enumerate(readers):
                link = self.link(f"{layer.name} {i + 1}", writer, put, reader, span, bits)
                self.streams[layer.name, i + 1] = link
            return
        if len(readers) == 1:
            reader, span = readers[0]
            self.streams[layer.name, 0] = self.link(layer.name, writer, put, reader, span, bits)
            return
        clone = self.actor(f"clone {layer.name}", _through(rows, 1))
        self.streams[layer.name, 0] = self.link(layer.name, writer, put, clone, (0, rows, 1), bits)
        for i, (reader, span) in enumerate(readers):
            link = self.link(f"{layer.name} copy {i + 1}", clone, (0, rows, 1), reader, span, bits)
            self.streams[layer.name, i + 1] = link

    def link(
        self, name: str, writer: _Draft, put: Span, reader: _Draft, get: Span, bits: int, *, initial: int = 0
    ) -> int:
        port = Port(len(self.fifos), *put)
        self.fifos.append(Fifo(name, max(port.tokens + initial, 2), bits, initial))
        writer.writes.append(port)
        reader.reads.append(Port(port.fifo, *get))
        return port.fifo


def _through(rows: int, ii: int) -> Stage:
    return Stage(ii, 1, rows, ((0, rows, 1),), (0, rows, 1))
