"""The proof of numerics: C simulation = emulation bit for bit, and how far both are from the model, per
layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.fpga.hls.emulate import run_fixed, run_real
from tetrasim.hw_targets.fpga.hls.plan import Floats, Input, Plan, Rescale

LOSS_FACTOR = 4.0  # a layer that multiplies the relative error by this is named


@dataclass(frozen=True, slots=True)
class LayerNumerics:
    """Error of one layer's fixed-point result against real numbers, over all samples."""

    layer: str
    node: str
    op: str
    type: str
    real_range: float
    max_error: float
    mean_error: float

    @property
    def relative(self) -> float:
        """Maximum error over the layer's range."""
        return self.max_error / self.real_range if self.real_range else 0.0


@dataclass(frozen=True, slots=True)
class Numerics:
    """`bit_exact` None: the C simulation was not run. `argmax` compares with the reference outputs. Where a
    file quantises the outputs, `steps` is the largest difference in steps of their grid and `same_steps` the
    share without any (-1 and 0 otherwise)."""

    samples: int
    reference: str
    max_error: float
    mean_error: float
    output_range: float
    argmax: float
    bit_exact: bool | None
    bit_differences: int
    conversion_error: float  # plan in real numbers against the reference: the conversion itself
    layers: tuple[LayerNumerics, ...]
    steps: int = -1
    same_steps: float = 0.0

    @property
    def relative(self) -> float:
        """Maximum error over the output range."""
        return self.max_error / self.output_range if self.output_range else 0.0

    @property
    def first_loss(self) -> str:
        """The first layer whose relative error jumps, empty when none does."""
        worst = 0.0
        for row in self.layers:
            if worst and row.relative > LOSS_FACTOR * worst and row.relative > 1e-3:
                return row.layer
            worst = max(worst, row.relative)
        return ""


def outputs_of(values: Mapping[str, Floats], plan: Plan) -> Floats:
    """All outputs side by side, [N, …]."""
    return np.concatenate([values[name] for name in plan.outputs], axis=1)


def compare(
    plan: Plan, feeds: Mapping[str, Floats], reference: Floats, source: str, simulated: Floats | None
) -> Numerics:
    """Numbers for the report. `reference` and `simulated` are [N, all outputs]."""
    real, fixed = run_real(plan, feeds), run_fixed(plan, feeds)
    made = outputs_of(fixed, plan)
    rows = []
    for layer in plan.layers:
        wrong = np.abs(fixed[layer.name] - real[layer.name])
        spread = float(np.ptp(real[layer.name]))
        op = "Input" if isinstance(layer, Input) else layer.head.op
        kind = plan.types[layer.name].result.hls4ml
        rows.append(
            LayerNumerics(
                layer.name, layer.head.node, op, kind, spread, float(wrong.max()), float(wrong.mean())
            )
        )
    error = np.abs(made - reference)
    size = plan.layer(plan.outputs[0]).size
    agree = float((made[:, :size].argmax(1) == reference[:, :size].argmax(1)).mean())
    differences = 0 if simulated is None else int((simulated != made).sum())
    steps, same = _steps(plan, made, reference)
    return Numerics(
        samples=len(made),
        reference=source,
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        output_range=float(np.ptp(reference)),
        argmax=agree,
        bit_exact=None if simulated is None else differences == 0,
        bit_differences=differences,
        conversion_error=float(np.abs(outputs_of(real, plan) - reference).max()),
        layers=tuple(rows),
        steps=steps,
        same_steps=same,
    )


def _steps(plan: Plan, made: Floats, reference: Floats) -> tuple[int, float]:
    """Largest difference in whole steps of the outputs' grids, and the share of values without any."""
    sizes = []
    for name in plan.outputs:
        layer = plan.layer(name)
        step = np.zeros(1)
        if name in plan.given:
            step = np.array([2.0 ** -plan.given[name].fraction])
        elif isinstance(layer, Rescale):
            step = plan.units[layer.inputs[0]]
        sizes.append(np.broadcast_to(step, layer.size))
    step = np.concatenate(sizes)
    if not step.all():
        return -1, 0.0
    apart = np.abs(np.rint(made / step) - np.rint(reference / step))
    return int(apart.max()), float((apart == 0).mean())
