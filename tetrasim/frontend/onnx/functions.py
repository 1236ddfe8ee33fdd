"""Model-local functions of an ONNX file: their bodies take the place of the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.errors import UserError

if TYPE_CHECKING:
    import onnx


def inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """`model` without local functions.

    Raises:
        UserError: a function is recursive, or does not fit its calls.
    """
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except RuntimeError as error:
        raise UserError(f"its local functions cannot be inlined: {error}", where=where) from error
