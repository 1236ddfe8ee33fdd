"""One ONNX node about to be emitted: what an operator rule is given, and how it answers.

A rule is a function `(call) -> output values`. It emits the ops of `sim/ops/`, names an absent output
None, and refuses, with the node's name, what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tetrasim.errors import UnsupportedOpError
from tetrasim.frontend.onnx.builder import Builder
from tetrasim.sim.ir.graph import Attr, Source, Value

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
        attrs: Mapping[str, Attr] | None = None,
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

    def maybe(self, index: int) -> Value | None:
        """Input `index`, None when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def out(self, index: int) -> str:
        """The name of output `index`, "" when nobody wants it."""
        return self.proto.output[index] if index < len(self.proto.output) else ""


Rule = Callable[[Call], tuple[Value | None, ...]]


@dataclass(frozen=True)
class Refusal:
    """A rule that always refuses."""

    why: str
    hint: str

    def __call__(self, call: Call) -> tuple[Value | None, ...]:
        raise call.refuse(self.why, self.hint)
