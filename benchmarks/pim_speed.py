"""Speed of the DRAM and PIM engines on one core, kernels compiled, each result checked against the slow way.

    python benchmarks/pim_speed.py [--slow-tokens 16] [--quick]

Times are the best of several repeats in CPU seconds of this process (one core), wall time beside it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tetrasim.facade import load_for
from tetrasim.flow.phases import lowered_phases
from tetrasim.flow.setup import set_up
from tetrasim.hw_targets.common.dram.controller import serve_requests
from tetrasim.hw_targets.common.dram.program import Command, Loop, Row, Wait, encode
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, refresh_of
from tetrasim.hw_targets.common.dram.replay import aim_channel
from tetrasim.hw_targets.common.dram.requests import lcg, nested
from tetrasim.hw_targets.common.dram.stream import Requests, issue, open_page
from tetrasim.hw_targets.common.dram.yaml_device import device_names, find_device, find_tables
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.generate import simulate_runs

T = TypeVar("T")
# Measured once on the public AiM simulator (C++, ramulator 2.0): one active channel, and 32 in lockstep.
CPP_ONE_CHANNEL_MS, CPP_32_CHANNELS_MS = 940.0, 10_400.0


@dataclass(frozen=True)
class Timed:
    cpu_s: float
    wall_s: float


def best(work: Callable[[], T], repeats: int = 5) -> tuple[T, Timed]:
    """The result and the best time of `repeats` runs after one that compiles."""
    result = work()
    found = Timed(float("inf"), float("inf"))
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        found = Timed(
            min(found.cpu_s, time.process_time() - cpu), min(found.wall_s, time.perf_counter() - wall)
        )
    return result, found


def gemv() -> None:
    """16384 x 4096 on AiM: 4 x (WR_GB 64; 1024 x (WR_BIAS; MAC_ABK 64; RD_MAC))."""
    body = (Command("WRMAC16"), Row(0), Command("MAC16", 64), Command("RDMAC16"), Wait(3))
    outer = Loop(4, (Command("WRGB", 64), Loop(1024, body, 1, restore_row=True)), 1024, restore_row=True)
    ends: list[int] = []
    for slow in (False, True):
        channel = aim_channel({}, exact_slow=slow)
        program = encode([outer], channel.index)

        def once() -> int:
            running = channel.start()  # noqa: B023  used within the iteration
            running.run(program)  # noqa: B023
            return running.clock

        clock, timed = best(once)
        ends.append(clock)
        name = "every command issued" if slow else "exact shortcuts"
        print(f"AiM GEMV 16384x4096, {name:21s} {timed.cpu_s * 1e3:9.3f} ms  last command {clock}")
    print(f"  equal: {ends[0] == ends[1]};  C++ reference {CPP_ONE_CHANNEL_MS:.0f} ms with one channel,")
    print(f"  {CPP_32_CHANNELS_MS:.0f} ms with 32 (channels in lockstep are simulated once here)")


def streams(count: int) -> None:
    """In-order streams of random requests, 30 % writes, on every shipped device."""
    draws = lcg(1, 4 * count, 8).reshape(count, 4)
    requests = Requests(
        ((draws[:, 0] & 3) * 4 + (draws[:, 1] & 3)).astype(np.int32),
        (draws[:, 2] & 1).astype(np.int32),
        draws[:, 3] % 100 < 30,
    )
    for device in device_names():
        tables = find_tables(device)
        commands = open_page(requests, tables)
        clocks, timed = best(lambda c=commands, t=tables: issue(c, t))  # type: ignore[misc]
        rate = len(commands) / timed.cpu_s / 1e6
        print(f"in-order {device:13s} {len(commands)} commands {rate:6.1f} M commands/s, last {clocks[-1]}")


def controller(count: int) -> None:
    """FR-FCFS on GDDR6: the bank-group stream of the R cases without and with refresh, and random rows."""
    fields = nested([("row", count // 1024), ("bank", 4), ("col", 64), ("bg", 4)], {}, ("bg", "bank", "row"))
    stream = fields["bg"] * 4 + fields["bank"], fields["row"]
    draws = lcg(1, 2 * count, 8).reshape(count, 2)
    cases = {
        "stream": (*stream, NO_REFRESH),
        "stream, all-bank refresh": (*stream, refresh_of(find_device("gddr6"), "all_bank")),
        "stream, per-bank refresh": (*stream, refresh_of(find_device("gddr6"), "per_bank")),
        "random, 2 rows": (draws[:, 0] & 15, draws[:, 1] & 1, NO_REFRESH),
        "random, 256 rows": (draws[:, 0] & 15, draws[:, 1] & 255, NO_REFRESH),
    }
    tables = find_tables("gddr6")
    for name, (bank, row, refresh) in cases.items():
        reads = np.zeros(len(bank), np.bool_)
        served, timed = best(
            lambda b=bank, r=row, f=refresh, w=reads: serve_requests(  # type: ignore[misc]
                b, r, w, tables, until=len(b), refresh=f, keep_log=False
            )
        )
        rate, commands = len(bank) / timed.cpu_s / 1e6, int(served.issues.sum()) / timed.cpu_s / 1e6
        print(
            f"controller {name:24s} {len(bank)} reads {rate:5.1f} M requests/s ({commands:4.1f} M commands/s)"
            f", last {served.last_column}"
        )


def generation(model: str, preset: str, tokens: int, slow_tokens: int) -> None:
    """Every token at its own context, refresh on; then the first tokens command by command."""
    loaded, workload = load_for(model, prompt=32, generate=tokens)
    setup = set_up(preset, {})
    config = setup.config
    assert isinstance(config, PimConfig)
    decode = lowered_phases(loaded, setup, workload)[1]
    family, contexts = decode[1], decode[2]
    totals, timed = best(lambda: simulate_runs(family, contexts, config), 3)
    print(
        f"{model} on {preset}, prompt 32, {tokens} tokens: {timed.cpu_s:.2f} s CPU, {timed.wall_s:.2f} s wall"
        f" for {totals.total_ps.sum() * 1e-12:.4f} s simulated"
    )
    if slow_tokens:
        first = list(contexts)[:slow_tokens]
        fast = simulate_runs(family, first, config)
        slow_config = with_overrides(config, {"exact_slow": True})
        wall = time.process_time()
        slow = simulate_runs(family, first, slow_config)
        wall = time.process_time() - wall
        same = all(
            np.array_equal(getattr(fast, n), getattr(slow, n))
            for n in ("total_ps", "part_ps", "energy_pj", "level_bytes", "node_ps")
        )
        print(f"  first {slow_tokens} tokens command by command: {wall:.2f} s CPU, equal: {same}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow-tokens", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="shorter streams, a small model")
    options = parser.parse_args()
    gemv()
    streams(200_000 if options.quick else 2_000_000)
    controller(1 << (16 if options.quick else 20))
    if options.quick:
        generation("gpt2-small", "pim/pim-gpt", 64, 4)
    else:
        generation("gpt3-xl", "pim/pim-gpt", 1024, options.slow_tokens)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {memory:.0f} MB")


if __name__ == "__main__":
    main()
