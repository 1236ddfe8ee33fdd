"""The layers of an HLS project, before any C++: what is computed, in which fixed-point types.

A `Plan` is a list of layers on flat, row-major arrays without a batch axis. It is made from a graph
(`convert.py`),
given types by calibration (`calibrate.py`), evaluated bit for bit in numpy (`emulate.py`) and written as an
hls4ml
project (`emit.py`). Every primitive has exactly one definition here, one in `emulate.py` and one in C++.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shape = tuple[int, ...]
EXACT_BITS = 24  # integers of a quantised file that this many bits hold are stored as they are


@dataclass(frozen=True, slots=True)
class Fixed:
    """ap_fixed<bits, integer>, or ap_ufixed; saturating. Rounds half up, or half to even (`even`), which is
    what ONNX does where a file stores integers."""

    bits: int
    integer: int
    signed: bool = True
    even: bool = False

    @property
    def fraction(self) -> int:
        return self.bits - self.integer

    @property
    def cpp(self) -> str:
        """The C++ type."""
        mode = "AP_RND_CONV" if self.even else "AP_RND"
        return f"ap_{'' if self.signed else 'u'}fixed<{self.bits},{self.integer},{mode},AP_SAT>"

    @property
    def hls4ml(self) -> str:
        """The type as hls4ml's configuration writes it."""
        mode = "RND_CONV" if self.even else "RND"
        return f"{'' if self.signed else 'u'}fixed<{self.bits},{self.integer},{mode},SAT>"

    def raw(self, x: Floats) -> Ints:
        """`x` as integers in units of the last place: rounded, saturated."""
        units = np.asarray(x, np.float64) * 2.0**self.fraction
        q = np.rint(units) if self.even else np.floor(units + 0.5)
        low = -(2 ** (self.bits - 1)) if self.signed else 0
        high = 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1
        return np.clip(q, low, high).astype(np.int64)

    def from_raw(self, value: Ints, fraction: int) -> Ints:
        """Raw integers with `fraction` fractional bits, rounded into this type's raw integers."""
        drop = fraction - self.fraction
        if drop > 0:
            half: Ints | int = 1 << (drop - 1)
            if self.even:  # a tie goes up only from an odd integer
                half = half - 1 + ((value >> drop) & 1)
            q = (value + half) >> drop
        else:
            q = value << -drop
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1
        return np.asarray(np.clip(q, low, high), np.int64)

    def real(self, raw: Ints) -> Floats:
        """The numbers that raw integers stand for."""
        return np.asarray(raw, np.float64) / 2.0**self.fraction

    def quantise(self, x: Floats) -> Floats:
        """The nearest representable numbers."""
        return self.real(self.raw(x))


@dataclass(frozen=True, slots=True)
class Head:
    """What every layer has: its safe name, the layers it reads, its shape without the batch axis, and the
    graph node and op it comes from."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    node: str
    op: str


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer; subclasses add their constants."""

    head: Head

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.head.inputs

    @property
    def shape(self) -> Shape:
        return self.head.shape

    @property
    def size(self) -> int:
        return prod(self.head.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Input(Layer):
    """A graph input; `integers` for token ids."""

    integers: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Dense(Layer):
    """y[r, n] = sum_k x[r, k] w[k, n] + b[n]. `unit`: the weights are whole multiples of it, one number or
    one per column; `whole_bias`: the bias is a whole number of units too."""

    weight: Floats
    bias: Floats
    unit: Floats | None = None
    whole_bias: bool = False

    @property
    def rows(self) -> int:
        return self.size // int(self.weight.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Product(Layer):
    """Batched product of two streams: y[g, m, n] = sum_k a[g, m, k] b[g, k, n]."""

    groups: int
    m: int
    k: int
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Layer):
    """Element by element: `kind` add, sub or mul."""

    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Affine(Layer):
    """y = x * scale + offset, constants per element."""

    scale: Floats
    offset: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Relu(Layer):
    """max(x, 0)."""


@dataclass(frozen=True, slots=True, eq=False)
class Lookup(Layer):
    """A unary function by table over [-reach, reach); outside: `below`, and x itself or `above`."""

    function: str
    entries: int
    reach: float
    below: float
    above: float | None  # None: the identity


@dataclass(frozen=True, slots=True, eq=False)
class Softmax(Layer):
    """Over the last axis."""

    entries: int

    @property
    def cols(self) -> int:
        return self.shape[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Attention(Layer):
    """softmax(scale q k^T + mask) v per head; strides say where q[h, i, d] lies in each array: (head, row,
    element). `mask` is [1 or heads, q_len, kv_len]; a fourth input adds run-time values [q_len, kv_len]."""

    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    head_dim: int
    v_head_dim: int
    scale: float
    causal: bool
    strides: tuple[Shape, Shape, Shape, Shape]
    entries: int
    mask: Floats | None = None

    @property
    def keyed(self) -> bool:
        return len(self.inputs) > 3


@dataclass(frozen=True, slots=True, eq=False)
class Norm(Layer):
    """LayerNorm (`centred`) or RMSNorm over the last axis of `cols` elements."""

    cols: int
    scale: Floats
    offset: Floats
    epsilon: float
    centred: bool
    entries: int


@dataclass(frozen=True, slots=True, eq=False)
class Select(Layer):
    """y[i] = x[index[i]], 0 where the index is -1: transposes, slices, constant gathers, padding, im2col."""

    index: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Layer):
    """y[i] = the concatenation of all flat inputs, at index[i]."""

    index: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Layer):
    """Over the middle of [outer, n, inner]: `kind` mean, sum or max."""

    kind: str
    outer: int
    n: int
    inner: int


@dataclass(frozen=True, slots=True, eq=False)
class Grid(Layer):
    """The integers of a quantised file, zero point removed: clip(rint(x / scale), low, high), in units of
    `scale`."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class Rescale(Layer):
    """Integers in units of a scale become plain numbers again."""


@dataclass(frozen=True, slots=True, eq=False)
class Embed(Layer):
    """Rows of a constant table by integer id (ids outside are clamped)."""

    table: Floats


@dataclass(frozen=True, slots=True)
class Types:
    """Fixed-point types of one layer; those that a primitive does not use are None."""

    result: Fixed
    weight: Fixed | None = None
    bias: Fixed | None = None
    accum: Fixed | None = None
    score: Fixed | None = None  # attention: scaled scores; norms: the normalised value
    inner: Fixed | None = None  # attention: probabilities; norms: the deviation from the mean


@dataclass(frozen=True, eq=False)
class Plan:
    """All layers in order; `types` by layer name (empty before calibration); `outputs` in graph order;
    `given` are the result types that a quantised file prescribes, `stored` the layers whose weights are its
    integers, `clipped` those whose unsigned result type is also their ReLU. `streamed`: arrays travel as the
    rows of their two-dimensional shapes (`stream.py`). `units` is what one of a layer's numbers stands for,
    where that is not 1 (`units.py`): one number, or one per element."""

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, Types]
    given: Mapping[str, Fixed] = field(default_factory=dict)
    stored: frozenset[str] = frozenset()
    streamed: bool = False
    clipped: frozenset[str] = frozenset()
    units: Mapping[str, Floats] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        return next(x for x in self.layers if x.name == name)

    def readers(self) -> dict[str, list[str]]:
        """By layer, the layers that read it, once per input; "" stands for an output, which comes first."""
        found: dict[str, list[str]] = {x.name: [] for x in self.layers}
        for name in self.outputs:
            found[name].append("")
        for layer in self.layers:
            for name in layer.inputs:
                found[name].append(layer.name)
        return found

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(x for x in self.layers if isinstance(x, Input))
