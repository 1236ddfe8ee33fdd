"""One spelling per op of ONNX's own domain: what exporters write becomes the ops of `sim/ops/`.

Old opsets' forms become today's, dropout and friends vanish, squeezes become reshapes. Ops without a rule
are emitted as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.frontend.onnx.attributes import constant_array, tensor_attr, tensor_type_code
from tetrasim.frontend.onnx.builder import EAGER_ELEMENTS, data_of, scalar_of, split_params
from tetrasim.frontend.onnx.call import Call, Refusal, Rule
from tetrasim.frontend.onnx.element_types import onnx_type
from tetrasim.frontend.onnx.reader import carried
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import int_attr, str_attr
from tetrasim.sim.ops.registry import find_op

_DATA = "the shape of its result depends on run-time data"
_DATA_HINT = "only static shapes are supported: replace it by a mask or a fixed-size top-k"
_TRAINING_HINT = "export the model in evaluation mode"


def _constant(call: Call) -> tuple[Value, ...]:
    array, code = constant_array(call.proto)
    type = onnx_type(code, tuple(array.shape))
    return (call.builder.constant(call.proto.output[0], carried(array, type), type),)


def _constant_of_shape(call: Call) -> tuple[Value, ...]:
    value = tensor_attr(call.proto, "value")
    dtype = onnx_type(tensor_type_code(call.proto, "value"), ()).dtype
    fill: Attr = 0 if value is None else value.reshape(-1)[0].item()
    return call.emit("ConstantOfShape", call.inputs, {"dtype": dtype, "value": fill})


def _dropout(call: Call) -> tuple[Value | None, ...]:
    """Inference: the input itself, and a mask that keeps everything."""
    x = call.need(0)
    training = call.inputs[2] if len(call.inputs) > 2 else None
    if training is not None and scalar_of(training) != 0:
        raise call.refuse("training mode", _TRAINING_HINT)
    if len(call.proto.output) < 2 or not call.proto.output[1]:
        return (x,)
    return x, call.builder.constant(call.proto.output[1], np.ones(x.type.shape, dtype=bool))


def _view(call: Call) -> tuple[Value, ...]:
    """Squeeze, Unsqueeze and Flatten are reshapes once shapes are numbers."""
    definition = find_op(call.proto.op_type)
    data, attrs = split_params(definition, call.inputs, call.attrs)
    (out,) = definition.infer([None if v is None else v.type for v in data], attrs)
    return call.emit("Reshape", data, {"shape": out.shape, "allowzero": 1})


def _softmax(call: Call) -> tuple[Value, ...]:
    """Before opset 13 softmax flattened to a matrix at `axis` (default 1)."""
    axis = call.attrs.get("axis", -1 if call.opset >= 13 else 1)
    assert isinstance(axis, int)
    x = call.need(0)
    rank = len(x.type.shape)
    axis = axis + rank if axis < 0 else axis
    if call.opset >= 13 or axis == rank - 1:
        return call.emit(call.proto.op_type, [x], {"axis": axis})
    name = call.proto.output[0]
    shape = x.type.shape
    flat = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
    (matrix,) = call.emit("Reshape", [x], {"shape": flat}, [f"{name}.flat"])
    (soft,) = call.emit(call.proto.op_type, [matrix], {"axis": 1}, [f"{name}.softmax"])
    return call.emit("Reshape", [soft], {"shape": shape})


def _gemm(call: Call) -> tuple[Value, ...]:
    attrs = {k: v for k, v in call.attrs.items() if not (k in ("alpha", "beta") and v == 1.0)}
    attrs = {k: v for k, v in attrs.items() if not (k in ("transA", "transB") and v == 0)}
    return call.emit("Gemm", call.inputs, attrs)


def _only_first(call: Call) -> tuple[Value, ...]:
    """Training outputs that nobody reads are dropped."""
    if call.attrs.get("training_mode"):
        raise call.refuse("training mode", _TRAINING_HINT)
    return call.emit(call.proto.op_type, call.inputs, call.attrs, [call.proto.output[0]])


def _split(call: Call) -> tuple[Value, ...]:
    attrs = dict(call.attrs)
    if "split" not in attrs and (len(call.inputs) < 2 or call.inputs[1] is None):
        attrs["num_outputs"] = len(call.proto.output)
    return call.emit("Split", call.inputs, attrs)


def _topk(call: Call) -> tuple[Value, ...]:
    return call.emit("TopK", call.inputs, {k: v for k, v in call.attrs.items() if k != "sorted"})


def _cast_like(call: Call) -> tuple[Value, ...]:
    return call.emit("Cast", [call.need(0)], _cast_attrs(call, call.need(1).type.dtype))


def _cast(call: Call) -> tuple[Value, ...]:
    return call.emit("Cast", call.inputs, _cast_attrs(call, call.attrs["to"]))


def _cast_attrs(call: Call, to: Attr) -> dict[str, Attr]:
    return {"to": to} if int_attr(call.attrs, "saturate", 1) else {"to": to, "saturate": 0}


def _rms(call: Call) -> tuple[Value, ...]:
    """ORT's optimiser writes this op in the standard domain."""
    attrs = {k: v for k, v in call.attrs.items() if k in ("axis", "epsilon")}
    return call.emit("RMSNormalization", call.inputs[:2], attrs, [call.proto.output[0]])


