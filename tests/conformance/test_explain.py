"""On every preset of every target: an explanation adds up to the price, and every constant has a source."""

import numpy as np
import pytest
from graphs import feed_forward

from tetrasim.flow.explain import explain_op
from tetrasim.flow.pricing import OpRow, price_rows, setup_of_row, work_of_row
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.common.explanation import Explanation, Place
from tetrasim.hw_targets.registry import preset_names
from tetrasim.reports.explain import to_text, to_tree
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.precision import with_precision

ATTENTION = ("batch", "q_len", "heads", "kv_heads", "head_dim", "kv_len", "causal")
OPS = {
    "product": ("matmul", (("m", 16), ("n", 1024), ("k", 512))),
    "decode": ("attention", tuple(zip(ATTENTION, (1, 1, 16, 4, 64, 2048, 1), strict=True))),
    "prefill": ("attention", tuple(zip(ATTENTION, (2, 64, 8, 8, 64, 64, 1), strict=True))),
    "softmax": ("softmax", (("rows", 64), ("cols", 512))),
}


def check(kernel: Explanation) -> None:
    assert kernel.kernel
    assert kernel.formula
    assert kernel.time_us > 0
    assert sum(us for _, us in kernel.parts) <= kernel.time_us * (1 + 1e-6)
    assert kernel.bound_by in {name for name, _ in kernel.parts}
    assert all(constant.source for constant in kernel.constants)
    assert sum(c.chosen for c in kernel.candidates) == bool(kernel.candidates)
    times = [c.time_us for c in kernel.candidates]
    assert times == sorted(times)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("preset", preset_names())
def test_an_op_alone_is_explained_by_its_price(preset: str, name: str) -> None:
    setup = set_up(preset)
    op, dims = OPS[name]
    row = OpRow(op, str(getattr(setup.config, "precision", "float16")), dims)
    price = float(price_rows([row], setup).latency_us[0])
    found = explain_op(name, work_of_row(row), setup_of_row(row, setup))
    assert sum(k.time_us for k in found.kernels) == pytest.approx(price, rel=1e-6)
    for kernel in found.kernels:
        check(kernel)
    assert found.evidence
    assert to_text([found]).startswith(name)
    assert to_tree([found])[0]["kernels"][0]["formula"]


@pytest.mark.parametrize("preset", preset_names())
def test_every_node_of_a_graph_is_explained(preset: str) -> None:
    setup = set_up(preset)
    graph = with_precision(feed_forward(8, 64), setup.target.precision(setup.config))
    explain = setup.target.explain
    assert explain is not None
    for at, node in enumerate(graph.nodes):
        kernels = explain(work_of(node), setup.config, Place(graph, at))
        assert kernels, node.name
        assert all(k.time_us > 0 for k in kernels) or preset.startswith("cpu/"), node.name
        assert all(np.isfinite(us) for k in kernels for _, us in k.parts)
