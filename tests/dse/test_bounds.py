"""No simulation beats its bound, on any target, so screening never drops a point of the front."""

from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.bounds import time_bounds
from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.evaluate import evaluate
from tetrasim.dse.executors import InProcess
from tetrasim.dse.space import make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study

TARGETS = ("cpu/xeon-6154", "fpga/u280", "gpu/t4", "gpu/h100-sxm", "pim/pim-gpt", "pim/aim")


@pytest.mark.parametrize("target", TARGETS)
def test_no_run_is_faster_than_its_bound(target: str) -> None:
    dims = {"layers": 2, "input.vocab": 512}
    spec = make_spec(
        {
            "model": {"preset": "gpt2-small", "dims": dims},
            "workload": {"batch": [1, 8], "prompt": 64, "generate": 3},
            "targets": {target: {}},
            "objectives": ["latency_us"],
        }
    )
    for batch in (1, 8):
        candidate = resolve_point(spec, {"workload.batch": batch})
        bounds, outcome = time_bounds(candidate), evaluate(candidate)
        assert outcome.metrics, outcome.note
        for name, least in bounds.items():
            if name == "tokens_per_s":
                assert outcome.metrics[name] <= least
            else:
                assert 0 < least <= outcome.metrics[name], name


def test_screening_keeps_the_front(tmp_path: Path) -> None:
    """A slow clock is dominated by a fast one: its points are skipped, the front stays the same."""
    tree = {
        "name": "screen",
        "model": {"preset": "gpt2-small", "dims": {"layers": [1, 2, 4], "input.vocab": 512}},
        "workload": {"prompt": 32, "generate": 2},
        "targets": {"cpu/xeon-6154": {"core.clock_hz": [3 * 10**9, 10**7, 5 * 10**6]}},
        "objectives": ["token_us", "parameters"],
    }
    fronts, notes = [], []
    for screen in (False, True):
        spec = make_spec({**tree, "search": {"sampler": "grid", "trials": 50, "screen": screen}})
        store = Store(tmp_path / "store")
        state = run_study(spec, folders.start(spec, tmp_path / str(screen)), InProcess(spec, store))
        fronts.append([(t.number, t.metrics) for t in state.front])
        notes.append([t.note for t in state.trials if t.note])
    assert fronts[0] == fronts[1]
    assert not notes[0]
    assert all(note.startswith("screened") for note in notes[1])
    assert notes[1]
