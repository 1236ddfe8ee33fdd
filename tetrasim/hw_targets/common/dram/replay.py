"""Run the cases of a replay file and compare them with what the file expects."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram import hbm_pim
from tetrasim.hw_targets.common.dram.cases import (
    Case,
    controller_requests,
    device_of,
    gemv_shape,
    read_cases,
    recipe_requests,
    timing_of,
)
from tetrasim.hw_targets.common.dram.channel import Channel, build_channel
from tetrasim.hw_targets.common.dram.controller import QUEUE, serve_requests
from tetrasim.hw_targets.common.dram.program import Command, Dialect, Instruction, Loop, Row, Wait, encode
from tetrasim.hw_targets.common.dram.stream import Requests, checksum, issue, open_page
from tetrasim.hw_targets.common.dram.tables import compile_device
from tetrasim.hw_targets.common.dram.yaml_device import find_device

APPENDED = 64  # reads after the last one that is measured, so that it issues in company
HOST_CYCLES = 3  # RD_MAC blocks: the host goes on so many cycles after the command issued


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
    except (UserError, KeyError, ValueError, TypeError, OverflowError) as failure:
        seconds = time.perf_counter() - begun
        reason = (
            str(failure).splitlines()[0] if isinstance(failure, UserError) else f"malformed case: {failure}"
        )
        return Outcome(case.id, case.kind, None, None, {}, False, seconds, reason)
    seconds = time.perf_counter() - begun
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
        "; ".join(wrong) if wrong else ("" if compared else "nothing to compare with"),
    )


def _run_stream(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow  # every command is issued one by one already
    tables = compile_device(device_of(case))
    requests, every = recipe_requests(case)
    commands = open_page(
        Requests(requests.bank.astype(np.int32), requests.row.astype(np.int32), requests.write, every), tables
    )
    clocks = issue(commands, tables)
    counts = np.bincount(commands.command, minlength=len(tables.names))
    return {
        "final_issue_clk": int(clocks[-1]),
        "checksum": checksum(clocks),
        "counts": {n: int(c) for n, c in zip(tables.names, counts, strict=True) if c},
    }


def _run_controller(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow
    refresh = case.get("refresh", str, "none")
    if refresh not in ("none", "all-bank"):
        raise UserError(f"refresh '{refresh}' is not modelled", where=case.id, hint="use none or all-bank")
    device = device_of(case)
    requests, count = controller_requests(case, APPENDED)
    entries = re.search(r"read buffer (\d{1,4})", case.get("controller", str, ""))
    served = serve_requests(
        requests.bank,
        requests.row,
        requests.write,
        compile_device(device),
        until=count,
        refresh_interval=device.timing.get("nREFI", 0) if refresh == "all-bank" else 0,
        queue=int(entries[1]) if entries else QUEUE,
    )
    reads = served.clocks_of("RD")
    return {
        "nth_RD_clk": int(served.clock[-1]),
        "first_RD_clk": int(reads[0]),
        "cmd_counts_until_last": served.counts(),
    }


def aim_channel(timing: Mapping[str, int], *, exact_slow: bool = False) -> Channel:
    """The AiM channel of the A cases: no refresh, mode switching, the given timing."""
    device = find_device("gddr6-aim")
    device = replace(device, timing={**device.timing, **timing})
    dialect = Dialect("ACT16", "PREA", ("MAC16",), mode="TMOD")
    used = {n: "all" for n in ("WRGB", "WRMAC16", "RDMAC16", "MAC16")}
    return build_channel(compile_device(device), dialect, used, ("all",), exact_slow=exact_slow)


def aim_instructions(program: Sequence[object], where: str) -> list[Instruction]:
    """Instructions of the replay format as channel instructions."""
    out: list[Instruction] = []
    for entry in program:
        match entry:
            case {"repeat": int(count), "body": list(body)}:
                assert isinstance(entry, dict)
                step = int(entry.get("row_step", 0))
                out.append(Loop(count, tuple(aim_instructions(body, where)), step, restore_row=True))
            case ["WR_GB", int(bursts)]:
                out.append(Command("WRGB", bursts))
            case ["WR_BIAS"]:
                out.append(Command("WRMAC16"))
            case ["MAC_ABK", int(macs), *_]:
                out += [Row(0), Command("MAC16", macs)]
            case ["RD_MAC"]:
                out += [Command("RDMAC16"), Wait(HOST_CYCLES)]
            case ["EOC"]:
                pass
            case _:
                raise UserError(
                    f"unknown instruction {entry!r}",
                    where=where,
                    hint="known: WR_GB n, WR_BIAS, MAC_ABK n row, RD_MAC, EOC, repeat",
                )
    return out


def _run_program(case: Case, exact_slow: bool) -> dict[str, object]:
    channel = aim_channel(timing_of(case), exact_slow=exact_slow)
    running = channel.start()
    running.run(encode(aim_instructions(case.get("program", list), case.id), channel.index))
    last = running.clock
    blocked = running.arena_visible() > last
    return {
        "memory_system_cycles": last + 1 + (HOST_CYCLES if blocked else 0),
        "last_command_clk": last,
        "command_counts": running.counts,
    }


def _run_hbm_pim(case: Case, exact_slow: bool) -> dict[str, object]:
    del exact_slow
    outputs, inputs = gemv_shape(case)
    log = hbm_pim.gemv_log(outputs, inputs, timing_of(case))
    return {"cycles": hbm_pim.total_cycles(log)}
