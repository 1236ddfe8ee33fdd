"""Operator rules, found by location.

A folder here is an ONNX domain (its `DOMAINS` are the names under which files know it); every module in it
contributes its `RULES`, a map from operator name to rule. An operator of ONNX's own domain without a rule is
emitted as it is: `sim/ops/` knows it under the same name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tetrasim.errors import UnsupportedOpError, nearest
from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Value
from tetrasim.sim.ops.registry import ops

_STANDARD = ("", "ai.onnx")


@cache
def rules() -> Mapping[str, Mapping[str, Rule]]:
    """Domain -> operator -> rule."""
    found: dict[str, Mapping[str, Rule]] = {}
    for folder in pkgutil.iter_modules([str(Path(__file__).parent)]):
        package = importlib.import_module(f"{__name__}.{folder.name}")
        table: dict[str, Rule] = {}
        for module in pkgutil.iter_modules(package.__path__):
            own = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "RULES", {})
            twice = table.keys() & own.keys()
            if twice:
                raise AssertionError(f"operators with two rules: {', '.join(sorted(twice))}")
            table |= own
        found |= dict.fromkeys(package.DOMAINS, table)
    return found


def is_known(op: str, domain: str) -> bool:
    """True when a rule or an op of the same name says what an operator is."""
    return op in rules().get(domain, {}) or (domain in _STANDARD and op in ops())


def apply_rule(call: Call) -> tuple[Value | None, ...]:
    """Emit one ONNX node in the ops of `sim/ops/`.

    Raises:
        UnsupportedOpError: a domain, an operator or a form of it that is not known.
    """
    op, domain = call.proto.op_type, call.proto.domain
    table = rules().get(domain)
    if table is None:
        raise UnsupportedOpError(
            f"op '{op}' of domain '{domain}' is not supported",
            where=f"node '{call.label}'",
            hint="export with standard ONNX ops; ORT files: use optimisation level 'basic'",
        )
    rule = table.get(op)
    if rule is not None:
        return rule(call)
    if domain not in _STANDARD:
        raise call.refuse(f"this {domain} op has no rule", f"{nearest(op, table)} Or export unoptimised")
    return call.emit(op, call.inputs, call.attrs)
