"""One model on one target: graphs in, `Result` out.

Nothing here knows a target by name, and nothing depends on the clock or the host: equal inputs give equal
results, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tetrasim.flow.result_tables import build_result
from tetrasim.flow.run_phases import LoadedModel, ModelPhase, capacity_of, lowered_phases, run_phases, set_up

if TYPE_CHECKING:
    from tetrasim.files.yaml import Scalar
    from tetrasim.sim.result import Result
    from tetrasim.sim.workload import Workload

__all__ = ["LoadedModel", "ModelPhase", "simulate"]


def simulate(
    model: LoadedModel,
    preset: str,
    workload: Workload,
    *,
    overrides: Mapping[str, Scalar] | None = None,
    numerics: bool = True,
    command: str = "",
) -> Result:
    """Simulate every phase of `model` on `preset` and report everything known about it.

    Args:
        model: graphs imported for this workload.
        preset: `gpu/t4`, or `gpu/path/to/mine.yaml`.
        workload: batch, prompt, tokens to generate.
        overrides: dotted config path -> value, checked against the target's configuration.
        numerics: emulate the target's arithmetic and compare with onnxruntime.
        command: the command line that reproduces this, for the report.

    Raises:
        UserError: unknown preset or parameter.
        CapacityError: the model does not fit and the target has no other mapping.
        UnsupportedOpError: an op without a cost model.
    """
    setup = set_up(preset, overrides)
    phases = lowered_phases(model, setup, workload)
    capacity = capacity_of(phases, setup)
    runs = run_phases(model, setup, workload)
    return build_result(model, setup, workload, capacity, runs, numerics=numerics, command=command)
