"""LUT and FF of a distributed-arithmetic design, bit by bit, before any synthesis. Nothing is fitted.

Every wire of da4ml's pipeline is followed as a list of bits: a constant, or a function of other bits. Then
- an adder takes one LUT per *distinct* pair of bits that are both variable: sign extension repeats a pair
  (one LUT serves all copies), and where one side is constant the carry chain takes the other side as it is;
- below the lowest bit of a shifted operand nothing is added: those bits pass through;
- a multiplexer or ReLU takes one LUT per distinct bit, and a second one where a carry chain wants it
  inverted; constants and equal sides cost nothing. Where one side is constant and only a register reads the
  bit, it becomes the register's set or reset;
- adders that feed only one other adder of the same width, unshifted, become one multi-operand adder. Yosys
  (passes alumacc and maccmap) builds it from full adders and one carry chain: 2 LUT per bit for three
  operands and 2 more for each further one, a constant (bias or rounding) counting as an operand from its
  lowest bit on;
- equal register bits exist once, constant ones not at all, three or more in a row become a shift-register
  LUT;
- what no output depends on is not counted.
Not followed: how ABC covers deep logic between carry chains with wide LUTs (a few percent, either way).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ZERO, ONE = 0, 1  # constant bits; every other bit has a larger number
LUT_INPUTS = 6
SHIFT_REGISTER = 3  # registers in a row from which they become a shift-register LUT
# da4ml's opcodes
INPUT, RELU, CONSTANT = -1, 2, 5
ADDS, CUTS, SELECTS = (0, 1, 4), (2, -2, 3, -3), (6, -6)
Bits = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fabric:
    """Expected Yosys counts."""

    lut: int
    ff: int


@dataclass
class _Netlist:
    """Bits in the order they are made: what they depend on, and what they cost."""

    needs: list[tuple[int, ...]] = field(default_factory=lambda: [(), ()])
    lut: list[int] = field(default_factory=lambda: [0, 0])
    ff: list[int] = field(default_factory=lambda: [0, 0])
    gates: dict[int, bool] = field(default_factory=dict)  # made in a LUT of its own; with a constant side?
    registers: list[int] = field(default_factory=list)
    sums: dict[tuple[Bits, Bits, bool], Bits] = field(default_factory=dict)
    made: dict[tuple[object, ...], int] = field(default_factory=dict)

    def bit(self, needs: Iterable[int], lut: int = 0, ff: int = 0) -> int:
        self.needs.append(tuple(n for n in needs if n > ONE))
        self.lut.append(lut)
        self.ff.append(ff)
        return len(self.needs) - 1

    def gate(self, key: tuple[object, ...], needs: Iterable[int], *, constant: bool) -> int:
        """The LUT made for `key`, made now if it is new."""
        if key not in self.made:
            self.made[key] = self.bit(needs, 1)
            self.gates[self.made[key]] = constant
        return self.made[key]

    def register(self, source: int) -> int:
        """The register of `source`: one for all its readers, none for a constant."""
        if source <= ONE:
            return source
        if ("register", source) not in self.made:
            self.made["register", source] = self.bit((source,), ff=1)
            self.registers.append(self.made["register", source])
        return self.made["register", source]

    def inverted(self, source: int) -> int:
        """LUT for the inverse of a bit in front of a carry chain; other bits get an inverter, which is no
        LUT."""
        return int(source in self.gates)

    def count(self, outputs: Iterable[int]) -> Fabric:
        """Cost of everything that `outputs` depend on."""
        live = set(outputs)
        todo = list(live)
        while todo:
            for n in self.needs[todo.pop()]:
                if n not in live:
                    live.add(n)
                    todo.append(n)
        readers = Counter(n for bit in live for n in self.needs[bit])
        sources = [self.needs[r][0] for r in self.registers if r in live]
        absorbed = sum(self.gates.get(n, False) and readers[n] == 1 for n in sources)
        absorbed += self._merged(live, readers)
        chains = [n for n in self._chains(live, readers) if n >= SHIFT_REGISTER]
        lut = sum(self.lut[n] for n in live) - absorbed + len(chains)
        return Fabric(lut, sum(self.ff[n] for n in live) - sum(chains))

    def _chains(self, live: set[int], readers: Counter[int]) -> list[int]:
        """Lengths of runs of registers that nobody reads in between."""
        lengths: dict[int, int] = {}
        for r in self.registers:
            if r in live:
                before = self.needs[r][0]
                lengths[r] = 1 + (lengths.pop(before) if before in lengths and readers[before] == 1 else 0)
        return list(lengths.values())

    def _merged(self, live: set[int], readers: Counter[int]) -> int:
        """Gates that go into the LUT of their only reader, another gate."""
        inputs: dict[int, set[int]] = {}
        count = 0
        for gate in sorted(live & self.gates.keys()):
            inputs[gate] = set(self.needs[gate])
            for n in self.needs[gate]:
                if n in inputs and readers[n] == 1:
                    both = (inputs[gate] - {n}) | inputs[n]
                    if len(both) <= LUT_INPUTS:
                        inputs[gate] = both
                        count += 1
        return count


@dataclass(frozen=True, slots=True)
class _Format:
    """Of a wire, from da4ml's interval of its values."""

    width: int
    signed: bool
    fraction: int


