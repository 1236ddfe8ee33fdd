"""One spelling per op: rules that turn what exporters write into the ops of `sim/ops/`.

Old opsets' forms become today's, dropout and friends vanish, squeezes become reshapes. A rule is a function
`(call) -> output values`; ops without a rule are emitted as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UnsupportedOpError, nearest
from tetrasim.sim.ir.attributes import constant_array, tensor_attr, tensor_type_code
from tetrasim.sim.ir.builder import Builder, known_array, scalar_of
from tetrasim.sim.ir.graph import Attr, Source, Value
from tetrasim.sim.ir.onnx_file import carried
from tetrasim.sim.ir.rules_attention import attention, rotary
from tetrasim.sim.ops.dtypes import onnx_type
from tetrasim.sim.ops.opdef import axis_of, int_attr

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Call:
    """One ONNX node about to be emitted."""

    builder: Builder
    proto: onnx.NodeProto
    inputs: Sequence[Value | None]
    attrs: dict[str, Attr]
    source: Source
    opset: int

    @property
    def label(self) -> str:
        return self.proto.name or self.proto.op_type

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: dict[str, Attr] | None = None,
        outputs: Sequence[str] = (),
    ) -> tuple[Value, ...]:
        """Emit `op`; outputs are named as the ONNX node's unless given."""
        names = outputs or list(self.proto.output)
        return self.builder.emit(op, inputs, names, attrs or {}, self.source, self.label)

    def refuse(self, why: str, hint: str = "") -> UnsupportedOpError:
        return UnsupportedOpError(f"{self.proto.op_type}: {why}", where=f"node '{self.label}'", hint=hint)

    def need(self, index: int) -> Value:
        """Input `index`, which must be present."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise self.refuse(f"input {index} is missing")
        return found


Rule = Callable[[Call], tuple[Value | None, ...]]


def canonical(
    builder: Builder,
    proto: onnx.NodeProto,
    inputs: Sequence[Value | None],
    attrs: dict[str, Attr],
    source: Source,
    opset: int,
) -> tuple[Value | None, ...]:
    """Emit one ONNX node in canonical form.

    Raises:
        UserError: unsupported op or form.
    """
    from tetrasim.sim.ir.contrib import CONTRIB
    from tetrasim.sim.ir.rules_quantised import QUANTISED
    from tetrasim.sim.ir.rules_recurrent import RECURRENT

    call = Call(builder, proto, inputs, attrs, source, opset)
    if proto.domain == "com.microsoft":
        if proto.op_type not in CONTRIB:
            raise call.refuse(
                "this com.microsoft op has no rule",
                f"{nearest(proto.op_type, CONTRIB)} Or export unoptimised",
            )
        return CONTRIB[proto.op_type](call)
    rule = RULES.get(proto.op_type) or QUANTISED.get(proto.op_type) or RECURRENT.get(proto.op_type)
    if rule is not None:
        return rule(call)
    return call.emit(proto.op_type, inputs, attrs)


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
        raise call.refuse("training mode", _RANDOM_HINT)
    if len(call.proto.output) < 2 or not call.proto.output[1]:
        return (x,)
    return x, call.builder.constant(call.proto.output[1], np.ones(x.type.shape, dtype=bool))


def _view(call: Call) -> tuple[Value, ...]:
    """Squeeze, Unsqueeze and Flatten are reshapes once shapes are numbers."""
    from tetrasim.sim.ir.builder import split_params
    from tetrasim.sim.ops.registry import find_op

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
        raise call.refuse("training mode", _RANDOM_HINT)
    return call.emit(call.proto.op_type, call.inputs, call.attrs, [call.proto.output[0]])


def _split(call: Call) -> tuple[Value, ...]:
    attrs = dict(call.attrs)
    if "split" not in attrs and (len(call.inputs) < 2 or call.inputs[1] is None):
        attrs["num_outputs"] = len(call.proto.output)
    return call.emit("Split", call.inputs, attrs)


def _topk(call: Call) -> tuple[Value, ...]:
    return call.emit("TopK", call.inputs, {k: v for k, v in call.attrs.items() if k != "sorted"})


def _cast_like(call: Call) -> tuple[Value, ...]:
    return call.emit("Cast", [call.need(0)], {"to": call.need(1).type.dtype})


def _cast(call: Call) -> tuple[Value, ...]:
    return call.emit("Cast", call.inputs, {"to": call.attrs["to"]})


def _rms(call: Call) -> tuple[Value, ...]:
    """ORT's optimiser writes this op in the standard domain."""
    attrs = {k: v for k, v in call.attrs.items() if k in ("axis", "epsilon")}
    return call.emit("RMSNormalization", call.inputs[:2], attrs, [call.proto.output[0]])


