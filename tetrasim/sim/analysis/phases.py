"""From totals of runs to a phase of the report: decompositions, utilisation, speed of light.

Speed of light (Nsight Compute's term): the achieved rate over the peak rate, for every peak of the device;
the largest fraction names the peak that bounds the phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tetrasim.sim.metric import Metric
from tetrasim.sim.result import Peak, PhaseResult, Share

if TYPE_CHECKING:
    from tetrasim.sim.engine.timeline import RunTotals

PS_PER_NS = 1000
MAC_PEAK = "MAC units"
VECTOR_PEAK = "vector units"


def shares(names: Sequence[str], amounts: Sequence[float], whole: float | None = None) -> tuple[Share, ...]:
    """Named amounts with their fraction of `whole` (default: of their sum), in the order given."""
    total = sum(amounts) if whole is None else whole
    return tuple(
        Share(name, amount, amount / total if total else 0.0)
        for name, amount in zip(names, amounts, strict=True)
    )


def achieved(totals: RunTotals, peaks: Sequence[Peak]) -> tuple[Share, ...]:
    """Per peak of the device: achieved rate, and its fraction of the peak (0 for a peak of zero)."""
    seconds = int(totals.total_ps.sum()) * 1e-12
    moved = dict(zip(totals.level_names, (int(b) for b in totals.level_bytes.sum(axis=0)), strict=True))
    amounts = {MAC_PEAK: 2 * int(totals.macs.sum()), **moved}
    out = []
    for peak in peaks:
        rate = amounts.get(peak.name, 0) / seconds if seconds else 0.0
        out.append(Share(peak.name, rate, rate / peak.amount if peak.amount else 0.0))
    return tuple(out)


def phase_result(
    name: str, totals: RunTotals, latency: Metric, energy: Metric, peaks: Sequence[Peak]
) -> PhaseResult:
    """The phase called `name`; `latency` (ns) and `energy` (pJ) are the totals with their evidence."""
    parts = [int(p) for p in totals.part_ps.sum(axis=0)]
    total_ps = int(totals.total_ps.sum())
    time = shares(totals.part_names, parts)
    rates = achieved(totals, peaks)
    best = max(rates, key=lambda s: s.fraction, default=Share("", 0.0, 0.0))
    return PhaseResult(
        name=name,
        runs=len(totals.total_ps),
        latency=latency,
        energy=energy,
        time_shares=tuple(s for s in time if s.amount),
        energy_shares=shares(totals.component_names, [float(e) for e in totals.energy_pj.sum(axis=0)]),
        bytes_moved=shares(totals.level_names, [int(b) for b in totals.level_bytes.sum(axis=0)]),
        utilisation=shares(totals.resource_names, [int(b) for b in totals.busy_ps.sum(axis=0)], total_ps),
        macs=int(totals.macs.sum()),
        tasks=int(totals.tasks.sum()),
        run_ns=tuple(int(t) / PS_PER_NS for t in totals.total_ps),
        bound_by=max(time, key=lambda s: s.amount).name if total_ps else "nothing",
        peak_fraction=best.fraction,
        peak_name=best.name,
    )
