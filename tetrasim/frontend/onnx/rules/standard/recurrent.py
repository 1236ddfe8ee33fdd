"""LSTM, GRU and RNN, unrolled over time: one product of all inputs with the input weights, then one small
product and a few vector ops per time step, as ONNX defines the cells (gate orders i o f c and z r h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr, str_attr

MAX_STEPS = 4096
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Cell:
    """One direction of a layer; `emit` names its values by a running number."""

    call: Call
    label: str
    activations: tuple[str, ...]
    recurrent: Value  # [gates * hidden, hidden]
    input_bias: Value | None
    recurrent_bias: Value | None

    def emit(self, op: str, inputs: Sequence[Value | None], attrs: dict[str, Attr] | None = None) -> Value:
        return self.call.emit(op, inputs, attrs, [f"{self.label}/{op}"])[0]

    def split(self, x: Value, parts: int) -> tuple[Value, ...]:
        size = x.type.shape[-1] // parts
        names = [f"{self.label}/part{i}" for i in range(parts)]
        return self.call.emit("Split", [x], {"axis": -1, "split": (size,) * parts}, names)

    def product(self, h: Value, weight: Value) -> Value:
        return self.emit("MatMul", [h, weight], {"transB": 1})


_State = tuple[Value, ...]


def _lstm_step(cell: _Cell, x: Value, state: _State) -> _State:
    h, c = state
    gates = cell.emit("Add", [x, cell.product(h, cell.recurrent)])
    i, o, f, g = cell.split(gates, 4)
    inner, middle, outer = cell.activations
    kept = cell.emit("Mul", [cell.emit(inner, [f]), c])
    new = cell.emit("Mul", [cell.emit(inner, [i]), cell.emit(middle, [g])])
    c = cell.emit("Add", [kept, new])
    return cell.emit("Mul", [cell.emit(inner, [o]), cell.emit(outer, [c])]), c


def _rnn_step(cell: _Cell, x: Value, state: _State) -> _State:
    return (cell.emit(cell.activations[0], [cell.emit("Add", [x, cell.product(state[0], cell.recurrent)])]),)


def _gru_step(cell: _Cell, x: Value, state: _State) -> _State:
    (h,) = state
    hidden = h.type.shape[-1]
    x_zr, x_h = cell.call.emit(
        "Split", [x], {"axis": -1, "split": (2 * hidden, hidden)}, [f"{cell.label}/zr", f"{cell.label}/h"]
    )
    r_zr, r_h = cell.call.emit(
        "Split",
        [cell.recurrent],
        {"axis": 0, "split": (2 * hidden, hidden)},
        [f"{cell.label}/Rzr", f"{cell.label}/Rh"],
    )
    gate, middle = cell.activations
    z, r = cell.split(cell.emit(gate, [cell.emit("Add", [x_zr, cell.product(h, r_zr)])]), 2)
    if int_attr(cell.call.attrs, "linear_before_reset", 0):
        inner = cell.product(h, r_h)
        if cell.recurrent_bias is not None:
            inner = cell.emit("Add", [inner, cell.recurrent_bias])
        inner = cell.emit("Mul", [r, inner])
    else:
        inner = cell.product(cell.emit("Mul", [r, h]), r_h)
    new = cell.emit(middle, [cell.emit("Add", [x_h, inner])])
    # (1 - z) new + z h = new + z (h - new)
    return (cell.emit("Add", [new, cell.emit("Mul", [z, cell.emit("Sub", [h, new])])]),)


_STEPS: dict[str, Callable[[_Cell, Value, _State], _State]] = {
    "LSTM": _lstm_step,
    "GRU": _gru_step,
    "RNN": _rnn_step,
}


def recurrent(call: Call) -> tuple[Value | None, ...]:
    """LSTM, GRU or RNN of ONNX.

    Raises:
        UnsupportedOpError: peepholes, clipping, coupled gates, or sequences of unequal length.
    """
    op, name = call.proto.op_type, call.proto.output[0] or f"{call.label}/y"
    inputs = [call.inputs[i] if i < len(call.inputs) else None for i in range(8)]
    x, w, r, bias, lengths = inputs[:5]
    if x is None or w is None or r is None:
        raise call.refuse("it needs X, W and R")
    if lengths is not None or inputs[7] is not None:
        raise call.refuse("sequence lengths and peepholes are not supported")
    if float_attr(call.attrs, "clip", 0.0) or int_attr(call.attrs, "input_forget", 0):
        raise call.refuse("clipping and coupled gates are not supported")
    batch_first = bool(int_attr(call.attrs, "layout", 0))
    if batch_first:
        (x,) = call.emit("Transpose", [x], {"perm": (1, 0, 2)}, [f"{name}/x"])
    steps, batch, _ = x.type.shape
    if steps > MAX_STEPS:
        raise call.refuse(f"{steps} time steps are more than {MAX_STEPS}")
    dirs, hidden = r.type.shape[0], r.type.shape[2]
    kept: list[list[Value]] = []
    last: list[_State] = []
    for d in range(dirs):
        cell, projected = _direction(call, d, dirs, (x, w, r, bias), name)
        state = tuple(
            _initial(call, v, d, (dirs, batch, hidden), batch_first, f"{name}/start{d}{i}")
            for i, v in enumerate(inputs[5 : 7 if op == "LSTM" else 6])
        )
        backward = d == 1 or str_attr(call.attrs, "direction", "forward") == "reverse"
        rows: list[Value] = []
        for t in reversed(range(steps)) if backward else range(steps):
            at = call.builder.constant(f"{name}/at{t}", np.array(t, dtype=np.int64))
            state = _STEPS[op](cell, cell.emit("Gather", [projected, at], {"axis": 0}), state)
            rows.append(state[0])
        kept.append(rows[::-1] if backward else rows)
        last.append(state)
    return _results(call, kept, last, batch_first, name)


def _direction(
    call: Call, d: int, dirs: int, params: tuple[Value, Value, Value, Value | None], name: str
) -> tuple[_Cell, Value]:
    """The cell of direction d, and its biased input products [steps, batch, gates * hidden]."""
    x, w, r, bias = params
    op = call.proto.op_type
    named = call.attrs.get("activations", _DEFAULTS[op] * dirs)
    assert isinstance(named, tuple)
    per = len(_DEFAULTS[op])
    activations = tuple(str(a).capitalize() for a in named[per * d : per * d + per])
    if any(a not in ("Sigmoid", "Tanh", "Relu") for a in activations):
        raise call.refuse(f"activations {activations} are not supported")
    label = f"{name}/{d}"
    weights = [_pick(call, v, d, dirs, f"{label}/{n}") for v, n in ((w, "W"), (r, "R"))]
    first = second = None
    if bias is not None:
        both = _pick(call, bias, d, dirs, f"{label}/B")
        size = both.type.shape[0] // 2
        first, second = call.emit(
            "Split", [both], {"axis": 0, "split": (size, size)}, [f"{label}/Wb", f"{label}/Rb"]
        )
    (projected,) = call.emit("MatMul", [x, weights[0]], {"transB": 1}, [f"{label}/projected"])
    separate = op == "GRU" and int_attr(call.attrs, "linear_before_reset", 0)
    if first is not None and second is not None:
        total, second = _biases(call, first, second, bool(separate), label)
        (projected,) = call.emit("Add", [projected, total], {}, [f"{label}/biased"])
    return _Cell(call, label, activations, weights[1], first, second), projected


def _biases(call: Call, first: Value, second: Value, separate: bool, label: str) -> tuple[Value, Value]:
    """The bias of the input product, and the one that stays inside the reset gate (GRU, linear before it)."""
    if not separate:
        return call.emit("Add", [first, second], {}, [f"{label}/bias"])[0], second
    third = second.type.shape[0] // 3
    gates, inner = call.emit(
        "Split", [second], {"axis": 0, "split": (2 * third, third)}, [f"{label}/Rzrb", f"{label}/Rhb"]
    )
    zeros = call.builder.constant(f"{label}/none", np.zeros(third, dtype=np.float32))
    (padded,) = call.emit("Concat", [gates, zeros], {"axis": 0}, [f"{label}/gates"])
    return call.emit("Add", [first, padded], {}, [f"{label}/bias"])[0], inner


def _pick(call: Call, x: Value, d: int, dirs: int, name: str) -> Value:
    """x[d] of a parameter, as a view."""
    parts = (x,)
    if dirs > 1:
        names = [f"{name}{i}" for i in range(dirs)]
        parts = call.emit("Split", [x], {"axis": 0, "split": (1,) * dirs}, names)  # type: ignore[assignment]
    return call.emit("Reshape", [parts[d]], {"shape": x.type.shape[1:]}, [f"{name}/{d}"])[0]


def _initial(
    call: Call, x: Value | None, d: int, shape: tuple[int, int, int], batch_first: bool, name: str
) -> Value:
    if x is None:
        return call.builder.constant(name, np.zeros(shape[1:], dtype=np.float32))
    if batch_first:
        (x,) = call.emit("Transpose", [x], {"perm": (1, 0, 2)}, [f"{name}/t"])
    return _pick(call, x, d, shape[0], name)


def _results(
    call: Call, kept: list[list[Value]], last: list[_State], batch_first: bool, name: str
) -> tuple[Value | None, ...]:
    """Y [steps, dirs, batch, hidden] and the last states [dirs, batch, hidden] (batch first on request)."""
    batch, hidden = kept[0][0].type.shape
    wanted = [*call.proto.output, "", "", ""][: 1 + len(last[0])]
    out: list[Value | None] = [None] * len(wanted)
    if wanted[0]:
        columns = [
            call.emit(
                "Concat", [_row(call, h, (1, 1, batch, hidden)) for h in rows], {"axis": 0}, [f"{name}/{d}"]
            )[0]
            for d, rows in enumerate(kept)
        ]
        final = [name] if not batch_first else [f"{name}/steps"]
        (y,) = call.emit("Concat", columns, {"axis": 1}, final)
        if batch_first:
            (y,) = call.emit("Transpose", [y], {"perm": (2, 0, 1, 3)}, [name])
        out[0] = y
    for i, label in enumerate(wanted[1:]):
        if label:
            rows = [_row(call, state[i], (1, batch, hidden)) for state in last]
            (stacked,) = call.emit("Concat", rows, {"axis": 0}, [f"{label}/dirs" if batch_first else label])
            if batch_first:
                (stacked,) = call.emit("Transpose", [stacked], {"perm": (1, 0, 2)}, [label])
            out[i + 1] = stacked
    return tuple(out)


def _row(call: Call, h: Value, shape: tuple[int, ...]) -> Value:
    return call.emit("Reshape", [h], {"shape": shape}, [f"{h.name}/row"])[0]


RULES: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
