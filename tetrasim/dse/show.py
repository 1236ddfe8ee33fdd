"""A trial of a study as a full run: the same point simulated again, with every table of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.graphs import load
from tetrasim.dse.study import State
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from tetrasim.facade import Run


def simulate_trial(state: State, number: int) -> Run:
    """The report of trial `number`.

    Raises:
        UserError: no such trial, or one whose point cannot exist.
    """
    from tetrasim import facade
    from tetrasim.dse.graphs import exported_folder

    found = next((t for t in state.trials if t.number == number), None)
    if found is None:
        raise UserError(
            f"study '{state.spec.name}' has no finished trial {number}",
            hint=f"it has {len(state.trials)} trials; `tetrasim dse status` lists the front",
        )
    if not found.metrics:
        raise UserError(f"trial {number} cannot be simulated: {found.note}", hint="choose another trial")
    candidate = resolve_point(state.spec, found.point)
    load(candidate)
    work = candidate.workload
    return facade.simulate(
        exported_folder(candidate),
        candidate.setup.preset,
        prompt=work.prompt,
        generate=work.generate,
        batch=work.batch,
        settings=candidate.overrides,
    )
