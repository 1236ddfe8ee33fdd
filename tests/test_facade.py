"""The Python verbs: lazy, the same as the command line's, and callable although modules share their names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_onnx

import tetrasim
from tetrasim.errors import UserError


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    tiny_onnx.write(tmp_path)
    return str(tmp_path / "mlp.onnx")


def test_simulate_compare_and_save(model: str, tmp_path: Path) -> None:
    steps: list[tuple[str, float]] = []
    run = tetrasim.simulate(
        model,
        ["gpu/t4", "cpu/xeon-6154"],
        dims={"rows": 4},
        progress=lambda text, done: steps.append((text, done)),
    )
    assert [r.preset for r in run.results] == ["gpu/t4", "cpu/xeon-6154"]
    assert "gpu/t4" in str(run)
    assert [text for text, _ in steps][-1] == "simulating cpu/xeon-6154"
    assert [done for _, done in steps] == sorted(done for _, done in steps)
    folder = run.save(tmp_path / "run")
    assert (folder / "report.json").read_text(encoding="utf-8") == run.to_json()
    both = tetrasim.compare(run, run.results[0])
    assert len(both.results) == 3


def test_one_target_may_be_named_alone(model: str) -> None:
    alone = tetrasim.simulate(model, "gpu/t4", dims={"rows": 4}, settings={"gpu/t4:launch": "eager"})
    usual = tetrasim.simulate(model, "gpu/t4", dims={"rows": 4})
    assert alone.results[0].latency.value > usual.results[0].latency.value


def test_load_gives_the_graphs(model: str) -> None:
    loaded = tetrasim.load(model, dims={"rows": 4})
    assert [phase.name for phase in loaded.phases] == ["forward"]
    assert loaded.parameters == 16 * 32 * 2 + 32


def test_mistakes_are_user_errors(model: str) -> None:
    with pytest.raises(UserError, match="no target"):
        tetrasim.simulate(model, [], dims={"rows": 4})
    with pytest.raises(tetrasim.UserError, match="nothing to compare"):
        tetrasim.compare()
    with pytest.raises(AttributeError, match="simulat"):
        tetrasim.simulat  # noqa: B018


def test_a_verb_stays_callable_after_its_module_was_imported() -> None:
    code = (
        "import tetrasim.export.cache, tetrasim.flow.simulate, tetrasim;"
        "assert callable(tetrasim.export) and callable(tetrasim.simulate);"
        "from tetrasim.export.exporter import export_model; from tetrasim.export import manifest;"
        "assert callable(tetrasim.export) and manifest.__name__ == 'tetrasim.export.manifest';"
        "from tetrasim.files.cache import cache_root;"
        "import tetrasim.errors as e\n"
        "try: tetrasim.simulate('gpt2-smal', 'gpu/t4')\n"
        "except e.UserError as m: assert 'gpt2-small' in m.hint\n"
        "else: raise SystemExit('no error')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_costs_nothing() -> None:
    code = "import sys, tetrasim; assert not {'numpy', 'torch', 'pydantic', 'rich'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cached_result_carries_the_name_it_is_asked_under(model: str, tmp_path: Path) -> None:
    first = tetrasim.simulate(model, "gpu/t4", dims={"rows": 4}).results[0]
    copy = tmp_path / "renamed.onnx"
    copy.write_bytes(Path(model).read_bytes())
    again = tetrasim.simulate(str(copy), "gpu/t4", dims={"rows": 4}).results[0]
    assert (again.model, again.latency) == ("renamed", first.latency)
    assert "renamed.onnx" in again.provenance.command
    assert len(list((tmp_path / "cache" / "results").rglob("result.json"))) == 1
