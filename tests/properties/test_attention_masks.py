"""How the price of attention moves with its mask, on every kind of target and at any length."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx import numpy_helper as nh

from tetrasim import facade

TARGETS = ("pim/pim-gpt", "gpu/a100-sxm4-80gb", "cpu/xeon-6154", "fpga/u280")
T, HEADS, WIDTH = 4096, 8, 64
N = helper.make_node
_CAUSAL = N("LessOrEqual", ["j", "i"], ["causal"])
_BEHIND = N("Sub", ["i", "j"], ["d"])
_NEAR = N("Less", ["d", "window"], ["near"])

# name -> nodes that make the boolean `m` from positions i [t, 1] and j [1, t]; `window`, `unit` are numbers
MASKS = {
    "full": [N("GreaterOrEqual", ["j", "zero"], ["m"])],
    "causal": [N("LessOrEqual", ["j", "i"], ["m"])],
    "window": [_CAUSAL, _BEHIND, _NEAR, N("And", ["causal", "near"], ["m"])],
    "two_sided": [_BEHIND, N("Abs", ["d"], ["a"]), N("Less", ["a", "window"], ["m"])],
    "sinks": [
        _CAUSAL,
        _BEHIND,
        _NEAR,
        N("Less", ["j", "four"], ["sink"]),
        N("Or", ["near", "sink"], ["some"]),
        N("And", ["some", "causal"], ["m"]),
    ],
    "blocks": [
        N("Div", ["i", "unit"], ["bi"]),
        N("Div", ["j", "unit"], ["bj"]),
        N("Equal", ["bi", "bj"], ["m"]),
    ],
    "dilated": [_BEHIND, N("Mod", ["d", "unit"], ["rem"]), N("Equal", ["rem", "zero"], ["m"])],
}


def _model(kind: str, tokens: int, batch: int, number: int) -> bytes:
    shape = [batch, HEADS, tokens, WIDTH]
    numbers = {"zero": 0, "four": 4, "one": 1, "tokens": tokens, "window": number, "unit": number}
    held = {name: np.array(n, np.int64) for name, n in numbers.items()}
    held |= {"first": np.array([0], np.int64), "second": np.array([1], np.int64)}
    held |= {"low": np.array(-np.inf, np.float32)}
    nodes = [
        N("Range", ["zero", "tokens", "one"], ["r"]),
        N("Unsqueeze", ["r", "second"], ["i"]),
        N("Unsqueeze", ["r", "first"], ["j"]),
        *MASKS[kind],
        N("MatMul", ["q", "kt"], ["s0"]),
        N("Where", ["m", "s0", "low"], ["s1"]),
        N("Softmax", ["s1"], ["p"], axis=-1),
        N("MatMul", ["p", "v"], ["y"]),
    ]
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
    graph = helper.make_graph(
        nodes,
        "g",
        [value("q", shape), value("kt", [batch, HEADS, WIDTH, tokens]), value("v", shape)],
        [value("y", shape)],
        [nh.from_array(a, n) for n, a in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@lru_cache(maxsize=256)
def run(target: str, kind: str, tokens: int = T, batch: int = 1, number: int = 256) -> tuple[float, int]:
    """Nanoseconds and multiply-adds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(_model(kind, tokens, batch, number))
        (result,) = facade.simulate(path, on=[target], numerics=False).results
    return result.latency.value, sum(op.macs for op in result.ops)


@pytest.mark.parametrize("target", TARGETS)
def test_less_is_seen_less_is_paid(target: str) -> None:
    full, causal = run(target, "full"), run(target, "causal")
    assert causal[0] <= full[0]
    assert causal[1] == pytest.approx(full[1] / 2, rel=1e-3)
    for kind in ("window", "sinks"):
        assert run(target, kind)[0] <= causal[0] * 1.001
    for kind in ("two_sided", "blocks", "dilated"):
        assert run(target, kind)[0] <= full[0] * 1.001


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tokens", [1024, 4096])
def test_any_window_costs_at_most_the_causal_mask(target: str, tokens: int) -> None:
    causal = run(target, "causal", tokens)
    for window in (1, 64, 200, tokens // 2, tokens - 1, tokens):
        assert run(target, "window", tokens, number=window)[0] <= causal[0] * 1.001, window
    assert run(target, "window", tokens, number=tokens) == causal


@pytest.mark.parametrize("target", TARGETS)
def test_blocks_are_as_many_short_sequences(target: str) -> None:
    blocks, apart = run(target, "blocks"), run(target, "full", 256, T // 256)
    assert blocks[1] == apart[1]
    assert blocks[0] == pytest.approx(apart[0], rel=0.1)


@pytest.mark.parametrize("target", TARGETS)
def test_a_dilated_mask_has_its_share_of_the_pairs(target: str) -> None:
    full, dilated = run(target, "full", 8192), run(target, "dilated", 8192, number=8)
    assert dilated[1] == full[1] / 8
    # a processor keeps an eighth of the scores nearer; a GPU permutes tokens twice, and starts kernels
    assert 0.09 < dilated[0] / full[0] < 0.3


@pytest.mark.parametrize("target", TARGETS)
def test_sinks_cost_little_beside_a_window(target: str) -> None:
    assert run(target, "sinks")[0] < 1.25 * run(target, "window")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_time_and_work_are_smooth_where_masks_were_not_looked_into(target: str) -> None:
    """2^27 elements, 11,585 tokens squared, was the limit beyond which a mask hid nothing."""
    before, after = run(target, "causal", 11585), run(target, "causal", 11586)
    assert after[0] / before[0] == pytest.approx(1, abs=0.01)
    assert after[1] / before[1] == pytest.approx(1, abs=0.001)
