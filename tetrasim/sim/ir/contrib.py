"""ORT's `com.microsoft` ops, as its optimiser writes them, in terms of standard ones."""

from __future__ import annotations

from tetrasim.sim.ir.canonical import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value

CONTRIB: dict[str, Rule] = {}


def _gelu(call: Call) -> tuple[Value, ...]:
    return call.emit("Gelu", call.inputs[:1], {"approximate": "none"})


CONTRIB["Gelu"] = _gelu
_ = Attr
