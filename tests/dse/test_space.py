"""A study is checked completely before anything runs; every refusal names the nearest valid choice."""

from pathlib import Path

import pytest

from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.samplers import grid_point
from tetrasim.dse.space import Range, StudySpec
from tetrasim.dse.spec_file import load_spec, make_spec
from tetrasim.errors import UserError

BASE = {
    "name": "s",
    "model": {"preset": "gpt2-small", "dims": {"layers": [2, 3], "ffn_ratio": [2, 4]}},
    "workload": {"batch": [1, 2], "prompt": 8, "generate": 4},
    "targets": {
        "gpu/t4": {"launch": ["graph", "stream"]},
        "cpu/xeon-6154": {"dram.bandwidth_bytes_per_s": {"low": 5e10, "high": 2e11, "step": 5e10}},
    },
    "objectives": ["token_us", "energy_mj"],
}


def changed(**changes: object) -> StudySpec:
    return make_spec({**BASE, **changes})


def test_axes_and_fixed_values() -> None:
    spec = make_spec(dict(BASE))
    assert [p.name for p in spec.parameters] == [
        "target",
        "model.layers",
        "model.ffn_ratio",
        "workload.batch",
        "gpu/t4:launch",
        "cpu/xeon-6154:dram.bandwidth_bytes_per_s",
    ]
    assert {p.name for p in spec.fixed} == {"model.preset", "workload.prompt", "workload.generate"}
    assert spec.grid_size == 8 * 2 + 8 * 4


def test_the_grid_is_every_point_once() -> None:
    spec = make_spec(dict(BASE))
    points = [tuple(sorted(grid_point(spec, i).items())) for i in range(spec.grid_size or 0)]
    assert len(set(points)) == spec.grid_size
    with pytest.raises(IndexError):
        grid_point(spec, spec.grid_size or 0)


def test_a_point_becomes_a_configured_model_and_target() -> None:
    spec = make_spec(dict(BASE))
    point = {"target": "gpu/t4", "model.layers": 3, "model.ffn_ratio": 2, "workload.batch": 2}
    candidate = resolve_point(spec, {**point, "gpu/t4:launch": "stream"})
    assert (candidate.model.layers, candidate.model.ffn_width, candidate.workload.batch) == (3, 1536, 2)
    assert candidate.setup.config.model_dump(mode="json")["launch"] == "stream"
    assert (candidate.workload.prompt, candidate.workload.generate) == (8, 4)
    again = resolve_point(spec, {**point, "gpu/t4:launch": "stream"})
    assert candidate.key == again.key
    assert candidate.key != resolve_point(spec, {**point, "gpu/t4:launch": "graph"}).key


def test_a_range_is_whole_or_not() -> None:
    assert Range(low=1, high=8).whole
    assert not Range(low=1, high=8.5).whole
    with pytest.raises(ValueError, match="above"):
        Range(low=2, high=1)
    with pytest.raises(ValueError, match="log"):
        Range(low=0, high=1, log=True)


@pytest.mark.parametrize(
    ("changes", "what", "hint"),
    [
        ({"objectives": ["latency"]}, "unknown metric 'latency'", "latency_us"),
        ({"targets": {}}, "no target", "targets"),
        ({"targets": {"gpu/t5": {}}}, "unknown preset 'gpu/t5'", "gpu/t4"),
        ({"targets": {"gpu/t4": {"lunch": ["graph"]}}}, "unknown parameter 'lunch'", "launch"),
        ({"targets": {"gpu/t4": {"sm_count": -4}}}, "sm_count", ""),
        ({"model": {"preset": "gpt2-smal"}}, "gpt2-smal", "gpt2-small"),
        ({"model": {"preset": "gpt2-small", "dims": {"layer": [1]}}}, "no dim 'layer'", "layers"),
        ({"model": {"preset": "gpt2-small", "depth": 3}}, "unknown key 'model.depth'", "steps"),
        ({"model": {"preset": "gpt2-small", "train": True}}, "cannot be trained", "digits-tiny"),
        ({"objectives": ["accuracy"]}, "needs a trained model", "digits-tiny"),
        ({"constraints": ["token_us < 5"]}, "not METRIC <= NUMBER", "<="),
        ({"constraints": ["token_us <= 9", "token_us < 5"]}, "'token_us < 5' is not METRIC", "<="),
        ({"constraints": ["token_us <= e+-."]}, "not METRIC <= NUMBER", "<="),
        ({"constraints": ["token_us <= 1e999"]}, "not METRIC <= NUMBER", "<="),
        ({"objectives": ["token_us", "token_us"]}, "'token_us' is given twice", "once"),
        ({"name": "../../etc/x"}, "letters, digits", ""),
        ({"workload": {"batch": [0]}}, "workload.batch = 0", "at least 1"),
        ({"workload": {"generate": "many"}}, "workload.generate = 'many'", "at least 0"),
        ({"targets": {"gpu/t4": {"launch": ["grap", "strem"]}}}, "launch", ""),
        ({"targets": {"gpu/t4": {"sm_count": []}}}, "'targets.gpu/t4.sm_count': write a finite value", ""),
        ({"targets": {"gpu/t4": {"sm_count": float("nan")}}}, "write a finite value", ""),
        ({"targets": {"gpu/t4": {"sm_count": {"low": 3, "high": 1}}}}, "low 3 is above high 1", ""),
        ({"targets": {"gpu/t4": {"sm_count": {"low": 3, "hi": 1}}}}, "sm_count", ""),
        ({"targets": {"gpu/t4": {"sm_count": {"low": 1, "high": 10**24}}}}, f"= {10**24}", "exact"),
        ({"constraints": ["tokn_us <= 5"]}, "unknown metric 'tokn_us'", "token_us"),
        ({"search": {"sampler": "grd"}}, "sampler", ""),
        ({"workload": {"bach": 2}}, "unknown key 'workload.bach'", "batch"),
    ],
)
def test_mistakes(changes: dict[str, object], what: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        changed(**changes)
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_a_continuous_range_has_no_grid() -> None:
    targets = {"gpu/t4": {"dram.bandwidth_bytes_per_s": {"low": 1e11, "high": 5e11}}}
    with pytest.raises(UserError, match="finite choices"):
        changed(targets=targets, search={"sampler": "grid"})


def test_a_file_error_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("targets: {gpu/t4: {}}\nobjectives: [latency_us]\nserach: {trials: 3}\n")
    with pytest.raises(UserError) as caught:
        load_spec(file)
    assert caught.value.where == f"{file}:3"
    assert "search" in caught.value.hint


def test_the_name_is_the_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("targets: {gpu/t4: {}}\nobjectives: [latency_us]\n")
    assert load_spec(file).name == "mine"
