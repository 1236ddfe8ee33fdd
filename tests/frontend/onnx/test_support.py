"""The list of operators says the truth: what is listed as priced has a rule or an op, the rest does not."""

from __future__ import annotations

from tetrasim.frontend.onnx import Support, operators


def support(domain: str, op: str) -> Support:
    return next(o.support for o in operators() if (o.domain, o.op) == (domain, op))


def test_every_operator_of_the_installed_onnx_is_listed_once() -> None:
    from onnx import defs

    listed = [(o.domain, o.op) for o in operators()]
    assert len(listed) == len(set(listed))
    assert {(s.domain or "ai.onnx", s.name) for s in defs.get_all_schemas()} <= set(listed)


def test_states() -> None:
    assert support("ai.onnx", "Resize") is Support.PRICED
    assert support("ai.onnx", "AffineGrid") is Support.EXPANDED
    assert support("ai.onnx", "Loop") is Support.UNROLLED
    assert support("ai.onnx", "NonZero") is Support.REFUSED
    assert support("ai.onnx", "StringConcat") is Support.UNKNOWN
    assert support("com.microsoft", "MatMulNBits") is Support.PRICED
    assert support("qonnx.custom_op.general", "Quant") is Support.PRICED


def test_a_refusal_says_why() -> None:
    assert all(o.note for o in operators() if o.support is Support.REFUSED)
