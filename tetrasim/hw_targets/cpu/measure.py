"""Predicted against measured: the same ONNX file in onnxruntime on this machine, in total and per op.

The total is the best of several plain runs; the kernels' times come from a second session with profiling on,
the best of each kernel over its runs, less what profiling adds to each (found on a chain of nodes that do
next to nothing). onnxruntime fuses and renames nodes, so a kernel is traced back through the tensor it
writes: optimised node -> output tensor -> original ONNX node -> our node (`Source.onnx`). Between the runs
two kernels that the calibration knows are timed, a product and streamed weights: when they are slower than
calibrated, the machine has changed since, and the error is not the model's alone.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.cpu.calibration.hostinfo import available_cores, load_average
from tetrasim.hw_targets.cpu.calibration.onnx_bench import chain_model
from tetrasim.hw_targets.cpu.calibration.rounds import OtherLoad
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.known_kernels import KnownKernels
from tetrasim.hw_targets.cpu.lower import lower
from tetrasim.onnx_runtime import open_session, session_options
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.ir.graph import Graph, Kind, TensorType

if TYPE_CHECKING:
    import onnxruntime as ort
    from numpy.typing import NDArray

SPELL_S = 0.3
_NUMPY = {
    (Kind.FLOAT, 64): np.float64, (Kind.FLOAT, 32): np.float32, (Kind.FLOAT, 16): np.float16,
    (Kind.INT, 64): np.int64, (Kind.INT, 32): np.int32, (Kind.INT, 16): np.int16, (Kind.INT, 8): np.int8,
    (Kind.UINT, 8): np.uint8, (Kind.BOOL, 8): np.bool_, (Kind.BOOL, 1): np.bool_,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpComparison:
    """One node of our graph: predicted, and the sum of its kernels (None: fused into another node)."""

    node: str
    op: str
    module: str
    predicted_us: float
    measured_us: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One graph on this machine; `unmatched` lists kernels that belong to no node, with their time.

    `profiler_us` was taken off each kernel's time; `drift` says how many times its calibrated time a kernel
    takes now; `other_cores` is what other programs used meanwhile."""

    predicted_ms: float
    measured_ms: float
    runs: int
    threads: int
    load_before: float
    other_cores: float
    drift: tuple[tuple[str, float], ...]
    profiler_us: float
    ops: tuple[OpComparison, ...]
    unmatched: tuple[tuple[str, float], ...]

    @property
    def error(self) -> float:
        """Relative error of the total: 0.05 is 5 % too slow."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def kernels_ms(self) -> float:
        """Sum of every kernel's best time, 0 when they were not timed: other load rarely hits one kernel in
        all runs, but often every whole run."""
        return (sum(row.measured_us or 0.0 for row in self.ops) + sum(us for _, us in self.unmatched)) * 1e-3

    def by_op(self) -> tuple[tuple[str, int, float, float], ...]:
        """(op, nodes, predicted, measured) in microseconds, over the nodes that were matched."""
        found: dict[str, tuple[int, float, float]] = {}
        for row in self.ops:
            if row.measured_us is not None:
                n, p, m = found.get(row.op, (0, 0.0, 0.0))
                found[row.op] = (n + 1, p + row.predicted_us, m + row.measured_us)
        return tuple((op, *v) for op, v in sorted(found.items(), key=lambda item: -item[1][2]))


def measure(
    onnx_path: Path,
    graph: Graph,
    config: CpuConfig,
    *,
    runs: int = 7,
    at_least_s: float = 2.0,
    profile: bool = True,
    check_drift: bool = True,
) -> Comparison:
    """Run `onnx_path` with the shapes of `graph` (its import) and compare with the simulation of `graph`.

    Args:
        runs: at least so many plain runs, and for at least `at_least_s` seconds.
        profile: also time every kernel.
        check_drift: also time the kernels that the calibration knows.

    Raises:
        UserError: a format this machine is not measured in, weights without numbers, more threads than cores.
    """
    threads = config.active_threads
    if config.precision != "float32":
        raise UserError(
            f"only float32 graphs can be measured, not {config.precision}",
            hint="drop the precision or --measure",
        )
    if threads > available_cores():
        raise UserError(
            f"{threads} threads cannot be measured: this process may use {available_cores()} cores",
            hint="measure with --on cpu/host, or set threads",
        )
    feeds = make_feeds(graph)
    before, others = load_average(), OtherLoad()
    made = _session(onnx_path, graph, threads)
    known = KnownKernels(config) if check_drift and config.measured_as else None
    best, done = _best_run(made, feeds, runs, at_least_s, known)
    kernels = _profiled(onnx_path, graph, threads, feeds, runs) if profile else _Kernels({}, {}, 0.0)
    rows, unmatched = _join(onnx_path, graph, config, kernels)
    program = lower(graph, config)
    predicted_ms = run_static(program).total_ps * 1e-9
    drift = known.drift() if known is not None else ()
    return Comparison(
        predicted_ms, best * 1e3, done, threads, before, others.cores(), drift, kernels.profiler_us, rows,
        unmatched,
    )  # fmt: skip


def make_feeds(graph: Graph, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Inputs by name: seeded normal floats, zeros for integers (any index is valid), true booleans."""
    rng = np.random.default_rng(seed)
    return {v.name: _feed(v.type, rng) for v in graph.inputs}


def _feed(type: TensorType, rng: np.random.Generator) -> NDArray[np.generic]:
    dtype = _NUMPY.get((type.kind, type.bits), np.float32)
    if type.kind is Kind.FLOAT:
        return rng.standard_normal(type.shape, np.float32).astype(dtype)
    return np.ones(type.shape, dtype) if type.kind is Kind.BOOL else np.zeros(type.shape, dtype)


