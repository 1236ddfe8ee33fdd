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
        def load_before(self) -> float: ...
        @property
        def error(self) -> float: ...
        def by_op(self) -> tuple[tuple[str, int, float, float], ...]: ...

    class _Measure(Protocol):
        def __call__(self, onnx_path: Path, graph: Graph, config: Config) -> _Comparison: ...


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
    from tetrasim.flow.run_phases import lowered_phases, set_up

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
    head = (
        f"measured {title}: {found.measured_ms:.4g} ms (best of {found.runs}, {found.threads} threads, load"
        f" {found.load_before:.1f} before), predicted {found.predicted_ms:.4g} ms: {100 * found.error:+.1f} %"
    )
    rows: list[_tables.Row] = [
        {
            "op": op,
            "nodes": nodes,
            "predicted µs": predicted,
            "measured µs": measured,
            "error": f"{100 * (predicted / measured - 1):+.0f} %" if measured else "",
        }
        for op, nodes, predicted, measured in found.by_op()
    ]
    return f"{head}\n{_tables.text(rows)}"


def _measurable() -> tuple[str, ...]:
    import tetrasim.hw_targets

    folder = Path(tetrasim.hw_targets.__file__).parent
    return tuple(sorted(file.parent.name for file in folder.glob("*/measure.py")))
