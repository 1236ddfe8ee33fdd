"""Random operators of onnxruntime's own domain, as far as its CPU provider runs them."""

from __future__ import annotations

import numpy as np
from random_operators import Draw, Drawn, draws

DOMAIN = "com.microsoft"


def contrib(*ops: str) -> object:
    return draws(*(f"{DOMAIN}::{op}" for op in ops))


def name_of(key: str) -> str:
    return key.split("::")[1]


@contrib("MatMulNBits")
def matmul_nbits(d: Draw, _key: str) -> Drawn:
    bits, block, n, k = d.pick(2, 4, 4, 8), d.pick(16, 32), d.integer(1, 5), d.pick(32, 40, 64)
    blocks = -(-k // block)
    constants = {
        "B": d.integers((n, blocks, block * bits // 8), 0, 255, "uint8"),
        "s": d.positive((n, blocks)),
    }
    names = ["x", "B", "s"]
    if d.flag():
        packed = d.flag()
        shape = (n, -(-blocks * bits // 8)) if packed else (n, blocks)
        constants["z"] = d.integers(shape, 0, 255, "uint8") if packed else d.floats(shape)
        names.append("z")
    if d.flag():
        constants["b"] = d.floats((n,))
        names += [""] * (5 - len(names)) + ["b"]
    attrs = {"bits": bits, "block_size": block, "N": n, "K": k}
    return Drawn("MatMulNBits", {"x": d.floats((2, 3, k))}, attrs, constants, names, domain=DOMAIN)


@contrib("MatMulBnb4")
def matmul_bnb4(d: Draw, _key: str) -> Drawn:
    n, k, block = d.integer(1, 4), d.pick(16, 32), 16
    constants = {"B": d.integers((n * k // 2,), 0, 255, "uint8"), "s": d.positive((n * k // block,))}
    attrs = {"quant_type": d.flag(), "block_size": block, "N": n, "K": k}
    return Drawn("MatMulBnb4", {"x": d.floats((3, k))}, attrs, constants, domain=DOMAIN)


@contrib("GatherBlockQuantized")
def gather_blocks(d: Draw, _key: str) -> Drawn:
    rows, width, bits = 6, 32, d.pick(4, 8)
    constants = {"t": d.integers((rows, width * bits // 8), 0, 255, "uint8")}
    feeds = {"i": d.integers((2, 3), 0, rows - 1)}
    constants["s"] = d.positive((rows, width // 16))
    attrs = {"bits": bits, "block_size": 16, "quantize_axis": 1, "gather_axis": 0}
    return Drawn("GatherBlockQuantized", feeds, attrs, constants, ("t", "i", "s"), domain=DOMAIN)


@contrib("MoE")
def mixture(d: Draw, _key: str) -> Drawn:
    experts, tokens, width, inner, k = 4, 5, 8, 6, d.integer(1, 3)
    kind = d.pick("relu", "gelu", "silu", "identity", "swiglu")
    wide = 2 * inner if kind == "swiglu" else inner
    constants = {"w1": d.floats((experts, wide, width))}
    names = ["x", "r", "w1", "", "w2", ""]
    if d.flag():
        constants["b1"], names[3] = d.floats((experts, wide)), "b1"
    constants["w2"] = d.floats((experts, width, inner))
    if d.flag():
        constants["b2"], names[5] = d.floats((experts, width)), "b2"
    attrs = {"k": k, "activation_type": kind} | d.some(normalize_routing_weights=1)
    if kind == "swiglu":
        attrs |= {"swiglu_fusion": 1} | d.some(activation_alpha=1.7, activation_beta=1.0, swiglu_limit=2.0)
    feeds = {"x": d.floats((tokens, width)), "r": d.floats((tokens, experts))}
    while not names[-1]:
        names.pop()
    return Drawn("MoE", feeds, attrs, constants, names, domain=DOMAIN, tolerance=1e-3)


@contrib("QMoE")
def quantised_mixture(d: Draw, _key: str) -> Drawn:
    experts, tokens, width, inner, bits = 3, 4, 32, 16, d.pick(4, 8)
    kind = d.pick("relu", "silu", "swiglu")
    wide = 2 * inner if kind == "swiglu" else inner
    block = d.pick(0, 16)
    sizes = [(wide, width), (width, inner)]
    constants = {}
    for i, (n, m) in enumerate(sizes, 1):
        constants[f"w{i}"] = d.integers((experts, n, m * bits // 8), 0, 255, "uint8")
        shape = (experts, n, m // block) if block else (experts, n)
        constants[f"s{i}"] = d.positive(shape) / 20
    names = ["x", "r", "w1", "s1", "", "w2", "s2"]
    # the CPU provider normalises whatever it is told
    attrs = {"k": d.integer(1, 2), "activation_type": kind, "expert_weight_bits": bits}
    attrs |= {"normalize_routing_weights": 1}
    if block:
        attrs["block_size"] = block
    if kind == "swiglu":
        attrs |= {"swiglu_fusion": 1}
    feeds = {"x": d.floats((tokens, width)), "r": d.floats((tokens, experts))}
    return Drawn("QMoE", feeds, attrs, constants, names, domain=DOMAIN, tolerance=1e-2)


@contrib("FusedConv")
def fused_conv(d: Draw, _key: str) -> Drawn:
    feeds = {"x": d.floats((1, 2, 5, 5)), "w": d.floats((3, 2, 2, 2)), "b": d.floats((3,))}
    if d.flag():
        feeds["z"] = d.floats((1, 3, 4, 4))
    kind = d.pick("Relu", "Tanh", "LeakyRelu", "Clip", "HardSigmoid")
    attrs = {"activation": kind}
    if kind == "LeakyRelu":
        attrs["activation_params"] = [0.3]
    elif kind in ("Clip", "HardSigmoid"):
        attrs["activation_params"] = [0.1, 0.6]
    return Drawn("FusedConv", feeds, attrs, domain=DOMAIN)


@contrib("FusedGemm", "FusedMatMul", "TransposeMatMul")
def fused_product(d: Draw, key: str) -> Drawn:
    op = name_of(key)
    ta, tb = d.flag(), d.flag()
    feeds = {"a": d.floats((4, 3) if ta else (3, 4)), "b": d.floats((5, 4) if tb else (4, 5))}
    attrs = {"transA": ta, "transB": tb} | d.some(alpha=0.7)
    if op == "FusedGemm":
        feeds["c"] = d.floats((5,))
        attrs["activation"] = d.pick("Relu", "Tanh", "Sigmoid")
    return Drawn(op, feeds, attrs, domain=DOMAIN)


@contrib("Gelu", "FastGelu", "BiasGelu", "QuickGelu")
def gelus(d: Draw, key: str) -> Drawn:
    feeds = {"x": d.floats((2, 5))} | (
        {"b": d.floats((5,))} if name_of(key) in ("BiasGelu", "FastGelu") else {}
    )
    return Drawn(name_of(key), feeds, domain=DOMAIN)


@contrib("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norms(d: Draw, key: str) -> Drawn:
    feeds = {"x": d.floats((2, 3, 8)), "s": d.floats((2, 3, 8)), "g": d.floats((8,))}
    if name_of(key) == "SkipLayerNormalization":
        feeds["b"] = d.floats((8,))
    if d.flag():
        feeds["bias"] = d.floats((8,))
    return Drawn(name_of(key), feeds, {"epsilon": 1e-5}, domain=DOMAIN)


@contrib("LinearAttention")
def linear_attention(d: Draw, _key: str) -> Drawn:
    batch, tokens, groups, per, dk, dv = 2, d.integer(1, 4), 2, d.integer(1, 2), 4, 4
    rule = d.pick("linear", "gated", "delta", "gated_delta")
    heads = groups * per
    feeds = {"q": d.floats((batch, tokens, heads * dk), scale=0.5)}
    feeds |= {
        "k": d.floats((batch, tokens, groups * dk), scale=0.5),
        "v": d.floats((batch, tokens, groups * dv)),
    }
    feeds |= {"s": d.floats((batch, groups, dk, dv))}
    names = ["q", "k", "v", "s", "", ""]
    if "gated" in rule:
        feeds["g"], names[4] = -d.positive((batch, tokens, groups)), "g"
    if "delta" in rule:
        feeds["b"], names[5] = d.positive((batch, tokens, groups)) / 3, "b"
    while not names[-1]:
        names.pop()
    attrs = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": rule}
    return Drawn("LinearAttention", feeds, attrs, inputs=names, outputs=2, domain=DOMAIN, tolerance=1e-3)


@contrib("CausalConvWithState")
def causal_conv(d: Draw, _key: str) -> Drawn:
    feeds = {"x": d.floats((2, 3, d.integer(1, 5))), "w": d.floats((3, 1, 4)), "b": d.floats((3,))}
    feeds["s"] = d.floats((2, 3, 3))
    attrs = d.some(activation=d.pick("silu", "none"))
    return Drawn("CausalConvWithState", feeds, attrs, outputs=2, domain=DOMAIN)


@contrib("GatedRMSNorm", "GatedAdd")
def gated(d: Draw, key: str) -> Drawn:
    x, op = d.floats((2, 3, 8)), name_of(key)
    if op == "GatedAdd":
        return Drawn(op, {"x": x, "y": d.floats((2, 3, 8)), "g": d.floats((2, 3, 1))}, domain=DOMAIN)
    feeds = {"x": x, "s": d.floats((4,)), "g": d.floats((2, 3, 8))}
    return Drawn(op, feeds, {"epsilon": 1e-5, "activation": d.pick("silu", "sigmoid")}, domain=DOMAIN)


@contrib("MultiHeadAttention")
def multi_head(d: Draw, _key: str) -> Drawn:
    heads, width, q_len, keys = 2, 4, d.integer(1, 3), d.integer(1, 4)
    shape = (2, keys, heads * width)
    feeds = {"q": d.floats((2, q_len, heads * width)), "k": d.floats(shape), "v": d.floats(shape)}
    return Drawn(
        "MultiHeadAttention", feeds, {"num_heads": heads} | d.some(scale=0.4), domain=DOMAIN, tolerance=1e-3
    )


@contrib("QLinearAdd", "QLinearMul")
def quantised_pair(d: Draw, key: str) -> Drawn:
    scale = lambda: d.positive(()) / 10  # noqa: E731
    feeds = {"a": d.integers((3, 4), 0, 255, "uint8"), "b": d.integers((3, 4), 0, 255, "uint8")}
    constants = {n: np.asarray(scale()) for n in ("sa", "sb", "sy")}
    constants |= {n: np.asarray(128, "uint8") for n in ("za", "zb", "zy")}
    names = ("a", "sa", "za", "b", "sb", "zb", "sy", "zy")
    return Drawn(name_of(key), feeds, {}, constants, names, domain=DOMAIN)
