"""The page and the text that show what each pass made of a graph."""

import numpy as np
from onnx import TensorProto, helper
from onnx import numpy_helper as nh

from tetrasim.frontend.onnx import import_onnx
from tetrasim.reports.rewrites import rewrites_html, rewrites_text
from tetrasim.sim.passes.pipeline import steps

N = helper.make_node


def _raw(tmp_path, extra_reader: bool, name: str = "y"):
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
    nodes = [
        N("MatMul", ["q", "kt"], ["s"]),
        N("Where", ["m", "s", "low"], ["w"]),
        N("Softmax", ["w"], ["p"], axis=-1),
        N("MatMul", ["p", "v"], [name]),
    ]
    outputs = [value(name, [1, 1, 8, 4])] + ([value("p", [1, 1, 8, 8])] if extra_reader else [])
    held = {"m": np.tril(np.ones((8, 8), bool)), "low": np.array(-np.inf, np.float32)}
    inputs = [value("q", [1, 1, 8, 4]), value("kt", [1, 1, 4, 8]), value("v", [1, 1, 8, 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [nh.from_array(a, n) for n, a in held.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return import_onnx(path, rewrites=False)


def test_a_pass_shows_what_it_was_given_and_what_it_made(tmp_path) -> None:
    text = rewrites_text(steps(_raw(tmp_path, extra_reader=False)))
    own = text[text.index("attention (") : text.index("linear (")].splitlines()
    assert own == [
        "attention (scores never leave attention): 4 -> 1 nodes",
        "  -  s: float32[1,1,8,8] = MatMul(q, kt)",
        "  -  w: float32[1,1,8,8] = Where(m, s, low)",
        "  -  p: float32[1,1,8,8] = Softmax(w) axis=3",
        "  -  y: float32[1,1,8,4] = MatMul(p, v)",
        "  +  y: float32[1,1,8,4] = Attention(q, kt, v) causal=1 k_layout=bhds scale=1.0",
        "  attention applied at 'MatMul.1': Attention from 1 ONNX nodes",
    ]


def test_a_match_that_failed_names_the_value_that_stopped_it(tmp_path) -> None:
    text = rewrites_text(steps(_raw(tmp_path, extra_reader=True)))
    assert "attention not applied at 'MatMul.1': 'p' inside the attention is also read elsewhere" in text


def test_names_of_a_file_are_escaped_in_the_page(tmp_path) -> None:
    page = rewrites_html("<b>.onnx", steps(_raw(tmp_path, extra_reader=False, name="<script>")))
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;: float32[1,1,8,4] = Attention" in page
