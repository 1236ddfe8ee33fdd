"""LSTM, GRU and RNN, unrolled over time: one product of all inputs with the input weights, then one small
product and a few vector ops per time step, as ONNX defines the cells (gate orders i o f c and z r h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tetrasim.errors import nearest
from tetrasim.frontend.onnx.builder import known_array
from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value
from tetrasim.sim.ops.opdef import float_attr, int_attr, str_attr

MAX_STEPS = 4096
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Activation:
    """A named activation of a cell with its own parameters."""

    op: str
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class _Cell:
    """One direction of a layer; `emit` names its values by a running number."""

    call: Call
    label: str
    activations: tuple[_Activation, ...]
    recurrent: Value  # [gates * hidden, hidden]
    input_bias: Value | None
    recurrent_bias: Value | None
    peepholes: tuple[Value, ...] = ()  # of the input, output and forget gate, each [hidden]

    def emit(self, op: str, inputs: Sequence[Value | None], attrs: dict[str, Attr] | None = None) -> Value:
        return self.call.emit(op, inputs, attrs, [f"{self.label}/{op}"])[0]

    def split(self, x: Value, parts: int) -> tuple[Value, ...]:
        size = x.type.shape[-1] // parts
        names = [f"{self.label}/part{i}" for i in range(parts)]
        return self.call.emit("Split", [x], {"axis": -1, "split": (size,) * parts}, names)

    def product(self, h: Value, weight: Value) -> Value:
        return self.emit("MatMul", [h, weight], {"transB": 1})

    def number(self, value: float) -> Value:
        return self.call.builder.constant(f"{self.label}/number", np.array(value, dtype=np.float32))

    def gate(self, index: int, x: Value) -> Value:
        """Activation `index` of a gate's sum, which is clipped first where the layer says so."""
        bound = float_attr(self.call.attrs, "clip", 0.0)
        if bound:
            x = self.emit("Clip", [x], {"min": -bound, "max": bound})
        return self.activate(index, x)

    def activate(self, index: int, x: Value) -> Value:
        own = self.activations[index]
        alpha, beta = own.alpha, own.beta
        if own.op == "Affine":
            scaled = self.emit("Mul", [x, self.number(1.0 if alpha is None else alpha)])
            return self.emit("Add", [scaled, self.number(beta or 0.0)])
        if own.op == "ScaledTanh":
            inner = self.emit("Mul", [x, self.number(1.0 if beta is None else beta)])
            return self.emit(
                "Mul", [self.emit("Tanh", [inner]), self.number(1.0 if alpha is None else alpha)]
            )
        attrs: dict[str, Attr] = {} if alpha is None else {"alpha": alpha}
        return self.emit(own.op, [x], attrs if beta is None else {**attrs, "beta": beta})

    def peeped(self, gate: int, x: Value, c: Value) -> Value:
        """A gate's sum with the cell state it looks at."""
        return self.emit("Add", [x, self.emit("Mul", [c, self.peepholes[gate]])]) if self.peepholes else x


_State = tuple[Value, ...]


def _lstm_step(cell: _Cell, x: Value, state: _State) -> _State:
    h, c = state
    i, o, f, g = cell.split(cell.emit("Add", [x, cell.product(h, cell.recurrent)]), 4)
    taken = cell.gate(0, cell.peeped(0, i, c))
    if int_attr(cell.call.attrs, "input_forget", 0):
        forgotten = cell.emit("Sub", [cell.number(1.0), taken])
    else:
        forgotten = cell.gate(0, cell.peeped(2, f, c))
    new = cell.emit("Mul", [taken, cell.gate(1, g)])
    c = cell.emit("Add", [cell.emit("Mul", [forgotten, c]), new])
    given = cell.gate(0, cell.peeped(1, o, c))
    return cell.emit("Mul", [given, cell.activate(2, c)]), c


def _rnn_step(cell: _Cell, x: Value, state: _State) -> _State:
    return (cell.gate(0, cell.emit("Add", [x, cell.product(state[0], cell.recurrent)])),)


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
    z, r = cell.split(cell.gate(0, cell.emit("Add", [x_zr, cell.product(h, r_zr)])), 2)
    if int_attr(cell.call.attrs, "linear_before_reset", 0):
        inner = cell.product(h, r_h)
        if cell.recurrent_bias is not None:
            inner = cell.emit("Add", [inner, cell.recurrent_bias])
        inner = cell.emit("Mul", [r, inner])
    else:
        inner = cell.product(cell.emit("Mul", [r, h]), r_h)
    new = cell.gate(1, cell.emit("Add", [x_h, inner]))
    # (1 - z) new + z h = new + z (h - new)
    return (cell.emit("Add", [new, cell.emit("Mul", [z, cell.emit("Sub", [h, new])])]),)


_STEPS: dict[str, Callable[[_Cell, Value, _State], _State]] = {
    "LSTM": _lstm_step,
    "GRU": _gru_step,
    "RNN": _rnn_step,
}


