"""One function per op family: which HLS layers a node becomes, or why none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.converter import Converter, RefusalError, Stream
from tetrasim.hw_targets.fpga.hls.einsum import einsum, matmul
from tetrasim.hw_targets.fpga.hls.plan import Floats, Shape
from tetrasim.hw_targets.fpga.hls.pointwise import LARGEST, POINTWISE, Line
from tetrasim.hw_targets.fpga.hls.quantised import given_type, is_whole
from tetrasim.hw_targets.fpga.hls.windows import window_index
from tetrasim.sim.ir.graph import Kind, Node
from tetrasim.sim.ops.mask import mask_of
from tetrasim.sim.ops.opdef import float_attr, int_attr, ints_attr
from tetrasim.sim.ops.registry import find_op
from tetrasim.sim.ops.rounding import EXACT

MAX_VOCABULARY = 65536
NORM_ENTRIES = 4096  # of the reciprocal root: one look-up per row, so a large table is cheap


def _alias(c: Converter, node: Node) -> None:
    """A new shape on the same elements."""
    c.streams[node.outputs[0]] = Stream(c.stream(node, 0).layer, c.shape(node))


def _move(c: Converter, node: Node) -> None:
    """Ops that only pick and repeat elements: the index comes from the op's own semantics."""
    if node.op not in MOVING:
        raise RefusalError("there is no HLS layer for this op")
    x = c.stream(node, 0)
    value = node.inputs[0]
    assert value is not None
    numbers = np.arange(1, prod(x.shape) + 1, dtype=np.float64).reshape(value.type.shape)
    arrays = [numbers, *(_numbers(c, node, i) for i in range(1, len(node.inputs)))]
    results = find_op(node.op, node.name).reference(arrays, node.attrs, EXACT)
    for i, result in enumerate(results):
        shape = c.shape(node, i)
        index = np.asarray(result, np.int64).reshape(-1) - 1  # padding is 0 in the numbers, so -1 here
        c.emit(node, p.Select(c.head(node, (x.layer,), shape, f"_{i}" if i else ""), index), i)


def _numbers(c: Converter, node: Node, i: int) -> Floats | None:
    value = node.inputs[i]
    if value is None:
        return None
    if value in c.streams:
        raise RefusalError("its indices or shape are computed at run time")
    return c.number(value)


def _matmul(c: Converter, node: Node) -> None:
    """A stream times a matrix of weights; everything else by its indices."""
    weight, value = c.constant(node, 1), node.inputs[0]
    alpha = float_attr(node.attrs, "alpha", 1.0)
    flat = weight is not None and prod(weight.shape[:-2]) == 1 and weight.ndim >= 2
    if weight is not None and flat and value in c.streams and not node.attrs.get("transA", 0):
        matrix = weight.reshape(-1, weight.shape[-1])
        matrix = alpha * (matrix.T if node.attrs.get("transB", 0) else matrix)
        turned = bool(node.attrs.get("transB", 0))
        unit = None if alpha != 1.0 else c.unit(node, 1, -2 if turned else -1)
        _dense(c, node, c.stream(node, 0), matrix, np.zeros(matrix.shape[1]), unit)
        return
    matmul(c, node)
    if alpha != 1.0:
        line = Line(c, node)
        line.end(line.affine(c.streams[node.outputs[0]].layer, alpha, 0.0))


def _dense(
    c: Converter, node: Node, x: Stream, weight: Floats, bias: Floats, unit: Floats | None = None
) -> None:
    whole = unit is not None and _whole_bias(node)
    c.emit(node, p.Dense(c.head(node, (x.layer,), c.shape(node)), weight, bias, unit, whole))


