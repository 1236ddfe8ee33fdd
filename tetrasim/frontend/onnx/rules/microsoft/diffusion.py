"""ORT's ops of diffusion models: group norms and biases on channels-last images.

Source of the semantics: onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from tetrasim.frontend.onnx.call import Call, Refusal, Rule
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr


def _moved(call: Call, x: Value, first: bool, name: str) -> Value:
    """Channels brought to the front (after the batch), or back to the end."""
    rank = len(x.type.shape)
    perm = (0, rank - 1, *range(1, rank - 1)) if first else (0, *range(2, rank), 1)
    return call.emit("Transpose", [x], {"perm": perm}, [name])[0]


def _normed(call: Call, x: Value, gamma: Value, beta: Value) -> Value:
    """Group norm and its activation in the layout of `x`."""
    name, last = call.out(0), bool(int_attr(call.attrs, "channels_last", 1))
    silu = int_attr(call.attrs, "activation", 0)
    attrs: dict[str, Attr] = {
        "num_groups": int_attr(call.attrs, "groups"),
        "epsilon": float_attr(call.attrs, "epsilon", 1e-5),
    }
    if last:
        x = _moved(call, x, True, f"{name}/channels_first")
    (y,) = call.emit(
        "GroupNormalization", [x, gamma, beta], attrs, [f"{name}/normed" if silu or last else name]
    )
    if silu:
        (y,) = call.emit("Swish", [y], {}, [f"{name}/silu" if last else name])
    return _moved(call, y, False, name) if last else y


def _group_norm(call: Call) -> tuple[Value, ...]:
    return (_normed(call, call.need(0), call.need(1), call.need(2)),)


def _skip_group_norm(call: Call) -> tuple[Value | None, ...]:
    """The group norm of x + skip + bias, and that sum."""
    x, gamma, beta, skip, bias = call.need(0), call.need(1), call.need(2), call.need(3), call.maybe(4)
    name, rank = call.out(0), len(x.type.shape)
    last = bool(int_attr(call.attrs, "channels_last", 1))

    def fitted(v: Value, label: str) -> Value:
        """Per batch and channel, or per channel, in the layout of x."""
        if len(v.type.shape) == rank:
            return v
        batch, channels = (v.type.shape[0] if len(v.type.shape) == 2 else 1), v.type.shape[-1]
        shape = (batch, *(1,) * (rank - 2), channels) if last else (batch, channels, *(1,) * (rank - 2))
        return call.emit("Reshape", [v], {"shape": shape}, [f"{name}/{label}"])[0]

    if bias is not None:
        (x,) = call.emit("Add", [x, fitted(bias, "bias")], {}, [f"{name}/biased"])
    (total,) = call.emit("Add", [x, fitted(skip, "skip")], {}, [call.out(1) or f"{name}/sum"])
    return _normed(call, total, gamma, beta), total


def _bias_split_gelu(call: Call) -> tuple[Value, ...]:
    """x + bias in two halves: the left one times the Gelu of the right one."""
    x, bias, name = call.need(0), call.need(1), call.out(0)
    (whole,) = call.emit("Add", [x, bias], {}, [f"{name}/biased"])
    half = x.type.shape[-1] // 2
    attrs: dict[str, Attr] = {"axis": -1, "split": (half, half)}
    left, right = call.emit("Split", [whole], attrs, [f"{name}/left", f"{name}/right"])
    return call.emit("Mul", [left, call.emit("Gelu", [right], {}, [f"{name}/gelu"])[0]])


def _bias_add(call: Call) -> tuple[Value, ...]:
    x, bias, skip = (call.need(i) for i in range(3))
    return call.emit("Add", [call.emit("Add", [x, bias], {}, [f"{call.out(0)}/biased"])[0], skip])


def _channels_last(call: Call) -> tuple[Value, ...]:
    """NhwcConv and NhwcMaxPool: the op between two transposes."""
    name, op = call.out(0), call.proto.op_type.removeprefix("Nhwc")
    x = _moved(call, call.need(0), True, f"{name}/channels_first")
    (y,) = call.emit(op, [x, *call.inputs[1:]], call.attrs, [f"{name}/first"])
    return (_moved(call, y, False, name),)


RULES: dict[str, Rule] = {
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _skip_group_norm,
    "BiasSplitGelu": _bias_split_gelu,
    "BiasAdd": _bias_add,
    **dict.fromkeys(("NhwcConv", "NhwcMaxPool"), _channels_last),
    "NhwcFusedConv": Refusal("the fused form is not supported", "use optimisation level 'basic'"),
}