def recurrent(call: Call) -> tuple[Value | None, ...]:
    """LSTM, GRU or RNN of ONNX, with every attribute and input it defines.

    Raises:
        UnsupportedOpError: an input is missing, an activation is unknown, or there are too many time steps.
    """
    op, name = call.proto.op_type, call.proto.output[0] or f"{call.label}/y"
    x, r = call.need(0), call.need(2)
    call.need(1)
    batch_first = bool(int_attr(call.attrs, "layout", 0))
    if batch_first:
        (x,) = call.emit("Transpose", [x], {"perm": (1, 0, 2)}, [f"{name}/x"])
    steps, batch, _ = x.type.shape
    if steps > MAX_STEPS:
        raise call.refuse(f"{steps} time steps are more than {MAX_STEPS}")
    dirs, hidden = r.type.shape[0], r.type.shape[2]
    running = _Running(call, call.maybe(4), steps, name)
    kept: list[list[Value]] = []
    last: list[_State] = []
    for d in range(dirs):
        cell, projected = _direction(call, d, dirs, x, name)
        state = tuple(
            _initial(call, call.maybe(i), d, (dirs, batch, hidden), batch_first, f"{name}/start{d}{i}")
            for i in range(5, 7 if op == "LSTM" else 6)
        )
        backward = d == 1 or str_attr(call.attrs, "direction", "forward") == "reverse"
        rows: list[Value] = []
        for t in reversed(range(steps)) if backward else range(steps):
            at = call.builder.constant(f"{name}/at{t}", np.array(t, dtype=np.int64))
            after = _STEPS[op](cell, cell.emit("Gather", [projected, at], {"axis": 0}), state)
            rows.append(running.shown(cell, t, after[0]))
            state = running.kept(cell, t, after, state)
        kept.append(rows[::-1] if backward else rows)
        last.append(state)
    return _results(call, kept, last, batch_first, name)


@dataclass(frozen=True)
class _Running:
    """Which sequences of the batch still run at a step: beyond its length a sequence keeps its state and
    shows zeros. `lengths` [batch] may be data; None: all run to the end."""

    call: Call
    lengths: Value | None
    steps: int
    name: str

    def at(self, t: int) -> Value | None:
        """[batch, 1] of booleans, None when all run."""
        if self.lengths is None:
            return None
        known = known_array(self.lengths)
        if known is None:
            column = (self.lengths.type.elements, 1)
            (lengths,) = self.call.emit(
                "Reshape", [self.lengths], {"shape": column}, [f"{self.name}/lengths"]
            )
            step = np.array(t, dtype=f"int{self.lengths.type.bits}")
            place = self.call.builder.constant(f"{self.name}/step{t}", step)
            return self.call.emit("Less", [place, lengths], {}, [f"{self.name}/runs{t}"])[0]
        runs = known.reshape(-1, 1) > t
        return None if runs.all() else self.call.builder.constant(f"{self.name}/runs{t}", runs)

    def shown(self, cell: _Cell, t: int, h: Value) -> Value:
        runs = self.at(t)
        return h if runs is None else cell.emit("Where", [runs, h, cell.number(0.0)])

    def kept(self, cell: _Cell, t: int, after: _State, before: _State) -> _State:
        runs = self.at(t)
        if runs is None:
            return after
        return tuple(cell.emit("Where", [runs, a, b]) for a, b in zip(after, before, strict=True))


_ACTIVATIONS = {
    name.lower(): name
    for name in (
        "Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu", "Softsign",
        "Softplus", "Affine", "ScaledTanh",
    )
}  # fmt: skip
# Which parameters an activation takes from the lists of alphas and betas
_TAKES_ALPHA = ("HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu", "Affine", "ScaledTanh")
_TAKES_BETA = ("HardSigmoid", "Affine", "ScaledTanh")


def _activations(call: Call, d: int, dirs: int) -> tuple[_Activation, ...]:
    """The activations of direction d; alphas and betas are given in the order of those that take them."""
    defaults = _DEFAULTS[call.proto.op_type]
    named = call.attrs.get("activations", defaults * dirs)
    assert isinstance(named, tuple)
    alphas, betas = (list(_numbers(call.attrs.get(f"activation_{n}", ()))) for n in ("alpha", "beta"))
    found = []
    for name in named:
        op = _ACTIVATIONS.get(str(name).lower())
        if op is None:
            raise call.refuse(
                f"activation '{name}' is not supported", nearest(str(name), _ACTIVATIONS.values())
            )
        alpha = alphas.pop(0) if op in _TAKES_ALPHA and alphas else None
        beta = betas.pop(0) if op in _TAKES_BETA and betas else None
        found.append(_Activation(op, alpha, beta))
    per = len(defaults)
    return tuple(found[per * d : per * d + per])


def _numbers(attr: Attr) -> tuple[float, ...]:
    return tuple(float(v) for v in attr) if isinstance(attr, tuple) else (float(str(attr)),)


def _direction(call: Call, d: int, dirs: int, x: Value, name: str) -> tuple[_Cell, Value]:
    """The cell of direction d, and its biased input products [steps, batch, gates * hidden]."""
    op, label = call.proto.op_type, f"{name}/{d}"
    weights = [_pick(call, call.need(i), d, dirs, f"{label}/{n}") for i, n in ((1, "W"), (2, "R"))]
    bias, peeps = call.maybe(3), call.maybe(7)
    first = second = None
    if bias is not None:
        both = _pick(call, bias, d, dirs, f"{label}/B")
        size = both.type.shape[0] // 2
        first, second = call.emit(
            "Split", [both], {"axis": 0, "split": (size, size)}, [f"{label}/Wb", f"{label}/Rb"]
        )
    peepholes: tuple[Value, ...] = ()
    if peeps is not None:
        flat = _pick(call, peeps, d, dirs, f"{label}/P")
        hidden = flat.type.shape[0] // 3
        attrs: dict[str, Attr] = {"axis": 0, "split": (hidden,) * 3}
        peepholes = call.emit("Split", [flat], attrs, [f"{label}/P{n}" for n in "iof"])
    (projected,) = call.emit("MatMul", [x, weights[0]], {"transB": 1}, [f"{label}/projected"])
    separate = op == "GRU" and int_attr(call.attrs, "linear_before_reset", 0)
    if first is not None and second is not None:
        total, second = _biases(call, first, second, bool(separate), label)
        (projected,) = call.emit("Add", [projected, total], {}, [f"{label}/biased"])
    cell = _Cell(call, label, _activations(call, d, dirs), weights[1], first, second, peepholes)
    return cell, projected


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
