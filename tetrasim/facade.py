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

from tetrasim.errors import UserError, nearest
from tetrasim.flow.loading import find_model, load_model
from tetrasim.flow.request import Overrides, check_targets, command_line, workload_for
from tetrasim.flow.session import Session, all_refused, load_what_simulating_needs
from tetrasim.reports.document import Document, Refusal, document
from tetrasim.reports.lock import Lock, LockedTarget
from tetrasim.version import VERSION

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import DataclassInstance
    from numpy.typing import NDArray

    from tetrasim.export.manifest import ExportedModel
    from tetrasim.flow.loading import LoadedModel, ModelFiles
    from tetrasim.flow.setup import Setup
    from tetrasim.hw_targets.common.abilities import Calibrated, Measured
    from tetrasim.hw_targets.common.explanation import Explained
    from tetrasim.hw_targets.fpga.hls.options import HlsOptions
    from tetrasim.hw_targets.fpga.hls.project import HlsReport
    from tetrasim.sim.ir.graph import Graph
    from tetrasim.sim.result import Result
    from tetrasim.sim.workload import Workload

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
        from tetrasim.reports.formats import report_json

        return report_json.render(self.document)

    def to_html(self) -> str:
        """The text of `index.html`."""
        from tetrasim.reports.formats import index_html

        return index_html.render(self.document)


@dataclass(frozen=True, eq=False)
class Run(Comparison):
    """What `simulate` returns: the results, their traces (same order), and how to repeat them."""

    traces: tuple[bytes, ...]
    lock: Lock
    setups: tuple[Setup, ...] = ()  # the targets of the results, in their order

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
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
    allow_unmodelled: bool = False,
) -> LoadedModel:
    """Import the graphs of a model for one workload; the arguments are those of `simulate`.

    Raises:
        UserError: as `simulate`.
    """
    found, _ = load_for(
        model,
        prompt=prompt,
        generate=generate,
        batch=batch,
        dims=dims,
        values=values,
        rows=rows,
        allow_unmodelled=allow_unmodelled,
    )
    return found


def load_for(
    model: str | Path,
    *,
    prompt: int | None = None,
    generate: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
    allow_unmodelled: bool = False,
) -> tuple[LoadedModel, Workload]:
    """`load`, with the workload that the arguments mean for this model."""
    files = find_model(model, allow_unmodelled=allow_unmodelled)
    workload = workload_for(files, prompt, generate, batch, dims, values, rows)
    return load_model(files, workload), workload


