"""Einsum and matrix products: index moves around one product layer.

Every index is of one of four kinds: in both operands and the result (batch), in both but not in the result
(summed), or in one operand only. Operands are brought into [batch, own, summed] order, multiplied, and the
result is brought into the order that the equation names.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.converter import Converter, RefusalError, Stream
from tetrasim.hw_targets.fpga.hls.plan import Floats, Shape
from tetrasim.sim.ir.graph import Node
from tetrasim.sim.ops.opdef import str_attr


def einsum(c: Converter, node: Node) -> None:
    """Two operands, each index at most once per operand."""
    left, _, out = str_attr(node.attrs, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or any(len(set(t)) != len(t) for t in (*terms, out)):
        raise RefusalError("only products of two operands without repeated indices are supported")
    if not set(out) <= set(terms[0] + terms[1]):
        raise RefusalError("its result has an index that no operand has")
    contract(c, node, terms[0], terms[1], out)


def contract(c: Converter, node: Node, a: str, b: str, out: str) -> None:
    """The product that the terms describe; a constant operand becomes the weight of a dense layer."""
    sizes: dict[str, int] = {}
    for i, term in enumerate((a, b)):
        value = node.inputs[i]
        assert value is not None
        for letter, size in zip(term, value.type.shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
            if size not in (1, sizes[letter]):
                raise RefusalError(f"index '{letter}' has two sizes")
    batch = [x for x in a if x in b and x in out]
    summed = [x for x in a if x in b and x not in out]
    own = ([x for x in a if x not in b], [x for x in b if x not in a])
    lost = [x for x in (*own[0], *own[1]) if x not in out and sizes[x] > 1]
    if lost:
        raise RefusalError(f"index '{lost[0]}' is summed over one operand only")
    constants = [c.constant(node, i) for i in range(2)]
    if constants[0] is None and constants[1] is None:
        order = (*batch, *own[0], *own[1])
        first = _ordered(c, node, 0, a, [*batch, *own[0], *summed], sizes)
        second = _ordered(c, node, 1, b, [*batch, *summed, *own[1]], sizes)
        groups, m, k, n = (prod(sizes[x] for x in part) for part in (batch, own[0], summed, own[1]))
        layer: p.Layer = p.Product(c.head(node, (first, second), (groups, m, n)), groups, m, k, n)
    else:
        at = 0 if constants[0] is None else 1
        weight = constants[1 - at]
        assert weight is not None
        if prod(sizes[x] for x in batch) > 1 and any(
            x in batch and n > 1 for x, n in zip((b, a)[at], weight.shape, strict=True)
        ):
            raise RefusalError("its weight differs along an index that both operands keep")
        order = (*batch, *own[at], *own[1 - at])
        first = _ordered(c, node, at, (a, b)[at], [*batch, *own[at], *summed], sizes)
        matrix = _matrix(weight, (b, a)[at], [*summed, *own[1 - at]])
        k, n = prod(sizes[x] for x in summed), prod(sizes[x] for x in own[1 - at])
        rows = prod(sizes[x] for x in (*batch, *own[at]))
        head = c.head(node, (first,), (rows, n))
        layer = p.Dense(head, matrix.reshape(k, n), np.zeros(n))
    c.layers.append(layer)
    _result(c, node, layer, order, out, sizes)


def _matrix(weight: Floats, term: str, order: list[str]) -> Floats:
    """The weight with its axes in `order`; batch axes have size 1 and go in front."""
    axes = [term.index(x) for x in order if x in term]
    rest = [i for i in range(weight.ndim) if i not in axes]
    return np.transpose(weight, (*rest, *axes))


def _ordered(c: Converter, node: Node, which: int, term: str, order: list[str], sizes: dict[str, int]) -> str:
    """Operand `which` with its indices in `order`, repeated along indices in which it has size 1."""
    value, x = node.inputs[which], c.stream(node, which)
    assert value is not None
    numbers = np.arange(prod(value.type.shape)).reshape(value.type.shape)
    numbers = np.broadcast_to(numbers, tuple(sizes[letter] for letter in term))
    index = np.transpose(numbers, [term.index(letter) for letter in order])
    if index.size == prod(x.shape) and (index.reshape(-1) == np.arange(index.size)).all():
        return x.layer
    return c.select(node, x.layer, index, index.shape or (1,), f"_operand{which}").name


def _result(
    c: Converter, node: Node, layer: p.Layer, order: tuple[str, ...], out: str, sizes: dict[str, int]
) -> None:
    shape: Shape = c.shape(node)
    kept = [x for x in order if x in out]
    numbers = np.arange(layer.size).reshape(tuple(sizes[x] for x in kept))
    index = np.transpose(numbers, [kept.index(x) for x in out]).reshape(-1)
    if (index == np.arange(index.size)).all():
        c.streams[node.outputs[0]] = Stream(layer.name, shape)
    else:
        c.emit(node, p.Select(c.head(node, (layer.name,), shape), index.astype(np.int64)))


def matmul(c: Converter, node: Node) -> None:
    """ONNX MatMul as the einsum of its broadcast axes."""
    value_a, value_b = node.inputs[:2]
    assert value_a is not None
    assert value_b is not None
    shapes = (value_a.type.shape, value_b.type.shape)
    turned = [bool(node.attrs.get(f"trans{n}", 0)) for n in "AB"]
    letters = "abcdefgh"
    rank = max(len(shapes[0]), len(shapes[1]), 2) - 2
    own = []
    for shape, turn, pair in zip(shapes, turned, ("mk", "kn"), strict=True):
        free = letters[rank - max(len(shape) - 2, 0) : rank]
        last = pair[::-1] if turn else pair
        own.append(free + (last if len(shape) > 1 else "k"))
    out = letters[:rank] + ("m" if len(shapes[0]) > 1 else "") + ("n" if len(shapes[1]) > 1 else "")
    contract(c, node, own[0], own[1], out)
