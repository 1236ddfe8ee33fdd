"""`Result`: everything one simulation says, and all that reports read. It serialises to `report.json`.

Frozen dataclasses of plain fields, so that the JSON schema is generated from this file
(`reports/formats/report_json.py`) and the same inputs give byte-identical JSON: no wall time, no host name,
no date.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.sim.metric import Metric
from tetrasim.sim.workload import Workload

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Share:
    """A named part of a whole; the shares of one decomposition sum to it exactly (time: integer ps)."""

    name: str
    amount: float
    fraction: float


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """`name`: "forward", "prefill" or "decode" (all steps together)."""

    name: str
    runs: int
    latency: Metric  # all runs, ns
    energy: Metric  # all runs, pJ
    time_shares: tuple[Share, ...]  # critical path by part, ps
    energy_shares: tuple[Share, ...]  # by component, pJ
    bytes_moved: tuple[Share, ...]  # by memory level
    utilisation: tuple[Share, ...]  # busy time by resource, ps; fraction of total time
    macs: int
    tasks: int
    run_ns: tuple[float, ...]  # latency of each run, in order (a generation's curve)
    bound_by: str  # the largest time share
    peak_fraction: float  # of the peak that bounds it: speed of light
    peak_name: str


@dataclass(frozen=True, slots=True)
class OpResult:
    """One node over all runs of its phase; `time_fraction` is its share of the critical path."""

    phase: str
    node: str
    op: str
    module: str
    onnx: tuple[str, ...]
    shape: str
    macs: int
    bytes: int
    time_ns: float
    busy_ns: float
    time_fraction: float
    energy_pj: float
    bound_by: str
    arithmetic_intensity: float


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """One memory, at the end of the run when its state is largest; `first_state_bytes` is the state of the
    first step (a cache grows from there, a recurrent state stays)."""

    name: str
    capacity_bytes: int
    weights_bytes: int
    state_bytes: int
    activation_bytes: int
    fits: bool
    first_state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ResourceResult:
    name: str
    used: float
    available: float
    unit: str


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """How much of the graph has a cost model: 1.0 unless `--allow-unmodelled`."""

    nodes: int
    nodes_modelled: int
    macs_fraction: float
    bytes_fraction: float
    unmodelled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumericsResult:
    """The lowered arithmetic against a plain reference on the same inputs; `checked` False: why, in `note`.

    The errors are those of the output that is furthest off; None: some of its values are finite on one side
    alone. `top1_agreement` is None where no output ranks entries; `equal_choices` is the share of entries
    that the model's own choices (top-k, arg-max) have in common, None where it makes none."""

    checked: bool
    note: str
    max_abs_error: float | None = 0.0
    mean_abs_error: float | None = 0.0
    output_range: float = 0.0
    top1_agreement: float | None = None
    equal_choices: float | None = None
    output: str = ""
    outputs: int = 0
    against: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Advice with its evidence; `gain` is the fraction of time saved in a replay (no guess)."""

    severity: str  # "info", "warning"
    title: str
    evidence: str
    advice: str
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """Time per token and rates of a generation; None fields do not apply (generate = 1)."""

    first_token: Metric  # ns: the prefill
    mean_token: Metric | None
    last_token: Metric | None
    total: Metric
    tokens_per_s: Metric
    energy_per_token: Metric  # J


@dataclass(frozen=True, slots=True)
class Provenance:
    """What makes the result reproducible."""

    version: str
    code_sha256: str
    model_sha256: str
    config_sha256: str
    command: str
    packages: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """One op of the roofline; ceilings are in `Result.peaks`."""

    phase: str
    node: str
    arithmetic_intensity: float
    ops_per_s: float


@dataclass(frozen=True, slots=True)
class Peak:
    name: str
    amount: float
    unit: str


@dataclass(frozen=True, slots=True)
class Result:
    """One model on one target."""

    schema_version: str
    model: str
    parameters: int
    target: str  # "gpu"
    preset: str  # "gpu/t4"
    title: str
    precision: str
    workload: Workload
    mapping: str  # capacity mode
    mapping_note: str
    latency: Metric  # ns, everything
    energy: Metric  # pJ, everything
    area: Metric | None
    phases: tuple[PhaseResult, ...]
    generation: Generation | None
    ops: tuple[OpResult, ...]
    memory: tuple[MemoryResult, ...]
    resources: tuple[ResourceResult, ...]
    peaks: tuple[Peak, ...]
    roofline: tuple[RooflinePoint, ...]
    coverage: CoverageResult
    numerics: NumericsResult
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    validation: tuple[str, ...]  # which measurements justify the ranges
    provenance: Provenance
