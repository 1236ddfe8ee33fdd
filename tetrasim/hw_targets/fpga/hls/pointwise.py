"""Activations and comparisons: exact where they are straight lines, else a table.

Clip, LeakyRelu (relu(x) - alpha relu(-x)), Max (y + relu(x - y))
and so on are built from ReLU and affine layers, which round less than a table would.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2, prod

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.converter import Converter, RefusalError, Stream
from tetrasim.hw_targets.fpga.hls.plan import Floats
from tetrasim.sim.ir.graph import Node
from tetrasim.sim.ops.opdef import float_attr, int_attr

TABLE_REACH = 8.0
NEAR_REACH = {"gelu": 4.0, "gelu_tanh": 4.0, "tanh": 4.0, "erf": 4.0}  # flat or straight beyond: finer steps
LARGEST = 2.0**15  # infinities in masks and open bounds become this

LOOKUPS: dict[str, tuple[str, float, float | None]] = {  # function, value below, value above (None: x)
    "Gelu": ("gelu", 0.0, None),
    "QuickGelu": ("quick_gelu", 0.0, None),
    "Swish": ("silu", 0.0, None),
    "Softplus": ("softplus", 0.0, None),
    "Mish": ("mish", 0.0, None),
    "Elu": ("elu", -1.0, None),
    "Sigmoid": ("sigmoid", 0.0, 1.0),
    "Tanh": ("tanh", -1.0, 1.0),
    "Erf": ("erf", -1.0, 1.0),
}
FIXED_ALPHA = {"Swish": 1.0, "QuickGelu": 1.702, "Elu": 1.0}


class Line:
    """A chain of layers that belong to one node, all of the node's shape."""

    def __init__(self, c: Converter, node: Node) -> None:
        self.c, self.node, self.shape = c, node, c.shape(node)
        self.count = 0

    def head(self, *inputs: str) -> p.Head:
        self.count += 1
        return self.c.head(self.node, inputs, self.shape, f"_{self.count}")

    def put(self, layer: p.Layer) -> str:
        self.c.layers.append(layer)
        return layer.name

    def affine(self, x: str, scale: Floats | float, offset: Floats | float) -> str:
        """x * scale + offset."""
        full = prod(self.shape)
        both = (np.broadcast_to(np.asarray(v, np.float64), full) for v in (scale, offset))
        return self.put(p.Affine(self.head(x), *both))

    def relu(self, x: str) -> str:
        return self.put(p.Relu(self.head(x)))

    def pair(self, kind: str, a: str, b: str) -> str:
        return self.put(p.Binary(self.head(a, b), kind))

    def end(self, x: str) -> None:
        """Make layer `x` the node's result."""
        self.c.streams[self.node.outputs[0]] = Stream(x, self.shape)


def relu(c: Converter, node: Node) -> None:
    """max(x, 0)."""
    c.emit(node, p.Relu(c.head(node, (c.stream(node, 0).layer,), c.shape(node))))


def lookup(c: Converter, node: Node) -> None:
    """A table over [-8, 8), or [-4, 4)."""
    function, below, above = LOOKUPS[node.op]
    if node.op == "Gelu" and node.attrs.get("approximate") == "tanh":
        function = "gelu_tanh"
    wanted = FIXED_ALPHA.get(node.op)
    if wanted is not None and not np.isclose(float_attr(node.attrs, "alpha", wanted), wanted):
        raise RefusalError(f"only alpha = {wanted:g} is supported")
    _table(c, node, function, below, above)


def _table(c: Converter, node: Node, function: str, below: float, above: float | None) -> None:
    extra = (function, c.entries, NEAR_REACH.get(function, TABLE_REACH), below, above)
    c.emit(node, p.Lookup(c.head(node, (c.stream(node, 0).layer,), c.shape(node)), *extra))


