"""What is known about a target beside its simulation: its error on committed measurements, the same files run
on this machine, a calibration of this machine, and where a mapping puts a model.

A target that can do one of these says so in its `TARGET`; nothing here knows a target by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest
from tetrasim.flow.phases import lowered_phases, settled
from tetrasim.hw_targets.registry import load_target, preset_names, target_names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from tetrasim.flow.loading import LoadedModel
    from tetrasim.flow.setup import Setup
    from tetrasim.hw_targets.common.abilities import Calibrated, Calibration, Measured, Progress
    from tetrasim.hw_targets.common.target import Config, Target
    from tetrasim.sim.workload import Workload


def targets_with(ability: Callable[[Target[Config]], object]) -> tuple[str, ...]:
    """The targets, by name, for which `ability` is not None: `lambda target: target.validate`."""
    return tuple(name for name in target_names() if ability(load_target(name)) is not None)


def validate(
    target: str | None = None, progress: Progress | None = None
) -> dict[str, tuple[DataclassInstance, ...]]:
    """The rows of one target's validation, or of every target's that has measurements, by target.

    Raises:
        UserError: a target that has nothing to compare with.
    """
    known = targets_with(lambda t: t.validate)
    if target is not None and target not in known:
        raise UserError(f"target '{target}' has no validation to run", hint=nearest(target, known))
    out = {}
    wanted = known if target is None else (target,)
    for i, name in enumerate(wanted):
        if progress is not None:
            progress(f"validating {name}", i / len(wanted))
        run = load_target(name).validate
        assert run is not None
        out[name] = tuple(run())
    return out


def calibrate(target: str, wanted: Calibration, progress: Progress) -> Calibrated:
    """Calibrate `target`: a kind of hardware, or the preset of this machine.

    Raises:
        UserError: a target that nothing is calibrated for; options that it does not take.
    """
    known = targets_with(lambda t: t.calibrate)
    kind = target.removesuffix("/host") if target in preset_names() else target
    run = load_target(kind).calibrate if kind in known else None
    if run is None:
        raise UserError(f"'{target}' cannot be calibrated", hint=nearest(target, known))
    return run(wanted, progress)


def check_measurable(setups: Sequence[Setup]) -> None:
    """Refuse, before any work is done, when none of the targets can be measured.

    Raises:
        UserError: naming the targets that can.
    """
    if any(setup.target.measure is not None for setup in setups):
        return
    hosts = [p for p in preset_names() if p.endswith("/host")]
    raise UserError(
        "none of the targets can be measured here",
        where="--measure",
        hint=f"add --on {hosts[0]}" if hosts else "drop --measure",
    )


def measure(model: LoadedModel, setups: Sequence[Setup], workload: Workload) -> list[tuple[str, Measured]]:
    """Each phase on each target that can be measured: (preset and phase, predicted against measured)."""
    out = []
    for setup in setups:
        if setup.target.measure is None:
            continue
        for phase, _, contexts in lowered_phases(model, setup, workload):
            if phase.onnx is not None:
                graph = phase.family.at(contexts[0])
                found = setup.target.measure(phase.onnx, graph, setup.config)
                out.append((f"{setup.named} {phase.name}", found))
    return out


def mapping_text(model: LoadedModel, setup: Setup, workload: Workload) -> str:
    """Where the target puts the last phase's graph, at its largest context."""
    check_mapping(setup)
    chosen = settled(model, setup, workload)
    assert chosen.target.mapping_text is not None
    _, family, contexts = lowered_phases(model, chosen, workload)[-1]
    return chosen.target.mapping_text(family.at(contexts[-1]), chosen.config, workload)


def check_mapping(setup: Setup) -> None:
    """Refuse a target without a mapping before a model is read.

    Raises:
        UserError: naming the targets that have one.
    """
    if setup.target.mapping_text is None:
        raise UserError(
            f"target '{setup.target.name}' has no mapping to show",
            where="--on",
            hint=f"those that have one: {', '.join(targets_with(lambda t: t.mapping_text)) or 'none'}",
        )
