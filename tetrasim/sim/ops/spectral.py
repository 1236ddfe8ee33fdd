"""Fourier transforms. A complex transform of n points is priced as a radix-2 FFT: n/2 log2(n) butterflies of
4 products and 6 sums each (Cooley and Tukey, Math. Comp. 19, 1965), 5 n log2(n) operations; a transform of
real values costs half of it. A short-time transform is one per frame, after its window.
"""

from __future__ import annotations

import math

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
    have,
    int_attr,
    like,
    maybe,
    need,
    reads,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind


def _axis(attrs: Attrs, rank: int) -> int:
    axis = axis_of(int_attr(attrs, "axis", 1), rank)
    if axis == rank - 1:
        raise ShapeError("the last axis holds real and imaginary parts: it is not transformed")
    return axis


def _flag(attrs: Attrs, name: str) -> bool:
    return bool(int_attr(attrs, name, 0))


def _length(size: int, attrs: Attrs) -> int:
    """Points of the transform: those of the signal, which the half spectrum of a real one tells too."""
    half = _flag(attrs, "onesided") and _flag(attrs, "inverse")
    return int_attr(attrs, "dft_length", 2 * (size - 1) if half else size)


def _dft_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    rank = len(x.shape)
    axis = _axis(attrs, rank)
    if x.shape[-1] not in (1, 2):
        raise ShapeError(f"the last axis holds 1 (real) or 2 (complex) numbers, not {x.shape[-1]}")
    length = _length(x.shape[axis], attrs)
    onesided, inverse = _flag(attrs, "onesided"), _flag(attrs, "inverse")
    parts = 1 if onesided and inverse else 2
    size = length // 2 + 1 if onesided and not inverse else length
    return (reshaped(x, (*(size if i == axis else d for i, d in enumerate(x.shape[:-1])), parts)),)


def _complex(x: Arr) -> Arr:
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]


def _parts(x: Arr) -> Arr:
    return np.stack([x.real, x.imag], axis=-1)


def _dft(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    axis = _axis(attrs, x.ndim)
    length = _length(x.shape[axis], attrs)
    signal = _complex(x.astype(np.float64))
    if _flag(attrs, "inverse"):
        if _flag(attrs, "onesided"):
            return (like(np.fft.irfft(signal, length, axis)[..., None], x),)
        return (like(_parts(np.fft.ifft(signal, length, axis)), x),)
    found = np.fft.fft(signal, length, axis)
    if _flag(attrs, "onesided"):
        found = np.take(found, np.arange(length // 2 + 1), axis)
    return (like(_parts(found), x),)


def fft_ops(length: int, count: int, real: bool) -> dict[str, int]:
    """Operations of `count` transforms of `length` points."""
    stages = math.ceil(length * math.log2(length)) if length > 1 else 0
    half = 2 if real else 1
    return {"mul": count * 2 * stages // half, "add": count * 3 * stages // half}


def _vector(node: Node, rows: int, cols: int, counts: dict[str, int]) -> Work:
    vector = Vector(rows, cols, tuple(sorted(counts.items())), reduces=True)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=vector)


def _dft_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    shape = first.type.shape
    axis = _axis(node.attrs, len(shape))
    length = _length(shape[axis], node.attrs)
    count = math.prod(d for i, d in enumerate(shape[:-1]) if i != axis)
    real = shape[-1] == 1 or node.outputs[0].type.shape[-1] == 1
    return _vector(node, count, length, fft_ops(length, count, real))


def _frames(shape: tuple[int, ...], window: tuple[int, ...] | None, attrs: Attrs) -> tuple[int, int]:
    """Number of frames and their length."""
    length = int_attr(attrs, "frame_length", window[0] if window else shape[1])
    step = int_attr(attrs, "frame_step")
    if step < 1 or length < 1 or length > shape[1]:
        raise ShapeError(f"frames of {length} every {step} samples do not fit {shape[1]} samples")
    return (shape[1] - length) // step + 1, length


def _stft_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    window = types[1] if len(types) > 1 else None
    count, length = _frames(x.shape, None if window is None else window.shape, attrs)
    bins = length // 2 + 1 if int_attr(attrs, "onesided", 1) else length
    return (reshaped(x, (x.shape[0], count, bins, 2)),)


def _stft(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, window = have(arrays, 0), maybe(arrays, 1)
    count, length = _frames(x.shape, None if window is None else window.shape, attrs)
    signal = _complex(x.astype(np.float64)) if x.ndim == 3 else x.astype(np.float64)
    starts = np.arange(count) * int_attr(attrs, "frame_step")
    frames = signal[:, starts[:, None] + np.arange(length)]
    if window is not None:
        frames = frames * window.astype(np.float64)
    found = np.fft.fft(frames, axis=-1)
    if int_attr(attrs, "onesided", 1):
        found = found[..., : length // 2 + 1]
    return (like(_parts(found), x),)


def _stft_work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    window = node.inputs[1] if len(node.inputs) > 1 else None
    shape = first.type.shape
    count, length = _frames(shape, None if window is None else window.type.shape, node.attrs)
    real = len(shape) < 3 or shape[2] == 1
    frames = shape[0] * count
    counts = fft_ops(length, frames, real)
    if window is not None:
        counts["mul"] += frames * length * (1 if real else 2)
    return _vector(node, frames, length, counts)


OPS = {
    "DFT": OpDef(_dft_type, _dft, _dft_work, params={1: "dft_length", 2: "axis"}),
    "STFT": OpDef(_stft_type, _stft, _stft_work, params={1: "frame_step", 3: "frame_length"}),
}