def _options(graph: Graph, threads: int) -> ort.SessionOptions:
    options = session_options(threads, as_written=False)
    for name, size in graph.dims:
        options.add_free_dimension_override_by_name(name, size)
    return options


def _session(
    path: Path, graph: Graph, threads: int, options: ort.SessionOptions | None = None
) -> ort.InferenceSession:
    try:
        return open_session(path, options or _options(graph, threads))
    except Exception as failure:  # onnxruntime raises its own types, all meaning: not runnable
        raise UserError(
            f"onnxruntime cannot load the file: {str(failure).splitlines()[0]}",
            where=str(path),
            hint="a model exported without weights cannot be measured; export it with weights",
        ) from None


def _best_run(
    made: ort.InferenceSession,
    feeds: Mapping[str, NDArray[np.generic]],
    runs: int,
    at_least_s: float,
    known: KnownKernels | None = None,
) -> tuple[float, int]:
    """(best seconds, runs done): spells of a few runs after a warm-up, the known kernels in between."""
    names = {i.name for i in made.get_inputs()}
    fed = {name: array for name, array in feeds.items() if name in names}
    best, done, began = float("inf"), 0, time.perf_counter()
    while done < runs or time.perf_counter() - began < at_least_s:
        made.run(None, fed)
        spell = time.perf_counter()
        while done < runs or time.perf_counter() - spell < SPELL_S:
            start = time.perf_counter_ns()
            made.run(None, fed)
            best = min(best, (time.perf_counter_ns() - start) * 1e-9)
            done += 1
        if known is not None:
            known.visit()
    return best, done


@dataclass(frozen=True)
class _Kernels:
    """What onnxruntime ran: microseconds by the first output tensor of each optimised node, and for every
    tensor the first output of the node that reads it first (to trace tensors that only exist there)."""

    us: Mapping[str, float]
    leads_to: Mapping[str, str]
    profiler_us: float  # already taken off


def _profiled(
    path: Path, graph: Graph, threads: int, feeds: Mapping[str, NDArray[np.generic]], runs: int
) -> _Kernels:
    """Run with profiling on, in a temporary folder."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="tetrasim-measure-") as folder:
        options = _options(graph, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        entry = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{entry}_file_name", "weights.bin")
        options.add_session_config_entry(f"{entry}_min_size_in_bytes", "1024")
        made = _session(path, graph, threads, options)
        _best_run(made, feeds, runs, 0.5)
        durations = _kernel_us(made)
        nodes = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
    outputs = {n.name: next((o for o in n.output if o), "") for n in nodes}
    leads_to: dict[str, str] = {}
    for n in nodes:
        for tensor in n.input:
            leads_to.setdefault(tensor, outputs[n.name])
    added = _profiler_us(threads)
    best = {outputs.get(name, name): max(us - added, 0.0) for name, us in durations.items()}
    return _Kernels(best, leads_to, added)


def _kernel_us(made: ort.InferenceSession) -> dict[str, float]:
    """End profiling: the best microseconds of each kernel, by its node's name."""
    events = json.loads(Path(made.end_profiling()).read_text(encoding="utf-8"))
    best: dict[str, float] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            name = name.removesuffix("_kernel_time")
            best[name] = min(best.get(name, float("inf")), float(event["dur"]))
    return best


def _profiler_us(threads: int, nodes: int = 60) -> float:
    """What profiling adds to a kernel: the profiled time of nodes that do next to nothing, less their share
    of a run without profiling."""
    with tempfile.TemporaryDirectory(prefix="tetrasim-measure-") as folder:
        model = chain_model(nodes, 16).SerializeToString()
        feeds = {"x0": np.ones(16, np.float32)}
        means = []
        for profiled in (True, False):
            options = session_options(threads, as_written=False)
            options.enable_profiling = profiled
            options.profile_file_prefix = str(Path(folder) / "profile")
            made = open_session(model, options)
            best, _ = _best_run(made, feeds, 30, 0.0)
            means.append(float(np.mean(list(_kernel_us(made).values()))) if profiled else best * 1e6 / nodes)
    return max(means[0] - means[1], 0.0)


def _join(
    path: Path, graph: Graph, config: CpuConfig, kernels: _Kernels
) -> tuple[tuple[OpComparison, ...], tuple[tuple[str, float], ...]]:
    """Our nodes with both times, and what could not be traced back."""
    import onnx

    original = onnx.load(str(path), load_external_data=False)
    writer = {o: n.name for n in original.graph.node for o in n.output if o}
    ours = {name: i for i, node in enumerate(graph.nodes) for name in node.source.onnx}
    known = {v.name: i for v, i in graph.producer.items()}
    known.update({tensor: ours[name] for tensor, name in writer.items() if name in ours})
    measured: dict[int, float] = {}
    unmatched: list[tuple[str, float]] = []
    for tensor, us in kernels.us.items():
        at, steps = tensor, 0
        while at not in known and at in kernels.leads_to and steps < 4:
            at, steps = kernels.leads_to[at], steps + 1
        if at in known:
            measured[known[at]] = measured.get(known[at], 0.0) + us
        else:
            unmatched.append((tensor, us))
    program = lower(graph, config)
    clock = program.resources[0].clock_hz
    predicted = np.zeros(len(graph.nodes))
    inside = program.node >= 0
    np.add.at(predicted, program.node[inside], program.busy_cycles[inside] * 1e6 / clock)
    rows = tuple(
        OpComparison(n.name, n.op, n.source.module, float(predicted[i]), measured.get(i))
        for i, n in enumerate(graph.nodes)
        if predicted[i] > 0 or i in measured
    )
    return rows, tuple(unmatched)
