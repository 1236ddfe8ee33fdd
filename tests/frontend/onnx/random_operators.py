"""Random nodes of ONNX operators: shapes, attributes, element types and operator-set versions.

A generator is a function `(Draw) -> Drawn`; `GENERATORS` has one or more per operator. They draw what the
operator's specification allows, so that a refusal is a failure unless the generator says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LATEST = 22  # what the reference runtime runs without conversions; later operators state their own
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """One node to check; `constants` are inputs whose numbers the file holds."""

    op: str
    feeds: Mapping[str, np.ndarray]
    attrs: Attributes = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: Sequence[str] = ()  # "" is an absent input; default: feeds, then constants
    outputs: int | Sequence[str] = 1
    opset: int = LATEST
    domain: str = ""
    tolerance: float = 1e-4

    def model(self) -> onnx.ModelProto:
        """A model of this node alone."""
        names = list(self.inputs) or [*self.feeds, *self.constants]
        outputs = [f"y{i}" for i in range(self.outputs)] if isinstance(self.outputs, int) else self.outputs
        node = helper.make_node(self.op, names, list(outputs), domain=self.domain, **self.attrs)
        graph = helper.make_graph(
            [node],
            "drawn",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for name, a in self.feeds.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs if name],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10 if self.opset < 24 else 11)


@dataclass(frozen=True)
class Draw:
    """A source of random choices."""

    random: np.random.Generator

    def pick(self, *options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def flag(self) -> int:
        return self.integer(0, 1)

    def some(self, **attrs: Any) -> dict[str, Any]:
        """A random part of the attributes."""
        return {name: value for name, value in attrs.items() if self.flag()}

    def shape(self, low: int = 1, high: int = 4, largest: int = 5) -> tuple[int, ...]:
        return tuple(self.integer(1, largest) for _ in range(self.integer(low, high)))

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)

    def axes(self, rank: int, fewest: int = 1) -> list[int]:
        """Different axes, some counted from the end, in any order."""
        chosen = self.random.permutation(rank)[: self.integer(fewest, rank)]
        return [int(a) - rank * self.flag() for a in chosen]

    def floats(self, shape: Sequence[int], dtype: str = "float32", scale: float = 2.0) -> np.ndarray:
        return np.asarray(self.random.standard_normal(tuple(shape)) * scale).astype(dtype)[...]

    def positive(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        return np.asarray(self.random.uniform(0.1, 3.0, tuple(shape))).astype(dtype)[...]

    def integers(self, shape: Sequence[int], low: int, high: int, dtype: str = "int64") -> np.ndarray:
        """low to high, both included."""
        return np.asarray(self.random.integers(low, high + 1, tuple(shape))).astype(dtype)[...]

    def numbers(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Values of any type: small integers, booleans, or normal floats."""
        if dtype == "bool":
            return self.integers(shape, 0, 1, "bool")
        if dtype.startswith("uint"):
            return self.integers(shape, 0, 9, dtype)
        if dtype.startswith("int"):
            return self.integers(shape, -9, 9, dtype)
        return self.floats(shape, dtype)

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`."""
        kept = tuple(1 if self.integer(0, 2) == 0 else d for d in shape)
        return kept[self.integer(0, len(kept)) :]


Generator = Callable[[Draw], Drawn]
GENERATORS: dict[str, list[Generator]] = {}


def draws(*ops: str) -> Callable[[Callable[..., Drawn]], Callable[..., Drawn]]:
    """Register a generator for operators. One that takes two arguments is given the operator's name."""

    def register(fn: Callable[..., Drawn]) -> Callable[..., Drawn]:
        for op in ops:
            several = fn.__code__.co_argcount > 1
            GENERATORS.setdefault(op, []).append((lambda d, op=op: fn(d, op)) if several else fn)
        return fn

    return register
