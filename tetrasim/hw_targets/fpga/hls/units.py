"""Quantised files with any scale: integers travel, and their scale is a unit that only the plan knows.

A value of a QDQ file is (q - zero_point) * scale. The firmware holds q - zero_point, which fits one bit more
than q, and the plan notes the scale as the layer's unit. Products of such integers are exact; their unit is
the product of the scales, per column where the file has a scale per channel. Moves, ReLU and maxima keep the
unit. Where the file rounds again (`Grid`), and where an operation needs plain numbers (`Rescale`), one
multiplication by a constant of up to 30 bits changes the unit; half to even as ONNX rounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.names import Namer
from tetrasim.hw_targets.fpga.hls.plan import Fixed, Floats, Ints, Layer, Plan

PRODUCT_BITS = 62  # an integer and a multiplier must fit int64 in the emulation
MULTIPLIER_BITS = 30


def multiplier(ratio: Floats, bits: int) -> tuple[Ints, int]:
    """Integers m and a shift with m / 2**shift = `ratio`, for integers of `bits` bits: as exact as fits."""
    wanted = min(MULTIPLIER_BITS, PRODUCT_BITS - bits)
    shift = wanted - int(np.ceil(np.log2(float(ratio.max()))))
    return np.asarray(np.rint(ratio * 2.0**shift), np.int64), shift


def ratio_of(plan: Plan, layer: p.Grid | p.Rescale) -> Floats:
    """What an integer of the input is worth in units of the result: one number, or one per element."""
    made = layer.scale if isinstance(layer, p.Grid) else 1.0
    return np.asarray(plan.units.get(layer.inputs[0], np.ones(1)) / made)


def grid_type(layer: p.Grid) -> Fixed:
    """The integers from `low` to `high`."""
    signed = layer.low < 0
    bits = max(int(layer.high).bit_length(), int(-layer.low - 1).bit_length() if signed else 0, 1) + signed
    return Fixed(max(bits, 2), max(bits, 2), signed=signed, even=True)


def with_units(plan: Plan) -> Plan:
    """`plan` with the unit of every layer, and a `Rescale` wherever plain numbers are needed."""
    if not any(isinstance(x, p.Grid) or (isinstance(x, p.Dense) and x.unit is not None) for x in plan.layers):
        return plan
    maker = _Units(plan)
    for layer in plan.layers:
        maker.add(layer)
    outputs = tuple(maker.plain(name) for name in plan.outputs)
    return replace(plan, layers=tuple(maker.layers), outputs=outputs, units=maker.units)


class _Units:
    """Layers so far, their units, and the plain copies of layers that have one."""

    def __init__(self, plan: Plan) -> None:
        self.layers: list[Layer] = []
        self.by_name: dict[str, Layer] = {}
        self.units: dict[str, Floats] = {}
        self.copies: dict[str, str] = {}
        self.same: dict[str, str] = {}  # a rounding that changes nothing: the layer before it
        self.name = Namer()
        for layer in plan.layers:
            self.name(layer.name)

    def put(self, layer: Layer, unit: Floats | None) -> None:
        self.layers.append(layer)
        self.by_name[layer.name] = layer
        if unit is not None:
            self.units[layer.name] = unit

    def plain(self, name: str) -> str:
        """Layer `name` in plain numbers."""
        name = self.same.get(name, name)
        if name not in self.units:
            return name
        if name not in self.copies:
            source = self.by_name[name]
            made = self.name(f"{name}_plain")
            self.put(p.Rescale(replace(source.head, name=made, inputs=(name,))), None)
            self.copies[name] = made
        return self.copies[name]

    def single(self, name: str) -> str:
        """Layer `name` with one unit for all elements."""
        unit = self.units.get(name)
        return name if unit is None or unit.size == 1 else self.plain(name)

    def add(self, layer: Layer) -> None:
        names = tuple(self.same.get(i, i) for i in layer.inputs)
        if isinstance(layer, p.Grid) and self._is_there(layer, names[0]):
            self.same[layer.name] = names[0]
            return
        unit: Floats | None = None
        match layer:
            case p.Grid():
                unit = np.array([layer.scale])
            case p.Dense():
                names = (self.single(names[0]),)
                unit = _product_unit(layer, self.units.get(names[0]))
            case p.Relu():
                unit = self.units.get(names[0])
            case p.Select():
                if (layer.index < 0).any():
                    names = (self.single(names[0]),)
                unit = self.units.get(names[0])
                unit = unit if unit is None or unit.size == 1 else unit[layer.index]
            case p.Reduce() if layer.kind == "max":
                names = (self.single(names[0]),)
                unit = self.units.get(names[0])
            case p.Input():
                pass
            case _:
                names = tuple(self.plain(i) for i in names)
        self.put(replace(layer, head=replace(layer.head, inputs=names)), unit)

    def _is_there(self, layer: p.Grid, name: str) -> bool:
        """Whether layer `name` already holds integers of this grid: moved or reduced, no more."""
        source = self.by_name[name]
        while isinstance(source, p.Select) or (isinstance(source, p.Reduce) and source.kind == "max"):
            source = self.by_name[source.inputs[0]]
        known = isinstance(source, p.Grid) and (source.scale, source.low, source.high)
        return known == (layer.scale, layer.low, layer.high)


def _product_unit(layer: p.Dense, given: Floats | None) -> Floats | None:
    if layer.unit is None:
        return given
    unit = layer.unit * (1.0 if given is None else float(given[0]))
    return unit if unit.size == 1 else np.tile(unit, layer.rows)
