"""Numerics of the lowered model: the target's arithmetic against a plain reference on the same inputs.

The interpreter runs the graph with the target's formats and rounding; the reference runs the file as it is
(`reference.py`). Every output is compared, and the one that is furthest off is reported. What the reference
cannot run is not checked, with the reason; large models are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tetrasim.flow.feeds import Feeds, seeded_feeds
from tetrasim.flow.reference import reference_outputs
from tetrasim.sim.ir.graph import Graph, Value
from tetrasim.sim.result import NumericsResult
from tetrasim.sim.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ops.arithmetic import Arithmetic

MAX_MACS = 20_000_000_000  # about two seconds of emulated arithmetic
MAX_WEIGHT_ELEMENTS = 400_000_000
MAX_VALUE_ELEMENTS = 400_000_000  # of any value between two ops
LARGE_ERROR = 0.1  # of the range of an output: beyond it the headline says so
# Ops whose result is a choice among entries: a small error may turn it, and everything after it.
_CHOICES = {"TopK": 1, "ArgMax": 0, "ArgMin": 0}


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output is off. Equal infinities and equal NaN are equal; `unlike`: entries that are finite
    on one side only, or infinite with another sign."""

    name: str
    max_abs: float
    mean_abs: float
    span: float
    unlike: int
    top1: float | None  # how often the largest entry of the last axis is the same; None: no such axis

    @property
    def relative(self) -> float:
        """Largest error over the span of the output; what is not finite on both sides counts most."""
        return float("inf") if self.unlike else self.max_abs / max(self.span, 1e-30) if self.max_abs else 0.0


def check_numerics(
    reference: Graph,
    lowered: Graph,
    onnx_path: Path | None,
    arithmetic: Arithmetic,
    values: tuple[tuple[str, str], ...] = (),
) -> NumericsResult:
    """Compare every output of `lowered` under `arithmetic` with the file that `reference` was imported from.

    Args:
        reference: the graph as imported, full precision: says what the file's inputs look like.
        lowered: the same graph with the target's formats.
        onnx_path: the file; None when the graph has none.
        values: of inputs that the import made constants of, as the user wrote them.
    """
    if onnx_path is None:
        return NumericsResult(False, "there is no ONNX file to compare with")
    reason = why_not(reference)
    if reason:
        return NumericsResult(False, reason)
    from tetrasim.sim.ir.interpreter import interpret

    feeds = seeded_feeds(reference)
    expected = reference_outputs(reference, onnx_path, values)
    if expected.outputs is None:
        return NumericsResult(False, expected.reason)
    with one_thread(), np.errstate(all="ignore"):  # the order of additions must not depend on the host
        actual = interpret(lowered, feeds, arithmetic)
        choices = _equal_choices(reference, lowered, feeds, arithmetic)
    names = [v.name for v in reference.outputs if v.name in expected.outputs and v.name in actual]
    errors = [output_error(name, expected.outputs[name], actual[name]) for name in names]
    found = summary([error for error in errors if error is not None])
    return replace(found, against=expected.program, equal_choices=choices) if found.checked else found


def summary(errors: list[OutputError]) -> NumericsResult:
    """The output that is furthest off stands for all; the first one that ranks entries says how often the
    largest is the same."""
    if not errors:
        return NumericsResult(False, "the model's outputs are empty")
    worst = max(errors, key=lambda error: error.relative)
    unlike = sum(error.unlike for error in errors)
    return NumericsResult(
        checked=True,
        note=f"{unlike} values are not finite on one side alone" if unlike else "",
        max_abs_error=None if worst.unlike else worst.max_abs,
        mean_abs_error=None if worst.unlike else worst.mean_abs,
        output_range=worst.span,
        top1_agreement=next((error.top1 for error in errors if error.top1 is not None), None),
        output=worst.name,
        outputs=len(errors),
    )


