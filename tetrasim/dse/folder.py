"""A study's folder: its spec, its journal, and what is written from them (front.csv, report.html).

The spec is fixed when the study starts; only the budget (trials, stall) may change later, so that what was
recorded keeps its meaning.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.dse.space import StudySpec
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.storage import absolute_url, meaning, open_study, storage_of
from tetrasim.dse.study import State, read_state
from tetrasim.errors import UserError
from tetrasim.files.write import write_file

if TYPE_CHECKING:
    import optuna

SPEC = "study.json"


def start(spec: StudySpec, folder: Path, url: str = "") -> optuna.Study:
    """The study of `spec` in `folder`, new or continued.

    Raises:
        UserError: the folder holds another study.
    """
    file, url = folder / SPEC, absolute_url(url)
    if file.is_file():
        kept = _read_spec(file)
        if meaning(kept) != meaning(spec):
            raise UserError(
                f"'{folder}' holds another study",
                hint="choose another folder with -o, or remove it; only trials and stall may change",
            )
    study = open_study(spec, storage_of(folder, url))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"spec": spec.model_dump(mode="json"), "storage": url}, indent=1) + "\n"
    write_file(file, text, private="@" in url)
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
    write_file(file, front_csv(state))
    return file
