"""torch module -> ONNX graph by the dynamo exporter, without touching a weight.

The module lives on torch's meta device: tracing sees shapes and types only, so a 70-billion-parameter model
costs no more than a small one. Initializers leave here without values; `weight_file.py` attaches them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tetrasim.export.phases import Phase, Port

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch import nn

OPSET = 20
_SCOPES = "pkg.torch.onnx.name_scopes"
# Distinct sizes at tracing, none of them 1, so that the exporter cannot mistake one dim for another.
_EXAMPLE_SIZES = {"batch": 2, "seq": 7, "past": 5}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter's progress prints and warnings say nothing that its user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def trace_phase(module: nn.Module, phase: Phase) -> ir.Model:
    """The graph of `phase`, dims named, inputs and outputs named as the phase says, weights without data."""
    import torch

    flat = [_example(port) for port in phase.inputs]
    dims = [
        {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(port.shape) if isinstance(dim, str)}
        for port in phase.inputs
    ]
    split = len(flat) - len(phase.states)
    args: tuple[Any, ...] = tuple(flat[:split])
    shapes: tuple[Any, ...] = tuple(dims[:split])
    if phase.states:
        args, shapes = (*args, flat[split:]), (*shapes, dims[split:])
    model = trace(module, args, shapes)
    name_symbols(model, {port.name: port.shape for port in phase.inputs}, [p.name for p in phase.inputs])
    for value, out in zip(model.graph.outputs, phase.outputs, strict=True):
        value.name = out.name
    _unify_sizes(model, phase)
    return model


def _unify_sizes(model: ir.Model, phase: Phase) -> None:
    """Read each named dim once: torch reads `past` from every layer's cache, which is one and the same."""
    import onnx_ir as ir
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

    ports = {port.name: port for port in phase.inputs}
    first: dict[tuple[int | str, ...], ir.Value] = {}
    for node in tuple(model.graph):
        source = node.inputs[0] if node.op_type == "Shape" else None
        if source is None or source.name not in ports:
            continue
        start, end = (node.attributes.get_int(key, None) for key in ("start", "end"))
        found = first.setdefault(ports[source.name].shape[start:end], node.outputs[0])
        if found is not node.outputs[0]:
            ir.convenience.replace_all_uses_with(node.outputs[0], found)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedNodesPass()(model)


def trace(module: nn.Module, args: tuple[Any, ...], dynamic_shapes: Any) -> ir.Model:
    """torch.export, translation to ONNX, and clean-up on shapes (constants folded, duplicates merged).

    float32 parameters and buffers come out without values; constants of the code keep theirs.
    """
    import torch
    from onnxscript import optimizer

    with quiet(), torch.no_grad():
        program = torch.export.export(module, args, dynamic_shapes=dynamic_shapes, strict=False)
        exported = torch.onnx.export(
            program, args, dynamo=True, optimize=False, opset_version=OPSET, verbose=False
        )
        assert exported is not None
        model = exported.model
        weights = float32_tensors(module)
        for name, value in model.graph.initializers.items():
            if name in weights:
                value.const_value = None
        optimizer.optimize_ir(model, onnx_shape_inference=False)
    return model


def float32_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers that the weight file holds, by name; a shared one under each of its names."""
    import torch

    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    return {name: value for name, value in named if value.dtype == torch.float32}


def name_symbols(model: ir.Model, shapes: Mapping[str, Sequence[int | str]], names: Sequence[str]) -> None:
    """Give the graph's inputs their names and its symbolic dims (`s72`) the names in `shapes`."""
    import onnx_ir as ir

    symbols: dict[str, str] = {}
    for value, name in zip(model.graph.inputs, names, strict=True):
        value.name = name
        assert value.shape is not None
        for found, wanted in zip(value.shape, shapes[name], strict=True):
            if isinstance(found, ir.SymbolicDim) and found.value is not None and isinstance(wanted, str):
                symbols[found.value] = wanted
    values = [*model.graph.inputs, *(out for node in model.graph for out in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, symbols) for dim in value.shape])


def _renamed(dim: Any, symbols: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return None
    return re.sub(r"\bs\d+\b", lambda m: symbols.get(m.group(), m.group()), str(dim.value))


def scope_of(node: ir.Node) -> str:
    """The torch module path of a node, `blocks.3.attention.query`, or the empty string."""
    import ast

    text = node.metadata_props.get(_SCOPES)
    if not text:
        return ""
    scopes = ast.literal_eval(text)
    return str(scopes[-2]) if len(scopes) > 1 and not scopes[0] else ""


def has_scope(node: ir.Node) -> bool:
    """False for a node that a clean-up of the graph made."""
    return _SCOPES in node.metadata_props


def tidy(model: ir.Model) -> None:
    """Names that read like the module tree, and metadata cut down to the module path."""
    used: dict[str, int] = {}
    fixed = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph:
        scope = scope_of(node) if has_scope(node) else _scope_of_readers(node)
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        count = used.get(name, 0)
        used[name] = count + 1
        node.name = f"{name}_{count}" if count else name
        for i, value in enumerate(node.outputs):
            if id(value) not in fixed:
                value.name = f"{node.name}.{i}" if i else f"{node.name}.out"
        node.metadata_props.clear()
        if scope:
            node.metadata_props[_SCOPES] = repr(["", scope, node.op_type])
        node.doc_string = None


def _scope_of_readers(node: ir.Node) -> str:
    """A node that a clean-up made (Split) belongs to the module that reads it."""
    scopes = {scope_of(use.node) for value in node.outputs for use in value.uses()}
    return scopes.pop() if len(scopes) == 1 else ""


def _example(port: Port) -> Any:
    import torch

    shape = [_EXAMPLE_SIZES.get(d, 3) if isinstance(d, str) else d for d in port.shape]
    return torch.zeros(shape, dtype=getattr(torch, port.dtype), device="meta")
