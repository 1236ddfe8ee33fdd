"""The pim target on a small decoder: program = co-simulation, speed-ups exact, everything accounted for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tetrasim.errors import CapacityError, UserError
from tetrasim.facade import load_for
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.generate import run_family
from tetrasim.hw_targets.pim.machine import machine
from tetrasim.hw_targets.pim.target import TARGET
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.engine.static import run_static
from tetrasim.sim.ir.family import GraphFamily
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind

PRESETS = ("pim-gpt", "aim", "hbm-pim", "lpddr5x-pim")


@cache
def phases(preset: str) -> tuple[GraphFamily, GraphFamily]:
    model, workload = load_for("gpt2-small", prompt=8, generate=12)
    ready = lowered_phases(model, set_up(f"pim/{preset}", {}), workload)
    return ready[0][1], ready[1][1]


def config(preset: str, **changes: str | int | bool) -> PimConfig:
    found = find_preset(f"pim/{preset}")[1].config
    assert isinstance(found, PimConfig)
    return with_overrides(found, changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_program_and_cosimulation_agree(preset: str) -> None:
    for family in phases(preset):
        settings = config(preset)
        program = TARGET.lower(family.at(20), settings)
        program.verify()
        assert TARGET.simulate_runs is not None
        totals = TARGET.simulate_runs(family, [20], settings)
        assert totals.total_ps.tolist() == [run_static(program).total_ps]
        assert totals.macs.tolist() == [program.macs.sum()]
        assert np.allclose(
            totals.energy_pj[0].sum(),
            program.energy_pj.sum() + sum(w for _, w in program.static_power_w) * totals.total_ps[0],
        )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("serial", [True, False])
def test_decompositions_sum(preset: str, serial: bool) -> None:
    assert TARGET.simulate_runs is not None
    totals = TARGET.simulate_runs(phases(preset)[1], range(8, 16), config(preset, serial=serial))
    assert (totals.part_ps.sum(axis=1) == totals.total_ps).all()
    assert totals.node_ps.sum() + totals.outside_ps == totals.total_ps.sum()
    assert (totals.total_ps > 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_exact_slow_is_equal(preset: str) -> None:
    """A generation with refresh on, command by command, gives the same picoseconds and picojoules."""
    assert TARGET.simulate_runs is not None
    family = phases(preset)[1]
    fast = TARGET.simulate_runs(family, range(60, 64), config(preset))
    slow = TARGET.simulate_runs(family, range(60, 64), config(preset, exact_slow=True))
    for name in ("total_ps", "part_ps", "energy_pj", "level_bytes", "busy_ps", "node_ps", "node_part_ps"):
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name


def test_every_mac_is_counted() -> None:
    """12 layers of 12 d^2 weights and the output layer, once per token, plus attention."""
    width, layers, vocab, context = 768, 12, 50257, 20
    program = TARGET.lower(phases("pim-gpt")[1].at(context), config("pim-gpt"))
    weights = layers * 12 * width**2 + vocab * width
    attention = layers * 2 * width * (context + 1)
    assert program.macs.sum() == weights + attention


def test_overlap_is_never_slower() -> None:
    graph = phases("pim-gpt")[1].at(20)
    serial, free = (
        run_static(TARGET.lower(graph, config("pim-gpt", serial=s))).total_ps for s in (True, False)
    )
    assert free <= serial


def test_more_channels_are_faster() -> None:
    graph = phases("pim-gpt")[1].at(20)
    times = [run_static(TARGET.lower(graph, config("pim-gpt", channels=n))).total_ps for n in (4, 8, 16)]
    assert times[0] > times[1] > times[2]


@pytest.mark.parametrize("limit", ["grouped", "spaced"])
def test_power_limits_cost_time(limit: str) -> None:
    graph = phases("pim-gpt")[1].at(20)
    free = run_static(TARGET.lower(graph, config("pim-gpt"))).total_ps
    capped = config("pim-gpt", power_limit=limit, mac_spacing_cycles=2)
    assert run_static(TARGET.lower(graph, capped)).total_ps > free


def test_refresh_costs_its_share() -> None:
    graph = phases("pim-gpt")[1].at(20)
    on, off = (
        run_static(TARGET.lower(graph, config("pim-gpt", refresh=refresh))).total_ps
        for refresh in ("row", "none")
    )
    assert 1.03 < on / off < 1.07  # tRFC / tREFI = 6.7 %, less what falls into the host's time


def test_capacity_is_refused_with_both_numbers() -> None:
    graph = phases("pim-gpt")[1].at(20)
    with pytest.raises(CapacityError) as caught:
        TARGET.capacity(graph, config("pim-gpt", bytes_per_channel=1 << 20))
    assert "8.39 MB" in str(caught.value)
    assert "devices=" in str(caught.value)
    assert TARGET.capacity(graph, config("pim-gpt")).memories[0].fits


def test_a_device_file_of_the_user(tmp_path: Path) -> None:
    """A slower row cycle in a user's device file makes the same model slower."""
    file = tmp_path / "slow.yaml"
    file.write_text("name: slow\nbased_on: gddr6-pimgpt\ntiming: {nRP: 40}\n", encoding="utf-8")
    graph = phases("pim-gpt")[1].at(20)
    usual = run_static(TARGET.lower(graph, config("pim-gpt"))).total_ps
    assert run_static(TARGET.lower(graph, config("pim-gpt", device=str(file)))).total_ps > usual
    file = tmp_path / "odd.yaml"
    file.write_text("name: odd\nbased_on: gddr6-pimgpt\ntck_ps: 833\n", encoding="utf-8")
    with pytest.raises(UserError, match="whole number of hertz"):
        TARGET.lower(graph, config("pim-gpt", device=str(file)))


