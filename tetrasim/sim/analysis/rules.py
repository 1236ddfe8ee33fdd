"""Findings: what makes a run as slow as it is, and what changing it would save.

Each rule is one function from the evidence to a finding or None; adding a rule is adding a function to
`RULES`. What to do about a part of the time is said by the target that defines it (`parts.py` of the target).
A gain is computed by replaying the simulated program with one part changed (`replay.py`), weighted by the
phases' share of the time, never guessed from a percentage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.analysis.phases import shares
from tetrasim.sim.analysis.replay import replay_part, replay_resource
from tetrasim.sim.analysis.stalls import RELEASE, TAIL, stalls
from tetrasim.sim.engine.program import PIPELINE_PART, RELEASE_PART
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.result import Finding, MemoryResult, PhaseResult, Share
from tetrasim.units import si_bytes

if TYPE_CHECKING:
    from tetrasim.sim.engine.program import Program
    from tetrasim.sim.engine.timeline import RunTotals
    from tetrasim.sim.ir.family import GraphFamily

MIN_GAIN = 0.01  # below one percent a finding is noise


@dataclass(frozen=True, eq=False)
class PhaseEvidence:
    """A phase and one of its runs in full (the middle context of a generation)."""

    result: PhaseResult
    program: Program


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a rule may look at. `advice`: what the target says about each part of its time in this
    configuration; `spenders`: the ops that a part is spent on, in words."""

    phases: tuple[PhaseEvidence, ...]
    memory: tuple[MemoryResult, ...]
    advice: Mapping[str, str]
    spenders: Mapping[str, str]


Rule = Callable[[Evidence], Finding | None]


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """What the rules say, largest gain first, findings without a gain last."""
    found = [f for rule in RULES if (f := rule(evidence)) is not None]
    return tuple(sorted(found, key=lambda f: -(f.gain or 0.0)))


def gain_of(evidence: Evidence, replay: Callable[[Program], int]) -> float:
    """Fraction of the whole time that a replay saves."""
    whole = sum(p.result.latency.value for p in evidence.phases)
    saved = 0.0
    for phase in evidence.phases:
        base = run_static(phase.program).total_ps
        if base:
            saved += phase.result.latency.value * (1 - replay(phase.program) / base)
    return saved / whole if whole else 0.0


def largest_part(evidence: Evidence) -> Finding | None:
    """The part that most of the critical path is spent on, and what halving it would save."""
    ranked = _parts(evidence)
    return _part_finding(evidence, ranked[0], "warning") if ranked else None


def second_part(evidence: Evidence) -> Finding | None:
    """The next part, when it holds a tenth of the time or more."""
    ranked = _parts(evidence)
    if len(ranked) < 2 or ranked[1].fraction < 0.1:
        return None
    return _part_finding(evidence, ranked[1], "info")


def _parts(evidence: Evidence) -> list[Share]:
    amounts: dict[str, float] = {}
    for phase in evidence.phases:
        for share in phase.result.time_shares:
            amounts[share.name] = amounts.get(share.name, 0.0) + share.amount
    ranked = shares(tuple(amounts), tuple(amounts.values()))
    named = [s for s in ranked if s.name not in (PIPELINE_PART, RELEASE_PART) and s.amount > 0]
    return sorted(named, key=lambda s: -s.amount)


def _part_finding(evidence: Evidence, share: Share, severity: str) -> Finding | None:
    def halved(program: Program) -> int:
        present = share.name in program.part_names
        return replay_part(program, share.name, 0.5) if present else run_static(program).total_ps

    gain = gain_of(evidence, halved)
    if gain < MIN_GAIN:
        return None
    return Finding(
        severity=severity,
        title=f"{share.name} is {100 * share.fraction:.0f} % of the time",
        evidence=f"{share.name} holds {100 * share.fraction:.1f} % of the critical path; "
        f"at half of it the same program takes {100 * gain:.1f} % less time (replayed)",
        advice=_advice(evidence, share.name),
        gain=gain,
    )


def _advice(evidence: Evidence, part: str) -> str:
    """The target's advice about a part and the ops that it concerns."""
    told = evidence.advice.get(part, "") or "no setting of this target shortens it: give it less to do"
    spent = evidence.spenders.get(part, "")
    return f"{told}; spent on {spent}" if spent else told


def spenders(phases: Sequence[tuple[GraphFamily, RunTotals]], most: int = 3) -> dict[str, str]:
    """Per part of the time, the kinds of op that spend most of it, each with the node that spends most:
    `MatMul 61 % (most in 'blocks.3.mlp.up'), Attention 20 % (…)`."""
    by_part: dict[str, dict[str, dict[str, int]]] = {}
    for family, totals in phases:
        for p, part in enumerate(totals.part_names):
            for i in np.flatnonzero(totals.node_part_ps[:, p]).tolist():
                node = family.base.nodes[i]
                nodes = by_part.setdefault(part, {}).setdefault(node.op, {})
                nodes[node.name] = nodes.get(node.name, 0) + int(totals.node_part_ps[i, p])
    return {part: _spent(kinds, most) for part, kinds in by_part.items()}


def _spent(kinds: dict[str, dict[str, int]], most: int) -> str:
    sums = {op: sum(nodes.values()) for op, nodes in kinds.items()}
    whole = sum(sums.values())
    words = []
    for op in sorted(sums, key=lambda op: -sums[op])[:most]:
        name = max(kinds[op], key=lambda n: kinds[op][n])
        inside = f"most in '{name}'" if len(kinds[op]) > 1 else f"'{name}'"
        if sums[op] >= MIN_GAIN * whole:
            words.append(f"{op} {100 * sums[op] / whole:.0f} % ({inside})")
    return ", ".join(words)


