"""Ops that move or re-interpret bytes. A Reshape, and a Transpose, Slice or Split that leaves the bytes in
order, is a VIEW; everything else copies what it writes (MOVE)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    axis_of,
    broadcast,
    float_attr,
    have,
    int_attr,
    ints_attr,
    maybe,
    move_work,
    need,
    operand,
    reads,
    reshaped,
    str_attr,
    view_work,
    writes,
)
from tetrasim.sim.ops.work import Work, WorkKind

Shape = tuple[int, ...]
OPS: dict[str, OpDef] = {}


def resolve_shape(old: Shape, wanted: tuple[int, ...], allow_zero: bool = False) -> Shape:
    """ONNX Reshape: -1 is inferred, 0 copies the old dim (unless `allow_zero`).

    Raises:
        ShapeError: the element counts differ.
    """
    shape = [old[i] if d == 0 and not allow_zero and i < len(old) else d for i, d in enumerate(wanted)]
    if shape.count(-1) == 1:
        rest = math.prod(d for d in shape if d != -1)
        if rest and math.prod(old) % rest == 0:
            shape[shape.index(-1)] = math.prod(old) // rest
    if math.prod(shape) != math.prod(old) or min(shape, default=1) < 0:
        raise ShapeError(f"cannot reshape {old} to {wanted}")
    return tuple(shape)


def _reshape_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    wanted = ints_attr(attrs, "shape", ())
    return (reshaped(x, resolve_shape(x.shape, wanted, bool(int_attr(attrs, "allowzero", 0)))),)


def _reshape(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    wanted = ints_attr(attrs, "shape", ())
    return (x.reshape(resolve_shape(x.shape, wanted, bool(int_attr(attrs, "allowzero", 0)))),)


OPS["Reshape"] = OpDef(_reshape_type, _reshape, view_work, params={1: "shape"})


def _squeezed(shape: Shape, attrs: Attrs) -> Shape:
    axes = {axis_of(a, len(shape)) for a in ints_attr(attrs, "axes", ())}
    if any(shape[a] != 1 for a in axes):
        raise ShapeError(f"cannot squeeze axes {sorted(axes)} of {shape}")
    return tuple(d for i, d in enumerate(shape) if (i not in axes if axes else d != 1))


def _unsqueezed(shape: Shape, attrs: Attrs) -> Shape:
    axes = ints_attr(attrs, "axes")
    rank = len(shape) + len(axes)
    places = {axis_of(a, rank) for a in axes}
    if len(places) != len(axes):
        raise ShapeError(f"axes {axes} name one place twice")
    rest = iter(shape)
    return tuple(1 if i in places else next(rest) for i in range(rank))


def _flattened(shape: Shape, attrs: Attrs) -> Shape:
    axis = int_attr(attrs, "axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _as_view(name: str, rule: object, params: dict[int, str]) -> None:
    assert callable(rule)

    def infer(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
        x = need(types, 0)
        return (reshaped(x, rule(x.shape, attrs)),)

    def reference(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        return (x.reshape(rule(x.shape, attrs)),)

    OPS[name] = OpDef(infer, reference, view_work, params=params)


_as_view("Squeeze", _squeezed, {1: "axes"})
_as_view("Unsqueeze", _unsqueezed, {1: "axes"})
_as_view("Flatten", _flattened, {})


def _perm(attrs: Attrs, rank: int) -> tuple[int, ...]:
    perm = ints_attr(attrs, "perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)):
        raise ShapeError(f"perm {perm} does not permute {rank} axes")
    return perm


def _transpose_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    return (reshaped(x, tuple(x.shape[p] for p in _perm(attrs, len(x.shape)))),)


def _transpose(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    return (np.asarray(x.transpose(_perm(attrs, x.ndim)), order="C"),)


def _transpose_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    shape = first.type.shape
    moved = [p for p in _perm(node.attrs, len(shape)) if shape[p] != 1]
    if moved == sorted(moved):
        return view_work(node)
    # The trailing axes that stay in place move together, as runs of neighbours.
    order = [i for i, d in enumerate(shape) if d != 1]
    run = 1
    while moved[-1] == order[-1]:
        run *= shape[moved.pop()]
        order.pop()
    return replace(move_work(node), run=run)


OPS["Transpose"] = OpDef(_transpose_type, _transpose, _transpose_work)


def _concat_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    present = [t for t in types if t is not None]
    first = present[0]
    axis = axis_of(int_attr(attrs, "axis"), len(first.shape))
    for other in present[1:]:
        if len(other.shape) != len(first.shape) or any(
            a != b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"cannot concatenate {first.shape} and {other.shape} along axis {axis}")
    total = sum(t.shape[axis] for t in present)
    return (reshaped(first, tuple(total if i == axis else d for i, d in enumerate(first.shape))),)


def _concat(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    parts = [a for a in arrays if a is not None]
    return (np.concatenate(parts, axis=int_attr(attrs, "axis")),)


def _copy_work(node: Node) -> Work:
    return Work(node.op, WorkKind.MOVE, reads(node), writes(node))


OPS["Concat"] = OpDef(_concat_type, _concat, _copy_work)


_TO_THE_END = (2**31 - 1, 2**63 - 1)  # "no end": numpy's None, whichever way the slice runs


def _slices(shape: Shape, attrs: Attrs) -> tuple[slice, ...]:
    starts, ends = ints_attr(attrs, "starts"), ints_attr(attrs, "ends")
    axes = ints_attr(attrs, "axes", tuple(range(len(starts))))
    steps = ints_attr(attrs, "steps", (1,) * len(starts))
    out = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        i = axis_of(axis, len(shape))
        size = shape[i]
        low = start + size if start < 0 else start
        high = end + size if end < 0 else end
        if end in _TO_THE_END:
            high = size if step > 0 else -1
        if step > 0:
            out[i] = slice(min(max(low, 0), size), min(max(high, 0), size), step)
        else:
            high = min(max(high, -1), size)
            out[i] = slice(min(max(low, 0), size - 1), None if high < 0 else high, step)
    return tuple(out)


def slice_bounds(shape: Shape, attrs: Attrs) -> tuple[tuple[int, int, int], ...]:
    """(start, stop, step) of every axis, clamped to the shape."""
    return tuple(s.indices(d) for s, d in zip(_slices(shape, attrs), shape, strict=True))


def _slice_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    slices = _slices(x.shape, attrs)
    return (reshaped(x, tuple(len(range(*s.indices(d))) for s, d in zip(slices, x.shape, strict=True))),)


def _slice(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    return (x[_slices(x.shape, attrs)],)


def is_contiguous(whole: Shape, part: Shape) -> bool:
    """True when a block of shape `part` at unit stride is one run of bytes of `whole`."""
    cut = [i for i, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b]
    return not cut or math.prod(part[: cut[-1]]) == 1


def _slice_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    steps = set(ints_attr(node.attrs, "steps", (1,)))
    if steps == {1} and is_contiguous(first.type.shape, node.outputs[0].type.shape):
        return view_work(node)
    return move_work(node)


OPS["Slice"] = OpDef(_slice_type, _slice, _slice_work, params={1: "starts", 2: "ends", 3: "axes", 4: "steps"})


def _split_sizes(size: int, attrs: Attrs) -> tuple[int, ...]:
    sizes = ints_attr(attrs, "split", ())
    if not sizes:
        parts = int_attr(attrs, "num_outputs")
        each = -(-size // parts)
        sizes = tuple(max(min(each, size - i * each), 0) for i in range(parts))
    if sum(sizes) != size or min(sizes) < 0:
        raise ShapeError(f"cannot split {size} into {sizes}")
    return sizes


def _split_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axis = axis_of(int_attr(attrs, "axis", 0), len(x.shape))
    sizes = _split_sizes(x.shape[axis], attrs)
    return tuple(reshaped(x, tuple(n if i == axis else d for i, d in enumerate(x.shape))) for n in sizes)


def _split(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    axis = axis_of(int_attr(attrs, "axis", 0), x.ndim)
    return tuple(np.split(x, np.cumsum(_split_sizes(x.shape[axis], attrs))[:-1], axis=axis))


def _split_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    shape = first.type.shape
    if all(is_contiguous(shape, v.type.shape) for v in node.outputs):
        return view_work(node)
    return move_work(node)


OPS["Split"] = OpDef(_split_type, _split, _split_work, params={1: "split"})


def _expand_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    return (reshaped(x, broadcast(x.shape, ints_attr(attrs, "shape", ()))),)


def _expand(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    return (np.broadcast_to(x, broadcast(x.shape, ints_attr(attrs, "shape", ()))),)


def _grow_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    return view_work(node) if first.type.elements == node.outputs[0].type.elements else _copy_work(node)


OPS["Expand"] = OpDef(_expand_type, _expand, _grow_work, params={1: "shape"})


def _tile_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, repeats = need(types, 0), ints_attr(attrs, "repeats")
    if len(repeats) != len(x.shape):
        raise ShapeError(f"{len(repeats)} repeats for rank {len(x.shape)}")
    return (reshaped(x, tuple(d * r for d, r in zip(x.shape, repeats, strict=True))),)


def _tile(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    return (np.tile(have(arrays, 0), ints_attr(attrs, "repeats")),)


OPS["Tile"] = OpDef(_tile_type, _tile, _grow_work, params={1: "repeats"})


def _pad_widths(rank: int, attrs: Attrs) -> list[tuple[int, int]]:
    pads = ints_attr(attrs, "pads")
    axes = ints_attr(attrs, "axes", tuple(range(rank)))
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"{len(pads)} pads for {len(axes)} axes")
    out = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        out[axis_of(axis, rank)] = (pads[i], pads[i + len(axes)])
    return out


def _pad_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    widths = _pad_widths(len(x.shape), attrs)
    return (reshaped(x, tuple(d + a + b for d, (a, b) in zip(x.shape, widths, strict=True))),)


def _pad(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    widths = _pad_widths(x.ndim, attrs)
    crop = tuple(slice(max(-a, 0), d - max(-b, 0)) for d, (a, b) in zip(x.shape, widths, strict=True))
    grow = [(max(a, 0), max(b, 0)) for a, b in widths]
    mode = str_attr(attrs, "mode", "constant")
    if mode == "constant":
        fill = maybe(arrays, 1)
        value = float_attr(attrs, "value", 0.0) if fill is None or not fill.size else fill.reshape(-1)[0]
        return (np.pad(x[crop], grow, constant_values=value),)
    modes = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes:
        raise ShapeError(f"pad mode '{mode}' is not supported")
    return (np.pad(x[crop], grow, mode=modes[mode]),)  # type: ignore[call-overload]


OPS["Pad"] = OpDef(_pad_type, _pad, _copy_work, params={1: "pads", 3: "axes"})


def _kv_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    past, new = need(types, 0), need(types, 1)
    axis, evicted = axis_of(int_attr(attrs, "axis"), len(past.shape)), int_attr(attrs, "evicted", 0)
    if not 0 <= evicted <= past.shape[axis]:
        raise ShapeError(f"{evicted} rows cannot leave a cache of {past.shape[axis]}")
    kept = tuple(d - evicted if i == axis else d for i, d in enumerate(past.shape))
    return _concat_type((reshaped(past, kept), new), attrs)


def _kv_append(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """The cache without its oldest `evicted` rows, then the new ones (before it where `front` is set)."""
    past, new = have(arrays, 0), have(arrays, 1)
    axis, evicted = axis_of(int_attr(attrs, "axis"), past.ndim), int_attr(attrs, "evicted", 0)
    front, size = int_attr(attrs, "front", 0), past.shape[axis]
    kept = range(size - evicted) if front else range(evicted, size)
    rest = np.take(past, kept, axis=axis)
    return (np.concatenate((new, rest) if front else (rest, new), axis=axis),)


def _kv_work(node: Node) -> Work:
    """Only the new rows are read and written: the cache stays where it is."""
    past, new = node.inputs
    assert past is not None
    assert new is not None
    out = replace(operand(node.outputs[0]), touched_elements=new.type.elements)
    return Work(node.op, WorkKind.MOVE, (operand(new),), (out,))


OPS["KVAppend"] = OpDef(_kv_type, _kv_append, _kv_work)


def _block_size(attrs: Attrs) -> int:
    return int_attr(attrs, "blocksize")


def _depth_to_space(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, r = have(arrays, 0), _block_size(attrs)
    b, c, h, w = x.shape
    if str_attr(attrs, "mode", "DCR") == "DCR":
        out = x.reshape(b, r, r, c // r**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        out = x.reshape(b, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
    return (out.reshape(b, c // r**2, h * r, w * r),)


def _space_to_depth(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, r = have(arrays, 0), _block_size(attrs)
    b, c, h, w = x.shape
    out = x.reshape(b, c, h // r, r, w // r, r).transpose(0, 3, 5, 1, 2, 4)
    return (out.reshape(b, c * r * r, h // r, w // r),)


def _blocks(types: Types, attrs: Attrs, up: bool) -> tuple[TensorType, ...]:
    x, r = need(types, 0), _block_size(attrs)
    if len(x.shape) != 4 or (x.shape[1] % (r * r) if up else (x.shape[2] % r or x.shape[3] % r)):
        raise ShapeError(f"shape {x.shape} does not divide into blocks of {r}")
    b, c, h, w = x.shape
    return (reshaped(x, (b, c // (r * r), h * r, w * r) if up else (b, c * r * r, h // r, w // r)),)


OPS["DepthToSpace"] = OpDef(lambda t, a: _blocks(t, a, True), _depth_to_space, _copy_work)
OPS["SpaceToDepth"] = OpDef(lambda t, a: _blocks(t, a, False), _space_to_depth, _copy_work)
