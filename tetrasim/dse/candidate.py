"""One point of a design space, resolved: a model's dims, a workload and a configured target, with its key.

The key hashes everything that the outcome depends on (dims, training, configuration, workload, code, and
which groups of metrics were computed), so equal points of any two studies share one evaluation.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tetrasim.dse.bits import settings_for
from tetrasim.dse.metrics import METRICS
from tetrasim.dse.space import TARGET, Point, Scalar, StudySpec
from tetrasim.errors import UserError
from tetrasim.flow.provenance import code_sha256
from tetrasim.flow.setup import Setup
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.registry import find_preset
from tetrasim.models.pruning import parse_sparsity
from tetrasim.sim.workload import Workload

if TYPE_CHECKING:
    from tetrasim.models.config import ModelConfig


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is evaluated. `groups`: the sources of the metrics that the study asks for."""

    model: ModelConfig
    trained_steps: int  # -1: not trained; 0: the preset's own number
    workload: Workload
    setup: Setup
    overrides: dict[str, Scalar]
    groups: tuple[str, ...]
    sparsity: str | float = 0.0  # of the weights; no cost depends on it

    @property
    def key(self) -> str:
        parts = (
            self.model.model_dump_json(),
            str(self.trained_steps),
            json.dumps(asdict(self.workload), sort_keys=True),
            self.setup.preset,
            self.setup.config.model_dump_json(),
            ",".join(self.groups),
            str(self.sparsity),
            code_sha256(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def target_of(spec: StudySpec, point: Point) -> str:
    """The target of `point`, as the study names it."""
    return str(point.get(TARGET, next(iter(spec.targets))))


def resolve_point(spec: StudySpec, point: Point) -> Candidate:
    """The candidate at `point`; parameters with one value may be left out.

    Raises:
        UserError: a combination that the model or the target refuses.
    """
    full: Point = {p.name: p.domain[0] for p in spec.fixed if isinstance(p.domain, tuple)} | point
    target = str(full[TARGET])
    overrides = {k.removeprefix(f"{target}:"): v for k, v in full.items() if k.startswith(f"{target}:")}
    bits = tuple((k.removeprefix("bits."), int(v)) for k, v in full.items() if k.startswith("bits."))
    if bits:
        overrides |= dict(settings_for(target, bits))
    dims = tuple((k.removeprefix("model."), v) for k, v in full.items() if k.startswith("model."))
    sparsity = full.get("model.sparsity", 0.0)
    parse_sparsity(sparsity)
    dims = tuple(pair for pair in dims if pair[0] != "sparsity")
    model = _model_config(dims)
    work = {k.removeprefix("workload."): v for k, v in full.items() if k.startswith("workload.")}
    wanted = {*spec.objectives, *(c.metric for c in spec.limits)}
    return Candidate(
        model=model,
        trained_steps=spec.model.steps if spec.model.train else -1,
        workload=_workload(model, work),
        setup=configured(target, tuple(overrides.items())),
        overrides=overrides,
        groups=tuple(sorted({METRICS[name].source for name in wanted} & {"accuracy", "proxy"})),
        sparsity=sparsity,
    )


@lru_cache(maxsize=1024)
def _model_config(dims: tuple[tuple[str, Scalar], ...]) -> ModelConfig:
    from tetrasim.models.zoo import resolve

    changes = dict(dims)
    base = resolve(str(changes.pop("preset")))
    if not changes:
        return base
    ratio, tokens = changes.pop("ffn_ratio", None), changes.pop("tokens", None)
    heads, ffn, kept = (changes.pop(key, None) for key in ("heads_kept", "ffn_kept", "tokens_kept"))
    nested: dict[str, Any] = {}
    for path, value in changes.items():
        *groups, leaf = path.split(".")
        at = nested
        for i, group in enumerate(groups):
            at = at.setdefault(group, dict(getattr(base, group).model_dump()) if i == 0 else {})
        at[leaf] = value
    if tokens is not None:
        _recut(base, nested, int(tokens))
    if ratio is not None:
        nested["ffn_width"] = round(float(ratio) * int(nested.get("width", base.width)))
    if kept is not None:
        nested |= _merging(_number(kept, "tokens_kept"), int(nested.get("merge_after", base.merge_after)))
    name = "-".join([base.name, *(f"{k.replace('.', '_')}{v}" for k, v in dims if k != "preset")])
    dense = base.replace(**nested, name=name)
    if heads is None and ffn is None:
        return dense
    return _structured(dense, heads, 1.0 if ffn is None else _number(ffn, "ffn_kept"))


def _number(value: Scalar, name: str) -> float:
    """A fraction in (0, 1].

    Raises:
        UserError: it is none.
    """
    if isinstance(value, (bool, str)) or not 0 < value <= 1:
        raise UserError(
            f"{name} = {value!r} is not a share", where=f"model.{name}", hint="above 0, at most 1"
        )
    return float(value)


def _merging(kept: float, after: int) -> dict[str, int]:
    """`tokens_kept` as merging of whole groups, after the first block unless `merge_after` says otherwise.

    Raises:
        UserError: one over `kept` is not whole.
    """
    size = round(1 / kept)
    if abs(size * kept - 1) > 1e-6:
        raise UserError(
            f"tokens_kept = {kept} is not one token out of a whole number",
            where="model.tokens_kept",
            hint="1, 0.5, 0.25, …",
        )
    return {"merge_after": 0} if size == 1 else {"merge_after": after or 1, "merge_size": size}


def _structured(dense: ModelConfig, heads: Scalar | None, ffn: float) -> ModelConfig:
    """Whole heads and FFN columns left out: smaller matrices on every target; the head size stays.

    Raises:
        UserError: more heads than there are, or a number that the groups of keys do not allow.
    """
    count = dense.heads if heads is None else heads
    if isinstance(count, (bool, str)) or int(count) != count or not 1 <= count <= dense.heads:
        raise UserError(
            f"heads_kept = {count!r} of {dense.heads} heads",
            where="model.heads_kept",
            hint=f"1 to {dense.heads}",
        )
    width = max(1, round(ffn * dense.ffn_width))
    return dense.replace(heads=int(count), head_dim=dense.head_dim, ffn_width=width)


def _recut(base: ModelConfig, nested: dict[str, Any], tokens: int) -> None:
    """The same input values in another number of tokens (the digits' patches)."""
    features = getattr(base.input, "features", None)
    if features is None or base.tokens * features % tokens:
        raise UserError(f"'{base.name}' cannot be cut into {tokens} tokens", where="model.tokens")
    nested["input"] = base.input.model_dump() | {
        "tokens": tokens,
        "features": base.tokens * features // tokens,
    }


def _workload(model: ModelConfig, work: dict[str, Scalar]) -> Workload:
    counts = {}
    for name, least in (("batch", 1), ("prompt", 1), ("generate", 0)):
        value = work.get(name, least)
        if isinstance(value, (bool, str)) or int(value) != value or value < least:
            raise UserError(f"workload.{name} = {value!r} is not a whole number of at least {least}")
        counts[name] = int(value)
    if model.tokens:
        counts["prompt"] = model.tokens
    if not model.causal:
        counts["generate"] = 0
    return Workload(batch=counts["batch"], prompt=counts["prompt"], generate=counts["generate"])


@lru_cache(maxsize=4096)
def configured(preset: str, overrides: tuple[tuple[str, Scalar], ...]) -> Setup:
    """The setup of a preset with overrides, kept: reading a preset costs more than simulating a step."""
    base = _base(preset)
    config = with_overrides(base.config, dict(overrides))
    return Setup(base.preset, base.title, base.marks, base.target, config)


@lru_cache(maxsize=64)
def _base(preset: str) -> Setup:
    target, found = find_preset(preset)
    return Setup(found.name, found.title, found.marks, target, found.config)