def _whole_bias(node: Node) -> bool:
    """Whether the file holds the bias as integers, in the units of the product as ONNX asks."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or is_whole(value.type)


def _gemm(c: Converter, node: Node) -> None:
    x, weight = c.stream(node, 0), c.constant(node, 1)
    if weight is None or (node.attrs.get("transA", 0) and x.shape[0] != 1):
        raise RefusalError("only constant weights and untransposed inputs are supported")
    weight = weight.T if node.attrs.get("transB", 0) else weight
    bias = c.constant(node, 2)
    beta = float_attr(node.attrs, "beta", 1.0)
    offset = (
        np.zeros(weight.shape[1])
        if bias is None
        else np.broadcast_to(bias.reshape(-1), weight.shape[1]) * beta
    )
    alpha = float_attr(node.attrs, "alpha", 1.0)
    plain = alpha == 1.0 and beta == 1.0
    unit = c.unit(node, 1, 0 if node.attrs.get("transB", 0) else 1) if plain else None
    _dense(c, node, x, weight * alpha, offset, unit)


def _binary(c: Converter, node: Node) -> None:
    """Two streams; or a stream and a constant, which joins the bias of the product before it where it can."""
    numbers = [c.constant(node, i) for i in range(2)]
    if all(n is None for n in numbers):
        _two_streams(c, node)
        return
    at = 0 if numbers[0] is None else 1
    number, x = numbers[1 - at], c.stream(node, at)
    assert number is not None
    shape = c.shape(node)
    x = Stream(c.expanded(node, at), shape)
    value = np.broadcast_to(number, node.outputs[0].type.shape).reshape(-1)
    one, zero = np.ones(1), np.zeros(1)
    if node.op == "Add":
        if _join_bias(c, node, at, x, value):
            return
        scale, offset = one, value
    elif node.op == "Sub":
        scale, offset = (one, -value) if at == 0 else (-one, value)
    elif node.op == "Mul":
        scale, offset = value, zero
    elif at == 0:
        scale, offset = 1.0 / value, zero
    else:
        raise RefusalError("division by a run-time value has no HLS layer")
    full = prod(shape)
    both = (np.broadcast_to(scale, full), np.broadcast_to(offset, full))
    c.emit(node, p.Affine(c.head(node, (x.layer,), shape), *both))


def _join_bias(c: Converter, node: Node, at: int, x: Stream, value: Floats) -> bool:
    before, layer = node.inputs[at], c.find(x.layer)
    if not isinstance(layer, p.Dense) or before is None or c.users(before) > 1:
        return False
    rows = value.reshape(-1, layer.weight.shape[1])
    if (rows != rows[0]).any() or layer.size != value.size:
        return False
    joined = replace(layer, bias=layer.bias + rows[0], whole_bias=False)
    c.layers[c.layers.index(layer)] = joined
    c.streams[node.outputs[0]] = Stream(joined.name, c.shape(node))
    return True


def _two_streams(c: Converter, node: Node) -> None:
    if node.op == "Div":
        raise RefusalError("division by a run-time value has no HLS layer")
    shape = c.shape(node)
    names = (c.expanded(node, 0), c.expanded(node, 1))
    c.emit(node, p.Binary(c.head(node, names, shape), node.op.lower()))


def _softmax(c: Converter, node: Node) -> None:
    """Over the last axis; another axis is moved there and back."""
    x, shape = c.stream(node, 0), c.shape(node)
    axis = int_attr(node.attrs, "axis", -1) % len(shape)
    order = [i for i in range(len(shape)) if i != axis] + [axis]
    moved = tuple(shape[i] for i in order)
    if prod(shape[axis + 1 :]) == 1:
        head = c.head(node, (x.layer,), (prod(shape[:axis]), shape[axis]))
        c.emit(node, p.Softmax(head, c.entries))
        return
    numbers = np.arange(prod(shape)).reshape(shape).transpose(order)
    turned = c.select(node, x.layer, numbers, moved, "_turned")
    rows = p.Softmax(c.head(node, (turned.name,), moved, "_rows"), c.entries)
    c.layers.append(rows)
    back = np.arange(prod(shape)).reshape(moved).transpose(np.argsort(order))
    c.emit(node, p.Select(c.head(node, (rows.name,), shape), back.reshape(-1).astype(np.int64)))


def _attention(c: Converter, node: Node) -> None:
    if node.attrs.get("softcap", 0.0):
        raise RefusalError("soft-capped attention is not supported")
    q, k, v = (c.filled(node, i) for i in range(3))
    dims: list[dict[str, int]] = []
    strides: list[Shape] = []
    for n, s in zip("qkvo", (q, k, v, Stream("", c.shape(node))), strict=True):
        layout, full = str(node.attrs.get(f"{n}_layout", "bhsd")), s.shape
        size = dict(zip(layout, full, strict=True))
        step = {a: prod(full[i + 1 :]) for i, a in enumerate(layout)}
        if size["b"] > 1:  # sequences of one batch are heads of one sequence
            if size["h"] > 1 and step["b"] != size["h"] * step["h"]:
                raise RefusalError(f"its {n} has a batch of {size['b']} between its heads")
            step["h"] = step["b"] if size["h"] == 1 else step["h"]
            size["h"] *= size["b"]
        dims.append(size)
        strides.append((step["h"], step["s"], step["d"]))
    qd, kd, vd = dims[0], dims[1], dims[2]
    scale = float_attr(node.attrs, "scale", qd["d"] ** -0.5)
    sizes = (qd["h"], kd["h"], qd["s"], kd["s"], qd["d"], vd["d"])
    causal = bool(node.attrs.get("causal", 0)) and qd["s"] > 1
    mask, extra = _mask(c, node, (qd["h"], qd["s"], kd["s"]))
    head = c.head(node, (q.layer, k.layer, v.layer, *extra), c.shape(node))
    steps = (strides[0], strides[1], strides[2], strides[3])
    c.emit(node, p.Attention(head, *sizes, scale, causal, steps, c.entries, mask))


def _mask(c: Converter, node: Node, full: tuple[int, int, int]) -> tuple[Floats | None, tuple[str, ...]]:
    """What is added to the scores: constants [heads, queries, keys], and run-time values [queries, keys]."""
    value = node.inputs[3] if len(node.inputs) > 3 else None
    window = int_attr(node.attrs, "window", 0)
    q_len, kv_len = full[1:]
    added = np.zeros((1, q_len, kv_len))
    if window:
        near = np.triu(np.ones((q_len, kv_len), bool), kv_len - q_len - window + 1)
        added = np.where(near, added, -LARGEST)
    structure = node.attrs.get("visible")
    if isinstance(structure, tuple):
        added = np.where(mask_of(tuple(map(str, structure))).dense(q_len, kv_len), added, -LARGEST)
    mask = None if value is None else c.constant(node, 3)
    if mask is not None and value is not None:
        shape = (1,) * (4 - mask.ndim) + mask.shape
        if shape[0] != 1:
            raise RefusalError(f"its mask has a batch of {shape[0]}")
        mask = np.where(mask != 0, 0.0, -LARGEST) if value.type.kind is Kind.BOOL else mask
        added = np.broadcast_to(added + np.maximum(mask.reshape(shape)[0], -LARGEST), (shape[1], *full[1:]))
    static = np.ascontiguousarray(added) if added.any() else None
    if value is None or mask is not None:
        return static, ()
    x = c.stream(node, 3)
    if prod(x.shape[:-2]) != 1:
        raise RefusalError(f"its run-time mask has shape {x.shape}: the same mask for all heads is supported")
    line = Line(c, node)
    line.shape = (q_len, kv_len)
    layer = x.layer
    if prod(x.shape) != q_len * kv_len:
        numbers = np.broadcast_to(np.arange(prod(x.shape)).reshape(value.type.shape[-2:]), line.shape)
        layer = c.select(node, layer, numbers, line.shape, "_mask").name
    if value.type.kind is Kind.BOOL:
        layer = line.affine(layer, LARGEST, -LARGEST)
    return static, (layer,)


def _norm(c: Converter, node: Node) -> None:
    x = c.stream(node, 0)
    axis = node.attrs.get("axis", -1)
    if axis not in (-1, len(x.shape) - 1):
        raise RefusalError("normalisation is supported over the last axis only")
    cols = x.shape[-1]
    scale, offset = c.constant(node, 1), c.constant(node, 2)
    gamma = np.ones(cols) if scale is None else np.broadcast_to(scale.reshape(-1), cols)
    beta = np.zeros(cols) if offset is None else np.broadcast_to(offset.reshape(-1), cols)
    epsilon = float_attr(node.attrs, "epsilon", 1e-5)
    extra = (cols, gamma, beta, epsilon, node.op == "LayerNormalization", NORM_ENTRIES)
    c.emit(node, p.Norm(c.head(node, (x.layer,), c.shape(node)), *extra))


def _group_norm(c: Converter, node: Node) -> None:
    """Groups of channels (InstanceNorm: of one) are normalised; then a scale and offset per channel."""
    x = c.stream(node, 0)
    scale, offset = c.constant(node, 1), c.constant(node, 2)
    if scale is None or offset is None:
        raise RefusalError("its scale and offset must be constant")
    channels, inner = x.shape[1], prod(x.shape[2:])
    groups = int_attr(node.attrs, "num_groups", channels)
    cols = channels * inner // groups
    epsilon = float_attr(node.attrs, "epsilon", 1e-5)
    line = Line(c, node)
    head = c.head(node, (x.layer,), (groups, cols), "_groups")
    rows = line.put(p.Norm(head, cols, np.ones(cols), np.zeros(cols), epsilon, True, NORM_ENTRIES))
    both = (np.repeat(v.reshape(-1), channels * inner // v.size) for v in (scale, offset))
    line.end(line.affine(rows, *both))


def _batch_norm(c: Converter, node: Node) -> None:
    x = c.stream(node, 0)
    numbers = [c.constant(node, i) for i in range(1, 5)]
    if any(n is None for n in numbers):
        raise RefusalError("its statistics must be constant")
    gamma, beta, mean, var = (np.asarray(n) for n in numbers)
    scale = gamma / np.sqrt(var + float_attr(node.attrs, "epsilon", 1e-5))
    inner = prod(x.shape[2:])
    both = (np.repeat(scale, inner), np.repeat(beta - mean * scale, inner))
    c.emit(node, p.Affine(c.head(node, (x.layer,), c.shape(node)), *both))


def _reduce(c: Converter, node: Node) -> None:
    x, value = c.stream(node, 0), node.inputs[0]
    assert value is not None
    full = value.type.shape
    given = {axis % len(full) for axis in ints_attr(node.attrs, "axes", ())} or set(range(len(full)))
    reduced = [a for a in range(len(full)) if a in given and full[a] > 1]
    kept = [a for a in range(len(full)) if a not in reduced and full[a] > 1]
    after = [a for a in kept if reduced and a > reduced[-1]]
    before = [a for a in kept if a not in after]
    source = x.layer
    if reduced and before and before[-1] > reduced[0]:  # not neighbours: bring them together
        order = [*before, *reduced, *after, *(a for a in range(len(full)) if full[a] == 1)]
        numbers = np.arange(prod(full)).reshape(full).transpose(order)
        source = c.select(node, x.layer, numbers, numbers.shape, "_together").name
    before_size, n, after_size = (prod(full[a] for a in part) for part in (before, reduced, after))
    kind = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"}[node.op]
    _reduced(c, node, source, kind, (before_size, n, after_size))


def _reduced(c: Converter, node: Node, source: str, kind: str, parts: tuple[int, int, int]) -> None:
    c.emit(node, p.Reduce(c.head(node, (source,), c.shape(node)), kind, *parts))


def _global_pool(c: Converter, node: Node) -> None:
    x = c.stream(node, 0)
    kind = "mean" if node.op == "GlobalAveragePool" else "max"
    _reduced(c, node, x.layer, kind, (x.shape[1], prod(x.shape[2:]), 1))


def _pool(c: Converter, node: Node) -> None:
    """Windows position by position, all channels in a row; then channels in front again.

    A maximum reads an element of its window twice instead of padding; a mean without padding in its count is
    scaled by the full count over the real one.
    """
    x, value = c.stream(node, 0), node.inputs[0]
    assert value is not None
    channels = value.type.shape[1]
    index, padded = window_index(value.type.shape[1:], node, depthwise=True)
    taps = index.shape[-1]
    windows = index.reshape(channels, -1, taps).transpose(1, 2, 0)  # [positions, taps, channels]
    positions = len(windows)
    if padded and node.op == "MaxPool":
        windows = np.where(windows < 0, windows.max(1, keepdims=True), windows)
    source = c.select(node, x.layer, windows, (positions * taps, channels), "_windows").name
    kind = "mean" if node.op == "AveragePool" else "max"
    head = c.head(node, (source,), (positions, channels), "_pooled")
    c.layers.append(p.Reduce(head, kind, positions, taps, channels))
    pooled = c.layers[-1].name
    if padded and kind == "mean" and not node.attrs.get("count_include_pad", 0):
        scale = taps / np.maximum((windows >= 0).sum(1), 1)
        head = c.head(node, (pooled,), (positions, channels), "_counted")
        c.layers.append(p.Affine(head, scale.reshape(-1).astype(np.float64), np.zeros(scale.size)))
        pooled = c.layers[-1].name
    _channels_first(c, node, pooled, positions, channels)


def _channels_first(c: Converter, node: Node, source: str, positions: int, channels: int) -> None:
    back = np.arange(positions * channels).reshape(positions, channels).T
    c.emit(node, p.Select(c.head(node, (source,), c.shape(node)), back.reshape(-1).astype(np.int64)))


def _conv(c: Converter, node: Node) -> None:
    """im2col by a `Select`, one dense layer, and channels back in front.

    Groups are blocks of one weight matrix: what is 0 between them costs nothing where products are unrolled.
    """
    x, weight, value = c.stream(node, 0), c.constant(node, 1), node.inputs[0]
    assert value is not None
    if weight is None:
        raise RefusalError("only constant weights are supported")
    group = int_attr(node.attrs, "group", 1)
    index, _ = window_index(value.type.shape[1:], node, kernel=weight.shape[2:])
    rows, taps = index.shape
    windows = c.select(node, x.layer, index, (rows, taps), "_windows")
    bias = c.constant(node, 2)
    channels = weight.shape[0]
    offset = np.zeros(channels) if bias is None else bias.reshape(-1)
    matrix = np.zeros((taps, channels))
    for g in range(group):
        ins, outs = slice(g * taps // group, (g + 1) * taps // group), slice(*_share(g, channels, group))
        matrix[ins, outs] = weight[outs].reshape(channels // group, -1).T
    unit = c.unit(node, 1, 0)
    whole = unit is not None and _whole_bias(node)
    dense = p.Dense(c.head(node, (windows.name,), (rows, channels), "_product"), matrix, offset, unit, whole)
    c.layers.append(dense)
    _channels_first(c, node, dense.name, rows, channels)


def _share(g: int, channels: int, group: int) -> tuple[int, int]:
    return g * channels // group, (g + 1) * channels // group


def _gather(c: Converter, node: Node) -> None:
    table = c.constant(node, 0)
    if table is None:
        _move(c, node)
        return
    ids = c.stream(node, 1)
    if table.ndim != 2 or node.attrs.get("axis", 0) != 0:
        raise RefusalError("only rows of a two-dimensional constant can be looked up")
    if len(table) > MAX_VOCABULARY:
        raise RefusalError(f"its table has {len(table):,} rows: too many for on-chip memory")
    c.emit(node, p.Embed(c.head(node, (ids.layer,), c.shape(node)), table))


def _concat(c: Converter, node: Node) -> None:
    """Streams are joined two at a time; constant parts are added where the streams leave zeros."""
    shape, full = c.shape(node), node.outputs[0].type.shape
    axis = int_attr(node.attrs, "axis") % len(full)
    parts = [v for v in node.inputs if v is not None]
    count = np.cumsum([0, *(v.type.elements for v in parts)])
    numbered = [
        np.arange(a, b).reshape(v.type.shape) for a, b, v in zip(count[:-1], count[1:], parts, strict=True)
    ]
    order = np.concatenate(numbered, axis=axis).reshape(-1)
    offset = np.zeros(int(count[-1]))
    position, names, sizes = np.full(int(count[-1]), -1), [], 0
    for i, v in enumerate(parts):
        numbers = c.constant(node, i)
        if numbers is not None:
            offset[count[i] : count[i + 1]] = numbers.reshape(-1)
            continue
        position[count[i] : count[i + 1]] = np.arange(sizes, sizes + v.type.elements)
        sizes += v.type.elements
        names.append(c.streams[v].layer)
    whole = names[0]
    done = c.find(whole).size
    for i, other in enumerate(names[1:]):
        done += c.find(other).size
        c.layers.append(p.Concat(c.head(node, (whole, other), (done,), f"_join{i}"), np.arange(done)))
        whole = c.layers[-1].name
    picked = c.select(node, whole, position[order], shape, "_order")
    both = (np.ones(len(order)), offset[order])
    if offset.any():
        c.emit(node, p.Affine(c.head(node, (picked.name,), shape), *both))
    else:
        c.streams[node.outputs[0]] = Stream(picked.name, shape)


def _round_to_grid(c: Converter, node: Node) -> None:
    """A value that the file stores as integers: a copy in exactly that type."""
    stored = node.outputs[0].type
    if node.op == "QuantizeLinear":
        readers = {c.graph.nodes[i].op for i in c.graph.consumers.get(node.outputs[0], ())}
        if node.outputs[0] in c.graph.outputs or readers - {"DequantizeLinear"}:
            raise RefusalError("its integers themselves are read: only their dequantised values can be")
        scales, zeros = (c.constant(node, i) for i in (1, 2))
        if scales is None or scales.size != 1:
            raise RefusalError("its scale must be one constant per tensor")
        scale, zero = float(scales.reshape(-1)[0]), 0.0 if zeros is None else float(zeros.reshape(-1)[0])
    else:
        scale, zero = float_attr(node.attrs, "scale", 1.0), int_attr(node.attrs, "zero_point", 0)
    x, shape = c.stream(node, 0), c.shape(node)
    made = None if c.general else given_type(stored.kind, stored.bits, scale, zero)
    if made is None:
        low = -(2 ** (stored.bits - 1)) if stored.kind is Kind.INT else 0
        span = (low - int(zero), low + 2**stored.bits - 1 - int(zero))
        c.emit(node, p.Grid(c.head(node, (x.layer,), shape), scale, *span))
        c.grids[c.layers[-1].name] = (scale, zero)
        return
    c.emit(node, p.Select(c.head(node, (x.layer,), shape), np.arange(prod(shape), dtype=np.int64)))
    c.given[c.layers[-1].name] = made


def _dequantise(c: Converter, node: Node) -> None:
    """The reader of a QuantizeLinear with the same scale: the numbers are already there."""
    x, scales, zeros = c.stream(node, 0), c.constant(node, 1), c.constant(node, 2)
    there = c.given.get(x.layer)
    known = c.grids.get(x.layer) if there is None else (2.0**-there.fraction, 0.0)
    scale = None if scales is None or scales.size != 1 else float(scales.reshape(-1)[0])
    zero = 0.0 if zeros is None or zeros.size != 1 else float(zeros.reshape(-1)[0])
    if known is None or (scale, zero) != known:
        raise RefusalError("its scale and zero point are not those of a QuantizeLinear before it")
    c.streams[node.outputs[0]] = Stream(x.layer, c.shape(node))


MOVING = frozenset(
    {"Transpose", "Slice", "Split", "Expand", "Tile", "Pad", "Gather", "GatherND", "GatherElements"}
    | {"Trilu", "DepthToSpace", "SpaceToDepth"}
)
HANDLERS: dict[str, Callable[[Converter, Node], None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"), _alias),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _binary),
    **POINTWISE,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), _reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("QuantizeDequantize", "QuantizeLinear"), _round_to_grid),
    "DequantizeLinear": _dequantise,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "Attention": _attention,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _group_norm),
    "Conv": _conv,
    "Gather": _gather,
    "Concat": _concat,
    "Einsum": einsum,
}
SUPPORTED = tuple(sorted({*HANDLERS, *MOVING}))


def handler(op: str) -> Callable[[Converter, Node], None]:
    """The function that converts `op`; unknown ops are refused by it."""
    return HANDLERS.get(op, _move)
