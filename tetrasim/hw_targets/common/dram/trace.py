"""A user's trace on a device: the issue clock of every command.

The trace is CSV with a header, or the lines of addresses that other simulators read (`addresses.py`). Either
`command` names DRAM commands, or `request` is `read` or `write` and the open-page front end makes the
commands. `bg` (bank group, where the device has several) and `bank` address, `row` matters to requests only;
missing columns are 0, and commands that act on all banks need no address.

    request,bg,bank,row          command,bg,bank
    read,0,1,5                   ACT,0,1
    write,2,0,5                  RD,0,1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.files.read import csv_of, read_text
from tetrasim.hw_targets.common.dram.addresses import address_lines
from tetrasim.hw_targets.common.dram.device import Device
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, Refresh
from tetrasim.hw_targets.common.dram.stream import Commands, Requests, issue, open_page, run_requests
from tetrasim.hw_targets.common.dram.tables import Tables, compile_device

MAX_BYTES = 1 << 30
MAX_WARNINGS = 10
_NEED_OPEN = ("RD", "WR", "RDA", "WRA", "MAC16", "MACab", "RDCP", "WRCP", "MOVab")
_COLUMNS = ("command", "request", "rank", "bg", "bank", "row", "col")
_REQUESTS = {
    "read": False,
    "rd": False,
    "r": False,
    "ld": False,
    "write": True,
    "wr": True,
    "w": True,
    "st": True,
}


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One issued command; `bank` counts depth first, -1 for all-bank commands."""

    clock: int
    command: str
    bank: int
    row: int


@dataclass(frozen=True)
class Trace:
    """What was issued, and `warnings`: commands that the state of the rows does not allow."""

    rows: tuple[TraceRow, ...]
    warnings: tuple[str, ...] = ()


def run_trace(file: Path, device: Device, *, refresh_every: int = 0, refresh: Refresh = NO_REFRESH) -> Trace:
    """Issue clocks of the trace, in order, each command as early as the device allows.

    Args:
        refresh_every: requests between all-bank refreshes (request traces only), 0: none.
        refresh: refreshes that fall due in time (request traces only), instead of by requests.

    Raises:
        UserError: unreadable file, unknown column, command or request, address out of range: with the line;
            a refresh for a trace of commands, which has its own.
    """
    if refresh_every and refresh.interval:
        raise UserError(
            "refresh is asked for by requests and in time", hint="give --refresh-every or --refresh"
        )
    tables = compile_device(device)
    columns, lines = _read(file, device)
    if not lines:
        return Trace(())
    warnings: tuple[str, ...] = ()
    if "command" in columns:
        if refresh_every or refresh.interval:
            raise UserError(
                "a trace of commands says itself where it refreshes",
                where=str(file),
                hint="leave the refresh options out, or give a trace of requests",
            )
        commands = _commands(lines, columns, tables, file)
        clocks = issue(commands, tables)
        warnings = tuple(_row_warnings(lines, commands, tables, file))
    else:
        requests = _requests(lines, tables, file, refresh_every)
        if refresh.interval:
            commands, clocks = run_requests(requests, tables, refresh)
        else:
            commands = open_page(requests, tables)
            clocks = issue(commands, tables)
    first = tables.nodes - device.banks
    return Trace(
        tuple(
            TraceRow(int(clock), tables.names[c], int(node) - first if node >= first else -1, int(row))
            for clock, c, node, row in zip(clocks, commands.command, commands.node, commands.row, strict=True)
        ),
        warnings,
    )


def _row_warnings(
    lines: list[tuple[int, dict[str, str]]], commands: Commands, tables: Tables, file: Path
) -> Iterator[str]:
    """Commands that need an open or a closed row and do not find it (the first ten)."""
    device = tables.device
    first, opened, said = tables.nodes - device.banks, np.zeros(device.banks, dtype=np.bool_), 0
    for (line, _), c, node in zip(lines, commands.command, commands.node, strict=True):
        command = device.command(tables.names[c])
        here = opened[node - first : node - first + 1] if node >= first else opened
        problem = ""
        if command.name in _NEED_OPEN and not here.all():
            problem = "no row is open there"
        elif (command.opens and command.name != "ACT4" and here.any()) or (
            command.name.startswith("REF") and here.any()
        ):
            problem = "a row is still open there"
        if problem and said < MAX_WARNINGS:
            said += 1
            yield f"{file}:{line}: {command.name}: {problem}"
        here[:] = (here | command.opens) & (not command.closes)


