"""The configuration struct of each extension layer, as C++ text. Every number comes from the plan, none from
a name."""

from __future__ import annotations

from dataclasses import fields
from math import ceil, log2

import numpy as np

from tetrasim.hw_targets.fpga.hls import emulate as e
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Floats, Ints, Layer, Plan, Shape
from tetrasim.hw_targets.fpga.hls.schedule import Move, join_schedule, move_schedule
from tetrasim.hw_targets.fpga.hls.units import multiplier, ratio_of


def extension(plan: Plan, layer: Layer, reuse: int) -> tuple[str, str] | None:
    """Kernel name and struct body of `layer`, None when hls4ml's own layer is used."""
    made = _array_kernel(plan, layer, reuse)
    if made is None or not plan.streamed:
        return made
    kernel, body = made
    return f"{kernel}_stream", "\n".join([body, *_pace(plan, layer)])


def _pace(plan: Plan, layer: Layer) -> list[str]:
    """When a moving layer reads and writes its rows (`schedule.py`)."""
    if not isinstance(layer, p.Select | p.Concat):
        return []
    first, *second = moves(plan, layer)
    pace = {f.name: getattr(first, f.name) for f in fields(first)}
    if second:
        pace["read_b_every"] = second[0].read_every
    return [_number(name, value) for name, value in pace.items()]


def moves(plan: Plan, layer: p.Select | p.Concat) -> tuple[Move, ...]:
    """The schedule of each input of a moving layer in a streamed plan."""
    shapes = [plan.layer(i).shape for i in layer.inputs]
    if isinstance(layer, p.Select):
        return (move_schedule(layer.index, *_rows(shapes[0]), layer.shape[0]),)
    return join_schedule(layer.index, (_rows(shapes[0]), _rows(shapes[1])), layer.shape[0])


def _rows(shape: Shape) -> tuple[int, int]:
    rows, width = shape
    return rows, width


def _array_kernel(  # noqa: C901 - one case per primitive
    plan: Plan, layer: Layer, reuse: int
) -> tuple[str, str] | None:
    of = [plan.types[i].result for i in layer.inputs]
    sizes = [plan.layer(i).size for i in layer.inputs]
    t = plan.types[layer.name]
    kernel, lines = "", [_number("n_out", layer.size), _number("reuse_factor", max(reuse, 1))]
    match layer:
        case p.Select():
            kernel, lines = "ts_select", [*lines, _number("n_in", sizes[0]), _ints("index", layer.index)]
        case p.Concat():
            lines += [_number("n_a", sizes[0]), _number("n_b", sizes[1]), _ints("index", layer.index)]
            kernel = "ts_concat"
        case p.Binary():
            kernel = f"ts_{layer.kind}"
        case p.Affine():
            kernel, lines = "ts_affine", [*lines, *_affine(plan, layer, t, of[0])]
        case p.Lookup():
            kernel, lines = "ts_lookup", [*lines, *_lookup(layer, t.result)]
        case p.Softmax():
            kernel, lines = (
                "ts_softmax",
                [*lines, _number("cols", layer.cols), *_softmax(layer.entries, layer.cols)],
            )
        case p.Attention():
            kernel = "ts_attention_keyed" if layer.keyed else "ts_attention"
            lines += _attention(layer, t, of, sizes)
        case p.Product():
            kernel, lines = "ts_product", [*lines, *_product(layer, of, sizes)]
        case p.Norm():
            kernel, lines = "ts_norm", [*lines, *_norm(layer, t, of[0])]
        case p.Reduce():
            kernel = "ts_max" if layer.kind == "max" else "ts_sum"
            lines += [_number("n_in", sizes[0]), *_reduce(layer, of[0])]
        case p.Grid() | p.Rescale():
            kernel, lines = "ts_rescale", [*lines, *_rescale(plan, layer, of[0])]
        case p.Embed():
            rows, cols = layer.table.shape
            lines += [_number("n_in", sizes[0]), _number("rows", rows), _number("cols", cols)]
            kernel, lines = "ts_embed", [*lines, _table("table", t.result, layer.table)]
        case _:
            return None
    return kernel, "\n".join(lines)


def _affine(plan: Plan, layer: p.Affine, t: p.Types, of: Fixed) -> list[str]:
    assert t.weight is not None
    period = layer.size
    if plan.streamed:
        both = np.stack([layer.scale, layer.offset]).reshape(2, *layer.shape)
        period = layer.shape[1] if (both == both[:, :1]).all() else layer.size
    fraction = of.fraction + t.weight.fraction
    offset = np.round(layer.offset * 2.0**fraction) / 2.0**fraction
    whole = of.integer + t.weight.integer + 2 + ceil(log2(float(np.abs(offset).max()) + 1))
    wide = Fixed(fraction + whole, whole)
    scale = _table("scale", t.weight, layer.scale[:period])
    wide_type = f"    typedef {wide.cpp} wide_t;"
    return [_number("period", period), wide_type, scale, _table("offset", wide, offset[:period])]


