"""ReLU without hardware: a result type that is unsigned and saturates is max(x, 0).

A layer that rounds into `ap_ufixed<..., AP_SAT>` clips what is below zero, so a ReLU that is the only reader
of a product, a sum or a normalisation needs no function, no stream and no cycle.
"""

from __future__ import annotations

from dataclasses import replace

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.plan import Plan

CLIPPING = (p.Dense, p.Binary, p.Affine, p.Norm, p.Product)


def clip_relus(plan: Plan) -> Plan:
    """`plan` whose ReLUs have joined the layers before them, where those have no other reader."""
    readers = plan.readers()
    by_name = {x.name: x for x in plan.layers}
    gone: dict[str, str] = {}
    given = dict(plan.given)
    for layer in plan.layers:
        source = layer.inputs[0] if layer.inputs else ""
        if not isinstance(layer, p.Relu) or len(readers[source]) > 1:
            continue
        if not isinstance(by_name[source], CLIPPING) or _signed_grid(plan, layer.name):
            continue
        gone[layer.name] = source
        given.pop(source, None)
        if layer.name in given:
            given[source] = given.pop(layer.name)
    layers = []
    for layer in plan.layers:
        if layer.name in gone:
            continue
        op = f"{layer.head.op}+Relu" if layer.name in gone.values() else layer.head.op
        inputs = tuple(gone.get(i, i) for i in layer.inputs)
        layers.append(replace(layer, head=replace(layer.head, inputs=inputs, op=op)))
    outputs = tuple(gone.get(n, n) for n in plan.outputs)
    clipped = plan.clipped | set(gone.values())
    return replace(plan, layers=tuple(layers), outputs=outputs, given=given, clipped=clipped)


def _signed_grid(plan: Plan, name: str) -> bool:
    """A quantised file keeps the ReLU's result on a signed grid, which an unsigned type would not be."""
    return name in plan.given and plan.given[name].signed
