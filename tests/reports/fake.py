"""Hand-built results and a traced run: what the report tests read, with numbers that add up."""

from __future__ import annotations

import numpy as np

from tetrasim.reports.perfetto import TracedRun
from tetrasim.sim.engine.program import Block, Machine, Resource, Task, assemble
from tetrasim.sim.engine.timeline import Timeline
from tetrasim.sim.ir.graph import Graph, Node, Role, Source, TensorType, Value
from tetrasim.sim.metric import Basis, ErrorRange, Metric
from tetrasim.sim.result import (
    SCHEMA_VERSION,
    CoverageResult,
    Finding,
    Generation,
    MemoryResult,
    NumericsResult,
    OpResult,
    Peak,
    PhaseResult,
    Provenance,
    ResourceResult,
    Result,
    RooflinePoint,
    Share,
)
from tetrasim.sim.workload import Workload

_RANGE = ErrorRange(0.9, 1.15, Basis.CALIBRATED, "120 kernels measured by the fake vendor")


def shares(**amounts: float) -> tuple[Share, ...]:
    total = sum(amounts.values())
    return tuple(Share(name.replace("_", " "), a, a / total) for name, a in amounts.items())


def phase(name: str, runs: int, scale: float) -> PhaseResult:
    parts = shares(
        DRAM_weights=5e9 * scale, kernel_launch=2e9 * scale, compute=1.5e9 * scale, wait=1e7 * scale
    )
    latency_ns = sum(s.amount for s in parts) / 1000
    energy = shares(DRAM=3e9 * scale, static=2e9 * scale, MACs=1e9 * scale)
    return PhaseResult(
        name=name,
        runs=runs,
        latency=_RANGE.metric(latency_ns, "ns"),
        energy=Metric(sum(s.amount for s in energy), "pJ"),
        time_shares=parts,
        energy_shares=energy,
        bytes_moved=shares(L2=2e6 * scale, DRAM=1e6 * scale),
        utilisation=(Share("SMs", 4e9 * scale, 0.47), Share("host", 2e9 * scale, 0.235)),
        macs=int(1e6 * scale),
        tasks=40,
        run_ns=tuple(latency_ns / runs * (1 + 0.001 * i) for i in range(runs)),
        bound_by="DRAM weights",
        peak_fraction=0.61,
        peak_name="DRAM",
    )


def ops(count: int) -> tuple[OpResult, ...]:
    names = ("MatMul", "Softmax", "LayerNormalization", "Gelu")
    return tuple(
        OpResult(
            phase="decode" if i % 2 else "prefill",
            node=f"block_{i}",
            op=names[i % 4],
            module=f"transformer.h.{i // 4}.{'<script>alert(1)</script>' if i == 3 else 'mlp'}",
            onnx=(f"node_{i}", "fused"),
            shape="1x32x768 @ 768x3072",
            macs=1000 * (i + 1),
            bytes=500 * (i + 1),
            time_ns=10.0 * (i + 1),
            busy_ns=11.0 * (i + 1),
            time_fraction=2 * (i + 1) / (count * (count + 1)),
            energy_pj=7.0 * (i + 1),
            bound_by="DRAM weights",
            arithmetic_intensity=0.5 * (i % 4 + 1),
        )
        for i in range(count)
    )


def result(preset: str = "gpu/t4", scale: float = 1.0, validated: bool = True, op_count: int = 24) -> Result:
    phases = (phase("prefill", 1, scale), phase("decode", 31, 20 * scale))
    total_ns = sum(p.latency.value for p in phases)
    total = _RANGE.metric(total_ns, "ns") if validated else Metric(total_ns, "ns")
    found = ops(op_count)
    return Result(
        schema_version=SCHEMA_VERSION,
        model="gpt2-small",
        parameters=124_439_808,
        target=preset.partition("/")[0],
        preset=preset,
        title=f"A fake {preset}",
        precision="float16",
        workload=Workload(1, 32, 32),
        mapping="resident",
        mapping_note="" if validated else "weights 249 MB do not fit 100 MB: streamed",
        latency=total,
        energy=Metric(sum(p.energy.value for p in phases), "pJ"),
        area=None,
        phases=phases,
        generation=Generation(
            first_token=phases[0].latency,
            mean_token=phases[1].latency.scaled(1 / 31),
            last_token=phases[1].latency.scaled(1.01 / 31),
            total=total,
            tokens_per_s=Metric(32 / (total_ns * 1e-9), "1/s"),
            energy_per_token=Metric(1e-3, "J"),
        ),
        ops=found,
        memory=(MemoryResult("DRAM", 16 * 10**9, 249 * 10**6, 4 * 10**6, 10**6, True),),
        resources=(ResourceResult("DSP", 120, 9024, ""),),
        peaks=(Peak("compute", 6.5e13, "op/s"), Peak("DRAM", 3.2e11, "B/s")),
        roofline=tuple(
            RooflinePoint(o.phase, o.node, o.arithmetic_intensity, 2 * o.macs / (o.time_ns * 1e-9))
            for o in found
        ),
        coverage=CoverageResult(148, 148, 1.0, 1.0, ()),
        numerics=NumericsResult(True, "float16 against onnxruntime", 1e-3, 1e-4, 12.0, 0.99),
        findings=(
            Finding(
                "info", "Weights bound decoding", "71 % of the time", "quantise the weights to int8", 0.35
            ),
            Finding("warning", "Launches", "20 % of the time", "replay a CUDA graph", 0.12),
        ),
        warnings=() if validated else ("not validated",),
        validation=("120 kernels measured by the fake vendor: error 8 %",) if validated else (),
        provenance=Provenance(
            "0.1.0", "a" * 64, "b" * 64, "c" * 64, "tetrasim run gpt2-small", (("numpy", "2.0"),)
        ),
    )


def traced(label: str = "gpu/t4 prefill", tasks: int = 5) -> TracedRun:
    """A chain of `tasks` tasks that alternate between two resources at 1 GHz."""
    value = Value("x", TensorType((1,)), Role.INPUT)
    nodes = []
    for i in range(tasks):
        out = Value(f"y{i}", TensorType((1,)))
        nodes.append(Node(f"n{i}", "Add", (value,), (out,), source=Source((f"onnx{i}",), "m.h")))
        value = out
    graph = Graph("g", tuple(nodes), (), (value,))
    machine = Machine(
        "gpu", (Resource("a", 10**9, "chip"), Resource("b", 10**9)), ("work",), ("DRAM",), ("MACs",)
    )
    blocks = [
        Block((Task("kernel", "ab"[i % 2], i + 1, (("work", i + 1),), level_bytes=(("DRAM", 8),)),))
        for i in range(tasks)
    ]
    program = assemble(machine, blocks, graph.predecessors)
    ends = np.cumsum(program.busy_cycles * 1000)
    starts = ends - program.busy_cycles * 1000
    cause = np.array([0] + [1] * (tasks - 1), dtype=np.int8)
    return TracedRun(
        label, program, Timeline(starts, ends, ends, cause, np.arange(-1, tasks - 1, dtype=np.int32)), graph
    )
