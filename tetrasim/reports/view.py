"""What several report formats show and how they say it: joined decompositions, ranges, percentages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tetrasim.sim.metric import Metric
from tetrasim.sim.result import Finding, PhaseResult, Result, Share
from tetrasim.units import si


def percents(fractions: Sequence[float], digits: int = 1) -> tuple[str, ...]:
    """Percentages rounded so that what is printed sums to exactly 100 (largest remainder method)."""
    total = math.fsum(fractions)
    if total <= 0:
        return tuple(f"{0:.{digits}f}" for _ in fractions)
    scale = 100 * 10**digits
    exact = [f / total * scale for f in fractions]
    units = [math.floor(x) for x in exact]
    short = scale - sum(units)
    by_remainder = sorted(range(len(exact)), key=lambda i: (units[i] - exact[i], i))
    for i in by_remainder[:short]:
        units[i] += 1
    return tuple(f"{u / 10**digits:.{digits}f}" for u in units)


def joined(groups: Iterable[Sequence[Share]]) -> tuple[Share, ...]:
    """Shares of several phases added by name, in order of first appearance, with new fractions."""
    sums: dict[str, float] = {}
    for group in groups:
        for share in group:
            sums[share.name] = sums.get(share.name, 0.0) + share.amount
    total = math.fsum(sums.values())
    return tuple(Share(name, amount, amount / total if total else 0.0) for name, amount in sums.items())


def by_size(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Largest first, zeros left out."""
    return tuple(sorted((s for s in shares if s.amount > 0), key=lambda s: -s.amount))


def time_shares(result: Result) -> tuple[Share, ...]:
    """Critical path of the whole run by part (ps), largest first."""
    return by_size(joined(p.time_shares for p in result.phases))


def energy_shares(result: Result) -> tuple[Share, ...]:
    """Energy of the whole run by component (pJ), largest first."""
    return by_size(joined(p.energy_shares for p in result.phases))


def longest_phase(result: Result) -> PhaseResult:
    """The phase that takes most of the time: its limits are the run's."""
    return max(result.phases, key=lambda p: p.latency.value)


def bound_by(result: Result) -> str:
    """The largest part of the run's time, with its share: `DRAM weights 71 %`."""
    shares = time_shares(result)
    return f"{shares[0].name} {100 * shares[0].fraction:.0f}\u00a0%" if shares else "nothing"


def error_range(metric: Metric) -> str:
    """`±12 %`, `-8/+12 %`, or that there is none."""
    if metric.low is None or metric.high is None or not metric.value:
        return "not validated"
    below, above = (100 * (bound / metric.value - 1) for bound in (metric.low, metric.high))
    if abs(below + above) < 1:
        return f"±{above:.0f} %"
    return f"{below:+.0f}/{above:+.0f} %".replace("-", "−")


def time_text(metric: Metric) -> str:
    """A latency in nanoseconds with the prefix that suits it."""
    return si(metric.value * 1e-9, "s").replace("us", "µs")


def energy_text(metric: Metric) -> str:
    """An energy in picojoules with the prefix that suits it."""
    return si(metric.value * 1e-12, "J").replace("uJ", "µJ")


def workload_text(result: Result) -> str:
    """`prompt 32, generate 128, batch 1`."""
    return ", ".join(_workload_words(result))


def _workload_words(result: Result) -> list[str]:
    work = result.workload
    encoder = [p.name for p in result.phases] == ["forward"]
    words = [f"{'sequence' if encoder else 'prompt'} {work.prompt}"] if not work.dims else []
    words += [f"generate {work.generate}"] if work.generate else []
    dims = [f"{name} {size}" for name, size in work.dims if (name, size) != ("batch", work.batch)]
    return [*words, f"batch {work.batch}", *dims]


def labels(results: Sequence[Result]) -> tuple[str, ...]:
    """A name per result: its preset; with the model, or the part of the workload, where those differ."""
    models = len({r.model for r in results}) > 1
    common = set.intersection(*(set(_workload_words(r)) for r in results))
    words = []
    for r in results:
        own = ", ".join(word for word in _workload_words(r) if word not in common)
        words.append(" ".join((*((r.model,) if models else ()), r.preset, *((f"({own})",) if own else ()))))
    return tuple(
        f"{word} #{words[:i].count(word) + 1}" if words.count(word) > 1 else word
        for i, word in enumerate(words)
    )


def parameters_text(result: Result) -> str:
    """`124.4 M`, `9,135`."""
    count = result.parameters
    return f"{count:,}" if count < 1_000_000 else si(count, "", 4).strip()


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Largest estimated gain first; findings without one keep their order behind."""
    return tuple(sorted(findings, key=lambda f: -(f.gain or 0.0)))


def headline_notes(result: Result) -> tuple[str, ...]:
    """What a reader must know before using the numbers: what is unmodelled, unvalidated, does not fit."""
    notes = list(result.warnings)
    if result.mapping_note:
        notes.append(result.mapping_note)
    return tuple(dict.fromkeys(notes))
