"""The verbs of tetrasim for Python, the same as the command line's: export, load, simulate, compare and
generate_hls here, explore in `dse/`.

    run = tetrasim.simulate("gpt2-small", on=["gpu/t4", "pim/aim"], prompt=32, generate=128)
    print(run)                      # the comparison table
    run.save("out/gpt2-small")      # report.json, index.html, ops.csv, trace.pftrace, config.lock.yaml
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tetrasim import __version__, cache
from tetrasim.errors import UserError
from tetrasim.loading import (
    ModelFiles,
    beyond_context,
    bind,
    check_workload,
    default_prompt,
    find_model,
    load_model,
)
from tetrasim.reports.document import Document, document
from tetrasim.reports.lock import Lock, LockedTarget
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.export.manifest import ExportedModel
    from tetrasim.hw_targets.fpga.hls.options import HlsOptions
    from tetrasim.hw_targets.fpga.hls.project import HlsReport
    from tetrasim.reports.perfetto import TracedRun
    from tetrasim.run_phases import LoadedModel, Setup
    from tetrasim.sim.result import Result

Scalar = str | int | float | bool
Overrides = Mapping[str, Scalar]
# Called before each step with what is done now and the fraction that is behind.
Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results side by side."""

    document: Document

    @property
    def results(self) -> tuple[Result, ...]:
        return self.document.results

    def __str__(self) -> str:
        from tetrasim.reports.terminal import to_text

        return to_text(self.document)

    def to_json(self) -> str:
        """The text of `report.json`."""
        from tetrasim.reports.json import to_json

        return to_json(self.document)

    def to_html(self) -> str:
        """The text of `index.html`."""
        from tetrasim.reports.html import to_html

        return to_html(self.document)


