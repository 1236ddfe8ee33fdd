"""What one node becomes as hardware: initiation interval, depth and fabric.

A stage handles one token (one row of the last axis) per firing. Under a reuse factor R a stage with P
products per
token has P / R multipliers and accepts a token every R cycles (hls4ml: II = R in 96.7 % of the synthesised
Resource rows). Row operations (softmax, norms, activations) are fully parallel over the row, as hls4ml emits
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from tetrasim.hw_targets.fpga import resources as fabric
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dense_model import estimate_dense, keeps_structure
from tetrasim.hw_targets.fpga.dense_rows import DenseLayer
from tetrasim.hw_targets.fpga.resources import Cost
from tetrasim.hw_targets.fpga.reuse import divisor, nearest_reuse
from tetrasim.hw_targets.fpga.timing import SOFTMAX_STAGES, TABLE_STAGES, dense_stages, tree_stages
from tetrasim.sim.ops.work import AttentionShape, Gemm, Vector, Work, WorkKind

TABLED = frozenset({"exp", "erf", "tanh", "sqrt", "log", "pow", "trig", "div"})
DA_LUT_PER_PRODUCT_BIT = (
    1.95  # da4ml cost / (products x weight bits) of the dense designs, fpga reference 2.2
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Hardware of one node: cycles per token, pipeline depth, fabric, whether the fit's domain covers it."""

    ii: int
    latency: int
    cost: Cost
    multipliers: float = 0.0
    in_domain: bool = True


@lru_cache(maxsize=1 << 14)
def stage_of(work: Work, tokens: int, reuse: int, config: FpgaConfig) -> Stage:
    """The stage of `work`, which handles `tokens` firings per inference."""
    if work.kind is WorkKind.GEMM and work.gemm is not None:
        return _gemm_stage(work, work.gemm, tokens, reuse, config)
    if work.kind is WorkKind.ATTENTION and work.attention is not None:
        return _attention_stage(work, work.attention, tokens, reuse, config)
    if work.kind is WorkKind.VECTOR and work.vector is not None:
        return _vector_stage(work, work.vector, tokens, config)
    return _move_stage(work, tokens)


def _bits(work: Work) -> tuple[int, int, int]:
    """Widths of the streamed input, of the weights (or second operand) and of the output."""
    data = [o.bits for o in work.factors]
    first = data[0] if data else 16
    return first, (data[-1] if data else first), work.writes[0].bits


def _gemm_stage(work: Work, gemm: Gemm, tokens: int, reuse: int, config: FpgaConfig) -> Stage:
    a_bits, w_bits, _ = _bits(work)
    products = max(ceil(gemm.macs / tokens), 1)
    single = gemm.weight_is_b and products == gemm.k * gemm.n
    factor = nearest_reuse(gemm.k, gemm.n, reuse) if single else divisor(products, reuse)
    latency = dense_stages(gemm.k, max(a_bits, w_bits), config.clock_ns, factor)
    if not gemm.weight_is_b:
        tree = fabric.variable_products(products / factor, a_bits, w_bits)
        stored = gemm.batch * gemm.n * gemm.k * w_bits * 2  # second operand, ping-pong
        return Stage(factor, latency, tree + storage(stored, factor), products / factor, in_domain=False)
    if config.spatial.strategy == "distributed_arithmetic":
        lut = products * w_bits * DA_LUT_PER_PRODUCT_BIT
        return Stage(1, dense_stages(gemm.k, 2, config.clock_ns) + 1, Cost(lut=lut, ff=lut * 0.3), products)
    known = estimate_dense(gemm.k, gemm.n, max(a_bits, w_bits), factor, config.spatial.strategy)
    layer = DenseLayer(config.spatial.strategy, gemm.k, gemm.n, max(a_bits, w_bits), factor)
    if known.in_domain or keeps_structure(layer):
        cost = Cost(known.lut, known.ff, known.dsp, known.bram18)
        return Stage(known.interval, max(known.latency, 1), cost, products / factor, known.in_domain)
    if factor == 1:
        cost = fabric.constant_products(products, a_bits, w_bits)
    else:
        cost = fabric.shared_products(products, factor, gemm.k, gemm.n, a_bits, w_bits)
    return Stage(factor, latency, cost, products / factor, in_domain=False)


