"""`export_model`: a preset or config becomes a folder of ONNX files, checked, described and cached."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tetrasim.errors import UserError, nearest
from tetrasim.export import cache
from tetrasim.export.manifest import (
    MANIFEST,
    SCHEMA,
    Check,
    ExportedModel,
    Manifest,
    PhaseFile,
    read_manifest,
    write_manifest,
)
from tetrasim.export.phases import Phase, phases_of
from tetrasim.files.read import sha256_of
from tetrasim.files.write import check_free, new_folder
from tetrasim.models.config import LmHead, ModelConfig
from tetrasim.models.parameters import count_parameters
from tetrasim.models.zoo import resolve

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    from tetrasim.export.weight_file import Slot

    Weights = Literal["auto", "random", "none", "trained"] | Mapping[str, NDArray[np.float32]]

# Above this many parameters "auto" leaves the weights out: 1 GB of file, seconds of writing and checking.
_NO_ROOM = "set TETRASIM_CACHE to a place that can be written, or export with --weights none"
AUTO_LIMIT = 250_000_000


def export_model(
    model: str | Path | ModelConfig,
    *,
    weights: Weights = "auto",
    seed: int = 0,
    check: bool = True,
    output: Path | None = None,
    use_cache: bool = True,
) -> ExportedModel:
    """Export every phase of `model`.

    Args:
        model: a preset name, the path of a YAML file, or a config.
        weights: "random" writes seeded weights, "none" only their shapes, "auto" decides by size; "trained"
            trains on scikit-learn's digits (a model that takes them); a mapping gives them by torch
            parameter name.
        seed: of the random weights, or of the training.
        check: compare torch, onnxruntime and the interpreter (only with weights).
        output: write to this new folder instead of the cache.
        use_cache: reuse an earlier export of the same content.

    Raises:
        UserError: unknown model, wrong weights, or a folder that exists or cannot be written.
    """
    job = _job(resolve(model), weights, seed, check)
    if output is not None:
        check_free(output, MANIFEST)
    target = output or _cached_folder(job)
    if use_cache and (known := _read_cached(target)) is not None:
        return known
    # What is there by now is damaged; what another process puts there in the meantime is not replaced.
    replace = not use_cache or target.exists()
    with new_folder(target, replace=replace, hint=_NO_ROOM if output is None else "") as folder:
        write_manifest(folder, _fill(job, folder))
    if output is None:
        cache.prune(keep=target)
    return ExportedModel(target, read_manifest(target))


def cached_export(model: str | Path | ModelConfig) -> ExportedModel | None:
    """What `export_model` with its defaults would find in the cache; loads no torch.

    Raises:
        UserError: unknown model.
    """
    return _read_cached(_cached_folder(_job(resolve(model), "auto", 0, True)))


def stores_weights(model: str | Path | ModelConfig) -> bool:
    """Whether `export_model` with its defaults writes weights, and checks the graphs with them.

    Raises:
        UserError: unknown model.
    """
    return _weights_mode(resolve(model), "auto") != "none"


def _read_cached(folder: Path) -> ExportedModel | None:
    """The export in a folder of the cache; None where there is none, or one that is damaged."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        found = ExportedModel(folder, read_manifest(folder), cached=True)
        if any(noted != now for _, noted, now in found.digests()):
            return None
    except UserError:
        return None
    cache.mark_used(folder)
    return found


@dataclass(frozen=True, eq=False)
class _Job:
    """What is exported: `mode` is "random", "none", "trained" or "given"."""

    config: ModelConfig
    mode: str
    seed: int
    given: Mapping[str, NDArray[np.float32]] | None
    check: bool
    key: str


def _job(config: ModelConfig, weights: Weights, seed: int, check: bool) -> _Job:
    mode = _weights_mode(config, weights)
    given = weights if isinstance(weights, Mapping) else None
    key = cache.key_of(
        {
            "config": config.model_dump(mode="json"),
            "weights": mode if given is None else _hash_arrays(config, given),
            "seed": seed if mode in ("random", "trained") else 0,
            "check": check,
        }
    )
    return _Job(config, mode, seed, given, check, key)


def _cached_folder(job: _Job) -> Path:
    return cache.exports_folder() / f"{job.config.name}-{job.key[:16]}"


def _fill(job: _Job, folder: Path) -> Manifest:
    """Write graphs and weights into `folder`, the weights while the graphs are traced, and check them."""
    from tetrasim.export import weight_file

    config = job.config
    slots = _slots(config)
    given, origin = job.given, {"none": "absent", "random": f"random seed {job.seed}"}.get(job.mode, "given")
    if job.mode == "trained":
        from tetrasim.models.digits import train_digits

        trained = train_digits(config, seed=job.seed)
        given = trained.weights
        origin = f"trained on digits, seed {job.seed}, test accuracy {trained.test_accuracy:.1%}"
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        if job.mode != "none":
            path = folder / weight_file.FILE
            pending = pool.submit(weight_file.write, path, slots, job.seed, given)
        files = _write_graphs(config, slots, folder, with_weights=pending is not None)
        if pending is not None:
            pending.result()
    checks: tuple[Check, ...] = ()
    note = "the weights are absent" if pending is None else "not asked for"
    if pending is not None and job.check:
        from tetrasim.export.check import check_export

        checks, note = check_export(config, slots, folder), ""
    return Manifest(
        schema=SCHEMA,
        model=config.name,
        title=config.title,
        parameters=count_parameters(config).total,
        architecture=config.architecture,
        longest=config.longest,
        weights=origin,
        weights_file="" if pending is None else weight_file.FILE,
        weights_sha256="" if pending is None else sha256_of(folder / weight_file.FILE),
        key=job.key,
        phases=files,
        checks=checks,
        checks_note=note,
        packages=cache.package_versions(),
    )