def test_compat_is_the_aim_simulator() -> None:
    """The clock of case A1: 286 cycles of 0.5 ns per 16 outputs of 1,024 inputs on one channel."""
    settings = config("aim", compat=True, channels=1, power_limit="grouped")
    operand = Operand(1024 * 1024, 16, Kind.BFLOAT, Role.WEIGHT)
    vector = Operand(1024, 16, Kind.BFLOAT)
    work = Work("MatMul", WorkKind.GEMM, (vector, operand), (vector,), gemm=Gemm(1, 1, 1024, 1024))
    latency_us = TARGET.price([work], settings).latency_us[0]
    last = 18_428  # clock of the last command; its data arrives nCLREG + nBL = 2 cycles later
    assert latency_us == pytest.approx((last + 2) * 0.5e-3)
    refreshed = TARGET.price([work], config("aim", channels=1)).latency_us[0]
    assert 1.05 < refreshed / latency_us < 1.08  # 120 ns every 1.9 us


def test_prices_are_per_op_and_in_order() -> None:
    one, two = (
        Work(
            "MatMul",
            WorkKind.GEMM,
            (Operand(n * n, 16, Kind.BFLOAT, Role.WEIGHT),),
            (),
            gemm=Gemm(1, 1, n, n),
        )
        for n in (512, 2048)
    )
    prices = TARGET.price([two, one, two], config("pim-gpt"))
    assert prices.latency_us[0] == prices.latency_us[2] > prices.latency_us[1]
    assert prices.bound_by[0] == "column MAC"


def counts_of(
    preset: str, prompt: int, generate: int, batch: int = 1, **changes: str | int | bool
) -> list[dict[str, int]]:
    """Commands of the busiest channel in every phase, for one pass each."""
    model, workload = load_for("gpt2-small", prompt=prompt, generate=generate, batch=batch)
    found: list[dict[str, int]] = []
    settings = config(preset, **changes)
    for _, family, contexts in lowered_phases(model, set_up(f"pim/{preset}", dict(changes)), workload):
        _, out = run_family(family, contexts[:1], settings)
        names = machine(settings).channel.names
        found.append(dict(zip(names, out.counts[0].tolist(), strict=True)))
    return found


