"""What a fit writes: calibration, shared parameters, error ranges, and the rows that validate them.

The files are those of `hw_targets/gpu/`, and read as data from there. What launches of a framework cost
stands in the presets of the measured devices: those are changed too, where the folder has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from tetrasim.files.read import read_text
from tetrasim.files.write import write_file
from tetrasim.hw_targets.gpu import errors
from tetrasim.hw_targets.gpu.calibration import Calibration, calibration_from
from tetrasim.hw_targets.gpu.config import Launch
from tetrasim.hw_targets.gpu.device import FORMATS
from tetrasim.hw_targets.gpu.fit import shared
from tetrasim.hw_targets.gpu.fit.calibrate import Fitted, State, left_out_rows, predicted
from tetrasim.hw_targets.gpu.fit.ranges import from_models, ranges
from tetrasim.hw_targets.gpu.fit.start import complete
from tetrasim.hw_targets.gpu.fit.tables import TABLES, load_table, ship
from tetrasim.hw_targets.gpu.fit.unfitted import SOURCES, unfitted
from tetrasim.hw_targets.gpu.kernels.attention import KERNELS
from tetrasim.hw_targets.gpu.measurements import Measured, Predicted
from tetrasim.hw_targets.gpu.transfer import ALL

_WRITTEN = "# Written by `tetrasim calibrate gpu`: do not edit. "
CALIBRATION_HEAD = f"{_WRITTEN}Units and meaning: the classes in *Fit.\n"
ERRORS_HEAD = f"{_WRITTEN}measured / predicted, 10th and 90th percentile.\n"
Tree = dict[str, dict[str, dict[str, float]]]  # of one entry: op class -> part -> parameter


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, _data: object) -> bool:
        return True


def write(fitted: Fitted, tables: Path, into: Path) -> tuple[Path, ...]:
    """Write the files of a fit into a folder; the files written.

    Args:
        fitted: what was found.
        tables: the folder of the measured tables.
        into: a folder that exists, `tetrasim/hw_targets/gpu` to replace what ships.
    """
    trees = calibration_trees(fitted)
    eager = {t.preset for t in TABLES if load_table(t, tables).launch is Launch.EAGER}
    launch = {preset: _rounded_launch(fitted.states[preset]) for preset in fitted.states if preset in eager}
    entries = {name: calibration_from(tree) for name, tree in trees.items()}
    models = from_models(errors.shipped())

    def held(measured: Measured) -> Predicted:
        state = State(entries[measured.preset], *launch.get(measured.preset, (0.0, 0.0)))
        return predicted(measured, state)

    texts = {
        "calibration.yaml": CALIBRATION_HEAD + _yaml(trees),
        "shared_gemm.yaml": shared.text(fitted.shared),
        "errors.yaml": ERRORS_HEAD + _yaml(ranges(tables, held, models)),
    }
    for name, text in texts.items():
        write_file(into / name, text)
    ship([*left_out_rows(tables), *unfitted(tables)], into / "measured", SOURCES)
    changed = [_write_launch(into / "presets" / f"{preset}.yaml", *us) for preset, us in launch.items()]
    rows = tuple(into / "measured" / f"{kind}.csv" for kind in ("gemm", "attention", "vector"))
    return (*(into / name for name in texts), *rows, *(file for file in changed if file is not None))


def calibration_trees(fitted: Fitted) -> dict[str, Tree]:
    """The YAML form of every entry: measured devices, and families made from them."""
    done = complete({preset: s.fit for preset, s in fitted.states.items()}, fitted.shared[ALL])
    return {name: tree_of(fit) for name, fit in done.items()}


def tree_of(fit: Calibration) -> Tree:
    """The YAML form of one entry; values have five significant digits."""

    def rounded(values: Mapping[str, float]) -> dict[str, float]:
        return {n: float(f"{v:.5g}") for n, v in values.items()}

    def product(name: str, values: dict[str, float]) -> dict[str, float]:
        if name not in fit.shared:
            return values
        return {"shared": 1.0, **{n: values[n] for n in ("quantise_us", "quantise_passes")}}

    formats = {name: rounded(asdict(g)) for name, g in zip(FORMATS, fit.gemm, strict=True)}
    return {
        "device": {"all": {"clock_hz": float(fit.clock_hz), "sm_count": float(fit.sm_count)}},
        "gemm": {name: product(name, values) for name, values in formats.items()},
        "attention": {name: rounded(asdict(a)) for name, a in zip(KERNELS, fit.attention, strict=True)},
        "vector": {"all": rounded(asdict(fit.vector))},
        "power": {"all": rounded(asdict(fit.power))},
    }


def _yaml(tree: object) -> str:
    return yaml.dump(tree, Dumper=_NoAliases, sort_keys=False)


def _rounded_launch(state: State) -> tuple[float, float]:
    """As a preset states it, us."""
    return round(state.eager_us, 1), round(state.eager_product_us, 1)


def _write_launch(file: Path, eager_us: float, product_us: float) -> Path | None:
    """Put the fitted launch costs of a framework into a preset, with their source."""
    if not file.is_file():
        return None
    text = read_text(file)
    for key, us in (("eager_launch_s", eager_us), ("eager_product_s", product_us)):
        line = f'{key}: {{value: {us:.1f}e-6, source: "eager PyTorch kernels of NeuSight, fitted"}}'
        text = re.sub(key + r": \{.*\}", line, text)
    write_file(file, text)
    return file