def _weights_mode(config: ModelConfig, weights: Weights) -> str:
    if isinstance(weights, Mapping):
        return "given"
    if weights == "auto":
        return "random" if count_parameters(config).total <= AUTO_LIMIT else "none"
    known = ("auto", "random", "none", "trained")
    if weights not in known:
        raise UserError(f"unknown weights '{weights}'", hint=nearest(weights, known))
    return weights


def _hash_arrays(config: ModelConfig, arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """Content hash of given weights, after checking names and shapes against the model."""
    import numpy as np

    wanted = parameter_shapes(config)
    for name, shape in wanted.items():
        if name not in arrays:
            raise UserError(
                f"weights for '{config.name}' lack '{name}'", hint=f"it needs {len(wanted)} arrays"
            )
        if tuple(arrays[name].shape) != shape:
            raise UserError(
                f"weight '{name}' has shape {tuple(arrays[name].shape)}, not {shape}",
                where=f"model '{config.name}'",
                hint="give torch's shapes (linear layers: outputs x inputs)",
            )
    digest = hashlib.sha256()
    for name in wanted:
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f4").data)
    return digest.hexdigest()


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Torch parameter names and shapes, in torch's order, tied ones once."""
    from tetrasim.models.transformer import build

    return {name: tuple(value.shape) for name, value in build(config).named_parameters()}


def _slots(config: ModelConfig) -> tuple[Slot, ...]:
    """The weight file's layout: linear layers transposed, as the graphs multiply by them."""
    from torch import nn

    from tetrasim.export import weight_file
    from tetrasim.models.transformer import build

    module = build(config)
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    linear = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    return weight_file.lay_out(shapes, linear & set(shapes))


def _write_graphs(
    config: ModelConfig, slots: Sequence[Slot], folder: Path, *, with_weights: bool
) -> tuple[PhaseFile, ...]:
    from tetrasim.export import weight_file

    phases = phases_of(config)
    models = [_trace(config, phase) for phase in phases]
    unread = {slot.name for slot in slots if slot.transposed} - weight_file.foldable_transposes(models)
    assert not unread, f"stored transposed, but not read so by the graphs: {sorted(unread)}"
    return tuple(
        save_graph(config.name, phase, model, slots, folder, with_weights=with_weights)
        for phase, model in zip(phases, models, strict=True)
    )


def save_graph(
    name: str, phase: Phase, model: ir.Model, slots: Sequence[Slot], folder: Path, *, with_weights: bool
) -> PhaseFile:
    """Point the weights at their file, tidy the names, and write `<phase>.onnx`."""
    import onnx_ir as ir

    from tetrasim.export import weight_file
    from tetrasim.export.trace import tidy

    weight_file.attach(model, slots, folder)
    tidy(model)
    model.producer_name = "tetrasim"
    model.graph.name = f"{name}/{phase.name}"
    model.metadata_props.update(
        {
            "tetrasim.model": name,
            "tetrasim.phase": phase.name,
            "tetrasim.weights": "present" if with_weights else "absent",
        }
    )
    path = folder / f"{phase.name}.onnx"
    ir.save(model, path)
    return PhaseFile(phase, path.name, sha256_of(path), len(model.graph))


def _trace(config: ModelConfig, phase: Phase) -> ir.Model:
    """The graph of one phase, by stamping layers where that is possible."""
    from tetrasim.export import stamp
    from tetrasim.export.trace import trace_phase
    from tetrasim.models.transformer import build

    if config.layers > stamp.TRACED and not config.merge_after:  # merging makes the layers differ
        anonymous = config.replace(layers=stamp.TRACED, name="traced", title="", source="")
        model = _short_graph(anonymous, phase.name).clone()
        if not stamp.stamp_layers(model, config.layers):
            model = trace_phase(build(config), phase)
        for value, port in zip(model.graph.outputs, phase.outputs, strict=True):
            value.name = port.name
    else:
        model = trace_phase(build(config), phase)
    if isinstance(config.head, LmHead) and config.head.tied:
        _rename_tied(model)
    return model


@lru_cache(maxsize=16)
def _short_graph(config: ModelConfig, phase: str) -> ir.Model:
    """A traced graph, kept to be cloned: a search over the number of layers traces once."""
    from tetrasim.export.trace import trace_phase
    from tetrasim.models.transformer import build

    return trace_phase(build(config), next(p for p in phases_of(config) if p.name == phase))


def _rename_tied(model: ir.Model) -> None:
    """The exporter may call the shared table by either of its two names; torch's first one is ours."""
    table = model.graph.initializers.pop("head.weight", None)
    if table is not None:
        table.name = "embedding.token.weight"
        model.graph.initializers["embedding.token.weight"] = table


def describe(exported: ExportedModel) -> dict[str, object]:
    """The manifest as plain data, for printing."""
    return dataclasses.asdict(exported.manifest)
