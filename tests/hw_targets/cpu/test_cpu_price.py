"""Prices of many ops at once equal the costs of each by itself."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.cost import cost_of
from tetrasim.hw_targets.cpu.machine import machine_of
from tetrasim.hw_targets.cpu.placement import placed_alone
from tetrasim.hw_targets.cpu.price import price
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_op_names, vector_work
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind
from tetrasim.sim.precision import BFLOAT16, FLOAT32, INT8

KINDS = ("matmul", "linear", "product", "attention", "vector", "move", "gather", "view", "kv")


def random_works(seed: int, count: int) -> list[Work]:
    """Every kind of work, from one element to hundreds of megabytes."""
    rng = random.Random(seed)

    def size(most: int) -> int:
        return int(2 ** rng.uniform(0, np.log2(most)))

    out = []
    for _ in range(count):
        fmt = rng.choice((FLOAT32, BFLOAT16, INT8))
        kind = rng.choice(
            ("matmul", "linear", "product", "attention", "vector", "move", "gather", "view", "kv")
        )
        if kind == "matmul":
            out.append(matmul_work(size(5000), size(9000), size(9000), fmt, size(8)))
        elif kind in ("linear", "product"):
            g = Gemm(size(30), size(900), size(900), size(900), kind == "linear")
            role = Role.WEIGHT if kind == "linear" else Role.ACTIVATION
            x, w = Operand(g.batch * g.m * g.k, 32), Operand(g.batch * g.k * g.n, 32, role=role)
            reads = (x, w, Operand(g.n, 32, role=Role.WEIGHT))[: 3 if kind == "linear" else 2]
            out.append(Work("Gemm", WorkKind.GEMM, reads, (Operand(g.batch * g.m * g.n, 32),), gemm=g))
        elif kind == "attention":
            heads, q_len = rng.choice((1, 4, 12)), rng.choice((1, 7, 300))
            kv_heads = rng.choice((1, heads))
            kv_len = q_len + size(2000)
            causal = rng.random() < 0.5
            out.append(attention_work(size(4), q_len, heads, kv_heads, 64, kv_len, causal, fmt))
        elif kind == "vector":
            out.append(vector_work(rng.choice(vector_op_names()), size(4000), size(4000), fmt))
        elif kind == "kv":
            past = Operand(size(10**6), 32, role=Role.STATE, touched_elements=64)
            out.append(Work("KVAppend", WorkKind.MOVE, (past, Operand(64, 32)), (past,)))
        else:
            x = Operand(size(10**7), 32)
            found = {"move": WorkKind.MOVE, "gather": WorkKind.GATHER, "view": WorkKind.VIEW}[kind]
            out.append(
                Work("X", found, (x, Operand(size(99), 64, Kind.INT)), (x,), run=rng.choice((0, 1, 64)))
            )
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"threads": 1},
        {"threads": 5, "precision": "bfloat16", "power.limit_w": 110},
        {"runtime": "eager", "attention": "iceformer", "kv_append": "in-place"},
    ],
)
def test_a_table_costs_what_its_rows_cost(seed: int, overrides: dict[str, str | int]) -> None:
    config = find_preset("cpu/xeon-6154")[1].config
    assert isinstance(config, CpuConfig)
    config = with_overrides(config, overrides)
    machine, works = machine_of(config), random_works(seed, 120)
    costs = [cost_of(work, machine, placed_alone(work, machine)) for work in works]
    found = price(works, config)
    assert found.latency_us == pytest.approx([c.total_s * 1e6 for c in costs], rel=1e-9)
    idle_uj = [config.power.idle_w * c.total_s * 1e6 for c in costs]
    energy = [sum(pj for _, pj in c.energy_pj) * 1e-6 + i for c, i in zip(costs, idle_uj, strict=True)]
    assert found.energy_uj == pytest.approx(energy, rel=1e-9)
    assert found.bound_by == tuple(c.bound_by for c in costs)


def test_an_empty_table() -> None:
    config = find_preset("cpu/xeon-6154")[1].config
    assert isinstance(config, CpuConfig)
    assert len(price([], config).latency_us) == 0