def gpt2_macs(channels: int, batch: int, tokens: int, context: int) -> int:
    """All-bank MACs of the busiest channel of one pass of GPT2-small, by hand: a layer's products are
    768 x 2304, 768 x 768, 768 x 3072 and 3072 x 768, the head is 768 x 50257 (for a prompt's last token).
    Groups of 16 outputs are dealt out over the channels, 16 inputs per access, 1,024 per chunk. Scores:
    tokens dealt out in groups of 16, 12 heads of 64; values: 12 x 64 columns in groups of 16."""

    def product(k: int, n: int) -> int:
        chunks, groups = [min(1024, k - at) // 16 for at in range(0, k, 1024)], -(-n // 16)
        busy = [0] * channels
        for i in range(len(chunks) * groups):
            busy[i % channels] += chunks[i // groups]
        return max(busy)

    layer = product(768, 2304) + product(768, 768) + product(768, 3072) + product(3072, 768)
    attention = 0
    for seen in range(context - tokens + 1, context + 1):
        groups = (seen + 15) // 16
        attention += -(-groups // channels) * 12 * 4 + -(-48 // channels) * groups
    return batch * (12 * (tokens * layer + attention) + product(768, 50257))


@pytest.mark.parametrize(("channels", "devices"), [(8, 1), (8, 2), (4, 4), (16, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_commands_of_a_pass_by_hand(channels: int, devices: int, batch: int) -> None:
    """A prompt of 6 tokens as batched products, then a token: several devices are as many channels side by
    side, and every sequence has caches of its own."""
    prefill, step = counts_of("pim-gpt", 6, 2, batch, channels=channels, devices=devices)
    every = channels * devices
    assert prefill["MAC16"] == gpt2_macs(every, batch, 6, 6)
    assert step["MAC16"] == gpt2_macs(every, batch, 1, 7)
    # A key of 768 values is 48 bursts in one bank; a value lies in 48 x 16 rows, a burst in each. New keys
    # and the values' rows of all sequences are dealt out over the channels.
    assert step["WR"] == 12 * (-(-batch // every) * 48 + -(-48 * batch // every) * 16)
    assert prefill["WR"] == 12 * (-(-6 * batch // every) * 48 + -(-48 * batch // every) * 16)


def test_prefill_on_the_host() -> None:
    """From 6 vectors on, the host reads the weights once and multiplies: the weights cross the pins, and the
    banks compute attention only; a single token stays in the banks."""
    banks, step = counts_of("pim-gpt", 6, 2)
    host, same = counts_of("pim-gpt", 6, 2, host_products_from=6)
    assert same == step
    per_layer = sum(-(-k * n * 2 // 32 // 8) for k, n in ((768, 2304), (768, 768), (768, 3072), (3072, 768)))
    assert host["RD"] - banks["RD"] == 12 * per_layer
    attention = 6 * (48 + 6)  # up to 6 keys: one group of 16 tokens, 6 groups of value columns per channel
    head = -(-50257 // 16 // 8) * 48
    assert host["MAC16"] == 12 * attention + head  # the head multiplies the last token's vector only


def test_overlap_reads_parameters_ahead_and_adds_on_arrival() -> None:
    """Unlike the serial model, the overlapped one hides parameter reads behind the host and all but the last
    of the partial sums behind the channels."""
    graph = phases("pim-gpt")[1].at(20)
    serial, free = (TARGET.lower(graph, config("pim-gpt", serial=s, refresh="none")) for s in (True, False))
    kinds = serial.kind_names
    reads = serial.kind == kinds.index("parameter read")
    sums = serial.kind == kinds.index("partial sums")
    saved = run_static(serial).total_ps - run_static(free).total_ps
    before = serial.busy_cycles[reads].sum() + serial.busy_cycles[sums].sum()
    assert free.busy_cycles[sums].sum() < serial.busy_cycles[sums].sum()
    assert 0.3 * before < saved / 1000 < before  # a clock is 1,000 ps
