"""A dataflow network as Verilog, run in Verilator: the ground truth of the simulator.

Each actor and FIFO becomes an instance of `verilog/ts_actor.v` and `verilog/ts_fifo.v`, written
independently of the
simulator's code. Many networks are simulated by one binary, because compiling is what costs time.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.dataflow.network import Network, Port
from tetrasim.hw_targets.fpga.rtl.tools import need_verilator, run

VERILOG = Path(__file__).parent / "verilog"


@dataclass(frozen=True, slots=True)
class RtlRun:
    """What the RTL did: start cycles per actor, highest occupancy per FIFO, whether all actors finished."""

    starts: tuple[tuple[int, ...], ...]
    highest: tuple[int, ...]
    finished: bool


def network_verilog(network: Network, frames: int, name: str) -> str:
    """One module; `fire` and `done` have a bit per actor, `highest` 32 bits per FIFO."""
    a, f = len(network.actors), len(network.fifos)
    lines = [
        f"module {name} (input wire clk, input wire rst, output wire [{a - 1}:0] fire,",
        f"    output wire [{a - 1}:0] done, output wire [{32 * f - 1}:0] highest);",
        f"wire [{f - 1}:0] push, pop, full, ready;",
    ]
    for i, fifo in enumerate(network.fifos):
        ram = int(fifo.read_after_write > 1)
        lines.append(
            f"ts_fifo #(.DEPTH({fifo.depth}), .INIT({fifo.initial}), .RAM({ram})) f{i} (.clk(clk), "
            f".rst(rst), .push(push[{i}]), .full(full[{i}]), .pop(pop[{i}]), .ready(ready[{i}]), "
            f".highest(highest[{32 * i} +: 32]));"
        )
    for i, actor in enumerate(network.actors):
        reads, writes = _ports(actor.reads), _ports(actor.writes)
        params = [
            f".II({actor.ii}), .LATENCY({actor.latency}), .FIRINGS({actor.firings})",
            f".TOTAL({actor.firings * frames}), .NR({len(reads)}), .NW({len(writes)})",
            f".RFIRST({_words([p.first for p in reads])}), .RLAST({_words([p.last for p in reads])})",
            f".RSTRIDE({_words([p.stride for p in reads])}), .WFIRST({_words([p.first for p in writes])})",
            f".WLAST({_words([p.last for p in writes])}), .WSTRIDE({_words([p.stride for p in writes])})",
        ]
        lines += [
            f"ts_actor #({', '.join(params)})",
            f"    a{i} (.clk(clk), .rst(rst), .fire(fire[{i}]), .done(done[{i}]),",
            f"    .in_ready({_wires('ready', reads, 1)}), .pop({_wires('pop', reads)}),",
            f"    .out_full({_wires('full', writes, 0)}), .push({_wires('push', writes)}));",
        ]
    return "\n".join([*lines, "endmodule", ""])


def _ports(ports: tuple[Port, ...]) -> list[Port]:
    """At least one port, so that no vector is empty; the dummy is never active."""
    return list(ports) or [Port(-1, 0, 0)]


def _words(values: Sequence[int]) -> str:
    return "{" + ",".join(f"32'd{v}" for v in reversed(values)) + "}"


def _wires(name: str, ports: Sequence[Port], idle: int | None = None) -> str:
    """The vector of a bundle, first port in bit 0; a dummy port is tied off or left open."""
    if ports[0].fifo < 0:
        return "" if idle is None else f"1'b{idle}"
    return "{" + ",".join(f"{name}[{p.fifo}]" for p in reversed(ports)) + "}"


def simulate_rtl(
    networks: Sequence[Network], frames: Sequence[int], folder: Path, *, cycles: int = 4000
) -> list[RtlRun]:
    """Run all networks for `cycles` cycles in one Verilator binary built in `folder`.

    Raises:
        UserError: no Verilator, or it failed.
    """
    tool = need_verilator()
    folder.mkdir(parents=True, exist_ok=True)
    top = ["module top (input wire clk, input wire rst"]
    inner, text = [], []
    for i, (network, count) in enumerate(zip(networks, frames, strict=True)):
        a, f = len(network.actors), len(network.fifos)
        top.append(f", output wire [{a - 1}:0] fire{i}, output wire [{a - 1}:0] done{i}")
        top.append(f", output wire [{32 * f - 1}:0] highest{i}")
        ports = f".clk(clk), .rst(rst), .fire(fire{i}), .done(done{i}), .highest(highest{i})"
        inner.append(f"net{i} n{i} ({ports});")
        text.append(network_verilog(network, count, f"net{i}"))
    source = "\n".join([*text, "".join(top) + ");", *inner, "endmodule", ""])
    (folder / "nets.v").write_text(source)
    (folder / "bench.cpp").write_text(_bench(networks, cycles))
    files = [str(VERILOG / "ts_fifo.v"), str(VERILOG / "ts_actor.v"), "nets.v", "bench.cpp"]
    flags = [
        "--cc",
        "--exe",
        "--build",
        "-Wno-fatal",
        "-Wno-WIDTH",
        "-O1",
        "-CFLAGS",
        "-O0",
        "--top-module",
        "top",
    ]
    run(tool, [*flags, "-j", "2", "--Mdir", "obj", *files], folder)
    done = subprocess.run(
        [str(folder / "obj" / "Vtop")], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise UserError(f"the simulation ended with code {done.returncode}", where=str(folder))
    return _parse(done.stdout, networks)


def _bench(networks: Sequence[Network], cycles: int) -> str:
    """Clocks the design and prints `s net actor cycle`, then `h net fifo highest` and `d net all-done`."""
    lines = ['#include "Vtop.h"', '#include "verilated.h"', "#include <cstdio>", "#include <cstdint>"]
    lines += [
        "template <class T> static uint64_t bit(const T &v, int i) { return (v >> i) & 1; }",
        "template <std::size_t N> static uint64_t bit(const VlWide<N> &v, int i)",
        "{ return (v[i / 32] >> (i % 32)) & 1; }",
        "static uint32_t word(const IData &v, int) { return v; }",
        "static uint32_t word(const QData &v, int i) { return (uint32_t)(v >> (32 * i)); }",
        "template <std::size_t N> static uint32_t word(const VlWide<N> &v, int i) { return v[i]; }",
        "int main() { Vtop t; t.rst = 1; t.clk = 0; t.eval(); t.clk = 1; t.eval(); t.rst = 0;",
        f"for (int c = 0; c < {cycles}; c++) {{ t.clk = 0; t.eval();",
    ]
    for i, network in enumerate(networks):
        count = len(network.actors)
        lines.append(
            f'for (int a = 0; a < {count}; a++) if (bit(t.fire{i}, a)) printf("s {i} %d %d\\n", a, c);'
        )
    lines.append("t.clk = 1; t.eval(); } t.clk = 0; t.eval();")
    for i, network in enumerate(networks):
        ends, every = len(network.fifos), len(network.actors)
        lines.append(f'for (int f = 0; f < {ends}; f++) printf("h {i} %d %u\\n", f, word(t.highest{i}, f));')
        lines.append(
            f"{{ int n = 0; for (int a = 0; a < {every}; a++) n += bit(t.done{i}, a); "
            f'printf("d {i} 0 %d\\n", n); }}'
        )
    return "\n".join([*lines, "return 0; }", ""])


def _parse(text: str, networks: Sequence[Network]) -> list[RtlRun]:
    starts = [[[0] * 0 for _ in n.actors] for n in networks]
    highest = [[0] * len(n.fifos) for n in networks]
    done = [0] * len(networks)
    for line in text.splitlines():
        kind, net, index, number = line.split()
        if kind == "s":
            starts[int(net)][int(index)].append(int(number))
        elif kind == "h":
            highest[int(net)][int(index)] = int(number)
        else:
            done[int(net)] = int(number)
    return [
        RtlRun(tuple(tuple(x) for x in s), tuple(h), d == len(n.actors))
        for s, h, d, n in zip(starts, highest, done, networks, strict=True)
    ]
