"""`tetrasim explain` and `tetrasim op --explain`: the text, the JSON, and what is refused."""

import json
from pathlib import Path

import pytest
from tiny_onnx import write
from typer.testing import CliRunner

from tetrasim.cli import explain as explain_command
from tetrasim.cli import op as op_command
from tetrasim.errors import UserError
from tetrasim.facade import explain, simulate

TARGETS = ["gpu/h100-sxm", "cpu/xeon-6154", "pim/aim", "fpga/u280"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    write(folder)
    done = simulate(folder / "mlp.onnx", TARGETS, dims={"rows": 64}, numerics=False)
    return done.save(folder / "run")


def test_an_op_of_a_run_is_explained_on_every_target(run: Path) -> None:
    found = explain(run / "config.lock.yaml", "bias")
    assert [one.what.rsplit(" ", 1)[1] for one in found] == TARGETS
    for one in found:
        assert one.kernels
        assert one.evidence
        assert all(c.source for kernel in one.kernels for c in kernel.constants)
    gpu = found[0].kernels[0]
    assert "Gemm" in gpu.kernel
    assert {"tile", "split of k", "blocks"} <= {name for name, _ in gpu.choices}
    assert sum(c.chosen for c in gpu.candidates) == 1


def test_a_node_that_is_fused_is_explained_by_its_kernel(run: Path) -> None:
    bias, relu = (explain(run / "config.lock.yaml", n, on="gpu/h100-sxm")[0] for n in ("bias", "relu"))
    assert bias.kernels == relu.kernels


def test_the_command_prints_text_and_json(run: Path) -> None:
    text = CliRunner().invoke(explain_command.app, [str(run), "down", "--on", "gpu/h100-sxm"])
    assert text.exit_code == 0
    for words in ("candidates:", "formula:", "constants:", "evidence:", "tile:"):
        assert words in text.stdout
    done = CliRunner().invoke(explain_command.app, [str(run), "down", "--on", "pim/aim", "--json"])
    tree = json.loads(done.stdout)
    assert tree[0]["kernels"][0]["parts"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"node": "biass"}, "no node 'biass'"),
        ({"on": "gpu/h100"}, "not a target of this run"),
        ({"phase": "decode"}, "no phase 'decode'"),
    ],
)
def test_what_is_not_there_is_named(run: Path, options: dict[str, str], says: str) -> None:
    chosen = {"node": "bias", **options}
    with pytest.raises(UserError, match=says):
        explain(run / "config.lock.yaml", chosen.pop("node"), **chosen)  # type: ignore[arg-type]


def test_an_op_alone_is_explained() -> None:
    dims = ["--m", "64", "--n", "512", "--k", "256", "--on", "gpu/t4"]
    done = CliRunner().invoke(op_command.app, ["matmul", *dims, "--explain", "--json"])
    kernel = json.loads(done.stdout)[0]["kernels"][0]
    plain = CliRunner().invoke(op_command.app, ["matmul", *dims, "--json"])
    assert kernel["time_us"] == pytest.approx(json.loads(plain.stdout)["latency_us"])
