"""HLS projects: emulation equals C simulation bit for bit; refusals are listed; no name is trusted."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from hls_graphs import classifier, cnn, everything, mlp, refused
from small_graphs import encoder

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import compare
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_fixed, run_real
from tetrasim.hw_targets.fpga.hls.names import Namer
from tetrasim.hw_targets.fpga.hls.options import IO, HlsOptions
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Plan
from tetrasim.hw_targets.fpga.hls.project import generate, reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.hls.search import error_of, find_widths
from tetrasim.hw_targets.fpga.hls.vendor import compare_build
from tetrasim.hw_targets.fpga.reuse import nearest_reuse, valid_reuse
from tetrasim.sim.ir.graph import Graph

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def prepared(graph: Graph, samples: int = 200) -> tuple[Plan, dict[str, np.ndarray], np.ndarray]:
    """Plan, samples by layer name, reference outputs."""
    plan, options = convert(graph), HlsOptions(samples=samples, calibration=samples)
    feeds = sample_inputs(graph, plan, options)
    reference, _ = reference_outputs(graph, feeds, None)
    return plan, {x.name: feeds[v.name] for x, v in zip(plan.inputs, graph.inputs, strict=True)}, reference


@needs_compiler
@pytest.mark.parametrize("io", IO)
def test_every_kernel_is_bit_exact_and_hostile_names_do_nothing(tmp_path: Path, io: str) -> None:
    options = HlsOptions(samples=50, calibration=50, timeout_s=300, io=io)
    report = generate(everything(), tmp_path / "build" / "all", options)
    assert report.numerics.bit_exact is True
    assert report.numerics.conversion_error < 1e-5
    assert not list(tmp_path.rglob("pwned"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build"]
    assert [p.name for p in (tmp_path / "build").iterdir()] == ["all"]
    text = (tmp_path / "build/all/firmware/tetrasim_top.cpp").read_text()
    assert "system(" not in text
    assert ".." not in text
    stored = json.loads((tmp_path / "build/all/estimate.json").read_text())
    assert stored["numerics"]["bit_exact"] is True
    with (tmp_path / "build/all/numerics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == report.layers
    with pytest.raises(UserError, match="exists"):
        generate(everything(), tmp_path / "build" / "all", options)


@needs_compiler
def test_resource_strategy_with_reuse_is_bit_exact(tmp_path: Path) -> None:
    options = HlsOptions(samples=50, calibration=50, strategy="resource", reuse=4, backend="Vivado")
    report = generate(mlp(), tmp_path / "mlp", options)
    assert report.numerics.bit_exact is True
    assert report.numerics.relative < 0.02


SHAPES = [
    (tokens, width, heads, head_dim, blocks, norm, activation)
    for tokens, width, heads, head_dim, blocks in (
        (15, 6, 2, 32, 3),
        (64, 16, 4, 4, 1),
        (20, 64, 4, 16, 2),
        (33, 24, 1, 8, 3),
        (16, 8, 3, 5, 2),
    )
    for norm, activation in ((True, "Relu"), (True, "Gelu"), (False, "Relu"), (False, "Gelu"))
]


@pytest.mark.parametrize(("tokens", "width", "heads", "head_dim", "blocks", "norm", "activation"), SHAPES)
def test_encoder_classifiers_stay_within_two_percent_at_16_bits(
    tokens: int, width: int, heads: int, head_dim: int, blocks: int, norm: bool, activation: str
) -> None:
    graph = classifier(tokens, width, heads, head_dim, blocks, norm=norm, activation=activation)
    plan, feeds, reference = prepared(graph, 200)
    numerics = compare(calibrate(plan, feeds, Widths(16)), feeds, reference, "interpreter", None)
    assert numerics.conversion_error < 1e-4 * max(numerics.output_range, 1)
    assert numerics.relative < 0.02
    assert numerics.argmax >= 0.99


@pytest.mark.parametrize("graph", [cnn(), mlp(), encoder()], ids=lambda g: g.name)
def test_other_models_convert_exactly_and_stay_within_two_percent(graph: Graph) -> None:
    plan, feeds, reference = prepared(graph)
    numerics = compare(calibrate(plan, feeds, Widths(16)), feeds, reference, "interpreter", None)
    assert numerics.conversion_error < 1e-4
    assert numerics.relative < 0.02


def test_more_bits_are_more_exact_in_the_end() -> None:
    plan, feeds, reference = prepared(encoder())
    errors = [error_of(calibrate(plan, feeds, Widths(b)), feeds, reference) for b in (8, 12, 18)]
    assert errors[0] > errors[1] > errors[2]


def test_a_width_search_meets_its_budget_and_not_with_a_bit_less() -> None:
    plan, feeds, reference = prepared(mlp())
    widths = find_widths(plan, feeds, reference, 0.02, 1)
    assert error_of(calibrate(plan, feeds, widths), feeds, reference) <= 0.02
    assert error_of(calibrate(plan, feeds, Widths(widths.bits - 1)), feeds, reference) > 0.02
    with pytest.raises(UserError, match="no width up to"):
        find_widths(plan, feeds, reference, 1e-9, 1)


def test_refusals_list_every_node_with_its_reason() -> None:
    with pytest.raises(UserError) as failure:
        convert(refused())
    assert str(failure.value) == (
        "refused: 3 of 5 nodes have no HLS layer:\n"
        "  - running (CumSum): there is no HLS layer for this op\n"
        "  - power (Pow): only whole exponents up to 3 are supported\n"
        "  - ones (Div): division by a run-time value has no HLS layer\n"
        "  hint: nothing was written; `tetrasim run … --on fpga/…` still simulates the model on the overlay"
    )


def test_a_refused_model_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        generate(refused(), tmp_path / "x" / "y", HlsOptions())
    assert not list(tmp_path.iterdir())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=20))
def test_names_are_unique_plain_identifiers(names: list[str]) -> None:
    namer = Namer()
    made = [namer(n) for n in names]
    assert len(set(made)) == len(made)
    for name in made:
        assert name.isascii()
        assert name.isidentifier()
        assert name == name.lower()
        assert len(name) < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (HlsOptions(part="xc; rm -rf /"), "is not a known part"),
        (HlsOptions(strategy="fast"), "unknown --strategy 'fast'"),
        (HlsOptions(reuse=-1), "--reuse -1 is out of range"),
        (HlsOptions(bits=40), "--bits 40 is out of range"),
        (HlsOptions(io="serial"), "unknown --io 'serial'"),
        (HlsOptions(clock_ns=0), "--clock-ns 0 is out of range"),
        (HlsOptions(strategy="distributed_arithmetic", reuse=2), "needs --reuse 1"),
    ],
)
def test_bad_options_are_named(options: HlsOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options.check()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 200))
def test_reuse_factors_are_valid_for_hls4ml(n_in: int, n_out: int, wanted: int) -> None:
    backend = pytest.importorskip("hls4ml.backends").get_backend("Vitis")
    assert valid_reuse(n_in, n_out, wanted) == backend._validate_reuse_factor(n_in, n_out, wanted)
    for below in (False, True):
        made = nearest_reuse(n_in, n_out, wanted, below_inputs=below)
        assert backend._validate_reuse_factor(n_in, n_out, made)
        assert not below or made < max(n_in, 2)
    known = backend.get_valid_reuse_factors(n_in, n_out)
    assert nearest_reuse(n_in, n_out, wanted) == backend.get_closest_reuse_factor(known, wanted)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**40), 2**40), st.integers(2, 20), st.integers(-4, 20), st.integers(0, 30))
def test_rounding_raw_integers_equals_rounding_numbers(
    raw: int, bits: int, integer: int, fraction: int
) -> None:
    kind = Fixed(bits, integer)
    value = np.array([raw])
    exact = kind.raw(value / 2.0**fraction)
    assert kind.from_raw(value, fraction)[0] == exact[0]


def test_fixed_values_are_multiples_of_their_last_place() -> None:
    plan, feeds, _ = prepared(encoder(), 20)
    plan = calibrate(plan, feeds, Widths(14))
    for name, values in run_fixed(plan, feeds).items():
        kind = plan.types[name].result
        raw = values * 2.0**kind.fraction
        assert (raw == np.round(raw)).all()
        assert np.abs(raw).max() < 2**kind.bits
    assert set(run_real(plan, feeds)) == set(plan.types)


def test_vendor_reports_are_read_beside_the_estimate(tmp_path: Path) -> None:
    (tmp_path / "estimate.json").write_text(json.dumps({"estimate": {"latency_cycles": 110, "lut": 900}}))
    with pytest.raises(UserError, match="no synthesis report"):
        compare_build(tmp_path)
    report = tmp_path / "prj" / "solution1" / "syn" / "report"
    report.mkdir(parents=True)
    (report / "tetrasim_top_csynth.xml").write_text(
        "<profile><PerformanceEstimates><SummaryOfOverallLatency><Worst-caseLatency>100</Worst-caseLatency>"
        "<Interval-max>40</Interval-max></SummaryOfOverallLatency></PerformanceEstimates>"
        "<AreaEstimates><Resources><LUT>1000</LUT><FF>5</FF><DSP>3</DSP><BRAM_18K>2</BRAM_18K></Resources>"
        "</AreaEstimates></profile>"
    )
    (tmp_path / "vivado_synth.rpt").write_text("| CLB LUTs*  |  800 |\n| Block RAM Tile | 1.5 |\n")
    rows = {r.quantity: r for r in compare_build(tmp_path).rows}
    assert rows["latency (cycles)"].error == pytest.approx(0.1)
    assert rows["LUT"].synthesised == 800
    assert rows["BRAM18"].synthesised == 3
    assert (tmp_path / "synthesis.json").is_file()
