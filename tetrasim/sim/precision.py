"""The formats a target stores and computes in; `passes/precision.py` applies them to a graph."""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.sim.ir.graph import Kind


@dataclass(frozen=True, slots=True)
class Format:
    """An element format: `Format(Kind.BFLOAT, 16)`; `integer_bits` for fixed point."""

    kind: Kind
    bits: int
    integer_bits: int | None = None

    @property
    def name(self) -> str:
        """`float16`, `bfloat16`, `int8`, `fixed16_6`."""
        point = "" if self.integer_bits is None else f"_{self.integer_bits}"
        return f"{self.kind}{self.bits}{point}"


FLOAT32 = Format(Kind.FLOAT, 32)
FLOAT16 = Format(Kind.FLOAT, 16)
BFLOAT16 = Format(Kind.BFLOAT, 16)
FLOAT8 = Format(Kind.FLOAT, 8)
INT8 = Format(Kind.INT, 8)
INT4 = Format(Kind.INT, 4)
FORMATS = {f.name: f for f in (FLOAT32, FLOAT16, BFLOAT16, FLOAT8, INT8, INT4)}


@dataclass(frozen=True, slots=True)
class Precision:
    """Formats per role; integers and booleans of the graph (token ids, masks) keep their own."""

    weights: Format = FLOAT32
    activations: Format = FLOAT32
    state: Format = FLOAT32
    accumulate: Format = FLOAT32
