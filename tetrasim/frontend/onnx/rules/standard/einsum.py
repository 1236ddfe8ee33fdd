"""Einsum in pairs: no ellipsis, no diagonal, at most two operands at a time.

An ellipsis becomes letters that the equation does not use. An index that occurs twice in one term reads a
diagonal: a strided slice of the flattened pair. Three or more operands are contracted two by two in the order
that numpy finds cheapest (`numpy.einsum_path`), so that every product is priced as the GEMM it is.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Value
from tetrasim.sim.ops.opdef import str_attr


def _explicit(call: Call, equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Terms and result without an ellipsis, the result spelled out."""
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise call.refuse(f"equation '{equation}' has {len(terms)} terms for {len(ranks)} operands")
    free = [c for c in string.ascii_letters if c not in equation]
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    if any(h < 0 or (h and "..." not in t) for h, t in zip(hidden, terms, strict=True)):
        raise call.refuse(f"equation '{equation}' does not fit operands of {', '.join(map(str, ranks))} axes")
    most = max(hidden, default=0)
    dots = "".join(free[:most])
    terms = [t.replace("...", dots[most - h :]) for t, h in zip(terms, hidden, strict=True)]
    if arrow:
        return terms, result.replace("...", dots)
    joined = "".join(terms)
    return terms, dots + "".join(c for c in sorted(set(joined) - set(dots)) if joined.count(c) == 1)


def _diagonal(call: Call, x: Value, term: str, name: str) -> tuple[Value, str]:
    """`x` with every index once: repeated ones read their common diagonal."""
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        size = x.type.shape[first]
        if size != x.type.shape[second]:
            raise call.refuse(f"index '{letter}' has the sizes {size} and {x.type.shape[second]}")
        rest = [i for i in range(len(term)) if i not in (first, second)]
        (x,) = call.emit("Transpose", [x], {"perm": (*rest, first, second)}, [f"{name}/{letter}t"])
        lead = x.type.shape[:-2]
        (x,) = call.emit("Reshape", [x], {"shape": (*lead, size * size)}, [f"{name}/{letter}f"])
        where = {"starts": (0,), "ends": (size * size,), "axes": (len(lead),), "steps": (size + 1,)}
        (x,) = call.emit("Slice", [x], where, [f"{name}/{letter}d"])
        term = "".join(term[i] for i in rest) + letter
    return x, term


def _order(terms: Sequence[str], result: str, values: Sequence[Value]) -> list[tuple[int, ...]]:
    """Which operands to contract, step by step."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    shapes = [np.broadcast_to(np.zeros(()), v.type.shape) for v in values]
    path, _ = np.einsum_path(f"{','.join(terms)}->{result}", *shapes, optimize="optimal")
    steps = [tuple(int(i) for i in step) for step in path[1:]]
    pairs: list[tuple[int, ...]] = []
    for step in steps:  # a step of more than two operands: one pair after the other
        pairs += [step] if len(step) < 3 else [(0, 1)] * (len(step) - 1)
    return pairs


def _einsum(call: Call) -> tuple[Value, ...]:
    equation = str_attr(call.attrs, "equation").replace(" ", "")
    values = [call.need(i) for i in range(len(call.inputs))]
    terms, result = _explicit(call, equation, [len(v.type.shape) for v in values])
    name = call.proto.output[0]
    for i, term in enumerate(terms):
        values[i], terms[i] = _diagonal(call, values[i], term, f"{name}/{i}")
    values = [_broadcast(call, v, t, terms, values) for v, t in zip(values, terms, strict=True)]
    for step, picked in enumerate(_order(terms, result, values)):
        chosen = [(values[i], terms[i]) for i in picked]
        for i in sorted(picked, reverse=True):
            del values[i], terms[i]
        needed = set(result).union(*terms)
        letters = dict.fromkeys("".join(t for _, t in chosen))
        out = result if not terms else "".join(c for c in letters if c in needed)
        label = name if not terms else f"{name}/step{step}"
        values.append(_contracted(call, chosen, out, label))
        terms.append(out)
    return (values[0],)


def _contracted(call: Call, chosen: Sequence[tuple[Value, str]], out: str, name: str) -> Value:
    """One step: a product of two operands, each of which first sums what only it has. One operand alone is a
    sum and a transpose."""
    summed = []
    for i, (value, term) in enumerate(chosen):
        others = set(out).union(*(t for j, (_, t) in enumerate(chosen) if j != i))
        kept = "".join(c for c in term if c in others)
        x = value
        if kept != term:
            gone = tuple(j for j, c in enumerate(term) if c not in others)
            label = name if len(chosen) == 1 and kept == out else f"{name}/sum{i}"
            (x,) = call.emit("ReduceSum", [value], {"axes": gone, "keepdims": 0}, [label])
        summed.append((x, kept))
    if len(summed) == 2:
        equation = f"{summed[0][1]},{summed[1][1]}->{out}"
        return call.emit("Einsum", [x for x, _ in summed], {"equation": equation}, [name])[0]
    ((x, kept),) = summed
    if kept == out:
        return x if x is not chosen[0][0] else call.emit("Identity", [x], {}, [name])[0]
    return call.emit("Transpose", [x], {"perm": tuple(kept.index(c) for c in out)}, [name])[0]


def _broadcast(call: Call, x: Value, term: str, terms: Sequence[str], values: Sequence[Value]) -> Value:
    """`x` whose axes of size 1 grow to the size that the same index has elsewhere."""
    sizes = {
        c: n
        for t, v in zip(terms, values, strict=True)
        for c, n in zip(t, v.type.shape, strict=True)
        if n != 1
    }
    wanted = tuple(sizes.get(c, 1) for c in term)
    if wanted == x.type.shape:
        return x
    return call.emit("Expand", [x], {"shape": wanted}, [f"{x.name}/wide"])[0]


RULES: dict[str, Rule] = {"Einsum": _einsum}
