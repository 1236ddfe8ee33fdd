"""AiM's activation tables and element-wise products: cycles by hand, and which ops run where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tetrasim.hw_targets.common.dram.program import Instruction, encode
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim import in_bank
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import plain_item
from tetrasim.hw_targets.pim.layout import Layout
from tetrasim.hw_targets.pim.machine import layout, machine
from tetrasim.hw_targets.pim.price_steps import in_banks, steps_of
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.work import Operand, Vector, Work, WorkKind


def preset(name: str, **changes: str | int | bool) -> PimConfig:
    found = find_preset(f"pim/{name}")[1].config
    assert isinstance(found, PimConfig)
    return with_overrides(found, changes)


def one_channel() -> tuple[PimConfig, Layout]:
    config = preset("aim", refresh="none", exact_slow=True)
    return config, replace(layout(config), channels=1)


def log_of(instructions: tuple[Instruction, ...], config: PimConfig) -> list[tuple[int, str]]:
    running = machine(config).channel.start(log_size=2000)
    running.run(encode(instructions, running.on.index))
    return running.log


def vector(op: str, ops: tuple[tuple[str, int], ...], *reads: Operand) -> Work:
    return Work(
        op, WorkKind.VECTOR, reads, (Operand(reads[0].elements, 16, Kind.BFLOAT),), vector=Vector(1, 1, ops)
    )


X = Operand(4096, 16, Kind.BFLOAT)


def test_table_lookups_by_hand() -> None:
    """48 values on one channel: three look-ups of 16 with the table row open. Switches of 32 cycles lie
    between registers and array; the table row is ready 86 cycles after its activation."""
    config, on = one_channel()
    step = in_bank.table_lookups(48, on)
    assert log_of(step.instructions, config) == [
        (1, "ACT16"), (2, "TMOD"), (34, "WRMAC16"),
        (87, "TMOD"), (119, "AF16"), (121, "TMOD"), (153, "RDAF16"),
        (158, "WRMAC16"), (159, "TMOD"), (191, "AF16"), (193, "TMOD"), (225, "RDAF16"),
        (230, "WRMAC16"), (231, "TMOD"), (263, "AF16"), (265, "TMOD"), (297, "RDAF16"),
    ]  # fmt: skip
    assert (step.work_channels, step.max_channels) == (3, 3)


def test_look_up_after_each_product_would_take_longer() -> None:
    """Why values are written back: 72 cycles per 16 outputs with the table row open, against two row changes
    (tRAS or the look-up and tRTP, tRP, then the row for the table, 86, and for the weights, 56)."""
    t = machine(one_channel()[0]).device.timing
    rows = t["nRTP"] + t["nRP"] + t["nRCDRDAF"] + t["nRTP"] + t["nRP"]  # weights close, table, table closes
    assert 225 - 153 == 72 < rows


def test_product_by_hand() -> None:
    """200 values: 13 bursts per operand are written, four multiplications of four bank groups, 13 read."""
    config, on = one_channel()
    log = log_of(in_bank.product(200, 2, on).instructions, config)
    names = [name for _, name in log]
    assert names == ["ACT16"] + ["WR"] * 26 + ["EWMUL16"] * 4 + ["RD"] * 13 + ["PREA"]
    clocks = [clock for clock, _ in log]
    writes = 1 + 28  # tRCDWR
    multiplies = writes + 25 * 2 + 6 + 2 + 11  # CWL, burst, tWTR
    reads = multiplies + 3 * 2 + 6 + 2 + 11
    assert (clocks[1], clocks[27], clocks[31]) == (writes, multiplies, reads)
    assert clocks[-1] == reads + 12 * 2 + 12  # tRTP


def test_parameters_are_not_written() -> None:
    """Of a product with a parameter only the activation crosses the pins before it."""
    config, on = one_channel()
    names = [name for _, name in log_of(in_bank.product(200, 1, on).instructions, config)]
    assert names.count("WR") == 13
    work = vector("Mul", (("mul", 4096),), X, replace(X, role=Role.WEIGHT))
    assert steps_of(plain_item(work), preset("aim")) == (in_bank.product(4096, 1, layout(preset("aim"))),)


@pytest.mark.parametrize(
    ("name", "op", "place"),
    [
        ("aim", "Gelu", "table"), ("aim", "Tanh", "table"), ("aim", "Swish", "table"),
        ("aim", "Mul", "product"), ("aim", "Add", ""),
        ("hbm-pim", "Gelu", ""), ("hbm-pim", "Relu", "kernel"), ("hbm-pim", "Mul", "kernel"),
        ("hbm-pim", "Add", "kernel"),
        ("pim-gpt", "Gelu", ""), ("pim-gpt", "Mul", ""), ("lpddr5x-pim", "Add", ""),
    ],
)  # fmt: skip
def test_where_it_runs(name: str, op: str, place: str) -> None:
    """By default each device does what its commands can; the user may send it to the host."""
    reads = (X, X) if op in ("Mul", "Add") else (X,)
    item = plain_item(vector(op, (("mul", 4096),), *reads))
    assert in_banks(item, preset(name)) == place
    assert in_banks(item, preset(name, activations="host", elementwise="host")) == ""


def test_broadcasts_stay_on_the_host() -> None:
    work = vector("Mul", (("mul", 4096),), X, Operand(64, 16, Kind.BFLOAT))
    assert in_banks(plain_item(work), preset("aim")) == ""


def test_gated_activation_is_a_table_and_a_product() -> None:
    config = preset("aim")
    work = vector("SwiGLU", (("exp", 4096), ("add", 4096), ("div", 4096), ("mul", 4096)), X, X)
    kinds = [s.kind for s in steps_of(plain_item(work), config)]
    assert kinds == ["activation table", "element-wise product"]
    on_host = steps_of(plain_item(work), with_overrides(config, {"elementwise": "host"}))
    assert [s.kind for s in on_host] == ["activation table", "vector"]
