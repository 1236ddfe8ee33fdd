"""The smaller commands, the list options, and that help stays quick because it imports nothing heavy."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_onnx

from tetrasim.cli import main
from tetrasim.cli._arguments import expand_lists
from tetrasim.cli._discover import command_files


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("m --on gpu/t4 pim/aim --prompt 3", "m --on gpu/t4 --on pim/aim --prompt 3"),
        ("--on gpu/t4 pim/aim gpt2-small", "--on gpu/t4 --on pim/aim gpt2-small"),
        ("--on gpu/t4 models/x.onnx", "--on gpu/t4 models/x.onnx"),
        ("m --on gpu/t4 gpu", "m --on gpu/t4 --on gpu"),
        ("m --dim a=1 b=2 --on gpu/t4", "m --dim a=1 --dim b=2 --on gpu/t4"),
        ("--dim a=1 m.onnx --on gpu/t4", "--dim a=1 m.onnx --on gpu/t4"),
        ("m --set gpu/t4:x=1 y=2 -o out", "m --set gpu/t4:x=1 --set y=2 -o out"),
        ("m --on", "m --on"),
    ],
)
def test_list_options(given: str, expanded: str) -> None:
    assert expand_lists(given.split()) == expanded.split()


def test_help_imports_nothing_heavy_and_answers_quickly() -> None:
    code = (
        "import sys; from tetrasim.cli import main; main(['--help']);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numba', 'numpy', 'rich', 'pydantic', 'jinja2', 'hls4ml'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.3
    for name in command_files():
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", list(command_files()))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"tetrasim {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from tetrasim import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tetrasim {__version__}\n"


def test_our_defect_exits_1_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TETRASIM_TRACEBACK", raising=False)
    monkeypatch.setattr("tetrasim.cli._discover.load", lambda _name: 1 / 0)
    assert main(["list", "models"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("internal error: ZeroDivisionError")
    assert "Traceback" not in told


@pytest.mark.parametrize(("what", "first"), [("models", "model"), ("targets", "target"), ("ops", "op")])
def test_list(what: str, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1
    assert all(row[first] for row in rows)


def test_show_names_the_source_of_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "gpu/t4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert all(source["source"] for source in shown["sources"])
    assert main(["show", "gpu/t4"]) == 0
    text = capsys.readouterr().out
    assert all(source["path"] in text for source in shown["sources"])


def test_single_op_equals_its_row_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ops.csv").write_text(
        "id,op,dtype,m,n,k,batch,q_len,heads,kv_heads,head_dim,kv_len,causal,rows,cols\n"
        "a,matmul,bf16,128,4096,4096,,,,,,,,,\n"
        'b,attention,fp16,,,,2,1,32,8,128,777,True,,\n"c, odd",softmax,fp16,,,,,,,,,,,64,1000\n',
        encoding="utf-8",
    )
    assert main(["op", "--csv", "ops.csv", "--on", "gpu/h100-sxm", "--out", "priced.csv"]) == 0
    with Path("priced.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["id"] for r in rows] == ["a", "b", "c, odd"]
    appended = ["latency_us", "latency_low_us", "latency_high_us", "energy_uj", "bound_by", "basis"]
    assert list(rows[0])[-6:] == appended
    capsys.readouterr()
    alone = "op matmul --m 128 --n 4096 --k 4096 --dtype bfloat16 --on gpu/h100-sxm --json"
    assert main(alone.split()) == 0
    one = json.loads(capsys.readouterr().out)
    assert float(rows[0]["latency_us"]) == pytest.approx(one["latency_us"], rel=1e-5)
    assert rows[0]["bound_by"] == one["bound_by"]
    assert one["macs"] == 128 * 4096 * 4096


def test_launch_modes_order(capsys: pytest.CaptureFixture[str]) -> None:
    times = []
    for mode in ("graph", "stream", "eager"):
        assert main(f"op gelu --rows 8 --cols 8 --on gpu/t4 --launch {mode} --json".split()) == 0
        times.append(json.loads(capsys.readouterr().out)["latency_us"])
    assert times == sorted(times)
    assert times[0] < times[2]


def test_import_reports_coverage_and_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_onnx.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "mlp.onnx", "--dim", "rows=4", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["coverage"]["nodes"] == told["coverage"]["nodes_modelled"] > 0
    assert told["numerics"]["checked"] is True
    assert told["numerics"]["max_abs_error"] < 1e-5
    assert main(["import", "mlp.onnx", "--dim", "rows=4", "--quiet"]) == 0
    assert "coverage: 100.0 % of nodes" in capsys.readouterr().out


def test_doctor_finds_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"numpy", "torch", "cache"} <= {row["part"] for row in rows if row["state"] == "ok"}


def test_a_setting_reaches_the_targets_that_have_it_and_the_others_say_so() -> None:
    from tetrasim.flow.setup import set_up_all

    gpu, cpu, pim = set_up_all(["gpu/t4", "cpu/xeon-6154", "pim/aim"], {"launch": "eager"})
    assert dict(gpu.overrides) == {"launch": "eager"}
    assert gpu.notes == ()
    for other in (cpu, pim):
        assert other.overrides == ()
        assert "gpu/t4:launch=eager" in other.notes[0]


def test_a_value_that_one_target_refuses_is_for_the_others() -> None:
    from tetrasim.errors import UserError
    from tetrasim.flow.setup import set_up_all

    gpu, cpu = set_up_all(["gpu/h100-sxm", "cpu/epyc-9654"], {"precision": "float8"})
    assert dict(gpu.overrides) == {"precision": "float8"}
    assert "precision=float8" in cpu.notes[0]
    with pytest.raises(UserError, match="precision") as refusal:
        set_up_all(["cpu/epyc-9654", "cpu/xeon-6154"], {"precision": "float8"})
    assert refusal.value.where == "--precision"


def test_matmul_rows_are_priced_as_the_op_in_a_model() -> None:
    from tetrasim.flow.pricing import OpRow, work_of_row
    from tetrasim.sim.ops.single import matmul_work
    from tetrasim.sim.precision import BFLOAT16, FLOAT8, INT8

    for dtype, fmt in (("bf16", BFLOAT16), ("fp8", FLOAT8), ("int8", INT8)):
        for m, n, k, batch in ((1, 1, 1, 1), (3, 5, 7, 1), (128, 4096, 4096, 2)):
            row = OpRow("matmul", dtype, (("m", m), ("n", n), ("k", k), ("batch", batch)))
            assert work_of_row(row) == matmul_work(m, n, k, fmt, batch)
