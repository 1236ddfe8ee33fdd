"""The streamed form of a plan: every array becomes a stream of rows, as `hls::stream` hands them on.

A row is what one initiation of a layer reads or writes (a token for an encoder). Layers say in which rows
they need their inputs; where a stream has other rows, a `Select` regroups it, and neighbouring ones are
joined. The numbers do not change: emulation and calibration work on the same flat arrays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.names import Namer
from tetrasim.hw_targets.fpga.hls.plan import Ints, Layer, Plan, Shape
from tetrasim.hw_targets.fpga.hls.relu import clip_relus

MAX_READERS = 7  # hls4ml clones a stream at most seven times


def streamed(plan: Plan) -> Plan:
    """`plan` with two-dimensional [rows, width] shapes that agree between neighbours.

    Raises:
        UserError: a stream has more readers than hls4ml can clone; the layer and its node are named.
    """
    maker = _Rows(plan)
    for layer in plan.layers:
        maker.add(layer)
    outputs = tuple(maker.now[name] for name in plan.outputs)
    made = replace(plan, layers=tuple(maker.layers), outputs=outputs, given=maker.given, streamed=True)
    made = replace(made, units=maker.units)
    made = clip_relus(_fuse(made))
    readers = {name: len(found) for name, found in made.readers().items()}
    crowded = [x for x in made.layers if readers[x.name] > MAX_READERS]
    if crowded:
        listed = "\n".join(
            f"  - {x.head.node or x.name} ({x.head.op}): its result has {readers[x.name]} readers, "
            f"a stream can be cloned {MAX_READERS} times"
            for x in crowded
        )
        raise UserError(
            f"{len(crowded)} of {len(made.layers)} layers cannot stream:\n{listed}",
            where=plan.name,
            hint="nothing was written; --io parallel hands whole arrays on",
        )
    return made


class _Rows:
    """Layers so far; `now` is the layer that holds each array of the plan, in its original order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.layers: list[Layer] = []
        self.now: dict[str, str] = {}
        self.shape: dict[str, Shape] = {}
        self.regrouped: dict[tuple[str, int], str] = {}
        self.given, self.units = dict(plan.given), dict(plan.units)
        self.name = Namer()
        for layer in plan.layers:
            self.name(layer.name)

    def put(self, layer: Layer, inputs: tuple[str, ...], rows: int, width: int) -> str:
        """Append `layer` with these inputs and rows."""
        head = replace(layer.head, inputs=inputs, shape=(rows, width))
        self.layers.append(replace(layer, head=head))
        self.shape[layer.name] = (rows, width)
        return layer.name

    def move(self, source: str, index: Ints, rows: int, like: Layer, suffix: str) -> str:
        """A `Select` of `source` into `rows` rows."""
        head = replace(like.head, name=self.name(f"{source}_{suffix}"), inputs=(source,))
        self.put(p.Select(head, index.reshape(-1).astype(np.int64)), (source,), rows, index.size // rows)
        if source in self.given:
            self.given[head.name] = self.given[source]
        if source in self.units:
            unit = self.units[source]
            self.units[head.name] = unit if unit.size == 1 else unit[index.reshape(-1)]
        return head.name

    def at(self, name: str, rows: int) -> str:
        """Array `name` of the plan as a stream of `rows` rows."""
        source = self.now[name]
        if self.shape[source][0] == rows:
            return source
        key = (source, rows)
        if key not in self.regrouped:
            layer = self.plan.layer(name)
            self.regrouped[key] = self.move(source, np.arange(layer.size), rows, layer, f"rows{rows}")
        return self.regrouped[key]

    def add(self, layer: Layer) -> None:
        """Append one layer of the plan, with what regroups its inputs."""
        rows, width = layer.size // layer.shape[-1], layer.shape[-1]
        given = [self.shape[self.now[i]][0] for i in layer.inputs]
        wanted = given
        match layer:
            case p.Input():
                if layer.integers and self._looked_up(layer):
                    rows, width = layer.size, 1
            case p.Dense():
                rows, width = layer.rows, layer.weight.shape[1]
                wanted = [rows]
            case p.Softmax() | p.Norm():
                rows, width = layer.size // layer.cols, layer.cols
                wanted = [rows]
            case p.Relu() | p.Lookup() | p.Affine() | p.Rescale() | p.Grid():
                rows, width = given[0], layer.size // given[0]
            case p.Binary():
                rows = max(given)
                wanted, width = [rows, rows], layer.size // rows
            case p.Embed():
                rows, width = layer.size // layer.table.shape[1], layer.table.shape[1]
                wanted = [rows]
            case p.Reduce():
                wanted = [layer.outer * (layer.n if layer.inner > 1 else 1)]
                rows, width = layer.outer, layer.inner
            case p.Product():
                rows, width = layer.groups * layer.m, layer.n
                wanted = [rows, layer.groups * layer.k]
            case p.Attention():
                self._attention(layer)
                return
            case _:
                pass
        inputs = tuple(self.at(i, r) for i, r in zip(layer.inputs, wanted, strict=True))
        self.now[layer.name] = self.put(layer, inputs, rows, width)

    def _looked_up(self, layer: Layer) -> bool:
        """Whether the integers are ids: one row each."""
        return any(
            name and isinstance(self.plan.layer(name), p.Embed) for name in self.plan.readers()[layer.name]
        )

    def _attention(self, layer: p.Attention) -> None:
        """One row per position with all its heads; other layouts are permuted before and after."""
        rows = (layer.q_len, layer.kv_len, layer.kv_len, layer.q_len)
        kv = (layer.kv_heads * layer.head_dim, layer.kv_heads * layer.v_head_dim)
        widths = (layer.heads * layer.head_dim, *kv)
        inputs, strides = [], list(layer.strides)
        for i, name in enumerate(layer.inputs):
            if i == 3:
                inputs.append(self.at(name, layer.q_len))
                continue
            if strides[i][1] == widths[i]:
                inputs.append(self.at(name, rows[i]))
                continue
            index, strides[i] = _by_position(layer, i)
            inputs.append(self.move(self.now[name], index, rows[i], self.plan.layer(name), "positions"))
        width = layer.heads * layer.v_head_dim
        if strides[3][1] == width:
            layer = replace(layer, strides=(strides[0], strides[1], strides[2], strides[3]))
            self.now[layer.name] = self.put(layer, tuple(inputs), layer.q_len, width)
            return
        index, strides[3] = _by_position(layer, 3)
        steps = (strides[0], strides[1], strides[2], strides[3])
        head = replace(layer.head, name=self.name(f"{layer.name}_rows"))
        self.put(replace(layer, head=head, strides=steps), tuple(inputs), layer.q_len, width)
        if layer.name in self.given:
            self.given[head.name] = self.given.pop(layer.name)
        back = np.empty(layer.size, np.int64)
        back[index.reshape(-1)] = np.arange(layer.size)
        rows_out = layer.size // layer.shape[-1]
        self.now[layer.name] = self.move(head.name, back, rows_out, layer, "layout")


def _by_position(layer: p.Attention, which: int) -> tuple[Ints, Shape]:
    """Element numbers of q, k, v or the result in position-major order, and the strides of that order."""
    kv = which in (1, 2)
    heads = layer.kv_heads if kv else layer.heads
    rows = layer.kv_len if kv else layer.q_len
    width = layer.head_dim if which in (0, 1) else layer.v_head_dim
    step = layer.strides[which]
    r, h, d = np.ogrid[:rows, :heads, :width]
    return np.asarray(h * step[0] + r * step[1] + d * step[2], np.int64), (width, heads * width, 1)


def _one_rounding(plan: Plan, first: Layer, second: Layer) -> bool:
    """Whether the second may take over what a quantised file says of the first."""
    return first.name not in plan.given or plan.given.get(second.name) == plan.given[first.name]


def _fuse(plan: Plan) -> Plan:
    """Neighbouring `Select`s as one, and those that change nothing or that nobody reads are dropped."""
    made: dict[str, Layer] = {}
    same: dict[str, str] = {}
    for old in plan.layers:
        layer = replace(old, head=replace(old.head, inputs=tuple(same.get(i, i) for i in old.inputs)))
        if isinstance(layer, p.Select):
            before = made[layer.inputs[0]]
            if isinstance(before, p.Select) and _one_rounding(plan, before, layer):
                index = np.where(layer.index < 0, -1, before.index[layer.index])
                layer = replace(layer, head=replace(layer.head, inputs=before.inputs), index=index)
            layer = _before_functions(plan, made, layer)
            before = made[layer.inputs[0]]
            if _changes_nothing(plan, before, layer):
                same[layer.name] = before.name
                continue
        made[layer.name] = layer
    outputs = tuple(same.get(n, n) for n in plan.outputs)
    return _read(replace(plan, layers=tuple(made.values()), outputs=outputs))


def _changes_nothing(plan: Plan, before: Layer, layer: p.Select) -> bool:
    if layer.shape != before.shape or (layer.index != np.arange(before.size)).any():
        return False
    if layer.name in plan.outputs and (isinstance(before, p.Input) or before.name in plan.outputs):
        return False
    return layer.name not in plan.given or plan.given.get(before.name) == plan.given[layer.name]


def _before_functions(plan: Plan, made: dict[str, Layer], layer: p.Select) -> p.Select:
    """Element by element functions do not mind order: a permutation before one joins the `Select` after it,
    so that an image stays in rows of channels from one convolution to the next."""
    function = made[layer.inputs[0]]
    if not isinstance(function, p.Relu | p.Lookup) or len(plan.readers()[function.name]) > 1:
        return layer
    first = made[function.inputs[0]]
    if plan.units.get(function.name, np.ones(1)).size > 1:
        return layer  # its units are in the order of its elements
    if not isinstance(first, p.Select) or not {first.name, function.name, layer.name}.isdisjoint(plan.given):
        return layer
    if (np.sort(first.index) != np.arange(made[first.inputs[0]].size)).any():
        return layer
    shape = made[first.inputs[0]].shape
    made[function.name] = replace(function, head=replace(function.head, inputs=first.inputs, shape=shape))
    index = np.where(layer.index < 0, -1, first.index[layer.index])
    return replace(layer, index=index)


def _read(plan: Plan) -> Plan:
    """Without the `Select`s that nobody reads any more."""
    needed = set(plan.outputs)
    kept = []
    for layer in reversed(plan.layers):
        if layer.name in needed or not isinstance(layer, p.Select):
            kept.append(layer)
            needed.update(layer.inputs)
    return replace(plan, layers=tuple(reversed(kept)))
