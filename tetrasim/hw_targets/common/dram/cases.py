"""Replay files: cases of DRAM command streams with their expected clocks, in the format of the ground truth.

A file is JSON with `rules` (constraint tables by device) and `cases`. Kinds, told by their contents:

- D: an in-order command stream at device level (`recipe` is a mapping: seeded requests),
- R: a controller with a request queue (`requests`),
- A: a PIM instruction program of the AiM dialect (`program`),
- S: an HBM-PIM GEMV, by its shape in `desc` or `id`.

Files come from outside: everything is checked as it is read, and a case that cannot be run is reported with
its reason instead of stopping the replay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.files.read import read_json
from tetrasim.hw_targets.common.dram.device import Command, Constraint, Device, Level
from tetrasim.hw_targets.common.dram.requests import LCG_MASK, lcg, lcg_from, nested

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 64 << 20
MAX_REQUESTS = 20_000_000  # of a controller case, which are held at once
MAX_STREAM = 1_000_000_000  # of an in-order case
MAX_BANKS = 512
MAX_CYCLES = 1 << 30  # of a timing value
FIELDS = ("bg", "bank", "row", "col", "wr")
_LEVELS = ("Channel", "PseudoChannel", "Rank", "BankGroup", "Bank")
_ALL_BANK = ("PREab", "REFab", "PREA")
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One case as read; `fields` is its JSON mapping, `rules` the file's tables."""

    id: str
    kind: str  # D, R, A, S or "?"
    fields: Mapping[str, object]
    rules: Mapping[str, object]

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        """A field of a given JSON type.

        Raises:
            UserError: missing or of another type.
        """
        return typed(self.fields, name, kind, self.id, default)


def typed(fields: Mapping[str, object], name: str, kind: type[T], where: str, default: T | None = None) -> T:
    """`fields[name]` when it is a `kind`."""
    value = fields.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        given = "is missing" if name not in fields else f"is {value!r}"
        raise UserError(
            f"'{name}' {given}; expected {kind.__name__}", where=where, hint=nearest(name, fields)
        )
    return value


def read_cases(file: Path) -> tuple[Case, ...]:
    """All cases of a replay file.

    Raises:
        UserError: unreadable, not JSON, or without `cases`.
    """
    tree = read_json(file, MAX_BYTES)
    if not isinstance(tree, dict) or not isinstance(tree.get("cases"), list):
        raise UserError("expected a mapping with a list 'cases'", where=str(file))
    rules = tree.get("rules", {})
    out = []
    for i, entry in enumerate(tree["cases"]):
        if not isinstance(entry, dict):
            raise UserError(f"case {i} is not a mapping", where=str(file))
        name = str(entry.get("id", f"case {i}"))
        out.append(Case(name, kind_of(entry), entry, rules if isinstance(rules, dict) else {}))
    return tuple(out)


def kind_of(entry: Mapping[str, object]) -> str:
    """Which kind of case a mapping is, from what it contains."""
    if "program" in entry:
        return "A"
    if "requests" in entry:
        return "R"
    if isinstance(entry.get("recipe"), dict):
        return "D"
    text = f"{entry.get('kind', '')} {entry.get('id', '')}".lower()
    return "S" if "hbm" in text and "pim" in text else "?"


def timing_of(case: Case) -> dict[str, int]:
    """Integer timing values of a case.

    Raises:
        UserError: no table, or a value that no device has.
    """
    table: dict[str, object] = case.get("timing_cycles", dict)
    found = {k: v for k, v in table.items() if isinstance(v, int) and not isinstance(v, bool)}
    for name, value in found.items():
        if abs(value) > MAX_CYCLES:
            raise UserError(f"'{name}' is {value}", where=case.id, hint=f"at most {MAX_CYCLES} cycles")
    return found


def device_of(case: Case, groups: int = 4, banks: int = 4) -> Device:
    """The device of a D or R case: the file's rules with the case's timing, and so many bank groups and banks
    in each.

    Raises:
        UserError: no such rules, or malformed ones.
    """
    rules = _rules(case)
    cycles = case.get("command_cycles", dict, {})
    found = {str(r["level"]) for r in rules}
    unknown = found - set(_LEVELS)
    if unknown:
        raise UserError(f"unknown level '{min(unknown)}'", where=case.id, hint=nearest(min(unknown), _LEVELS))
    outer = [n for n in _LEVELS[:3] if n in found]
    if not outer or outer[0] != "Channel":
        outer = ["Channel", *outer]
    levels = (*(Level(n, 1) for n in outer), Level("BankGroup", groups), Level("Bank", banks))
    names = dict.fromkeys(n for r in rules for n in (*_names(r["before"], case), *_names(r["after"], case)))
    commands = tuple(
        Command(n, outer[-1] if n in _ALL_BANK else "Bank", cycles=int(cycles.get(n, 1))) for n in names
    )
    constraints = tuple(
        Constraint(
            str(r["level"]),
            _names(r["before"], case),
            _names(r["after"], case),
            str(r["min_gap"]),
            int(str(r.get("window", 1))),
            f"{case.id} rule {i}",
        )
        for i, r in enumerate(rules)
    )
    return Device(case.id, case.id, levels, commands, timing_of(case), constraints)