def _global_lp_pool(call: Call) -> tuple[Value, ...]:
    kernel = call.need(0).type.shape[2:]
    return call.emit("LpPool", call.inputs, {"kernel_shape": kernel, "p": int_attr(call.attrs, "p", 2)})


def _scatter(call: Call) -> tuple[Value, ...]:
    """The name of ScatterElements before opset 11."""
    return call.emit("ScatterElements", call.inputs, call.attrs)


def _bit_cast(call: Call) -> tuple[Value, ...]:
    return call.emit("BitCast", call.inputs, {"to": call.attrs["to"], "from": call.need(0).type.dtype})


def _causal_conv(call: Call) -> tuple[Value | None, ...]:
    """A depthwise convolution over past and new columns; the last k - 1 of them are the new state."""
    x, w, bias, past = call.need(0), call.need(1), call.maybe(2), call.maybe(3)
    name, (batch, channels, _) = call.out(0), x.type.shape
    room = w.type.shape[-1] - 1
    whole = x
    if room:
        if past is None:
            zeros = np.zeros((batch, channels, room), dtype=np.float32)
            past = call.builder.constant(f"{name}/past", zeros, replace(x.type, shape=zeros.shape))
        (whole,) = call.emit("Concat", [past, x], {"axis": 2}, [f"{name}/whole"])
    kind = str_attr(call.attrs, "activation", "none")
    linear = [name] if kind == "none" else [f"{name}/linear"]
    (y,) = call.emit("Conv", [whole, w, bias], {"group": channels}, linear)
    if kind in ("silu", "swish"):
        (y,) = call.emit("Swish", [y], {}, [name])
    elif kind != "none":
        raise call.refuse(f"activation '{kind}' is not one of silu, swish and none")
    if not call.out(1):
        return (y,)
    size = whole.type.shape[2]
    attrs: dict[str, Attr] = {"starts": (size - room,), "ends": (size,), "axes": (2,)}
    return y, call.emit("Slice", [whole], attrs, [call.out(1)])[0]


def _mel_weights(call: Call) -> tuple[Value, ...]:
    """A constant: the triangular mel filters that ONNX defines."""
    given = [data_of(call.need(i)) for i in range(5)]
    if any(g is None for g in given):
        raise call.refuse("its parameters are computed at run time", _DATA_HINT)
    bins, length, rate, low, high = (np.asarray(g).reshape(-1)[0] for g in given)
    if not 0 < (int(length) // 2 + 1) * int(bins) <= EAGER_ELEMENTS:
        raise call.refuse(f"{bins} filters of {length} points")
    ends = 2595 * np.log10(1 + np.array([low, high], dtype=np.float64) / 700)
    mels = ends[0] + np.arange(bins + 2) * (ends[1] - ends[0]) / (bins + 2)
    places = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(int)
    table = np.zeros((int(length) // 2 + 1, int(bins)), dtype=np.float32)
    for i in range(int(bins)):
        left, centre, right = places[i : i + 3]
        if centre == left:
            table[centre, i] = 1
        else:
            rising = np.arange(left, centre + 1)
            table[rising, i] = (rising - left) / (centre - left)
        falling = np.arange(centre, right)
        table[falling, i] = (right - falling) / max(right - centre, 1)
    return (call.builder.constant(call.out(0), table),)


def _global_pool(call: Call) -> tuple[Value, ...]:
    axes = tuple(range(2, len(call.need(0).type.shape)))
    op = "ReduceMean" if call.proto.op_type == "GlobalAveragePool" else "ReduceMax"
    return call.emit(op, call.inputs, {"axes": axes, "keepdims": 1})


RULES: dict[str, Rule] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Squeeze": _view,
    "Unsqueeze": _view,
    "Flatten": _view,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Scatter": _scatter,
    "GlobalLpPool": _global_lp_pool,
    "CausalConvWithState": _causal_conv,
    "MelWeightMatrix": _mel_weights,
    "BitCast": _bit_cast,
    "Gemm": _gemm,
    "Split": _split,
    "TopK": _topk,
    "Cast": _cast,
    "CastLike": _cast_like,
    "BatchNormalization": _only_first,
    "SimplifiedLayerNormalization": _rms,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    **{op: Refusal(_DATA, _DATA_HINT) for op in ("NonZero", "Unique", "Compress", "NonMaxSuppression")},
}
