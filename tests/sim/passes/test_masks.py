"""Masks are structure: read from their elements, or from the operations that make them, at any length."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx import numpy_helper as nh

from tetrasim.frontend.onnx import builder, import_onnx
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.masks import reading as masks

T, HEADS, WIDTH = 48, 2, 8
N = helper.make_node


def _grid(t: int = T) -> tuple[np.ndarray, np.ndarray]:
    i = np.arange(t)
    return i[:, None], i[None, :]


P, J = _grid()
DOCUMENTS = np.repeat([0, 1, 2, 3], [7, 20, 1, 20])

# name -> (mask, its text: one line per region)
LISTED: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
    "full": (P >= -1 + 0 * J, ()),
    "causal": (J <= P, ("0<=p-j",)),
    "strictly_causal": (J < P, ("1<=p-j",)),
    "window": ((J <= P) & (P - J < 6), ("0<=p-j<=5",)),
    "two_sided": (abs(P - J) < 6, ("-5<=p-j<=5",)),
    "lopsided": ((P - J < 6) & (J - P < 3), ("-2<=p-j<=5",)),
    "anti_causal": (J >= P, ("p-j<=0",)),
    "blocks": (P // 8 == J // 8, ("0<=p//8-j//8<=0",)),
    "blocks_that_do_not_divide": (P // 7 == J // 7, ("0<=p//7-j//7<=0",)),
    "block_causal": (J // 8 <= P // 8, ("0<=p//8-j//8",)),
    "blocks_and_causal": ((P // 8 == J // 8) & (J <= P), ("0<=p-j 0<=p//8-j//8<=0",)),
    "block_and_the_one_before": (
        (P // 8 - J // 8 >= 0) & (P // 8 - J // 8 <= 1),
        ("0<=p//8-j//8<=1",),
    ),
    "dilated": ((P - J) % 4 == 0, ("(p-j)%4=0",)),
    "dilated_causal": (((P - J) % 4 == 0) & (J <= P), ("0<=p-j (p-j)%4=0",)),
    "dilated_window": (((P - J) % 4 == 0) & (J <= P) & (P - J < 16), ("0<=p-j<=12 (p-j)%4=0",)),
    "sinks": ((J <= P) & ((P - J < 8) | (J < 3)), ("0<=p-j<=7", "0<=p-j j<=2")),
    "prefix": ((J <= P) | (J < 5), ("0<=p-j", "j<=4")),
    "global_tokens": ((abs(P - J) < 4) | (J < 2) | (P < 2), ("-3<=p-j<=3", "j<=1", "p<=1")),
    "documents": (DOCUMENTS[:, None] == DOCUMENTS, ("documents 0,7,27,28",)),
    "documents_causal": (
        (DOCUMENTS[:, None] == DOCUMENTS) & (J <= P),
        ("0<=p-j documents 0,7,27,28",),
    ),
    "padded": ((J < 40) & (P >= 0), ("j<=39",)),
    "padded_causal": ((J < 40) & (J <= P), ("0<=p-j j<=39",)),
}


def _attention(
    mask: str, make: list[onnx.NodeProto], weights: dict[str, np.ndarray], form: str, t: int = T
) -> onnx.ModelProto:
    """softmax(q k^T + mask) v, where `make` computes the boolean value `mask`."""
    shape = [1, HEADS, t, WIDTH]
    low = -np.inf if form.endswith("inf") else -1e9
    held = weights | {"low": np.array(low, np.float32), "zero": np.array(0.0, np.float32)}
    nodes = [*make, N("MatMul", ["q", "kt"], ["s0"])]
    if form.startswith("chosen"):
        nodes.append(N("Where", [mask, "s0", "low"], ["s1"]))
    elif form.startswith("filled"):
        nodes += [N("Not", [mask], ["hidden"]), N("Where", ["hidden", "low", "s0"], ["s1"])]
    else:
        nodes += [N("Where", [mask, "zero", "low"], ["bias"]), N("Add", ["s0", "bias"], ["s1"])]
    nodes += [N("Softmax", ["s1"], ["p"], axis=-1), N("MatMul", ["p", "v"], ["y"])]
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
    graph = helper.make_graph(
        nodes,
        "g",
        [value("q", shape), value("kt", [1, HEADS, WIDTH, t]), value("v", shape)],
        [value("y", shape)],
        [nh.from_array(np.asarray(a), n) for n, a in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


FORMS = ("chosen inf", "chosen low", "filled inf", "filled low", "added inf", "added low")


def _only_attention(model: onnx.ModelProto, path) -> object:
    path.write_bytes(model.SerializeToString())
    graph = import_onnx(path)
    (node,) = [n for n in graph.nodes if n.op == "Attention"]
    return node


def _says(node) -> tuple[str, ...]:
    if node.attrs.get("causal"):
        window = node.attrs.get("window", 0)
        return (f"0<=p-j<={window - 1}",) if window else ("0<=p-j",)
    return tuple(node.attrs.get("visible", ()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LISTED)
def test_a_mask_that_is_listed_is_read(name: str, form: str, tmp_path) -> None:
    mask, text = LISTED[name]
    if form == "added low" and not mask.any(axis=1).all():
        pytest.skip("a row that hides every key by a finite sum keeps its numbers")
    node = _only_attention(_attention("m", [], {"m": mask}, form), tmp_path / "m.onnx")
    assert _says(node) == text
    assert len(node.inputs) == 3, "nothing of the mask is read at run time"
    assert work_of(node).attention.visible_pairs == mask.sum()


# --- the same masks, as exporters compute them from positions -------------------------------------------


def _positions(t: int = T) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """`i` [t, 1] and `j` [1, t] from one Range."""
    nodes = [
        N("Range", ["r0", "rt", "r1"], ["r"]),
        N("Unsqueeze", ["r", "ax1"], ["i"]),
        N("Unsqueeze", ["r", "ax0"], ["j"]),
    ]
    held = {
        "r0": np.array(0, np.int64),
        "rt": np.array(t, np.int64),
        "r1": np.array(1, np.int64),
        "ax0": np.array([0], np.int64),
        "ax1": np.array([1], np.int64),
        "square": np.array([t, t], np.int64),
    }
    held |= {f"c{n}": np.array(n, np.int64) for n in (0, 1, 2, 3, 4, 5, 6, 8, -1, -3)}
    return nodes, held


def _tri(upper: int, k: int) -> list[onnx.NodeProto]:
    return [
        N("ConstantOfShape", ["square"], ["ones"], value=nh.from_array(np.array([1.0], np.float32))),
        N("Trilu", ["ones", f"c{k}"], ["tri"], upper=upper),
    ]


CAUSAL = [N("LessOrEqual", ["j", "i"], ["causal"])]
BEHIND = [N("Sub", ["i", "j"], ["d"])]
BLOCKS = [N("Div", ["i", "c8"], ["bi"]), N("Div", ["j", "c8"], ["bj"])]
HALF = [N("Cast", ["d"], ["df"], to=TensorProto.FLOAT), N("Abs", ["df"], ["a"])]

COMPUTED: dict[str, tuple[list[onnx.NodeProto], tuple[str, ...], np.ndarray]] = {
    "less_or_equal": ([N("LessOrEqual", ["j", "i"], ["m"])], ("0<=p-j",), J <= P),
    "greater": ([N("Greater", ["j", "i"], ["g"]), N("Not", ["g"], ["m"])], ("0<=p-j",), J <= P),
    "tril": ([*_tri(0, 0), N("Cast", ["tri"], ["m"], to=TensorProto.BOOL)], ("0<=p-j",), J <= P),
    "tril_wider": ([*_tri(0, 1), N("Cast", ["tri"], ["m"], to=TensorProto.BOOL)], ("-1<=p-j",), J <= P + 1),
    "triu_is_zero": (
        [*_tri(1, 1), N("Cast", ["c0"], ["z"], to=TensorProto.FLOAT), N("Equal", ["tri", "z"], ["m"])],
        ("0<=p-j",),
        J <= P,
    ),
    "window_and": (
        [*CAUSAL, *BEHIND, N("Less", ["d", "c6"], ["near"]), N("And", ["causal", "near"], ["m"])],
        ("0<=p-j<=5",),
        (J <= P) & (P - J < 6),
    ),
    "window_shifted": (
        [
            *CAUSAL,
            N("Sub", ["i", "c6"], ["k"]),
            N("Greater", ["j", "k"], ["near"]),
            N("And", ["near", "causal"], ["m"]),
        ],
        ("0<=p-j<=5",),
        (J <= P) & (P - J < 6),
    ),
    "window_or_hidden": (
        [
            *BEHIND,
            N("Less", ["d", "c0"], ["future"]),
            N("GreaterOrEqual", ["d", "c6"], ["past"]),
            N("Or", ["future", "past"], ["hide"]),
            N("Not", ["hide"], ["m"]),
        ],
        ("0<=p-j<=5",),
        (J <= P) & (P - J < 6),
    ),
    "two_sided_abs": (
        [*BEHIND, *HALF, N("Cast", ["c6"], ["w"], to=TensorProto.FLOAT), N("Less", ["a", "w"], ["m"])],
        ("-5<=p-j<=5",),
        abs(P - J) < 6,
    ),
    "window_multiplied": (
        [
            *CAUSAL,
            *BEHIND,
            N("Less", ["d", "c6"], ["near"]),
            N("Cast", ["near"], ["n1"], to=TensorProto.FLOAT),
            N("Cast", ["causal"], ["n2"], to=TensorProto.FLOAT),
            N("Mul", ["n1", "n2"], ["n3"]),
            N("Cast", ["n3"], ["m"], to=TensorProto.BOOL),
        ],
        ("0<=p-j<=5",),
        (J <= P) & (P - J < 6),
    ),
    "blocks": ([*BLOCKS, N("Equal", ["bi", "bj"], ["m"])], ("0<=p//8-j//8<=0",), P // 8 == J // 8),
    "blocks_float": (
        [
            N("Cast", ["i"], ["fi"], to=TensorProto.FLOAT),
            N("Cast", ["j"], ["fj"], to=TensorProto.FLOAT),
            N("Cast", ["c8"], ["f8"], to=TensorProto.FLOAT),
            N("Div", ["fi", "f8"], ["qi"]),
            N("Div", ["fj", "f8"], ["qj"]),
            N("Floor", ["qi"], ["bi"]),
            N("Floor", ["qj"], ["bj"]),
            N("Equal", ["bi", "bj"], ["m"]),
        ],
        ("0<=p//8-j//8<=0",),
        P // 8 == J // 8,
    ),
    "block_causal": ([*BLOCKS, N("LessOrEqual", ["bj", "bi"], ["m"])], ("0<=p//8-j//8",), J // 8 <= P // 8),
    "dilated": (
        [*BEHIND, N("Mod", ["d", "c4"], ["rem"]), N("Equal", ["rem", "c0"], ["m"])],
        ("(p-j)%4=0",),
        (P - J) % 4 == 0,
    ),
    "dilated_by_class": (
        [N("Mod", ["i", "c4"], ["ri"]), N("Mod", ["j", "c4"], ["rj"]), N("Equal", ["ri", "rj"], ["m"])],
        ("(p-j)%4=0",),
        (P - J) % 4 == 0,
    ),
    "sinks": (
        [
            *CAUSAL,
            *BEHIND,
            N("Less", ["d", "c8"], ["near"]),
            N("Less", ["j", "c3"], ["sink"]),
            N("Or", ["near", "sink"], ["some"]),
            N("And", ["some", "causal"], ["m"]),
        ],
        ("0<=p-j<=7", "0<=p-j j<=2"),
        (J <= P) & ((P - J < 8) | (J < 3)),
    ),
    "prefix": (
        [*CAUSAL, N("Less", ["j", "c5"], ["pre"]), N("Or", ["causal", "pre"], ["m"])],
        ("0<=p-j", "j<=4"),
        (J <= P) | (J < 5),
    ),
    "expanded": (
        [
            N("LessOrEqual", ["j", "i"], ["small"]),
            N("Unsqueeze", ["small", "ax0"], ["u"]),
            N("Expand", ["u", "wide"], ["m"]),
        ],
        ("0<=p-j",),
        J <= P,
    ),
    "eye": (
        [
            N("ConstantOfShape", ["square"], ["zeros"]),
            N("EyeLike", ["zeros"], ["e"], k=0),
            N("Cast", ["e"], ["m"], to=TensorProto.BOOL),
        ],
        ("0<=p-j<=0",),
        P == J,
    ),
    "documents": (
        [N("Equal", ["di", "dj"], ["same"]), *CAUSAL, N("And", ["same", "causal"], ["m"])],
        ("0<=p-j documents 0,7,27,28",),
        (DOCUMENTS[:, None] == DOCUMENTS) & (J <= P),
    ),
    "where_chain": (
        [
            *CAUSAL,
            *BEHIND,
            N("Less", ["d", "c6"], ["near"]),
            N("Where", ["causal", "near", "no"], ["m"]),
        ],
        ("0<=p-j<=5",),
        (J <= P) & (P - J < 6),
    ),
    "larger_then_sliced": (
        [
            N("Range", ["r0", "big", "r1"], ["rb"]),
            N("Unsqueeze", ["rb", "ax1"], ["ib"]),
            N("Unsqueeze", ["rb", "ax0"], ["jb"]),
            N("LessOrEqual", ["jb", "ib"], ["mb"]),
            N("Slice", ["mb", "s0_", "st_", "sa_"], ["m"]),
        ],
        ("0<=p-j",),
        J <= P,
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("folded", [True, False], ids=["folded", "listed"])
def test_a_mask_that_is_computed_is_read(
    name: str, form: str, folded: bool, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`folded`: as at a length at which no element is ever computed."""
    if folded:
        monkeypatch.setattr(builder, "EAGER_ELEMENTS", 2 * T)
        monkeypatch.setattr(masks, "_LOOKED_AT", 0)
        monkeypatch.setattr(masks, "_looked_at", _never)
    make, text, mask = COMPUTED[name]
    start, held = _positions()
    held |= {
        "wide": np.array([1, 1, T, T], np.int64),
        "no": np.array(False),
        "di": DOCUMENTS[:, None],
        "dj": DOCUMENTS[None],
        "big": np.array(T + 9, np.int64),
        "s0_": np.array([0, 0], np.int64),
        "st_": np.array([T, T], np.int64),
        "sa_": np.array([0, 1], np.int64),
    }
    node = _only_attention(_attention("m", [*start, *make], held, form), tmp_path / "m.onnx")
    assert _says(node) == text
    assert len(node.inputs) == 3
    assert work_of(node).attention.visible_pairs == mask.sum()


def _never(*_: object, **__: object) -> None:
    raise AssertionError("an element of the mask was looked at")
