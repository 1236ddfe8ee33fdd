"""Quantised (QDQ) files taken as given: where the file rounds, the firmware has that type.

ONNX's real = (q - zero_point) * scale is ap_fixed when the scale is a power of two and the zero point 0:
int8 at 2**-f is ap_fixed<8, 8 - f>, uint8 ap_ufixed<8, 8 - f>, rounding half to even and saturating. The
rounding joins the layer that computes the value, so that nothing is rounded twice; through ReLU and index
moves, which commute with rounding, it moves back to the layer before them. A file with any other scale is
taken in units (`units.py`) throughout.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import frexp

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import EXACT_BITS, Fixed, Layer, Plan
from tetrasim.sim.ir.graph import Graph, Kind, TensorType, Value


def given_type(kind: Kind, bits: int, scale: float, zero: float) -> Fixed | None:
    """The type of integers with this scale and zero point, None when no ap_fixed type is that."""
    mantissa, exponent = frexp(scale)
    if mantissa != 0.5 or zero != 0:
        return None
    return Fixed(bits, bits + exponent - 1, signed=kind is Kind.INT, even=True)


def is_whole(kind: TensorType) -> bool:
    """Whether the file holds these numbers as integers with a scale."""
    return kind.quant is not None and kind.kind in (Kind.INT, Kind.UINT) and bool(kind.quant.scale)


def has_general_scales(graph: Graph) -> bool:
    """Whether some scale of the file is no power of two, or some zero point is not 0.

    Weights whose powers of two lie too far apart for one type count too.
    """
    for node in graph.nodes:
        kinds = [v.type for v in (*node.inputs, *node.outputs) if v is not None and is_whole(v.type)]
        if any(_is_general(kind) for kind in kinds):
            return True
        if node.op == "QuantizeLinear" and any(_is_no_power(v) for v in node.inputs[1:2]):
            return True
        if node.op == "QuantizeLinear" and any(_is_not_zero(v) for v in node.inputs[2:3]):
            return True
    return False


def _is_general(kind: TensorType) -> bool:
    assert kind.quant is not None
    scales = [frexp(s) for s in kind.quant.scale]
    spread = max(e for _, e in scales) - min(e for _, e in scales)
    return (
        any(m != 0.5 for m, _ in scales)
        or any(kind.quant.zero_point)
        or (kind.bits <= EXACT_BITS < kind.bits + spread)
    )


def _is_no_power(value: Value | None) -> bool:
    numbers = (
        [] if value is None or value.data is None else np.asarray(value.data.load()).reshape(-1).tolist()
    )
    return any(frexp(s)[0] != 0.5 for s in numbers)


def _is_not_zero(value: Value | None) -> bool:
    return value is not None and value.data is not None and bool(np.asarray(value.data.load()).any())


def fold(plan: Plan) -> Plan:
    """`plan` whose rounding layers have joined the layers that compute what they round."""
    readers = Counter(i for x in plan.layers for i in x.inputs) + Counter(plan.outputs)
    by_name = {x.name: x for x in plan.layers}
    given, gone = dict(plan.given), dict[str, str]()
    for name in plan.given:
        source = gone.get(by_name[name].inputs[0], by_name[name].inputs[0])
        if readers[source] == 1 and source not in given and not _is_ids(by_name[source]):
            given[source] = given.pop(name)
            gone[name] = source
            readers[source] = readers[name]
    layers = tuple(_renamed(x, gone) for x in plan.layers if x.name not in gone)
    ids = {x.name for x in layers if _is_ids(x)}
    for layer in reversed(layers):
        if layer.name in given and readers[layer.inputs[0] if layer.inputs else ""] == 1:
            before = _before(layer, given[layer.name])
            if before is not None and layer.inputs[0] not in ids:
                given.setdefault(layer.inputs[0], before)
    for layer in layers:
        if isinstance(layer, p.Select) and layer.inputs[0] in given:
            given.setdefault(layer.name, given[layer.inputs[0]])
    outputs = tuple(gone.get(n, n) for n in plan.outputs)
    return replace(plan, layers=layers, outputs=outputs, given=given)


def _before(layer: Layer, wanted: Fixed) -> Fixed | None:
    """The type in which a layer's input may be rounded instead of its result, None when that differs."""
    if isinstance(layer, p.Select):
        return wanted
    if isinstance(layer, p.Relu):
        extra = not wanted.signed  # the same steps and a sign
        return Fixed(wanted.bits + extra, wanted.integer + extra, even=True)
    return None


def _is_ids(layer: Layer) -> bool:
    return isinstance(layer, p.Input) and layer.integers


def _renamed(layer: Layer, gone: dict[str, str]) -> Layer:
    inputs = tuple(gone.get(i, i) for i in layer.inputs)
    return replace(layer, head=replace(layer.head, inputs=inputs))
