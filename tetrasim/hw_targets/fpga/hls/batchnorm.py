"""A batch normalisation with constant statistics is a scale and an offset per channel: the product before or
after it takes them into its weights, and the layer is gone.

Between the two may lie moves of elements (a convolution puts its channels in front); what changes a value,
a second reader, an output, or integers that a quantised file prescribes keeps the layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import Floats, Ints, Layer, Plan

OP = "BatchNormalization"


def fold_batch_norms(plan: Plan) -> Plan:
    """`plan` without the batch normalisations that a neighbouring product can take in."""
    for name in [x.name for x in plan.layers if isinstance(x, p.Affine) and x.head.op == OP]:
        norm = plan.layer(name)
        assert isinstance(norm, p.Affine)
        joined = _before(plan, norm) or _after(plan, norm)
        if joined is not None:
            plan = _without(plan, norm, joined)
    return plan


def _without(plan: Plan, norm: p.Affine, joined: p.Dense) -> Plan:
    """`plan` with `joined` in place of the product of that name, and readers of `norm` behind it."""
    source = norm.inputs[0]
    layers = []
    for layer in plan.layers:
        if layer.name == norm.name:
            continue
        new = joined if layer.name == joined.name else layer
        inputs = tuple(source if i == norm.name else i for i in new.inputs)
        layers.append(replace(new, head=replace(new.head, inputs=inputs)))
    outputs = tuple(source if n == norm.name else n for n in plan.outputs)
    return replace(plan, layers=tuple(layers), outputs=outputs)


def _takes(plan: Plan, layer: Layer) -> bool:
    """Whether `layer` is a product whose weights are free to change."""
    return isinstance(layer, p.Dense) and layer.unit is None and layer.name not in plan.stored


def _only_reader(plan: Plan, layer: Layer) -> bool:
    return len(plan.readers()[layer.name]) == 1 and layer.name not in plan.given


def _before(plan: Plan, norm: p.Affine) -> p.Dense | None:
    """The product before `norm`, with its scale and offset per column; None when there is none."""
    source, at = plan.layer(norm.inputs[0]), np.arange(norm.size)
    while isinstance(source, p.Select) and _only_reader(plan, source) and (source.index >= 0).all():
        at = source.index[at]
        source = plan.layer(source.inputs[0])
    if not _takes(plan, source) or not _only_reader(plan, source) or len(at) != source.size:
        return None
    assert isinstance(source, p.Dense)
    columns = source.weight.shape[1]
    scale, offset = _by_column(at, norm.scale, columns), _by_column(at, norm.offset, columns)
    if scale is None or offset is None:
        return None
    head = replace(source.head, op=f"{source.head.op}+{OP}")
    return replace(source, head=head, weight=source.weight * scale, bias=source.bias * scale + offset)


def _after(plan: Plan, norm: p.Affine) -> p.Dense | None:
    """The product after `norm`, with its scale per row of weights; None when there is none."""
    at, layer = np.arange(norm.size), norm  # type: tuple[Ints, Layer]
    while True:
        readers = plan.readers()[layer.name]
        if len(readers) != 1 or not readers[0] or layer.name in plan.given:
            return None
        layer = plan.layer(readers[0])
        if not isinstance(layer, p.Select):
            break
        at = np.where(layer.index < 0, -1, at[layer.index])
    if not _takes(plan, layer) or ((at < 0).any() and norm.offset.any()):
        return None
    assert isinstance(layer, p.Dense)
    inputs = layer.weight.shape[0]
    place = np.arange(len(at))[at >= 0]
    scale = _by_column(place, norm.scale[at[place]], inputs)
    offset = _by_column(place, norm.offset[at[place]], inputs)
    if scale is None or offset is None:
        return None
    head = replace(layer.head, op=f"{OP}+{layer.head.op}")
    weight = layer.weight * scale[:, None]
    return replace(layer, head=head, weight=weight, bias=layer.bias + offset @ layer.weight)


def _by_column(place: Ints, numbers: Floats, columns: int) -> Floats | None:
    """The number of each column when `numbers` lie at flat `place`s; None when a column has several."""
    found = np.zeros(columns)
    found[place % columns] = numbers
    return found if (found[place % columns] == numbers).all() else None
