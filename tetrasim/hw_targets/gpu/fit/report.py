"""A fit of the GPU model to measured tables, from end to end: check, fit, write, and say what was found."""

from __future__ import annotations

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.abilities import Calibrated, Calibration, Progress
from tetrasim.hw_targets.gpu.fit.calibrate import BUDGET, fit
from tetrasim.hw_targets.gpu.fit.files import write
from tetrasim.hw_targets.gpu.fit.tables import check_tables


def calibrated(wanted: Calibration, progress: Progress) -> Calibrated:
    """Fit the model to the tables; with a folder to write to, write the calibration and its error ranges.

    Raises:
        UserError: no tables, no such folder, a budget below one evaluation.
    """
    tables, out, budget = wanted.tables, wanted.out, wanted.budget
    if tables is None:
        raise UserError(
            "a GPU is calibrated from measured tables", where="--from", hint="give the folder of the tables"
        )
    check_tables(tables)
    if out is not None and not out.is_dir():
        raise UserError(f"there is no folder '{out}'", where="--out", hint="make it first")
    if budget is not None and budget < 1:
        raise UserError("the budget is less than one evaluation", where="--budget", hint=f"{BUDGET} is usual")
    found = fit(tables, budget or BUDGET, jobs=wanted.jobs, progress=progress)
    files = [] if out is None else [str(file) for file in write(found, tables, out)]
    text = "\n".join([*found.lines, *(f"wrote {file}" for file in files)])
    return Calibrated(text, {"left_out": found.lines, "files": files})
