"""The plan in numpy, twice: in real numbers (for ranges and reference) and bit for bit as the C++ computes
it.

Fixed-point values are int64 "raw" integers in units of the last place, so that every step is exact; each
function
below mirrors the kernel of the same name in `firmware/tetrasim_nnet.h` or hls4ml's own (dense, merge, relu).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, log2, sqrt

import numpy as np
from numpy.typing import NDArray

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Floats, Ints, Layer, Plan, Types
from tetrasim.hw_targets.fpga.hls.units import multiplier, ratio_of

NDArrayBool = NDArray[np.bool_]
EXP = Fixed(18, 1, signed=False)  # exp(-d) and 1/m of a mantissa in [1, 2)
EXP_REACH = 16.0  # exp(-16) is below the last place of an 18-bit table
RSQRT = Fixed(18, 1, signed=False)
SCALE_BITS = 16
HIDDEN = -1000.0  # a mask at or below this hides a key


def run_real(plan: Plan, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    """Every layer's value in float64, batch first and flat: [N, size]; rounded only where the model is."""
    known: dict[str, Floats] = {}
    for layer in plan.layers:
        if isinstance(layer, p.Input):
            x = np.asarray(feeds[layer.name], np.float64)
            known[layer.name] = x.reshape(len(x), -1)
        else:
            known[layer.name] = _real(layer, [known[i] for i in layer.inputs])
        if layer.name in plan.clipped:
            known[layer.name] = np.maximum(known[layer.name], 0.0)
        if layer.name in plan.given:
            known[layer.name] = plan.given[layer.name].quantise(known[layer.name])
    return known


def run_fixed(plan: Plan, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    """Every layer's value as the firmware computes it, as real numbers [N, size]."""
    found = run_raw(plan, feeds).items()
    return {name: plan.types[name].result.real(raw) * plan.units.get(name, 1.0) for name, raw in found}


def run_raw(plan: Plan, feeds: Mapping[str, Floats]) -> dict[str, Ints]:
    """Raw integers of every layer, in units of its result type."""
    known: dict[str, Ints] = {}
    for layer in plan.layers:
        types = plan.types[layer.name]
        if isinstance(layer, p.Input):
            x = np.asarray(feeds[layer.name], np.float64)
            known[layer.name] = types.result.raw(x.reshape(len(x), -1))
        else:
            xs, of = [known[i] for i in layer.inputs], [plan.types[i].result for i in layer.inputs]
            if isinstance(layer, p.Grid | p.Rescale):
                known[layer.name] = _rescale(plan, layer, types.result, xs[0], of[0])
            else:
                unit = plan.units.get(layer.inputs[0], np.ones(1))
                known[layer.name] = _fixed(layer, types, xs, of, unit)
    return known


# ---- real numbers ----


def _real(layer: Layer, xs: list[Floats]) -> Floats:  # noqa: C901, PLR0912 - one case per primitive
    """One layer in float64."""
    x, n = xs[0], len(xs[0])
    match layer:
        case p.Dense():
            y = x.reshape(n, -1, layer.weight.shape[0]) @ layer.weight + layer.bias
        case p.Product():
            a = x.reshape(n, layer.groups, layer.m, layer.k)
            y = a @ xs[1].reshape(n, layer.groups, layer.k, layer.n)
        case p.Binary():
            y = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[layer.kind](x, xs[1])
        case p.Affine():
            y = x * layer.scale + layer.offset
        case p.Relu():
            y = np.maximum(x, 0)
        case p.Lookup():
            y = FUNCTIONS[layer.function](x)
        case p.Softmax():
            y = _softmax(x.reshape(n, -1, layer.cols))
        case p.Attention():
            y = _attention_real(layer, xs)
        case p.Norm():
            rows = x.reshape(n, -1, layer.cols)
            rows = rows - rows.mean(-1, keepdims=True) if layer.centred else rows
            y = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + layer.epsilon) * layer.scale + layer.offset
        case p.Select():
            y = np.where(layer.index < 0, 0.0, x[:, layer.index])
        case p.Concat():
            y = np.concatenate(xs, axis=1)[:, layer.index]
        case p.Reduce():
            y = getattr(x.reshape(n, layer.outer, layer.n, layer.inner), layer.kind)(axis=2)
        case p.Grid():
            y = np.clip(np.rint(x / layer.scale), layer.low, layer.high) * layer.scale
        case p.Rescale():
            y = x
        case p.Embed():
            y = layer.table[np.clip(x.astype(np.int64), 0, len(layer.table) - 1)]
        case _:
            raise AssertionError(layer)
    return np.asarray(y, np.float64).reshape(n, -1)


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def heads_of(layer: p.Attention, index: int) -> Ints:
    """Positions in the flat array of q (0), k (1), v (2) or the result (3): [heads, rows, elements]."""
    kv = index in (1, 2)
    rows = layer.kv_len if kv else layer.q_len
    width = layer.head_dim if index in (0, 1) else layer.v_head_dim
    h, r, d = np.ogrid[: layer.heads, :rows, :width]
    head = h * layer.kv_heads // layer.heads if kv else h
    s = layer.strides[index]
    return np.asarray(head * s[0] + r * s[1] + d * s[2], np.int64)