def output_error(name: str, expected: NDArray[Any], actual: NDArray[Any]) -> OutputError | None:
    """Errors of one output; None when it holds nothing."""
    a, b = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if not a.size:
        return None
    if a.shape != b.shape:
        raise AssertionError(f"output {name}: the reference gives {a.shape}, the interpreter {b.shape}")
    both = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    error = np.abs(np.where(both, a, 0.0) - np.where(both, b, 0.0))
    finite = a[np.isfinite(a)]
    ranks = a.ndim > 0 and a.shape[-1] > 1 and np.asarray(expected).dtype.kind == "f"
    return OutputError(
        name,
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        span=float(finite.max() - finite.min()) if finite.size else 0.0,
        unlike=int((~both & ~same).sum()),
        top1=float((a.argmax(-1) == b.argmax(-1)).mean()) if ranks else None,
    )


def _equal_choices(reference: Graph, lowered: Graph, feeds: Feeds, arithmetic: Arithmetic) -> float | None:
    """The share of entries that top-k and arg-max nodes choose alike in exact arithmetic; None: no such."""
    from tetrasim.sim.ir.interpreter import interpret

    wanted = [v.name for v in _choices(reference)]
    ours = {v.name: v for v in _choices(lowered)}
    names = [name for name in wanted if name in ours]
    if not names:
        return None
    exactly = {v.name: v for v in _choices(reference)}
    exact = interpret(replace(reference, outputs=tuple(exactly[name] for name in names)), feeds)
    given = interpret(replace(lowered, outputs=tuple(ours[name] for name in names)), feeds, arithmetic)
    same = total = 0
    for name in names:
        for a, b in zip(_rows(exact[name]), _rows(given[name]), strict=True):
            same += len(set(a) & set(b))
            total += len(set(a))
    return same / total if total else None


def _choices(graph: Graph) -> list[Value]:
    return [
        n.outputs[_CHOICES[n.op]] for n in graph.nodes if n.op in _CHOICES and len(n.outputs) > _CHOICES[n.op]
    ]


def _rows(chosen: NDArray[Any]) -> list[list[int]]:
    return [
        list(row) for row in np.asarray(chosen).reshape(-1, chosen.shape[-1] if chosen.ndim else 1).tolist()
    ]


def headline(found: NumericsResult) -> str:
    """What a reader must know before using the result; empty where the outputs are close."""
    if not found.checked:
        return ""
    where = f" (output '{found.output}')" if found.outputs > 1 else ""
    if found.max_abs_error is None:
        return f"numerics{where}: {found.note}: the target's arithmetic overflows or divides by zero"
    share = found.max_abs_error / found.output_range if found.output_range else 0.0
    if share > LARGE_ERROR:
        return (
            f"numerics{where}: output error of {100 * share:.0f} % of the range {found.output_range:.3g}:"
            " the format saturates or is too coarse for this model"
        )
    if found.top1_agreement == 0.0:
        return f"numerics{where}: the largest entry is never the same as the reference's"
    return ""


def why_not(graph: Graph) -> str:
    """Why the graph cannot be emulated here; empty when it can."""
    from tetrasim.sim.ops.registry import find_op, work_of
    from tetrasim.sim.ops.unmodelled import original_op, unmodelled_nodes

    missing = unmodelled_nodes(graph.nodes)
    if missing:
        ops = ", ".join(sorted({original_op(node) for node in missing}))
        return f"the model has ops without semantics here ({ops}): nothing can be computed from them"
    if graph.assumptions:
        return f"{graph.assumptions[0]}, so that its results are not the file's"
    drawn = [node.name for node in graph.nodes if find_op(node.op).random]
    if drawn:
        return f"node '{drawn[0]}' draws random numbers, other ones in every runtime"
    if any(v.data is None for v in graph.weights):
        return "the model has no numbers for its weights (exported without them, or their file is not there)"
    elements = sum(v.type.elements for v in graph.weights)
    macs = sum(work_of(node).macs for node in graph.nodes)
    if elements > MAX_WEIGHT_ELEMENTS or macs > MAX_MACS:
        size = f"{elements / 1e6:.0f} M weights, {macs / 1e9:.1f} G MACs"
        return f"the model is too large to emulate here ({size})"
    largest = max((v.type.elements for node in graph.nodes for v in node.outputs), default=0)
    if largest > MAX_VALUE_ELEMENTS:
        return f"a value of {largest / 1e6:.0f} M elements is too large to emulate here"
    return ""
