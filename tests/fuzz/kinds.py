"""The kinds of input: each writes a mutated one into the working folder and names a command for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import onnx
import yaml

from tests.fuzz import mutate
from tests.tiny_onnx import mlp
from tetrasim.hw_targets.common.dram.yaml_device import DEVICES

ROOT = Path(__file__).parents[2] / "tetrasim"
TARGETS = ("gpu/t4", "cpu/xeon-6154", "fpga/u280", "pim/pim-gpt")
Command = list[str]

OPS = "op,dtype,m,n,k,batch,q_len,heads,kv_heads,head_dim,kv_len,causal,rows,cols\n" + "\n".join(
    (
        "matmul,float16,64,64,64,,,,,,,,,",
        "attention,float16,,,,1,8,4,4,16,32,1,,",
        "softmax,float32,,,,,,,,,,,32,64",
    )
)
REQUESTS = "request,bg,bank,row\nread,0,1,5\nwrite,1,2,6\nread,0,1,6\n"
COMMANDS = "command,bg,bank\nACT,0,1\nRD,0,1\nPREab,,\n"
ADDRESSES = "0x1000 READ 10\n0x1040 WRITE 14\n0x402000 READ 40\n"
MODEL = yaml.safe_load((ROOT / "models/presets/digits-tiny.yaml").read_text(encoding="utf-8"))
STUDY = {
    "name": "s",
    "model": {"preset": "jet-btag"},
    "targets": {"gpu/t4": {"launch": ["graph", "eager"]}, "cpu/xeon-6154": {}},
    "objectives": ["latency_us", "energy_mj"],
    "constraints": ["latency_us <= 1e9"],
    "search": {"sampler": "random", "trials": 1, "seed": 1},
}
WORDS = (
    "run", "import", "op", "dram", "show", "list", "compare", "dse", "whatif", "diff", "hls",
    "report", "trace", "m.onnx", "absent.onnx", "--on", "gpu/t4", "cpu/xeon-6154", "--prompt",
    "--generate", "--batch", "--dim", "rows=4", "--set", "clock_hz=1e9", "--json", "-q",
    "--precision", "float8", "-o", "out", "--force", "--no-numerics", "--csv", "ops.csv", "matmul",
    "--m", "--n", "--k", "--device", "ddr4", "--lock", "--", "-", "--help", "models",
)  # fmt: skip


def _save_model(folder: Path) -> None:
    onnx.save(mlp(rows=4), folder / "m.onnx")


def onnx_fields(rng: Random, folder: Path, _base: Path) -> Command:
    made = mutate.onnx_fields(rng, mlp(rows=rng.choice((4, "rows"))))
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    if rng.random() < 0.4:
        return ["import", "m.onnx", "--dim", "rows=4", "--json", "-q"][: rng.choice((2, 6))]
    return ["run", "m.onnx", "--dim", "rows=4", "--on", rng.choice(TARGETS), "-o", "out", "-q", "--no-cache"]


def onnx_bytes(rng: Random, folder: Path, _base: Path) -> Command:
    (folder / "m.onnx").write_bytes(mutate.data(rng, mlp(rows=4).SerializeToString()))
    return ["run", "m.onnx", "--on", rng.choice(TARGETS), "-o", "out", "-q", "--no-cache"]


def _yaml(rng: Random, given: str) -> str:
    """As text, or as a tree; `yaml.safe_load` of a file of ours."""
    if rng.random() < 0.4:
        return mutate.text(rng, given)
    return str(yaml.safe_dump(mutate.tree(rng, yaml.safe_load(given)), sort_keys=False, allow_unicode=True))


def target_yaml(rng: Random, folder: Path, _base: Path) -> Command:
    kind, name = rng.choice(TARGETS).split("/")
    given = (ROOT / "hw_targets" / kind / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    (folder / "mine.yaml").write_text(_yaml(rng, given), encoding="utf-8", errors="surrogateescape")
    if rng.random() < 0.3:
        return ["show", f"{kind}/mine.yaml"]
    _save_model(folder)
    return ["run", "m.onnx", "--on", f"{kind}/mine.yaml", "-o", "out", "-q", "--no-numerics", "--no-cache"]


def model_yaml(rng: Random, folder: Path, _base: Path) -> Command:
    (folder / "tiny.yaml").write_text(_yaml(rng, str(yaml.safe_dump(MODEL))), encoding="utf-8")
    return ["show", "tiny.yaml"]


def study_yaml(rng: Random, folder: Path, _base: Path) -> Command:
    (folder / "s.yaml").write_text(_yaml(rng, str(yaml.safe_dump(STUDY))), encoding="utf-8")
    return ["dse", "run", "s.yaml", "-o", "out", "-q", "--trials", "1"]


def device_yaml(rng: Random, folder: Path, _base: Path) -> Command:
    given = (DEVICES / f"{rng.choice(('ddr4', 'gddr6', 'hbm2'))}.yaml").read_text(encoding="utf-8")
    (folder / "d.yaml").write_text(_yaml(rng, given), encoding="utf-8")
    (folder / "t.csv").write_text(REQUESTS, encoding="utf-8")
    return ["dram", "trace", "t.csv", "--device", "d.yaml"]


def op_csv(rng: Random, folder: Path, _base: Path) -> Command:
    (folder / "ops.csv").write_text(mutate.table(rng, OPS), encoding="utf-8", newline="")
    return ["op", "--csv", "ops.csv", "--on", rng.choice(TARGETS[:2]), "-o", "out.csv"]


def dram_trace(rng: Random, folder: Path, _base: Path) -> Command:
    given = rng.choice((REQUESTS, COMMANDS, ADDRESSES))
    made = mutate.text(rng, given) if given is ADDRESSES else mutate.table(rng, given)
    (folder / "t.csv").write_text(made, encoding="utf-8", newline="")
    return ["dram", "trace", "t.csv", "--device", rng.choice(("ddr4", "gddr6", "hbm2")), "-o", "out.csv"]


def cases_json(rng: Random, folder: Path, _base: Path) -> Command:
    tree = json.loads((ROOT / "hw_targets/pim/measured/cases.json").read_text(encoding="utf-8"))
    tree["cases"] = [c for c in tree["cases"] if c["id"].startswith(rng.choice(("A5", "S1", "A4")))]
    (folder / "c.json").write_text(mutate.json_text(rng, tree), encoding="utf-8")
    return ["dram", "replay", "c.json"]


def run_folder(rng: Random, folder: Path, base: Path) -> Command:
    shutil.copytree(base / "run", folder / "r")
    _save_model(folder)
    file = folder / "r" / rng.choice(("report.json", "config.lock.yaml"))
    _mutate_file(rng, file)
    return rng.choice(
        (
            ["compare", "r", "r"],
            ["diff", "r", "r"],
            ["whatif", "r", "dram.bandwidth=1.25x"],
            ["run", "--lock", "r/config.lock.yaml", "-o", "out", "-q", "--no-numerics"],
        )
    )


def _mutate_file(rng: Random, file: Path) -> None:
    given = file.read_text(encoding="utf-8")
    if rng.random() < 0.3:
        file.write_bytes(mutate.data(rng, given.encode()))
    elif file.suffix == ".json":
        file.write_text(mutate.json_text(rng, json.loads(given)), encoding="utf-8")
    else:
        file.write_text(_yaml(rng, given), encoding="utf-8")


ESTIMATE = {
    "estimate": {"latency_cycles": 100, "interval_cycles": 10, "lut": 5, "ff": 6, "dsp": 1, "bram18": 2}
}
CSYNTH = """<profile><PerformanceEstimates><SummaryOfOverallLatency><Worst-caseLatency>120</Worst-caseLatency>
<Interval-max>12</Interval-max></SummaryOfOverallLatency></PerformanceEstimates><AreaEstimates><Resources>
<BRAM_18K>2</BRAM_18K><DSP>1</DSP><FF>7</FF><LUT>9</LUT></Resources></AreaEstimates></profile>"""


def hls_folder(rng: Random, folder: Path, _base: Path) -> Command:
    (folder / "p").mkdir()
    (folder / "p" / "estimate.json").write_text(json.dumps(ESTIMATE), encoding="utf-8")
    (folder / "p" / "csynth.xml").write_text(CSYNTH, encoding="utf-8")
    file = folder / "p" / rng.choice(("estimate.json", "csynth.xml"))
    if file.suffix == ".json":
        _mutate_file(rng, file)
    else:
        file.write_bytes(mutate.data(rng, CSYNTH.encode()))
    return ["hls", "report", "p"]


def study_folder(rng: Random, folder: Path, base: Path) -> Command:
    shutil.copytree(base / "study", folder / "st")
    file = folder / "st" / rng.choice(("study.json", "journal.log"))
    if file.name == "study.json":
        _mutate_file(rng, file)
    else:
        file.write_bytes(mutate.data(rng, file.read_bytes()))
    return ["dse", rng.choice(("status", "report")), "st"]


def export_folder(rng: Random, folder: Path, base: Path) -> Command:
    shutil.copytree(base / "export", folder / "ex")
    _mutate_file(rng, folder / "ex" / "manifest.json")
    return ["run", "ex", "--on", rng.choice(TARGETS[:2]), "-o", "out", "-q", "--no-numerics", "--no-cache"]


def command_line(rng: Random, folder: Path, _base: Path) -> Command:
    _save_model(folder)
    (folder / "ops.csv").write_text(OPS, encoding="utf-8")
    words = [
        rng.choice((*WORDS, *WORDS, *map(str, mutate.NUMBERS), *mutate.TEXTS))
        for _ in range(rng.randint(1, 7))
    ]
    start = rng.choice(
        (
            [],
            ["run", "m.onnx", "--dim", "rows=4", "--on", "gpu/t4", "-q"],
            ["op", "matmul", "--m", "64", "--n", "64", "--k", "64", "--on", "gpu/t4"],
            ["import", "m.onnx"],
            ["show"],
        )
    )
    return [*start, *words]


KINDS: dict[str, Callable[[Random, Path, Path], Command]] = {
    f.__name__: f
    for f in (
        onnx_fields, onnx_bytes, target_yaml, model_yaml, study_yaml, device_yaml, op_csv, dram_trace,
        cases_json, run_folder, hls_folder, study_folder, export_folder, command_line,
    )
}  # fmt: skip
