"""`tetrasim run … --measure`: the same ONNX files run here, predicted against measured, in total and per op.

A target that can measure has a `measure.py` in its folder (found by location) whose `measure(onnx_path,
graph, config)` runs the file and compares.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tetrasim.cli import _tables
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tetrasim.facade import Run
    from tetrasim.hw_targets.common.target import Config
    from tetrasim.sim.ir.graph import Graph

    class _Comparison(Protocol):
        @property
        def predicted_ms(self) -> float: ...
        @property
        def measured_ms(self) -> float: ...
        @property
        def runs(self) -> int: ...
        @property
        def threads(self) -> int: ...
        @property
        def other_cores(self) -> float: ...
        @property
        def drift(self) -> tuple[tuple[str, float], ...]: ...
        @property
        def profiler_us(self) -> float: ...
        @property
        def kernels_ms(self) -> float: ...
        @property
        def error(self) -> float: ...
        def by_op(self) -> tuple[tuple[str, int, float, float], ...]: ...

    class _Measure(Protocol):
        def __call__(self, onnx_path: Path, graph: Graph, config: Config) -> _Comparison: ...


RESOLUTION_US = 2.0


def check(presets: Sequence[str]) -> None:
    """Refuse, before any work is done, when none of the targets can measure.

    Raises:
        UserError: naming the targets that can.
    """
    known = _measurable()
    if not any(preset.partition("/")[0] in known for preset in presets):
        raise UserError(
            "none of the targets can be measured here",
            where="--measure",
            hint=f"add --on {known[0]}/host" if known else "drop --measure",
        )


def text(done: Run) -> str:
    """One block per measurable target and phase."""
    from tetrasim import facade
    from tetrasim.flow.phases import lowered_phases
    from tetrasim.flow.setup import set_up

    blocks = []
    work = done.lock.workload
    loaded, _ = facade.load_for(
        done.lock.model,
        prompt=work.prompt,
        generate=work.generate,
        batch=work.batch,
        dims=dict(work.dims),
        allow_unmodelled=done.lock.allow_unmodelled,
    )
    for target in done.lock.targets:
        kind = target.preset.partition("/")[0]
        if kind not in _measurable():
            continue
        module = importlib.import_module(f"tetrasim.hw_targets.{kind}.measure")
        run: _Measure = module.measure
        setup = set_up(target.preset, dict(target.overrides))
        for phase, _, contexts in lowered_phases(loaded, setup, work):
            if phase.onnx is not None:
                graph = phase.family.at(contexts[0])
                found = run(phase.onnx, graph, setup.config)
                blocks.append(_block(f"{target.preset} {phase.name}", found))
    return "\n".join(blocks)


def _block(title: str, found: _Comparison) -> str:
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


def _measurable() -> tuple[str, ...]:
    import tetrasim.hw_targets

    folder = Path(tetrasim.hw_targets.__file__).parent
    return tuple(sorted(file.parent.name for file in folder.glob("*/measure.py")))