def _rules(case: Case) -> list[Mapping[str, object]]:
    given = case.fields.get("rules")
    if isinstance(given, str) and given.startswith("rules."):
        name = given.removeprefix("rules.")
        if name not in case.rules:
            raise UserError(f"unknown rules '{given}'", where=case.id, hint=nearest(name, case.rules))
        given = case.rules[name]
    if not isinstance(given, list):
        raise UserError("'rules' names no table", where=case.id, hint="use rules.NAME or a list of rules")
    for i, rule in enumerate(given):
        if not isinstance(rule, dict) or not {"level", "before", "after", "min_gap"} <= rule.keys():
            raise UserError(f"rule {i} lacks level, before, after or min_gap", where=case.id)
    return given


def _names(value: object, case: Case) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(str(v) for v in value)
    raise UserError(f"{value!r} is not a list of commands", where=case.id)


@dataclass(frozen=True, eq=False)
class BankRequests:
    """Requests in order; `bank` counts depth first over `groups` groups of `banks` banks."""

    bank: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    write: NDArray[np.bool_]
    groups: int = 4
    banks: int = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a D case draws: so many requests, row bits, percent of writes, requests between refreshes."""

    seed: int
    requests: int
    row_bits: int
    write_percent: int
    refresh_every: int

    def chunks(self, size: int) -> Iterator[BankRequests]:
        """The requests in order, `size` at a time, so that long streams need little memory."""
        x, left = self.seed, self.requests
        while left > 0:
            count = min(size, left)
            x, draws = lcg_from(x, 4 * count, 8)
            four = draws.reshape(count, 4)
            yield BankRequests(
                (four[:, 0] & 3) * 4 + (four[:, 1] & 3),
                four[:, 2] & ((1 << self.row_bits) - 1),
                np.zeros(0, np.int64),
                four[:, 3] % 100 < self.write_percent,
            )
            left -= count


def recipe_of(case: Case) -> Recipe:
    """The recipe of a D case.

    Raises:
        UserError: a missing number, or one out of range.
    """
    recipe: dict[str, object] = case.get("recipe", dict)

    def number(name: str, most: int, default: int | None = None) -> int:
        value = typed(recipe, name, int, case.id, default)
        if not 0 <= value <= most:
            raise UserError(f"'{name}' is {value}", where=case.id, hint=f"0 to {most}")
        return value

    return Recipe(
        number("seed", LCG_MASK),
        _bounded(number("n_requests", MAX_STREAM), case, MAX_STREAM),
        number("row_bits", 23),
        number("wr_pct", 100, 0),
        number("ref_every", MAX_STREAM, 0),
    )


Maker = Callable[[Case, Mapping[str, object], int], tuple["dict[str, NDArray[np.int64]]", int]]


def controller_requests(case: Case, appended: int) -> tuple[BankRequests, int]:
    """Requests of an R case followed by `appended` more of the same stream, and the number without those."""
    spec: dict[str, object] = case.get("requests", dict)
    kind = typed(spec, "kind", str, case.id)
    makers: dict[str, Maker] = {"nested": _nested, "lcg": _draws, "formula": _formula}
    if kind not in makers:
        raise UserError(f"unknown request kind '{kind}'", where=case.id, hint=nearest(kind, makers))
    fields, count = makers[kind](case, spec, appended)
    zero = np.zeros(count + appended, dtype=np.int64)
    for name, values in fields.items():
        if name not in FIELDS:
            if values.any():
                raise UserError(f"unknown field '{name}'", where=case.id, hint=nearest(name, FIELDS))
        elif values.min() < 0 or values.max() >= 1 << 40:
            raise UserError(f"'{name}' is out of range", where=case.id, hint="0 or more")
    group, bank, row, column, write = (fields.get(n, zero) for n in FIELDS)
    groups, banks = max(4, int(group.max()) + 1), max(4, int(bank.max()) + 1)
    if groups * banks > MAX_BANKS:
        raise UserError(
            f"{groups} bank groups of {banks} banks", where=case.id, hint=f"at most {MAX_BANKS} banks"
        )
    return BankRequests(group * banks + bank, row, column, write.astype(bool), groups, banks), count


def _nested(
    case: Case, spec: Mapping[str, object], appended: int
) -> tuple[dict[str, NDArray[np.int64]], int]:
    order = typed(spec, "order", list, case.id)
    loops = [(str(e[0]), e[1]) for e in order if isinstance(e, list) and len(e) == 2 and type(e[1]) is int]
    if not loops or len(loops) < len(order) or min(n for _, n in loops) < 1:
        raise UserError("'order' needs pairs [field, count of 1 or more]", where=case.id)
    fixed = {str(k): int(v) for k, v in typed(spec, "fixed", dict, case.id, {}).items()}
    inner = int(np.prod([n for _, n in loops[1:]], dtype=object))
    count = _bounded(inner * loops[0][1], case)
    more = -(-appended // inner)
    longer = [(loops[0][0], loops[0][1] + more), *loops[1:]]
    fields = nested(longer, fixed, FIELDS)
    return {k: v[: count + appended] for k, v in fields.items()}, count


def _draws(case: Case, spec: Mapping[str, object], appended: int) -> tuple[dict[str, NDArray[np.int64]], int]:
    count = _count(case, spec)
    entries = [dict(_bit_fields(e, case)) for e in typed(spec, "draws", list, case.id)]
    total = count + appended
    seed, shift = typed(spec, "seed", int, case.id), typed(spec, "emit_shift", int, case.id, 8)
    values = lcg(seed, total * len(entries), shift).reshape(total, len(entries))
    out: dict[str, NDArray[np.int64]] = _fixed(spec, total)
    for i, entry in enumerate(entries):
        for name, (low, mask) in entry.items():
            out[name] = (values[:, i] >> low) & mask
    return out, count


def _formula(
    case: Case, spec: Mapping[str, object], appended: int
) -> tuple[dict[str, NDArray[np.int64]], int]:
    count = _count(case, spec)
    index = np.arange(count + appended, dtype=np.int64)
    given = spec.get("fields", {k: v for k, v in spec.items() if k in FIELDS})
    out: dict[str, NDArray[np.int64]] = _fixed(spec, count + appended)
    for name, (low, mask) in _bit_fields(given, case):
        out[name] = (index >> low) & mask
    return out, count


def _fixed(spec: Mapping[str, object], total: int) -> dict[str, NDArray[np.int64]]:
    fixed = spec.get("fixed", {})
    items = fixed.items() if isinstance(fixed, dict) else ()
    return {str(k): np.full(total, int(v), dtype=np.int64) for k, v in items}


def _count(case: Case, spec: Mapping[str, object]) -> int:
    for name in ("n", "count", "n_requests", "n_reads", "reads"):
        if name in spec:
            return _bounded(typed(spec, name, int, case.id), case)
    raise UserError("'n' is missing", where=case.id, hint="the number of reads")


def _bounded(count: int, case: Case, most: int = MAX_REQUESTS) -> int:
    if not 0 < count <= most:
        raise UserError(f"{count} requests", where=case.id, hint=f"1 to {most}")
    return count


def _bit_fields(entry: object, case: Case) -> Sequence[tuple[str, tuple[int, int]]]:
    """`{"row": [shift, mask]}`, `{"field": "row", "shift": 0, "mask": 3}`, `["row", 0, 3]`, or lists."""
    match entry:
        case {"field": str(name), "mask": int(mask)}:
            return [(name, (typed(cast("Mapping[str, object]", entry), "shift", int, case.id, 0), mask))]
        case [str(name), int(shift), int(mask)]:
            return [(name, (shift, mask))]
        case list():
            return [pair for one in entry for pair in _bit_fields(one, case)]
        case dict():
            out = []
            for name, value in entry.items():
                match value:
                    case [int(shift), int(mask)]:
                        out.append((str(name), (shift, mask)))
                    case {"shift": int(shift), "mask": int(mask)}:
                        out.append((str(name), (shift, mask)))
                    case {"mask": int(mask)}:
                        out.append((str(name), (0, mask)))
                    case list() | dict():
                        out += _bit_fields(value, case)
            if out:
                return out
    raise UserError(
        f"cannot read the request fields {entry!r}", where=case.id, hint='write {"row": [shift, mask]}'
    )


@dataclass(frozen=True, slots=True)
class Gemv:
    """y[outputs] = W x[inputs], `batch` vectors, on so many channels."""

    outputs: int
    inputs: int
    batch: int = 1
    channels: int = 1


def gemv_of(case: Case) -> Gemv:
    """The GEMV of an S case, from explicit fields or its description.

    Raises:
        UserError: neither says it, or it is another kernel.
    """
    text = " ".join(str(case.fields.get(k, "")) for k in ("desc", "recipe", "kind"))
    if re.search(r"is_tree\s*=\s*true", text):
        raise UserError("the adder-tree kernel is not modelled", where=case.id, hint="is_tree=false")
    batch = re.search(r"batch\s*=?\s*(\d+)", text)
    channels = re.search(r"(\d+)\s*(?:pCH|pseudo)", text) or re.search(r"_(\d+)ch\.ini", text)
    more = int(batch[1]) if batch else 1, int(channels[1]) if channels else 1
    for a, b in (("out", "in"), ("outputs", "inputs"), ("n", "k"), ("rows", "cols")):
        if a in case.fields and b in case.fields:
            return Gemv(case.get(a, int), case.get(b, int), *more)
    found = re.search(r"out\s*=\s*(\d+)\D+in\s*=\s*(\d+)", text)
    if not found and "gemv" in f"{case.id} {text}".lower():
        found = re.search(r"(\d+)\s*x\s*(\d+)", case.id) or re.search(r"(\d+)\s*x\s*(\d+)", text)
    if not found:
        raise UserError("no GEMV with its shape is given", where=case.id, hint="add out and in")
    return Gemv(int(found[1]), int(found[2]), *more)
