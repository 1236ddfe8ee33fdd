"""`tetrasim run … --measure`: the same files run here, predicted against measured, in total and per op."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.cli import _tables

if TYPE_CHECKING:
    from tetrasim.facade import Run
    from tetrasim.hw_targets.common.abilities import Measured

RESOLUTION_US = 2.0


def text(done: Run) -> str:
    """One block per measurable target and phase."""
    from tetrasim import facade

    return "\n".join(_block(title, found) for title, found in facade.measure(done))


def _block(title: str, found: Measured) -> str:
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    head = (
        f"measured {title}: {found.measured_ms:.4g} ms (best of {found.runs}, {threads}), predicted"
        f" {found.predicted_ms:.4g} ms: {100 * found.error:+.1f} %"
    )
    state = [f"{name} takes {ratio:.2f} times its calibrated time" for name, ratio in found.drift]
    lines = [head, "; ".join([*state, f"other programs used {found.other_cores:.1f} cores"])]
    rows: list[_tables.Row] = [
        {
            "op": op,
            "nodes": nodes,
            "predicted µs": predicted,
            "measured µs": measured,
            "error": _error_text(nodes, predicted, measured),
        }
        for op, nodes, predicted, measured in found.by_op()
    ]
    if rows and found.kernels_ms:
        error = found.predicted_ms / found.kernels_ms - 1
        total = f"{found.kernels_ms:.4g} ms ({100 * error:+.1f} %)"
        added = f"{found.profiler_us:.1f} µs that profiling adds to each kernel"
        lines.append(f"the best times of all kernels add up to {total}; per op, less the {added}:")
        lines.append(_tables.text(rows))
    return "\n".join(lines)


def _error_text(nodes: int, predicted: float, measured: float) -> str:
    """Nothing where the profiler, which counts whole microseconds, cannot tell the times of the nodes."""
    if max(predicted, measured) < RESOLUTION_US * nodes:
        return "-"
    return f"{100 * (predicted / measured - 1):+.0f} %" if measured else ""
