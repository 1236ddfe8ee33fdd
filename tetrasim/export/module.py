"""`export_module`: a user's own torch module becomes the same kind of folder as a preset.

The module's forward must be traceable by torch.export (no data-dependent branches). A model that generates
brings two phases, `prefill` and `step`, of one or two modules that share their weights by name; the step
takes its caches as inputs and returns them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.errors import UnsupportedOpError, UserError
from tetrasim.export import cache
from tetrasim.export.exporter import save_graph
from tetrasim.export.manifest import (
    MANIFEST,
    SCHEMA,
    Check,
    ExportedModel,
    Manifest,
    read_manifest,
    write_manifest,
)
from tetrasim.export.phases import Dim, Phase, Port
from tetrasim.files.read import sha256_of
from tetrasim.files.write import check_free, new_folder

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    import torch
    from numpy.typing import NDArray
    from torch import nn

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PHASES = ("forward", "prefill", "step")


@dataclass(frozen=True, eq=False)
class ModulePhase:
    """One graph to export.

    Args:
        module: called with the tensors of `inputs` in order.
        inputs: example tensors by input name; sizes of open dims should be above 1 and differ.
        outputs: names of the outputs, in order.
        dims: open dims: input name -> axis -> symbol, such as {"input_ids": {0: "batch", 1: "seq"}}.
        states: state input -> the output that replaces it, such as {"past_key.0": "present_key.0"}.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: Sequence[str] = ("output",)
    dims: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is exported, traced and not yet written."""

    name: str
    phases: Mapping[str, ModulePhase]
    described: Mapping[str, Phase]
    models: Mapping[str, ir.Model]
    tensors: Mapping[str, torch.Tensor]
    weights: bool
    check: bool


def export_module(
    name: str,
    phases: Mapping[str, ModulePhase],
    output: str | Path,
    *,
    weights: bool = True,
    check: bool = True,
) -> ExportedModel:
    """Export torch modules to a new folder, checked on their example inputs.

    Args:
        name: of the model, for reports.
        phases: {"forward": …}, or {"prefill": …, "step": …}.
        output: the folder to write.
        weights: False writes shapes and types only (a module on the meta device needs it).
        check: compare torch, onnxruntime and the interpreter (only with weights).

    Raises:
        UserError: names, dims or states that do not fit the modules, a module that torch cannot trace, or
            a folder that exists.
    """
    target = Path(output)
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot name a model", hint="use letters, digits, '.', '_' and '-'")
    if not phases or any(phase not in _PHASES for phase in phases):
        raise UserError(f"phases {sorted(phases)}", hint="give 'forward', or 'prefill' and 'step'")
    check_free(target, MANIFEST)
    described = {phase: _describe(phase, spec) for phase, spec in phases.items()}
    tensors = _tensors(phases.values())
    models = {phase: _trace(spec, described[phase]) for phase, spec in phases.items()}
    job = _Job(name, phases, described, models, tensors, weights, check)
    with new_folder(target, replace=True) as folder:
        write_manifest(folder, _write(job, folder))
    return ExportedModel(target, read_manifest(target))


def _describe(name: str, spec: ModulePhase) -> Phase:
    """The phase's ports from the example tensors and the names of open dims."""
    for given in (*spec.dims, *spec.states):
        if given not in spec.inputs:
            raise UserError(
                f"phase '{name}' has no input '{given}'", hint=f"it has: {', '.join(spec.inputs)}"
            )
    for after in spec.states.values():
        if after not in spec.outputs:
            raise UserError(
                f"phase '{name}' has no output '{after}'", hint=f"it has: {', '.join(spec.outputs)}"
            )
    ports = tuple(_port(key, value, spec.dims.get(key, {})) for key, value in spec.inputs.items())
    outputs = tuple(Port(key, "", ()) for key in spec.outputs)
    return Phase(name, ports, outputs, tuple(spec.states.items()))


def _port(name: str, value: torch.Tensor, symbols: Mapping[int, str]) -> Port:
    shape: list[Dim] = [symbols.get(axis, size) for axis, size in enumerate(value.shape)]
    limit = 0 if value.is_floating_point() or value.is_meta else int(value.max()) + 1
    return Port(name, str(value.dtype).removeprefix("torch."), tuple(shape), limit)


def _trace(spec: ModulePhase, phase: Phase) -> ir.Model:
    import torch

    from tetrasim.export.trace import name_symbols, trace

    dims = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis in spec.dims.get(key, {})} or None for key in spec.inputs
    )
    try:
        model = trace(spec.module.eval(), tuple(spec.inputs.values()), dims)
    except Exception as err:
        first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise UserError(
            f"torch cannot export the module {type(spec.module).__name__}: {first}",
            where=f"phase '{phase.name}'",
            hint="see the error above this one, and docs/models.md for what traces",
        ) from err
    if len(model.graph.outputs) != len(phase.outputs):
        raise UserError(
            f"the module returns {len(model.graph.outputs)} tensors, {len(phase.outputs)} are named",
            where=f"phase '{phase.name}'",
            hint="name every output, in order",
        )
    _refuse_fixed(model, phase)
    name_symbols(
        model, {port.name: port.shape for port in phase.inputs}, [port.name for port in phase.inputs]
    )
    for value, port in zip(model.graph.outputs, phase.outputs, strict=True):
        value.name = port.name
    return model


