"""One model on one target: graphs in, `Result` out.

Nothing here knows a target by name, and nothing depends on the clock or the host: equal inputs give equal
results, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tetrasim.flow.phases import capacity_of, lowered_phases, run_phases, settled
from tetrasim.flow.result_tables import build_result
from tetrasim.flow.setup import Setting, Setup, set_up

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.sim.result import Result
    from tetrasim.sim.workload import Workload


def simulate(
    model: LoadedModel,
    on: Setup | str,
    workload: Workload,
    *,
    overrides: Mapping[str, Setting] | None = None,
    numerics: bool = True,
    command: str = "",
) -> Result:
    """Simulate every phase of `model` on one target and report everything known about it.

    Args:
        model: graphs imported for this workload.
        on: a configured target, or what `--on` takes, which is then configured here.
        workload: batch, prompt, tokens to generate.
        overrides: dotted configuration path -> value, where `on` is a name.
        numerics: emulate the target's arithmetic and compare with a reference.
        command: the command line that reproduces this, for the report.

    Raises:
        UserError: unknown preset or parameter.
        CapacityError: the model does not fit and the target has no other mapping.
        UnsupportedOpError: an op without a cost model.
    """
    setup = settled(model, set_up(on, overrides) if isinstance(on, str) else on, workload)
    capacity = capacity_of(lowered_phases(model, setup, workload), setup)
    runs = run_phases(model, setup, workload)
    return build_result(model, setup, workload, capacity, runs, numerics=numerics, command=command)
