"""What a target is: one `Target` object, found as `TARGET` in `hw_targets/<name>/target.py`.

A target turns a graph into a `Program` (`lower`), says how its arithmetic rounds (`arithmetic`), whether a
model fits (`capacity`), prices single ops (`price`), and how wrong it is known to be (`error_range`).
Everything else (engines, totals, results, reports) is common. Adding a target is one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.explanation import Explanation, Place
from tetrasim.sim.engine.program import Program
from tetrasim.sim.engine.timeline import Counter, RunTotals, Timeline
from tetrasim.sim.ir.family import GraphFamily
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.metric import Basis, ErrorRange
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.rounding import EXACT
from tetrasim.sim.ops.work import Work
from tetrasim.sim.precision import FLOAT32, Precision
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance
    from numpy.typing import NDArray

    from tetrasim.hw_targets.common.abilities import Calibrated, Calibration, Measured, Progress


class Config(BaseModel):
    """Base of every target's configuration: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __hash__(self) -> int:
        return self.content_hash

    @cached_property
    def content_hash(self) -> int:
        """Hash of all fields, computed once: caches of prices are keyed by configuration."""
        return hash((type(self), *(getattr(self, name) for name in type(self).model_fields)))


ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True, slots=True)
class Aspect(Generic[ConfigT]):
    """A configuration as a key of caches whose results depend on `seen` alone: equal where that is equal, so
    that a search over the other fields finds what they do not change."""

    seen: tuple[object, ...]
    config: ConfigT = field(compare=False)


def aspect_without(config: ConfigT, unseen: frozenset[str], *seen: object) -> Aspect[ConfigT]:
    """All fields of `config` but `unseen`, and `seen`."""
    values = config.__dict__
    kept = [values[name] for name in type(config).model_fields if name not in unseen]
    return Aspect((*kept, *seen), config)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """One memory of the device: what the model puts there against what it holds."""

    name: str
    capacity_bytes: int
    weights_bytes: int
    state_bytes: int
    activation_bytes: int

    @property
    def used_bytes(self) -> int:
        return self.weights_bytes + self.state_bytes + self.activation_bytes

    @property
    def fits(self) -> bool:
        return self.used_bytes <= self.capacity_bytes


@dataclass(frozen=True, slots=True)
class Capacity:
    """`mode` names the mapping chosen ("resident", "weights streamed over PCIe", …); `note` explains, with
    both byte counts, when something does not fit. A model with no mapping at all: raise `CapacityError`.
    `measured`: the target's measurements were taken in this mode; if not, its error range does not apply."""

    mode: str
    memories: tuple[MemoryUse, ...]
    note: str = ""
    measured: bool = True


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """A spatial resource against the device: LUT, DSP, BRAM, area_mm2, …"""

    name: str
    used: float
    available: float
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Prices:
    """Cost of single ops, one row per op, in the order asked."""

    latency_us: NDArray[np.float64]
    energy_uj: NDArray[np.float64]
    bound_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peaks:
    """The device's ceilings for speed-of-light bars and the roofline, at the precision in use."""

    macs_per_s: float
    vector_ops_per_s: float
    bytes_per_s: tuple[tuple[str, float], ...]  # per memory level, same names as Program.level_names


@dataclass(frozen=True, slots=True)
class EnergyFloor:
    """No run of a graph takes less: `power_w` all the time that it lasts, and `energy_pj` on top."""

    power_w: float
    energy_pj: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, as a verb phrase, and the settings (dotted path, value) that do it."""

    text: str
    settings: tuple[tuple[str, str | int | float | bool], ...]


@dataclass(frozen=True, slots=True)
class Part(Generic[ConfigT]):
    """A part of the time: its name, and what helps against it in a configuration, the best first; nothing
    when no setting is left. What is done already, or what the device cannot do, is not advised, and every
    advice names settings, so that it can be tried at once."""

    name: str
    advice: Callable[[ConfigT], tuple[Advice, ...]]


@dataclass(frozen=True)
class Target(Generic[ConfigT]):
    """A kind of hardware. `simulate_runs` overrides the common loop where a target has a faster exact way
    (or needs state across runs, such as the DRAM refresh phase); None: lower and run each graph."""

    name: str
    title: str
    config_type: type[ConfigT]
    precision: Callable[[ConfigT], Precision]
    lower: Callable[[Graph, ConfigT], Program]
    capacity: Callable[[Graph, ConfigT], Capacity]  # the graph with the largest state; raises CapacityError
    resources: Callable[[Graph, ConfigT], tuple[ResourceUse, ...]]
    peaks: Callable[[ConfigT], Peaks]
    arithmetic: Callable[[ConfigT], Arithmetic]
    price: Callable[[Sequence[Work], ConfigT], Prices]
    error_range: Callable[[ConfigT, str], ErrorRange | None]  # metric: "prefill"|"decode"|"forward"|"energy"
    parts: tuple[Part[ConfigT], ...] = ()  # of the time that its programs name, each with its advice
    time_basis: Basis = Basis.ANALYTIC  # what times rest on where no measurement covers them
    simulate_runs: Callable[[GraphFamily, Sequence[int], ConfigT], RunTotals] | None = None
    least_energy: Callable[[Graph, ConfigT], EnergyFloor] | None = None  # to screen candidates; None: nothing
    mapping_text: Callable[[Graph, ConfigT, Workload], str] | None = None  # `tetrasim show mapping`
    # how wrong the time of one op alone is known to be; None: no measurements of single ops
    op_range: Callable[[Work, ConfigT], ErrorRange | None] | None = None
    # why an op takes what it takes, alone (no place) or in a graph, one explanation per kernel
    explain: Callable[[Work, ConfigT, Place | None], tuple[Explanation, ...]] | None = None
    # quantities over time that the trace shows beside the tasks of a run
    counters: Callable[[Graph, ConfigT, Timeline], tuple[Counter, ...]] | None = None
    # choices that hold for all graphs of a run, each with the name of its phase; None: there is none to make
    settle: Callable[[Sequence[tuple[str, Graph]], ConfigT], ConfigT] | None = None
    # the error on the committed measurements, one dataclass per row (`tetrasim validate`)
    validate: Callable[[], Sequence[DataclassInstance]] | None = None
    # an ONNX file run on this machine, with the shapes of the graph that was imported from it
    measure: Callable[[Path, Graph, ConfigT], Measured] | None = None
    # from this machine into a preset of the user's, or from tables of measured kernels
    calibrate: Callable[[Calibration, Progress], Calibrated] | None = None

    def emulated(self, config: ConfigT) -> Arithmetic:
        """The arithmetic of the precision in use.

        Raises:
            UserError: the target names a format narrower than float32 and rounds nothing: its numbers would
                be reported as checked though nothing was emulated.
        """
        arithmetic, formats = self.arithmetic(config), self.precision(config)
        narrow = [f.name for f in (formats.weights, formats.activations, formats.state) if f != FLOAT32]
        if arithmetic is EXACT and narrow:
            raise UserError(
                f"target '{self.name}' computes in {narrow[0]} and emulates no rounding",
                where=f"{self.name}/target.py",
                hint="give it an arithmetic of that format (`RoundedArithmetic`), or report float32",
            )
        return arithmetic
