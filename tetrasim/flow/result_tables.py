"""Tables of the `Result`: metrics with their evidence, phases, ops, memory, coverage, numerics, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tetrasim.flow.numerics import check_numerics, headline
from tetrasim.flow.provenance import provenance
from tetrasim.flow.sparsity import zeros_text
from tetrasim.hw_targets.common.parts import advice_text
from tetrasim.sim.analysis.coverage import coverage
from tetrasim.sim.analysis.masks import run_time_masks
from tetrasim.sim.analysis.ops import op_results, roofline
from tetrasim.sim.analysis.phases import MAC_PEAK, VECTOR_PEAK, phase_result
from tetrasim.sim.analysis.rules import Evidence, PhaseEvidence, findings, spenders
from tetrasim.sim.metric import Basis, Metric
from tetrasim.sim.result import (
    SCHEMA_VERSION,
    CoverageResult,
    Generation,
    MemoryResult,
    NumericsResult,
    OpResult,
    Peak,
    PhaseResult,
    ResourceResult,
    Result,
)

if TYPE_CHECKING:
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.flow.phases import PhaseRun
    from tetrasim.flow.setup import Setup
    from tetrasim.hw_targets.common.target import Capacity, Peaks, ResourceUse
    from tetrasim.sim.workload import Workload

_ORDER = tuple(Basis)  # strongest first


def build_result(
    model: LoadedModel,
    setup: Setup,
    workload: Workload,
    capacity: Capacity,
    runs: Sequence[PhaseRun],
    *,
    numerics: bool,
    command: str,
) -> Result:
    """Everything a report says about these runs."""
    covered = coverage(run.family.base for run in runs)
    if covered.unmodelled:  # nobody measured a model without some of its ops
        capacity = replace(capacity, measured=False)
    peaks = peak_list(setup.target.peaks(setup.config))
    phases = tuple(
        phase_result(
            run.name,
            run.totals,
            evidence_metric(setup, capacity, run.name, int(run.totals.total_ps.sum()) / 1000, "ns"),
            evidence_metric(setup, capacity, "energy", float(run.totals.energy_pj.sum()), "pJ"),
            peaks,
        )
        for run in runs
    )
    ops: tuple[OpResult, ...] = sum(
        (op_results(run.name, run.family, run.contexts, run.totals) for run in runs), ()
    )
    memory = _memory(setup, capacity, runs[-1])
    uses = setup.target.resources(runs[-1].family.at(runs[-1].contexts[-1]), setup.config)
    latency, energy = summed([p.latency for p in phases]), summed([p.energy for p in phases])
    checked = _numerics(setup, runs, workload, enabled=numerics)
    return Result(
        schema_version=SCHEMA_VERSION,
        model=model.name,
        parameters=model.parameters,
        target=setup.target.name,
        preset=setup.preset,
        title=setup.title,
        precision=_precision_text(setup),
        workload=workload,
        mapping=capacity.mode,
        mapping_note=capacity.note,
        latency=latency,
        energy=energy,
        area=_area(uses),
        phases=phases,
        generation=generation(phases, latency, energy, workload),
        ops=ops,
        memory=memory,
        resources=tuple(ResourceResult(u.name, u.used, u.available, u.unit) for u in uses),
        peaks=peaks,
        roofline=roofline(ops),
        coverage=covered,
        numerics=checked,
        findings=findings(_evidence(setup, phases, runs, memory)),
        warnings=_warnings(setup, latency, memory, covered, uses, _said(checked, runs)),
        validation=_validation(phases),
        provenance=provenance(model.sha256, setup.config.model_dump_json(), command),
    )


def _memory(setup: Setup, capacity: Capacity, last: PhaseRun) -> tuple[MemoryResult, ...]:
    """What lies in each memory at the end of the run, and the state that lay there at its beginning."""
    first = setup.target.capacity(last.family.at(last.contexts[0]), setup.config)
    began = {m.name: m.state_bytes for m in first.memories}
    return tuple(
        MemoryResult(
            m.name,
            m.capacity_bytes,
            m.weights_bytes,
            m.state_bytes,
            m.activation_bytes,
            m.fits,
            began.get(m.name, m.state_bytes),
        )
        for m in capacity.memories
    )


def evidence_metric(setup: Setup, capacity: Capacity, quantity: str, value: float, unit: str) -> Metric:
    """`value` with the range of the target's measurements of that quantity, or marked unvalidated."""
    known = setup.target.error_range(setup.config, quantity) if capacity.measured else None
    if known is not None:
        return known.metric(value, unit)
    return Metric(value, unit, basis=Basis.ANALYTIC if quantity == "energy" else setup.target.time_basis)


def summed(metrics: Sequence[Metric]) -> Metric:
    """The sum; its range needs a range for every part, its basis is the weakest."""
    first = metrics[0]
    lows = [m.low for m in metrics if m.low is not None]
    highs = [m.high for m in metrics if m.high is not None]
    complete = len(lows) == len(highs) == len(metrics)
    return Metric(
        value=sum(m.value for m in metrics),
        unit=first.unit,
        low=sum(lows) if complete else None,
        high=sum(highs) if complete else None,
        basis=max((m.basis for m in metrics), key=_ORDER.index),
        source="; ".join(dict.fromkeys(m.source for m in metrics if m.source)),
    )