def storage(bits: int, reuse: int) -> Cost:
    """A buffer read in `reuse` slices per row: registers when all of it is read at once, else LUT RAM."""
    return Cost(ff=float(bits)) if reuse == 1 else Cost(lut=bits / 32, ff=bits / reuse / 2)


def _attention_stage(work: Work, shape: AttentionShape, tokens: int, reuse: int, config: FpgaConfig) -> Stage:
    """All heads of one query row: scores, softmax with exp and reciprocal tables, weighted sum."""
    bits = _bits(work)[0]
    products = max(ceil(shape.macs / tokens), 1)
    factor = divisor(products, reuse)
    scores = dense_stages(shape.head_dim, bits, config.clock_ns, factor)
    values = dense_stages(shape.kv_len, bits, config.clock_ns, factor)
    rows = max(ceil(shape.batch * shape.heads * shape.q_len / tokens), 1)
    softmax = fabric.tables(rows * (shape.kv_len / factor + 1), config.spatial.table_entries)
    kept = shape.batch * shape.kv_len * shape.kv_heads * (shape.head_dim + shape.v_head_dim) * bits * 2
    cost = fabric.variable_products(products / factor, bits, bits) + softmax + storage(kept, factor)
    return Stage(factor, scores + SOFTMAX_STAGES + values, cost, products / factor, in_domain=False)


def _vector_stage(work: Work, vector: Vector, tokens: int, config: FpgaConfig) -> Stage:
    bits = max((o.bits for o in work.reads), default=16)
    if vector.kept:
        return _sort_stage(vector, bits, tokens)
    per_token = vector.rows * vector.cols / tokens
    ops = {kind: n / tokens for kind, n in vector.ops}
    tabled = sum(n for kind, n in ops.items() if kind in TABLED)
    multiplied = ops.get("mul", 0.0)
    simple = sum(n for kind, n in ops.items() if kind not in TABLED and kind != "mul")
    latency = 1 + (TABLE_STAGES if tabled else 0) + (1 if multiplied else 0)
    if vector.reduces:
        latency = max(SOFTMAX_STAGES, latency) + 2 * tree_stages(max(ceil(per_token), 1), config.clock_ns)
    cost = Cost(lut=simple * (bits + 2), ff=per_token * bits * min(latency, 4))
    cost += fabric.variable_products(multiplied, bits, bits) + fabric.tables(
        tabled, config.spatial.table_entries
    )
    return Stage(1, latency, cost)


def _sort_stage(vector: Vector, bits: int, tokens: int) -> Stage:
    """A pipelined network that sorts a whole row every cycle: a compare-exchange is a carry chain of two
    bits per LUT, a LUT per bit that swaps two numbers, and as much again for their positions in the row."""
    exchanges = ceil(vector.compare_exchanges / tokens)
    carried = bits + max(vector.cols - 1, 1).bit_length()
    depth = max(vector.kept - 1, 1).bit_length()
    layers = depth * (depth + 1) // 2 + max(vector.cols // vector.kept - 1, 0).bit_length() * (depth + 1)
    cost = Cost(lut=exchanges * (bits / 2 + carried), ff=exchanges * 2.0 * carried)
    return Stage(1, max(layers, 1), cost, in_domain=False)


def _move_stage(work: Work, tokens: int) -> Stage:
    bits = sum(o.nbytes * 8 for o in work.writes)
    constant = sum(o.nbytes * 8 for o in work.reads if o.role.value in ("weight", "constant"))
    memory = fabric.fifo_bram18(max(constant // 36, 1), 36) if constant > 1024 else 0
    return Stage(1, 1, Cost(lut=bits / tokens, ff=bits / tokens, bram18=float(memory)))
