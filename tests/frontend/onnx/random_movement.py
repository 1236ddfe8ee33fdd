"""Random operators that move, pick or place elements."""

from __future__ import annotations

import numpy as np
from random_operators import Draw, Drawn, draws

TYPES = ("float32", "int64", "int32", "uint8", "bool", "float64")


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@draws("Transpose")
def transpose(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick(*TYPES))
    perm = [int(p) for p in d.random.permutation(x.ndim)]
    return Drawn("Transpose", {"x": x}, d.some(perm=perm), opset=13)


@draws("Reshape")
def reshape(d: Draw) -> Drawn:
    x = d.numbers(d.shape(2), d.pick(*TYPES))
    target = [0 if d.integer(0, 2) == 0 else s for s in x.shape]
    target[d.integer(0, len(target) - 1)] = -1
    if d.flag():
        target = [int(np.prod(x.shape[:1])), -1]
    return Drawn("Reshape", {"x": x}, constants={"shape": ints(*target)}, opset=14)


@draws("Flatten")
def flatten(d: Draw) -> Drawn:
    x = d.floats(d.shape())
    return Drawn("Flatten", {"x": x}, d.some(axis=d.integer(-x.ndim, x.ndim)), opset=13)


@draws("Squeeze", "Unsqueeze")
def squeeze(d: Draw, op: str) -> Drawn:
    old = d.flag()
    if op == "Squeeze":
        x = d.floats([1 if d.flag() else s for s in d.shape(2)])
        ones = [i - x.ndim * (d.flag() and not old) for i, s in enumerate(x.shape) if s == 1]
        axes = ones[: d.integer(0, len(ones))]
    else:
        x = d.floats(d.shape(0, 3))
        count = d.integer(1, 2)
        rank = x.ndim + count
        axes = [int(a) - rank * (d.flag() and not old) for a in d.random.permutation(rank)[:count]]
    if old:
        return Drawn(op, {"x": x}, {"axes": sorted(axes)} if axes else {}, opset=11)
    return Drawn(op, {"x": x}, {}, {"axes": ints(*axes)} if axes else {}, opset=13)


@draws("Concat")
def concat(d: Draw) -> Drawn:
    shape, dtype = d.shape(), d.pick(*TYPES)
    axis = d.axis(len(shape))
    parts = {}
    for i in range(d.integer(1, 4)):
        own = list(shape)
        own[axis] = d.integer(1, 4)
        parts[f"x{i}"] = d.numbers(own, dtype)
    return Drawn("Concat", parts, {"axis": axis}, opset=13)


@draws("Slice")
def slices(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick("float32", "int64"))
    axes = d.axes(x.ndim)
    starts = [d.integer(-8, 8) for _ in axes]
    ends = [d.pick(d.integer(-8, 8), 2**31 - 1, -(2**31)) for _ in axes]
    steps = [d.pick(1, 1, 2, 3, -1, -2) for _ in axes]
    if d.integer(0, 3) == 0:
        attrs = {"starts": starts, "ends": ends, "axes": [a % x.ndim for a in axes]}
        return Drawn("Slice", {"x": x}, attrs, opset=9)
    constants = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)}
    return Drawn("Slice", {"x": x}, constants=constants, opset=13)


@draws("Split")
def split(d: Draw) -> Drawn:
    shape = d.shape(largest=7)
    axis, x = d.axis(len(shape)), d.numbers(shape, d.pick("float32", "int32"))
    size = shape[axis]
    parts = d.integer(1, size)
    if d.flag():
        return Drawn("Split", {"x": x}, {"axis": axis, "num_outputs": parts}, outputs=parts, opset=18)
    cuts = sorted(int(c) for c in d.random.permutation(np.arange(1, size))[: parts - 1])
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    return Drawn("Split", {"x": x}, {"axis": axis}, {"sizes": ints(*sizes)}, outputs=len(sizes), opset=13)


@draws("Expand")
def expand(d: Draw) -> Drawn:
    shape = d.shape()
    x = d.numbers(d.broadcastable(shape), d.pick(*TYPES))
    target = [s if d.flag() else 1 for s in shape]
    return (
        Drawn("Expand", {"x": x}, constants={"shape": ints(*target)}, opset=13)
        if _fits(x, target)
        else expand(d)
    )


def _fits(x: np.ndarray, target: list[int]) -> bool:
    try:
        np.broadcast_shapes(x.shape, tuple(target))
    except ValueError:
        return False
    return True


