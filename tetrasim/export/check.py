"""torch = onnxruntime = our interpreter, and prefill + steps = the full forward, on random inputs.

Each comparison runs the written files, not the graphs in memory, and reports the largest absolute
difference beside the largest value compared. A difference that rounding in another order cannot explain is
our defect and stops the export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.export import weight_file
from tetrasim.export.manifest import Check
from tetrasim.export.phases import Phase, Port, phases_of
from tetrasim.export.weight_file import Slot
from tetrasim.models.config import ModelConfig
from tetrasim.onnx_runtime import open_session, session_options
from tetrasim.sim.threads import one_thread

Arr = NDArray[Any]
Feeds = Mapping[str, Arr]
# Runs one phase's file again and again: feeds -> outputs in order.
Run = Callable[[Feeds], list[Arr]]
Opener = Callable[[Path, Phase], Run]

# float32 in another summation order moves results by ~1e-6 of their range; a wrong graph by far more.
TOLERANCE = 1e-3


class ExportMismatchError(Exception):
    """The written graphs do not compute what the torch module does: a defect of the exporter."""


def check_export(
    config: ModelConfig, slots: Sequence[Slot], folder: Path, seed: int = 0
) -> tuple[Check, ...]:
    """Compare the files in `folder` with torch.

    Raises:
        ExportMismatchError: for a difference beyond rounding.
    """
    with one_thread():
        checks = _compare(config, slots, folder, seed)
    require(config.name, checks)
    return tuple(checks)


def _compare(config: ModelConfig, slots: Sequence[Slot], folder: Path, seed: int) -> list[Check]:
    module = load_module(config, weight_file.read(folder / weight_file.FILE, slots))
    phases = {phase.name: phase for phase in phases_of(config)}
    rng = np.random.default_rng(seed)
    compare = _decoder if "step" in phases else _encoder
    return compare(config, module, phases, folder, rng)


def require(model: str, checks: Sequence[Check]) -> None:
    """Raise ExportMismatchError for a difference that rounding does not explain."""
    for check in checks:
        if not check.max_abs_error <= TOLERANCE * max(check.output_range, 1.0):
            raise ExportMismatchError(
                f"{model}: {check.name} differ by {check.max_abs_error:.3g} "
                f"(values up to {check.output_range:.3g})"
            )


def load_module(config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> Any:
    """The torch module with these weights (shared, not copied)."""
    import torch

    from tetrasim.export.trace import quiet
    from tetrasim.models.transformer import Decoder, build

    module = build(config)
    with quiet():  # torch warns that a mapped file must not be written through
        state = {name: torch.from_numpy(array) for name, array in weights.items()}
    module.load_state_dict(state, strict=False, assign=True)
    if isinstance(module, Decoder):
        module.tie()
    return module


def random_feeds(
    phase: Phase, sizes: Mapping[str, int], rng: np.random.Generator, *, first_position: int = 0
) -> dict[str, Arr]:
    """Inputs of a phase: ids below their limits, positions counting from `first_position`, normal floats."""
    return {port.name: _random(port, sizes, rng, first_position) for port in phase.inputs}


def _random(port: Port, sizes: Mapping[str, int], rng: np.random.Generator, first: int) -> Arr:
    shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in port.shape)
    if port.counts_from:
        return np.arange(first, first + shape[0], dtype=np.int64)
    if port.limit:
        return rng.integers(0, port.limit, shape, dtype=np.int64)
    return rng.standard_normal(shape, dtype=np.float32)


def open_onnxruntime(path: Path, phase: Phase) -> Run:
    """The file in onnxruntime, op by op as written (its own fusions are not under test, and preparing them
    takes longer than the run)."""
    options = session_options()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = open_session(path, options)
    names = [port.name for port in phase.outputs]
    return lambda feeds: list(session.run(names, dict(feeds)))


def open_interpreter(path: Path, phase: Phase) -> Run:
    """The file in our importer (with its rewrites) and interpreter."""
    from tetrasim.frontend.onnx import import_onnx
    from tetrasim.sim.ir.interpreter import interpret

    def run(feeds: Feeds) -> list[Arr]:
        dims = {
            dim: size
            for port in phase.inputs
            for dim, size in zip(port.shape, feeds[port.name].shape, strict=True)
            if isinstance(dim, str)
        }
        found = interpret(import_onnx(path, dims, states=dict(phase.states)), feeds)
        return [found[port.name] for port in phase.outputs]

    return run


OPENERS: dict[str, Opener] = {"onnxruntime": open_onnxruntime, "interpreter": open_interpreter}


def difference(name: str, got: Sequence[Arr], wanted: Sequence[Arr]) -> Check:
    """The largest absolute difference over all outputs; infinite when a value is not finite."""
    error = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(got, wanted, strict=True))
    finite = all(np.isfinite(a).all() for a in (*got, *wanted))
    reach = max(float(np.max(np.abs(b), initial=0.0)) for b in wanted)
    return Check(name, error if finite else float("inf"), reach)


def run_torch(module: Any, feeds: Feeds) -> list[Arr]:
    """The module's outputs in order, flattened."""
    import torch
    from torch.utils import _pytree

    with torch.inference_mode():
        found = module(*(torch.from_numpy(array) for array in feeds.values()))
    return [value.numpy() for value in _pytree.tree_leaves(found)]


def _encoder(
    config: ModelConfig, module: Any, phases: Mapping[str, Phase], folder: Path, rng: np.random.Generator
) -> list[Check]:
    phase = phases["forward"]
    feeds = random_feeds(phase, {"batch": 2, "seq": min(8, config.longest)}, rng)
    wanted = run_torch(module, feeds)
    return [
        difference(f"forward: torch and {name}", start(folder / "forward.onnx", phase)(feeds), wanted)
        for name, start in OPENERS.items()
    ]


def _decoder(
    config: ModelConfig, module: Any, phases: Mapping[str, Phase], folder: Path, rng: np.random.Generator
) -> list[Check]:
    steps = 2 if config.longest > 4 else 1
    prompt = min(8, config.longest - steps)
    feeds = random_feeds(phases["prefill"], {"batch": 2, "seq": prompt + steps}, rng)
    short = {"input_ids": feeds["input_ids"][:, :prompt], "position": feeds["position"][:prompt]}
    module.last_only = False
    full = run_torch(module, feeds)
    module.last_only = True
    prefill = run_torch(module, short)
    checks: list[Check] = []
    for name, start in OPENERS.items():
        found = start(folder / "prefill.onnx", phases["prefill"])(short)
        checks.append(difference(f"prefill: torch and {name}", found, prefill))
        got = _generate(phases["step"], start(folder / "step.onnx", phases["step"]), feeds, found)
        wanted = [full[0][:, i : i + 1] for i in range(prompt - 1, prompt + steps)] + full[1:]
        checks.append(difference(f"prefill + steps by {name} and torch's full forward", got, wanted))
    return checks


def _generate(phase: Phase, run: Run, feeds: Feeds, prefill: Sequence[Arr]) -> list[Arr]:
    """Logits of the prefill and of every step, then the final states."""
    logits, states = [prefill[0]], list(prefill[1:])
    for i in range(states[0].shape[2], feeds["position"].shape[0]):
        step = {"input_ids": feeds["input_ids"][:, i : i + 1], "position": feeds["position"][i : i + 1]}
        step |= {before: value for (before, _), value in zip(phase.states, states, strict=True)}
        found = run(step)
        logits.append(found[0])
        states = found[1:]
    return [*logits, *states]
