"""A study's folder: its spec, its journal, and what is written from them (front.csv, report.html).

The spec is fixed when the study starts; only the budget (trials, stall) may change later, so that what was
recorded keeps its meaning.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.dse.space import StudySpec, make_spec
from tetrasim.dse.study import SPEC, State, open_study, read_state, storage_of
from tetrasim.errors import UserError

if TYPE_CHECKING:
    import optuna

_BUDGET = ("trials", "stall")


def start(spec: StudySpec, folder: Path, url: str = "") -> optuna.Study:
    """The study of `spec` in `folder`, new or continued.

    Raises:
        UserError: the folder holds another study.
    """
    file = folder / SPEC
    if file.is_file():
        kept = _read_spec(file)
        if _meaning(kept) != _meaning(spec):
            raise UserError(
                f"'{folder}' holds another study",
                hint="choose another folder with -o, or remove it; only trials and stall may change",
            )
    study = open_study(spec, storage_of(folder, url))
    folder.mkdir(parents=True, exist_ok=True)
    _write(file, json.dumps({"spec": spec.model_dump(mode="json"), "storage": url}, indent=1) + "\n")
    return study


def load(folder: Path) -> State:
    """What a study folder has recorded.

    Raises:
        UserError: not a study folder.
    """
    file = folder / SPEC
    if not file.is_file():
        raise UserError(f"'{folder}' is not a study folder", hint="give the folder of `tetrasim dse run`")
    spec = _read_spec(file)
    url = str(json.loads(file.read_text(encoding="utf-8")).get("storage", ""))
    return read_state(spec, open_study(spec, storage_of(folder, url)))


def _read_spec(file: Path) -> StudySpec:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))["spec"]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise UserError(f"cannot read the study: {failure}", where=str(file)) from None
    return make_spec(tree, str(file))


def _meaning(spec: StudySpec) -> dict[str, object]:
    """Everything of a spec but its budget."""
    tree = spec.model_dump(mode="json")
    for key in _BUDGET:
        tree["search"].pop(key)
    return tree


def front_csv(state: State) -> str:
    """The Pareto front: trial, parameters, metrics."""
    rows = [{"trial": t.number, **t.point, **t.metrics} for t in state.front]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["trial"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_front(state: State, folder: Path) -> Path:
    """Write `front.csv`."""
    file = folder / "front.csv"
    _write(file, front_csv(state))
    return file


def _write(file: Path, text: str) -> None:
    """Complete or not at all."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)
