"""`tetrasim.explore`: a whole study from Python, the same as `tetrasim dse run`.

study = tetrasim.explore({"model": {"preset": "gpt2-small"}, "targets": {"gpu/t4": {"launch": [...]}}, …})
for trial in study.front:
    print(trial.point, trial.metrics)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tetrasim.dse import folder as folders
from tetrasim.dse.executors import Executor, InProcess, LocalWorkers
from tetrasim.dse.journal import only_driver
from tetrasim.dse.report import write_report
from tetrasim.dse.space import StudySpec
from tetrasim.dse.spec_file import load_spec, make_spec
from tetrasim.dse.store import Store, default_store
from tetrasim.dse.study import Progress, State, run_study


def explore(
    study: str | Path | Mapping[str, Any] | StudySpec,
    folder: str | Path | None = None,
    *,
    workers: int = 1,
    cluster: str = "",
    storage: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
) -> State:
    """Run or continue a study; write `front.csv` and `report.html` into its folder.

    Args:
        study: a YAML file, or its content as plain data.
        folder: where the journal and the reports live; None: `out/dse-NAME`.
        workers: local processes; 1 evaluates in this process.
        cluster: a dask scheduler's address, or slurm, lsf or pbs with options (`batch.py`).
        storage: an optuna database URL in place of the folder's journal.
        progress: called after every trial.

    Raises:
        UserError: a mistake in the study, or a folder that holds another one.
    """
    spec = as_spec(study)
    place = Path(folder) if folder is not None else default_folder(spec)
    with only_driver(place):
        recorded = folders.start(spec, place, storage)
        with closing(executor_of(spec, workers, cluster)) as executor:
            state = run_study(spec, recorded, executor, progress)
    folders.write_front(state, place)
    write_report(state, place)
    return state


def as_spec(study: str | Path | Mapping[str, Any] | StudySpec) -> StudySpec:
    """The checked study."""
    if isinstance(study, StudySpec):
        return study
    return make_spec(dict(study)) if isinstance(study, Mapping) else load_spec(Path(study))


def default_folder(spec: StudySpec) -> Path:
    """Where a study lives that names no folder."""
    return Path("out") / f"dse-{spec.name}"


def executor_of(spec: StudySpec, workers: int = 1, cluster: str = "", store: Store | None = None) -> Executor:
    """In this process, in local processes, or on a cluster."""
    kept = store or default_store()
    if cluster:
        from tetrasim.dse.cluster import DaskExecutor

        return DaskExecutor(spec, kept, cluster, workers)
    return LocalWorkers(spec, kept, workers) if workers > 1 else InProcess(spec, kept)
