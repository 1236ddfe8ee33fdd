"""Random quantised operators, and the attention family."""

from __future__ import annotations

import numpy as np
from random_operators import Draw, Drawn, draws

BYTES = ("int8", "uint8")


def scale(d: Draw, *shape: int) -> np.ndarray:
    return d.random.uniform(0.02, 0.3, shape).astype(np.float32)


@draws("QuantizeLinear")
def quantise(d: Draw) -> Drawn:
    x = d.floats((3, 4, 2), scale=5)
    per_axis, dtype = d.flag(), d.pick(*BYTES, "int16", "uint16")
    axis = d.axis(3)
    n = (x.shape[axis],) if per_axis else ()
    feeds = {"x": x, "s": scale(d, *n)}
    if d.integer(0, 3):
        feeds["z"] = d.integers(n, 0 if dtype.startswith("u") else -5, 9, dtype)
    return Drawn("QuantizeLinear", feeds, {"axis": axis} if per_axis else {}, opset=21)


@draws("DequantizeLinear")
def dequantise(d: Draw) -> Drawn:
    dtype = d.pick(*BYTES, "int16")
    x = d.numbers((3, 4, 2), dtype)
    per_axis, axis = d.flag(), d.axis(3)
    n = (x.shape[axis],) if per_axis else ()
    rest = {"s": scale(d, *n)} | ({"z": d.integers(n, 0, 9, dtype)} if d.flag() else {})
    attrs = {"axis": axis} if per_axis else {}
    if d.flag():
        return Drawn("DequantizeLinear", {"x": x, **rest}, attrs, opset=21)
    return Drawn("DequantizeLinear", {"x": x}, attrs, rest, opset=21)


@draws("DynamicQuantizeLinear")
def dynamic(d: Draw) -> Drawn:
    return Drawn("DynamicQuantizeLinear", {"x": d.floats(d.shape())}, outputs=3, opset=11)


@draws("MatMulInteger")
def matmul_integer(d: Draw) -> Drawn:
    a, b = d.numbers((2, 3, 4), d.pick(*BYTES)), d.numbers((4, 5), d.pick(*BYTES))
    feeds = {"a": a, "b": b}
    if d.flag():
        feeds["za"] = d.integers((), 0, 5, str(a.dtype))
        if d.flag():
            feeds["zb"] = d.integers(d.pick((), (5,)), 0, 5, str(b.dtype))
    return Drawn("MatMulInteger", feeds, opset=10)


@draws("ConvInteger")
def conv_integer(d: Draw) -> Drawn:
    feeds = {"x": d.numbers((1, 2, 5, 5), "uint8"), "w": d.numbers((3, 2, 2, 2), d.pick(*BYTES))}
    if d.flag():
        feeds["zx"] = d.integers((), 0, 5, "uint8")
    return Drawn("ConvInteger", feeds, d.some(pads=[1, 0, 0, 1], strides=[2, 1]), opset=10)


@draws("QLinearMatMul")
def qlinear_matmul(d: Draw) -> Drawn:
    dtype = d.pick(*BYTES)
    feeds = {
        "a": d.numbers((3, 4), dtype), "sa": scale(d), "za": d.integers((), 0, 5, dtype),
        "b": d.numbers((4, 5), dtype), "sb": scale(d), "zb": d.integers((), 0, 5, dtype),
        "sy": scale(d), "zy": d.integers((), 0, 5, dtype),
    }  # fmt: skip
    return Drawn("QLinearMatMul", feeds, opset=10)


@draws("QLinearConv")
def qlinear_conv(d: Draw) -> Drawn:
    n = d.pick((), (3,))
    constants = {
        "sx": scale(d), "zx": d.integers((), 0, 5, "uint8"), "w": d.numbers((3, 2, 2, 2), "int8"),
        "sw": scale(d, *n), "zw": np.zeros(n, "int8"), "sy": scale(d), "zy": d.integers((), 0, 5, "uint8"),
    }  # fmt: skip
    if d.flag():
        constants["b"] = d.integers((3,), -20, 20, "int32")
    return Drawn(
        "QLinearConv", {"x": d.numbers((1, 2, 5, 5), "uint8")}, d.some(pads=[1, 0, 0, 1]), constants, opset=10
    )


