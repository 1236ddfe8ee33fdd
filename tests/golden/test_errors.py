"""Every mistake a user can make gives one clear message, exit code 2, and nothing half-written.

Expected messages are files in `errors/`; after an intended change run `UPDATE_GOLDEN=1 pytest tests/golden`
and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_onnx

from tetrasim.cli import main

GOLDEN = Path(__file__).parent / "errors"
RUN = "run mlp.onnx --dim rows=4 --on gpu/t4"

# Name of the mistake -> the command that makes it.
MISTAKES = {
    "command_unknown": "rnu gpt2-small --on gpu/t4",
    "model_missing": "run --on gpu/t4",
    "model_unknown": "run gpt2-smal --on gpu/t4",
    "model_file_missing": "run mpl.onnx --on gpu/t4",
    "model_yaml_missing": "run my-model.yaml --on gpu/t4",
    "model_folder_without_manifest": "run somewhere --on gpu/t4",
    "model_yaml_key_unknown": "run typo_model.yaml --on gpu/t4",
    "model_yaml_inconsistent": "run bad_heads.yaml --on gpu/t4",
    "target_missing": "run mlp.onnx --dim rows=4",
    "target_unknown": "run mlp.onnx --dim rows=4 --on gpuu/t4",
    "target_kind_alone": "run mlp.onnx --dim rows=4 --on gpu",
    "target_twice": f"{RUN} gpu/t4",
    "preset_unknown": "run mlp.onnx --dim rows=4 --on gpu/t5",
    "preset_key_unknown": f"{RUN} --set dram.bandwith_bytes_per_s=1e9",
    "preset_value_nan": f"{RUN} --set dram.bandwidth_bytes_per_s=nan",
    "preset_value_negative": f"{RUN} --set clock_hz=-1",
    "preset_value_text": f"{RUN} --set sm_count=many",
    "preset_file_missing": "run mlp.onnx --dim rows=4 --on gpu/mine.yaml",
    "preset_file_key_unknown": "run mlp.onnx --dim rows=4 --on gpu/typo.yaml",
    "preset_file_number_without_source": "run mlp.onnx --dim rows=4 --on gpu/bare.yaml",
    "preset_file_not_yaml": "run mlp.onnx --dim rows=4 --on gpu/broken.yaml",
    "setting_without_value": f"{RUN} --set clock_hz",
    "setting_twice": f"{RUN} --set clock_hz=1 clock_hz=2",
    "setting_for_another_target": f"{RUN} --set gpu/l4:clock_hz=1",
    "shortcut_nobody_has": "run mlp.onnx --dim rows=4 --on cpu/xeon-6154 --launch eager",
    "dim_unbound": "import mlp.onnx",
    "dim_unknown": "import mlp.onnx --dim rows=4 cols=3",
    "dim_negative": "import mlp.onnx --dim rows=-1",
    "dim_not_a_pair": "import mlp.onnx --dim rows",
    "prompt_zero": "run gpt2-small --on gpu/t4 --prompt 0",
    "generate_negative": "run gpt2-small --on gpu/t4 --generate -1",
    "generate_from_a_file": f"{RUN} --generate 4",
    "onnx_empty": "import empty.onnx",
    "onnx_truncated": "import truncated.onnx",
    "onnx_is_text": "import not_onnx.onnx",
    "onnx_cyclic": "import cyclic.onnx",
    "onnx_dangling": "import dangling.onnx",
    "onnx_op_unsupported": "import unsupported.onnx",
    "onnx_op_unmodelled_without_shape": "import unsupported.onnx --allow-unmodelled",
    "onnx_without_nodes": "import no_nodes.onnx",
    "external_data_outside": "import external_outside.onnx",
    "import_of_another_kind": "import typo.yaml",
    "output_exists": f"{RUN} -o taken",
    "output_is_not_ours": f"{RUN} -o taken --force",
    "output_is_a_file": f"{RUN} -o mlp.onnx",
    "lock_missing": "run --lock nothing.yaml",
    "lock_key_unknown": "run --lock lock_typo.yaml",
    "lock_beside_model": "run mlp.onnx --lock lock_typo.yaml",
    "op_unknown": "op matmull --m 1 --n 1 --k 1 --on gpu/t4",
    "op_dim_missing": "op matmul --m 1 --n 1 --on gpu/t4",
    "op_dim_foreign": "op softmax --rows 4 --cols 4 --m 3 --on gpu/t4",
    "op_dtype_unknown": "op matmul --m 1 --n 1 --k 1 --dtype bf61 --on gpu/t4",
    "op_dtype_not_on_target": "op matmul --m 16 --n 16 --k 16 --dtype float8 --on pim/aim",
    "op_target_twice": "op matmul --m 8 --n 8 --k 8 --on gpu/t4 gpu/t4",
    "op_table_missing": "op --csv nothing.csv --on gpu/t4",
    "op_table_without_dtype": "op --csv no_dtype.csv --on gpu/t4",
    "op_table_bad_number": "op --csv bad_number.csv --on gpu/t4",
    "list_unknown": "list modells --json",
    "show_unknown": "show gpt3-tiny",
    "show_mapping_without_model": "show mapping --on pim/aim",
    "export_unknown": "export gpt5",
    "export_weights_unknown": "export digits-tiny --weights zeros",
    "export_output_exists": "export digits-tiny -o taken",
    "compare_missing": "compare taken",
    "compare_not_a_report": "compare typo.yaml",
    "validate_unknown": "validate tpu",
    "capacity_gpu": f"{RUN} --set dram.bytes=2000",
    "capacity_pim": "run mlp.onnx --dim rows=4 --on pim/aim --set bytes_per_channel=8",
    "capacity_fpga": "run mlp.onnx --dim rows=4 --on fpga/vu13p"
    " --set fabric.lut=10 fabric.dsp=1 fabric.bram18=1 fabric.uram=0",
    "measure_without_a_measurable_target": "run gpt2-small --on gpu/t4 --measure",
    "hls_part_unknown": "hls mlp.onnx --part x -o project",
    "hls_without_output": "hls mlp.onnx",
    "dse_study_missing": "dse run nothing.yaml",
    "dram_cases_missing": "dram replay nothing.json",
    "whatif_run_missing": "whatif nothing clock_hz=2x",
    "diff_run_missing": "diff nothing nothing",
    "calibrate_unknown": "calibrate tpu",
}

FILES = {
    "typo.yaml": "title: Mine\nsm_coun: {value: 4, source: me}\n",
    "bare.yaml": "title: Mine\nsm_count: 4\n",
    "broken.yaml": "title: [unclosed\n",
    "typo_model.yaml": "architecture: decoder\nwidht: 64\n",
    "bad_heads.yaml": (
        "architecture: decoder\nwidth: 65\nlayers: 1\nheads: 4\nffn_width: 64\ncontext: 32\n"
        "input: {kind: tokens, vocab: 10}\nhead: {kind: lm}\n"
    ),
    "lock_typo.yaml": "modle: gpt2-small\n",
    "no_dtype.csv": "op,m,n,k\nmatmul,1,1,1\n",
    "bad_number.csv": "op,dtype,m,n,k\nmatmul,fp16,1,1,1\nmatmul,fp16,1,x,1\n",
    "taken/notes.txt": "mine\n",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    tiny_onnx.write(folder)
    (folder / "somewhere").mkdir()
    (folder / "taken").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_message(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("COLUMNS", "100")
    before = sorted(p.relative_to(workplace) for p in workplace.rglob("*"))
    code = main([*MISTAKES[name].split(), "--quiet"] if _has_progress(name) else MISTAKES[name].split())
    caught = capsys.readouterr()
    text = f"$ tetrasim {MISTAKES[name]}\nexit code: {code}\n--- stdout\n{caught.out}--- stderr\n{caught.err}"
    assert code == 2, text
    assert caught.out == ""
    assert "Traceback" not in caught.err
    assert "  hint: " in caught.err, "every message says what to do next"
    assert str(workplace) not in text
    assert sorted(p.relative_to(workplace) for p in workplace.rglob("*")) == before
    _check(GOLDEN / f"{name}.txt", text)


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The option parser's own message: its wording is not ours, so only its facts are checked."""
    assert main(["list", "models", "--jsn"]) == 2
    assert "--jsn" in (told := capsys.readouterr().err)
    assert "--json" in told


def test_no_stale_files() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(MISTAKES)


def _has_progress(name: str) -> bool:
    return MISTAKES[name].split()[0] in ("run", "import", "export", "validate")


def _check(file: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert file.is_file(), "run with UPDATE_GOLDEN=1 to record it"
    assert text == file.read_text(encoding="utf-8")