def busiest_resource(evidence: Evidence) -> Finding | None:
    """A resource that is nearly always busy while others wait: what twice its speed would save."""
    busy = _busy(evidence)
    if len(busy) < 2 or busy[0].fraction < 0.5 or busy[1].fraction < 0.1:
        return None
    name = busy[0].name

    def doubled(program: Program) -> int:
        known = any(r.name == name for r in program.resources)
        return replay_resource(program, name, 0.5) if known else run_static(program).total_ps

    gain = gain_of(evidence, doubled)
    if gain < MIN_GAIN:
        return None
    return Finding(
        severity="info",
        title=f"{name} is busy {100 * busy[0].fraction:.0f} % of the time",
        evidence=f"the next resource, {busy[1].name}, is busy {100 * busy[1].fraction:.0f} %; "
        f"twice as fast a {name} saves {100 * gain:.1f} % (replayed)",
        advice=f"speed up or duplicate {name} first: the others wait for it",
        gain=gain,
    )


def serialised_resources(evidence: Evidence) -> Finding | None:
    """Two resources that both work a lot but never at the same time: overlap would help."""
    busy = _busy(evidence)
    if len(busy) < 2 or busy[1].fraction < 0.15:
        return None
    both = busy[0].fraction + busy[1].fraction
    if both > 1.02 or both < 0.7:
        return None
    return Finding(
        severity="info",
        title=f"{busy[0].name} and {busy[1].name} take turns",
        evidence=f"they are busy {100 * busy[0].fraction:.0f} % and {100 * busy[1].fraction:.0f} % "
        f"of the time, {100 * both:.0f} % together: hardly ever at once",
        advice="a mapping that overlaps them (two requests, or split tensors) could hide the shorter one; "
        f"full overlap would save at most {100 * busy[1].fraction:.0f} %",
    )


def _busy(evidence: Evidence) -> list[Share]:
    amounts: dict[str, float] = {}
    whole = 0.0
    for phase in evidence.phases:
        whole += sum(s.amount for s in phase.result.time_shares)
        for share in phase.result.utilisation:
            amounts[share.name] = amounts.get(share.name, 0.0) + share.amount
    return sorted(shares(tuple(amounts), tuple(amounts.values()), whole), key=lambda s: -s.amount)


def starved_resource(evidence: Evidence) -> Finding | None:
    """The busiest resource idles a fifth of the time or more for one other resource."""
    if not evidence.phases:
        return None
    phase = max(evidence.phases, key=lambda p: p.result.latency.value)
    line = run_static(phase.program)
    rows = stalls(phase.program, line)
    busiest = max(rows, key=lambda r: r.busy_ps, default=None)
    if busiest is None or not line.total_ps or not busiest.waits:
        return None
    what, waited = busiest.waits[0]
    share = waited / line.total_ps
    if share < 0.2 or what in (RELEASE, TAIL):
        return None
    blocker = what.removeprefix("waiting for ")

    def faster(program: Program) -> int:
        known = any(r.name == blocker for r in program.resources)
        return replay_resource(program, blocker, 0.5) if known else run_static(program).total_ps

    gain = gain_of(evidence, faster)
    return Finding(
        severity="warning",
        title=f"{busiest.resource} waits for {blocker} {100 * share:.0f} % of the time",
        evidence=f"in a {phase.result.name} run {busiest.resource} works "
        f"{100 * busiest.busy_ps / line.total_ps:.0f} % of the time and idles {100 * share:.0f} % for "
        f"{blocker}; twice as fast a {blocker} saves {100 * gain:.1f} % (replayed)",
        advice=f"give {blocker} less to do, make it faster, or let {busiest.resource} run ahead",
        gain=gain,
    )


def memory_nearly_full(evidence: Evidence) -> Finding | None:
    """A memory above 90 % full, or too small."""
    for m in evidence.memory:
        used = m.weights_bytes + m.state_bytes + m.activation_bytes
        if m.capacity_bytes and used > 0.9 * m.capacity_bytes:
            return Finding(
                severity="warning",
                title=f"{m.name} is {100 * used / m.capacity_bytes:.0f} % full",
                evidence=f"{si_bytes(used)} of {si_bytes(m.capacity_bytes)}: weights "
                f"{si_bytes(m.weights_bytes)}, state {si_bytes(m.state_bytes)}, "
                f"activations {si_bytes(m.activation_bytes)}",
                advice="fewer bits per weight, a shorter context, a smaller batch, or a larger device",
            )
    return None


def state_exceeds_weights(evidence: Evidence) -> Finding | None:
    """At long contexts or large batches the KV cache outgrows the weights."""
    for m in evidence.memory:
        if m.state_bytes > m.weights_bytes > 0:
            return Finding(
                severity="info",
                title="the KV cache is larger than the weights",
                evidence=f"{si_bytes(m.state_bytes)} of state against {si_bytes(m.weights_bytes)} of weights "
                f"in {m.name} at the end of the run",
                advice="fewer KV heads or fewer bits in the cache will matter more than smaller weights",
            )
    return None


RULES: tuple[Rule, ...] = (
    largest_part,
    second_part,
    busiest_resource,
    serialised_resources,
    starved_resource,
    memory_nearly_full,
    state_exceeds_weights,
)
