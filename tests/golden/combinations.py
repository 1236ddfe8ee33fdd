"""What the golden runs are: models small enough for the suite, larger presets, and the targets they run on.

The small models are built here: files written by hand as foreign exporters write them, and configurations
that tetrasim exports itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto
from onnx_models import f32, ints, model, node, saved
from tiny_onnx import mlp

import tetrasim

Setting = str | int | float | bool

_DECODER = {
    "architecture": "decoder",
    "title": "small decoder",
    "width": 64,
    "layers": 2,
    "heads": 4,
    "ffn_width": 128,
    "activation": "gelu",
    "norm": "layer",
    "positions": "learned",
    "context": 256,
    "input": {"kind": "tokens", "vocab": 300},
    "head": {"kind": "lm"},
}
CONFIGURATIONS: dict[str, dict[str, object]] = {
    "small-gpt": _DECODER,
    "small-llama": {
        **_DECODER,
        "kv_heads": 2,
        "attention_bias": False,
        "gated": True,
        "activation": "silu",
        "ffn_bias": False,
        "norm": "rms",
        "positions": "rotary",
        "head": {"kind": "lm", "tied": False},
    },
    "small-encoder": {
        **_DECODER,
        "architecture": "encoder",
        "activation": "relu",
        "context": 0,
        "input": {"kind": "features", "tokens": 12, "features": 6, "project": True},
        "head": {"kind": "classifier", "pool": "mean", "classes": 5, "output": "none"},
        "width": 16,
        "ffn_width": 24,
        "heads": 2,
    },
}


def _attention() -> onnx.ModelProto:
    """A causal block as scripted exporters write it: separate projections, a mask that is added."""
    width, heads, tokens = 32, 4, 24
    mask = np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)
    weights = {name: f32(width, width, seed=i) / 8 for i, name in enumerate(("wq", "wk", "wv", "wo"))}
    weights |= {"split": ints(1, tokens, heads, width // heads), "join": ints(1, tokens, width), "mask": mask}
    weights |= {"scale": np.float32(8**-0.5), "gain": f32(width, seed=5), "shift": f32(width, seed=6)}
    nodes = [node("LayerNormalization", ["x", "gain", "shift"], ["n"], axis=-1)]
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["n", f"w{name}"], [name]),
            node("Reshape", [name, "split"], [f"{name}_split"]),
            node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=order),
        ]
    nodes += [
        node("MatMul", ["q_heads", "k_heads"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Add", ["scaled", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v_heads"], ["mixed"]),
        node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "join"], ["joined"]),
        node("MatMul", ["joined", "wo"], ["out"]),
        node("Add", ["x", "out"], ["y"]),
    ]
    return model(nodes, {"x": (1, tokens, width)}, ["y"], weights)


def _convolution() -> onnx.ModelProto:
    weights = {"w1": f32(8, 3, 3, 3), "b1": f32(8), "w2": f32(16, 8, 3, 3), "wf": f32(16, 10)}
    weights |= {
        "g": f32(8, seed=1),
        "s": f32(8, seed=2),
        "m": f32(8, seed=3),
        "v": np.abs(f32(8, seed=4)) + 1,
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "g", "s", "m", "v"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p2"]),
        node("Flatten", ["p2"], ["flat"]),
        node("Gemm", ["flat", "wf"], ["y"]),
    ]
    return model(nodes, {"x": (1, 3, 16, 16)}, ["y"], weights)


def _recurrent() -> onnx.ModelProto:
    weights = {"w": f32(1, 48, 8), "r": f32(1, 48, 16), "b": f32(1, 96)}
    nodes = [node("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=16, linear_before_reset=1)]
    return model(nodes, {"x": (10, 1, 8)}, ["y"], weights)


def _quantised() -> onnx.ModelProto:
    """A matrix product as quantising exporters write it: quantise, dequantise, multiply."""
    weights: dict[str, np.ndarray] = {
        "w": np.random.default_rng(0).integers(-127, 127, (32, 32)).astype(np.int8),
        "s": np.float32(0.02),
        "z": np.int8(0),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        node("MatMul", ["xd", "wd"], ["h"]),
        node("Relu", ["h"], ["y"]),
    ]
    return model(nodes, {"x": (16, 32)}, ["y"], weights)


def _experts() -> onnx.ModelProto:
    """Rows chosen at run time: a table, the two best of eight scores, and a weighted sum of their rows."""
    weights = {"table": f32(100, 32), "router": f32(32, 8), "rows": f32(8, 32), "two": ints(2)}
    nodes = [
        node("Gather", ["table", "ids"], ["x"]),
        node("MatMul", ["x", "router"], ["scores"]),
        node("TopK", ["scores", "two"], ["best", "which"], axis=-1),
        node("Softmax", ["best"], ["shares"], axis=-1),
        node("Gather", ["rows", "which"], ["picked"]),
        node("Unsqueeze", ["shares", "last"], ["column"]),
        node("Mul", ["picked", "column"], ["weighted"]),
        node("ReduceSum", ["weighted", "middle"], ["y"], keepdims=0),
    ]
    weights |= {"last": ints(-1), "middle": ints(1)}
    return model(nodes, {"ids": (12,)}, ["y"], weights, types={"ids": TensorProto.INT64})


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": lambda: mlp(rows=8),
    "mlp-row": lambda: mlp(rows=1),
    "attention": _attention,
    "convolution": _convolution,
    "recurrent": _recurrent,
    "quantised": _quantised,
    "experts": _experts,
}


@dataclass(frozen=True, slots=True)
class Combination:
    """One golden: a model on a target (`on` empty: an HLS project) with settings; `slow` ones are presets."""

    name: str
    model: str
    on: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    prompt: int | None = None
    generate: int = 0
    batch: int = 1
    hls: Mapping[str, Setting] = field(default_factory=dict)
    slow: bool = False


def model_path(name: str, folder: Path) -> str:
    """The model as a command names it; one that is built here is written to `folder` first."""
    if name in FILES:
        return str(saved(FILES[name](), folder, f"{name}.onnx"))
    if name in CONFIGURATIONS:
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(CONFIGURATIONS[name]), encoding="utf-8")
        return str(tetrasim.export(file).folder)  # from the cache of exports, which takes torch only once
    return name


def _small() -> list[Combination]:
    out = [
        Combination(f"{name}-{on.replace('/', '-')}", name, on)
        for name in (f for f in FILES if f != "mlp-row")
        for on in ("gpu/t4", "cpu/xeon-6154", "pim/pim-gpt")
    ]
    tokens = {"prompt": 20, "generate": 3}
    out += [
        Combination(f"{name}-{on.replace('/', '-')}", name, on, **tokens)
        for name in ("small-gpt", "small-llama")
        for on in ("gpu/h100-sxm", "cpu/apple-m2", "pim/aim", "pim/hbm-pim", "fpga/u280")
    ]
    options: tuple[tuple[str, str, str, dict[str, Setting]], ...] = (
        ("eager", "small-gpt", "gpu/a100-sxm4-80gb", {"launch": "eager"}),
        ("grouped", "small-gpt", "gpu/a100-sxm4-80gb", {"attention": "grouped"}),
        ("int8", "small-gpt", "gpu/t4", {"precision": "int8"}),
        ("float8", "small-llama", "gpu/h100-sxm", {"precision": "float8"}),
        ("threads", "small-llama", "cpu/xeon-6154", {"threads": 4}),
        ("int8", "small-llama", "pim/pim-gpt", {"precision": "int8"}),
        ("exact", "small-llama", "pim/aim", {"exact_slow": True}),
        ("overlay", "small-encoder", "fpga/zcu102", {"mapping": "overlay"}),
        ("spatial", "small-encoder", "fpga/zcu102", {"mapping": "spatial"}),
        ("batch", "small-encoder", "gpu/v100-pcie-32gb", {}),
    )
    for option, name, on, settings in options:
        length = {} if name == "small-encoder" else tokens
        batch = 4 if option == "batch" else 1
        title = f"{name}-{on.replace('/', '-')}-{option}"
        out.append(Combination(title, name, on, settings, batch=batch, **length))
    for title, name, hls in (
        ("mlp", "mlp-row", {"reuse": 2}),
        ("encoder-stream", "small-encoder", {"reuse": 1, "io": "stream"}),
        ("encoder-parallel", "small-encoder", {"reuse": 4, "io": "parallel", "bits": 10}),
    ):
        out.append(Combination(f"hls-{title}", name, hls=hls))
    return out


def _large() -> list[Combination]:
    out = []
    for name, targets in {
        "gpt2-small": ("gpu/t4", "gpu/h100-sxm", "pim/pim-gpt", "cpu/xeon-6154", "fpga/u280"),
        "bert-base": ("gpu/a100-sxm4-80gb", "cpu/epyc-9654", "pim/aim", "fpga/vu9p"),
        "vit-b16": ("gpu/l4", "cpu/graviton3"),
        "llama2-7b": ("gpu/h200-sxm", "pim/hbm-pim", "fpga/flightllm"),
    }.items():
        generate = 0 if name in ("bert-base", "vit-b16") else 16
        for on in targets:
            title = f"{name}-{on.replace('/', '-')}"
            out.append(Combination(title, name, on, generate=generate, slow=True))
    out += [
        Combination(f"hls-{name}", name, hls={"reuse": 4}, slow=True)
        for name in ("jet-btag", "digits-tiny", "car-engine")
    ]
    return out


COMBINATIONS = {c.name: c for c in (*_small(), *_large())}
