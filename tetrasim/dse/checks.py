"""Checks of a study before it runs: paths, presets, metrics and sizes, each refusal with the nearest name."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from tetrasim.dse.bits import clashing_path, settings_for
from tetrasim.dse.metrics import METRICS, metric_info
from tetrasim.dse.prices import check_prices
from tetrasim.dse.space import Range as RangeDomain
from tetrasim.dse.space import Scalar, StudySpec, domain_values, parse_limit
from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.registry import find_preset
from tetrasim.models.pruning import parse_sparsity
from tetrasim.sim.ir.graph import Graph, Kind, Node, Role, TensorType, Value

MAX_GRID = 1_000_000
LARGEST = 2**53  # above it not every whole number has a double
DERIVED_DIMS = ("ffn_ratio", "tokens", "heads_kept", "ffn_kept", "tokens_kept", "sparsity")
_OF_EVERY_TARGET = ("memory_bytes", "weights_bytes")
TRAINABLE = "digits-tiny"


def check_spec(spec: StudySpec, where: str) -> None:
    """Refuse what cannot run.

    Raises:
        UserError: naming the path or metric.
    """
    if not spec.targets:
        raise UserError("the study has no target", where=where, hint="add `targets: {gpu/t4: {}}`")
    for name in spec.objectives:
        metric_info(name, f"{where}: objectives")
        if spec.objectives.count(name) > 1:
            raise UserError(
                f"objective '{name}' is given twice", where=f"{where}: objectives", hint="name each once"
            )
    for text in spec.constraints:
        if text != "fits" and parse_limit(text) is None:
            raise UserError(
                f"constraint '{text}' is not METRIC <= NUMBER",
                where=f"{where}: constraints",
                hint='write for example "latency_us <= 50", or fits',
            )
    for limit in spec.limits:
        metric_info(limit.metric, f"{where}: constraints")
    _check_values(spec, where)
    _check_models(spec, where)
    _check_targets(spec, where)
    _check_bits(spec, where)
    wanted = {*spec.objectives, *(c.metric for c in spec.limits)}
    check_prices(spec, wanted, where)
    _check_tokens(spec, wanted, where)
    _check_offered_metrics(spec, wanted, where)
    if any(METRICS[m].source == "accuracy" for m in wanted) and not spec.model.train:
        raise UserError(
            "accuracy needs a trained model",
            where=f"{where}: objectives",
            hint=f"use preset {TRAINABLE} with `train: true`, or a proxy such as proxy_top1",
        )
    if "sparsity" in spec.model.dims and not any(METRICS[m].sparse for m in wanted):
        raise UserError(
            "sparsity changes no metric of this study: no target here skips zero weights",
            where=f"{where}: model.dims",
            hint="add accuracy, a proxy or nonzero_parameters; heads_kept and ffn_kept make matrices smaller",
        )
    _check_grid(spec, where)


def _check_values(spec: StudySpec, where: str) -> None:
    """Numbers that arithmetic holds exactly, and a workload of whole ones."""
    for axis in (*spec.parameters, *spec.fixed):
        domain = axis.domain
        values = domain.ends if isinstance(domain, RangeDomain) else domain
        for value in values:
            if isinstance(value, (int, float)) and abs(value) > LARGEST:
                raise UserError(
                    f"{axis.name} = {value}", where=where, hint=f"numbers up to {LARGEST} are exact here"
                )
            if axis.name.startswith("workload."):
                least = 0 if axis.name == "workload.generate" else 1
                if isinstance(value, (bool, str)) or value != int(value) or value < least:
                    raise UserError(
                        f"{axis.name} = {value!r}", where=where, hint=f"whole numbers of at least {least}"
                    )


_NEED_TOKENS = {
    "tokens_per_s": 1,
    "energy_per_token_mj": 1,
    "usd_per_million_tokens": 1,
    "token_us": 2,
    "last_token_us": 2,
}


def _check_offered_metrics(spec: StudySpec, wanted: set[str], where: str) -> None:
    """Every target has every metric of the study: otherwise all its trials could only fail."""
    resources = {name for name in wanted if METRICS[name].source == "resource"} - set(_OF_EVERY_TARGET)
    for target in spec.targets if resources else ():
        offered = resource_names(target)
        for name in sorted(resources - offered):
            raise UserError(
                f"{target} has no '{name}'",
                where=f"{where}: objectives" if name in spec.objectives else f"{where}: constraints",
                hint=f"it has {', '.join((*sorted(offered), *_OF_EVERY_TARGET))}",
            )
    if "first_token_us" in wanted:
        from tetrasim.models.zoo import resolve

        presets = spec.model.preset if isinstance(spec.model.preset, tuple) else (spec.model.preset,)
        for model in presets:
            if not resolve(str(model)).causal:
                raise UserError(
                    f"'{model}' generates no token, so it has no first_token_us",
                    where=f"{where}: objectives",
                    hint="use latency_us",
                )


@lru_cache(maxsize=64)
def resource_names(preset: str) -> frozenset[str]:
    """The resource metrics that a target reports, asked with a product of two small matrices."""
    target, found = find_preset(preset)
    x, y = (Value(n, TensorType((8, 8), Kind.FLOAT, 32)) for n in "xy")
    weight = replace(Value("w", x.type), role=Role.WEIGHT)
    x = replace(x, role=Role.INPUT)
    graph = Graph("probe", (Node("product", "MatMul", (x, weight), (y,), {}),), (x,), (y,))
    uses = target.resources(graph, found.config)
    area = {"area_mm2"} if any(use.unit == "mm2" for use in uses) else set()
    return frozenset({use.name.lower() for use in uses} & set(METRICS) | area)


def _check_tokens(spec: StudySpec, wanted: set[str], where: str) -> None:
    """Metrics of tokens need some: the prefill makes the first one."""
    domain = spec.workload.generate
    if isinstance(domain, RangeDomain):
        most: Scalar = domain.high
    else:
        values = domain if isinstance(domain, tuple) else (domain,)
        most = max((v for v in values if not isinstance(v, str)), default=0)
    for name, least in _NEED_TOKENS.items():
        if name in wanted and float(most) < least:
            raise UserError(
                f"'{name}' needs {least} generated token{'s' * (least > 1)}, and the study has {most}",
                where=f"{where}: workload",
                hint="set generate, for example `workload: {prompt: 32, generate: 16}`",
            )


def _check_models(spec: StudySpec, where: str) -> None:
    from tetrasim.models.zoo import resolve

    _check_sparsity(spec)
    presets = spec.model.preset if isinstance(spec.model.preset, tuple) else (spec.model.preset,)
    for name in presets:
        config = resolve(str(name))
        known = leaf_paths(config.model_dump())
        for path in spec.model.dims:
            if path not in known and path not in DERIVED_DIMS:
                raise UserError(
                    f"model '{name}' has no dim '{path}'",
                    where=f"{where}: model.dims",
                    hint=nearest(path, [*known, *DERIVED_DIMS]),
                )
        if spec.model.train and str(name) != TRAINABLE:
            raise UserError(
                f"'{name}' cannot be trained here",
                where=f"{where}: model.train",
                hint=f"only {TRAINABLE} is trained inside a study",
            )


def _check_sparsity(spec: StudySpec) -> None:
    for axis in (*spec.parameters, *spec.fixed):
        if axis.name == "model.sparsity":
            ends = axis.domain if isinstance(axis.domain, tuple) else (axis.domain.low, axis.domain.high)
            for value in ends:
                parse_sparsity(value)


def leaf_paths(tree: dict[str, object], prefix: str = "") -> list[str]:
    """Dotted paths of all leaves."""
    out: list[str] = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        out += leaf_paths(value, f"{path}.") if isinstance(value, dict) else [path]
    return out


def _check_targets(spec: StudySpec, where: str) -> None:
    for parameter in (*spec.parameters, *spec.fixed):
        if not parameter.target:
            continue
        path = parameter.name.removeprefix(f"{parameter.target}:")
        _, preset = find_preset(parameter.target)
        domain = parameter.domain
        ends = [domain.low, domain.high] if isinstance(domain, RangeDomain) else domain_values(domain)
        refused = 0
        for value in ends:
            try:
                with_overrides(preset.config, {path: value})
            except UserError as failure:
                place = f"{where}: targets.{parameter.target}"
                if "unknown parameter" in failure.what:
                    raise UserError(failure.what, where=place, hint=failure.hint) from None
                refused += 1
                if isinstance(domain, RangeDomain) or refused == len(ends):
                    raise UserError(failure.what, where=place, hint=failure.hint) from None
                # A choice may only be valid together with another parameter: then the trial says so.
    for name in spec.targets:
        find_preset(name)


def _check_bits(spec: StudySpec, where: str) -> None:
    """Every value is a whole number of bits that some target of the study has."""
    axes = [p for p in (*spec.parameters, *spec.fixed) if p.name.startswith("bits.")]
    place = f"{where}: bits"
    for axis in axes:
        values = axis.domain if isinstance(axis.domain, tuple) else (axis.domain.low, axis.domain.high)
        if any(isinstance(v, (bool, str)) or int(v) != v or not 1 <= v <= 64 for v in values):
            raise UserError(f"{axis.name} = {list(values)}", where=place, hint="whole numbers from 1 to 64")
        if not isinstance(axis.domain, tuple) and not axis.domain.whole:
            raise UserError(
                f"{axis.name} is a continuous range", where=place, hint="list the bits: [4, 8, 16]"
            )
    for target, paths in spec.targets.items() if axes else ():
        if clash := clashing_path(paths):
            raise UserError(
                f"both bits and '{target}:{clash}' set the number format",
                where=place,
                hint=f"drop `{clash}` from the target, or `bits` from the study",
            )
    for axis in axes:
        for value in domain_values(axis.domain):
            _check_offered(list(spec.targets), axis.name.removeprefix("bits."), int(value), place)


def _check_offered(targets: list[str], role: str, bits: int, place: str) -> None:
    refusals = []
    for target in targets:
        try:
            settings_for(target, ((role, bits),))
        except UserError as refusal:
            refusals.append(refusal)
    if len(refusals) == len(targets):
        raise UserError(refusals[0].what, where=place, hint=refusals[0].hint)


def _check_grid(spec: StudySpec, where: str) -> None:
    if spec.search.sampler != "grid":
        return
    size = spec.grid_size
    if size is None:
        raise UserError(
            "a grid needs finite choices, one range is continuous",
            where=f"{where}: search.sampler",
            hint="give the range a step, or use random, tpe or nsga2",
        )
    if size > MAX_GRID:
        raise UserError(
            f"the grid has {size} points",
            where=f"{where}: search.sampler",
            hint=f"stay below {MAX_GRID}, or use random, tpe or nsga2",
        )
