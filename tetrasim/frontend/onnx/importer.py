"""ONNX file -> `Graph` with every shape a number.

Shapes are propagated from the bound input dims through `OpDef.infer`, node by node, while everything that
depends on shapes and constants is folded (`builder.py`). Exporter styles differ mostly in what they leave
to be folded, so both the dynamo and the TorchScript exporter's files, and ORT-optimised ones
(`rules/microsoft/`), go through the same path. Caches are paired by name (`states.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.frontend.onnx.builder import Builder
from tetrasim.frontend.onnx.dims import check_dims, evaluate, input_shape, symbols_of
from tetrasim.frontend.onnx.element_types import onnx_type
from tetrasim.frontend.onnx.reader import (
    embedded_data,
    external_data,
    initializer_type,
    is_external,
    read_model,
    weights_absent,
)
from tetrasim.frontend.onnx.states import finish, is_held, state_pairs
from tetrasim.frontend.onnx.walker import Env, Walker
from tetrasim.sim.ir.family import GraphFamily, constant_family, family_from
from tetrasim.sim.ir.graph import Data, Graph, Kind, Role, Value
from tetrasim.sim.ops.dtypes import numpy_dtype
from tetrasim.sim.passes.pipeline import standard

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from tetrasim.sim.ir.graph import TensorType

_SMALL_INITIALIZER = 1 << 20


def symbolic_dims(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Symbolic dims of a file -> the inputs that have each.

    Raises:
        UserError: as `import_onnx`.
    """
    return symbols_of(read_model(Path(path)).graph)


def import_onnx(
    path: str | Path,
    dims: Mapping[str, int] | None = None,
    *,
    name: str | None = None,
    states: Mapping[str, str] | None = None,
    kept: Collection[str] = (),
    rewrites: bool = True,
    allow_unmodelled: bool = False,
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
) -> Graph:
    """The graph of `path` with its symbolic dims bound to `dims`.

    `values` makes constants of inputs that decide the graph: `{"sr": "16000"}`, numbers separated by commas,
    true or false. `rows` says how many entries to expect where data decide a shape, by the name of the
    output, the node or the dim (with `allow_unmodelled`).

    `states` maps state inputs to the outputs that replace them; None: found by name (`past…`/`present…`).
    `kept` names the outputs of a prefill graph that another graph reads as its state, whatever their names.
    `rewrites`: run the standard passes (`passes/pipeline.py`, which also says why a pattern did not match);
    off: the file's own ops. `allow_unmodelled`: an op without semantics here becomes a node that costs
    nothing (`sim/ops/unmodelled.py`), where the file states its output types.

    Raises:
        UserError: unreadable or hostile file, unbound dim, unsupported op, shapes that do not fit.
    """
    path = Path(path)
    told = Told(dict(dims or {}), dict(values or {}), dict(rows or {}), allow_unmodelled, tuple(kept))
    graph = _build(read_model(path), path, told, name or path.stem, states)
    return standard(graph)[0] if rewrites else graph


def import_family(
    path: str | Path,
    dims: Mapping[str, int | str] | None = None,
    *,
    symbol: str = "past",
    contexts: Sequence[int] = (32, 52),
    name: str | None = None,
    states: Mapping[str, str] | None = None,
    rewrites: bool = True,
    allow_unmodelled: bool = False,
) -> GraphFamily:
    """The step graph of `path` at every context length: three imports that differ in `dims[symbol]`, at the
    first of `contexts`, a little later, and at the last one (or further) as the proof. A dim that moves with
    the symbol is an expression of it: `{"total": "past + 1"}`.

    Raises:
        UserError: as `import_onnx`; or a dim that is not affine in the symbol.
    """
    path = Path(path)
    model = read_model(path)
    bound = dict(dims or {})

    def at(context: int | None) -> Graph:
        known = {symbol: context} if context is not None else {}
        known = {name: _bound(name, size, known) for name, size in bound.items()} | known
        graph = _build(model, path, Told(known, {}, {}, allow_unmodelled), name or path.stem, states)
        # a dim derived from the symbol is no dim of the family
        own = tuple((name, size) for name, size in graph.dims if not isinstance(bound.get(name), str))
        graph = replace(graph, dims=own)
        return standard(graph)[0] if rewrites else graph

    if symbol not in symbols_of(model.graph):
        return constant_family(at(None))
    first = contexts[0]
    return family_from(at(first), at(first + 7), at(max(contexts[-1], first + 20)), symbol)