@draws("Attention")
def attention(d: Draw) -> Drawn:
    """Opset 23 and 24: three or four axes, groups, past, masks, causal, soft cap."""
    groups, per, width, batch = d.integer(1, 2), d.integer(1, 3), 4, 2
    heads, q_len, new, past = groups * per, d.integer(1, 4), d.integer(1, 4), d.pick(0, 0, 3)
    flat = d.flag()
    v_width = d.pick(4, 3)
    if flat:
        feeds = {
            "q": d.floats((batch, q_len, heads * width)), "k": d.floats((batch, new, groups * width)),
            "v": d.floats((batch, new, groups * v_width)),
        }  # fmt: skip
        attrs = {"q_num_heads": heads, "kv_num_heads": groups}
    else:
        feeds = {
            "q": d.floats((batch, heads, q_len, width)), "k": d.floats((batch, groups, new, width)),
            "v": d.floats((batch, groups, new, v_width)),
        }  # fmt: skip
        attrs = {}
    names = [*feeds]
    total = past + new
    if d.flag():
        shape = d.pick((q_len, total), (batch, 1, q_len, total), (1, heads, q_len, total))
        feeds["m"] = d.numbers(shape, d.pick("bool", "float32"))
        if feeds["m"].dtype == bool:
            feeds["m"][..., 0] = True
    names.append("m" if "m" in feeds else "")
    if past:
        feeds["pk"], feeds["pv"] = (
            d.floats((batch, groups, past, width)),
            d.floats((batch, groups, past, v_width)),
        )
        names += ["pk", "pv"]
    attrs |= d.some(is_causal=d.flag(), scale=0.3, softcap=2.0)
    outputs = 3 if past else d.pick(1, 4)
    if outputs == 4:
        attrs |= {"qk_matmul_output_mode": d.integer(0, 3)}
        outputs = ("y0", "", "", "y3")
    return Drawn("Attention", feeds, attrs, inputs=names, outputs=outputs, opset=23, tolerance=1e-3)


@draws("RotaryEmbedding")
def rotary(d: Draw) -> Drawn:
    batch, heads, tokens, width = 2, 3, d.integer(1, 4), 8
    rotary_dim = d.pick(0, 0, 4)
    half = (rotary_dim or width) // 2
    attrs = d.some(interleaved=d.flag()) | ({"rotary_embedding_dim": rotary_dim} if rotary_dim else {})
    if d.flag() or rotary_dim:
        x = d.floats((batch, heads, tokens, width))
    else:
        x = d.floats((batch, tokens, heads * width))
        attrs["num_heads"] = heads
    if rotary_dim:
        attrs["num_heads"] = heads
    if d.flag():
        tables = {
            "cos": d.floats((9, half)),
            "sin": d.floats((9, half)),
            "p": d.integers((batch, tokens), 0, 8),
        }
    else:
        tables = {"cos": d.floats((batch, tokens, half)), "sin": d.floats((batch, tokens, half))}
    return Drawn("RotaryEmbedding", {"x": x, **tables}, attrs, opset=23)


@draws("LinearAttention")
def linear_attention(d: Draw) -> Drawn:
    batch, tokens, groups, per, dk, dv = 2, d.integer(1, 5), d.integer(1, 2), d.integer(1, 2), 4, 3
    heads = groups * per
    rule = d.pick("linear", "gated", "delta", "gated_delta")
    feeds = {
        "q": d.floats((batch, tokens, heads * dk), scale=0.5),
        "k": d.floats((batch, tokens, groups * dk), scale=0.5),
        "v": d.floats((batch, tokens, groups * dv)),
    }  # fmt: skip
    names = [*feeds]
    if d.flag():
        feeds["s"] = d.floats((batch, groups, dk, dv))
    names.append("s" if "s" in feeds else "")
    if "gated" in rule:
        feeds["g"] = -d.positive((batch, tokens, groups * d.pick(1, dk)))
    names.append("g" if "g" in feeds else "")
    if "delta" in rule:
        feeds["b"] = d.positive((batch, tokens, groups)) / 3
        names.append("b")
    while not names[-1]:
        names.pop()
    attrs = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": rule} | d.some(scale=0.4)
    return Drawn("LinearAttention", feeds, attrs, inputs=names, outputs=2, opset=27, tolerance=1e-3)


@draws("CausalConvWithState")
def causal_conv(d: Draw) -> Drawn:
    batch, channels, length, k = 2, 3, d.integer(1, 6), d.integer(1, 4)
    feeds = {"x": d.floats((batch, channels, length))}
    constants = {"w": d.floats((channels, 1, k))}
    names = ["x", "w"]
    if d.flag():
        constants["b"] = d.floats((channels,))
    names.append("b" if "b" in constants else "")
    if d.flag() and k > 1:
        feeds["s"] = d.floats((batch, channels, k - 1))
        names.append("s")
    while not names[-1]:
        names.pop()
    attrs = d.some(activation=d.pick("silu", "swish", "none"))
    outputs = 2 if k > 1 else 1
    return Drawn("CausalConvWithState", feeds, attrs, constants, inputs=names, outputs=outputs, opset=27)


@draws("BitCast")
def bit_cast(d: Draw) -> Drawn:
    source, to = d.pick(
        ("float32", 6), ("int32", 1), ("uint32", 1), ("float64", 7), ("int64", 11), ("int8", 2)
    )
    return Drawn("BitCast", {"x": d.numbers(d.shape(), source)}, {"to": to}, opset=26)
