"""Walking the nodes of an ONNX graph and emitting them; control flow whose course is known is unrolled.

An `If` whose condition is a constant becomes its branch (else the dearer of both, which the graph notes as an
assumption), a `Loop` with a constant trip count and a `Scan`
become their iterations, one after another: a static graph has no control flow. Names inside a body are
local to it; names around it are visible in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UnsupportedOpError, UserError
from tetrasim.frontend.onnx.attributes import parse_attrs, subgraphs
from tetrasim.frontend.onnx.bounds import MAX_UNROLLED_NODES, TurnBudget
from tetrasim.frontend.onnx.builder import MALFORMED, Builder, known_array
from tetrasim.frontend.onnx.call import Call
from tetrasim.frontend.onnx.functions import expansion
from tetrasim.frontend.onnx.order import sort_nodes
from tetrasim.frontend.onnx.reader import initializer_type, proto_array
from tetrasim.frontend.onnx.rules import apply_rule, is_known
from tetrasim.frontend.onnx.stated import stated_types
from tetrasim.sim.ir.graph import Attr, Kind, Node, Source, TensorType, Value
from tetrasim.sim.ops.opdef import ShapeError, axis_of, int_attr, ints_attr
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.unmodelled import UNMODELLED

if TYPE_CHECKING:
    import onnx

Env = dict[str, Value | None]
_STANDARD = ("", "ai.onnx", "com.microsoft")
CONTROL_FLOW = ("If", "Loop", "Scan")
_TRACE_HINT = "export with control flow traced away, or prefill and step graphs with explicit states"

# Ops whose result has as many entries as the data say.
_BY_DATA = ("NonZero", "Unique", "Compress", "NonMaxSuppression")


@dataclass(frozen=True)
class _Branch:
    """A branch of an `If`: operations and bytes, its nodes, its results, what it takes for granted itself."""

    cost: tuple[int, int]
    nodes: list[Node]
    results: list[Value]
    assumptions: list[str]


class Walker:
    """Emits the nodes of a graph into a builder; `env` maps ONNX names to values.

    `allow_unmodelled`: an op without semantics here becomes `Unmodelled`, with the output types that the file
    states (their symbolic dims bound by `dims`), instead of an error. `rows`: how many entries to expect
    where data decide a shape, by the name of the output, the node or the dim."""

    def __init__(
        self,
        builder: Builder,
        env: Env,
        opset: int,
        dims: Mapping[str, int] | None = None,
        allow_unmodelled: bool = False,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        self.builder = builder
        self.env = env
        self.opset = opset
        self.dims = dims or {}
        self.allow_unmodelled = allow_unmodelled
        self.rows = rows or {}
        self.budget = TurnBudget()

    def run(self, graph: onnx.GraphProto | onnx.FunctionProto) -> None:
        """Emit every node.

        Raises:
            UserError: naming the node.
        """
        for proto in graph.node:
            where = f"node '{proto.name or proto.op_type}'"
            try:
                outputs = self._node(graph, proto, where)
            except ShapeError as error:
                raise UserError(f"{proto.op_type}: {error.what}", where=where, hint=error.hint) from error
            except MALFORMED as error:
                raise UserError(f"{proto.op_type} is malformed: {error!r}", where=where) from error
            self.env.update((n, v) for n, v in zip(proto.output, outputs, strict=False) if n)

    def _node(
        self, graph: onnx.GraphProto | onnx.FunctionProto, proto: onnx.NodeProto, where: str
    ) -> Sequence[Value | None]:
        for name in proto.input:
            if name not in self.env:
                raise UserError(f"reads '{name}', which nothing computes", where=where)
        inputs = [self.env[name] for name in proto.input]
        if proto.domain in _STANDARD and proto.op_type in CONTROL_FLOW:
            return self._control(proto, inputs, where)
        try:
            return self._op(proto, inputs, where)
        except UnsupportedOpError as refusal:
            return self._unmodelled(graph, proto, inputs, refusal)

    def _op(
        self, proto: onnx.NodeProto, inputs: Sequence[Value | None], where: str
    ) -> Sequence[Value | None]:
        if proto.op_type == UNMODELLED:  # a name of this program, not of ONNX
            raise UnsupportedOpError(f"op '{UNMODELLED}' is not supported", where=where)
        call = Call(self.builder, proto, inputs, parse_attrs(proto), _source(proto), self.opset)
        if not is_known(proto.op_type, proto.domain):
            body = expansion(proto, self.opset, [None if v is None else v.type for v in inputs])
            if body is not None:
                return self._expand(body, inputs)
        return apply_rule(call)

    def _expand(self, body: onnx.FunctionProto, inputs: Sequence[Value | None]) -> Sequence[Value | None]:
        """The outputs of a function's body, whose names are its own."""
        outer, opset = dict(self.env), self.opset
        self.env.clear()
        self.env[""] = None
        self.env.update(dict.fromkeys(body.input))
        self.env.update(zip(body.input, inputs, strict=False))
        self.opset = next((o.version for o in body.opset_import if o.domain in ("", "ai.onnx")), opset)
        try:
            self.run(body)
            return [self.env.get(name) for name in body.output]
        finally:
            self.opset = opset
            self.env.clear()
            self.env.update(outer)

    def _unmodelled(
        self,
        graph: onnx.GraphProto | onnx.FunctionProto,
        proto: onnx.NodeProto,
        inputs: Sequence[Value | None],
        refusal: UnsupportedOpError,
    ) -> Sequence[Value | None]:
        """Refuse, or stand in for the op with what the file says about its outputs."""
        names = [name for name in proto.output if name]
        by_data = proto.op_type in _BY_DATA and bool(names)
        option = "`--allow-unmodelled` of `tetrasim run` and `tetrasim import` counts it as zero"
        try:
            expected = self._expected(proto, inputs)
            types = expected or stated_types(graph, names, {**self.dims, **self.rows})
        except UserError as missing:
            if not self.allow_unmodelled:
                known = f"with --expect {names[0]}=ROWS" if by_data else "if the file states its output types"
                hint = f"{refusal.hint}; {option} {known}".removeprefix("; ")
                raise UnsupportedOpError(refusal.what, where=refusal.where, hint=hint) from None
            what = f"{refusal.what}, and {missing.what}"
            raise UnsupportedOpError(what, where=refusal.where, hint=missing.hint) from None
        if not self.allow_unmodelled:
            hint = f"{refusal.hint}; {option}".removeprefix("; ")
            raise UnsupportedOpError(refusal.what, where=refusal.where, hint=hint) from None
        attrs = {"op_type": proto.op_type, "domain": proto.domain}
        label = proto.name or proto.op_type
        made = self.builder.append(UNMODELLED, inputs, names, types, attrs, _source(proto), label)
        by_name: dict[str, Value | None] = dict(zip(names, made, strict=True))
        return [by_name.get(name) for name in proto.output]

    def _expected(
        self, proto: onnx.NodeProto, inputs: Sequence[Value | None]
    ) -> tuple[TensorType, ...] | None:
        """The types of what a node gives whose first output has as many entries as the user expects."""
        found = next((self.rows[name] for name in (*proto.output, proto.name) if name in self.rows), None)
        given = inputs[0] if inputs else None
        if found is None or given is None or proto.op_type not in _BY_DATA:
            return None
        index = TensorType((found,), Kind.INT, 64)
        if proto.op_type == "NonZero":
            return (replace(index, shape=(max(len(given.type.shape), 1), found)),)
        if proto.op_type == "NonMaxSuppression":
            return (replace(index, shape=(found, 3)),)
        axis = parse_attrs(proto).get("axis")
        shape = (found,) if not isinstance(axis, int) else _with_rows(given.type.shape, axis, found)
        kept = replace(given.type, shape=shape)
        taken = given.type.elements if not isinstance(axis, int) else given.type.shape[axis]
        inverse = TensorType((taken,), Kind.INT, 64)
        several = (kept, index, inverse, index)
        return tuple(several[i] for i, name in enumerate(proto.output) if name)

    def _control(
        self, proto: onnx.NodeProto, inputs: Sequence[Value | None], where: str
    ) -> Sequence[Value | None]:
        if proto.op_type == "If":
            return self._branch(proto, inputs, where)
        if proto.op_type == "Scan":
            return self._scan(proto, inputs, parse_attrs(proto))
        return self._loop(proto, inputs, where)

    def _inline(self, body: onnx.GraphProto, arguments: Sequence[Value | None]) -> list[Value]:
        """The outputs of a body for its arguments."""
        self.budget.turn(len(body.node))
        outer = dict(self.env)
        for proto, value in zip(body.input, arguments, strict=True):
            self.env[proto.name] = value
        for init in body.initializer:
            self.env[init.name] = self.builder.constant(init.name, proto_array(init), initializer_type(init))
        sort_nodes(body, f"graph '{body.name}'", inside=True)
        self.run(body)
        results = [self.env[v.name] for v in body.output]
        self.env.clear()
        self.env.update(outer)
        return [_present(v) for v in results]

    def _branch(self, proto: onnx.NodeProto, inputs: Sequence[Value | None], where: str) -> list[Value]:
        condition, branches = _known(inputs[0]), subgraphs(proto)
        if condition is None:
            return self._dearer(branches, where)
        taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        return self._inline(branches[taken], ())

    def _dearer(self, branches: Mapping[str, onnx.GraphProto], where: str) -> list[Value]:
        """A branch that run-time data choose: the dearer one is taken, by operations, then by bytes."""
        tried = {name: self._try(branches[f"{name}_branch"]) for name in ("then", "else")}
        taken = max(tried, key=lambda name: tried[name].cost)
        chosen, other = tried[taken], tried["else" if taken == "then" else "then"]
        self.builder.nodes.extend(chosen.nodes)
        text = (
            f"{where} chooses its branch by run-time data: the dearer one ({taken}, {chosen.cost[0]} "
            f"operations and {chosen.cost[1]} bytes, not {other.cost[0]} and {other.cost[1]}) is priced"
        )
        self.builder.assumptions += [text, *chosen.assumptions]
        return chosen.results

    def _try(self, body: onnx.GraphProto) -> _Branch:
        """A branch as it would be emitted; the builder is left without it."""
        nodes, assumptions = self.builder.nodes, self.builder.assumptions
        first, before = len(nodes), len(assumptions)
        results = self._inline(body, ())
        works = [work_of(node) for node in nodes[first:] if node.op != UNMODELLED]
        cost = (sum(2 * w.macs + w.vector_ops for w in works), sum(w.nbytes for w in works))
        branch = _Branch(cost, nodes[first:], results, assumptions[before:])
        del nodes[first:], assumptions[before:]
        return branch

    def _scan(
        self, proto: onnx.NodeProto, inputs: Sequence[Value | None], attrs: dict[str, Attr]
    ) -> list[Value]:
        """States pass from one iteration to the next; scan inputs are sliced, scan outputs stacked."""
        if self.opset < 9:
            raise ShapeError(
                "the form of opset 8 is not supported", hint="convert the file to opset 9 or later"
            )
        body, count = subgraphs(proto)["body"], int_attr(attrs, "num_scan_inputs")
        states = [_present(v) for v in inputs[: len(inputs) - count]]
        scanned = [_present(v) for v in inputs[len(inputs) - count :]]
        axes = ints_attr(attrs, "scan_input_axes", (0,) * count)
        backward = ints_attr(attrs, "scan_input_directions", (0,) * count)
        axes = tuple(axis_of(a, len(x.type.shape)) for a, x in zip(axes, scanned, strict=True))
        steps = scanned[0].type.shape[axes[0]]
        self.budget.foresee(steps, len(body.node))
        stacks: list[list[Value]] = [[] for _ in range(len(body.output) - len(states))]
        for t in range(steps):
            slices = [
                self._take(proto, x, steps - 1 - t if turn else t, axis)
                for x, axis, turn in zip(scanned, axes, backward, strict=True)
            ]
            results = self._inline(body, (*states, *slices))
            states = results[: len(states)]
            for stack, value in zip(stacks, results[len(states) :], strict=True):
                stack.append(value)
        out_axes = ints_attr(attrs, "scan_output_axes", (0,) * len(stacks))
        turned = ints_attr(attrs, "scan_output_directions", (0,) * len(stacks))
        names = list(proto.output)[len(states) :]
        return states + [
            self._stack(proto, stack[::-1] if turn else stack, axis, name)
            for stack, axis, turn, name in zip(stacks, out_axes, turned, names, strict=True)
        ]

    def _loop(self, proto: onnx.NodeProto, inputs: Sequence[Value | None], where: str) -> list[Value]:
        """A loop whose trip count, or whose condition at every turn, is a constant."""
        body = subgraphs(proto)["body"]
        trips, going = _known(inputs[0]), _known(inputs[1] if len(inputs) > 1 else None)
        if (inputs[0] is not None and trips is None) or (trips is None and going is None):
            raise UnsupportedOpError("Loop runs as often as run-time data say", where=where, hint=_TRACE_HINT)
        most = MAX_UNROLLED_NODES if trips is None else int(trips.reshape(-1)[0])
        if trips is not None and (going is None or bool(going.reshape(-1)[0])):
            self.budget.foresee(most, len(body.node))
        carried = [_present(v) for v in inputs[2:]]
        stacks: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
        go = going is None or bool(going.reshape(-1)[0])
        t = 0
        while go and t < most:
            index = self.builder.constant(f"{proto.output[0]}/turn{t}", np.array(t, dtype=np.int64))
            flag = self.builder.constant(f"{proto.output[0]}/going{t}", np.array(True))
            condition, *results = self._inline(body, (index, flag, *carried))
            known = _known(condition)
            if known is None:
                raise UnsupportedOpError("Loop ends when run-time data say so", where=where, hint=_TRACE_HINT)
            carried = results[: len(carried)]
            for stack, value in zip(stacks, results[len(carried) :], strict=True):
                stack.append(value)
            go, t = bool(known.reshape(-1)[0]), t + 1
        names = list(proto.output)[len(carried) :]
        return carried + [self._stack(proto, s, 0, n) for s, n in zip(stacks, names, strict=True)]

    def _take(self, proto: onnx.NodeProto, x: Value, index: int, axis: int) -> Value:
        at = self.builder.constant(f"{proto.output[0]}/at{index}", np.array(index, dtype=np.int64))
        name = f"{proto.name or proto.op_type}/{x.name}[{index}]"
        return self.builder.emit("Gather", [x, at], [name], {"axis": axis}, name=name)[0]

    def _stack(self, proto: onnx.NodeProto, values: Sequence[Value], axis: int, name: str) -> Value:
        if not values:
            raise ShapeError("no iteration, hence no scan output")
        shape = list(values[0].type.shape)
        axis = axis_of(axis, len(shape) + 1)
        shape.insert(axis, 1)
        label = proto.name or proto.op_type
        rows = [
            self.builder.emit("Reshape", [v], [f"{name}/{t}"], {"shape": tuple(shape)}, name=f"{label}/{t}")[
                0
            ]
            for t, v in enumerate(values)
        ]
        return self.builder.emit("Concat", rows, [name], {"axis": axis}, name=label)[0]


def _known(value: Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    return None if value is None else known_array(value)


def _present(value: Value | None) -> Value:
    if value is None:
        raise ShapeError("an input or output of its body is missing")
    return value


def _source(proto: onnx.NodeProto) -> Source:
    return Source((proto.name,) if proto.name else (), module_path(proto))


def module_path(proto: onnx.NodeProto) -> str:
    """The torch module a node comes from: the exporter's metadata, or the path in a TorchScript node name."""
    for entry in proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [s.strip(" '\"") for s in entry.value.strip("[]").split(",")]
            named = [s for s in scopes[:-1] if s]
            return named[-1] if named else ""
    if proto.name.startswith("/"):
        return proto.name.strip("/").rpartition("/")[0].replace("/", ".")
    return ""


def _with_rows(shape: tuple[int, ...], axis: int, rows: int) -> tuple[int, ...]:
    at = axis % max(len(shape), 1)
    return (*shape[:at], rows, *shape[at + 1 :])
