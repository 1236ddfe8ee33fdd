"""Heads of attention: splitting a width into them, and appending to a cache."""

from __future__ import annotations

from tetrasim.frontend.onnx.call import Call
from tetrasim.sim.ir.graph import Value

HEADS_LAST = "bshd"


def split_heads(call: Call, x: Value, heads: int, name: str) -> Value:
    """[b, s, h*d] -> [b, s, h, d], a view."""
    b, s, width = x.type.shape
    if heads < 1 or width % heads:
        raise call.refuse(f"{width} columns do not divide into {heads} heads")
    (out,) = call.emit("Reshape", [x], {"shape": (b, s, heads, width // heads)}, [name])
    return out


def heads_first(call: Call, x: Value, name: str) -> Value:
    """[b, s, h, d] -> [b, h, s, d]."""
    (out,) = call.emit("Transpose", [x], {"perm": (0, 2, 1, 3)}, [name])
    return out


def append(call: Call, past: Value | None, new: Value, name: str) -> Value:
    """The cache after this run."""
    if past is None:
        return new
    (out,) = call.emit("Concat", [past, new], {"axis": 2}, [name])
    return out
