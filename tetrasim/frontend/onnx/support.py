"""What is known of every operator: those of the installed `onnx` package, and those that have a rule here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tetrasim.frontend.onnx.call import Refusal
from tetrasim.frontend.onnx.functions import has_body
from tetrasim.frontend.onnx.rules import is_known, rules
from tetrasim.frontend.onnx.walker import CONTROL_FLOW

STANDARD = "ai.onnx"


class Support(StrEnum):
    """How an operator is read."""

    PRICED = "priced"
    EXPANDED = "expanded"  # the standard defines it by other operators
    UNROLLED = "unrolled"  # control flow
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OperatorSupport:
    """One operator of a domain; `note` says why it is refused."""

    domain: str
    op: str
    support: Support
    note: str = ""


def operators() -> tuple[OperatorSupport, ...]:
    """Every operator of the installed `onnx` and every one with a rule, by domain and name."""
    from onnx import defs

    names = {(schema.domain or STANDARD, schema.name) for schema in defs.get_all_schemas()}
    for domain, table in rules().items():
        names |= {(domain, op) for op in table if domain not in ("", STANDARD)}
    return tuple(_support(domain, op) for domain, op in sorted(names))


def _support(domain: str, op: str) -> OperatorSupport:
    key = "" if domain == STANDARD else domain
    if not key and op in CONTROL_FLOW:
        return OperatorSupport(domain, op, Support.UNROLLED)
    rule = rules().get(key, {}).get(op)
    if isinstance(rule, Refusal):
        return OperatorSupport(domain, op, Support.REFUSED, rule.why)
    if is_known(op, key):
        return OperatorSupport(domain, op, Support.PRICED)
    if has_body(op, key):
        return OperatorSupport(domain, op, Support.EXPANDED)
    return OperatorSupport(domain, op, Support.UNKNOWN)


def by_support(found: Sequence[OperatorSupport]) -> dict[tuple[str, Support], list[str]]:
    """(domain, support) -> operator names."""
    table: dict[tuple[str, Support], list[str]] = {}
    for row in found:
        table.setdefault((row.domain, row.support), []).append(row.op)
    return table