@dataclass(frozen=True, eq=False)
class Run(Comparison):
    """What `simulate` returns: the results, their traces (same order), and how to repeat them."""

    traces: tuple[bytes, ...]
    lock: Lock

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the run folder, complete or not at all.

        Raises:
            UserError: the folder exists and is not empty (unless `force` and it is a run folder).
        """
        from tetrasim.reports.run_folder import save_run

        return save_run(Path(folder), self.document, self.traces, self.lock, force=force)


def export(
    model: str | Path, output: str | Path | None = None, *, weights: str = "auto", use_cache: bool = True
) -> ExportedModel:
    """Export a preset (or a YAML file of one) to ONNX graphs with a manifest, checked against torch.

    Raises:
        UserError: unknown model, a folder that exists or cannot be written.
    """
    from tetrasim.export.exporter import export_model

    mode: Literal["auto", "random", "none"]
    match weights:
        case "auto" | "random" | "none":
            mode = weights
        case _:
            raise UserError(
                f"unknown weights '{weights}'", where="--weights", hint="known: auto, random, none"
            )
    return export_model(
        model, weights=mode, output=None if output is None else Path(output), use_cache=use_cache
    )


def load(
    model: str | Path,
    *,
    prompt: int | None = None,
    generate: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
) -> LoadedModel:
    """Import the graphs of a model for one workload; `model` as in `simulate`.

    Raises:
        UserError: as `simulate`.
    """
    return load_for(model, prompt=prompt, generate=generate, batch=batch, dims=dims)[0]


def load_for(
    model: str | Path,
    *,
    prompt: int | None = None,
    generate: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
) -> tuple[LoadedModel, Workload]:
    """`load`, with the workload that the arguments mean for this model."""
    files = find_model(model)
    workload = _workload(files, prompt, generate, batch, dims)
    return load_model(files, workload), workload


def simulate(
    model: str | Path,
    on: str | Sequence[str],
    *,
    prompt: int | None = None,
    generate: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    settings: Overrides | None = None,
    numerics: bool = True,
    use_cache: bool = True,
    progress: Progress | None = None,
) -> Run:
    """Simulate a model on one or several targets.

    Args:
        model: a preset ("gpt2-small"), a model YAML, a folder from `export`, or an .onnx file.
        on: presets such as "gpu/t4", or "gpu/path/to/mine.yaml".
        prompt: tokens of the prompt (decoders) or of the sequence (encoders); None: 32, or up to 128.
        generate: tokens to generate; 0: the prompt only.
        dims: symbolic dims of an .onnx file.
        settings: dotted configuration path -> value, for every target that is named; prefix a path with
            "gpu/t4:" to set it there only.
        numerics: emulate each target's arithmetic and compare with onnxruntime.
        use_cache: reuse exports and results of the same content.
        progress: called before each step.

    Raises:
        UserError: anything wrong with the input, with the next step.
    """
    from tetrasim.provenance import code_sha256
    from tetrasim.run_phases import set_up

    names = [on] if isinstance(on, str) else list(on)
    report = progress or (lambda _text, _fraction: None)
    _check_targets(names)
    overrides = [_overrides_for(name, names, settings or {}) for name in names]
    setups = [set_up(name, chosen) for name, chosen in zip(names, overrides, strict=True)]
    report(f"exporting {model}", 0.0)
    files = find_model(model, use_cache=use_cache)
    workload = _workload(files, prompt, generate, batch, dims)
    shared = _Shared(files, workload, str(model), numerics)
    entries: list[cache.Entry] = []
    for i, (setup, chosen) in enumerate(zip(setups, overrides, strict=True)):
        report(f"simulating {setup.preset}", (i + 1) / (len(names) + 1))
        key = cache.key_of(
            files.sha256,
            setup.preset,
            setup.config.model_dump_json() + str(numerics),
            workload,
            code_sha256(),
        )
        entry = cache.find(key) if use_cache else None
        if entry is None:
            entry = shared.simulate(setup, chosen)
            cache.store(key, entry)
        entries.append(entry)
    results = tuple(entry.result for entry in entries)
    lock = Lock(
        model=str(model),
        model_sha256=files.sha256,
        workload=workload,
        targets=tuple(
            LockedTarget(r.preset, tuple(sorted(chosen.items())), r.provenance.config_sha256)
            for r, chosen in zip(results, overrides, strict=True)
        ),
        version=__version__,
    )
    command = command_line(str(model), names, workload, settings or {}, files.kind)
    return Run(document(results, command), tuple(entry.trace for entry in entries), lock)


def compare(*runs: Comparison | Result | Sequence[Result]) -> Comparison:
    """Runs, results or sequences of results, side by side."""
    results: list[Result] = []
    for run in runs:
        if isinstance(run, Comparison):
            results += run.results
        elif isinstance(run, Sequence):
            results += run
        else:
            results.append(run)
    if not results:
        raise UserError("nothing to compare", hint="give at least one result")
    return Comparison(document(tuple(results)))


def generate_hls(
    model: str | Path,
    output: str | Path,
    *,
    options: HlsOptions | None = None,
    dims: Mapping[str, int] | None = None,
    force: bool = False,
    check: bool = True,
) -> HlsReport:
    """Write the hls4ml project of an encoder or an ONNX file: numerics checked, cost estimated.

    Args:
        options: part, clock, reuse factor, strategy, bits; None: the defaults of `HlsOptions`.
        check: compile the C simulation and compare it with the emulation bit for bit.

    Raises:
        UserError: a decoder, an op without an HLS layer (before anything is written), an existing folder.
    """
    from tetrasim.hw_targets.fpga.hls.options import HlsOptions
    from tetrasim.hw_targets.fpga.hls.project import generate

    files = find_model(model)
    if files.kind == "decoder":
        raise UserError(
            f"'{model}' is a decoder: its key and value caches do not fit an HLS pipeline",
            hint="simulate it on an overlay: on='fpga/u280'",
        )
    phase = load_model(files, _workload(files, None, 0, 1, dims)).phases[0]
    chosen = options or HlsOptions()
    return generate(phase.family.base, Path(output), chosen, onnx_path=phase.onnx, force=force, check=check)


class _Shared:
    """What the targets of one run share: the graphs, imported when the first target needs them."""

    def __init__(self, files: ModelFiles, workload: Workload, model: str, numerics: bool) -> None:
        self._files, self._workload = files, workload
        self._model, self._numerics = model, numerics
        self._loaded: LoadedModel | None = None

    def simulate(self, setup: Setup, overrides: Overrides) -> cache.Entry:
        from tetrasim.reports.perfetto import to_pftrace
        from tetrasim.simulate import simulate as simulate_on_target

        if self._loaded is None:
            self._loaded = load_model(self._files, self._workload)
        command = command_line(self._model, [setup.preset], self._workload, overrides, self._files.kind)
        try:
            result = simulate_on_target(
                self._loaded,
                setup.preset,
                self._workload,
                overrides=overrides,
                numerics=self._numerics,
                command=command,
            )
        except UserError as refusal:
            # One of several targets refuses: say which, whatever the target's own message names.
            where = f"{setup.preset}: {refusal.where}" if refusal.where else setup.preset
            raise type(refusal)(refusal.what, where=where, hint=refusal.hint) from None
        note = beyond_context(self._files, self._workload)
        if note:
            result = replace(result, warnings=(*result.warnings, note))
        return cache.Entry(result, to_pftrace(traced_runs(self._loaded, setup, self._workload)))


def traced_runs(model: LoadedModel, setup: Setup, workload: Workload) -> list[TracedRun]:
    """One run per phase for the trace: the only one of a prefill, the last one of a generation."""
    from tetrasim.reports.perfetto import TracedRun
    from tetrasim.run_phases import lowered_phases
    from tetrasim.sim.engine.runs import simulate_one

    runs = []
    for phase, family, contexts in lowered_phases(model, setup, workload):
        graph = family.at(contexts[-1])
        program, timeline = simulate_one(lambda g: setup.target.lower(g, setup.config), graph)
        detail = f" step at context {contexts[-1]}" if phase.name == "decode" else ""
        runs.append(TracedRun(f"{setup.preset} {phase.name}{detail}", program, timeline, graph))
    return runs


def command_line(
    model: str, on: Sequence[str], workload: Workload, settings: Overrides, kind: str = "decoder"
) -> str:
    """The `tetrasim run` command of a run, quoted for a shell."""
    import shlex

    words = ["tetrasim", "run", model, "--on", *on]
    if kind != "file":
        words += ["--prompt", str(workload.prompt)]
    words += ["--generate", str(workload.generate)] if workload.generate else []
    words += ["--batch", str(workload.batch)] if workload.batch != 1 else []
    for name, size in workload.dims:
        words += ["--dim", f"{name}={size}"]
    for path, value in sorted(settings.items()):
        words += ["--set", f"{path}={value}"]
    return shlex.join(words)


def _workload(
    files: ModelFiles, prompt: int | None, generate: int, batch: int, dims: Mapping[str, int] | None
) -> Workload:
    for name, value, least in (("prompt", prompt, 1), ("generate", generate, 0), ("batch", batch, 1)):
        if value is not None and value < least:
            raise UserError(
                f"--{name} {value} is below {least}", where=f"--{name}", hint=f"give at least {least}"
            )
    tokens = default_prompt(files) if prompt is None else prompt
    return check_workload(files, bind(Workload(batch, tokens, generate), dims or {}))


def shortcut_settings(presets: Sequence[str], shortcuts: Overrides) -> dict[str, Scalar]:
    """Settings for those of `presets` whose configuration has the field: `{"launch": "eager"}` reaches GPUs.

    Raises:
        UserError: unknown preset, or a field that none of them has.
    """
    from tetrasim.hw_targets.registry import find_preset

    out: dict[str, Scalar] = {}
    for field, value in shortcuts.items():
        having = [p for p in presets if field in type(find_preset(p)[1].config).model_fields]
        if not having:
            raise UserError(
                f"none of the targets has '{field}'",
                where=f"--{field}",
                hint=f"drop it; `tetrasim show {presets[0]}` prints what can be set"
                if presets
                else "name a target",
            )
        out |= {f"{preset}:{field}": value for preset in having}
    return out


def _check_targets(names: Sequence[str]) -> None:
    if not names:
        from tetrasim.hw_targets.registry import preset_names

        raise UserError("no target is named", where="--on", hint=f"for example --on {preset_names()[0]}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"target '{name}' is named twice", where="--on", hint="name it once")


def _overrides_for(preset: str, presets: Sequence[str], settings: Overrides) -> dict[str, Scalar]:
    """Settings for `preset`: unprefixed ones, then those written `preset:path`, which win."""
    chosen: dict[str, Scalar] = {}
    for path, value in settings.items():
        prefix, colon, rest = path.rpartition(":")
        if colon and prefix not in presets:
            from tetrasim.errors import nearest

            raise UserError(
                f"--set names '{prefix}', which is not among --on",
                where="--set",
                hint=nearest(prefix, presets),
            )
        if not colon:
            chosen.setdefault(path, value)
        elif prefix == preset:
            chosen[rest] = value
    return chosen
