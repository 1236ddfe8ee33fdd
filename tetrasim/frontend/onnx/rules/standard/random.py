"""Random operators with a shape and a seed that are numbers."""

from __future__ import annotations

import zlib

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value


def _seeded(call: Call) -> dict[str, Attr]:
    """The node's attributes with a whole number as seed: the bits of the file's, or the output name's."""
    given = call.attrs.get("seed")
    text = call.out(0) if given is None else repr(given)
    return {**call.attrs, "seed": zlib.crc32(text.encode())}


def _filled(call: Call) -> tuple[Value, ...]:
    """RandomNormal and RandomUniform, and the forms that take shape and type from an input."""
    attrs = _seeded(call)
    op = call.proto.op_type
    if op.endswith("Like"):
        x = call.need(0)
        attrs |= {"shape": x.type.shape, "dtype": attrs.get("dtype") or x.type.dtype}
    return call.emit(op.removesuffix("Like"), [], attrs)


def _drawn(call: Call) -> tuple[Value, ...]:
    return call.emit(call.proto.op_type, call.inputs, _seeded(call))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _filled),
    **dict.fromkeys(("Bernoulli", "Multinomial"), _drawn),
}
