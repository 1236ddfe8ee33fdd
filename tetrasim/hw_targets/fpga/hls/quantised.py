"""Quantised (QDQ) files taken as given: where the file rounds, the firmware has that type.

ONNX's real = (q - zero_point) * scale is ap_fixed when the scale is a power of two and the zero point 0:
int8 at 2**-f is ap_fixed<8, 8 - f>, uint8 ap_ufixed<8, 8 - f>, rounding half to even and saturating. The
rounding joins the layer that computes the value, so that nothing is rounded twice; through ReLU and index
moves, which commute with rounding, it moves back to the layer before them. Everything else is refused: no
ap_fixed type holds it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import frexp

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Layer, Plan
from tetrasim.sim.ir.graph import Kind, TensorType

NEXT_STEP = (
    "quantise it with powers of two and zero points of 0, "
    "or convert the float model: --bits chooses its types"
)


def given_type(kind: Kind, bits: int, scale: float, zero: float) -> Fixed | str:
    """The type of integers with this scale and zero point, or why there is none."""
    mantissa, exponent = frexp(scale)
    if mantissa != 0.5:
        return f"its scale {scale:.6g} is not a power of two; {NEXT_STEP}"
    if zero != 0:
        return f"its zero point is {zero:.6g}, not 0; {NEXT_STEP}"
    return Fixed(bits, bits + exponent - 1, signed=kind is Kind.INT, even=True)


def weight_refusal(kind: TensorType) -> str | None:
    """Why integer weights of this type cannot be stored exactly, None when they can."""
    if kind.quant is None or kind.kind not in (Kind.INT, Kind.UINT):
        return None
    zeros = kind.quant.zero_point or (0,)
    for scale in kind.quant.scale:
        for zero in set(zeros):
            made = given_type(kind.kind, kind.bits, scale, zero)
            if isinstance(made, str):
                return made
    return None


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