def _refuse_fixed(model: ir.Model, phase: Phase) -> None:
    for value, port in zip(model.graph.inputs, phase.inputs, strict=True):
        assert value.shape is not None
        for found, wanted in zip(value.shape, port.shape, strict=True):
            if isinstance(found, int) and isinstance(wanted, str):
                raise UserError(
                    f"dim '{wanted}' of input '{port.name}' cannot stay open: the module fixes it to {found}",
                    where=f"phase '{phase.name}'",
                    hint="leave it out of dims, or remove what fixes it",
                )


def _tensors(phases: Iterable[ModulePhase]) -> dict[str, torch.Tensor]:
    """The weights of all phases by name, as they go into one file."""
    from tetrasim.export.trace import float32_tensors

    found: dict[str, torch.Tensor] = {}
    for spec in phases:
        for key, parameter in spec.module.named_parameters():
            if parameter.is_floating_point() and parameter.element_size() != 4:
                raise UserError(
                    f"parameter '{key}' is {parameter.dtype}",
                    hint="export module.float(): each target chooses its own formats afterwards",
                )
        for key, value in float32_tensors(spec.module).items():
            if found.setdefault(key, value).shape != value.shape:
                raise UserError(f"the phases disagree on the shape of '{key}'", hint="give them one model")
    return found


def _write(job: _Job, folder: Path) -> Manifest:
    """Graphs, weights and checks into `folder`."""
    from tetrasim.export import weight_file

    used = {key for model in job.models.values() for key in model.graph.initializers}
    shapes = {key: tuple(value.shape) for key, value in job.tensors.items() if key in used}
    slots = weight_file.lay_out(shapes, weight_file.foldable_transposes(list(job.models.values())))
    files = tuple(
        save_graph(job.name, _with_outputs(phase, model), model, slots, folder, with_weights=job.weights)
        for phase, model in ((job.described[key], job.models[key]) for key in job.phases)
    )
    checks: tuple[Check, ...] = ()
    note = "the weights are absent"
    if job.weights:
        weight_file.write(folder / weight_file.FILE, slots, 0, _arrays(job.tensors, shapes))
        checks, note = _checks(job, folder) if job.check else ((), "not asked for")
    weights_sha256 = ""
    content = "".join(entry.sha256 for entry in files)
    if job.weights:
        weights_sha256 = sha256_of(folder / weight_file.FILE)
        content += weights_sha256
    return Manifest(
        schema=SCHEMA,
        model=job.name,
        title=type(next(iter(job.phases.values())).module).__name__,
        parameters=_parameters(job.phases.values()),
        architecture="decoder" if "step" in job.phases else "encoder",
        longest=0,
        weights="given" if job.weights else "absent",
        weights_file=weight_file.FILE if job.weights else "",
        weights_sha256=weights_sha256,
        key=hashlib.sha256(content.encode()).hexdigest(),
        phases=files,
        checks=checks,
        checks_note=note,
        packages=cache.package_versions(),
    )


def _parameters(phases: Iterable[ModulePhase]) -> int:
    """Parameters of all phases, each name once."""
    sizes = {key: value.numel() for spec in phases for key, value in spec.module.named_parameters()}
    return sum(sizes.values())


def _with_outputs(phase: Phase, model: ir.Model) -> Phase:
    ports = []
    for value in model.graph.outputs:
        dims = (
            ()
            if value.shape is None
            else tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
        )
        dtype = "" if value.dtype is None else value.dtype.name.lower()
        ports.append(Port(value.name or "", {"float": "float32"}.get(dtype, dtype), dims))
    return replace(phase, outputs=tuple(ports))


def _arrays(tensors: Mapping[str, torch.Tensor], wanted: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    for key in wanted:
        if tensors[key].is_meta:
            raise UserError(f"'{key}' is on torch's meta device: it has no values", hint="pass weights=False")
    return {key: tensors[key].detach().cpu().numpy() for key in wanted}


def _checks(job: _Job, folder: Path) -> tuple[tuple[Check, ...], str]:
    """torch, onnxruntime and the interpreter on the example inputs."""
    from tetrasim.export.check import OPENERS, difference, require, run_torch

    checks: list[Check] = []
    note = ""
    for key, spec in job.phases.items():
        feeds = {name: value.detach().cpu().numpy() for name, value in spec.inputs.items()}
        wanted = run_torch(spec.module, feeds)
        for runner, start in OPENERS.items():
            try:
                got = start(folder / f"{key}.onnx", job.described[key])(feeds)
            except UnsupportedOpError as err:  # the files are right; what we cannot model is said at import
                note = f"{runner}: {err.what}"
                continue
            checks.append(difference(f"{key}: torch and {runner}", got, wanted))
    require(job.name, checks)
    return tuple(checks), note
