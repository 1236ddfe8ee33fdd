"""Attention on processors: the ops it becomes, and IceFormer's growth with the context."""

from __future__ import annotations

import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.attention import attention_works, visited_keys
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of
from tetrasim.hw_targets.cpu.machine import machine_of
from tetrasim.hw_targets.cpu.placement import placed_alone
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ops.work import AttentionShape, Operand, Work, WorkKind


def config_of(**overrides: str | int) -> CpuConfig:
    config = find_preset("cpu/xeon-8380")[1].config
    assert isinstance(config, CpuConfig)
    return with_overrides(config, overrides)


def attention(q_len: int, kv_len: int, kv_heads: int = 8, turned: str = "", causal: bool = True) -> Work:
    shape = AttentionShape(1, q_len, 8, kv_heads, 64, 64, kv_len, causal, turned=turned)
    q, k, v = (
        Operand(8 * q_len * 64, 32),
        Operand(kv_heads * kv_len * 64, 32),
        Operand(kv_heads * kv_len * 64, 32),
    )
    return Work("Attention", WorkKind.ATTENTION, (q, k, v), (q,), attention=shape)


def test_what_a_mask_hides_is_left_out_but_in_eager_frameworks() -> None:
    pieces = attention_works(attention(101, 101), config_of())
    assert [p.op for p in pieces] == ["scores", "Softmax", "values"]
    assert sum(p.macs for p in pieces) == 2 * 8 * 101 * 51 * 64
    eager = attention_works(attention(101, 101), config_of(runtime="eager"))
    assert sum(p.macs for p in eager) == 2 * 8 * 101 * 101 * 64


def test_an_eager_framework_scales_and_masks_in_passes_whose_large_results_are_new_pages() -> None:
    eager, lasting = (config_of(runtime="eager", **{"overhead.page_fault_ns": ns}) for ns in (500, 0))
    pieces = attention_works(attention(100, 100), eager)
    assert [p.op for p in pieces] == ["scores", "scale", "mask", "Softmax", "values"]
    threads = machine_of(eager).threads
    for n, faults in ((1023, 0), (1024, 4 * 8 * 1024)):  # scores of 32 MiB: four results of 8192 pages
        work = attention(n, n)
        times = []
        for config in (eager, lasting):
            machine = machine_of(config)
            times.append(cost_of(work, machine, placed_alone(work, machine)).total_s)
        assert times[0] - times[1] == pytest.approx(faults * 500e-9 / threads, abs=1e-12)


def test_layouts_and_groups_are_copies() -> None:
    ops = [p.op for p in attention_works(attention(100, 100, kv_heads=2, turned="qo"), config_of())]
    assert ops == ["Transpose", "Expand", "Expand", "scores", "Softmax", "values", "Transpose"]
    step = attention_works(attention(1, 100, turned="qo", causal=False), config_of())
    assert [p.kind for p in step if p.op == "Reshape"] == [WorkKind.VIEW, WorkKind.VIEW]


def test_visited_keys_grow_as_the_theorem_says_and_never_beyond_all() -> None:
    # 8 directions, intrinsic dimension 16: k (n/k)^(1/2)
    assert visited_keys(64 * 400, 64, 16) == 64 * 20
    assert visited_keys(100, 64, 16) == 80  # 64 sqrt(100 / 64)
    assert visited_keys(65, 64, 10**6) == 65
    assert visited_keys(64 * 400, 64, 8) == pytest.approx(64 * 5.99, abs=1)  # the logarithm is the larger


def test_iceformer_wins_at_long_contexts_only() -> None:
    full, ice = machine_of(config_of()), machine_of(config_of(attention="iceformer"))
    ratios = []
    for n in (512, 4096, 32768):
        work = attention(n, n)
        times = [cost_of(work, m, placed_alone(work, m)).total_s for m in (full, ice)]
        ratios.append(times[0] / times[1])
    assert ratios[0] < 1 < ratios[2]
    assert ratios == sorted(ratios)


def test_a_step_and_a_short_context_stay_full() -> None:
    ice = config_of(attention="iceformer")
    assert attention_works(attention(1, 5000, causal=False), ice)[-1].op == "values"
    assert attention_works(attention(60, 60), ice)[-1].op == "values"
