"""The cpu target prices nodes from their shapes: exact small cases, invariants, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tetrasim.errors import CapacityError, UserError
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of
from tetrasim.hw_targets.cpu.gemm import gemm_cycles
from tetrasim.hw_targets.cpu.machine import DRAM, machine_of
from tetrasim.hw_targets.cpu.parts import PART_NAMES
from tetrasim.hw_targets.cpu.placement import Placement, live_bytes, placed_alone
from tetrasim.hw_targets.cpu.target import TARGET
from tetrasim.hw_targets.registry import find_preset, preset_names
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.ir.graph import Graph, Kind, Node, Role, TensorType, Value
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind

L3 = Placement((2, 2), 2)
CPU_PRESETS = [n for n in preset_names() if n.startswith("cpu/")]


def config_of(name: str = "cpu/xeon-6154", **overrides: str | int | float) -> CpuConfig:
    config = find_preset(name)[1].config
    assert isinstance(config, CpuConfig)
    return with_overrides(config, {k.replace("__", "."): v for k, v in overrides.items()})


def mlp(rows: int = 128, width: int = 768) -> Graph:
    x = Value("x", TensorType((1, rows, width)), Role.INPUT)
    w = Value("w", TensorType((width, 4 * width)), Role.WEIGHT)
    h = Value("h", TensorType((1, rows, 4 * width)))
    y = Value("y", TensorType((1, rows, 4 * width)))
    nodes = (Node("up", "MatMul", (x, w), (h,)), Node("act", "Gelu", (h,), (y,)))
    return Graph("mlp", nodes, (x,), (y,))


def gemm_work(m: int, n: int, k: int, bits: int = 32, kind: Kind = Kind.FLOAT) -> Work:
    weight = Operand(n * k, bits, kind, Role.WEIGHT)
    reads = (Operand(m * k, bits, kind), weight)
    return Work("MatMul", WorkKind.GEMM, reads, (Operand(m * n, bits, kind),), gemm=Gemm(1, m, n, k))


@pytest.mark.parametrize("name", CPU_PRESETS)
def test_every_preset_runs_a_graph_whose_parts_sum_to_its_total(name: str) -> None:
    config, graph = config_of(name), mlp()
    program = TARGET.lower(graph, config)
    program.verify()
    assert program.part_names == PART_NAMES
    assert (program.busy_cycles[1:] > 0).all()
    assert int(program.part_cycles.sum()) == int(program.busy_cycles.sum())
    assert list(program.node) == [-1, 0, 1]
    timeline = run_static(program)
    assert timeline.total_ps == sum((timeline.end_ps - timeline.start_ps).tolist())


def test_gemm_cycles_of_whole_tiles_are_exact() -> None:
    # 24 rows = 2 tiles of 12, 64 columns = 2 tiles of 32: at efficiency 1 and no tile cost the
    # multiply-adds take m n k / rate cycles, and a 25th row costs a third, shorter tile.
    config = config_of(
        gemm__efficiency=1.0,
        gemm__tile_overhead_cycles=0.0,
        gemm__call_overhead_cycles=0.0,
    ).gemm
    assert gemm_cycles(Gemm(1, 24, 64, 100), config, 32.0, 32, 1).total == 24 * 64 * 100 / 32
    one_more = gemm_cycles(Gemm(1, 25, 64, 100), config, 32.0, 32, 1).total
    # the short tile is bound by the latency of a chain: 4 cycles per depth step and tile, not 1 x 32 / 32
    assert one_more == 24 * 64 * 100 / 32 + 2 * 4.0 * 100


def test_gemm_is_divided_among_threads_as_the_library_does() -> None:
    config = config_of().gemm

    def total(gemm: Gemm, threads: int) -> float:
        return gemm_cycles(gemm, config, 32.0, 32, threads).total

    # more rows than columns: rows, so that the busier of two threads has 18 of 36
    assert total(Gemm(1, 36, 32, 4096), 2) == total(Gemm(1, 18, 32, 4096), 1)
    # more columns than rows: strips of 16 columns, so that 7 of them are 4 and 3
    assert total(Gemm(1, 24, 112, 4096), 2) == total(Gemm(1, 24, 64, 4096), 1)
    # a batch of three on two threads: one of them computes two products
    assert total(Gemm(3, 64, 64, 4096), 2) == pytest.approx(2 * total(Gemm(1, 64, 64, 4096), 1))


def test_a_view_costs_a_node_of_the_runtime_and_an_unknown_op_nothing() -> None:
    x, y = Value("x", TensorType((4, 8)), Role.INPUT), Value("y", TensorType((8, 4)))
    config = config_of()

    def tasks(op: str, **overrides: str) -> list[int]:
        graph = Graph("g", (Node("n", op, (x,), (y,)),), (x,), (y,))
        program = TARGET.lower(graph, config_of(**overrides))
        return [int(c) for c in program.busy_cycles[program.node == 0]]

    node_cycles = round(config.overhead.node_ns * 1e-9 * machine_of(config).clock_hz)
    assert tasks("Reshape") == [node_cycles]
    assert tasks("Unmodelled") == []
    assert tasks("Reshape", runtime="eager") == []


def test_rows_slow_a_core_that_streams_weights_and_all_cores_together_by_themselves() -> None:
    def dram_s(rows: int, threads: int, shared: float = 0.0) -> float:
        config = config_of(threads=threads, gemm__dram_overlap=0, gemm__shared_stream_slowdown=shared)
        machine = machine_of(config)
        cost = cost_of(gemm_work(rows, 4096, 4096), machine, Placement((1, DRAM), 1))
        return dict(cost.seconds)["DRAM weights"]

    g, dram = config_of().gemm, config_of().dram
    assert dram_s(12, 1) == pytest.approx(dram_s(1, 1) * (1 + g.stream_slowdown))
    assert 18 * dram.core_bandwidth_bytes_per_s > (1 + g.stream_slowdown) * dram.bandwidth_bytes_per_s
    assert dram_s(12, 18) == pytest.approx(dram_s(1, 18))
    assert dram_s(12, 18, shared=0.5) == pytest.approx(dram_s(1, 18) * 1.5)


def test_activations_are_packed_and_constants_are_not() -> None:
    config = config_of().gemm
    constant = gemm_cycles(Gemm(1, 64, 64, 64, True), config, 32.0, 32, 1)
    dynamic = gemm_cycles(Gemm(1, 64, 64, 64, False), config, 32.0, 32, 1)
    assert constant.packing == 0
    assert dynamic.packing == 64 * 64 * 4 / config.pack_bytes_per_cycle


def test_matrix_vector_product_runs_at_the_bandwidth_of_the_level_that_holds_the_model() -> None:
    machine = machine_of(config_of())
    work = gemm_work(1, 4096, 4096)
    near = cost_of(work, machine, Placement((1, 2), 1))
    far = cost_of(work, machine, Placement((1, DRAM), 1))
    expected = 4 * 4096 * 4096 / 100e9
    assert dict(far.seconds)["DRAM weights"] == pytest.approx(expected)
    assert near.total_s < far.total_s
    assert dict(far.level_bytes)["DRAM"] == 4 * 4096 * 4096


def test_one_numa_node_halves_the_bandwidth_of_a_two_node_machine() -> None:
    spread = machine_of(config_of(dram__numa_nodes=2))
    near = machine_of(config_of(dram__numa_nodes=2, dram__placement="one-node"))
    assert near.bandwidth(DRAM, 18) == spread.bandwidth(DRAM, 18) / 2


def test_narrow_formats_are_faster_where_the_processor_has_them() -> None:
    zen = machine_of(config_of("cpu/epyc-9654"))
    wide = cost_of(gemm_work(1024, 1024, 1024), zen, L3).total_s
    bfloat = cost_of(gemm_work(1024, 1024, 1024, 16, Kind.BFLOAT), zen, L3).total_s
    integer = cost_of(gemm_work(1024, 1024, 1024, 8, Kind.INT), zen, L3).total_s
    assert integer < bfloat < wide


def test_eager_mode_pays_per_operation() -> None:
    graph = mlp(1)
    fast = run_static(TARGET.lower(graph, config_of())).total_ps
    eager = run_static(TARGET.lower(graph, config_of(runtime="eager"))).total_ps
    o = config_of().overhead
    assert eager - fast == pytest.approx(2 * (o.eager_op_ns - o.node_ns) * 1e3, rel=1e-3)


def test_a_view_costs_nothing_and_a_copying_append_moves_the_whole_cache() -> None:
    machine = machine_of(config_of())
    view = Work("Reshape", WorkKind.VIEW, (Operand(64, 32),), (Operand(64, 32),))
    assert cost_of(view, machine, Placement((), DRAM)).total_s == 0
    old = Operand(768 * 1000, 32, role=Role.STATE, touched_elements=0)
    new = Operand(768, 32)
    out = Operand(768 * 1001, 32, role=Role.STATE, touched_elements=768)
    append = Work("KVAppend", WorkKind.MOVE, (old, new), (out,))
    at = Placement((DRAM, 1), DRAM)
    copied = cost_of(append, machine, at)
    in_place = cost_of(append, machine_of(config_of(kv_append="in-place")), at)
    assert sum(b for _, b in copied.level_bytes) > 1000 * sum(b for _, b in in_place.level_bytes) / 2


def test_power_never_exceeds_the_limit() -> None:
    config = config_of(power__fp32_mac_pj=500.0)
    machine = machine_of(config)
    cost = cost_of(gemm_work(4096, 4096, 4096), machine, L3)
    assert "power limit" in dict(cost.seconds)
    arithmetic_w = dict(cost.energy_pj)["multiply-add"] * 1e-12 / cost.total_s
    assert arithmetic_w + config.power.idle_w <= config.power.limit_w * 1.001


def test_live_bytes_counts_what_is_alive_together() -> None:
    graph = mlp(2, 8)
    x, h = 2 * 8 * 4, 2 * 32 * 4
    # at the activation, h and y are alive; at the product, x and h
    assert live_bytes(graph) == max(x + h, 2 * h)


def test_a_model_that_does_not_fit_is_refused_with_both_byte_counts() -> None:
    config = config_of(dram__capacity_bytes=1_000_000)
    with pytest.raises(CapacityError, match=r"needs .* MB .*main memory holds 1.00 MB"):
        TARGET.capacity(mlp(), config)


def test_more_threads_than_cores_is_refused() -> None:
    with pytest.raises(UserError, match="above cores"):
        config_of(threads=99)


def test_prices_equal_costs() -> None:
    config = config_of("cpu/host")
    works = [work_of(n) for n in mlp().nodes]
    prices = TARGET.price(works, config)
    machine = machine_of(config)
    for i, work in enumerate(works):
        cost = cost_of(work, machine, placed_alone(work, machine))
        assert prices.latency_us[i] == pytest.approx(cost.total_s * 1e6)
        assert prices.energy_uj[i] > 0
        assert prices.bound_by[i] == cost.bound_by


def test_the_level_moves_with_the_graph_size() -> None:
    config = config_of()
    small, large = TARGET.capacity(mlp(1, 64), config), TARGET.capacity(mlp(1, 4096), config)
    assert (small.mode, large.mode) == ("weights in L1", "weights in DRAM")
    assert replace(small, mode="").memories[0].fits