def visible(layer: p.Attention) -> NDArrayBool:
    """[1 or heads, q_len, kv_len]: which keys each query sees."""
    seen = np.ones((1, layer.q_len, layer.kv_len), bool)
    if layer.causal:
        seen = np.tril(seen, layer.kv_len - layer.q_len)
    return seen if layer.mask is None else seen & (layer.mask > HIDDEN)


def bias_of(layer: p.Attention) -> Floats:
    """[1 or heads, q_len, kv_len]: what the mask adds where it hides nothing."""
    if layer.mask is None:
        return np.zeros((1, layer.q_len, layer.kv_len))
    return np.where(layer.mask > HIDDEN, layer.mask, 0.0)


def scores_real(layer: p.Attention, xs: list[Floats]) -> Floats:
    """Scaled and biased scores [N, heads, q_len, kv_len], hidden ones too: calibration needs their range."""
    q, k = (x[:, heads_of(layer, i)] for i, x in enumerate(xs[:2]))
    scores = layer.scale * (q @ np.swapaxes(k, -1, -2)) + bias_of(layer)
    if layer.keyed:
        added = xs[3].reshape(-1, 1, layer.q_len, layer.kv_len)
        scores = scores + np.where(added > HIDDEN, added, 0.0)
    return np.asarray(scores)


def _attention_real(layer: p.Attention, xs: list[Floats]) -> Floats:
    seen = visible(layer)
    if layer.keyed:
        seen = seen & (xs[3].reshape(-1, 1, layer.q_len, layer.kv_len) > HIDDEN)
    scores = np.where(seen, scores_real(layer, xs), 2 * HIDDEN)
    y = _softmax(scores) @ xs[2][:, heads_of(layer, 2)]
    out = np.zeros((len(y), layer.size))
    out[:, heads_of(layer, 3)] = y
    return out


def _erf(x: Floats) -> Floats:
    unique, inverse = np.unique(x, return_inverse=True)
    return np.array([erf(v) for v in unique], np.float64)[inverse].reshape(x.shape)


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -700, 700)))


FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "erf": _erf,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "exp": lambda x: np.exp(np.minimum(x, 0.0)),  # of what is below a maximum
    "log": lambda x: np.log(np.maximum(x, 1.0)),  # of a sum with a 1 in it
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
}


# ---- fixed point ----