@draws("Tile")
def tile(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick("float32", "int64", "bool"))
    return Drawn("Tile", {"x": x}, constants={"r": ints(*(d.integer(1, 3) for _ in x.shape))}, opset=13)


@draws("Pad")
def pad(d: Draw) -> Drawn:
    x = d.numbers(d.shape(largest=6), d.pick("float32", "float32", "int32", "float64"))
    mode = d.pick("constant", "constant", "reflect", "edge", "wrap")
    chosen = d.axes(x.ndim) if d.flag() else list(range(x.ndim))
    low = -2 if mode == "constant" else 0
    before, after = [], []
    for axis in chosen:
        size = x.shape[axis]
        most = size - 1 if mode == "reflect" else 3 if mode in ("constant", "edge") else size
        a, b = d.integer(max(low, 1 - size), most), d.integer(max(low, 1 - size), most)
        if size + a + b < 1:
            a = b = 0
        before.append(a)
        after.append(b)
    if d.integer(0, 3) == 0 and chosen and mode != "reflect":  # the shape stays, the rows move
        before[0], after[0] = (1, -1) if mode == "constant" and x.shape[chosen[0]] > 1 else (0, 0)
    constants: dict[str, np.ndarray] = {"pads": ints(*before, *after)}
    names = ["x", "pads"]
    if mode == "constant" and d.flag():
        constants["fill"] = np.asarray(d.integer(-3, 3), x.dtype)
        names.append("fill")
    if len(chosen) < x.ndim or chosen != list(range(x.ndim)):
        constants["axes"] = ints(*chosen)
        names += [""] * (3 - len(names)) + ["axes"]
    attrs = {"mode": mode} if mode != "constant" or d.flag() else {}
    return Drawn("Pad", {"x": x}, attrs, constants, inputs=names, opset=19)


@draws("DepthToSpace", "SpaceToDepth")
def blocks(d: Draw, op: str) -> Drawn:
    r = d.integer(1, 3)
    deep = op == "DepthToSpace"
    shape = (2, 2 * r * r, 3, 2) if deep else (2, 3, 2 * r, 3 * r)
    attrs = {"blocksize": r} | (d.some(mode=d.pick("DCR", "CRD")) if deep else {})
    return Drawn(op, {"x": d.floats(shape)}, attrs, opset=13)


@draws("Gather")
def gather(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick(*TYPES))
    axis = d.axis(x.ndim)
    size = x.shape[axis]
    index = d.integers(d.shape(0, 2), -size, size - 1, d.pick("int64", "int32"))
    attrs = {"axis": axis} if axis or d.flag() else {}
    if d.flag():
        return Drawn("Gather", {"x": x}, attrs, {"i": index}, opset=13)
    return Drawn("Gather", {"x": x, "i": index}, attrs, opset=13)


@draws("GatherElements")
def gather_elements(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick("float32", "int64"))
    axis = d.axis(x.ndim)
    shape = tuple(d.integer(1, s) for s in x.shape)
    index = d.integers(shape, -x.shape[axis], x.shape[axis] - 1)
    return Drawn("GatherElements", {"x": x, "i": index}, {"axis": axis}, opset=13)


@draws("GatherND")
def gather_nd(d: Draw) -> Drawn:
    x = d.numbers(d.shape(2), d.pick("float32", "int64"))
    lead = d.integer(0, x.ndim - 1)
    depth = d.integer(1, x.ndim - lead)
    shape = (*x.shape[:lead], *d.shape(1, 2, 3), depth)
    index = np.stack(
        [d.integers(shape[:-1], -x.shape[lead + j], x.shape[lead + j] - 1) for j in range(depth)], axis=-1
    )
    return Drawn("GatherND", {"x": x, "i": index}, {"batch_dims": lead}, opset=13)


@draws("ScatterElements")
def scatter_elements(d: Draw) -> Drawn:
    x = d.floats(d.shape())
    axis = d.axis(x.ndim)
    reduction = d.pick("none", "add", "mul", "max", "min")
    shape = [d.integer(1, s) for s in x.shape]
    index = np.argsort(d.random.random(x.shape), axis=axis)[tuple(slice(s) for s in shape)]
    if reduction != "none":  # the same place several times
        index = d.integers(shape, -x.shape[axis], x.shape[axis] - 1)
    attrs = {"axis": axis} | ({"reduction": reduction} if reduction != "none" or d.flag() else {})
    return Drawn("ScatterElements", {"x": x, "i": index, "u": d.floats(index.shape)}, attrs, opset=18)