def inverted(metric: Metric, amount: float, unit: str) -> Metric:
    """`amount / metric`: a rate; the bounds swap."""

    def over(x: float | None) -> float | None:
        return amount / x if x else None

    return Metric(
        over(metric.value) or 0.0, unit, over(metric.high), over(metric.low), metric.basis, metric.source
    )


def generation(
    phases: Sequence[PhaseResult], latency: Metric, energy: Metric, workload: Workload
) -> Generation | None:
    """Times per token and rates; None where nothing is generated. Rates count every sequence of the batch."""
    by_name = {p.name: p for p in phases}
    prefill, decode = by_name.get("prefill"), by_name.get("decode")
    if workload.generate < 1 or (prefill is None and decode is None):
        return None
    tokens = workload.generate * workload.batch
    mean = decode.latency.scaled(1 / decode.runs) if decode else None
    first, last = prefill.latency if prefill else latency, None
    if decode and decode.latency.value:
        last = decode.latency.scaled(decode.run_ns[-1] / decode.latency.value)
        if prefill is None:  # a step graph by itself: its first run gives the first token
            first = decode.latency.scaled(decode.run_ns[0] / decode.latency.value)
    return Generation(
        first_token=first,
        mean_token=mean,
        last_token=last,
        total=latency,
        tokens_per_s=inverted(latency, tokens * 1e9, "token/s"),
        energy_per_token=energy.scaled(1e-12 / tokens, "J"),
    )


def _precision_text(setup: Setup) -> str:
    p = setup.target.precision(setup.config)
    text = p.weights.name if p.weights == p.activations else f"{p.weights.name} weights, {p.activations.name}"
    return text if p.state == p.activations else f"{text}, {p.state.name} state"


def _area(uses: Sequence[ResourceUse]) -> Metric | None:
    for use in uses:
        if use.unit == "mm2":
            return Metric(use.used, "mm2", source=use.name)
    return None


def _numerics(setup: Setup, runs: Sequence[PhaseRun], workload: Workload, *, enabled: bool) -> NumericsResult:
    if not enabled:
        return NumericsResult(False, "not asked for")
    run = runs[0]
    context = run.contexts[0]
    arithmetic = setup.target.emulated(setup.config)
    graphs = run.original.family.at(context), run.family.at(context)
    return check_numerics(*graphs, run.original.onnx, arithmetic, workload.values)


def _evidence(
    setup: Setup, phases: Sequence[PhaseResult], runs: Sequence[PhaseRun], memory: tuple[MemoryResult, ...]
) -> Evidence:
    shown = []
    for phase, run in zip(phases, runs, strict=True):
        middle = run.contexts[len(run.contexts) // 2]
        shown.append(PhaseEvidence(phase, setup.target.lower(run.family.at(middle), setup.config)))
    advice = {part.name: advice_text(part.advice(setup.config)) for part in setup.target.parts}
    return Evidence(tuple(shown), memory, advice, spenders([(run.family, run.totals) for run in runs]))


def _assumptions(runs: Sequence[PhaseRun]) -> tuple[str, ...]:
    """What the graphs of all phases leave to run-time data, each once."""
    graphs = [run.family.base for run in runs]
    texts = (*(text for graph in graphs for text in graph.assumptions), run_time_masks(graphs))
    return tuple(dict.fromkeys(texts))


def _said(checked: NumericsResult, runs: Sequence[PhaseRun]) -> tuple[str, ...]:
    """What the numerics, the weights and the import of the graphs have to say; empty texts for nothing."""
    return headline(checked), zeros_text(runs[0].original.family.base), *_assumptions(runs)


def _warnings(
    setup: Setup,
    latency: Metric,
    memory: Sequence[MemoryResult],
    coverage: CoverageResult,
    uses: Sequence[ResourceUse],
    said: Sequence[str],
) -> tuple[str, ...]:
    """Everything that a headline must say; `said`: what was found elsewhere, empty texts left out."""
    out = [text for text in said if text]
    missing = coverage.unmodelled
    if missing:
        several = f"{len(missing)} nodes have no cost model and count"
        count = several if len(missing) > 1 else "1 node has no cost model and counts"
        out.append(f"{count} as zero: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}")
    if not latency.validated:
        out.append(f"{setup.preset} is not validated: no measurement of this kind is committed for it")
    if setup.marks:
        kinds = ", ".join(f"{setup.marks.count(m)} {m}" for m in sorted(set(setup.marks)))
        out.append(f"{len(setup.marks)} values of {setup.preset} are not from a primary source ({kinds})")
    out += [f"{m.name} is too small for this model" for m in memory if not m.fits]
    out += [
        f"{u.name}: {u.used:g} needed, {u.available:g} available" for u in uses if u.used > u.available > 0
    ]
    return tuple(out)


def _validation(phases: Sequence[PhaseResult]) -> tuple[str, ...]:
    lines = (
        f"{kind} of {p.name}: {m.source}"
        for p in phases
        for kind, m in (("latency", p.latency), ("energy", p.energy))
        if m.source
    )
    return tuple(dict.fromkeys(lines))


def peak_list(peaks: Peaks) -> tuple[Peak, ...]:
    """Ceilings for the report: operations per second (a MAC is two), bytes per second per level."""
    return (
        Peak(MAC_PEAK, 2 * peaks.macs_per_s, "op/s"),
        Peak(VECTOR_PEAK, peaks.vector_ops_per_s, "op/s"),
        *(Peak(name, amount, "B/s") for name, amount in peaks.bytes_per_s),
    )