def _rescale(plan: Plan, layer: p.Grid | p.Rescale, of: Fixed) -> list[str]:
    """One multiplier for all elements, one per column or one per element."""
    factor, shift = multiplier(ratio_of(plan, layer), of.bits)
    if plan.streamed and factor.size > 1:
        rows = factor.reshape(layer.shape)
        factor = rows[0] if (rows == rows[0]).all() else factor
    bits = int(factor.max()).bit_length() + 1
    low, high = (layer.low, layer.high) if isinstance(layer, p.Grid) else (0, 0)
    return [
        _number("period", factor.size),
        _number("factor_bits", bits),
        f"    static const int drop = {shift + of.fraction};",
        f"    static const bool clips = {str(isinstance(layer, p.Grid)).lower()};",
        f"    static const int low = {low};",
        f"    static const int high = {high};",
        _raw_table("factor", Fixed(bits, bits), factor),
    ]


def _product(layer: p.Product, of: list[Fixed], sizes: list[int]) -> list[str]:
    dims = {
        "groups": layer.groups,
        "m": layer.m,
        "k": layer.k,
        "n": layer.n,
        "n_a": sizes[0],
        "n_b": sizes[1],
    }
    return [*(_number(n, v) for n, v in dims.items()), _sum_type("sum_t", of[0], of[1], layer.k)]


def _number(name: str, value: int) -> str:
    return f"    static const unsigned {name} = {int(value)};"


def _ints(name: str, values: Ints) -> str:
    listed = ",".join(str(int(v)) for v in values.reshape(-1))
    body = f"static const int t[{values.size}] = {{{listed}}}; return t[i];"
    return f"    static int {name}(unsigned i) {{ {body} }}"


def _table(name: str, of: Fixed, values: Floats) -> str:
    """A constant array; the numbers are quantised here, so that the compiler rounds nothing."""
    return _raw_table(name, of, of.raw(values))


def _raw_table(name: str, of: Fixed, raw: Ints) -> str:
    """Raw bits as plain integers: a ROM for synthesis, and quick to compile (no constructors run)."""
    listed = ",".join(str(int(v)) for v in raw.reshape(-1))
    kind = "long long" if of.bits > 31 else "int"
    body = f"static const {kind} t[{raw.size}] = {{{listed}}}; {of.cpp} v; v.range({of.bits - 1}, 0) = "
    body += f"ap_int<{of.bits}>(t[i]).range({of.bits - 1}, 0); return v;"
    return f"    static {of.cpp} {name}(unsigned i) {{ {body} }}"


def _value(name: str, cpp: str, value: float) -> str:
    return f"    static {cpp} {name}() {{ return {cpp}({value!r}); }}"


def _constant(name: str, value: float) -> str:
    """An integer constant of `SCALE_BITS` bits with its own binary point."""
    count, shift = e.scale_constant(value)
    bits = e.SCALE_BITS + 1
    return _value(name, f"ap_ufixed<{bits},{bits - shift}>", count / 2.0**shift)


def _sum_type(name: str, a: Fixed, b: Fixed, terms: int, extra: int = 0) -> str:
    whole = a.integer + b.integer + ceil(log2(max(terms, 1))) + 1 + extra
    return f"    typedef ap_fixed<{whole + a.fraction + b.fraction},{whole}> {name};"


def _lookup(layer: p.Lookup, res: Fixed) -> list[str]:
    above = 0.0 if layer.above is None else layer.above
    return [
        _number("entries", layer.entries),
        _number("shift", int(log2(layer.entries / (2 * layer.reach)))),
        _number("identity_above", int(layer.above is None)),
        _value("below", res.cpp, float(res.quantise(np.array(layer.below)))),
        _value("above", res.cpp, float(res.quantise(np.array(above)))),
        _raw_table("table", res, e.lookup_table(layer, res)),
    ]


def _softmax(entries: int, cols: int) -> list[str]:
    return [
        _number("entries", entries),
        _number("log2_entries", int(log2(entries))),
        _number("exp_shift", int(log2(entries / e.EXP_REACH))),
        _number("log2_cols", max(ceil(log2(cols)), 1)),
        _raw_table("exp_table", e.EXP, e.exp_table(entries)),
        _raw_table("inv_table", e.EXP, e.inverse_table(entries)),
    ]


