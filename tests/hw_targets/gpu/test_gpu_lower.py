"""Graphs become launches and kernels: modes, fusion, views, capacity, parts and energy."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tetrasim.errors import CapacityError, UserError
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.gpu.capacity import activation_bytes, capacity
from tetrasim.hw_targets.gpu.config import Fusion, GpuConfig, precision_of
from tetrasim.hw_targets.gpu.fuse import kernels_of
from tetrasim.hw_targets.gpu.lower import lower
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.sim.engine.runs import total_runs
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.engine.timeline import Cause
from tetrasim.sim.ir.graph import Graph, Kind, Node, Role, TensorType, Value
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.precision import with_precision

T4 = preset_config("t4")


def value(name: str, *shape: int, role: Role = Role.ACTIVATION) -> Value:
    return Value(name, TensorType(shape, Kind.FLOAT, 16), role)


def mlp(width: int = 256, rows: int = 8, layers: int = 1) -> Graph:
    """Norm, product, bias, GELU, product, residual: four kernels a layer when fused into two and a norm."""
    x = first = value("x", rows, width, role=Role.INPUT)
    nodes: list[Node] = []

    def add(op: str, inputs: tuple[Value, ...], *shape: int, **attrs: int) -> Value:
        out = value(f"{op}{len(nodes)}", *shape)
        nodes.append(Node(f"n{len(nodes)}", op, inputs, (out,), attrs))
        return out

    for i in range(layers):
        scale, shift = (value(f"{n}{i}", width, role=Role.WEIGHT) for n in ("scale", "shift"))
        up, down = (
            value(f"{n}{i}", *s, role=Role.WEIGHT)
            for n, s in (("up", (width, 4 * width)), ("down", (4 * width, width)))
        )
        bias = value(f"bias{i}", 4 * width, role=Role.WEIGHT)
        h = add("LayerNormalization", (x, scale, shift), rows, width, axis=-1)
        h = add("MatMul", (h, up), rows, 4 * width)
        h = add("Add", (h, bias), rows, 4 * width)
        h = add("Gelu", (h,), rows, 4 * width)
        h = add("MatMul", (h, down), rows, width)
        x = add("Add", (h, x), rows, width)
    return Graph("mlp", tuple(nodes), (first,), (x,))


def kinds(graph: Graph, config: GpuConfig) -> list[str]:
    program = lower(graph, config)
    return [program.kind_names[k] for k in program.kind]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("fusion", list(Fusion))
def test_the_pieces_of_a_kernel_are_its_work(fusion: Fusion, joint: bool) -> None:
    """Operands, MACs and operations of the nodes that share a kernel are those of the kernel."""
    graph = mlp(layers=2)
    works = [work_of(node) for node in graph.nodes]
    found = kernels_of(graph, works, fusion, joint)
    seen = []
    for work, pieces in zip(found.work, found.pieces, strict=True):
        if work is None:
            continue
        seen += [node for node, _ in pieces]
        for side in ("reads", "writes"):
            of_pieces = Counter(o for _, piece in pieces for o in getattr(piece, side))
            assert of_pieces == Counter(getattr(work, side))
        assert sum(piece.macs for _, piece in pieces) == work.macs
        assert sum(piece.vector_ops for _, piece in pieces) == work.vector_ops
    assert sorted(seen) == list(range(len(graph.nodes)))


def test_graph_mode_launches_once_and_fuses_epilogues() -> None:
    assert kinds(mlp(), T4) == ["graph launch", "vector", "gemm", "gemm"]


def test_eager_mode_launches_every_op() -> None:
    eager = with_overrides(T4, {"launch": "eager"})
    found = kinds(mlp(), eager)
    assert found.count("launch") == 6
    assert [k for k in found if k != "launch"] == ["vector", "gemm", "vector", "vector", "gemm", "vector"]


def test_fusion_can_be_switched_off() -> None:
    assert len(kinds(mlp(), with_overrides(T4, {"fusion": False}))) == 7


def test_a_library_fuses_chains_but_no_epilogues() -> None:
    assert kinds(mlp(), with_overrides(T4, {"fusion": "chains"})).count("vector") == 3
    found = kinds(attention_layer(), with_overrides(T4, {"fusion": "chains", "attention": "flash2"}))
    assert found[1] == "move"  # biases are added while heads are laid out


def three_products(turned: bool) -> Graph:
    """q, k and v of one input; `turned`: q is used before v is computed."""
    x = value("x", 64, 128, role=Role.INPUT)
    nodes = []
    for name in "qkv":
        weight, out = value(f"w{name}", 128, 128, role=Role.WEIGHT), value(name, 64, 128)
        nodes.append(Node(name, "MatMul", (x, weight), (out,)))
    last = value("out", 64, 128)
    nodes.insert(2 if turned else 3, Node("use", "Relu", (nodes[0].outputs[0],), (last,)))
    return Graph("qkv", tuple(nodes), (x,), (last, nodes[1].outputs[0], nodes[-1].outputs[0]))


@pytest.mark.parametrize(("turned", "products"), [(False, 1), (True, 2)])
def test_products_of_one_input_join_unless_one_is_read_before(turned: bool, products: int) -> None:
    graph = three_products(turned)
    joint = with_overrides(T4, {"joint_products": True, "fusion": "none"})
    assert kinds(graph, joint).count("gemm") == products
    separate = lower(graph, with_overrides(T4, {"fusion": "none"}))
    assert lower(graph, joint).macs.sum() == separate.macs.sum()


def test_below_boost_compute_slows_down_and_dram_does_not() -> None:
    held = with_overrides(T4, {"running_clock_hz": T4.clock_hz // 2})
    small = with_overrides(held, {"power.cap_w": 1000}), with_overrides(T4, {"power.cap_w": 1000})
    for rows, slower in ((4096, 2.0), (1, 1.0)):
        half, full = (run_static(lower(mlp(width=8192, rows=rows), c)).total_ps for c in small)
        assert half / full == pytest.approx(slower, rel=0.2)
    with pytest.raises(UserError, match="boost clock"):
        with_overrides(T4, {"running_clock_hz": 2 * T4.clock_hz})


def test_a_host_that_searches_for_tiles_is_slower_per_product() -> None:
    host = {"launch": "stream", "host.stream_product_s": 1e-5, "host.search_s": 2e-5}
    found = []
    for tuned in (False, True):
        program = lower(mlp(layers=50), with_overrides(T4, {**host, "tuned_products": tuned}))
        found.append(program.busy_cycles[program.resource == 0].sum() * 1e-9)
    assert found[0] - found[1] == pytest.approx(100 * 2e-5)


def test_small_eager_models_are_launch_bound() -> None:
    eager = with_overrides(T4, {"launch": "eager"})
    program = lower(mlp(layers=4), eager)
    timeline = run_static(program)
    host = program.resource == 0
    busy = program.busy_cycles[host].sum() * 1000  # ps at 1 GHz
    assert busy > 0.9 * timeline.total_ps
    waits = timeline.cause[~host] == Cause.DEPENDENCY
    assert waits.mean() > 0.9


def test_parts_sum_and_energy_adds_up() -> None:
    program = lower(mlp(width=1024, rows=512), T4)
    program.verify()
    assert (program.part_cycles.sum(axis=1) == program.busy_cycles).all()
    totals = total_runs(iter([program]), 1, 6)
    assert totals.part_ps.sum() == totals.total_ps.sum()
    watts = totals.energy_pj.sum() / totals.total_ps.sum()
    assert T4.power.idle_w < watts <= T4.power.cap_w


def test_board_power_stays_at_the_cap_under_load() -> None:
    big = lower(mlp(width=8192, rows=8192), with_overrides(T4, {"precision": "float32"}))
    watts = total_runs(iter([big]), 1, 6).energy_pj.sum() / run_static(big).total_ps
    assert watts == pytest.approx(T4.power.cap_w, rel=0.15)


def test_twice_the_layers_is_twice_the_time() -> None:
    one, two = (run_static(lower(mlp(2048, 256, layers), T4)).total_ps for layers in (8, 16))
    assert two / one == pytest.approx(2, rel=0.02)


def test_weights_that_do_not_fit_cross_the_host_link() -> None:
    small = T4.model_copy(update={"dram": T4.dram.model_copy(update={"bytes": 630_000_000})})
    graph = mlp(width=4096, rows=16)
    found = capacity(graph, small)
    assert found.mode == "weights streamed over the host link"
    assert "268 MB" in found.note
    assert found.memories[0].fits
    slow, fast = (run_static(lower(graph, c)).total_ps for c in (small, T4))
    streamed_s = (graph.weight_bytes - found.memories[0].weights_bytes) / T4.host.link_bytes_per_s
    assert slow * 1e-12 > streamed_s > 2 * fast * 1e-12


def test_activations_that_do_not_fit_are_refused() -> None:
    tiny = T4.model_copy(update={"dram": T4.dram.model_copy(update={"bytes": 1_000_000})})
    with pytest.raises(CapacityError, match="exceed the GPU's"):
        capacity(mlp(), tiny)


def test_activation_peak_counts_live_values_only() -> None:
    rows, width = 8, 256
    row = rows * width * 2
    assert activation_bytes(mlp(width, rows)) == row + 4 * row + 4 * row


def test_a_strided_view_is_free_and_a_concat_is_not() -> None:
    x = value("x", 64, 32, role=Role.INPUT)
    t, y = value("t", 32, 64), value("y", 32, 64)
    graph = Graph(
        "views",
        (Node("a", "Transpose", (x,), (t,), {"perm": (1, 0)}), Node("b", "Relu", (t,), (y,))),
        (x,),
        (y,),
    )
    assert kinds(graph, T4) == ["graph launch", "vector"]


def test_formats_without_a_unit_are_refused() -> None:
    config = with_overrides(preset_config("v100-pcie-32gb"), {"precision": "tfloat32"})
    with pytest.raises(UserError, match="no unit for tfloat32"):
        lower(with_precision(mlp(), precision_of(config)), config)


def test_float8_weights_run_on_the_8_bit_unit() -> None:
    h100 = preset_config("h100-sxm")
    graph = mlp(width=8192, rows=8192)
    weights = {
        v: Value(v.name, TensorType(v.type.shape, Kind.FLOAT, 8), Role.WEIGHT)
        for v in graph.weights
        if len(v.type.shape) == 2
    }
    nodes = tuple(replace(n, inputs=tuple(weights.get(v, v) for v in n.inputs if v)) for n in graph.nodes)
    narrow = Graph("fp8", nodes, graph.inputs, graph.outputs)
    assert run_static(lower(narrow, h100)).total_ps < 0.85 * run_static(lower(graph, h100)).total_ps


def test_four_bit_weights_save_bytes_not_flops() -> None:
    a100 = preset_config("a100-sxm4-80gb")
    times = {}
    for number in ("bfloat16", "int4"):
        config = with_overrides(a100, {"precision": number})
        for rows in (1, 8192):
            graph = with_precision(mlp(width=8192, rows=rows), precision_of(config))
            times[number, rows] = run_static(lower(graph, config)).total_ps
    assert times["int4", 1] < 0.45 * times["bfloat16", 1]
    assert times["int4", 8192] == pytest.approx(times["bfloat16", 8192], rel=0.1)


def test_energy_is_finite_for_empty_work() -> None:
    x = value("x", 4, role=Role.INPUT)
    program = lower(Graph("empty", (), (x,), (x,)), T4)
    assert program.tasks == 0
    assert np.isfinite(program.energy_pj).all()


def attention_layer(batch: int = 8, seq: int = 512, heads: int = 4, dim: int = 64) -> Graph:
    """One attention over `batch` sequences."""
    q, k, v = (value(n, batch, heads, seq, dim, role=Role.INPUT) for n in "qkv")
    out = value("o", batch, heads, seq, dim)
    return Graph("attention", (Node("n0", "Attention", (q, k, v), (out,), {}),), (q, k, v), (out,))


def time_us(**settings: str | float | bool) -> float:
    program = lower(attention_layer(), with_overrides(T4, settings))
    program.verify()
    return run_static(program).total_ps * 1e-6


def test_packing_counts_the_tokens_that_each_part_computes() -> None:
    padded = time_us(attention="unfused")
    equal = time_us(attention="unfused", fill=0.5, lengths="equal")
    uniform = time_us(attention="unfused", fill=0.5)
    assert equal < uniform < padded  # mean squared length: 1/4, 1/3, 1
    assert equal == pytest.approx(padded / 4, rel=0.35)
    products = time_us(attention="unfused", fill=0.5, packing="products")
    assert padded < products < 1.1 * padded  # three kernels count, gather and spread the tokens


def test_packing_once_and_in_every_layer_adds_its_kernels_and_waits() -> None:
    q, k, v = (value(n, 8, 4, 512, 64, role=Role.INPUT) for n in "qkv")
    y, z = value("y", 8, 4, 512, 64), value("z", 8, 4, 512, 64)
    nodes = (Node("n0", "Attention", (q, k, v), (y,), {}), Node("n1", "Attention", (y, k, v), (z,), {}))
    two = Graph("two", nodes, (q, k, v), (z,))
    padded: dict[str, str | float] = {"launch": "stream", "attention": "flash2"}
    counts = [
        kinds(two, with_overrides(T4, {**padded, **packed})).count("launch")
        for packed in ({}, {"fill": 0.5}, {"fill": 0.5, "packing": "layer"})
    ]
    assert counts == [2, 2 + 3, 2 + 4]  # once: count, gather, spread; per layer: count and gather
    for packing, waits in (("batch", 1), ("layer", 2)):
        slow, fast = (
            run_static(lower(two, with_overrides(T4, {**padded, "fill": 0.5, "packing": packing, **sync})))
            for sync in ({"host.sync_s": 1e-3}, {})
        )
        assert (slow.total_ps - fast.total_ps) * 1e-9 == pytest.approx(waits, rel=0.01)


def test_grouped_products_lie_between_fused_and_padded_attention() -> None:
    fused, grouped = (time_us(attention=a, lengths="equal", fill=0.5) for a in ("flash2", "grouped"))
    assert fused < grouped < time_us(attention="unfused", fill=0.5, packing="products")
    assert kinds(attention_layer(), with_overrides(T4, {"attention": "grouped"})).count("gemm") == 2


def test_tuned_products_are_never_slower_than_the_heuristics_choice() -> None:
    slow = with_overrides(T4, {"precision": "float32"})
    graph = with_precision(mlp(width=768, rows=96), precision_of(slow))
    tuned = with_overrides(slow, {"tuned_products": True})
    assert run_static(lower(graph, tuned)).total_ps < run_static(lower(graph, slow)).total_ps


def dram_and_l2_bytes(graph: Graph, **settings: str | int) -> int:
    program = lower(graph, with_overrides(T4, settings))
    program.verify()
    return int(program.level_bytes.sum(axis=0).max())


def test_paged_attention_reads_whole_pages_and_their_table() -> None:
    batch, heads, dim = 8, 4, 64
    for seq, pages in ((512, 2), (300, 2)):
        graph = attention_layer(batch, seq, heads, dim)
        plain = dram_and_l2_bytes(graph, attention="auto")
        found = dram_and_l2_bytes(graph, attention="paged", page_tokens=256)
        unused = 2 * batch * heads * (256 * pages - seq) * dim * 2
        assert found - plain == unused + 4 * batch * heads * pages
