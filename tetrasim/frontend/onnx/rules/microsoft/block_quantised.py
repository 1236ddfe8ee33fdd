"""ORT's weights that are quantised in blocks: MatMulNBits, MatMulBnb4, GatherBlockQuantized.

Source of the semantics: onnxruntime's ContribOperators.md; the tables of 4-bit floats: bitsandbytes
(Dettmers et al., arXiv:2305.14314).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Data, Kind, Quant, Role, TensorType, Value
from tetrasim.sim.ops.opdef import axis_of, int_attr


def unpack(raw: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Integers of `bits` bits from bytes of the last axis, low bits first."""
    if bits == 8:
        return raw
    flat = np.unpackbits(raw, axis=-1, bitorder="little")
    fields = flat[..., : flat.shape[-1] // bits * bits].reshape(*raw.shape[:-1], -1, bits)
    return np.packbits(fields, axis=-1, bitorder="little")[..., 0]


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """Integers quantised in blocks along the last axis, dequantised when asked for. `shape` [..., k];
    `groups`: the block of every column where they are not in order."""

    packed: Data
    scales: Data | None
    zeros: Data | None
    shape: tuple[int, ...]
    bits: int
    block: int
    groups: Data | None = None

    def load(self) -> NDArray[Any]:
        """`shape` in float32."""
        *lead, k = self.shape
        blocks = -(-k // self.block)
        raw = np.ascontiguousarray(self.packed.load()).astype(np.uint8).reshape(*lead, -1)
        values = unpack(raw, self.bits)[..., :k].astype(np.float32)
        scales = np.ones((*lead, blocks), dtype=np.float32)
        if self.scales is not None:
            scales = np.asarray(self.scales.load(), dtype=np.float32).reshape(*lead, blocks)
        zeros = np.full(scales.shape, 2 ** (self.bits - 1), dtype=np.float32)
        if self.zeros is not None:
            zeros = _points(np.asarray(self.zeros.load()), self.bits, scales.shape)
        place = np.arange(k) // self.block
        if self.groups is not None:
            place = np.asarray(self.groups.load()).astype(np.int64).reshape(-1)[:k]
        return (values - zeros[..., place]) * scales[..., place]


def _points(zeros: NDArray[Any], bits: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zero points of blocks `shape` [..., n, blocks]: numbers, or bytes packed like the weights along the
    blocks, or along the rows where a row is one block."""
    if zeros.dtype == np.uint8 and bits < 8:
        *lead, n, blocks = shape
        if zeros.size == math.prod(lead) * n * -(-blocks * bits // 8):
            zeros = unpack(zeros.reshape(*lead, n, -1), bits)[..., :blocks]
        else:
            zeros = unpack(zeros.reshape(*lead, -1), bits)[..., :n]
    return zeros.astype(np.float32).reshape(shape)


def _weight(call: Call, packed: Value, type: TensorType, data: Data | None) -> Value:
    """Scales are not part of the type: blocks of 16 or more make them under 2 bits per element."""
    return Value(call.builder.fresh(f"{packed.name}/blocks"), type, Role.WEIGHT, data)


def _known(*values: Value | None) -> bool:
    return all(v is None or v.data is not None for v in values)


def _data(value: Value | None) -> Data | None:
    return None if value is None else value.data


def _matmul_nbits(call: Call) -> tuple[Value, ...]:
    """MatMulNBits: x times a weight of 2 to 8 bits per element, quantised in blocks along k."""
    x, packed, scales = call.need(0), call.need(1), call.need(2)
    zeros, groups, bias = (call.maybe(i) for i in (3, 4, 5))
    n, k = int_attr(call.attrs, "N"), int_attr(call.attrs, "K")
    bits, block = int_attr(call.attrs, "bits", 4), int_attr(call.attrs, "block_size")
    if not 2 <= bits <= 8:
        raise call.refuse(f"{bits} bits per element")
    data: Data | None = None
    if _known(packed, scales, zeros, groups) and not int_attr(call.attrs, "weight_prepacked", 0):
        assert packed.data is not None
        data = Blocked(packed.data, scales.data, _data(zeros), (n, k), bits, block, _data(groups))
    weight = _weight(call, packed, TensorType((n, k), Kind.UINT, bits, Quant()), data)
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return call.emit("MatMul" if bias is None else "Gemm", inputs, {"transB": 1})


_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
)  # fmt: skip
_FP4_POSITIVE = (0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)


@dataclass(frozen=True, slots=True, eq=False)
class _Tabled:
    """Codes of 4 bits into a table of floats, the high half of a byte first, with one scale per block."""

    packed: Data
    scales: Data
    shape: tuple[int, int]
    table: tuple[float, ...]
    block: int

    def load(self) -> NDArray[Any]:
        """`shape` in float32."""
        raw = np.asarray(self.packed.load()).astype(np.uint8).reshape(-1)
        codes = np.stack([raw >> 4, raw & 15], axis=-1).reshape(-1)[: self.shape[0] * self.shape[1]]
        scales = np.asarray(self.scales.load(), dtype=np.float32).reshape(-1)
        spread = np.repeat(scales, self.block)[: codes.size]
        return (np.array(self.table, dtype=np.float32)[codes] * spread).reshape(self.shape)


def _matmul_bnb4(call: Call) -> tuple[Value, ...]:
    """MatMulBnb4: x times a weight of 4-bit floats in blocks of the flattened matrix."""
    x, packed, scales = call.need(0), call.need(1), call.need(2)
    shape = (int_attr(call.attrs, "N"), int_attr(call.attrs, "K"))
    fp4 = (*_FP4_POSITIVE, *(-v for v in _FP4_POSITIVE))
    table = _NF4 if int_attr(call.attrs, "quant_type") == 1 else fp4
    data: Data | None = None
    if packed.data is not None and scales.data is not None:
        data = _Tabled(packed.data, scales.data, shape, table, int_attr(call.attrs, "block_size"))
    weight = _weight(call, packed, TensorType(shape, Kind.FLOAT, 4, Quant()), data)
    return call.emit("MatMul", [x, weight], {"transB": 1} if int_attr(call.attrs, "transB", 1) else {})


@dataclass(frozen=True, slots=True, eq=False)
class _Spread:
    """Elements of a stored type with one scale per block of an axis."""

    stored: Data
    scales: Data
    zeros: Data | None
    shape: tuple[int, ...]
    axis: int
    block: int
    packed_bits: int
    middle: float

    def load(self) -> NDArray[Any]:
        """`shape` in float32."""
        values = np.asarray(self.stored.load())
        zeros = None if self.zeros is None else np.asarray(self.zeros.load())
        scales = np.asarray(self.scales.load(), dtype=np.float32)
        if self.packed_bits:
            values = unpack(np.ascontiguousarray(values), self.packed_bits)[..., : self.shape[-1]]
            zeros = None if zeros is None else unpack(np.ascontiguousarray(zeros), self.packed_bits)
        places = np.arange(self.shape[self.axis]) // (self.block or self.shape[self.axis])
        shift: Any = self.middle
        if zeros is not None:
            shift = np.take(zeros.astype(np.float32)[..., : scales.shape[-1]], places, axis=self.axis)
        return np.asarray((values.astype(np.float32) - shift) * np.take(scales, places, axis=self.axis))


def _gather_blocks(call: Call) -> tuple[Value, ...]:
    """GatherBlockQuantized: rows of a block-quantised table."""
    table, index, scales, zeros = call.need(0), call.need(1), call.need(2), call.maybe(3)
    packed = table.type.kind is Kind.UINT and table.type.bits == 8
    bits = int_attr(call.attrs, "bits", 4) if packed else table.type.bits
    *lead, last = table.type.shape
    shape = (*lead, last * 8 // bits) if packed else table.type.shape
    axis = axis_of(int_attr(call.attrs, "quantize_axis", 1), len(shape))
    block = int_attr(call.attrs, "block_size", 128)
    data: Data | None = None
    if _known(table, scales, zeros):
        assert table.data is not None
        assert scales.data is not None
        middle = 2.0 ** (bits - 1) if packed else 0.0
        data = _Spread(
            table.data,
            scales.data,
            _data(zeros),
            shape,
            axis,
            block,
            bits if packed and bits < 8 else 0,
            middle,
        )
    weight = _weight(call, table, TensorType(shape, table.type.kind, bits, Quant()), data)
    return call.emit("Gather", [weight, index], {"axis": int_attr(call.attrs, "gather_axis", 0)})


RULES: dict[str, Rule] = {
    "MatMulNBits": _matmul_nbits,
    "MatMulBnb4": _matmul_bnb4,
    "GatherBlockQuantized": _gather_blocks,
}