def _attention(layer: p.Attention, t: p.Types, of: list[Fixed], sizes: list[int]) -> list[str]:
    assert t.score is not None
    assert t.inner is not None
    sizes_of = {
        "heads": layer.heads,
        "kv_heads": layer.kv_heads,
        "q_len": layer.q_len,
        "kv_len": layer.kv_len,
        "head_dim": layer.head_dim,
        "v_head_dim": layer.v_head_dim,
        "n_q": sizes[0],
        "n_k": sizes[1],
        "n_v": sizes[2],
        "n_m": sizes[3] if layer.keyed else 1,
    }
    for array, step in zip("qkvo", layer.strides, strict=True):
        sizes_of |= {f"{array}{axis}": n for axis, n in zip("hsd", step, strict=True)}
    return [
        *(_number(n, v) for n, v in sizes_of.items()),
        f"    typedef {t.score.cpp} score_t;",
        f"    typedef {t.inner.cpp} prob_t;",
        _sum_type("qk_t", of[0], of[1], layer.head_dim),
        _sum_type("pv_t", t.inner, of[2], layer.kv_len, 1),
        *_attention_mask(layer, of),
        _constant("scale", layer.scale),
        *_softmax(layer.entries, layer.kv_len),
    ]


def _attention_mask(layer: p.Attention, of: list[Fixed]) -> list[str]:
    """Which keys a query sees, and what is added to its scores."""
    seen, bias = e.visible(layer), e.bias_of(layer)
    fraction = of[0].fraction + of[1].fraction + e.scale_constant(layer.scale)[1]
    per_head = layer.q_len * layer.kv_len if len(seen) > 1 else 0
    at = f"h * {per_head} + i * {layer.kv_len} + j"
    listed = ",".join(str(int(v)) for v in seen.reshape(-1))
    table = f"static const bool t[{seen.size}] = {{{listed}}}; return t[{at}];"
    table = "return true;" if seen.all() else table
    lines = [
        f"    static const bool keyed = {str(layer.keyed).lower()};",
        f"    static bool sees(unsigned h, unsigned i, unsigned j) {{ {table} }}",
        f"    static int hidden() {{ return {int(e.HIDDEN)}; }}",
    ]
    if layer.mask is None or not bias.any():
        return [*lines, "    static ap_fixed<2,2> bias(unsigned h, unsigned i, unsigned j) { return 0; }"]
    kind = e.bias_type(layer, fraction)
    call = f"    static {kind.cpp} bias(unsigned h, unsigned i, unsigned j) {{ return bias_table({at}); }}"
    return [*lines, _table("bias_table", kind, bias), call]


def _norm(layer: p.Norm, t: p.Types, of: Fixed) -> list[str]:
    assert t.inner is not None
    assert t.score is not None
    assert t.weight is not None
    assert t.bias is not None
    whole = of.integer + ceil(log2(layer.cols)) + 1
    mean = of.fraction + e.scale_constant(1.0 / layer.cols)[1]
    fraction = t.score.fraction + t.weight.fraction
    wide = max(t.score.integer + t.weight.integer, t.bias.integer) + 2
    return [
        _number("cols", layer.cols),
        f"    static const bool centred = {str(layer.centred).lower()};",
        f"    typedef ap_fixed<{whole + of.fraction},{whole}> sum_t;",
        f"    typedef ap_fixed<{whole + mean},{whole}> mean_t;",
        f"    typedef {t.inner.cpp} deviation_t;",
        f"    typedef {t.score.cpp} unit_t;",
        f"    typedef ap_fixed<{wide + fraction},{wide}> wide_t;",
        _constant("count", 1.0 / layer.cols),
        f"    static ap_uint<56> epsilon() {{ return ap_uint<56>({e.norm_epsilon(layer, t.inner)}ULL); }}",
        _number("log2_entries", int(log2(layer.entries))),
        _raw_table("rsqrt_table", e.RSQRT, e.rsqrt_table(layer.entries)),
        _table("scale", t.weight, layer.scale * np.sqrt(layer.cols)),
        _table("offset", t.bias, layer.offset),
    ]


def _reduce(layer: p.Reduce, of: Fixed) -> list[str]:
    dims = [_number("outer", layer.outer), _number("n", layer.n), _number("inner", layer.inner)]
    if layer.kind == "max":
        return dims
    whole = of.integer + ceil(log2(max(layer.n, 2))) + 1
    total = f"    typedef ap_fixed<{whole + of.fraction},{whole}> sum_t;"
    count = (
        _constant("count", 1.0 / layer.n) if layer.kind == "mean" else _value("count", "ap_ufixed<2,2>", 1.0)
    )
    return [*dims, total, count]
