"""ORT's weights that are quantised in blocks along the inner dimension (MatMulNBits).

Source of the semantics: onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Data, Kind, Quant, Role, TensorType, Value
from tetrasim.sim.ops.opdef import int_attr


@dataclass(frozen=True, slots=True, eq=False)
class _Blocked:
    """Block-quantised weights of MatMulNBits, dequantised when asked for."""

    packed: Data
    scales: Data
    zeros: Data | None
    shape: tuple[int, int]
    bits: int
    block: int

    def load(self) -> NDArray[Any]:
        """[n, k] in float32."""
        n, k = self.shape
        raw = np.asarray(self.packed.load()).astype(np.uint8).reshape(n, -1)
        per_byte = 8 // self.bits
        fields = [(raw >> (self.bits * i)) & (2**self.bits - 1) for i in range(per_byte)]
        values = np.stack(fields, axis=-1).reshape(n, -1)[:, : -(-k // self.block) * self.block]
        values = values.reshape(n, -1, self.block).astype(np.float32)
        scales = np.asarray(self.scales.load(), dtype=np.float32).reshape(n, -1, 1)
        zero = np.full(scales.shape, 2 ** (self.bits - 1), dtype=np.float32)
        if self.zeros is not None:
            flat = np.asarray(self.zeros.load())
            if flat.dtype == np.uint8:
                flat = flat.reshape(n, -1)
                parts = [(flat >> (self.bits * i)) & (2**self.bits - 1) for i in range(per_byte)]
                flat = np.stack(parts, axis=-1).reshape(n, -1)[:, : scales.shape[1]]
            zero = flat.astype(np.float32).reshape(scales.shape)
        return np.asarray(((values - zero) * scales).reshape(n, -1)[:, :k], dtype=np.float32)


def _matmul_nbits(call: Call) -> tuple[Value, ...]:
    """MatMulNBits: x times a weight of 2, 4 or 8 bits per element, quantised in blocks along k."""
    x, packed, scales = call.need(0), call.need(1), call.need(2)
    zeros = call.maybe(3)
    n, k = int_attr(call.attrs, "N"), int_attr(call.attrs, "K")
    bits, block = int_attr(call.attrs, "bits", 4), int_attr(call.attrs, "block_size")
    if bits not in (2, 4, 8) or call.maybe(4) is not None:
        raise call.refuse(f"{bits} bits, or a group index")
    data: Data | None = None
    if packed.data is not None and scales.data is not None and (zeros is None or zeros.data is not None):
        data = _Blocked(
            packed.data, scales.data, zeros.data if zeros is not None else None, (n, k), bits, block
        )
    # the scales are not part of the type: blocks of 16 or more elements make them under 2 bits per element
    type = TensorType((n, k), Kind.UINT, bits, Quant())
    weight = Value(call.builder.fresh(f"{packed.name}/blocks"), type, Role.WEIGHT, data)
    bias = call.maybe(5)
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return call.emit("MatMul" if bias is None else "Gemm", inputs, {"transB": 1})


RULES: dict[str, Rule] = {"MatMulNBits": _matmul_nbits}