@draws("Scatter")
def scatter(d: Draw) -> Drawn:
    x = d.floats(d.shape())
    axis = d.integer(0, x.ndim - 1)
    index = np.argsort(d.random.random(x.shape), axis=axis)
    return Drawn("Scatter", {"x": x, "i": index, "u": d.floats(index.shape)}, {"axis": axis}, opset=10)


@draws("ScatterND")
def scatter_nd(d: Draw) -> Drawn:
    x = d.floats(d.shape(2))
    depth = d.integer(1, x.ndim)
    places = [tuple(int(i) for i in p) for p in np.ndindex(*x.shape[:depth])]
    reduction = d.pick("none", "add", "mul", "max", "min")
    count = d.integer(1, len(places))
    order = d.random.permutation(len(places))[:count]
    if reduction != "none":
        order = d.integers((count,), 0, len(places) - 1)
    index = np.array([places[i] for i in order], "int64")
    if reduction == "none":
        index = index - np.array(x.shape[:depth]) * d.flag()
    feeds = {"x": x, "i": index, "u": d.floats((count, *x.shape[depth:]))}
    return Drawn(
        "ScatterND",
        feeds,
        d.some(reduction=reduction) if reduction == "none" else {"reduction": reduction},
        opset=18,
    )


@draws("OneHot")
def one_hot(d: Draw) -> Drawn:
    shape, depth = d.shape(1, 3), d.integer(2, 6)
    dtype = d.pick(
        "int64", "int32"
    )  # the reference evaluator, which serves int32, wraps what is out of range
    index = (
        d.integers(shape, -depth - 1, depth + 1)
        if dtype == "int64"
        else d.integers(shape, 0, depth - 1, dtype)
    )
    constants = {"depth": np.asarray(depth, "int64"), "values": d.floats((2,))}
    attrs = d.some(axis=d.integer(-len(shape) - 1, len(shape)))
    return Drawn("OneHot", {"i": index}, attrs, constants, opset=11)


@draws("EyeLike")
def eye(d: Draw) -> Drawn:
    return Drawn(
        "EyeLike", {"x": d.floats(d.shape(2, 2))}, d.some(k=d.integer(-2, 2), dtype=d.pick(1, 7)), opset=9
    )


@draws("Shape", "Size")
def extent(d: Draw, op: str) -> Drawn:
    x = d.floats(d.shape())
    attrs = d.some(start=d.integer(-5, 5), end=d.integer(-5, 5)) if op == "Shape" else {}
    return Drawn(op, {"x": x}, attrs, opset=15 if op == "Shape" else 13)


@draws("ReverseSequence")
def reverse_sequence(d: Draw) -> Drawn:
    time_axis = d.flag()
    x = d.floats((3, 4, 2))
    steps = x.shape[time_axis]
    lengths = d.integers((x.shape[1 - time_axis],), 1, steps)
    attrs = {"time_axis": time_axis, "batch_axis": 1 - time_axis}
    return Drawn("ReverseSequence", {"x": x, "lengths": lengths}, attrs, opset=10)


@draws("Col2Im")
def col2im(d: Draw) -> Drawn:
    image, block = (5, 6), (2, 3)
    strides = [d.integer(1, 2), d.integer(1, 2)]
    dilations, pads = [1, d.integer(1, 2)], [d.flag(), d.flag(), d.flag(), d.flag()]
    count = 1
    for i in range(2):
        room = image[i] + pads[i] + pads[i + 2] - dilations[i] * (block[i] - 1) - 1
        count *= room // strides[i] + 1
    x = d.floats((2, 3 * block[0] * block[1], count))
    constants = {"image": ints(*image), "block": ints(*block)}
    attrs = {"strides": strides, "dilations": dilations, "pads": pads}
    return Drawn("Col2Im", {"x": x}, attrs, constants, opset=18)


@draws("TensorScatter")
def tensor_scatter(d: Draw) -> Drawn:
    batch, heads, room, width = 2, 3, 8, 4
    new = d.integer(1, 4)
    mode = d.pick("linear", "circular")
    starts = d.integers((batch,), 0, room - new if mode == "linear" else room - 1)
    feeds = {"past": d.floats((batch, heads, room, width)), "u": d.floats((batch, heads, new, width))}
    if d.flag():
        feeds["i"] = starts
    return Drawn("TensorScatter", feeds, d.some(axis=d.pick(2, -2)) | {"mode": mode}, opset=24)