def gated(c: Converter, node: Node) -> None:
    """act(gate) * up."""
    gate, up = c.stream(node, 0), c.stream(node, 1)
    function = "silu" if node.op == "SwiGLU" else "gelu"
    if node.op == "GeGLU" and node.attrs.get("approximate") == "tanh":
        function = "gelu_tanh"
    line = Line(c, node)
    reach = NEAR_REACH.get(function, TABLE_REACH)
    act = line.put(p.Lookup(line.head(gate.layer), function, c.entries, reach, 0.0, None))
    line.end(line.pair("mul", act, up.layer))


def log_softmax(c: Converter, node: Node) -> None:
    """x - max - log(sum(exp(x - max))), the logarithm by a table up to the largest possible sum."""
    x, shape = c.stream(node, 0), c.shape(node)
    if int_attr(node.attrs, "axis", -1) not in (-1, len(shape) - 1):
        raise RefusalError("a log-softmax is supported over the last axis only")
    cols, rows = shape[-1], prod(shape[:-1])
    line = Line(c, node)
    repeat = np.repeat(np.arange(rows), cols)

    def per_row(layer: str, kind: str) -> str:
        return line.put(p.Reduce(c.head(node, (layer,), (rows, 1), f"_{kind}"), kind, rows, cols, 1))

    top = c.select(node, per_row(x.layer, "max"), repeat, shape, "_top")
    below = line.pair("sub", x.layer, top.name)
    exponential = line.put(p.Lookup(line.head(below), "exp", c.entries, TABLE_REACH, 0.0, 1.0))
    reach = 2.0 ** max(ceil(log2(cols + 1)), 3)
    head = c.head(node, (per_row(exponential, "sum"),), (rows, 1), "_log")
    entries = max(c.entries, int(2 * reach))
    logarithm = line.put(p.Lookup(head, "log", entries, reach, 0.0, None))
    line.end(line.pair("sub", below, c.select(node, logarithm, repeat, shape, "_share").name))


def clip(c: Converter, node: Node) -> None:
    """Between two constants, either of which may be absent."""
    bounds = [c.constant(node, i) for i in (1, 2)]
    low, high = (None if b is None else float(b.reshape(-1)[0]) for b in bounds)
    low = float_attr(node.attrs, "min", -LARGEST) if low is None else low
    high = float_attr(node.attrs, "max", LARGEST) if high is None else high
    line = Line(c, node)
    line.end(_clipped(line, c.stream(node, 0).layer, low, high))


def _clipped(line: Line, x: str, low: float, high: float) -> str:
    floor, ceiling = low > -LARGEST, high < LARGEST
    if floor:
        x = line.relu(x if low == 0 else line.affine(x, 1.0, -low))
    shift = low if floor else 0.0
    if ceiling:  # min(x, h) = h - relu(h - x)
        x = line.affine(line.relu(line.affine(x, -1.0, high - shift)), -1.0, high)
    elif shift:
        x = line.affine(x, 1.0, shift)
    return x


def leaky(c: Converter, node: Node) -> None:
    """x where positive, alpha x elsewhere: relu(x) - alpha relu(-x); PRelu has an alpha per channel."""
    x = c.stream(node, 0)
    line = Line(c, node)
    alpha: Floats | float = float_attr(node.attrs, "alpha", 0.01)
    if node.op == "PRelu":
        slope = c.constant(node, 1)
        if slope is None:
            raise RefusalError("its slope must be constant")
        alpha = np.broadcast_to(slope, node.outputs[0].type.shape).reshape(-1)
    below = line.affine(line.relu(line.affine(x.layer, -1.0, 0.0)), alpha, 0.0)
    line.end(line.pair("sub", line.relu(x.layer), below))


def hard(c: Converter, node: Node) -> None:
    """HardSigmoid clip(alpha x + beta, 0, 1), HardSwish x clip(x / 6 + 1/2, 0, 1)."""
    x = c.stream(node, 0)
    line = Line(c, node)
    swish = node.op == "HardSwish"
    alpha = 1 / 6 if swish else float_attr(node.attrs, "alpha", 0.2)
    beta = 0.5 if swish else float_attr(node.attrs, "beta", 0.5)
    gate = _clipped(line, line.affine(x.layer, alpha, beta), 0.0, 1.0)
    line.end(line.pair("mul", x.layer, gate) if swish else gate)


