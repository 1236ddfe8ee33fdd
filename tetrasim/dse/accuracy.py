"""Accuracy inside a study: digits classified with the target's arithmetic, and proxies for larger models.

Small models are trained once per shape (seeded, seconds, cached), quantised by giving them the target's
formats, and run by the interpreter over the 449 test images. For models without task data a proxy compares
the target's outputs with float32's on fixed inputs, and its name says proxy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.flow.loading import LoadedModel
from tetrasim.flow.phases import precise_family
from tetrasim.flow.setup import Setup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.dse.candidate import Candidate


def accuracy_metrics(candidate: Candidate) -> dict[str, float]:
    """`accuracy`: share of the digits test set that the target's arithmetic classifies right."""
    from tetrasim.dse.graphs import load
    from tetrasim.models.digits import accuracy, load_digits
    from tetrasim.sim.ir.interpreter import interpret

    data = load_digits(candidate.model.tokens)
    all_at_once = replace(candidate, workload=replace(candidate.workload, batch=len(data.test)))
    setup = candidate.setup
    family = precise_family(load(all_at_once).phases[0].family, setup.target.precision(setup.config))
    graph = family.base
    outputs = interpret(graph, {graph.inputs[0].name: data.test}, setup.target.emulated(setup.config))
    return {"accuracy": accuracy(np.asarray(outputs[graph.outputs[0].name]), data.test_labels)}


def proxy_metrics(model: LoadedModel, dense: LoadedModel, setup: Setup) -> dict[str, float]:
    """Agreement of the target's arithmetic with the `dense` model in float32 on seeded inputs of the first
    phase; `model` is the same or has weights zeroed.

    Raises:
        UserError: the weights are absent or the model is too large to emulate here.
    """
    from tetrasim.flow.feeds import seeded_feeds
    from tetrasim.flow.numerics import why_not
    from tetrasim.sim.ir.interpreter import interpret

    phase = model.phases[0]
    reason = why_not(phase.family.base)
    if reason:
        raise UserError(f"no proxy for '{model.name}': {reason}", hint="drop the proxy objective")
    lowered = precise_family(phase.family, setup.target.precision(setup.config)).base
    name = lowered.outputs[0].name
    got = interpret(lowered, seeded_feeds(phase.family.base), setup.target.emulated(setup.config))
    return agreement(_exact_output(dense), np.asarray(got[name], dtype=np.float64))


@lru_cache(maxsize=8)
def _exact_output(model: LoadedModel) -> NDArray[np.float64]:
    from tetrasim.flow.feeds import seeded_feeds
    from tetrasim.sim.ir.interpreter import interpret

    graph = model.phases[0].family.base
    out = interpret(graph, seeded_feeds(graph))
    return np.asarray(out[graph.outputs[0].name], dtype=np.float64)


def agreement(exact: NDArray[np.float64], got: NDArray[np.float64]) -> dict[str, float]:
    """Top-1 agreement, cosine and KL(exact || got) of two outputs, rows along the last axis."""
    a, b = exact.reshape(-1, exact.shape[-1]), got.reshape(-1, got.shape[-1])
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.maximum(lengths, 1e-300)
    p, q = _log_softmax(a), _log_softmax(b)
    return {
        "proxy_top1": float((a.argmax(1) == b.argmax(1)).mean()),
        "proxy_cosine": float(cosine.mean()),
        "proxy_kl": float((np.exp(p) * (p - q)).sum(axis=1).mean()),
    }


def _log_softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = x - x.max(axis=1, keepdims=True)
    out: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return out
