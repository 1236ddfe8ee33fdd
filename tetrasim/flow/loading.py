"""Where a model comes from: a preset, a YAML file, a folder that `tetrasim export` wrote, or an ONNX file.

`find_model` only hashes and describes, so that a cached result needs neither torch nor the graphs;
`load_model` imports the graphs for one workload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest
from tetrasim.files.read import read_bytes, sha256_of
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.export.manifest import ExportedModel, Manifest
    from tetrasim.export.phases import Phase
    from tetrasim.sim.ir.family import GraphFamily
    from tetrasim.sim.ir.graph import Graph

DEFAULT_PROMPT = 32  # decoders
DEFAULT_SEQUENCE = 128  # encoders over tokens, or their longest
MAX_PROTO_BYTES = 2**31 - 1  # what protobuf parses
_ENCODER, _DECODER, _FILE = "encoder", "decoder", "file"


@dataclass(frozen=True, eq=False)
class ModelPhase:
    """`name`: "forward", "prefill" or "decode". `family` is constant for the first two."""

    name: str
    family: GraphFamily
    onnx: Path | None = None


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model whose phases were imported for one workload; `sha256` digests the files it came from."""

    name: str
    parameters: int
    sha256: str
    phases: tuple[ModelPhase, ...]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk. `kind`: "decoder" (prefill and step graphs), "encoder" (one forward graph) or "file"
    (a user's ONNX file: its dims are bound by name). `longest` is 0 where it is not known.
    `allow_unmodelled`: ops without semantics here are read as nodes that cost nothing. `states`: of each
    phase, its state inputs and the outputs that replace them, where a manifest says. `fixed_prompt`: the
    length of a prefill graph that has only one, else 0."""

    name: str
    kind: str
    parameters: int
    sha256: str
    longest: int
    phases: tuple[tuple[str, Path], ...]
    symbols: tuple[tuple[str, tuple[str, ...]], ...] = ()
    export_checks: tuple[tuple[str, float], ...] = ()
    allow_unmodelled: bool = False
    states: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    fixed_prompt: int = 0


def find_model(
    model: str | Path,
    *,
    use_cache: bool = True,
    allow_unmodelled: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> ModelFiles:
    """The files of `model`, exported now where they are not in the cache (large ones by another process).

    Raises:
        UserError: unknown preset, missing file, an export that fails its checks.
    """
    return replace(_find(model, use_cache, meanwhile), allow_unmodelled=allow_unmodelled)


def _find(model: str | Path, use_cache: bool, meanwhile: Callable[[], None]) -> ModelFiles:
    path = Path(model)
    if path.suffix == ".onnx":
        return _onnx_file(path)
    if path.is_dir():
        from tetrasim.export.manifest import ExportedModel, read_manifest

        return _exported(ExportedModel(path, read_manifest(path)))
    from tetrasim.export.child import export_apart
    from tetrasim.export.exporter import export_model, stores_weights

    if stores_weights(str(model)):  # checking them takes more memory than the exporter, and the time counts
        return _exported(export_model(str(model), use_cache=use_cache))
    return _exported(export_apart(str(model), meanwhile, use_cache=use_cache))


def check_workload(files: ModelFiles, workload: Workload) -> Workload:
    """The workload as this model can run it.

    Raises:
        UserError: tokens asked of an encoder or of a single graph, dims that the model does not have.
    """
    if files.kind == _FILE:
        if workload.generate:
            raise UserError(
                f"'{files.name}' is one graph: it generates nothing",
                where="--generate",
                hint="export prefill and step graphs (`tetrasim export`), or drop --generate",
            )
        return workload
    if files.kind == _ENCODER and workload.generate:
        raise UserError(
            f"'{files.name}' is an encoder: it generates nothing", where="--generate", hint="drop --generate"
        )
    if files.kind == _ENCODER and _fixed_length(files) and workload.prompt != default_prompt(files):
        raise UserError(
            f"'{files.name}' always reads {files.longest} positions, not {workload.prompt}",
            where="--prompt",
            hint="drop it",
        )
    for name, _ in (*workload.values, *workload.rows):
        raise UserError(
            f"'{name}' is given for '{files.name}', which is no ONNX file of yours",
            where="--input" if workload.values else "--expect",
            hint="drop it: this model has no input that decides its graph",
        )
    if files.fixed_prompt and workload.prompt != files.fixed_prompt:
        raise UserError(
            f"the prefill graph of '{files.name}' always reads {files.fixed_prompt} tokens, not"
            f" {workload.prompt}",
            where="--prompt",
            hint=f"give --prompt {files.fixed_prompt}, or export it with an open dim 'seq'",
        )
    if workload.batch != 1 and not any("batch" in dims for _, dims in files.symbols):
        raise UserError(
            f"the graphs of '{files.name}' have a batch of one size: it cannot be {workload.batch}",
            where="--batch",
            hint="drop --batch, or export it with an open dim 'batch'",
        )
    known = {"batch", "seq", "past"}
    for name, _ in workload.dims:
        raise UserError(
            f"model '{files.name}' has no open dim '{name}'",
            where="--dim",
            hint="use --batch, --prompt and --generate" if name in known else nearest(name, known),
        )
    return workload


def beyond_context(files: ModelFiles, workload: Workload) -> str:
    """A warning when the run is longer than the model's positions: the time stands, the text would not."""
    total = workload.prompt + max(workload.generate - 1, 0)
    if not files.longest or total <= files.longest:
        return ""
    return (
        f"{total} positions are used, {files.name} was made for {files.longest}: the cost is that of a model"
        " extended to them"
    )


def default_prompt(files: ModelFiles) -> int:
    """Tokens when the user names none."""
    if files.kind == _ENCODER:
        longest = files.longest or DEFAULT_SEQUENCE
        return longest if _fixed_length(files) else min(longest, DEFAULT_SEQUENCE)
    if files.fixed_prompt:
        return files.fixed_prompt
    return min(DEFAULT_PROMPT, files.longest) if files.longest else DEFAULT_PROMPT


def _fixed_length(files: ModelFiles) -> bool:
    """An encoder whose sequence is not open: patches of an image, features of a detector."""
    return not any("seq" in dims for _, dims in files.symbols)


def load_model(files: ModelFiles, workload: Workload) -> LoadedModel:
    """Import the graphs that `workload` runs.

    Raises:
        UserError: a file that cannot be read, an unbound dim.
        UnsupportedOpError: an op without semantics or cost.
    """
    phases = tuple(
        phase for name, path in files.phases if (phase := _phase(files, name, path, workload)) is not None
    )
    parameters = files.parameters or sum(v.type.elements for v in phases[0].family.base.weights)
    return LoadedModel(files.name, parameters, files.sha256, phases)


def _phase(files: ModelFiles, name: str, path: Path, workload: Workload) -> ModelPhase | None:
    from tetrasim.frontend.onnx import import_family, import_onnx
    from tetrasim.sim.ir.family import constant_family

    stated = dict(files.states)
    states = dict(stated[name]) if name in stated else None
    if name == "step":
        contexts = workload.contexts(prefilled=any(phase == "prefill" for phase, _ in files.phases))
        if not contexts:
            return None
        family = import_family(
            path,
            {"batch": workload.batch} if "batch" in dict(files.symbols).get(name, ("batch",)) else {},
            symbol="past",
            contexts=contexts,
            states=states,
            allow_unmodelled=files.allow_unmodelled,
        )
        return ModelPhase("decode", family, path)
    dims = _dims(files, path, workload)
    graph = import_onnx(
        path,
        dims,
        name=name,
        states=states,
        kept=[after for pairs in stated.values() for _, after in pairs],
        allow_unmodelled=files.allow_unmodelled,
        values=dict(workload.values),
        rows=dict(workload.rows),
    )
    return ModelPhase(name, constant_family(graph), path)


def _dims(files: ModelFiles, path: Path, workload: Workload) -> dict[str, int]:
    if files.kind == _FILE:
        return dict(workload.dims)
    known = {"batch": workload.batch, "seq": workload.prompt}
    open_dims = next((dims for phase, dims in files.symbols if path.stem.startswith(phase)), tuple(known))
    return {name: size for name, size in known.items() if name in open_dims}


def import_file(
    path: Path,
    dims: Mapping[str, int],
    *,
    allow_unmodelled: bool = False,
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
) -> tuple[Graph, Graph, tuple[str, ...]]:
    """A user's file as imported, after the standard passes, and what the passes have to say.

    Raises:
        UserError: as `load_model`.
    """
    from tetrasim.frontend.onnx import import_onnx
    from tetrasim.sim.passes.pipeline import standard

    if not path.is_file():
        raise UserError(f"there is no file '{path}'", hint=_neighbour(path))
    raw = import_onnx(path, dims, rewrites=False, allow_unmodelled=allow_unmodelled, values=values, rows=rows)
    graph, notes = standard(raw)
    return raw, graph, tuple(str(note) for note in notes)


def _onnx_file(path: Path) -> ModelFiles:
    if not path.is_file():
        raise UserError(f"there is no file '{path}'", hint=_neighbour(path))
    return ModelFiles(path.stem, _FILE, 0, _sha256_of(path), 0, (("forward", path),))


def _neighbour(path: Path) -> str:
    others = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    return (
        nearest(path.name, others) if others else "check the path, or name a preset (`tetrasim list models`)"
    )


def _sha256_of(path: Path) -> str:
    """The file's bytes, and those of every side file that its tensors name."""
    data = read_bytes(path, MAX_PROTO_BYTES)
    digest = hashlib.sha256(hashlib.sha256(data).digest())
    # Side files are named by an entry of this key; a file without one need not be parsed.
    for side in _side_files(data, path) if b"location" in data else ():
        digest.update(side.name.encode(errors="surrogateescape") + b"\0" + sha256_of(side).encode())
    return digest.hexdigest()


def _side_files(data: bytes, path: Path) -> tuple[Path, ...]:
    from tetrasim.frontend.onnx import external_files, parsed

    return external_files(parsed(data, str(path)), path.parent)


def _exported(found: ExportedModel) -> ModelFiles:
    manifest: Manifest = found.manifest
    phases = tuple((entry.phase.name, found.place(entry.file)) for entry in manifest.phases)
    # Of the bytes as they are: a user may have edited the files since they were exported.
    contents = [f"{name} {now}" for name, _, now in found.digests()]
    digest = hashlib.sha256("\0".join((_described(manifest), *contents)).encode()).hexdigest()
    return ModelFiles(
        name=manifest.model,
        kind=_DECODER if manifest.architecture == "decoder" else _ENCODER,
        parameters=manifest.parameters,
        sha256=digest,
        longest=manifest.longest,
        phases=phases,
        symbols=tuple((entry.phase.name, entry.phase.symbols) for entry in manifest.phases),
        export_checks=tuple((check.name, check.max_abs_error) for check in manifest.checks),
        states=tuple((entry.phase.name, entry.phase.states) for entry in manifest.phases),
        fixed_prompt=_fixed_prompt({entry.phase.name: entry.phase for entry in manifest.phases}),
    )


def _fixed_prompt(phases: Mapping[str, Phase]) -> int:
    """Tokens that a prefill graph without an open dim `seq` reads: the size of the axis along which a step
    reads one, or that it lacks; 0 where the length is open."""
    prefill, step = phases.get("prefill"), phases.get("step")
    if prefill is None or "seq" in prefill.symbols:
        return 0
    alone = {} if step is None else {port.name: port.shape for port in step.inputs}
    for port in prefill.inputs:
        for i, size in enumerate(port.shape):
            before, after = port.shape[:i], port.shape[i + 1 :]
            one_token = ((*before, 1, *after), (*before, *after))
            if isinstance(size, int) and size > 1 and alone.get(port.name, ("batch", 1)) in one_token:
                return size
    return 0


def _described(manifest: Manifest) -> str:
    """What the manifest says that decides a result, beside the files: states, dims, weights."""
    tree = {**asdict(manifest), "key": "", "checks": [], "checks_note": "", "packages": [], "title": ""}
    tree["phases"] = [{**asdict(entry), "sha256": ""} for entry in manifest.phases]
    return json.dumps(tree, sort_keys=True)


def bind(
    workload: Workload,
    dims: Mapping[str, int],
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
) -> Workload:
    """The workload with further dims, values of inputs and expected rows."""
    return replace(
        workload,
        dims=tuple(sorted(dims.items())),
        values=tuple(sorted((values or {}).items())),
        rows=tuple(sorted((rows or {}).items())),
    )
