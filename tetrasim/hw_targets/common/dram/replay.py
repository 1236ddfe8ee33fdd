"""Run the cases of a replay file and compare them with what the file expects."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram import hbm_pim
from tetrasim.hw_targets.common.dram.cases import (
    Case,
    controller_requests,
    device_of,
    gemv_of,
    read_cases,
    recipe_of,
    timing_of,
    typed,
)
from tetrasim.hw_targets.common.dram.channel import Channel, build_channel
from tetrasim.hw_targets.common.dram.controller import QUEUE, serve_requests
from tetrasim.hw_targets.common.dram.device import Device
from tetrasim.hw_targets.common.dram.program import Command, Dialect, Instruction, Loop, Row, Wait, encode
from tetrasim.hw_targets.common.dram.refresh import Refresh, RefreshMode, refresh_of
from tetrasim.hw_targets.common.dram.stream import Requests, Stream, checksum, front_commands
from tetrasim.hw_targets.common.dram.tables import compile_device
from tetrasim.hw_targets.common.dram.yaml_device import find_device

APPENDED = 64  # reads after the last one that is measured, so that it issues in company
MAX_COUNT = 10**9  # repeats in an A program
CHUNK = 1 << 20  # requests of an in-order case at a time
_REFRESH = {
    "none": RefreshMode.NONE,
    "off": RefreshMode.NONE,
    "all-bank": RefreshMode.ALL_BANK,
    "per-bank": RefreshMode.PER_BANK,
}


# Expected entries that are words about the case, and counters that depend on how a controller's queue counts
_DESCRIBES = ("note", "checksum_rule", "first_cmds")
_STATISTICS = ("row_hits", "row_misses", "row_conflicts")

_MALFORMED = (
    LookupError,
    ValueError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)


@dataclass(frozen=True)
class Outcome:
    """One case: `cycles` is our final clock, `got` everything that was compared, `reason` why it failed."""

    id: str
    kind: str
    cycles: int | None
    expected: int | None
    got: Mapping[str, object]
    match: bool
    seconds: float
    reason: str = ""


def replay(file: Path, only: str | None = None, *, exact_slow: bool = False) -> tuple[Outcome, ...]:
    """All cases of a file, or the one called `only`.

    Raises:
        UserError: unreadable file or unknown id; a case that cannot be run is an `Outcome` with its reason.
    """
    cases = read_cases(file)
    if only is not None:
        known = [c.id for c in cases]
        if only not in known:
            raise UserError(f"there is no case '{only}'", where=str(file), hint=nearest(only, known))
        cases = tuple(c for c in cases if c.id == only)
    return tuple(run_case(c, exact_slow=exact_slow) for c in cases)


def run_case(case: Case, *, exact_slow: bool = False) -> Outcome:
    """Run one case; problems with its contents become the outcome's reason."""
    runners = {"D": _run_stream, "R": _run_controller, "A": _run_program, "S": _run_hbm_pim}
    begun = time.perf_counter()
    try:
        expected: dict[str, object] = case.get("expected", dict, {})
        if case.kind not in runners:
            raise UserError("none of recipe, requests or program is given", where=case.id)
        got = runners[case.kind](case, exact_slow)
    except UserError as failure:
        reason = str(failure).splitlines()[0]
        return Outcome(case.id, case.kind, None, None, {}, False, time.perf_counter() - begun, reason)
    except _MALFORMED as failure:
        seconds = time.perf_counter() - begun
        reason = f"malformed case: {type(failure).__name__} {failure}".splitlines()[0]
        return Outcome(case.id, case.kind, None, None, {}, False, seconds, reason)
    seconds = time.perf_counter() - begun
    unknown = next((k for k in expected if k not in (*got, *_DESCRIBES, *_STATISTICS)), None)
    if unknown is not None:
        reason = f"'{unknown}' is expected, which nothing computes; {nearest(unknown, (*got, *_STATISTICS))}"
        return Outcome(case.id, case.kind, None, None, got, False, seconds, reason)
    left = [k for k in _STATISTICS if k in expected and k not in got]
    said = f"not compared: {', '.join(left)} (another simulator's own statistics)" if left else ""
    compared = {k: v for k, v in expected.items() if k in got}
    wrong = [f"{k}: {got[k]}, expected {v}" for k, v in compared.items() if got[k] != v]
    main = next(iter(got))
    wanted = expected.get(main)
    return Outcome(
        case.id,
        case.kind,
        int(str(got[main])),
        wanted if isinstance(wanted, int) else None,
        got,
        bool(compared) and not wrong,
        seconds,
        "; ".join(wrong) if wrong else (said if compared else "nothing to compare with"),
    )


