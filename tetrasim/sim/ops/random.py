"""Random numbers. A run draws from a seed that the file gives, or that the output's name gives, so that it
can be repeated; no two runtimes draw the same numbers.

Costs: a counter-based generator, Philox 4x32-10 (Salmon et al., SC 2011), takes 10 rounds of 2 products and 4
exclusive-ors for 4 numbers; normal numbers add Box and Muller's transform of pairs (1958): one logarithm and
one root a pair, one angle a number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.dtypes import numpy_dtype, parse_dtype
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    Types,
    float_attr,
    have,
    int_attr,
    ints_attr,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind


def _source(attrs: Attrs) -> np.random.Generator:
    return np.random.default_rng(int_attr(attrs, "seed", 0))


def _filled_type(_types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (replace(parse_dtype(str_attr(attrs, "dtype", "float32")), shape=ints_attr(attrs, "shape", ())),)


def _normal(_arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    (out,) = _filled_type((), attrs)
    mean, scale = float_attr(attrs, "mean", 0.0), float_attr(attrs, "scale", 1.0)
    return (_source(attrs).normal(mean, scale, out.shape).astype(numpy_dtype(out)),)


def _uniform(_arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    (out,) = _filled_type((), attrs)
    low, high = float_attr(attrs, "low", 0.0), float_attr(attrs, "high", 1.0)
    return (_source(attrs).uniform(low, high, out.shape).astype(numpy_dtype(out)),)


def _bernoulli_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    named = str_attr(attrs, "dtype", "")
    return (reshaped(parse_dtype(named) if named else x, x.shape),)


def _bernoulli(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    named = str_attr(attrs, "dtype", "")
    hit = _source(attrs).random(x.shape) < x
    return (hit.astype(numpy_dtype(parse_dtype(named)) if named else x.dtype),)


def _multinomial_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    kind = parse_dtype(str_attr(attrs, "dtype", "int32"))
    return (reshaped(kind, (x.shape[0], int_attr(attrs, "sample_size", 1))),)


def _multinomial(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """Classes drawn from unnormalised log probabilities, by the largest of log p + Gumbel noise."""
    x = have(arrays, 0).astype(np.float64)
    count = int_attr(attrs, "sample_size", 1)
    noise = _source(attrs).gumbel(size=(count, *x.shape))
    kind = numpy_dtype(parse_dtype(str_attr(attrs, "dtype", "int32")))
    return (np.argmax(x + noise, axis=-1).T.astype(kind),)


def _counts(op: str, numbers: int) -> dict[str, int]:
    counts = {"mul": 5 * numbers, "cmp": 10 * numbers}
    if op == "RandomNormal":
        pairs = -(-numbers // 2)
        counts |= {"log": pairs, "sqrt": pairs, "trig": numbers, "add": numbers}
        counts["mul"] += 2 * numbers
    elif op == "RandomUniform":
        counts["add"] = numbers
        counts["mul"] += numbers
    elif op == "Multinomial":
        counts |= {"log": 2 * numbers, "add": numbers, "max": numbers}
    else:
        counts["cmp"] += numbers
    return counts


def _work(node: Node) -> Work:
    numbers = node.outputs[0].type.elements
    if node.op == "Multinomial" and node.inputs[0] is not None:
        numbers = node.inputs[0].type.elements * int_attr(node.attrs, "sample_size", 1)
    vector = Vector(1, numbers, tuple(sorted(_counts(node.op, numbers).items())))
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=vector)


OPS = {
    "RandomNormal": OpDef(_filled_type, _normal, _work, random=True),
    "RandomUniform": OpDef(_filled_type, _uniform, _work, random=True),
    "Bernoulli": OpDef(_bernoulli_type, _bernoulli, _work, random=True),
    "Multinomial": OpDef(_multinomial_type, _multinomial, _work, random=True),
}
