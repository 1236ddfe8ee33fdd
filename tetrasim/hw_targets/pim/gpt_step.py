"""One generated token of a GPT on a PIM system, from the model's dimensions alone.

The blocks, the last norm and the output layer of the eight models of PIM-GPT (arXiv 2310.09385), as the
importer would give them (the two rows read from the embedding tables are left out: 0.03 % of the time).
With it the paper's quantities are computed in a second, without exporting models.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.items import Item, plain_item
from tetrasim.hw_targets.pim.machine import LEVELS, machine
from tetrasim.hw_targets.pim.price_steps import steps_of
from tetrasim.hw_targets.pim.schedule import build_plan, run_plan
from tetrasim.hw_targets.pim.steps import StateWrite
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ops.single import attention_work, vector_work
from tetrasim.sim.ops.work import Gemm, Operand, Work, WorkKind
from tetrasim.sim.precision import BFLOAT16

VOCABULARY = 50257


@dataclass(frozen=True, slots=True)
class Gpt:
    """Layers, width and attention heads."""

    layers: int
    width: int
    heads: int


PAPER_MODELS = {
    "gpt2-small": Gpt(12, 768, 12), "gpt2-medium": Gpt(24, 1024, 16), "gpt2-large": Gpt(36, 1280, 20),
    "gpt2-xl": Gpt(48, 1600, 25), "gpt3-small": Gpt(12, 768, 12), "gpt3-medium": Gpt(24, 1024, 16),
    "gpt3-large": Gpt(24, 1536, 16), "gpt3-xl": Gpt(24, 2048, 16),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """What one token took. `by_kind`: channel clocks of every kind of step; `row_hits`: of the MACs;
    `movement_reduction`: the blocks' matrices over vectors in, results out and new keys and values."""

    clocks: int
    by_kind: tuple[tuple[str, int], ...]
    row_hits: float
    movement_reduction: float

    @property
    def outside_products(self) -> float:
        """Share of the time outside matrix-vector products."""
        return 1 - dict(self.by_kind)["gemv"] / sum(n for _, n in self.by_kind)


def one_token(model: Gpt, context: int, config: PimConfig) -> Token:
    """The token that sees `context` earlier ones, from an idle system."""
    items = [item for _ in range(model.layers) for item in _block(model, context)]
    blocks = len(items)
    items += [_norm(model.width), _product(model.width, VOCABULARY, bias=False)]
    kinds = {item: i for i, item in enumerate(dict.fromkeys(items))}
    plan = build_plan(
        [[steps_of(item, config)] for item in kinds],
        [(i - 1,) if i else () for i in range(len(items))],
        [kinds[item] for item in items],
        config.serial,
    )
    out = run_plan(plan, machine(config), len(items))
    spent: dict[str, int] = {}
    payload = macs = 0
    tasks = zip(plan.task_steps, plan.schedule.node.tolist(), out.task_part.sum(axis=1).tolist(), strict=True)
    for task, (step, node, clocks) in enumerate(tasks):
        kind = plan.steps[step].kind
        spent[kind] = spent.get(kind, 0) + clocks
        if kind == "gemv" and node < blocks:
            payload += int(out.task_bytes[task, LEVELS.index("channel I/O")])
            macs += plan.steps[step].macs
        elif kind == "cache write":
            payload += model.width * config.element_bytes
    counts = dict(zip(machine(config).channel.names, out.counts[0].tolist(), strict=True))
    return Token(
        int(out.start[-1]),
        tuple(sorted(spent.items(), key=lambda e: -e[1])),
        1 - counts["ACT16"] / counts["MAC16"],
        config.element_bytes * macs / payload,
    )


def _block(model: Gpt, context: int) -> list[Item]:
    width, per_head = model.width, model.width // model.heads
    attention = attention_work(1, 1, model.heads, model.heads, per_head, context + 1, False, BFLOAT16)
    return [
        _norm(width), _product(width, 3 * width), _append(width, False), _append(width, True),
        plain_item(attention), _product(width, width), _vector("add", width), _norm(width),
        _product(width, 4 * width), _vector("gelu_tanh", 4 * width), _product(4 * width, width),
        _vector("add", width),
    ]  # fmt: skip


def _norm(width: int) -> Item:
    return _vector("layernorm", width)


def _vector(op: str, width: int) -> Item:
    return plain_item(vector_work(op, 1, width, BFLOAT16))


def _product(k: int, n: int, *, bias: bool = True) -> Item:
    weights = Operand(k * n, 16, Kind.BFLOAT, Role.WEIGHT)
    added = (Operand(n, 16, Kind.BFLOAT, Role.WEIGHT),) if bias else ()
    reads = (Operand(k, 16, Kind.BFLOAT), weights, *added)
    written = (Operand(n, 16, Kind.BFLOAT),)
    return plain_item(Work("Gemm", WorkKind.GEMM, reads, written, gemm=Gemm(1, 1, n, k)))


def _append(width: int, column_major: bool) -> Item:
    new = (Operand(width, 16, Kind.BFLOAT),)
    return Item(Work("KVAppend", WorkKind.MOVE, new, new), (StateWrite(1, width, column_major, 2),))
