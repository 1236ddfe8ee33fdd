"""Calibrate this machine, measure shapes that the calibration has not seen, and compare: on one thread, and
(on a quiet machine) on several.

    python benchmarks/cpu_host.py                   print the table of errors per class
    python benchmarks/cpu_host.py --write           also replace the committed measurements and error ranges
    python benchmarks/cpu_host.py --errors          only regenerate the error ranges from the committed table
    python benchmarks/cpu_host.py --compare FILE …  other calibrations of this machine against that table

Every time is the best of many runs in several passes, since other load can only slow a run down; single ops
are timed in rounds. Whole models are exported with seeded random weights; predictions of models use the
imported graphs. A table of several threads is worth nothing while other programs hold cores: what they used
is printed and written beside the numbers.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tetrasim.flow.loading import check_workload, find_model, load_model
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.cpu import validate
from tetrasim.hw_targets.cpu.calibration.calibrate import calibrate
from tetrasim.hw_targets.cpu.calibration.hostinfo import read_host
from tetrasim.hw_targets.cpu.calibration.machine_probes import reference_kernel
from tetrasim.hw_targets.cpu.calibration.onnx_bench import op_model, session
from tetrasim.hw_targets.cpu.calibration.preset_file import to_yaml
from tetrasim.hw_targets.cpu.calibration.rounds import QUIET_CORES, SPIN_S, OtherLoad, Probe, time_in_rounds
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
    op_graph,
)
from tetrasim.onnx_runtime import library
from tetrasim.sim.workload import Workload


def measure_ops(passes: int, threads: int) -> dict[Case, float]:
    """Best microseconds of every single-op case."""
    probes = []
    for case, make in op_cases().items():
        op = make()
        made = session(op_model(op).SerializeToString(), threads)
        run = partial(made.run, None, feeds_of(op))
        probes.append(Probe(replace(case, threads=threads), run, threads=threads))
    budget_s = (8.0 if threads == 1 else 16.0) * passes
    best = time_in_rounds(probes, reference_kernel(), budget_s).best_s
    return {case: seconds * 1e6 for case, seconds in best.items()}


def measure_models(
    config: CpuConfig, passes: int, threads: tuple[int, ...]
) -> tuple[dict[Case, float], dict[Case, float]]:
    """Best and predicted microseconds of every model case, predicted on the imported graphs."""
    measured: dict[Case, float] = {}
    predicted: dict[Case, float] = {}
    todo = [("bert-base", n, bert_case(n), "forward") for n in BERT_TOKENS]
    todo += [("gpt2-small", n, gpt2_case(n), "decode") for n in GPT2_CONTEXTS]
    for _ in range(passes):
        for model, size, alone, phase in todo:
            files = find_model(model)
            workload = Workload(prompt=size, generate=2 if phase == "decode" else 0)
            loaded = load_model(files, check_workload(files, workload))
            part = next(p for p in loaded.phases if p.name == phase)
            assert part.onnx is not None
            graph = part.family.at(size if phase == "decode" else 0)
            for count in threads:
                case = replace(alone, threads=count)
                used = with_overrides(config, {"threads": count})
                found = measure(part.onnx, graph, used, at_least_s=1.5, profile=False, check_drift=False)
                measured[case] = min(measured.get(case, np.inf), found.measured_ms * 1e3)
                predicted[case] = found.predicted_ms * 1e3
                time.sleep(SPIN_S)
    return measured, predicted


def report(measured: dict[Case, float], predicted: dict[Case, float]) -> None:
    """One line per case, then one per class."""
    groups: dict[tuple[str, int], list[float]] = {}
    for case, us in measured.items():
        error = predicted[case] / us - 1
        groups.setdefault((case.group, case.threads), []).append(error)
        times = f"measured {us:11.1f} us  predicted {predicted[case]:11.1f} us"
        print(f"{case.group:13s} {case.name:36s} {case.threads:2d}  {times}  {error:+.1%}")
    print()
    for (group, threads), errors in groups.items():
        absolute = np.abs(errors)
        middle = f"mean {absolute.mean():.1%}, median {np.median(absolute):.1%}"
        must = f"  (must {validate.GATES[group]:.0%})" if threads == 1 else ""
        print(f"{group:13s} {threads:2d} threads {len(errors):3d} rows  {middle}{must}")


def write(measured: dict[Case, float], other_cores: float) -> None:
    """Replace the committed table and error ranges."""
    host = read_host()
    out = io.StringIO()
    version = library().__version__
    out.write(f"# {host.name}, {host.cores} cores, onnxruntime {version}, {datetime.date.today()}\n")
    out.write(f"# best of many; other programs used {other_cores:.1f} of {host.cores} cores\n")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("group", "case", "threads", "measured_us"))
    table.writerows((c.group, c.name, c.threads, f"{us:.2f}") for c, us in measured.items())
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
    calibration = calibrate(budget_s=45.0 * args.passes)
    one, several = calibration.gemm_error, calibration.shared_error
    print(f"model error on the products calibrated with: {one:.1%} on one thread, {several:.1%} on all")
    if args.write:
        file.write_text(to_yaml(calibration), encoding="utf-8")
    return calibration.config


def compare(file: Path) -> None:
    """Errors of a calibration (a `host.yaml`) on the committed measurements, one thread."""
    config = load_preset(file, "cpu/host", CpuConfig).config
    models, ops = model_cases(), op_cases()
    groups: dict[str, list[float]] = {}
    for case, us in validate.read_cases().items():
        if case.threads == 1:
            graph = models[case] if case in models else op_graph(ops[case]())
            groups.setdefault(case.group, []).append(abs(validate.predict_us(graph, config) / us - 1))
    found = (f"{g} {np.mean(e):.1%} mean {np.median(e):.1%} median" for g, e in groups.items())
    print(f"{file}: {'; '.join(found)}")


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
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE", help="calibrations to compare")
    args = parser.parse_args()
    if args.compare:
        for file in args.compare:
            compare(file)
        return
    if args.errors:
        write_errors()
        return
    began, others = time.perf_counter(), OtherLoad()
    config = _calibrate(args)
    threads = tuple(sorted({1, *(t for t in (2, config.cores) if t <= config.cores)}))
    measured, predicted = measure_models(config, args.passes, threads)
    makers = op_cases()
    for count in (1, config.cores) if config.cores > 1 else (1,):
        for case, us in measure_ops(args.passes, count).items():
            measured[case] = us
            graph = op_graph(makers[replace(case, threads=1)]())
            predicted[case] = validate.predict_us(graph, config, count)
    if args.keep:
        # The best of several sessions on one machine: other load can only have slowed the earlier ones down.
        for case, us in validate.read_cases().items():
            measured[case] = min(measured.get(case, us), us)
            predicted.setdefault(case, np.nan)
    report(measured, predicted)
    by_hand = {case: validate.predict_us(graph, config) for case, graph in model_cases().items()}
    drift = max(abs(by_hand[case] / predicted[case] - 1) for case in by_hand)
    print(f"\ngraphs built by hand against imported ones: at most {drift:.1%} apart")
    used = others.cores()
    print(f"other programs used {used:.1f} cores; {time.perf_counter() - began:.0f} s")
    if args.write:
        if used > QUIET_CORES:
            print("rows of several threads are not written: run it when the machine is idle")
            measured = {case: us for case, us in measured.items() if case.threads == 1}
        write(measured, used)


if __name__ == "__main__":
    main()