def _fixed(  # noqa: C901 - one case per primitive
    layer: Layer, types: Types, xs: list[Ints], of: list[Fixed], unit: Floats
) -> Ints:
    """One layer in raw integers; `of` are the types of its inputs, `unit` that of the first."""
    x, n, res = xs[0], len(xs[0]), types.result
    match layer:
        case p.Dense():
            y = _dense(layer, types, x, of[0], unit)
        case p.Product():
            a = x.reshape(n, layer.groups, layer.m, layer.k)
            y = res.from_raw(
                _exact_matmul(a, xs[1].reshape(n, layer.groups, layer.k, layer.n)),
                sum(f.fraction for f in of),
            )
        case p.Binary():
            y = _binary(layer, res, xs, of)
        case p.Affine():
            assert types.weight is not None
            scaled = x * types.weight.raw(layer.scale)
            fraction = of[0].fraction + types.weight.fraction
            y = res.from_raw(scaled + np.round(layer.offset * 2.0**fraction).astype(np.int64), fraction)
        case p.Relu():
            y = res.from_raw(np.maximum(x, 0), of[0].fraction)
        case p.Lookup():
            y = _lookup(layer, res, x, of[0])
        case p.Softmax():
            rows = x.reshape(n, -1, layer.cols)
            y = res.from_raw(*softmax_raw(rows, of[0], layer.entries, None))
        case p.Attention():
            y = _attention(layer, types, xs, of)
        case p.Norm():
            y = _norm(layer, types, x.reshape(n, -1, layer.cols), of[0])
        case p.Select():
            y = res.from_raw(np.where(layer.index < 0, 0, x[:, layer.index]), of[0].fraction)
        case p.Concat():
            parts = [res.from_raw(v, f.fraction) for v, f in zip(xs, of, strict=True)]
            y = np.concatenate(parts, axis=1)[:, layer.index]
        case p.Reduce():
            y = _reduce(layer, res, x.reshape(n, layer.outer, layer.n, layer.inner), of[0])
        case p.Embed():
            ids = np.clip(x >> of[0].fraction, 0, len(layer.table) - 1)
            y = res.raw(layer.table)[ids]
        case _:
            raise AssertionError(layer)
    return np.asarray(y, np.int64).reshape(n, -1)


