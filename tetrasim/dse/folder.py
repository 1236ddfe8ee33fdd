"""A study's folder: its spec, its journal, and what is written from them (front.csv, report.html).

The spec is fixed when the study starts; only the budget (trials, stall) may change later, so that what was
recorded keeps its meaning.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.dse.space import StudySpec
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.storage import JOURNAL, absolute_url, meaning, open_study, storage_of
from tetrasim.dse.study import State, read_state
from tetrasim.errors import UserError
from tetrasim.files.read import read_json
from tetrasim.files.write import write_file

if TYPE_CHECKING:
    import optuna

SPEC = "study.json"
_PASSWORD = re.compile("//[^/@]*@")


def start(spec: StudySpec, folder: Path, url: str = "") -> optuna.Study:
    """The study of `spec` in `folder`, new or continued.

    Raises:
        UserError: the folder holds another study.
    """
    file, url = folder / SPEC, absolute_url(url)
    if file.is_file():
        kept, kept_url = _read(file)
        if meaning(kept) != meaning(spec):
            raise UserError(
                f"'{folder}' holds another study",
                hint="choose another folder with -o, or remove it; only trials and stall may change",
            )
        _check_storage(kept_url, url, file)
    study = open_study(spec, storage_of(folder, url))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"spec": spec.model_dump(mode="json"), "storage": url}, indent=1) + "\n"
    write_file(file, text, private="@" in url)
    return study


def load(folder: Path, url: str = "") -> State:
    """What a study folder has recorded.

    Args:
        url: the database that the study was started with, if it was: what the folder names is not opened.

    Raises:
        UserError: not a study folder, or one whose trials are in another storage.
    """
    file = folder / SPEC
    if not file.is_file():
        raise UserError(f"'{folder}' is not a study folder", hint="give the folder of `tetrasim dse run`")
    spec, kept_url = _read(file)
    url = absolute_url(url)
    _check_storage(kept_url, url, file)
    if not url and not (folder / JOURNAL).exists():
        return State(spec, (), 0)
    return read_state(spec, open_study(spec, storage_of(folder, url)))


def _check_storage(kept: str, named: str, file: Path) -> None:
    """A folder may come from anyone: a database is opened when the command line names it.

    Raises:
        UserError: the folder's trials are in another storage than the one that is named.
    """
    if kept == named:
        return
    shown = _PASSWORD.sub("//…@", kept)
    if kept:
        raise UserError(
            f"the trials of this study are in the database {shown}, which is opened only when you name it",
            where=str(file),
            hint=f"if you trust it: --storage '{shown}'",
        )
    raise UserError(
        "the trials of this study are in its folder's journal", where=str(file), hint="drop --storage"
    )


def _read(file: Path) -> tuple[StudySpec, str]:
    """The study of a folder, and the database that it was started with."""
    tree = read_json(file)
    if not isinstance(tree, dict) or not isinstance(tree.get("spec"), dict):
        raise UserError("it holds no study", where=str(file), hint="give the folder of `tetrasim dse run`")
    return make_spec(tree["spec"], str(file)), str(tree.get("storage", ""))


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
