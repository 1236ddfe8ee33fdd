"""What fraction of the 16-bit peak T4's and V100's products reach: from whole models, for want of kernels.

    python reproductions/bert_fractions.py [--fractions 0.6,0.65,0.7]

FasterTransformer's padded float16 rows of batch 8 are predicted with each fraction; the one with the least
mean error is what `hw_targets/gpu/fit/start.py` names. The other batches of the table are not used.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from bert_libraries import TABLE, fastertransformer

from tetrasim.hw_targets.gpu import calibration as calibration_module
from tetrasim.hw_targets.gpu.fit.files import tree_of
from tetrasim.hw_targets.gpu.fit.start import STARTS, complete
from tetrasim.hw_targets.gpu.transfer import shared_gemm

PRESETS = ("t4", "v100-pcie-32gb")
FRACTIONS = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def errors(fraction: float) -> dict[str, tuple[float, float]]:
    """Mean absolute error and bias per preset with `fraction` on both; for a process of its own."""
    fits = {preset: calibration_module.calibration(preset) for preset in STARTS}
    done = complete(fits, shared_gemm(), fraction, fraction)
    tree = {name: tree_of(fit) for name, fit in done.items()}
    with tempfile.TemporaryDirectory() as folder:
        calibration_module.FILE = Path(folder) / "calibration.yaml"
        calibration_module.FILE.write_text(yaml.safe_dump(tree), encoding="utf-8")
        calibration_module.forget()
        table = Path(folder) / "batch8.csv"
        lines = [x for x in TABLE.read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
        names = lines[0].split(",")
        rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
        kept = [
            line
            for line, row in zip(lines[1:], rows, strict=True)
            if row["preset"] in PRESETS
            and (row["batch"], row["impl"], row["precision"]) == ("8", "FT", "float16")
        ]
        table.write_text("\n".join([lines[0], *kept]), encoding="utf-8")
        found = list(fastertransformer(table))
    out: dict[str, tuple[float, float]] = {}
    for preset in PRESETS:
        error = np.array([r.predicted_ms / r.measured_ms - 1 for r in found if r.preset == preset])
        out[preset] = float(np.abs(error).mean()), float(error.mean())
    return out


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    default = ",".join(map(str, FRACTIONS))
    parser.add_argument("--fractions", default=default, help="fractions to try, separated by commas")
    fractions = [float(x) for x in parser.parse_args().fractions.split(",")]
    # a new process each: a program priced once stays priced
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        found = list(pool.map(errors, fractions))
    for preset in PRESETS:
        for fraction, error in zip(fractions, found, strict=True):
            print(
                f"{preset:16s} {fraction:.2f}  error {error[preset][0]:6.1%}  bias {error[preset][1]:+6.1%}"
            )
        best = fractions[int(np.argmin([e[preset][0] for e in found]))]
        print(f"{preset:16s} best {best:.2f}")


if __name__ == "__main__":
    main()
