"""`weights.bin`: every parameter once, shared by all phases, memory-mappable.

The layout is decided from shapes alone, so a weightless export (llama2-70b: shapes and types, no file)
differs only in that the file is not written. A matrix that every phase reads transposed (torch's linear
layers) is stored transposed, which leaves plain MatMul nodes in the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.models.weights import random_weight

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

FILE = "weights.bin"
_ALIGNMENT = 4096  # a page, so that a reader may map each tensor


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one parameter lies in the file; `shape` is torch's, stored transposed if `transposed`."""

    name: str
    shape: tuple[int, ...]
    transposed: bool
    offset: int
    nbytes: int

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.transposed else self.shape


def lay_out(shapes: Mapping[str, tuple[int, ...]], transposed: set[str]) -> tuple[Slot, ...]:
    """float32 slots in the order of `shapes`."""
    slots: list[Slot] = []
    offset = 0
    for name, shape in shapes.items():
        nbytes = 4 * int(np.prod(shape, dtype=np.int64))
        slots.append(Slot(name, shape, name in transposed, offset, nbytes))
        offset += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
    return tuple(slots)


def foldable_transposes(models: Sequence[ir.Model]) -> set[str]:
    """Matrices that every graph reads only transposed, by Transpose or inside Gemm."""
    plain: set[str] = set()
    turned: set[str] = set()
    for model in models:
        for name, value in model.graph.initializers.items():
            for use in value.uses():
                matrix = value.shape is not None and len(value.shape) == 2
                (turned if matrix and _turns(use.node, use.idx) else plain).add(name)
    return turned - plain


def _turns(node: ir.Node, index: int) -> bool:
    if node.op_type == "Gemm":
        return index == 1 and node.attributes.get_int("transB", 0) == 1
    return node.op_type == "Transpose"


def attach(model: ir.Model, slots: Sequence[Slot], folder: Path) -> None:
    """Point the initializers at their slots, folding the transposes that the layout absorbed."""
    import onnx_ir as ir

    for slot in slots:
        value = model.graph.initializers.get(slot.name)
        if value is None:
            continue
        value.shape = ir.Shape(slot.stored_shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.const_value = ir.ExternalTensor(
            FILE,
            slot.offset,
            slot.nbytes,
            ir.DataType.FLOAT,
            shape=value.shape,
            name=slot.name,
            base_dir=folder,
        )
        if slot.transposed:
            for use in tuple(value.uses()):
                if use.node.op_type == "Gemm":
                    use.node.attributes["transB"] = ir.AttrInt64("transB", 0)
                    continue
                ir.convenience.replace_all_uses_with(use.node.outputs[0], value)
                model.graph.remove(use.node, safe=True)


def write(
    path: Path, slots: Sequence[Slot], seed: int, given: Mapping[str, NDArray[np.float32]] | None = None
) -> None:
    """Write the file: the arrays `given`, else seeded random weights."""
    with path.open("wb") as file:
        for slot in slots:
            array = random_weight(slot.name, slot.shape, seed) if given is None else given[slot.name]
            if slot.transposed:
                array = np.ascontiguousarray(array.T)
            file.seek(slot.offset)
            file.write(np.ascontiguousarray(array, dtype="<f4").data)


def read(path: Path, slots: Sequence[Slot]) -> dict[str, NDArray[np.float32]]:
    """The parameters in torch's shapes, mapped from the file (copy on write)."""
    data = np.memmap(path, dtype=np.uint8, mode="c")
    out: dict[str, NDArray[np.float32]] = {}
    for slot in slots:
        raw = data[slot.offset : slot.offset + slot.nbytes].view("<f4").reshape(slot.stored_shape)
        out[slot.name] = raw.T if slot.transposed else raw
    return out
