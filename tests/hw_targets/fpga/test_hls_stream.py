"""Streaming projects: rows through FIFOs, bit-exact, with the depths and cycles of the simulated pipeline."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from hls_graphs import cnn, heads_first, many_readers, mlp, shared_outputs
from small_graphs import encoder

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_real
from tetrasim.hw_targets.fpga.hls.estimate import estimate, with_fitting_reuse
from tetrasim.hw_targets.fpga.hls.options import IO, HlsOptions
from tetrasim.hw_targets.fpga.hls.pipeline import simulate_pipeline
from tetrasim.hw_targets.fpga.hls.project import generate, sample_inputs
from tetrasim.hw_targets.fpga.hls.relu import clip_relus
from tetrasim.hw_targets.fpga.hls.schedule import Move, join_schedule, move_schedule
from tetrasim.hw_targets.fpga.hls.stream import streamed
from tetrasim.sim.ir.graph import Graph

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def rows_of(graph: Graph) -> p.Plan:
    """The streamed plan with types."""
    plan = streamed(clip_relus(convert(graph)))
    feeds = sample_inputs(graph, plan, HlsOptions(samples=20, calibration=20))
    by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
    return calibrate(plan, by_layer, Widths(16))


@needs_compiler
@pytest.mark.parametrize(
    ("graph", "strategy", "reuse", "backend"),
    [
        (encoder(blocks=1), "latency", 4, "Vitis"),
        (encoder(blocks=1), "resource", 2, "Vivado"),
        (heads_first(), "latency", 1, "Vitis"),
        (cnn(), "resource", 4, "Vitis"),
    ],
    ids=["encoder", "encoder-vivado", "heads-first", "cnn"],
)
def test_a_streaming_project_is_bit_exact_and_has_the_simulated_depths(
    tmp_path: Path, graph: Graph, strategy: str, reuse: int, backend: str
) -> None:
    options = HlsOptions(samples=40, calibration=40, strategy=strategy, reuse=reuse, backend=backend)
    report = generate(graph, tmp_path / "p", options)
    assert report.numerics.bit_exact is True
    assert report.numerics.relative < 0.02
    top = (tmp_path / "p/firmware/tetrasim_top.cpp").read_text()
    assert "#pragma HLS DATAFLOW" in top
    assert report.pipeline is not None
    inner = sorted(int(d) for d in re.findall(r"#pragma HLS STREAM variable=\w+ depth=(\d+)", top))
    simulated = sorted(f.depth for f in report.pipeline.fifos)
    assert len(inner) >= len(simulated) - len(graph.inputs) - len(graph.outputs)
    for depth in inner:
        simulated.remove(depth)
    stored = json.loads((tmp_path / "p/estimate.json").read_text())
    assert stored["estimate"]["latency_cycles"] == report.pipeline.latency_cycles
    assert stored["estimate"]["form"] == "streamed"


@needs_compiler
@pytest.mark.parametrize("io", IO)
def test_outputs_may_be_read_repeated_or_inputs(tmp_path: Path, io: str) -> None:
    options = HlsOptions(samples=20, calibration=20, io=io)
    numerics = generate(shared_outputs(), tmp_path / "p", options).numerics
    assert numerics.bit_exact is True
    assert numerics.conversion_error < 1e-5


@pytest.mark.parametrize("reuse", [1, 2, 4])
def test_the_emitted_pipeline_takes_the_cycles_that_the_graph_model_says(reuse: int) -> None:
    graph, options = encoder(), HlsOptions(reuse=reuse)
    made, said = simulate_pipeline(rows_of(graph), options), estimate(graph, options, 16)
    assert said is not None
    assert made.interval_cycles == said.interval_cycles
    assert made.latency_cycles == pytest.approx(said.latency_cycles, rel=0.03)


def test_without_a_reuse_factor_the_smallest_that_fits_is_taken() -> None:
    graph, small = encoder(), "xczu7ev-ffvc1156-2-e"
    chosen = with_fitting_reuse(graph, HlsOptions(part=small), 16).reuse
    tried = {r: estimate(graph, HlsOptions(part=small, reuse=r), 16) for r in (1, chosen // 2, chosen)}
    assert chosen > 1
    assert [e is not None and e.fits for e in tried.values()] == [False] * (len(tried) - 1) + [True]
    assert with_fitting_reuse(graph, HlsOptions(part=small, reuse=3), 16).reuse == 3
    assert with_fitting_reuse(graph, HlsOptions(part="xc1nobody"), 16).reuse == 1
    assert with_fitting_reuse(graph, HlsOptions(strategy="distributed_arithmetic"), 16).reuse == 1


def test_a_row_based_plan_computes_the_same_numbers() -> None:
    for graph in (encoder(), cnn(), heads_first()):
        plan = convert(graph)
        feeds = sample_inputs(graph, plan, HlsOptions(samples=5, calibration=5))
        by_layer = {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}
        rows = streamed(clip_relus(plan))
        flat, other = run_real(plan, by_layer), run_real(rows, by_layer)
        for a, b in zip(plan.outputs, rows.outputs, strict=True):
            assert np.allclose(flat[a], other[b], atol=1e-12)


def test_an_mlp_streams_one_row_and_relus_are_types() -> None:
    plan = rows_of(mlp())
    assert [x.shape[0] for x in plan.layers] == [1, 1, 1, 1]
    assert [plan.types[x.name].result.signed for x in plan.layers] == [True, False, False, True]


def test_a_stream_with_too_many_readers_is_refused_by_name() -> None:
    plan = clip_relus(convert(many_readers()))
    with pytest.raises(UserError, match=r"shared \(MatMul\): its result has 8 readers"):
        streamed(plan)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_element_has_arrived_when_its_row_leaves(data: st.DataObject) -> None:
    rows_in, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    rows_out, made = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    numbers = st.integers(-1, rows_in * width - 1)
    index = np.array(data.draw(st.lists(numbers, min_size=rows_out * made, max_size=rows_out * made)))
    _check(move_schedule(index, rows_in, width, rows_out), index, rows_in, width, rows_out)
    size = rows_in * width
    two = np.where(index < 0, 0, index) + size * (np.arange(index.size) % 2)
    both = join_schedule(two, ((rows_in, width), (rows_in, width)), rows_out)
    _check(both[0], np.where(two < size, two, -1), rows_in, width, rows_out)
    _check(both[1], np.where(two < size, -1, two - size), rows_in, width, rows_out)
    assert both[0].firings == both[1].firings


def _check(schedule: Move, index: np.ndarray, rows_in: int, width: int, rows_out: int) -> None:
    arrives = np.arange(rows_in) * schedule.read_every
    leaves = schedule.lag + np.arange(rows_out) * schedule.write_every
    assert max(arrives[-1], leaves[-1]) < schedule.firings
    needed = np.where(index < 0, 0, arrives[np.maximum(index, 0) // width]).reshape(rows_out, -1).max(1)
    assert (needed <= leaves).all()


def test_moves_wait_no_longer_than_they_must() -> None:
    slices = move_schedule(np.array([0, 1, 4, 5, 8, 9]), 3, 4, 3)
    assert (slices.lag, slices.firings) == (0, 3)
    turned = move_schedule(np.arange(12).reshape(3, 4).T.reshape(-1), 3, 4, 4)
    assert (turned.lag, turned.firings) == (2, 6)
    joined = move_schedule(np.arange(12), 3, 4, 1)
    assert (joined.write_every, joined.lag, joined.firings) == (3, 2, 3)
