"""Cycles of the host unit: element operations counted as additions and multiplications.

PIM-GPT (arXiv 2310.09385) computes softmax and GELU by Taylor series, division by Newton-Raphson reciprocal
and 1/sqrt by the fast inverse square root, on 256 adders and 128 multipliers. The counts below follow from
those methods and the configured number of terms and steps.
"""

from __future__ import annotations

from tetrasim.hw_targets.pim.config import Host
from tetrasim.sim.ops.work import Vector, Work


def steps_of(kind: str, host: Host) -> tuple[int, int]:
    """(additions, multiplications) of one element operation."""
    exp = (host.exp_terms, host.exp_terms)  # Horner: one multiply-add per term
    reciprocal = (host.reciprocal_steps, 2 * host.reciprocal_steps)  # x <- x (2 - a x)
    rsqrt = (1 + host.rsqrt_steps, 1 + 3 * host.rsqrt_steps)  # seed by subtraction, x <- x (1.5 - a/2 x x)
    table = {
        "add": (1, 0),
        "max": (1, 0),
        "cmp": (1, 0),
        "cast": (1, 0),
        "select": (1, 0),
        "mul": (0, 1),
        "div": (reciprocal[0], reciprocal[1] + 1),
        "sqrt": (rsqrt[0], rsqrt[1] + 1),
        "rsqrt": rsqrt,
        "exp": exp,
        # tanh, and erf without a series of its own, through exp and a reciprocal
        "tanh": (exp[0] + reciprocal[0] + 2, exp[1] + reciprocal[1] + 1),
        "erf": (
            (host.erf_terms, host.erf_terms + 3)  # x x, a multiply-add per term, times x and 2 / sqrt(pi)
            if host.erf_terms
            else (exp[0] + reciprocal[0] + 6, exp[1] + reciprocal[1] + 7)
        ),
        "log": exp,
        "trig": exp,
        "pow": (exp[0] * 2, exp[1] * 2 + 1),
    }
    return table[kind]


def cycles_of(ops: tuple[tuple[str, int], ...], passes: int, host: Host) -> int:
    """Host cycles of element operations: bound by the scarcer of adders and multipliers when chained."""
    adds = muls = 0
    for kind, count in ops:
        a, m = steps_of(kind, host)
        adds += a * count
        muls += m * count
    add_cycles, mul_cycles = -(-adds // host.adders), -(-muls // host.multipliers)
    busy = max(add_cycles, mul_cycles) if host.chained else add_cycles + mul_cycles
    return busy + passes * host.pipeline_cycles


def vector_cycles(work: Work, host: Host, activation: str = "") -> int:
    """A VECTOR op; a reducing one makes two passes over its rows. GELU is one routine with the series of
    erf, whichever form the model was written in (a tanh of x + a x**3 approximates the same function)."""
    assert work.vector is not None
    if work.vector.kept:
        return sort_cycles(work.vector, host)
    ops = work.vector.ops
    if activation == "Gelu" and host.erf_terms:
        bent = dict(ops).get("tanh", 0)  # tanh(c x + c a x**3) has two products and a sum more than erf(x c)
        fewer = {"tanh": bent, "mul": 2 * bent, "add": bent}
        ops = (*((kind, count - fewer.get(kind, 0)) for kind, count in ops), ("erf", bent))
    return cycles_of(ops, 2 if work.vector.reduces else 1, host)


def sort_cycles(vector: Vector, host: Host) -> int:
    """Rows sorted by a bitonic network laid over the adders, one compare-exchange each; an instruction is one
    layer of the network, and a layer of one row keeps at most half as many adders busy as it has elements."""
    lanes = min(host.adders, max(vector.rows * vector.cols // 2, 1))
    depth = max(vector.cols - 1, 1).bit_length()
    return -(-vector.compare_exchanges // lanes) + depth * (depth + 1) // 2 * host.pipeline_cycles


def softmax_ops(rows: int, elements: int, queries: int) -> tuple[tuple[str, int], ...]:
    """The scale on `queries` values of q; then per score maximum, subtract, exponential, sum, and a product
    with the row's reciprocal."""
    return (
        ("mul", queries + elements),
        ("max", elements),
        ("add", 2 * elements),
        ("exp", elements),
        ("div", rows),
    )


def move_cycles(nbytes: int, host: Host) -> int:
    """Copying inside the host's SRAM."""
    return -(-nbytes // host.sram_bytes_per_cycle) + host.pipeline_cycles
