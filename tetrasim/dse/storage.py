"""Where a study's trials are kept: the journal in its folder, or a database that optuna can open.

A database serves many studies, so each is found by its name there and has to be the same study: two that
differ in anything but their budget never mix their trials.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tetrasim.dse.metrics import METRICS
from tetrasim.dse.space import StudySpec
from tetrasim.errors import UserError
from tetrasim.files.read import mistake_of
from tetrasim.files.write import make_parents, refuse_link

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
_BUDGET = ("trials", "stall")
_MEANING = "tetrasim_study"  # the study's attribute that says what it is
_WHERE = "--storage"
_DAMAGED = "start the study in a new folder: what was evaluated is in the cache and is not lost"
_DRIVERS = {
    "postgresql": "pip install 'psycopg[binary]'",
    "mysql": "pip install PyMySQL and write mysql+pymysql://…",
}


def meaning(spec: StudySpec) -> dict[str, object]:
    """Everything of a study but its budget."""
    tree = spec.model_dump(mode="json")
    for key in _BUDGET:
        tree["search"].pop(key)
    return tree


def absolute_url(url: str) -> str:
    """`url` with the path of an SQLite file made absolute: it is opened again from other folders.

    Raises:
        UserError: an SQLite database in memory, which keeps nothing.
    """
    if not url.startswith("sqlite"):
        return url
    scheme, slashes, path = url.partition(":///")
    if not slashes or not path or path.startswith(":memory:"):
        raise UserError(
            f"'{url}' is a database in memory, which keeps nothing",
            where=_WHERE,
            hint="sqlite:///study.db",
        )
    name, question, query = path.partition("?")
    return f"{scheme}:///{Path(name).resolve()}{question}{query}"


def storage_of(folder: Path, url: str = "") -> optuna.storages.BaseStorage:
    """The journal in `folder`, or the database at `url` (sqlite, postgresql, mysql).

    Raises:
        UserError: it cannot be opened; with what to install or correct.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not url:
        from tetrasim.dse.journal import Journal

        make_parents(folder / JOURNAL)
        refuse_link(folder / JOURNAL)
        try:
            return optuna.storages.JournalStorage(Journal(folder / JOURNAL))
        except OSError as failure:
            raise mistake_of(failure, "cannot open the study's journal", folder / JOURNAL) from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as failure:
            # What optuna says of lines that it did not write
            raise UserError(
                f"the study's journal is damaged: {failure!r}", where=str(folder / JOURNAL), hint=_DAMAGED
            ) from None
    try:
        return optuna.storages.get_storage(url)
    except Exception as failure:  # optuna and SQLAlchemy have no common base class for a bad URL
        reason = " ".join(str(failure).splitlines()[0].split())
        raise UserError(
            f"cannot open the storage: {reason}", where=_WHERE, hint=_hint(url, failure)
        ) from None


def _hint(url: str, failure: Exception) -> str:
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "postgres":
        return "write postgresql://USER@HOST:PORT/DATABASE"
    if isinstance(failure, ImportError):
        return _DRIVERS.get(scheme, "sqlite:///study.db, or postgresql://USER@HOST:PORT/DATABASE")
    if scheme in _DRIVERS:
        return f"check that the server runs and the database exists: {scheme}://USER@HOST:PORT/DATABASE"
    if scheme == "sqlite":
        return "sqlite:///study.db: its folder has to exist, and the file to be a database or none"
    return "sqlite:///study.db, or postgresql://USER@HOST:PORT/DATABASE"


def open_study(spec: StudySpec, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """The optuna study of `spec`, new or as it was left.

    Raises:
        UserError: the storage holds another study of this name.
    """
    import optuna

    way = {True: optuna.study.StudyDirection.MAXIMIZE, False: optuna.study.StudyDirection.MINIMIZE}
    directions = [way[METRICS[m].maximise] for m in spec.objectives]
    study = optuna.create_study(
        storage=storage, study_name=spec.name, directions=directions, load_if_exists=True
    )
    kept = study.user_attrs.get(_MEANING)
    if kept is None and study.directions == directions:
        study.set_user_attr(_MEANING, json.dumps(meaning(spec), sort_keys=True))
    elif kept is None or _meant(kept) != meaning(spec):
        raise UserError(
            f"the storage holds another study named '{spec.name}'",
            where=_WHERE,
            hint="give this one another `name`",
        )
    return study


def _meant(kept: object) -> object:
    """What the storage says that its study means; None when it is none of ours, or damaged."""
    try:
        return meaning(StudySpec.model_validate_json(str(kept)))
    except ValidationError:
        return None