@dataclass(frozen=True, slots=True)
class _Adder:
    """Sum or difference of two operands, or of one and a constant."""

    operands: tuple[int, ...]  # op numbers
    pads: tuple[int, ...]  # zero bits below each operand
    constant: int  # magnitude, 0 for none
    constant_pad: int
    subtract: bool


@dataclass(frozen=True, slots=True)
class _Extra:
    """LUT per bit that a multi-operand adder takes beyond its pairs, from bit `start` on."""

    lut: int = 0
    start: int = 0


def estimate(pipeline: Any) -> Fabric:
    """LUT and FF of a da4ml `Pipeline`, from its registered inputs to its registered outputs."""
    net = _Netlist()
    wires = [net.bit((), ff=1) for q in pipeline.solutions[0].inp_qint for _ in range(_format(q).width)]
    for logic in pipeline.solutions:
        outputs = _Stage(net, logic, wires).outputs()
        wires = [net.register(b) for b in outputs]
    return net.count(w for w in wires if w > ONE)


def _format(interval: Any) -> _Format:
    from da4ml.cmvm.types import _minimal_kif

    k, i, f = _minimal_kif(interval)
    return _Format(int(k) + int(i) + int(f), bool(k), int(f))


def _adder(op: Any, formats: Mapping[int, _Format]) -> _Adder:
    a = formats[op.id0]
    if op.opcode == 4:
        value = abs(int(op.data))
        shift = a.fraction - _format(op.qint).fraction
        operands: tuple[int, ...] = (op.id0,)
    else:
        value, b = 0, formats[op.id1]
        shift = op.data + a.fraction - b.fraction
        operands = (op.id0, op.id1)
    pads = (max(-shift, 0), max(shift, 0))
    subtract = op.data < 0 if op.opcode == 4 else op.opcode == 1
    return _Adder(operands, pads[: len(operands)], value, pads[1], subtract)


def _multi_operand(
    adders: Mapping[int, _Adder], widths: Mapping[int, int], users: Counter[int]
) -> dict[int, _Extra]:
    """What each adder takes beyond its pairs; an adder that another one absorbs takes nothing itself."""
    joined: dict[int, tuple[int, int]] = {}  # variable operands, lowest constant bit (-1: none)
    extra: dict[int, _Extra] = {}
    for i, adder in adders.items():
        variable = len(adder.operands)
        lowest = (
            (adder.constant & -adder.constant).bit_length() - 1 + adder.constant_pad if adder.constant else -1
        )
        for n, pad in zip(adder.operands, adder.pads, strict=True):
            alone = n in adders and users[n] == 1 and not pad
            if alone and widths[n] == widths[i]:
                variable += joined[n][0] - 1
                lowest = min((c for c in (lowest, joined[n][1]) if c >= 0), default=-1)
                extra[n] = _Extra()
        joined[i] = variable, lowest
        operands = variable + (lowest >= 0)
        if operands > 2 and variable > 1:
            extra[i] = _Extra(2 * (operands - 2) - (variable - 1), max(lowest, 0))
    return extra