def _global_pool(call: Call) -> tuple[Value, ...]:
    axes = tuple(range(2, len(call.need(0).type.shape)))
    op = "ReduceMean" if call.proto.op_type == "GlobalAveragePool" else "ReduceMax"
    return call.emit(op, call.inputs, {"axes": axes, "keepdims": 1})


def _refuse(why: str, hint: str) -> Rule:
    def rule(call: Call) -> tuple[Value, ...]:
        raise call.refuse(why, hint)

    return rule


_LOOP_HINT = "export prefill and step graphs with explicit states instead of a loop, or unroll it at export"
_DATA = "the shape of its result depends on run-time data"
_DATA_HINT = "only static shapes are supported: replace it by a mask or a fixed-size top-k"
_RANDOM = "random numbers are not reproducible"
_RANDOM_HINT = "export the model in evaluation mode"


def _split_to_sequence(call: Call) -> tuple[Value | None, ...]:
    """A sequence of known length is its elements."""
    x, name = call.need(0), call.proto.output[0]
    axis = axis_of(int_attr(call.attrs, "axis", 0), len(x.type.shape))
    size = x.type.shape[axis]
    given = call.inputs[1] if len(call.inputs) > 1 else None
    sizes = (1,) * size
    if given is not None:
        array = known_array(given)
        if array is None:
            raise call.refuse(_DATA, _DATA_HINT)
        each = tuple(int(n) for n in array.reshape(-1))
        sizes = each if array.ndim else tuple(min(each[0], size - i) for i in range(0, size, each[0]))
    names = [f"{name}/{i}" for i in range(len(sizes))]
    parts = call.emit("Split", [x], {"axis": axis, "split": sizes}, names)
    if given is None and not int_attr(call.attrs, "keepdims", 1):
        shape = tuple(d for i, d in enumerate(x.type.shape) if i != axis)
        parts = tuple(call.emit("Reshape", [p], {"shape": shape}, [f"{p.name}/part"])[0] for p in parts)
    call.builder.sequences[name] = parts
    return (None,)


def _sequence_construct(call: Call) -> tuple[Value | None, ...]:
    call.builder.sequences[call.proto.output[0]] = tuple(v for v in call.inputs if v is not None)
    return (None,)


def _sequence(call: Call) -> tuple[Value, ...]:
    found = call.builder.sequences.get(call.proto.input[0])
    if found is None:
        raise call.refuse("its sequence is run-time data", _LOOP_HINT)
    return found


def _sequence_at(call: Call) -> tuple[Value, ...]:
    array = known_array(call.need(1))
    if array is None:
        raise call.refuse("its index is run-time data", _DATA_HINT)
    return (_sequence(call)[int(array.reshape(-1)[0])],)


def _concat_from_sequence(call: Call) -> tuple[Value, ...]:
    parts = list(_sequence(call))
    axis = int_attr(call.attrs, "axis")
    if int_attr(call.attrs, "new_axis", 0):
        shape = list(parts[0].type.shape)
        shape.insert(axis_of(axis, len(shape) + 1), 1)
        name = call.proto.output[0]
        parts = [
            call.emit("Reshape", [p], {"shape": tuple(shape)}, [f"{name}/{i}"])[0]
            for i, p in enumerate(parts)
        ]
    return call.emit("Concat", parts, {"axis": axis})


RULES: dict[str, Rule] = {
    "SplitToSequence": _split_to_sequence,
    "SequenceConstruct": _sequence_construct,
    "SequenceAt": _sequence_at,
    "ConcatFromSequence": _concat_from_sequence,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Squeeze": _view,
    "Unsqueeze": _view,
    "Flatten": _view,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Gemm": _gemm,
    "Split": _split,
    "TopK": _topk,
    "Cast": _cast,
    "CastLike": _cast_like,
    "BatchNormalization": _only_first,
    "Attention": attention,
    "RotaryEmbedding": rotary,
    "SimplifiedLayerNormalization": _rms,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    **{op: _refuse(_DATA, _DATA_HINT) for op in ("NonZero", "Unique", "Compress", "NonMaxSuppression")},
    **{
        op: _refuse(_RANDOM, _RANDOM_HINT)
        for op in (
            "RandomNormal",
            "RandomUniform",
            "RandomNormalLike",
            "RandomUniformLike",
            "Bernoulli",
            "Multinomial",
        )
    },
}