def _read(file: Path, device: Device) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns, and the values of every line with its number."""
    text = read_text(file, MAX_BYTES)
    lines = address_lines(text, device, str(file))
    if lines is not None:
        return ["request", "rank", "bg", "bank", "row"], lines
    names, rows = csv_of(text, str(file))
    names = [name.lower() for name in names]
    for name in names:
        if name not in _COLUMNS:
            raise UserError(f"unknown column '{name}'", where=f"{file}:1", hint=nearest(name, _COLUMNS))
    if ("command" in names) == ("request" in names):
        raise UserError(
            "the trace needs a column 'command' or a column 'request'",
            where=f"{file}:1",
            hint="for example: request,bg,bank,row",
        )
    return names, [
        (line, _values({k.lower(): v for k, v in row.items()}, f"{file}:{line}")) for line, row in rows
    ]


def _values(row: Mapping[str, str], where: str) -> dict[str, str]:
    """The values of one line by column; a command that acts on all banks may stand alone."""
    values = {k: v for k, v in row.items() if v}
    if len(values) < len(row) and not (len(values) == 1 and "command" in values):
        raise UserError("fewer values than columns", where=where, hint="one value per column of line 1")
    return values


def _number(row: dict[str, str], name: str, limit: int, where: str) -> int:
    text = row.get(name, "") or "0"
    try:
        value = int(text, 0)
    except ValueError:
        raise UserError(f"'{name}' is '{text}', not a whole number", where=where) from None
    if not 0 <= value < limit:
        raise UserError(f"'{name}' {value} is out of range", where=where, hint=f"0 to {limit - 1}")
    return value


def _bank(row: dict[str, str], device: Device, where: str) -> int:
    """Depth-first bank number from the address columns."""
    counts = {level.name: level.count for level in device.levels[1:]}
    rank = _number(row, "rank", counts.get("Rank", 1) * counts.get("PseudoChannel", 1), where)
    group = _number(row, "bg", counts.get("BankGroup", 1), where)
    bank = _number(row, "bank", counts.get("Bank", 1), where)
    return (rank * counts.get("BankGroup", 1) + group) * counts.get("Bank", 1) + bank


def _commands(
    rows: list[tuple[int, dict[str, str]]], columns: list[str], tables: Tables, file: Path
) -> Commands:
    device = tables.device
    command, node, at_row = [], [], []
    first, whole = tables.nodes - device.banks, tables.node()
    for line, row in rows:
        where = f"{file}:{line}"
        name = row["command"]
        if name not in tables.names:
            raise UserError(
                f"{device.name} has no command '{name}'", where=where, hint=nearest(name, tables.names)
            )
        command.append(tables.names.index(name))
        single = device.command(name).level == device.levels[-1].name
        if single and "bank" in columns and "bank" not in row:
            raise UserError(f"'{name}' needs a bank", where=where, hint="one value per column of line 1")
        node.append(first + _bank(row, device, where) if single else whole)
        at_row.append(_number(row, "row", device.rows, where))
    as_array = [np.array(c, dtype=np.int32) for c in (command, node, at_row)]
    return Commands(*as_array)


def _requests(
    rows: list[tuple[int, dict[str, str]]], tables: Tables, file: Path, refresh_every: int
) -> Requests:
    device = tables.device
    bank, at_row, write = [], [], []
    for line, row in rows:
        where = f"{file}:{line}"
        kind = row.get("request", "").lower()
        if kind not in _REQUESTS:
            raise UserError(f"unknown request '{kind}'", where=where, hint=nearest(kind, ("read", "write")))
        write.append(_REQUESTS[kind])
        bank.append(_bank(row, device, where))
        at_row.append(_number(row, "row", device.rows, where))
    return Requests(
        np.array(bank, dtype=np.int32),
        np.array(at_row, dtype=np.int32),
        np.array(write, dtype=np.bool_),
        refresh_every,
    )
