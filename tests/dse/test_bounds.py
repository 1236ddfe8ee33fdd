"""No simulation beats its bound, on any target, so screening never drops a point of the front."""

from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.bounds import run_bounds
from tetrasim.dse.candidate import Candidate, resolve_point
from tetrasim.dse.evaluate import evaluate
from tetrasim.dse.executors import InProcess
from tetrasim.dse.space import Scalar
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study

TARGETS: tuple[tuple[str, dict[str, Scalar]], ...] = (
    ("cpu/xeon-6154", {"precision": "int8"}),
    ("cpu/xeon-6154", {"attention": "iceformer", "threads": 2}),
    ("cpu/epyc-7763", {}),
    ("fpga/u280", {}),
    ("fpga/zcu102", {"mapping": "auto"}),
    ("gpu/t4", {}),
    ("gpu/t4", {"precision": "float32", "launch": "eager"}),
    ("gpu/h100-sxm", {"precision": "int8"}),
    ("gpu/h100-sxm", {"dram.bytes": 10**9, "l2.bytes": 10**9}),
    ("pim/pim-gpt", {}),
    ("pim/aim", {"channels": 3, "units.lanes": 7}),
    ("pim/hbm-pim", {"refresh": "none"}),
)


def is_beaten(candidate: Candidate) -> list[str]:
    """The metrics in which the simulation is better than the bound."""
    bounds, outcome = run_bounds(candidate), evaluate(candidate)
    assert outcome.metrics, outcome.note
    assert bounds["energy_mj"] > 0
    better = []
    for name, least in bounds.items():
        reached = outcome.metrics[name]
        if reached > least if name == "tokens_per_s" else not 0 < least <= reached:
            better.append(name)
    return better


@pytest.mark.parametrize(("target", "settings"), TARGETS)
def test_no_run_is_better_than_its_bound(target: str, settings: dict[str, Scalar]) -> None:
    dims = {"layers": 2, "input.vocab": 512}
    spec = make_spec(
        {
            "model": {"preset": "gpt2-small", "dims": dims},
            "workload": {"batch": [1, 8], "prompt": 64, "generate": 3},
            "targets": {target: settings},
            "objectives": ["latency_us"],
        }
    )
    for batch in (1, 8):
        assert not is_beaten(resolve_point(spec, {"workload.batch": batch}))


def test_no_spatial_pipeline_is_better_than_its_bound() -> None:
    spec = make_spec(
        {
            "model": {"preset": "digits-tiny"},
            "targets": {"fpga/u280": {"mapping": "spatial", "spatial.reuse": [1, 16]}},
            "objectives": ["latency_us"],
        }
    )
    for reuse in (1, 16):
        assert not is_beaten(resolve_point(spec, {"fpga/u280:spatial.reuse": reuse}))


def test_energy_bounds_are_near_enough_to_screen() -> None:
    """Low, but not empty: within a factor of ten of the simulated energy of a decoder on every target."""
    for target in ("cpu/xeon-6154", "fpga/u280", "gpu/h100-sxm", "pim/pim-gpt"):
        tree = {
            "model": {"preset": "gpt2-small", "dims": {"layers": 2}},
            "workload": {"batch": 8, "prompt": 64, "generate": 2},
            "targets": {target: {}},
            "objectives": ["energy_mj"],
        }
        candidate = resolve_point(make_spec(tree), {})
        assert run_bounds(candidate)["energy_mj"] > 0.1 * evaluate(candidate).metrics["energy_mj"], target


@pytest.mark.parametrize("objective", ["token_us", "energy_mj", "usd_per_million_tokens"])
def test_screening_keeps_the_front(objective: str, tmp_path: Path) -> None:
    """A slow clock is dominated by a fast one, in time, in the energy that flows all the time, and in cost:
    its points are skipped, the front stays the same."""
    tree = {
        "name": "screen",
        "model": {"preset": "gpt2-small", "dims": {"layers": [1, 2, 4], "input.vocab": 512}},
        "workload": {"prompt": 32, "generate": 2},
        "targets": {"cpu/xeon-6154": {"core.clock_hz": [3 * 10**9, 10**7, 5 * 10**6]}},
        "objectives": [objective, "parameters"],
        "prices": {"cpu/xeon-6154": {"usd_per_hour": 1.0, "source": "a test"}},
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
