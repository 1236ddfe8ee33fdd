"""Explore a design space: model knobs x target parameters, objectives, a Pareto front."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options

if TYPE_CHECKING:
    from tetrasim.dse.study import Done, Progress, State

app = _options.new_app()

_STUDY = "The study's folder."
_Storage = Annotated[
    str, typer.Option(help="A database URL instead of the folder's journal.", show_default=False)
]
_REASONS = 5  # of trials without a result, in a terminal


@app.command("run")
def run_(
    file: Annotated[Path, typer.Argument(help="A study file (YAML).")],
    output: _options.Output = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    cluster: Annotated[
        str,
        typer.Option(
            help="A dask scheduler (tcp://HOST:PORT), or slurm:cores=4,memory=8GB,queue=NAME (lsf, pbs).",
            show_default=False,
        ),
    ] = "",
    storage: _Storage = "",
    trials: Annotated[
        int | None, typer.Option(min=1, help="Another budget than the file's.", show_default=False)
    ] = None,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Run or continue the study of FILE: Ctrl-C stops it, the same command goes on."""
    from tetrasim.dse.explore import as_spec, default_folder, explore

    spec = as_spec(file)
    if trials is not None:
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": trials})})
    folder = output or default_folder(spec)
    show = _Ticker(quiet)
    try:
        state = explore(spec, folder, workers=workers, cluster=cluster, storage=storage, progress=show)
    except KeyboardInterrupt:
        show.end()
        sys.stderr.write("stopped; what is done is kept, the same command goes on\n")
        raise typer.Exit(130) from None
    show.end()
    _print(state, folder, json)


class _Ticker:
    """One line on stderr: rewritten in a terminal, every few seconds elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.last, self.shown = quiet, 0.0, False

    def __call__(self, now: Progress) -> None:
        terminal = sys.stderr.isatty()
        if self.quiet or now.elapsed_s - self.last < (0.2 if terminal else 5.0):
            return
        self.last, self.shown = now.elapsed_s, True
        text = (
            f"{now.done}/{now.total} trials, {now.feasible} feasible, front {now.front}, "
            f"{now.elapsed_s:.0f} s, about {now.remaining_s:.0f} s left"
        )
        sys.stderr.write(f"\r{text:<78}" if terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self.shown and sys.stderr.isatty():
            sys.stderr.write("\n")


@app.command()
def status(
    study: Annotated[Path, typer.Argument(help=_STUDY)],
    storage: _Storage = "",
    json: _options.Json = False,
) -> None:
    """Print how far STUDY is, its front, and why trials have no result."""
    from tetrasim.dse import folder as folders

    _print(folders.load(study, storage), study, json)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help=_STUDY)],
    storage: _Storage = "",
    json: _options.Json = False,
) -> None:
    """Write front.csv and report.html of STUDY."""
    from tetrasim.dse import folder as folders
    from tetrasim.dse.report import write_report

    state = folders.load(study, storage)
    csv, page = folders.write_front(state, study), write_report(state, study)
    if json:
        _options.out(json_.dumps({"front": str(csv), "report": str(page)}))
    else:
        _options.out(f"report: {page}   front: {csv}")


@app.command()
def show(
    study: Annotated[Path, typer.Argument(help=_STUDY)],
    trial: Annotated[int, typer.Argument(help="The trial's number.")],
    storage: _Storage = "",
    output: _options.Output = None,
    json: _options.Json = False,
    force: _options.Force = False,
) -> None:
    """Simulate one TRIAL of STUDY again and write its full report."""
    from tetrasim.dse import folder as folders
    from tetrasim.dse.show import simulate_trial

    run = simulate_trial(folders.load(study, storage), trial)
    target = run.save(output or study / f"trial-{trial}", force=force or output is None)
    _options.out(run.to_json() if json else f"{run}\nreport: {target / 'index.html'}")


def _print(state: State, folder: Path, json: bool) -> None:
    from tetrasim.dse.study import reasons
    from tetrasim.files.terminal import short

    spec = state.spec
    failed = sum(not t.metrics for t in state.trials)
    if json:
        tree = {
            "study": spec.name,
            "trials": len(state.trials),
            "running": state.running,
            "failed": failed,
            "feasible": sum(t.feasible for t in state.trials),
            "reasons": [{"reason": r, "trials": n, "first": first} for r, n, first in reasons(state)],
            "front": [_row(t) for t in state.front],
            "folder": str(folder),
        }
        _options.out(json_.dumps(tree, indent=1, sort_keys=True))
        return
    from tetrasim.cli import _tables
    from tetrasim.dse.study import defects

    feasible = sum(t.feasible for t in state.trials)
    if found := defects(state):
        sys.stderr.write(
            f"warning: {len(found)} trials ended in a defect of tetrasim, please report it "
            f"(trial {found[0].number}: {found[0].note})\n"
        )
    _options.out(
        f"{spec.name}: {len(state.trials)} trials ({feasible} feasible, {failed} impossible), "
        f"{len(state.front)} on the front"
    )
    said = reasons(state)
    for reason, count, first in said[:_REASONS]:
        _options.out(f"  {count} impossible: {short(reason)} (trial {first})")
    if len(said) > _REASONS:
        _options.out(f"  {len(said) - _REASONS} further reasons: --json lists them")
    names = {p.name for p in spec.parameters}
    rows = [
        {
            "trial": t.number,
            **{m: t.metrics[m] for m in spec.objectives},
            **{n: t.point.get(n, "") for n in names & {k for f in state.front for k in f.point}},
        }
        for t in state.front[:40]
    ]
    if rows:
        ordered = ["trial", *spec.objectives, *(p.name for p in spec.parameters if p.name in rows[0])]
        _options.out(_tables.text([{k: row[k] for k in ordered} for row in rows]))
    _options.out(f"report: {folder / 'report.html'}   front: {folder / 'front.csv'}")


def _row(trial: Done) -> dict[str, object]:
    return {"trial": trial.number, "point": trial.point, "metrics": trial.metrics}