def _run_stream(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow  # every command is issued one by one already
    tables = compile_device(device_of(case))
    recipe = recipe_of(case)
    mode = RefreshMode.ALL_BANK if recipe.refresh_every else RefreshMode.NONE
    stream = Stream(tables, front_commands(tables, mode))
    sum_of_clocks, last = 0, 0
    counts = np.zeros(len(tables.names), dtype=np.int64)
    for part in recipe.chunks(CHUNK):
        commands = stream.commands_of(
            Requests(part.bank.astype(np.int32), part.row.astype(np.int32), part.write, recipe.refresh_every)
        )
        clocks = stream.issue(commands)
        sum_of_clocks, last = checksum(clocks, sum_of_clocks), int(clocks[-1])
        counts += np.bincount(commands.command, minlength=len(tables.names))
    return {
        "final_issue_clk": last,
        "checksum": sum_of_clocks,
        "counts": {n: int(c) for n, c in zip(tables.names, counts, strict=True) if c},
    }


def _run_controller(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow  # the only way it runs is exact
    requests, count = controller_requests(case, APPENDED)
    device = device_of(case, requests.groups, requests.banks)
    text = case.get("controller", str, "")
    if re.search(r"(separate|two|dual)\W+(\w+\W+){0,3}(command )?bus", text):
        raise UserError("a controller with two command buses is not modelled", where=case.id)
    entries = re.search(r"(?:read )?(?:buffer|queue)\D{0,9}(\d{1,4})", text)
    served = serve_requests(
        requests.bank,
        requests.row,
        requests.write,
        compile_device(device),
        until=count,
        column=requests.column,
        refresh=_refresh_of(case, device),
        queue=int(entries[1]) if entries else QUEUE,
        keep_log=False,
    )
    return {
        "nth_RD_clk": served.last_column,
        "first_RD_clk": served.first_read,
        "cmd_counts_until_last": served.counts(),
    }


def _refresh_of(case: Case, device: Device) -> Refresh:
    """The refresh an R case asks for; intervals are in its timing table."""
    name = case.get("refresh", str, "none")
    mode = _REFRESH.get(name.lower().replace("_", "-"))
    if mode is None:
        raise UserError(f"refresh '{name}' is not modelled", where=case.id, hint=f"use {', '.join(_REFRESH)}")
    return refresh_of(device, mode)


def aim_channel(timing: Mapping[str, int], *, exact_slow: bool = False) -> Channel:
    """The AiM channel of the A cases: no refresh, mode switching, the given timing."""
    device = find_device("gddr6-aim")
    device = replace(device, timing={**device.timing, **timing})
    dialect = Dialect("ACT16", "PREA", ("MAC16",), mode="TMOD")
    used = {n: "all" for n in ("WRGB", "WRMAC16", "RDMAC16", "MAC16")}
    return build_channel(compile_device(device), dialect, used, ("all",), exact_slow=exact_slow)


def host_cycles(timing: Mapping[str, int]) -> int:
    """RD_MAC blocks: the host goes on so many cycles after the command issued, one after its data."""
    return timing["nCLREG"] + timing["nBL"] + 1


def aim_instructions(program: Sequence[object], where: str, wait: int = 3) -> list[Instruction]:
    """Instructions of the replay format as channel instructions; `wait`: see `host_cycles`.

    Raises:
        UserError: an instruction of another form.
    """
    out: list[Instruction] = []
    for entry in program:
        match entry:
            case {"repeat": int(count), "body": list(body)}:
                _bounded(count, where)
                step = typed(cast("Mapping[str, object]", entry), "row_step", int, where, 0)
                out.append(Loop(count, tuple(aim_instructions(body, where, wait)), step, restore_row=True))
            case ["WR_GB", int(bursts)]:
                out.append(Command("WRGB", _bounded(bursts, where)))
            case ["WR_BIAS"]:
                out.append(Command("WRMAC16"))
            case ["MAC_ABK", int(macs)] | ["MAC_ABK", int(macs), "row"]:
                out += [Row(0), Command("MAC16", macs)] if _bounded(macs, where) else []
            case ["RD_MAC"]:
                out += [Command("RDMAC16"), Wait(wait)]
            case ["EOC"]:
                pass
            case _:
                raise UserError(
                    f"unknown instruction {entry!r}",
                    where=where,
                    hint="known: WR_GB n, WR_BIAS, MAC_ABK n row, RD_MAC, EOC, repeat",
                )
    return out


def _bounded(count: int, where: str) -> int:
    if not 0 <= count <= MAX_COUNT:
        raise UserError(f"a count of {count}", where=where, hint=f"0 to {MAX_COUNT}")
    return count


def _run_program(case: Case, exact_slow: bool) -> dict[str, object]:
    channel = aim_channel(timing_of(case), exact_slow=exact_slow)
    timing = channel.device.timing
    program = aim_instructions(case.get("program", list), case.id, host_cycles(timing))
    running = channel.start()
    running.run(encode(program, channel.index))
    last = running.clock
    # EOC is answered a cycle after it is reached, and not before data written by then has arrived.
    after = {
        "RDMAC16": host_cycles(timing) + 1,
        "WRGB": timing["nCWLGB"] + timing["nBL"] + 1,
        "WRMAC16": timing["nCWLREG"] + timing["nBL"] + 1,
    }
    return {
        "memory_system_cycles": last + max(2, after.get(running.last_command, 0)),
        "last_command_clk": last,
        "command_counts": running.counts,
    }


def _run_hbm_pim(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow
    shape = gemv_of(case)
    run = hbm_pim.run_gemv(
        shape.outputs, shape.inputs, timing_of(case), batch=shape.batch, channels=shape.channels
    )
    return {"cycles": run.cycles, "counts": run.counts()}