class _Stage:
    """One combinational stage between registers."""

    def __init__(self, net: _Netlist, logic: Any, inputs: Sequence[int]) -> None:
        self.net, self.logic = net, logic
        self.negated: dict[int, Bits] = {}
        self.bits: dict[int, Bits] = {}
        users = Counter(_uses(logic))
        ops = {i: op for i, op in enumerate(logic.ops) if users[i]}
        self.formats = {i: _format(op.qint) for i, op in ops.items()}
        self.adders = {i: _adder(op, self.formats) for i, op in ops.items() if op.opcode in ADDS}
        widths = {i: f.width for i, f in self.formats.items()}
        self.extra = _multi_operand(self.adders, widths, users)
        starts = [0, *itertools.accumulate(_format(q).width for q in logic.inp_qint)]
        for i, op in ops.items():
            if op.opcode == -1:
                self.bits[i] = tuple(inputs[starts[op.id0] : starts[op.id0 + 1]])
            else:
                self.bits[i] = self._made(i, op)

    def outputs(self) -> list[int]:
        """Bits of all results, in order."""
        out: list[int] = []
        for n, q, negative in zip(self.logic.out_idxs, self.logic.out_qint, self.logic.out_negs, strict=True):
            width = _format(q).width
            if n >= 0 and width:
                bits = self._negative(n) if negative else self.bits[n]
                out += _extended(bits, self.formats[n].signed, width)
        return out

    def _made(self, i: int, op: Any) -> Bits:
        width = self.formats[i].width
        if i in self.adders:
            return self._add(i, self.adders[i], width)
        if op.opcode == CONSTANT:
            return _constant(int(op.data), width)
        if op.opcode in SELECTS:
            return self._select(op, width)
        if op.opcode in CUTS:
            return self._cut(op, self.formats[i])
        # products of variables and look-up tables: a LUT per bit is a lower bound
        needs = [b for n in (op.id0, op.id1) if n in self.bits for b in self.bits[n]]
        return tuple(self.net.bit(needs, lut=1) for _ in range(width))

    def _add(self, i: int, adder: _Adder, width: int) -> Bits:
        sides = [
            _extended((ZERO,) * pad + self.bits[n], self.formats[n].signed, width)
            for n, pad in zip(adder.operands, adder.pads, strict=True)
        ]
        if adder.constant:
            fixed = (ZERO,) * adder.constant_pad + _constant(adder.constant, adder.constant.bit_length())
            sides.append(_extended(fixed, False, width))
        left, right = sides
        if (left, right, adder.subtract) in self.net.sums:  # equal adders exist once
            return self.net.sums[left, right, adder.subtract]
        extra, out, low = self.extra.get(i, _Extra()), [], 0
        while low < width and (right[low] == ZERO or (left[low] == ZERO and not adder.subtract)):
            out.append(left[low] if right[low] == ZERO else right[low])
            low += 1
        seen: set[tuple[int, int]] = set()
        for k in range(low, width):
            pair = (left[k], right[k])
            if min(pair) > ONE:
                lut = int(pair not in seen)
            else:  # the carry chain takes the variable side, inverted where the other one is 1
                lut = self.net.inverted(max(pair)) if (right[k] == ONE) != adder.subtract else 0
            lut += extra.lut if k >= extra.start else 0
            seen.add(pair)
            out.append(self.net.bit((*pair, *out[low:][-1:]), lut=lut))
        self.net.sums[left, right, adder.subtract] = tuple(out)
        return tuple(out)

    def _select(self, op: Any, width: int) -> Bits:
        """The first side where the top bit of the key is set, else the second (negated at opcode -6)."""
        key = self.bits[op.data & 0xFFFFFFFF][-1]
        shift = (op.data >> 32) & 0xFFFFFFFF
        shift -= (1 << 32) if shift >= 1 << 31 else 0
        a, b = self.formats[op.id0], self.formats[op.id1]
        shift += a.fraction - b.fraction
        other = self.bits[op.id1] if op.opcode > 0 else self._negative(op.id1)
        left = _extended((ZERO,) * max(-shift, 0) + self.bits[op.id0], a.signed, width)
        right = _extended((ZERO,) * max(shift, 0) + other, b.signed or op.opcode < 0, width)
        return tuple(
            x if x == y else self.net.gate(("select", key, x, y), (key, x, y), constant=min(x, y) <= ONE)
            for x, y in zip(left, right, strict=True)
        )

    def _cut(self, op: Any, out: _Format) -> Bits:
        """Bits of a quantisation; a ReLU clears them where the sign is set."""
        bits = self._negative(op.id0) if op.opcode < 0 else self.bits[op.id0]
        below = self.formats[op.id0].fraction - out.fraction
        kept = _extended((ZERO,) * max(-below, 0) + bits[max(below, 0) :], True, out.width)
        if abs(op.opcode) == RELU and self.logic.ops[op.id0].qint.min < 0:
            sign = bits[-1]
            return tuple(
                b if b == ZERO else self.net.gate(("relu", sign, b), (sign, b), constant=True) for b in kept
            )
        return kept

    def _negative(self, n: int) -> Bits:
        """Two's complement: inverters in front of a carry chain, which Yosys does not count as LUTs."""
        if n not in self.negated:
            out: list[int] = []
            for b in self.bits[n]:
                out.append(self.net.bit((b, *out[-1:]), lut=self.net.inverted(b)))
            self.negated[n] = (*out, self.net.bit(out[-1:]))
        return self.negated[n]


def _uses(logic: Any) -> Iterable[int]:
    """Every reading of an op's result."""
    for op in logic.ops:
        if op.opcode != INPUT:
            yield from (n for n in (op.id0, op.id1) if n >= 0)
            if op.opcode in SELECTS:
                yield op.data & 0xFFFFFFFF
    yield from (n for n in logic.out_idxs if n >= 0)


def _constant(value: int, width: int) -> Bits:
    return tuple((value >> k) & 1 for k in range(width))


def _extended(bits: Sequence[int], signed: bool, width: int) -> Bits:
    """`bits` cut or extended to `width`."""
    top = bits[-1] if signed and bits else ZERO
    return (*bits[:width], *[top] * max(width - len(bits), 0))
