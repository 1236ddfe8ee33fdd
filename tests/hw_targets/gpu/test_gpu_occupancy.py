"""Busy SMs over time: rounds of blocks by hand, and what tells the attention schedules apart."""

from dataclasses import replace

import numpy as np
import pytest

from tetrasim.facade import load_for
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.gpu.costs import Costs
from tetrasim.hw_targets.gpu.lower import lower, priced_tasks
from tetrasim.hw_targets.gpu.occupancy import counters, mapping_text, profile
from tetrasim.hw_targets.gpu.parts import KERNEL_PARTS
from tetrasim.sim.engine.static import run_static

SETTINGS: dict[str, str | float | bool] = {"attention": "lean", "launch": "stream"}


def costs(blocks: int, start_us: float) -> Costs:
    part = np.zeros((1, len(KERNEL_PARTS)))
    part[0, 0], part[0, 1] = start_us, 10.0 - start_us
    one = np.array([10.0])
    return Costs(
        one, part, np.zeros((1, 2)), np.zeros((1, 4)), ("gemm",), np.array([float(blocks)]), np.zeros((1, 2))
    )


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (12, [(0, 0), (2, 12), (10, 0)]),
        (108, [(0, 0), (2, 108), (10, 0)]),
        (120, [(0, 0), (2, 108), (6, 12), (10, 0)]),
        (0, [(0, 0), (2, 108), (10, 0)]),
    ],
)
def test_rounds_of_blocks(blocks: int, expected: list[tuple[int, int]]) -> None:
    found = profile(costs(blocks, 2.0), 0, 0, 10_000_000, 108)
    assert [(t // 1_000_000, busy) for t, busy in found] == expected


def test_every_task_knows_its_kernel_and_schedules_differ_in_busy_sms() -> None:
    model, workload = load_for("gpt2-small", prompt=65536, generate=2)
    setup = set_up("gpu/a100-sxm4-80gb", SETTINGS)
    _, family, contexts = lowered_phases(model, setup, workload)[-1]
    graph = family.at(contexts[-1])
    program = lower(graph, setup.config)
    timeline = run_static(program)
    works, priced, kernel = priced_tasks(graph, setup.config)
    runs = kernel >= 0
    assert len(kernel) == program.tasks
    assert (program.resource == runs).all()
    names = np.array(program.kind_names)[program.kind]
    assert [priced.label[k] for k in kernel[runs]] == names[runs].tolist()
    busy, flash2, decoding, lean = counters(graph, setup.config, timeline)
    assert max(busy.values) == 108
    assert busy.time_ps[-1] <= timeline.total_ps
    assert max(flash2.values) == 12  # one block per head
    assert max(lean.values) == 108
    spans = [c.time_ps[-1] - c.time_ps[0] for c in (flash2, decoding, lean)]
    assert spans[0] > 4 * spans[1] > 4 * spans[2]
    assert {w.kind for w in works} >= {"gemm", "attention", "vector"}
    text = mapping_text(graph, setup.config, replace(workload, batch=1))
    assert [line.split()[0] for line in text.splitlines() if line.endswith("used")] == ["lean"]
