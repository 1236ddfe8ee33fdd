"""Every op, found by location: a module of this folder that defines `OPS` contributes its entries.

`work_of` is called for every node at every context length of a generation, so it is cached by content:
op name, operand types and roles, attributes. Equal content gives the very same `Work` object.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, lru_cache
from pathlib import Path

from tetrasim.errors import UnsupportedOpError, nearest
from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import Arr, Arrays, Attrs, OpDef, Types
from tetrasim.sim.ops.unmodelled import UNMODELLED
from tetrasim.sim.ops.work import Work, WorkKind


@cache
def ops() -> dict[str, OpDef]:
    """All ops by name."""
    found: dict[str, OpDef] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name == "registry":
            continue
        table = getattr(importlib.import_module(f"tetrasim.sim.ops.{module.name}"), "OPS", {})
        for name, definition in table.items():
            if name in found:
                raise AssertionError(f"op {name} is defined twice")
            found[name] = definition
    return found


def supported_ops() -> tuple[str, ...]:
    """Names of all ops with semantics and a cost, sorted."""
    return tuple(sorted(ops().keys() - {UNMODELLED}))


def find_op(name: str, where: str = "") -> OpDef:
    """The definition of `name`.

    Raises:
        UnsupportedOpError: there is none; the message names the nearest one.
    """
    found = ops().get(name)
    if found is None:
        raise UnsupportedOpError(
            f"op '{name}' is not supported",
            where=where,
            hint=f"{nearest(name, supported_ops())} `tetrasim list ops` prints all of them; "
            "an op is one function set in tetrasim/sim/ops/",
        )
    return found


def infer(name: str, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """Output types of an op."""
    return find_op(name).infer(types, attrs)


def reference(name: str, arrays: Arrays, attrs: Attrs, arithmetic: Arithmetic) -> tuple[Arr, ...]:
    """Numpy semantics of an op."""
    return find_op(name).reference(arrays, attrs, arithmetic)


_Key = tuple[object, ...]
_WORK: dict[_Key, Work] = {}
_WORK_LIMIT = 1 << 18


def _key(node: Node) -> _Key:
    ins = tuple(
        None if v is None else (v.type.shape, v.type.bits, v.type.kind.value, v.role.value)
        for v in node.inputs
    )
    outs = tuple((v.type.shape, v.type.bits, v.type.kind.value, v.role.value) for v in node.outputs)
    return (node.op, ins, outs, tuple(node.attrs.items()), len(set(node.inputs)))


@lru_cache(maxsize=1 << 14)  # by node object, in front of the key by content
def work_of(node: Node) -> Work:
    """What `node` costs, independent of hardware; the same object for equal content.

    Raises:
        UnsupportedOpError: the op has no cost model (no silent zero).
    """
    key = _key(node)
    work = _WORK.get(key)
    if work is None:
        work = find_op(node.op, node.name).work(node)
        if not any(v.type.elements for v in node.outputs):  # zero rows: nothing is computed, nothing moves
            work = Work(node.op, WorkKind.VIEW, (), ())
        if len(_WORK) >= _WORK_LIMIT:
            _WORK.clear()
        _WORK[key] = work
    return work