def simulate(
    model: str | Path,
    on: str | Sequence[str],
    *,
    prompt: int | None = None,
    generate: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    values: Mapping[str, str] | None = None,
    rows: Mapping[str, int] | None = None,
    settings: Overrides | None = None,
    numerics: bool = True,
    use_cache: bool = True,
    allow_unmodelled: bool = False,
    measurable: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Simulate a model on one or several targets.

    Args:
        model: a preset ("gpt2-small"), a model YAML, a folder from `export`, or an .onnx file.
        on: presets such as "gpu/t4", or "gpu/path/to/mine.yaml".
        prompt: tokens of the prompt (decoders) or of the sequence (encoders); None: 32, or up to 128.
        generate: tokens to generate; 0: the prompt only.
        dims: symbolic dims of an .onnx file.
        values: of its inputs that decide the graph: {"sr": "16000"}, numbers separated by commas.
        rows: how many entries to expect where its data decide a shape, by output name (`allow_unmodelled`).
        settings: dotted configuration path -> value, for every target that is named; prefix a path with
            "gpu/t4:" to set it there only.
        numerics: emulate each target's arithmetic and compare with onnxruntime.
        use_cache: reuse exports and results of the same content.
        allow_unmodelled: count ops without a cost model as zero, and say so, instead of refusing the model.
        measurable: refuse, before any work, when none of the targets can be measured on this machine.
        progress: called before each step.

    A target that cannot run the model is listed in `document.refusals`; the others are simulated.

    Raises:
        UserError: anything wrong with the input, with the next step; every target refuses the model.
    """
    from tetrasim.flow.evidence import check_measurable
    from tetrasim.flow.setup import set_up_all

    names = [on] if isinstance(on, str) else list(on)
    report = progress or (lambda _text, _fraction: None)
    check_targets(names)
    setups = set_up_all(names, settings or {})
    if measurable:
        check_measurable(setups)
    report(f"exporting {model}", 0.0)
    files = find_model(
        model,
        use_cache=use_cache,
        allow_unmodelled=allow_unmodelled,
        meanwhile=load_what_simulating_needs,
    )
    workload = workload_for(files, prompt, generate, batch, dims, values, rows)
    session = Session(files, workload, str(model), numerics=numerics, use_cache=use_cache)
    entries, refused = session.entries(setups, report)
    if not entries:
        raise all_refused(str(model), refused)
    results = tuple(entry.result for entry in entries.values())
    command = command_line(str(model), names, workload, settings or {}, files)
    refusals = tuple(
        Refusal(setups[i].preset, error.what, error.where, error.hint) for i, error in refused.items()
    )
    ran = tuple(setups[i] for i in entries)
    lock = _lock(files, str(model), workload, ran, results)
    traces = tuple(entry.trace for entry in entries.values())
    return Run(document(results, command, refusals), traces, lock, ran)


def _lock(
    files: ModelFiles, model: str, workload: Workload, setups: Sequence[Setup], results: Sequence[Result]
) -> Lock:
    """What repeats the run."""
    targets = tuple(
        LockedTarget(s.named, tuple(sorted(s.overrides)), result.provenance.config_sha256)
        for s, result in zip(setups, results, strict=True)
    )
    return Lock(model, files.sha256, workload, targets, VERSION, allow_unmodelled=files.allow_unmodelled)


def explain(
    run: str | Path,
    node: str,
    *,
    on: str = "",
    phase: str = "",
    progress: Progress | None = None,
) -> tuple[Explained, ...]:
    """Why a node of a finished run takes what it takes, on each target of the run.

    Args:
        run: the run's `config.lock.yaml`.
        node: its name, as in `ops.csv`.
        on: one of the run's targets; all of them when empty.
        phase: "forward", "prefill" or "decode"; every phase when empty.
        progress: called before each step.

    Raises:
        UserError: no such lock, node, target or phase, with the nearest.
    """
    from tetrasim.flow.explain import explain_node
    from tetrasim.flow.setup import meant, set_up
    from tetrasim.reports.lock import read

    report = progress or (lambda _text, _fraction: None)
    lock = read(Path(run))
    names = [target.preset for target in lock.targets]
    wanted = meant(on, names) if on else ""
    if wanted is None:
        raise UserError(f"'{on}' is not a target of this run", where="--on", hint=nearest(on, names))
    report(f"importing {lock.model}", 0.0)
    files = find_model(lock.model, allow_unmodelled=lock.allow_unmodelled)
    model = load_model(files, lock.workload)
    found: list[Explained] = []
    for target in lock.targets:
        if wanted in ("", target.preset):
            report(f"explaining {node} on {target.preset}", len(found) / len(names))
            setup = set_up(target.preset, dict(target.overrides))
            found += explain_node(node, phase, model, setup, lock.workload)
    return tuple(found)


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
    feeds: Mapping[str, NDArray[np.float64]] | None = None,
    force: bool = False,
    check: bool = True,
) -> HlsReport:
    """Write the hls4ml project of an encoder or an ONNX file: numerics checked, cost estimated.

    Args:
        options: part, clock, reuse factor, strategy, bits; None: the defaults of `HlsOptions`.
        dims: symbolic dims of an ONNX file; of a preset, `seq`.
        feeds: sample inputs by name, [N, …], for calibration and proof; None: seeded random ones.
        check: compile the C simulation and compare it with the emulation bit for bit.

    Raises:
        UserError: a decoder, an op without an HLS layer (before anything is written), an existing folder.
    """
    from tetrasim.hw_targets.fpga.hls.options import HlsOptions
    from tetrasim.hw_targets.fpga.hls.project import generate

    graph, onnx_path = load_forward(model, dims=dims)
    chosen = options or HlsOptions()
    return generate(graph, Path(output), chosen, onnx_path=onnx_path, feeds=feeds, force=force, check=check)


def load_forward(model: str | Path, *, dims: Mapping[str, int] | None = None) -> tuple[Graph, Path | None]:
    """The one forward graph of a model that generates nothing, for a hardware project, and its ONNX file.

    Args:
        dims: symbolic dims of an ONNX file; of a preset, `seq`, the length of the sequence.

    Raises:
        UserError: as `simulate`; a decoder.
    """
    files = find_model(model)
    if files.kind == "decoder":
        raise UserError(
            f"'{model}' is a decoder: its key and value caches do not fit an HLS pipeline",
            hint=f"tetrasim run {model} --on fpga/u280 simulates it on an overlay",
        )
    open_dims = dict(dims or {})
    prompt = open_dims.pop("seq", None) if files.kind == "encoder" else None
    phase = load_model(files, workload_for(files, prompt, 0, 1, open_dims)).phases[0]
    return replace(phase.family.base, name=files.name), phase.onnx


def measure(run: Run) -> list[tuple[str, Measured]]:
    """Run the model's files on this machine, for each target of `run` that can be measured.

    Returns: (preset and phase, predicted against measured) of each phase.

    Raises:
        UserError: a format or a number of threads that this machine is not measured in.
    """
    from tetrasim.flow import evidence

    work = run.lock.workload
    loaded = load(
        run.lock.model,
        prompt=work.prompt,
        generate=work.generate,
        batch=work.batch,
        dims=dict(work.dims),
        values=dict(work.values),
        rows=dict(work.rows),
        allow_unmodelled=run.lock.allow_unmodelled,
    )
    return evidence.measure(loaded, run.setups, work)


def validate(
    target: str | None = None, progress: Progress | None = None
) -> dict[str, tuple[DataclassInstance, ...]]:
    """The error of a target, or of all, on the committed measurements: rows by target.

    Raises:
        UserError: a target that has nothing to compare with.
    """
    from tetrasim.flow import evidence

    return evidence.validate(target, progress)


def calibrate(
    target: str = "cpu",
    *,
    tables: Path | None = None,
    out: Path | None = None,
    budget: int | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
) -> Calibrated:
    """Measure this machine and write the preset of it (`cpu/host`) to the user's own folder; or fit the model
    of a target ("gpu") to tables of measured kernels.

    Args:
        tables: the folder of the measured tables.
        out: a folder for the files of the fit; None: nothing is written.
        budget: evaluations per table; None: as many as are usual.
        jobs: processes; the result does not depend on it.

    Raises:
        UserError: a target that cannot be calibrated, or does not take one of the options.
    """
    from tetrasim.flow import evidence
    from tetrasim.hw_targets.common.abilities import Calibration

    wanted = Calibration(tables, out, budget, jobs)
    return evidence.calibrate(target, wanted, progress or (lambda _text, _fraction: None))


def mapping_text(
    model: str | Path, on: str, *, prompt: int | None = None, generate: int = 0, batch: int = 1
) -> str:
    """Where a target puts a model: banks and channels, pipeline stages, kernels.

    Raises:
        UserError: as `simulate`; a target without a mapping to show.
    """
    from tetrasim.flow import evidence
    from tetrasim.flow.setup import set_up

    setup = set_up(on)
    evidence.check_mapping(setup)
    loaded, workload = load_for(model, prompt=prompt, generate=generate, batch=batch)
    return evidence.mapping_text(loaded, setup, workload)
