"""What only measurements tell: kernel starts and reached fractions of the peaks, per device and op class.

`calibration.yaml` is written by `tetrasim calibrate gpu`; it is read as data, never edited by hand. Entries
named after an architecture (`ada`) serve devices of that family that were never measured: they have no
parameters of 16-bit products, which come from the jointly fitted ones (transfer.py). Any entry used on a
device with another clock or number of SMs than the one it was fitted on is moved to it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import yaml

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.gpu.device import FORMATS, HALF
from tetrasim.hw_targets.gpu.kernels.attention import KERNELS, AttentionFit
from tetrasim.hw_targets.gpu.kernels.gemm import ALWAYS_BEST, GemmFit
from tetrasim.hw_targets.gpu.kernels.records import Records, records
from tetrasim.hw_targets.gpu.kernels.vector import VectorFit
from tetrasim.hw_targets.gpu.power import PowerFit
from tetrasim.hw_targets.gpu.transfer import (
    gemm_fit,
    resized_power,
    shared_gemm,
    slower_attention,
    slower_gemm,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.hw_targets.gpu.config import GpuConfig

FILE = Path(__file__).with_name("calibration.yaml")

Fit = TypeVar("Fit", GemmFit, AttentionFit, VectorFit, PowerFit)


@dataclass(frozen=True)
class Calibration:
    """One entry: GEMM per format in the order of `FORMATS`, attention per kernel in that of `KERNELS`.

    `clock_hz` and `sm_count` of the device it was fitted on; `shared`: the formats whose products were not
    measured there and take the jointly fitted parameters.
    """

    gemm: tuple[GemmFit, ...]
    attention: tuple[AttentionFit, ...]
    vector: VectorFit
    power: PowerFit
    clock_hz: float
    sm_count: int
    shared: tuple[str, ...] = ()

    @cached_property
    def products(self) -> tuple[Records[GemmFit], Records[GemmFit]]:
        """GEMM fits as rows: of the library's choices, and of the best tile always. Fits of float32 kernels
        see the tiles and splits of a heuristic, and put what it chose badly into the cost of splitting k
        (several end at their bounds); for the best tile, a split costs what it does in 16 bits."""
        half = self.gemm[HALF]
        best = [
            replace(
                f,
                choice=ALWAYS_BEST,
                split_us=min(f.split_us, half.split_us),
                reduce_efficiency=max(f.reduce_efficiency, half.reduce_efficiency),
            )
            for f in self.gemm
        ]
        return records(GemmFit, self.gemm), records(GemmFit, best)

    @cached_property
    def product_reach(self) -> NDArray[np.float64]:
        """[format, 2] L2 share and onset of products."""
        return np.array([(f.l2_share, f.l2_onset) for f in self.gemm])

    @cached_property
    def attentions(self) -> tuple[Records[AttentionFit], Records[AttentionFit]]:
        """Attention fits as rows: timed alone, and in a model, where a cache append is a node of its own and
        schedules are prepared once per run."""
        start = self.vector.start_us
        inside = [replace(k, start_us=start, batch_us=0.0, append_passes=0.0) for k in self.attention]
        return records(AttentionFit, self.attention), records(AttentionFit, inside)

    @cached_property
    def attention_reach(self) -> NDArray[np.float64]:
        """[kernel, 2] L2 share and onset of attention."""
        return np.array([(k.l2_share, k.l2_onset) for k in self.attention])

    @cached_property
    def streams(self) -> Records[VectorFit]:
        """The vector fit as a row."""
        return records(VectorFit, [self.vector])


def calibration(name: str) -> Calibration:
    """The entry called `name`, as fitted; products of its formats in `shared` are priced after `moved` only.

    Raises:
        UserError: no such entry, with the nearest name.
    """
    tree = _read()
    if name not in tree:
        raise UserError(f"unknown calibration '{name}'", where="calibration", hint=nearest(name, tree))
    return _entry(name)


@lru_cache(maxsize=256)
def calibration_of(config: GpuConfig) -> Calibration:
    """What holds on a device: its own entry as fitted, or that of its family moved to it.

    Raises:
        UserError: no such entry, or an architecture of which nothing is known.
    """
    fit = calibration(config.calibration)
    if fit.clock_hz == config.clock_hz and fit.sm_count == config.sm_count and not fit.shared:
        return fit
    return moved(fit, config)


def moved(fit: Calibration, config: GpuConfig, fitted_on: str = "all") -> Calibration:
    """A calibration on another device: the same cycles, fewer or more SMs; see transfer.py.

    Args:
        fit: the entry of the measured device, or of a family.
        config: the device.
        fitted_on: which devices the shared parameters were fitted on.
    """
    slower = fit.clock_hz / config.clock_hz
    gemm = [slower_gemm(g, slower) for g in fit.gemm]
    if fit.shared:
        half = gemm_fit(shared_gemm(fitted_on), config)
        for name in fit.shared:
            i = FORMATS.index(name)
            passes = {"quantise_us": gemm[i].quantise_us, "quantise_passes": gemm[i].quantise_passes}
            gemm[i] = replace(half, **passes)
    return replace(
        fit,
        gemm=tuple(gemm),
        attention=tuple(slower_attention(a, slower) for a in fit.attention),
        power=resized_power(fit.power, config.sm_count / fit.sm_count),
        clock_hz=config.clock_hz,
        sm_count=config.sm_count,
    )


@cache
def _entry(name: str) -> Calibration:
    return calibration_from(_read()[name])


def calibration_from(entry: dict[str, dict[str, dict[str, float]]]) -> Calibration:
    """An entry of the file: op class -> part -> parameter."""
    gemm, device = entry["gemm"], entry["device"]["all"]
    rows = {f: _fit(GemmFit, {**gemm["float32"], **gemm[f]}) for f in FORMATS}
    return Calibration(
        tuple(rows[f] for f in FORMATS),
        tuple(_fit(AttentionFit, entry["attention"][kernel]) for kernel in KERNELS),
        _fit(VectorFit, entry["vector"]["all"]),
        _fit(PowerFit, entry["power"]["all"]),
        float(device["clock_hz"]),
        int(device["sm_count"]),
        tuple(f for f in FORMATS if "shared" in gemm[f]),
    )


def forget() -> None:
    """Drop what was read: the file has been written again."""
    for kept in (calibration_of, shared_gemm, _entry, _read):
        kept.cache_clear()


@cache
def _read() -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    tree: dict[str, dict[str, dict[str, dict[str, float]]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree


def _fit(kind: type[Fit], values: object) -> Fit:
    assert isinstance(values, dict)
    known = {f.name for f in fields(kind)}
    return kind(**{name: float(value) for name, value in values.items() if name in known})