def absolute(c: Converter, node: Node) -> None:
    """relu(x) + relu(-x)."""
    x = c.stream(node, 0)
    line = Line(c, node)
    line.end(line.pair("add", line.relu(x.layer), line.relu(line.affine(x.layer, -1.0, 0.0))))


def negative(c: Converter, node: Node) -> None:
    """-x, or 1 - x for a truth value."""
    line = Line(c, node)
    line.end(line.affine(c.stream(node, 0).layer, -1.0, 1.0 if node.op == "Not" else 0.0))


def both(c: Converter, node: Node) -> None:
    """And: the product of two truth values, which are 0 and 1."""
    numbers = [c.constant(node, i) for i in range(2)]
    line = Line(c, node)
    at = 0 if numbers[0] is None else 1
    x, other = c.expanded(node, at), numbers[1 - at]
    if other is None:
        line.end(line.pair("mul", x, c.expanded(node, 1 - at)))
        return
    known = np.broadcast_to(other, node.outputs[0].type.shape).reshape(-1)
    line.end(x if known.all() else line.affine(x, known.astype(np.float64), 0.0))


def extreme(c: Converter, node: Node) -> None:
    """Max and Min of two: y + relu(x - y), y - relu(y - x)."""
    if len(node.inputs) != 2:
        raise RefusalError("only two operands are supported")
    numbers = [c.constant(node, i) for i in range(2)]
    line = Line(c, node)
    at = 0 if numbers[0] is None else 1
    x, other = c.expanded(node, at), numbers[1 - at]
    most = node.op == "Max"
    if other is None:
        y = c.expanded(node, 1 - at)
        if most:
            line.end(line.pair("add", y, line.relu(line.pair("sub", x, y))))
        else:
            line.end(line.pair("sub", y, line.relu(line.pair("sub", y, x))))
        return
    bound = np.broadcast_to(other, node.outputs[0].type.shape).reshape(-1)
    sign = 1.0 if most else -1.0
    line.end(line.affine(line.relu(line.affine(x, sign, -sign * bound)), sign, bound))


def power(c: Converter, node: Node) -> None:
    """x squared or cubed."""
    exponent = c.constant(node, 1)
    if exponent is None or exponent.size != 1 or float(exponent.reshape(-1)[0]) not in (1.0, 2.0, 3.0):
        raise RefusalError("only whole exponents up to 3 are supported")
    x = c.stream(node, 0).layer
    line, made = Line(c, node), x
    for _ in range(int(exponent.reshape(-1)[0]) - 1):
        made = line.pair("mul", made, x)
    line.end(made)


def where(c: Converter, node: Node) -> None:
    """A run-time truth value between two constants: b + x (a - b)."""
    a, b = c.constant(node, 1), c.constant(node, 2)
    if a is None or b is None or node.inputs[0] not in c.streams:
        raise RefusalError("only a choice between two constants is supported")
    full = node.outputs[0].type.shape
    yes, no = (np.clip(np.broadcast_to(v, full).reshape(-1), -LARGEST, LARGEST) for v in (a, b))
    line = Line(c, node)
    line.end(line.affine(c.expanded(node, 0), yes - no, no))


POINTWISE: dict[str, Callable[[Converter, Node], None]] = {
    **dict.fromkeys(LOOKUPS, lookup),
    **dict.fromkeys(("SwiGLU", "GeGLU"), gated),
    **dict.fromkeys(("LeakyRelu", "PRelu"), leaky),
    **dict.fromkeys(("HardSigmoid", "HardSwish"), hard),
    **dict.fromkeys(("Max", "Min"), extreme),
    **dict.fromkeys(("Neg", "Not"), negative),
    "Relu": relu,
    "Clip": clip,
    "LogSoftmax": log_softmax,
    "Abs": absolute,
    "And": both,
    "Pow": power,
    "Where": where,
}