def _exact_matmul(a: Ints, b: Ints) -> Ints:
    """Integer product; through float64 BLAS where every partial sum stays below 2**53."""
    bound = float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) * a.shape[-1]
    if bound < 2.0**53:
        return np.asarray(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    return np.asarray(a @ b)


def stored_numbers(layer: p.Dense, unit_in: Floats) -> tuple[Floats, Floats]:
    """Weight and bias as the firmware holds them: in units of the layer."""
    unit = np.ones(1) if layer.unit is None else layer.unit
    bias = layer.bias / (unit * float(unit_in.reshape(-1)[0]))
    weight = layer.weight if layer.unit is None else np.rint(layer.weight / unit)
    return weight, np.asarray(np.rint(bias) if layer.whole_bias else bias, np.float64)


def _rescale(plan: Plan, layer: p.Grid | p.Rescale, res: Fixed, x: Ints, of: Fixed) -> Ints:
    """One multiplication by a constant, one rounding."""
    factor, shift = multiplier(ratio_of(plan, layer), of.bits)
    y = res.from_raw(x * factor, of.fraction + shift)
    return np.clip(y, layer.low, layer.high) if isinstance(layer, p.Grid) else y


def _dense(layer: p.Dense, types: Types, x: Ints, of: Fixed, unit: Floats) -> Ints:
    assert types.weight is not None
    assert types.bias is not None
    weight, offset = stored_numbers(layer, unit)
    total = _exact_matmul(x.reshape(len(x), -1, layer.weight.shape[0]), types.weight.raw(weight))
    fraction = of.fraction + types.weight.fraction
    bias = types.bias.raw(offset) << (fraction - types.bias.fraction)
    return types.result.from_raw(total + bias, fraction)


def _binary(layer: p.Binary, res: Fixed, xs: list[Ints], of: list[Fixed]) -> Ints:
    if layer.kind == "mul":
        return res.from_raw(xs[0] * xs[1], of[0].fraction + of[1].fraction)
    fraction = max(f.fraction for f in of)
    a, b = (x << (fraction - f.fraction) for x, f in zip(xs, of, strict=True))
    return res.from_raw(a + b if layer.kind == "add" else a - b, fraction)


def lookup_table(layer: p.Lookup, res: Fixed) -> Ints:
    """Function values at the entries' positions -reach + i * step, in the result type."""
    step = 2 * layer.reach / layer.entries
    position = np.arange(layer.entries, dtype=np.float64) * step - layer.reach
    return res.raw(FUNCTIONS[layer.function](position))


def _lookup(layer: p.Lookup, res: Fixed, x: Ints, of: Fixed) -> Ints:
    shift = int(log2(layer.entries / (2 * layer.reach)))  # entries per unit
    drop = of.fraction - shift
    nearest = (x + (1 << (drop - 1))) >> drop if drop > 0 else x << -drop
    index = nearest + layer.entries // 2
    y = lookup_table(layer, res)[np.clip(index, 0, layer.entries - 1)]
    y = np.where(index < 0, res.raw(np.array(layer.below)), y)
    high = res.from_raw(x, of.fraction) if layer.above is None else res.raw(np.array(layer.above))
    return np.where(index >= layer.entries, high, y)


def exp_table(entries: int) -> Ints:
    """exp(-i * reach / entries), 18 bits."""
    return EXP.raw(np.exp(-np.arange(entries) * (EXP_REACH / entries)))


def inverse_table(entries: int) -> Ints:
    """1 / m at the middle of each of `entries` pieces of [1, 2)."""
    return EXP.raw(1.0 / (1.0 + (np.arange(entries) + 0.5) / entries))


def softmax_raw(x: Ints, of: Fixed, entries: int, mask: NDArrayBool | None) -> tuple[Ints, int]:
    """Unrounded probabilities over the last axis and their number of fractional bits."""
    low = np.iinfo(np.int64).min // 4
    seen = x if mask is None else np.where(mask, x, low)
    d = seen.max(-1, keepdims=True) - x
    drop = of.fraction - int(log2(entries / EXP_REACH))
    index = (d + (1 << (drop - 1))) >> drop if drop > 0 else d << -drop
    e = np.where((index < entries) & (index >= 0), exp_table(entries)[np.clip(index, 0, entries - 1)], 0)
    e = e if mask is None else np.where(mask, e, 0)
    total = e.sum(-1, keepdims=True)  # at least exp(0): in [1, n]
    octave = np.maximum(np.floor(np.log2(np.maximum(total, 1))).astype(np.int64) - EXP.fraction, 0)
    mantissa = (total >> octave) & ((1 << EXP.fraction) - 1)  # a row that sees nothing sums to 0
    inverse = inverse_table(entries)[mantissa >> (EXP.fraction - int(log2(entries)))]
    top = int(octave.max(initial=0))
    # e * inverse / 2**octave, all with `top` more fractional bits so that nothing is lost
    return (e * inverse) << (top - octave), 2 * EXP.fraction + top


def _attention(layer: p.Attention, types: Types, xs: list[Ints], of: list[Fixed]) -> Ints:
    assert types.score is not None
    assert types.inner is not None
    q, k, v = (x[:, heads_of(layer, i)] for i, x in enumerate(xs[:3]))
    scale, shift = scale_constant(layer.scale)
    raw, fraction = _exact_matmul(q, np.swapaxes(k, -1, -2)) * scale, of[0].fraction + of[1].fraction + shift
    mask: NDArrayBool = visible(layer)
    if layer.mask is not None:
        bias = bias_type(layer, fraction)
        raw = raw + (bias.raw(bias_of(layer)) << (fraction - bias.fraction))
    if layer.keyed:
        key, own = xs[3].reshape(-1, 1, layer.q_len, layer.kv_len), of[3].fraction
        hidden = key <= int(HIDDEN) * 2**own if own >= 0 else key * 2**-own <= int(HIDDEN)
        mask = mask & ~hidden
        common = max(fraction, own)
        raw = (raw << (common - fraction)) + (np.where(hidden, 0, key) << (common - own))
        fraction = common
    score = types.score.from_raw(raw, fraction)
    prob = types.inner.from_raw(*softmax_raw(score, types.score, layer.entries, None if mask.all() else mask))
    y = types.result.from_raw(_exact_matmul(prob, v), types.inner.fraction + of[2].fraction)
    out = np.zeros((len(y), layer.size), np.int64)
    out[:, heads_of(layer, 3)] = y
    return out


def bias_type(layer: p.Attention, fraction: int) -> Fixed:
    """The type of constant biases: no finer than the scores they are added to."""
    largest = float(np.abs(bias_of(layer)).max(initial=0.0))
    whole = int(np.ceil(log2(largest + 1))) + 1
    return Fixed(whole + min(12, fraction), whole)


def scale_constant(scale: float) -> tuple[int, int]:
    """`scale` as an integer of `SCALE_BITS` bits and its fractional bits."""
    shift = SCALE_BITS - 1 - int(np.floor(log2(scale)))
    return round(scale * 2.0**shift), shift


def rsqrt_table(entries: int) -> Ints:
    """1 / sqrt(m) at the middle of each of `entries` pieces of [0, 4); those below 1 are never read."""
    return RSQRT.raw(1.0 / np.sqrt(np.maximum((np.arange(entries) + 0.5) * 4.0 / entries, 1.0)))


def norm_epsilon(layer: p.Norm, deviation: Fixed) -> int:
    """epsilon * cols in units of the squared deviation, at least one so that the octave exists."""
    return max(round(layer.epsilon * layer.cols * 4.0**deviation.fraction), 1)


def _norm(layer: p.Norm, types: Types, x: Ints, of: Fixed) -> Ints:
    """Deviation from the mean, its squared sum in [4**k, 4**(k+1)), table of 1/sqrt, scale and offset."""
    assert types.inner is not None
    assert types.score is not None
    assert types.weight is not None
    assert types.bias is not None
    dev = types.inner
    if layer.centred:
        count, shift = scale_constant(1.0 / layer.cols)
        wide = of.fraction + shift
        mean = x.sum(-1, keepdims=True) * count
        deviation = dev.from_raw((x << shift) - mean, wide)
    else:
        deviation = dev.from_raw(x, of.fraction)
    total = (deviation * deviation).sum(-1, keepdims=True) + norm_epsilon(layer, dev)
    octave = np.zeros_like(total)
    for k in range(1, 28):
        octave = np.where(total >> (2 * k) > 0, k, octave)
    # mantissa m = total / 4**octave in [1, 4), 20 fractional bits; its top bits are the entry
    mantissa = np.where(
        octave > 10, total >> np.maximum(2 * octave - 20, 0), total << np.maximum(20 - 2 * octave, 0)
    )
    inverse = rsqrt_table(layer.entries)[mantissa >> (22 - int(log2(layer.entries)))]
    # deviation / sqrt(total) = raw deviation * inverse / 2**octave: |.| <= 1, no units left
    top = 30
    unit = types.score.from_raw((deviation * inverse) << (top - octave), RSQRT.fraction + top)
    scaled = unit * types.weight.raw(layer.scale * sqrt(layer.cols))
    fraction = types.score.fraction + types.weight.fraction
    offset = types.bias.raw(layer.offset) << (fraction - types.bias.fraction)
    return types.result.from_raw(scaled + offset, fraction)


def _reduce(layer: p.Reduce, res: Fixed, x: Ints, of: Fixed) -> Ints:
    if layer.kind == "max":
        return res.from_raw(x.max(2), of.fraction)
    if layer.kind == "sum":
        return res.from_raw(x.sum(2), of.fraction)
    count, shift = scale_constant(1.0 / layer.n)
    return res.from_raw(x.sum(2) * count, of.fraction + shift)
