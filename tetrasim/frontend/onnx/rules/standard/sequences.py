"""ONNX sequences of known length: a sequence is its elements, kept beside the graph while it is built."""

from __future__ import annotations

import numpy as np

from tetrasim.frontend.onnx.builder import known_array
from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Value
from tetrasim.sim.ops.opdef import axis_of, int_attr

_LOOP_HINT = "export prefill and step graphs with explicit states instead of a loop, or unroll it at export"
_DATA = "the shape of its result depends on run-time data"
_DATA_HINT = "only static shapes are supported: replace it by a mask or a fixed-size top-k"


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


def _sequence_length(call: Call) -> tuple[Value, ...]:
    count = np.array(len(_sequence(call)), dtype=np.int64)
    return (call.builder.constant(call.out(0), count),)


RULES: dict[str, Rule] = {
    "SplitToSequence": _split_to_sequence,
    "SequenceConstruct": _sequence_construct,
    "SequenceAt": _sequence_at,
    "SequenceLength": _sequence_length,
    "ConcatFromSequence": _concat_from_sequence,
}
