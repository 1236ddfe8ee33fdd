"""Why a design is stuck: the chain of actors that wait for each other, and the depth that would free it."""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.fpga.dataflow.kernel import Run, simulate
from tetrasim.hw_targets.fpga.dataflow.network import Network, Port
from tetrasim.hw_targets.fpga.dataflow.sizing import unbounded


@dataclass(frozen=True, slots=True)
class Wait:
    """`actor` cannot move because FIFO `fifo` is full (or empty); `other` is at the FIFO's far end."""

    actor: str
    fifo: str
    full: bool
    other: str


@dataclass(frozen=True, slots=True)
class Deadlock:
    """`cycle_of_waits` returns to its first actor. `depths` frees it (empty: no depth does, tokens are
    missing)."""

    cycle: int
    waits: tuple[Wait, ...]
    cycle_of_waits: tuple[Wait, ...]
    depths: tuple[tuple[str, int, int], ...]  # FIFO, present depth, depth that runs

    def text(self) -> str:
        """Plain sentences for an error message."""
        lines = [f"deadlock in cycle {self.cycle}: no actor can fire and no pipeline can advance"]
        for w in self.cycle_of_waits or self.waits:
            state, must = ("full", "read") if w.full else ("empty", "write")
            lines.append(f"  {w.actor} waits: FIFO {w.fifo} is {state} ({w.other} must {must})")
        if self.depths:
            lines += [f"  FIFO {name}: depth {old} -> {new} runs" for name, old, new in self.depths]
        else:
            lines.append("  no FIFO depth helps: a loop has too few initial tokens")
        return "\n".join(lines)


def explain(network: Network, run: Run, frames: int) -> Deadlock | None:
    """The reason of a deadlocked run, None when the run is not deadlocked."""
    if not run.deadlocked:
        return None
    waits = _waits(network, run, frames)
    loop = _loop(waits)
    return Deadlock(run.cycles, tuple(waits.values()), loop, _relief(network, frames, loop))


def _active(ports: tuple[Port, ...], firing: int) -> list[Port]:
    return [p for p in ports if p.first <= firing < p.last and (firing - p.first) % p.stride == 0]


def _waits(network: Network, run: Run, frames: int) -> dict[str, Wait]:
    """One wait per stuck actor: a full output if its pipeline is frozen, else the first empty input."""
    readers, writers = network.readers(), network.writers()
    out: dict[str, Wait] = {}
    for a, actor in enumerate(network.actors):
        base, total = int(run.offset[a]), actor.firings * frames
        fired = int(run.fired[a])
        in_flight = next((k for k in range(fired) if run.done[base + k] < 0), None)
        if in_flight is not None:
            for port in _active(actor.writes, in_flight % actor.firings):
                if run.occupancy[port.fifo] >= network.fifos[port.fifo].depth:
                    other = network.actors[readers[port.fifo][0]].name
                    out[actor.name] = Wait(actor.name, network.fifos[port.fifo].name, True, other)
                    break
        elif fired < total:
            for port in _active(actor.reads, fired % actor.firings):
                if run.occupancy[port.fifo] == 0:
                    other = network.actors[writers[port.fifo][0]].name
                    out[actor.name] = Wait(actor.name, network.fifos[port.fifo].name, False, other)
                    break
    return out


def _loop(waits: dict[str, Wait]) -> tuple[Wait, ...]:
    """The first cycle met when following the waits."""
    for begin in waits:
        seen: list[str] = []
        at = begin
        while at in waits and at not in seen:
            seen.append(at)
            at = waits[at].other
        if at in seen:
            return tuple(waits[name] for name in seen[seen.index(at) :])
    return ()


def _relief(network: Network, frames: int, loop: tuple[Wait, ...]) -> tuple[tuple[str, int, int], ...]:
    """Least depth of one full FIFO of the loop that lets the design run; else depths for all full ones."""
    names = [f.name for f in network.fifos]
    full = [names.index(w.fifo) for w in loop if w.full]
    wide = unbounded(network, frames).depths
    for f in full:
        for depth in range(network.depths[f] + 1, wide[f] + 1):
            trial = network.with_depths((*network.depths[:f], depth, *network.depths[f + 1 :]))
            if simulate(trial, frames).status == 0:
                return ((names[f], network.depths[f], depth),)
    free = simulate(network.with_depths(wide), frames)
    if free.status != 0:
        return ()
    need = [(i, max(int(h), d)) for i, (h, d) in enumerate(zip(free.highest, network.depths, strict=True))]
    return tuple((names[i], network.depths[i], d) for i, d in need if d > network.depths[i])