def _bound(name: str, size: int | str, symbols: Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    found = evaluate(size, symbols)
    if found is None:
        raise UserError(f"dim '{name}' = '{size}' is no expression of {', '.join(symbols) or 'numbers'}")
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a file beside it: dims, values of inputs, expected rows; whether ops may be free;
    the outputs that another graph reads as its state."""

    dims: dict[str, int]
    values: dict[str, str]
    rows: dict[str, int]
    allow_unmodelled: bool
    kept: tuple[str, ...] = ()


def _build(
    model: onnx.ModelProto, path: Path, told: Told, name: str, states: Mapping[str, str] | None
) -> Graph:
    graph, dims = model.graph, told.dims
    check_dims(graph, dims, str(path))
    _check_values(graph, told.values, path)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 20)
    pairs = state_pairs([v.name for v in graph.input], [v.name for v in graph.output], states, str(path))
    builder, env = Builder(), Env({"": None})
    _load_initializers(model, path, builder, env)
    inputs = _load_inputs(graph, told, pairs, builder, env, named=states is None)
    Walker(builder, env, opset, dims, told.allow_unmodelled, told.rows).run(graph)
    outputs = []
    for wanted in graph.output:
        value = env.get(wanted.name)
        if value is None:
            raise UserError(f"output '{wanted.name}' is never computed", where=str(path))
        outputs.append((wanted.name, value))
    return finish(name, builder, inputs, outputs, pairs, tuple(dims.items()), told.kept)


def _load_initializers(model: onnx.ModelProto, path: Path, builder: Builder, env: Env) -> None:
    absent = weights_absent(model)
    for proto in model.graph.initializer:
        type = initializer_type(proto)
        external = is_external(proto)
        weight = bool(type.shape) and (
            type.kind in (Kind.FLOAT, Kind.BFLOAT) or (type.bits <= 8 and type.kind is not Kind.BOOL)
        )
        data: Data | None = None
        if external and not absent:
            data = external_data(proto, path.parent, type)
        elif not external:
            data = embedded_data(proto, type)
        if not weight and data is not None and type.elements <= _SMALL_INITIALIZER:
            env[proto.name] = builder.constant(proto.name, data.load(), type)
        else:
            role = Role.WEIGHT if weight else Role.CONSTANT
            env[proto.name] = Value(builder.fresh(proto.name), type, role, data)


def _load_inputs(
    graph: onnx.GraphProto,
    told: Told,
    pairs: Mapping[str, str],
    builder: Builder,
    env: Env,
    *,
    named: bool,
) -> list[Value]:
    """Run-time inputs. One that is also an initializer has a default: the constant is used. One whose value
    the user gives is a constant too. `named`: names say which of them are state, beside the pairs."""
    values = []
    for proto in graph.input:
        if proto.name in env:
            continue
        if not proto.type.HasField("tensor_type") or not proto.type.tensor_type.HasField("shape"):
            raise UserError(
                f"input '{proto.name}' is no tensor, or has no shape", hint="export it with shapes"
            )
        tensor, shape = proto.type.tensor_type, input_shape(proto, told.dims)
        type = onnx_type(tensor.elem_type, shape)
        if proto.name in told.values:
            env[proto.name] = builder.constant(proto.name, given_value(proto.name, told.values, type), type)
            continue
        state = proto.name in pairs or (named and is_held(proto.name, type))
        value = Value(builder.fresh(proto.name), type, Role.STATE if state else Role.INPUT)
        env[proto.name] = value
        values.append(value)
    return values


def _check_values(graph: onnx.GraphProto, values: Mapping[str, str], path: Path) -> None:
    names = [proto.name for proto in graph.input]
    for name in values:
        if name not in names:
            raise UserError(f"the model has no input '{name}'", where=str(path), hint=nearest(name, names))


def given_value(name: str, values: Mapping[str, str], type: TensorType) -> NDArray[Any]:
    """The value of an input as the user writes it, one number for all of its elements or one for each."""
    words = [word.strip().lower() for word in values[name].split(",")]
    try:
        numbers = [float({"true": "1", "false": "0"}.get(word, word)) for word in words]
        whole = np.array(numbers)
        array = np.broadcast_to(whole if len(words) > 1 else whole[0], type.shape)
    except ValueError:
        raise UserError(
            f"'{values[name]}' is no value of input '{name}', which is {type}",
            where="--input",
            hint=f"write --input {name}=NUMBER, or as many numbers as it has elements, separated by commas",
        ) from None
    return np.ascontiguousarray(array).astype(numpy_dtype(type))
