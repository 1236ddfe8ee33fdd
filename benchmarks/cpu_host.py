"""Calibrate this machine, measure shapes that the calibration has not seen, and compare (one thread).

    python benchmarks/cpu_host.py                   print the table of errors per class
    python benchmarks/cpu_host.py --write           also replace the committed measurements and error ranges
    python benchmarks/cpu_host.py --errors          only regenerate the error ranges from the committed table

Every time is the best of many runs in several passes, since other load can only slow a run down. Whole
models are exported with seeded random weights; predictions of models use the imported graphs.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tetrasim.flow.loading import check_workload, find_model, load_model
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.cpu import validate
from tetrasim.hw_targets.cpu.calibration.calibrate import calibrate
from tetrasim.hw_targets.cpu.calibration.hostinfo import load_average, read_host
from tetrasim.hw_targets.cpu.calibration.onnx_bench import op_model, session
from tetrasim.hw_targets.cpu.calibration.preset_file import to_yaml
from tetrasim.hw_targets.cpu.calibration.probe import best_seconds
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.errors import FILE as ERRORS
from tetrasim.hw_targets.cpu.measure import measure
from tetrasim.hw_targets.cpu.validation.cases import (
    BERT_TOKENS,
    GPT2_CONTEXTS,
    Case,
    bert_case,
    feeds_of,
    gpt2_case,
    model_cases,
    op_cases,
)
from tetrasim.sim.workload import Workload


def measure_ops(passes: int) -> dict[Case, float]:
    """Best microseconds of every single-op case."""
    best: dict[Case, float] = {}
    for _ in range(passes):
        for case, make in op_cases().items():
            op = make()
            made = session(op_model(op).SerializeToString(), 1)
            feeds = feeds_of(op)
            us = best_seconds(lambda made=made, feeds=feeds: made.run(None, feeds), 7, 0.08) * 1e6
            best[case] = min(best.get(case, us), us)
    return best


def measure_models(config: CpuConfig, passes: int) -> tuple[dict[Case, float], dict[Case, float]]:
    """Best and predicted microseconds of every model case, predicted on the imported graphs."""
    measured: dict[Case, float] = {}
    predicted: dict[Case, float] = {}
    todo = [("bert-base", n, bert_case(n), "forward") for n in BERT_TOKENS]
    todo += [("gpt2-small", n, gpt2_case(n), "decode") for n in GPT2_CONTEXTS]
    for _ in range(passes):
        for model, size, case, phase in todo:
            files = find_model(model)
            workload = Workload(prompt=size, generate=2 if phase == "decode" else 0)
            loaded = load_model(files, check_workload(files, workload))
            part = next(p for p in loaded.phases if p.name == phase)
            graph = part.family.at(size if phase == "decode" else 0)
            found = measure(part.onnx, graph, config, at_least_s=1.5, profile=False)
            measured[case] = min(measured.get(case, np.inf), found.measured_ms * 1e3)
            predicted[case] = found.predicted_ms * 1e3
    return measured, predicted


def report(measured: dict[Case, float], predicted: dict[Case, float]) -> None:
    """One line per case, then one per class."""
    groups: dict[str, list[float]] = {}
    for case, us in measured.items():
        error = predicted[case] / us - 1
        groups.setdefault(case.group, []).append(error)
        times = f"measured {us:11.1f} us  predicted {predicted[case]:11.1f} us"
        print(f"{case.group:13s} {case.name:36s} {times}  {error:+.1%}")
    print()
    for group, errors in groups.items():
        absolute = np.abs(errors)
        middle = f"mean {absolute.mean():.1%}, median {np.median(absolute):.1%}"
        print(f"{group:13s} {len(errors):3d} rows  {middle}  (must {validate.GATES[group]:.0%})")


def write(measured: dict[Case, float], loads: tuple[float, float]) -> None:
    """Replace the committed table and error ranges."""
    host = read_host()
    out = io.StringIO()
    out.write(f"# {host.name}, {host.cores} cores, onnxruntime {ort.__version__}, {datetime.date.today()}\n")
    out.write(f"# one thread, best of many; load {loads[0]:.1f} before, {loads[1]:.1f} after\n")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("group", "case", "measured_us"))
    table.writerows((case.group, case.name, f"{us:.2f}") for case, us in measured.items())
    (validate.MEASURED / "host.csv").write_text(out.getvalue(), encoding="utf-8")
    write_errors()


def write_errors() -> None:
    """Regenerate `errors.yaml`."""
    validate.host_rows.cache_clear()
    Path(ERRORS).write_text(validate.error_table(), encoding="utf-8")


def _calibrate(args: argparse.Namespace) -> CpuConfig:
    """The committed calibration with `--keep`, else a new one (committed with `--write`)."""
    file = validate.MEASURED / "host.yaml"
    if args.keep:
        return load_preset(file, "cpu/host", CpuConfig).config
    calibration = calibrate(lambda what, _: print(what, file=sys.stderr), args.passes, 60.0 * args.passes)
    print(f"model error on the products calibrated with: {calibration.gemm_error:.1%}")
    if args.write:
        file.write_text(to_yaml(calibration), encoding="utf-8")
    return calibration.config


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--errors", action="store_true")
    parser.add_argument(
        "--passes", type=int, default=3, help="more find more quiet moments of a busy machine"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the committed calibration and the better of old and new times",
    )
    args = parser.parse_args()
    if args.errors:
        write_errors()
        return
    began, before = time.perf_counter(), load_average()
    config = with_overrides(_calibrate(args), {"threads": 1})
    measured, predicted = measure_models(config, args.passes)
    ops = measure_ops(args.passes)
    measured |= ops
    makers = op_cases()
    predicted |= {case: validate.predict_us(validate.op_graph(makers[case]()), config) for case in ops}
    if args.keep:
        # The best of several sessions on one machine: other load can only have slowed the earlier ones down.
        for row in validate.read_table():
            case = Case(row["group"], row["case"])
            measured[case] = min(measured[case], float(row["measured_us"]))
    report(measured, predicted)
    by_hand = {case: validate.predict_us(graph, config) for case, graph in model_cases().items()}
    drift = max(abs(by_hand[case] / predicted[case] - 1) for case in by_hand)
    print(f"\ngraphs built by hand against imported ones: at most {drift:.1%} apart")
    after = load_average()
    print(f"load {before:.1f} before, {after:.1f} after; {time.perf_counter() - began:.0f} s")
    if args.write:
        write(measured, (before, after))


if __name__ == "__main__":
    main()
