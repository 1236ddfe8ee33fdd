"""What the conversion of a graph keeps from node to node: its layers so far, and what each computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.names import Namer
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Floats, Ints, Layer, Shape
from tetrasim.hw_targets.fpga.hls.quantised import has_general_scales, is_whole
from tetrasim.sim.ir.graph import Graph, Kind, Node, Value
from tetrasim.sim.ops.registry import find_op
from tetrasim.sim.ops.rounding import EXACT

TABLE_ENTRIES = 2048


class RefusalError(Exception):
    """Why one node has no HLS layer."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A run-time array: the layer that computes it, and its shape in the graph."""

    layer: str
    shape: Shape


class Converter:
    """Layers so far, and which one computes each value of the graph."""

    def __init__(self, graph: Graph, entries: int) -> None:
        self.graph = graph
        self.entries = entries
        self.name = Namer()
        self.layers: list[Layer] = []
        self.streams: dict[Value, Stream] = {}
        self.refused: list[tuple[Node, str]] = []
        self.broken: set[Value] = set()
        self.folded: dict[Value, NDArray[Any]] = {}
        self.given: dict[str, Fixed] = {}  # by layer: the type that a quantised file prescribes
        self.general = has_general_scales(graph)
        self.grids: dict[str, tuple[float, float]] = {}  # by layer: scale and zero point of a general one
        self.stored: set[str] = set()  # nodes whose weights the file holds as integers

    def add_input(self, value: Value) -> None:
        """A graph input; raises UserError for a batch."""
        if value.type.shape[:1] not in ((), (1,)):
            raise UserError(
                f"input '{value.name}' has batch {value.type.shape[0]}",
                where=self.graph.name,
                hint="HLS projects handle one inference at a time: --dim batch=1",
            )
        shape = value.type.shape[1:] or (1,)
        ints = value.type.kind in (Kind.INT, Kind.UINT)
        layer = p.Input(p.Head(self.name(value.name), (), shape, "", "Input"), ints)
        self.layers.append(layer)
        self.streams[value] = Stream(layer.name, value.type.shape or (1,))

    def node(self, node: Node, handle: Callable[[Converter, Node], None]) -> None:
        """Convert one node by the function of its op, or note why not."""
        if any(v in self.broken for v in node.inputs if v is not None):
            self.broken.update(node.outputs)  # follows from an earlier refusal: not listed again
            return
        try:
            if not self._fold(node):
                handle(self, node)
        except RefusalError as why:
            self.refused.append((node, str(why)))
            self.broken.update(node.outputs)

    def _fold(self, node: Node) -> bool:
        """Whether the node only has constants: they are computed here."""
        if not node.inputs or any(v in self.streams for v in node.inputs if v is not None):
            return False
        arrays = [None if v is None else self.number(v) for v in node.inputs]
        if any(v is not None and a is None for v, a in zip(node.inputs, arrays, strict=True)):
            return False
        results = find_op(node.op, node.name).reference(arrays, node.attrs, EXACT)
        self.folded.update(zip(node.outputs, results, strict=True))
        return True

    def outputs(self) -> tuple[str, ...]:
        """The layer of each graph output; an input, or a layer that is an output already, gets a copy."""
        found: list[str] = []
        for value in self.graph.outputs:
            layer = self.find(self.streams[value].layer)
            if isinstance(layer, p.Input) or layer.name in found:
                head = p.Head(
                    self.name(f"{layer.name}_copy"), (layer.name,), layer.shape, value.name, "Identity"
                )
                layer = p.Select(head, np.arange(layer.size, dtype=np.int64))
                self.layers.append(layer)
            found.append(layer.name)
        return tuple(found)

    # ---- helpers for handlers ----

    def number(self, value: Value) -> NDArray[Any] | None:
        """The numbers of a constant in their own type, None when it has none."""
        if value in self.folded:
            return self.folded[value]
        return None if value.data is None else np.asarray(value.data.load())

    def expanded(self, node: Node, index: int) -> str:
        """The layer of input `index`, repeated to the shape of the result."""
        x, value, full = self.stream(node, index), node.inputs[index], node.outputs[0].type.shape
        assert value is not None
        if prod(x.shape) == prod(full):
            return x.layer
        numbers = np.arange(prod(x.shape)).reshape(value.type.shape)
        return self.select(node, x.layer, np.broadcast_to(numbers, full), full, f"_expand{index}").name

    def stream(self, node: Node, index: int) -> Stream:
        """Input `index` as a run-time array."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value not in self.streams:
            raise RefusalError(f"input {index} must be computed at run time")
        return self.streams[value]

    def filled(self, node: Node, index: int) -> Stream:
        """Input `index` as a run-time array; a constant becomes one: zeros plus an offset."""
        numbers = self.constant(node, index)
        others = [v for v in node.inputs if v is not None and v in self.streams]
        if numbers is None or not others:
            return self.stream(node, index)
        source = self.streams[others[0]].layer
        shape = numbers.shape
        zeros = self.select(node, source, np.full(numbers.size, -1), shape, f"_zeros{index}")
        flat = numbers.reshape(-1)
        head = self.head(node, (zeros.name,), shape, f"_constant{index}")
        self.layers.append(p.Affine(head, np.ones(flat.size), flat))
        return Stream(head.name, shape)

    def constant(self, node: Node, index: int) -> Floats | None:
        """Input `index` as numbers, None when it is absent or a stream."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value in self.streams:
            return None
        known = self.number(value)
        if known is None:
            raise RefusalError(
                f"weight '{value.name}' has no numbers: the model was exported without weights"
            )
        numbers = np.asarray(known, np.float64)
        if is_whole(value.type) and not self.general:
            self.stored.add(node.name)
        return numbers

    def unit(self, node: Node, index: int, axis: int) -> Floats | None:
        """What the integers of weight `index` count: one scale, or one per entry of `axis`.

        None when it is no integer, or when the file only has powers of two: its own type holds it exactly.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or not is_whole(value.type) or not self.general:
            return None
        quant = value.type.quant
        assert quant is not None
        scale = np.asarray(quant.scale, np.float64)
        along = None if quant.axis is None else quant.axis % len(value.type.shape)
        if scale.size > 1 and (scale != scale[0]).any() and along != axis % len(value.type.shape):
            raise RefusalError(f"the scales of '{value.name}' differ along an axis that is summed")
        return scale if along == axis % len(value.type.shape) else scale[:1]

    def shape(self, node: Node, output: int = 0) -> Shape:
        """The shape of a result."""
        return node.outputs[output].type.shape or (1,)

    def emit(self, node: Node, layer: Layer, output: int = 0) -> None:
        """Add a layer and make it the node's result."""
        self.layers.append(layer)
        self.streams[node.outputs[output]] = Stream(layer.name, self.shape(node, output))

    def head(self, node: Node, inputs: tuple[str, ...], shape: Shape, suffix: str = "") -> p.Head:
        """The common fields of a new layer; a batch of one is left out of its shape."""
        shape = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
        return p.Head(self.name(node.name + suffix), inputs, shape, node.name, node.op)

    def select(self, node: Node, source: str, index: Ints, shape: Shape, suffix: str = "") -> p.Select:
        """Add a `Select` that is not the node's last layer."""
        layer = p.Select(self.head(node, (source,), shape, suffix), index.reshape(-1).astype(np.int64))
        self.layers.append(layer)
        return layer

    def find(self, name: str) -> Layer:
        """The layer called `name`."""
        return next(x for x in self.layers if x.name == name)

    def users(self, value: Value) -> int:
        """How many nodes and outputs read `value`."""
        return len(self.graph.consumers.get(value, ())) + (value in self.graph.outputs)
