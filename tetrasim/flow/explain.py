"""Why an op takes what it takes: a node of a model, or an op alone, on one configured target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest
from tetrasim.flow.phases import lowered_phases
from tetrasim.hw_targets.common.explanation import Explained, Explanation, Place
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ops.registry import work_of

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.flow.setup import Setup
    from tetrasim.sim.ops.work import Work
    from tetrasim.sim.workload import Workload


def explain_op(what: str, work: Work, setup: Setup) -> Explained:
    """An op alone.

    Raises:
        UserError: the target does not explain.
    """
    return Explained(what, _kernels(work, setup, None), op_evidence(setup, work))


def explain_node(
    name: str, phase: str, model: LoadedModel, setup: Setup, workload: Workload
) -> tuple[Explained, ...]:
    """A node of a model in every phase (or the one that is named), at the last context of each.

    Raises:
        UserError: no such node or phase, with the nearest; the target does not explain.
    """
    found, known, phases = [], dict[str, None](), list[str]()
    for of_model, family, contexts in lowered_phases(model, setup, workload):
        phases.append(of_model.name)
        graph = family.at(contexts[-1])
        names = [node.name for node in graph.nodes]
        known.update(dict.fromkeys(names))
        if name not in names or phase not in ("", of_model.name):
            continue
        at = names.index(name)
        node = graph.nodes[at]
        shape = ", ".join(str(v.type) for v in node.outputs)
        where = f" at {contexts[-1]} keys" if of_model.name == "decode" else ""
        what = f"{node.op} '{name}' -> {shape}, {of_model.name}{where}, on {setup.preset}"
        kernels = _kernels(work_of(node), setup, Place(graph, at))
        found.append(Explained(what, kernels, evidence(setup, of_model.name)))
    if phase and phase not in phases:
        raise UserError(f"this run has no phase '{phase}'", hint=f"its phases: {', '.join(phases)}")
    if not found:
        raise UserError(f"no node '{name}' in this model", hint=nearest(name, list(known)))
    return tuple(found)


def _kernels(work: Work, setup: Setup, place: Place | None) -> tuple[Explanation, ...]:
    if setup.target.explain is None:
        raise UserError(f"{setup.target.name} does not explain its prices", where=setup.preset)
    sources = {s.path: s.source for s in find_preset(setup.named)[1].sources}
    given = dict(setup.overrides)
    return tuple(
        replace(
            kernel,
            constants=tuple(
                replace(c, source=_source(c.path, sources, given)) if c.path and not c.source else c
                for c in kernel.constants
            ),
        )
        for kernel in setup.target.explain(work, setup.config, place)
    )


def _source(path: str, sources: dict[str, str], given: dict[str, str | int | float | bool]) -> str:
    if path in given:
        return f"{path}, set for this run"
    return f"{path}, {sources.get(path) or 'the default of this target'}"


def op_evidence(setup: Setup, work: Work) -> str:
    """The range that measurements of this class of op give, or why there is none."""
    known = None if setup.target.op_range is None else setup.target.op_range(work, setup.config)
    if known is None:
        return (
            f"no range: no measurements of single ops of this class are committed for {setup.preset} as it is"
            f" configured; times are {setup.target.time_basis}"
        )
    span = f"{known.low_factor:.2f} to {known.high_factor:.2f}"
    return f"measured / predicted {span} ({known.basis}): {known.source}"


def evidence(setup: Setup, phase: str) -> str:
    """The range that measurements give this phase, or why there is none."""
    known = setup.target.error_range(setup.config, phase)
    if known is None:
        return (
            f"no range: no measurement of this kind is committed for {setup.preset} as it is configured;"
            f" times are {setup.target.time_basis}"
        )
    span = f"{known.low_factor:.2f} to {known.high_factor:.2f}"
    return f"measured / predicted {span} ({known.basis}): {known.source}"
